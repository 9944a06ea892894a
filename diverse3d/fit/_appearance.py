"""What a photo says of a face besides its shape: skin and light."""

import equinox as eqx
from jaxtyping import Array, Float


class Appearance(eqx.Module):
    """Albedo and light of a fitted photo."""

    albedo: Float[Array, " A"]
    """Coefficients of `HeadModel.albedo`; unit variance a priori."""
    light: Float[Array, "9 3"]
    """Spherical harmonics a colour channel, as `diverse3d.light.shade` takes them, in the posed head's frame."""

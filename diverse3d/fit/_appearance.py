"""What a photo says of a face's colours, and of the light that it was taken in."""

import equinox as eqx
from jaxtyping import Array, Float


class Appearance(eqx.Module):
    """Colours and light of one photo."""

    albedo: Float[Array, " A"]
    """Coefficients of the head's albedo; unit variance a priori."""
    light: Float[Array, "9 3"]
    """Spherical harmonics as `diverse3d.light` takes them, in the posed head's frame (the camera's and the world's)."""

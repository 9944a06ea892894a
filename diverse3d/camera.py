"""Weak-perspective camera (papers/004 §2.1): scale and centre, depth ignored."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float


class WeakPerspective(eqx.Module):
    """Maps posed head coordinates (metres, y up, z towards the camera) to image pixels (y down)."""

    scale_px_per_m: Float[Array, ""]
    """Pixels a metre."""
    centre_px: Float[Array, "2"]
    """Where the origin of the posed head lands, in pixels."""

    def project(self, points_m: Float[Array, "n 3"]) -> Float[Array, "n 2"]:
        """Pixel coordinates of points in metres."""
        flipped = jnp.stack([points_m[:, 0], -points_m[:, 1]], axis=1)
        return self.scale_px_per_m * flipped + self.centre_px[None, :]

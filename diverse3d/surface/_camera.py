"""Cameras: weak perspective (Dey and Boddeti 2022, section 2.1: scale and centre, depth ignored), and perspective."""

from typing import TypeVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_A = TypeVar("_A", Array, np.ndarray)
"""Arrays of the device, or of the host."""


class WeakPerspective(eqx.Module):
    """Maps posed head coordinates (metres, y up, z towards the camera) to image pixels (y down)."""

    scale_px_per_m: Float[Array, ""]
    """Pixels a metre."""
    centre_px: Float[Array, "2"]
    """Where the origin of the posed head lands, in pixels."""

    def project(self, points_m: Float[_A, "n 3"]) -> Float[_A, "n 2"]:
        """Pixel coordinates of points in metres; on the host, where nothing is compiled, for points of the host."""
        if isinstance(points_m, np.ndarray):
            flipped = np.stack([points_m[:, 0], -points_m[:, 1]], axis=1)
            return np.asarray(self.scale_px_per_m) * flipped + np.asarray(self.centre_px)[None, :]
        flipped = jnp.stack([points_m[:, 0], -points_m[:, 1]], axis=1)
        return self.scale_px_per_m * flipped + self.centre_px[None, :]


class Perspective(eqx.Module):
    """A pinhole camera that looks along -z from `distance_m` in front of the origin.

    The scale is that of the plane z = 0, so that the camera tends to `WeakPerspective` as it moves away.
    """

    scale_px_per_m: Float[Array, ""]
    """Pixels a metre at the origin's depth; the focal length is scale × distance."""
    centre_px: Float[Array, "2"]
    """Where the origin lands, in pixels."""
    distance_m: Float[Array, ""]
    """From the camera to the origin, in metres; points must lie in front of the camera (z < distance)."""

    def nearness(self, points_m: Float[Array, "n 3"]) -> Float[Array, " n"]:
        """One over the depth in metres: linear over a triangle's picture, so a z-buffer of it is exact."""
        return 1.0 / (self.distance_m - points_m[:, 2])

    def project(self, points_m: Float[Array, "n 3"]) -> Float[Array, "n 2"]:
        """Pixel coordinates of points in metres."""
        flipped = jnp.stack([points_m[:, 0], -points_m[:, 1]], axis=1)
        scale = self.scale_px_per_m * self.distance_m * self.nearness(points_m)
        return scale[:, None] * flipped + self.centre_px[None, :]

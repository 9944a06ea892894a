"""The one definition of a visible vertex."""

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._arrays import on_device
from ._normals import vertex_normals
from ._raster import rasterise

VISIBILITY_SIZE_PX = 384
"""Side of the square buffer on which visibility is decided."""


def facing_camera(
    vertices_m: Float[Array, "V 3"], faces: Int[Array, "F 3"], *, tolerance_m: float = 2e-3
) -> Bool[np.ndarray, " V"]:
    """Vertices that the head itself does not hide from an orthographic camera looking along -z.

    A vertex is seen when its normal faces the camera and nothing lies more than `tolerance_m` in front of it
    (a z-test on a buffer of `VISIBILITY_SIZE_PX`). This is the one definition of visibility: photos, benchmarks and
    eyeballs all follow it.
    """
    vertices = np.asarray(vertices_m)
    low, high = vertices[:, :2].min(0), vertices[:, :2].max(0)
    scale = (VISIBILITY_SIZE_PX - 4) / (high - low).max()
    points = np.stack([vertices[:, 0] - low[0], high[1] - vertices[:, 1]], 1) * scale + 2.0
    nearness, normals = map(
        np.asarray, _picture(on_device(points, vertices.dtype), on_device(vertices, vertices.dtype), faces)
    )
    column, row = np.floor(points).astype(int).T
    buffer = nearness[row, column]
    # Across one pixel a slanted surface itself changes depth; allow for that slope, up to a steep limit.
    slope = np.sqrt(np.clip(1 - normals[:, 2] ** 2, 0, 1)) / np.clip(normals[:, 2], 0.1, 1)
    return (normals[:, 2] > 0) & (buffer <= vertices[:, 2] + tolerance_m + slope / scale)


@jax.jit
def _picture(
    points_px: Float[Array, "V 2"], vertices_m: Float[Array, "V 3"], faces: Int[Array, "F 3"]
) -> tuple[Float[Array, "S S"], Float[Array, "V 3"]]:
    """Nearness at every pixel of the buffer, and the vertices' normals."""
    fragments = rasterise(points_px, vertices_m[:, 2], faces, height=VISIBILITY_SIZE_PX, width=VISIBILITY_SIZE_PX)
    return fragments.nearness, vertex_normals(vertices_m, faces)

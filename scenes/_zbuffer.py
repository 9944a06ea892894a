"""The same z-buffer as `diverse3d.raster`, on the host: nothing to compile, and faster on one core.

Scenes have a new mesh each, and need neither gradients nor an accelerator.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int, Int32


class Hits(NamedTuple):
    """What the pixels see."""

    triangle: Int32[np.ndarray, "h w"]
    """Triangle, -1 for none."""
    nearness: Float32[np.ndarray, "h w"]
    """The nearest triangle's nearness there, -inf for none."""
    barycentric: Float32[np.ndarray, "h w 3"]
    """Weights of its corners; zero where there is none."""


def zbuffer(
    points_px: Float[np.ndarray, "n 2"],
    nearness: Float[np.ndarray, " n"],
    faces: Int[np.ndarray, "m 3"],
    side: int,
    *,
    solid: int = 0,
) -> Hits:
    """Nearest triangle at every pixel centre of a square picture; larger `nearness` is nearer.

    The first `solid` triangles are of closed surfaces, counter-clockwise seen from outside: those that face away are
    left out.
    """
    points, near = points_px.astype(np.float32), nearness.astype(np.float32)
    a, b, c = (points[faces[:, k]] for k in range(3))
    first, second = b - a, c - a
    area = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    low = np.ceil(np.minimum(np.minimum(a, b), c) - 0.501).clip(0, side).astype(np.int32)
    high = np.floor(np.maximum(np.maximum(a, b), c) - 0.499).clip(-1, side - 1).astype(np.int32)
    size = np.maximum(high - low + 1, 0)
    count = size[:, 0] * size[:, 1] * (np.abs(area) > 1e-9)
    count[:solid] *= area[:solid] < 0  # y runs down, so what faces us turns clockwise
    some = np.flatnonzero(count)
    count, low, columns = count[some], low[some], size[some, 0]
    # Weights of the second and third corner are linear in the picture.
    inverse = 1.0 / area[some, None]
    to_second = np.stack([second[some, 1], -second[some, 0]], 1) * inverse
    to_third = np.stack([-first[some, 1], first[some, 0]], 1) * inverse
    start = (low + 0.5 - a[some]).astype(np.float32)

    which = np.repeat(np.arange(len(some), dtype=np.int32), count)
    within = np.arange(len(which), dtype=np.int32) - np.repeat((np.cumsum(count) - count).astype(np.int32), count)
    row, column = np.divmod(within, columns[which])
    dx, dy = start[which, 0] + column.astype(np.float32), start[which, 1] + row.astype(np.float32)
    u = dx * to_second[which, 0] + dy * to_second[which, 1]
    v = dx * to_third[which, 0] + dy * to_third[which, 1]
    inside = np.flatnonzero((u >= -1e-5) & (v >= -1e-5) & (u + v <= 1 + 1e-5))
    which, u, v = which[inside], u[inside], v[inside]
    pixel = (low[which, 1] + row[inside]) * side + low[which, 0] + column[inside]
    triangle = some[which]
    n = near[faces]
    depth = n[triangle, 0] * (1 - u - v) + n[triangle, 1] * u + n[triangle, 2] * v

    nearest = np.full(side * side, -np.inf, np.float32)
    np.maximum.at(nearest, pixel, depth)
    won = np.flatnonzero(depth == nearest[pixel])  # in the order of triangles: of equals, the last is written
    seen = np.full(side * side, -1, np.int32)
    weight = np.zeros((side * side, 3), np.float32)
    seen[pixel[won]] = triangle[won]
    weight[pixel[won]] = np.stack([1 - u[won] - v[won], u[won], v[won]], 1)
    return Hits(seen.reshape(side, side), nearest.reshape(side, side), weight.reshape(side, side, 3))

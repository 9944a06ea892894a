"""The same raster as `rasterise`, on the host: nothing to compile for a mesh or a picture of a new size."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Int32

_PAIRS = 2**18
"""About how many pairs of a triangle and a pixel of its box are looked at together."""


class Hits(NamedTuple):
    """What the pixels see."""

    face: Int32[np.ndarray, "h w"]
    """Triangle, -1 for none."""
    nearness: Float[np.ndarray, "h w"]
    """The nearest triangle's nearness there, -inf for none."""
    barycentric: Float[np.ndarray, "h w 3"]
    """Weights of its corners in the picture; zero where there is none."""


def zbuffer(
    points_px: Float[np.ndarray, "n 2"],
    nearness: Float[np.ndarray, " n"],
    faces: Int[np.ndarray, "m 3"],
    *,
    height: int,
    width: int,
    solid: int = 0,
) -> Hits:
    """Nearest triangle at every pixel centre, in the precision of `points_px`.

    x runs right, y down, pixel centres lie at +0.5; larger `nearness` is nearer. The first `solid` triangles are of
    closed surfaces, counter-clockwise seen from outside: those that face away are left out.
    """
    dtype, end = points_px.dtype, (width, height)
    hair = 1e-5 if dtype == np.float32 else 1e-12  # closes cracks between neighbours
    a, b, c = (points_px[faces[:, k]] for k in range(3))
    first, second = b - a, c - a
    area = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    low = np.ceil(np.minimum(np.minimum(a, b), c) - 0.501).clip(0, end).astype(np.int32)
    high = np.floor(np.maximum(np.maximum(a, b), c) - 0.499).clip(-1, np.subtract(end, 1)).astype(np.int32)
    size = np.maximum(high - low + 1, 0)
    count = size[:, 0] * size[:, 1] * (np.abs(area) > 1e-9)
    count[:solid] *= area[:solid] < 0  # y runs down, so what faces us turns clockwise
    nearest, seen = np.full(height * width, -np.inf, dtype), np.full(height * width, -1, np.int32)
    weight = np.zeros((height * width, 3), dtype)
    some = np.flatnonzero(count)
    for part in np.split(some, np.flatnonzero(np.diff(np.cumsum(count[some]) // _PAIRS)) + 1):
        times = count[part]

        def each(values: np.ndarray, times: np.ndarray = times) -> np.ndarray:
            """Values of triangles for every pixel of their boxes."""
            return np.repeat(values, times)

        x, y = low[part].T
        pair = np.arange(times.sum(), dtype=np.int32) - each((np.cumsum(times) - times).astype(np.int32))
        columns = each(size[part, 0])
        row = pair // columns
        column = pair - row * columns
        start = (low[part] + 0.5 - a[part]).astype(dtype)
        dx, dy = each(start[:, 0]) + column.astype(dtype), each(start[:, 1]) + row.astype(dtype)
        # Weights of the second and third corner are linear in the picture.
        (bx, by), (cx, cy), inverse = first[part].T, second[part].T, 1.0 / area[part]
        u = dx * each(cy * inverse) + dy * each(-cx * inverse)
        v = dx * each(-by * inverse) + dy * each(bx * inverse)
        inside = np.flatnonzero((u >= -hair) & (v >= -hair) & (u + v <= 1 + hair))
        pixel = (each(y * width + x) + row * width + column)[inside]
        triangle, u, v = each(part)[inside], u[inside], v[inside]
        near_a, near_b, near_c = (nearness[faces[part, k]].astype(dtype) for k in range(3))
        depth = each(near_a)[inside] * (1 - u - v) + each(near_b)[inside] * u + each(near_c)[inside] * v
        np.maximum.at(nearest, pixel, depth)
        won = np.flatnonzero(depth == nearest[pixel])  # in the order of triangles: of equals, the last is written
        pixel, u, v = pixel[won], u[won], v[won]
        seen[pixel] = triangle[won]
        weight[pixel] = np.stack([1 - u - v, u, v], 1)
    return Hits(seen.reshape(height, width), nearest.reshape(height, width), weight.reshape(height, width, 3))

"""Triangles to pixels: a z-buffer by scatter-max, and the one definition of a visible vertex."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

VISIBILITY_SIZE_PX = 384
"""Side of the square buffer on which visibility is decided."""


class Fragments(eqx.Module):
    """What each pixel sees."""

    face: Int[Array, "H W"]
    """Index of the nearest triangle, -1 where there is none."""
    barycentric: Float[Array, "H W 3"]
    """Weights of that triangle's corners at the pixel's centre; zero where there is none."""
    nearness: Float[Array, "H W"]
    """Interpolated nearness (larger is nearer) of that triangle, -inf where there is none."""


def rasterise(
    points_px: Float[Array, "V 2"],
    nearness: Float[Array, " V"],
    faces: Int[Array, "F 3"],
    *,
    height: int,
    width: int,
) -> Fragments:
    """Nearest triangle at every pixel centre, exact in depth order.

    `points_px` has x right and y down with pixel centres at +0.5; larger `nearness` is nearer. The host lists every
    pixel of every triangle's bounding box, so that a large triangle leaves no hole and a small one costs little; the
    list is padded to a power of two, so that few shapes are ever compiled. Derivatives go through `reweighed`.
    """
    face, pixel = _candidates(np.asarray(points_px), np.asarray(faces), height, width)
    return _resolve(points_px, nearness, faces, jnp.asarray(face), jnp.asarray(pixel), height=height, width=width)


def reweighed(
    fragments: Fragments, points_px: Float[Array, "V 2"], nearness: Float[Array, " V"], faces: Int[Array, "F 3"]
) -> Fragments:
    """The same triangle at every pixel with weights and nearness as the points have them now.

    This is what derivatives go through: which triangle a pixel sees carries none, where it lies in it does. Points may
    have moved a little since `fragments` were made.
    """
    height, width = fragments.face.shape
    seen = fragments.face.reshape(-1)
    corners = faces[jnp.maximum(seen, 0)]
    centres = _centres(jnp.arange(height * width, dtype=jnp.int32), width, points_px.dtype)
    weights = _barycentric(points_px[corners], centres)
    inside = (seen >= 0)[:, None]
    weights = jnp.where(inside, weights, jnp.zeros_like(weights))
    near = jnp.where(inside[:, 0], jnp.sum(weights * nearness[corners], axis=1), -jnp.inf)
    return Fragments(fragments.face, weights.reshape(height, width, 3), near.reshape(height, width))


def interpolate(
    fragments: Fragments, values: Float[Array, "V C"], faces: Int[Array, "F 3"]
) -> Float[Array, "H W C"]:
    """Any attribute of the vertices at every pixel; zero where there is no triangle."""
    corners = values[faces[jnp.maximum(fragments.face, 0)]]
    return jnp.einsum("hwk,hwkc->hwc", fragments.barycentric, corners)


def _candidates(
    points: Float[np.ndarray, "V 2"], faces: Int[np.ndarray, "F 3"], height: int, width: int
) -> tuple[Int[np.ndarray, " C"], Int[np.ndarray, " C"]]:
    """Triangle and pixel of every pixel inside a triangle's bounding box; the spare pixel H·W fills the list up."""
    corners, last = points[faces], np.array([width, height]) - 1
    # A hair more than the box, for the tolerance at edges; only the part inside the picture counts.
    low = np.ceil(corners.min(1) - 0.501).clip(0, last + 1).astype(np.int64)
    high = np.floor(corners.max(1) - 0.499).clip(-1, last).astype(np.int64)
    size = np.maximum(high - low + 1, 0)
    count = size[:, 0] * size[:, 1]
    face = np.repeat(np.arange(len(faces)), count)
    within = np.arange(len(face)) - np.repeat(np.cumsum(count) - count, count)
    row, column = np.divmod(within, size[face, 0])
    pixel = (low[face, 1] + row) * width + low[face, 0] + column
    spare = (1 << max(len(face) - 1, 0).bit_length()) - len(face)
    padded = np.pad(face, (0, spare)), np.pad(pixel, (0, spare), constant_values=height * width)
    return padded[0].astype(np.int32), padded[1].astype(np.int32)


@functools.partial(jax.jit, static_argnames=("height", "width"))
def _resolve(
    points_px: Array, nearness: Array, faces: Array, face: Array, pixel: Array, *, height: int, width: int
) -> Fragments:
    """The nearest of the candidates at every pixel."""
    pixels = height * width
    corners = faces[face]
    weights = _barycentric(points_px[corners], _centres(pixel, width, points_px.dtype))
    near = jnp.sum(weights * nearness[corners], axis=1)
    # A hair of tolerance closes cracks between neighbours; ties go to the higher index, always the same way.
    pixel = jnp.where(jnp.all(weights >= -1e-5, axis=1), pixel, pixels)
    depth = jnp.full(pixels + 1, -jnp.inf, nearness.dtype).at[pixel].max(near)
    winner = (near == depth[pixel]) & (pixel < pixels)
    seen = jnp.full(pixels + 1, -1, jnp.int32).at[jnp.where(winner, pixel, pixels)].max(jnp.where(winner, face, -1))
    seen = seen[:pixels]
    centres = _centres(jnp.arange(pixels, dtype=jnp.int32), width, points_px.dtype)
    weights = _barycentric(points_px[faces[jnp.maximum(seen, 0)]], centres)
    weights = jnp.where((seen >= 0)[:, None], weights, jnp.zeros_like(weights))
    return Fragments(
        face=seen.reshape(height, width),
        barycentric=weights.reshape(height, width, 3),
        nearness=depth[:pixels].reshape(height, width),
    )


def _centres(pixel: Int[Array, " n"], width: int, dtype: jnp.dtype) -> Float[Array, "n 2"]:
    """Centres of pixels given by number, row by row."""
    return jnp.stack([pixel % width, pixel // width], axis=1).astype(dtype) + 0.5


def _barycentric(corners: Float[Array, "*#b 3 2"], point: Float[Array, "*#b 2"]) -> Float[Array, "*#b 3"]:
    """Barycentric weights in the image plane; a triangle seen edge-on gets none (all -1)."""
    a, b, c = corners[..., 0, :], corners[..., 1, :], corners[..., 2, :]

    def cross(u: Array, v: Array) -> Array:
        return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]

    area = cross(b - a, c - a)
    flat = jnp.abs(area) < 1e-9
    safe = jnp.where(flat, jnp.ones_like(area), area)
    first = cross(b - point, c - point) / safe
    second = cross(c - point, a - point) / safe
    weights = jnp.stack([first, second, 1.0 - first - second], axis=-1)
    return jnp.where(flat[..., None], -jnp.ones_like(weights), weights)


def vertex_normals(vertices: Float[Array, "V 3"], faces: Int[Array, "F 3"]) -> Float[Array, "V 3"]:
    """Unit normals, area-weighted over the triangles around each vertex; zero for a vertex without triangles."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    face_normals = jnp.cross(b - a, c - a)
    total = jnp.zeros_like(vertices)
    for i in range(3):
        total = total.at[faces[:, i]].add(face_normals)
    length = jnp.linalg.norm(total, axis=1, keepdims=True)
    return total / jnp.where(length > 0, length, jnp.ones_like(length))


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
    dtype = vertices_m.dtype
    fragments = rasterise(
        jnp.asarray(points, dtype),
        jnp.asarray(vertices[:, 2], dtype),
        faces,
        height=VISIBILITY_SIZE_PX,
        width=VISIBILITY_SIZE_PX,
    )
    column, row = np.floor(points).astype(int).T
    buffer = np.asarray(fragments.nearness)[row, column]
    normals = np.asarray(vertex_normals(vertices_m, faces))
    # Across one pixel a slanted surface itself changes depth; allow for that slope, up to a steep limit.
    slope = np.sqrt(np.clip(1 - normals[:, 2] ** 2, 0, 1)) / np.clip(normals[:, 2], 0.1, 1)
    return (normals[:, 2] > 0) & (buffer <= vertices[:, 2] + tolerance_m + slope / scale)

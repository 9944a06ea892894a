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

    `points_px` has x right and y down with pixel centres at +0.5; larger `nearness` is nearer. Triangles are sorted
    into a few tile sizes by their bounding box, so that a large one leaves no hole and a small one costs little;
    the number a tile size is padded to a power of two, so that few shapes are ever compiled.
    """
    corners, size = np.asarray(points_px)[np.asarray(faces)], np.array([width, height])
    # Only the part inside the picture needs a tile, however far a triangle reaches.
    low = np.floor(corners.min(1) - 0.5).clip(0, size)
    extent = (np.ceil(corners.max(1) + 0.5).clip(0, size) - low).max(1)
    tile = 1 << np.ceil(np.log2(np.maximum(extent, 4))).astype(int)
    groups, tiles = [], []
    for side in np.unique(tile):
        members = np.flatnonzero(tile == side)
        padded = np.full(1 << (len(members) - 1).bit_length(), -1, np.int32)
        padded[: len(members)] = members
        groups.append(jnp.asarray(padded))
        tiles.append(int(side))
    return _rasterise(points_px, nearness, faces, tuple(groups), tiles=tuple(tiles), height=height, width=width)


@functools.partial(jax.jit, static_argnames=("tiles", "height", "width"))
def _rasterise(
    points_px: Array,
    nearness: Array,
    faces: Array,
    groups: tuple[Array, ...],
    *,
    tiles: tuple[int, ...],
    height: int,
    width: int,
) -> Fragments:
    pixels = height * width
    covered = [
        _cover(points_px, nearness, faces, group, tile=tile, height=height, width=width)
        for group, tile in zip(groups, tiles, strict=True)
    ]
    depth = jnp.full(pixels + 1, -jnp.inf, nearness.dtype)
    for pixel, near, _ in covered:
        depth = depth.at[pixel].max(near)
    face = jnp.full(pixels + 1, -1, jnp.int32)
    for pixel, near, identity in covered:
        winner = (near == depth[pixel]) & (pixel < pixels)
        face = face.at[jnp.where(winner, pixel, pixels)].max(jnp.where(winner, identity, -1))
    face = face[:pixels].reshape(height, width)
    y, x = jnp.meshgrid(
        jnp.arange(height, dtype=points_px.dtype) + 0.5, jnp.arange(width, dtype=points_px.dtype) + 0.5, indexing="ij"
    )
    weights = _barycentric(points_px[faces[jnp.maximum(face, 0)]], jnp.stack([x, y], axis=-1))
    weights = jnp.where((face >= 0)[:, :, None], weights, jnp.zeros_like(weights))
    return Fragments(face=face, barycentric=weights, nearness=depth[:pixels].reshape(height, width))


def _cover(
    points_px: Array, nearness: Array, faces: Array, group: Array, *, tile: int, height: int, width: int
) -> tuple[Array, Array, Array]:
    """Pixels that each triangle of a group covers inside its tile; the spare slot H·W where it covers none."""
    corner_ids = faces[jnp.maximum(group, 0)]
    corners = points_px[corner_ids]
    size = jnp.asarray([width, height], corners.dtype)
    origin = jnp.clip(jnp.floor(jnp.min(corners, axis=1) - 0.5), 0, size[None, :]).astype(jnp.int32)
    step = jnp.arange(tile, dtype=jnp.int32)
    column = origin[:, 0, None, None] + step[None, None, :]
    row = origin[:, 1, None, None] + step[None, :, None]
    column, row = jnp.broadcast_arrays(column, row)
    centre = jnp.stack([column, row], axis=-1).astype(points_px.dtype) + 0.5
    weights = _barycentric(corners[:, None, None], centre)
    near = jnp.sum(weights * nearness[corner_ids][:, None, None, :], axis=-1)
    # A hair of tolerance closes cracks between neighbours; ties go to the higher index, always the same way.
    inside = jnp.all(weights >= -1e-5, axis=-1) & (group >= 0)[:, None, None]
    inside &= (column >= 0) & (column < width) & (row >= 0) & (row < height)
    pixel = jnp.where(inside, row * width + column, height * width)
    near = jnp.where(inside, near, -jnp.inf)
    identity = jnp.broadcast_to(group[:, None, None], pixel.shape)
    return pixel.reshape(-1), near.reshape(-1), identity.reshape(-1)


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

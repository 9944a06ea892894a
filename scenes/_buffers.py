"""Meshes to buffers: what each fine pixel sees, what light reaches each vertex, what lies in its shadow."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from PIL import Image

from diverse3d.surface import Hits, Perspective, harmonics, host_normals, shade, zbuffer

from ._mesh import Mesh

_BLOCK = 24576  # more vertices than most scenes have, so that few shapes are compiled
_SHADOW_SIDE_PX = 176
_OPEN_SIDE_PX = 112


class Light(NamedTuple):
    """Nine harmonics a channel, in two parts: what casts no shadow, and what does."""

    soft: Float[np.ndarray, "9 3"]
    """Light from everywhere."""
    direct: Float[np.ndarray, "9 3"]
    """A lamp's light as harmonics."""
    direction: Float[np.ndarray, " 3"]
    """Unit vector towards the lamp."""
    colour: Float[np.ndarray, " 3"]
    """The lamp's linear colour times its strength."""
    spread_m: float
    """Half-width of the edges of shadows."""


def _padded(array: np.ndarray, value: float) -> np.ndarray:
    """Rows filled up to a multiple of a block, so that few shapes are compiled."""
    out = np.full((len(array) + -len(array) % _BLOCK, *array.shape[1:]), value, array.dtype)
    out[: len(array)] = array
    return out


def look(
    points_m: Float[np.ndarray, "n 3"], faces: Int[np.ndarray, "m 3"], camera: Perspective, side: int, solid: int = 0
) -> Hits:
    """The nearest triangle at each pixel of a square picture, with weights in space rather than in the picture.

    Of the first `solid` triangles, which are of a closed surface, those that face away are left out.
    """
    place, near = _project(camera, jnp.asarray(_padded(points_m.astype(np.float32), 0.0)))
    place, near = np.asarray(place)[: len(points_m)], np.asarray(near)[: len(points_m)]
    hits = zbuffer(place, near, faces, height=side, width=side, solid=solid)
    pixels = np.flatnonzero(hits.face.reshape(-1) >= 0)
    weight = hits.barycentric.reshape(-1, 3)
    inside = weight[pixels] * near[faces[hits.face.reshape(-1)[pixels]]]
    weight[pixels] = inside / inside.sum(1, keepdims=True)
    return hits


@jax.jit
def _project(camera: Perspective, points: jax.Array) -> tuple[jax.Array, jax.Array]:
    return camera.project(points), camera.nearness(points)


def interpolated(
    attributes: Float32[np.ndarray, "n d"], faces: Int[np.ndarray, "m 3"], hits: Hits, pixels: Int[np.ndarray, " p"]
) -> Float32[np.ndarray, "p d"]:
    """Vertex attributes at pixels (flat indices) that see something."""
    corners = faces[hits.face.reshape(-1)[pixels]]
    weight = hits.barycentric.reshape(-1, 3)[pixels]
    out = attributes[corners[:, 0]] * weight[:, :1]
    for k in (1, 2):
        out += attributes[corners[:, k]] * weight[:, k : k + 1]
    return out


@jax.jit
def _irradiance(normals: jax.Array, soft: jax.Array, direct: jax.Array) -> tuple[jax.Array, jax.Array]:
    white = jnp.ones_like(normals)
    return shade(white, normals, soft), shade(white, normals, direct)


def irradiance(
    normals: Float32[np.ndarray, "n 3"],
    light: Light,
    lit: Float32[np.ndarray, " n"],
    openness: Float32[np.ndarray, " n"],
) -> Float32[np.ndarray, "n 3"]:
    """Light that reaches each vertex, never negative: `lit` is the lamp's share, `openness` the surroundings'."""
    soft, direct = _irradiance(
        jnp.asarray(_padded(normals, 0.0)),
        jnp.asarray(light.soft, jnp.float32),
        jnp.asarray(light.direct, jnp.float32),
    )
    count = len(normals)
    lamp = np.maximum(np.asarray(direct)[:count], 0.0) * lit[:, None]
    return np.maximum(np.asarray(soft)[:count], 0.02) * openness[:, None] + lamp


def lamp_harmonics(direction: Float[np.ndarray, " 3"]) -> Float[np.ndarray, " 9"]:
    """Harmonics of a distant lamp under which a white surface that faces it has the value one."""
    degree = np.array([1.0, *[2 / 3] * 3, *[1 / 4] * 5])
    return np.pi * np.asarray(harmonics(jnp.asarray(direction, jnp.float32)), np.float64) / degree


def _frame(direction: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "3 3"]:
    """Rows: right, up, and towards the light."""
    side = np.cross([0.0, 1.0, 0.02], direction)
    side /= np.linalg.norm(side)
    return np.stack([side, np.cross(direction, side), direction])


def lit_share(
    mesh: Mesh, light: Light, *, casts: Bool[np.ndarray, " m"], normals: Float32[np.ndarray, "n 3"]
) -> Float32[np.ndarray, " n"]:
    """Share of the lamp that each vertex sees past the triangles that cast shadows: a depth buffer from the lamp."""
    faces = mesh.faces[casts]
    seen = mesh.points_m @ _frame(light.direction).T
    low, high = seen[:, :2].min(0), seen[:, :2].max(0)
    scale = (_SHADOW_SIDE_PX - 8) / float((high - low).max())
    place = (seen[:, :2] - low) * scale + 4
    depth = zbuffer(place.astype(np.float32), seen[:, 2], faces, height=_SHADOW_SIDE_PX, width=_SHADOW_SIDE_PX).nearness
    column, row = np.floor(place).astype(int).T
    facing = normals @ light.direction
    slope = np.sqrt(np.clip(1 - facing**2, 0, 1)) / np.clip(facing, 0.15, 1)
    reach = max(1, round(light.spread_m * scale))
    share = np.zeros(len(seen), np.float32)
    steps = np.linspace(-reach, reach, 5).round().astype(int)
    for down in steps:
        for right in steps:
            past = depth[(row + down).clip(0, _SHADOW_SIDE_PX - 1), (column + right).clip(0, _SHADOW_SIDE_PX - 1)]
            allowed = 0.004 + slope * (np.hypot(down, right) + 1) / scale
            share += past <= seen[:, 2] + allowed
    return share / 25


@functools.lru_cache(maxsize=2)
def _openness(points: bytes, faces: bytes) -> Float32[np.ndarray, " V"]:
    """Share of the sky that each vertex sees, weighted by the cosine."""
    vertices = np.frombuffer(points, np.float32).reshape(-1, 3)
    triangles = np.frombuffer(faces, np.int32).reshape(-1, 3)
    normals = host_normals(vertices, triangles).astype(np.float32)
    count = 40
    height = 1 - 2 * (np.arange(count) + 0.5) / count
    around = np.pi * (1 + 5**0.5) * np.arange(count)
    ring = np.sqrt(1 - height**2)
    total = open_share = np.zeros(len(vertices), np.float32)
    for direction in np.stack([ring * np.cos(around), height, ring * np.sin(around)], 1):
        seen = vertices @ _frame(direction).T
        low = seen[:, :2].min(0)
        scale = (_OPEN_SIDE_PX - 4) / float((seen[:, :2].max(0) - low).max())
        place = (seen[:, :2] - low) * scale + 2
        depth = zbuffer(
            place.astype(np.float32), seen[:, 2], triangles, height=_OPEN_SIDE_PX, width=_OPEN_SIDE_PX
        ).nearness
        column, row = np.floor(place).astype(int).T
        facing = np.clip(normals @ direction, 0, 1)
        slope = np.sqrt(1 - facing**2) / facing.clip(0.15)
        free = depth[row, column] <= seen[:, 2] + 0.003 + 1.5 * slope / scale
        total, open_share = total + facing, open_share + facing * free
    return (open_share / total.clip(1e-6)).astype(np.float32)


def openness(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Float32[np.ndarray, " V"]:
    """Share of the sky that each vertex sees past the head; computed once a head model."""
    return _openness(np.asarray(vertices, np.float32).tobytes(), np.asarray(faces, np.int32).tobytes())


def covered(fine: Bool[np.ndarray, "h w"] | Float32[np.ndarray, "h w"], side: int) -> Float32[np.ndarray, "s s"]:
    """Mean of a finer picture or mask over each pixel."""
    small = Image.fromarray(fine.astype(np.float32)).resize((side, side), Image.Resampling.BOX)
    return np.asarray(small, np.float32)

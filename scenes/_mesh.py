"""Simple surfaces: sheets, tubes, balls; and several of them as one mesh with texture coordinates."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

Paint = Callable[[Float32[np.ndarray, "n 3"]], Float32[np.ndarray, "n 3"]]
"""Texture coordinates to linear reflectance."""


class Part(NamedTuple):
    """One surface of one material."""

    points_m: Float[np.ndarray, "n 3"]
    """Metres, in the head's own frame."""
    faces: Int[np.ndarray, "m 3"]
    """Triangles."""
    coordinates: Float[np.ndarray, "n 3"]
    """What `paint` is a function of."""
    paint: Paint
    """The surface's reflectance."""
    gloss: float = 0.0
    """How much light the highlight throws back; 0 is matt."""
    shininess: float = 20.0
    """Blinn–Phong exponent."""
    keep: Callable[[Float32[np.ndarray, "n 3"]], Bool[np.ndarray, " n"]] | None = None
    """Which of its points are there at all, as a function of the coordinates; None keeps all."""


class Mesh(NamedTuple):
    """Parts as one mesh."""

    points_m: Float[np.ndarray, "n 3"]
    """Metres."""
    faces: Int[np.ndarray, "m 3"]
    """Triangles."""
    coordinates: Float32[np.ndarray, "n 3"]
    """Texture coordinates."""
    part: Int[np.ndarray, " m"]
    """Which part a triangle belongs to."""


def merged(parts: Sequence[Part]) -> Mesh:
    """All parts as one mesh, in order."""
    start = np.cumsum([0, *(len(part.points_m) for part in parts)])
    return Mesh(
        np.concatenate([part.points_m for part in parts]).astype(np.float64),
        np.concatenate([part.faces + first for part, first in zip(parts, start, strict=False)]).astype(np.int32),
        np.concatenate([part.coordinates for part in parts]).astype(np.float32),
        np.repeat(np.arange(len(parts)), [len(part.faces) for part in parts]),
    )


Sheet = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Points, triangles and coordinates."""


def sheet(points: Float[np.ndarray, "r c 3"], *, closed: bool = False) -> Sheet:
    """Points, triangles and coordinates (column share, row share, 0) of a grid; `closed` joins the last column to
    the first."""
    rows, columns = points.shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    right = np.roll(index, -1, axis=1) if closed else index[:, 1:]
    left = index if closed else index[:, :-1]
    a, b, c, d = left[:-1], right[:-1], left[1:], right[1:]
    faces = np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])
    v, u = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
    return points.reshape(-1, 3), faces, np.stack([u, v, np.zeros_like(u)], -1).reshape(-1, 3)


def tube(
    path: Float[np.ndarray, "k 3"], radius: Float[np.ndarray, " k"] | float, *, sides: int = 10, closed: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A round tube along a path; its ends are rounded off unless it is closed."""
    path = np.asarray(path, np.float64)
    radius = np.broadcast_to(radius, len(path)).astype(np.float64)
    if closed:
        path, radius = np.concatenate([path, path[:1]]), np.append(radius, radius[0])
    along = np.gradient(path, axis=0)
    if closed:
        along[0] = along[-1] = path[1] - path[-2]
    along /= np.linalg.norm(along, axis=1, keepdims=True).clip(1e-12)
    if not closed:
        cap = np.sin(np.linspace(0, np.pi / 2, 5))[:-1]
        reach = np.cos(np.linspace(0, np.pi / 2, 5))[:-1]
        path = np.concatenate([
            path[0] - (reach * radius[0])[:, None] * along[0],
            path,
            path[-1] + (reach * radius[-1])[::-1, None] * along[-1],
        ])  # fmt: skip
        along = np.concatenate([np.repeat(along[:1], 4, 0), along, np.repeat(along[-1:], 4, 0)])
        radius = np.concatenate([cap * radius[0], radius, (cap * radius[-1])[::-1]])
    # A frame that is carried along, so that the tube doesn't twist.
    side = np.empty_like(path)
    start = np.cross(along[0], [0.31, 0.52, 0.79])
    side[0] = start / np.linalg.norm(start)
    for i in range(1, len(path)):
        carried = side[i - 1] - (side[i - 1] @ along[i]) * along[i]
        side[i] = carried / max(float(np.linalg.norm(carried)), 1e-12)
    up = np.cross(along, side)
    angle = 2 * np.pi * np.arange(sides) / sides
    around = np.cos(angle)[None, :, None] * side[:, None] + np.sin(angle)[None, :, None] * up[:, None]
    return sheet(path[:, None] + radius[:, None, None] * around, closed=True)


def ball(centre: Float[np.ndarray, " 3"], radius: float, rows: int = 14, columns: int = 24) -> Sheet:
    """A sphere; coordinates are unit directions."""
    polar, around = np.linspace(0, np.pi, rows), 2 * np.pi * np.arange(columns) / columns
    ring = np.stack([np.sin(around), np.zeros(columns), np.cos(around)], -1)
    unit = np.sin(polar)[:, None, None] * ring + np.cos(polar)[:, None, None] * np.array([0.0, 1.0, 0.0])
    points, faces, _ = sheet(unit, closed=True)
    return centre + radius * points, faces, points

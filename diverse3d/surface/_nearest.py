"""The place of a surface that is nearest to a point."""

from typing import NamedTuple

import numpy as np
import trimesh
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

_CANDIDATES = 8
"""Triangles, by their middles, among which a point's nearest one is looked for: enough where none is slender."""


class Places(NamedTuple):
    """Places on a surface, one a point."""

    face: Int[np.ndarray, " n"]
    """Triangle."""
    barycentric: Float[np.ndarray, "n 3"]
    """Weights of its corners."""
    place: Float[np.ndarray, "n 3"]
    """Where it is."""
    normal: Float[np.ndarray, "n 3"]
    """The triangle's unit normal."""


def nearest_places(
    points: Float[np.ndarray, "n 3"], vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> Places:
    """The nearest places of a mesh's surface to points, in the same unit."""
    corner = vertices[faces]
    count = min(_CANDIDATES, len(faces))
    index = cKDTree(corner.mean(axis=1)).query(points, count, workers=-1)[1].reshape(len(points), count)
    place = trimesh.triangles.closest_point(corner[index].reshape(-1, 3, 3), np.repeat(points, count, axis=0))
    place = place.reshape(len(points), count, 3)
    best, row = np.linalg.norm(place - points[:, None], axis=2).argmin(axis=1), np.arange(len(points))
    face, place = index[row, best], place[row, best]
    weight = trimesh.triangles.points_to_barycentric(corner[face], place).clip(0)
    a, b, c = (corner[face, i] for i in range(3))
    normal = np.cross(b - a, c - a)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True).clip(1e-15)
    return Places(face, weight / weight.sum(axis=1, keepdims=True).clip(1e-15), place, normal)

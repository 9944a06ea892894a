"""Raw scans of heads whose surface is known: points on what a scanner in front of the face sees, with its faults."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from diverse3d.surface import host_normals, zbuffer

_RASTER_M = 0.0008
"""Size of a pixel of the scanner's view."""
_LEAST_FACING = 0.2
"""Cosine at which a scanner still measures a surface."""
_WAVES_M = (0.030, 0.060)
"""Wave lengths of a misfit."""


class RawScan(NamedTuple):
    """A scan and what it shows."""

    points_m: Float[np.ndarray, "P 3"]
    """Measured points, moved as the scanner's frame is."""
    surface_m: Float[np.ndarray, "V 3"]
    """The head's vertices in that frame."""
    turn: Float[np.ndarray, "3 3"]
    """Rotation from the head's frame to the scanner's."""
    shift_m: Float[np.ndarray, "3"]
    """Translation likewise."""


def raw_scan(
    vertices_m: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    random: np.random.Generator,
    *,
    points: int = 30_000,
    noise_m: float = 0.0002,
    hole_m: float = 0.040,
    misfit_m: float = 0.0,
) -> RawScan:
    """A front scan: `points` on the triangles seen from the front, `noise_m` on each coordinate, a round hole of
    diameter `hole_m` somewhere in the face, any rigid motion. `misfit_m` is the RMS of a smooth field added to the
    head first, along its normals."""
    vertices = np.asarray(vertices_m, np.float64)
    if misfit_m:
        vertices = vertices + misfit_m * smooth_waves(vertices, random)[:, None] * host_normals(vertices, faces)
    seen = _seen_faces(vertices, faces)
    corner = vertices[faces[seen]]
    area = np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
    front = corner.mean(axis=1)
    middle = front[(front[:, 2] > np.quantile(front[:, 2], 0.5))]
    centre = middle[random.integers(len(middle))]
    triangle = random.choice(len(seen), 2 * points, p=area / area.sum())
    weight = random.dirichlet(np.ones(3), 2 * points)
    cloud = (corner[triangle] * weight[:, :, None]).sum(axis=1)
    cloud = cloud[np.linalg.norm(cloud - centre, axis=1) > hole_m / 2][:points]
    cloud = cloud + noise_m * random.standard_normal(cloud.shape)
    turn = Rotation.random(random_state=np.random.RandomState(random.integers(2**31))).as_matrix()
    shift = random.uniform(-0.5, 0.5, 3)
    return RawScan(cloud @ turn.T + shift, vertices @ turn.T + shift, turn, shift)


def smooth_waves(places_m: Float[np.ndarray, "V 3"], random: np.random.Generator) -> Float[np.ndarray, " V"]:
    """A smooth field of unit RMS: sines of wave lengths 30 to 60 mm in random directions."""
    count = 12
    direction = random.standard_normal((count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    length = random.uniform(*_WAVES_M, count)
    phase = random.uniform(0, 2 * np.pi, count)
    field = np.sin(2 * np.pi * places_m @ (direction / length[:, None]).T + phase).sum(axis=1)
    return field / np.sqrt((field**2).mean())


def _seen_faces(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Triangles that face the front and that nothing hides."""
    low = vertices[:, :2].min(axis=0)
    place = (vertices[:, :2] - low) / _RASTER_M
    height, width = int(place[:, 1].max()) + 2, int(place[:, 0].max()) + 2
    pixel = np.stack([place[:, 0], height - 1 - place[:, 1]], axis=1)
    hits = zbuffer(pixel, vertices[:, 2], faces, height=height, width=width)
    corner = vertices[faces]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    facing = normal[:, 2] / np.linalg.norm(normal, axis=1).clip(1e-12)
    shown = np.zeros(len(faces), bool)
    shown[hits.face[hits.face >= 0]] = True
    return np.flatnonzero(shown & (facing > _LEAST_FACING))

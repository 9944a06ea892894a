"""A mesh file's surface as points of a wanted density."""

import numpy as np
from jaxtyping import Bool

from .._errors import InputError
from ..files import Mesh
from ..surface import edges, host_normals, sides
from ._cloud import Cloud, cloud_of_points, thinned

_MOST_POINTS = 150_000
_FEWEST_POINTS = 200
_LARGEST = 1e12
_UNEVEN = 0.2
"""Share of inner edges whose two triangles are wound differently, above which windings tell nothing."""


class ScanSurface:
    """What a scan measured: finite vertices, and triangles that have an area."""

    def __init__(self, mesh: Mesh, source: str) -> None:
        """Raises `InputError` for a scan with hardly any points, or points in one place or impossibly far apart."""
        points = np.asarray(mesh.vertices, np.float64)
        with np.errstate(invalid="ignore"):
            finite = np.all(np.abs(points) < _LARGEST, axis=1)
        if finite.sum() < _FEWEST_POINTS:
            raise InputError(
                f"{source} has {int(finite.sum())} usable points; a scan that shows a face has thousands of them."
            )
        # Where all lies far from the origin, digits would be lost; the middle is taken off and put back at the end.
        self.middle = np.median(points[finite], axis=0)
        points = np.where(finite[:, None], points - self.middle, 0.0)
        self.extent = float(np.ptp(np.quantile(points[finite], (0.01, 0.99), axis=0), axis=0).max())
        if not self.extent > 0:
            raise InputError(f"{source}: all points lie in one place; give a scan that shows a face.")
        self.points, self.colours = points, mesh.colours
        self.faces = np.zeros((0, 3), np.int32)
        self.used: np.ndarray = finite
        faces = mesh.faces[finite[mesh.faces].all(axis=1)] if len(mesh.faces) else mesh.faces
        if len(faces):
            a, b, c = (points[faces[:, i]] for i in range(3))
            self._area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
            sound = self._area > 1e-14 * self.extent**2
            faces, self._area = faces[sound], self._area[sound]
        if len(faces) >= _FEWEST_POINTS // 4 and _evenly_wound(faces):
            self.faces = faces
            self.normals = host_normals(points, faces)
            self.used = np.zeros(len(points), bool)
            self.used[faces] = True

    def cloud(self, density: float, near: Bool[np.ndarray, " n"] | None = None) -> Cloud:
        """Points of the surface, at least `density` a unit of area and the vertices themselves, then thinned to about
        that; `near` keeps the surface about some vertices alone."""
        keep: np.ndarray = self.used if near is None else self.used & near
        if not len(self.faces):
            return _fewer(cloud_of_points(*_given(self.points, self.colours, keep)), density)
        index = np.flatnonzero(keep)
        parts = [(self.points[index], self.normals[index], None if self.colours is None else self.colours[index])]
        chosen = np.flatnonzero(keep[self.faces].all(axis=1))
        count = self._area[chosen] * density
        # Without chance, so that the same scan gives the same points: whole numbers by what is carried over.
        ends = np.floor(np.cumsum(np.minimum(count, 1e4))).astype(np.int64)
        times = np.minimum(np.diff(ends, prepend=0), 10_000)
        if 0 < times.sum() <= 4_000_000:
            parts.append(self._within(np.repeat(chosen, times)))
        points, normals = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        colours = None if self.colours is None else np.concatenate([part[2] for part in parts if part[2] is not None])
        return _fewer(Cloud(points, normals, colours), density)

    def _within(self, face: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Places spread over triangles (a low-discrepancy sequence, folded)."""
        place = np.arange(len(face))
        u, v = (place * 0.7548776662466927) % 1.0, (place * 0.5698402909980532) % 1.0
        fold = u + v > 1
        u, v = np.where(fold, 1 - u, u), np.where(fold, 1 - v, v)
        weight = np.stack([1 - u - v, u, v], axis=1)[:, :, None]
        corner = self.faces[face]
        normal = (self.normals[corner] * weight).sum(axis=1)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True).clip(1e-12)
        colours = (
            None if self.colours is None else np.round((self.colours[corner] * weight).sum(axis=1)).astype(np.uint8)
        )
        return (self.points[corner] * weight).sum(axis=1), normal, colours


def _given(points: np.ndarray, colours: np.ndarray | None, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """The chosen points, a million at most, none of them twice."""
    index = np.flatnonzero(keep)
    index = index[:: max(-(-len(index) // 1_000_000), 1)]
    _, first = np.unique(points[index], axis=0, return_index=True)
    index = index[np.sort(first)]
    return points[index], None if colours is None else colours[index]


def _fewer(cloud: Cloud, density: float) -> Cloud:
    """At most so many points an area, and no more than are worth their time."""
    voxel = 1.0 / np.sqrt(density)
    cloud = thinned(cloud, voxel)
    while len(cloud.points) > _MOST_POINTS:
        voxel *= 1.25
        cloud = thinned(cloud, voxel)
    return cloud


def _evenly_wound(faces: np.ndarray) -> bool:
    """Whether neighbouring triangles agree about which side is out."""
    _, edge, times = edges(faces)
    end = sides(faces)
    forward = np.bincount(edge, end[:, 0] < end[:, 1], len(times))
    inner = times == 2
    return bool(inner.sum() == 0 or (forward[inner] != 1).mean() < _UNEVEN)

"""Statistical registration: pose, coefficients and smooth residual, point to plane, trust growing on the way."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from ..head import HeadModel
from ..surface import host_normals, nearest_places
from ._cloud import Cloud
from ._misfit import LEAST_M, LENGTHS_M, likeliest, spread_fields
from ._solve import Bending, Linear, Rows, Step

COARSE = 10
_EVERY = 2
"""One in so many vertices is enough for the coarse rounds."""
_TRUST_M = (3e-3, 3e-4)
REACH_M = 4e-3
"""Within what distance a point of the scan may be a vertex's partner …"""
_REACHES_M = (20e-3, REACH_M)
"""… and the first and last of the coarse rounds."""
_FINE = 8
_EXACT = 3
"""The last of them, in which a head without a misfit is fitted to its triangles' own normals."""
_LENGTH_ROUNDS = (0, 3)
"""Rounds that look how far the misfit reaches."""
_FIRST_MISFIT_M = 1e-3
_LEAST_ALIKE = np.cos(np.radians(45.0))
_SIDEWAYS = 0.25
"""How far off its vertex's normal a partner may lie, as a share of its distance, above what the spacing explains."""
_MOST_POINTS = 40_000
_LEAST_SIGMA_M = 3e-5
_OUTLYING = 3.0


class Pairs(NamedTuple):
    """What of the scan each vertex is compared with."""

    target_m: Float[np.ndarray, "V 3"]
    normal: Float[np.ndarray, "V 3"]
    accepted: Bool[np.ndarray, " V"]
    nearest: Int[np.ndarray, " V"]
    """The scan's point."""

    def off_m(self, vertices_m: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, " V"]:
        """How far vertices lie below the scan, along its normals."""
        return ((self.target_m - vertices_m) * self.normal).sum(axis=1)


class Matcher:
    """Finds partners between a scan and a head's surface."""

    def __init__(self, cloud: Cloud, faces: Int[np.ndarray, "F 3"], taken: Bool[np.ndarray, " V"]) -> None:
        """`taken` are the vertices that may have partners."""
        self.cloud, self._faces, self._taken = cloud, faces, taken
        self._tree = cKDTree(cloud.points)
        near = self._tree.query(cloud.points[:: max(len(cloud.points) // 2000, 1)], 2, workers=-1)[0]
        self.spacing_m = float(np.median(near[:, 1]))
        every = max(-(-len(cloud.points) // _MOST_POINTS), 1)
        self._points, self._normals = cloud.points[::every], cloud.normals[::every]

    def of_vertices(self, vertices_m: Float[np.ndarray, "V 3"], reach_m: float) -> Pairs:
        """The point nearest to each vertex, accepted where it is near, faces the same way, and lies along the normal
        (at a scan's border it doesn't)."""
        normals = host_normals(vertices_m, self._faces)
        _, index = self._tree.query(vertices_m, workers=-1, distance_upper_bound=reach_m)
        found = (index < len(self.cloud.points)) & self._taken
        index = np.where(found, index, 0)
        target, normal = self.cloud.points[index], self.cloud.normals[index]
        off = target - vertices_m
        along = (off * normal).sum(axis=1)
        sideways = np.linalg.norm(off - along[:, None] * normal, axis=1)
        near = sideways <= 1.5 * self.spacing_m + _SIDEWAYS * np.abs(along)
        alike = (normal * normals).sum(axis=1) > _LEAST_ALIKE
        return Pairs(target, normal, found & near & alike, index)

    def nearest(
        self, places_m: Float[np.ndarray, "V 3"], count: int
    ) -> tuple[Float[np.ndarray, "V k"], Int[np.ndarray, "V k"]]:
        """Distances and numbers of the `count` points nearest to each place."""
        away, index = self._tree.query(places_m, count, workers=-1)
        return away, index

    def of_points(self, vertices_m: Float[np.ndarray, "V 3"], reach_m: float) -> Rows:
        """The place on the surface nearest to each point; rows weigh 1 where accepted, else 0."""
        face, share, place, direction = nearest_places(self._points, vertices_m, self._faces)
        away = np.linalg.norm(self._points - place, axis=1)
        off = ((self._points - place) * direction).sum(axis=1)
        ok = (away <= reach_m) & ((direction * self._normals).sum(axis=1) > _LEAST_ALIKE)
        # Beyond the head's own border the nearest place lies beside the normal.
        ok &= away <= 1.5 * np.abs(off) + 2e-4
        ok &= self._taken[self._faces[face]].all(axis=1)
        return Rows(self._faces[face], share, direction, off, ok.astype(np.float64))


class Registered(NamedTuple):
    """Where the statistical stage ended."""

    step: Step
    """The unknowns and how likely they are."""
    vertices_m: Float[np.ndarray, "V 3"]
    sigma_m: float
    """Noise of a point along the normal, estimated."""
    misfit_m: float
    """What the head can't follow, a standard deviation along the normal."""


def coarse(
    linear: Linear, match: Matcher, marks: Rows, weight: Float[np.ndarray, " V"], start: Float[np.ndarray, " D"]
) -> Float[np.ndarray, " D"]:
    """The unknowns by each vertex's nearest point, from up to centimetres and degrees away; `marks` are landmarks,
    whose `off_m` says where they should be, see `marks_at`."""
    point, own = start, np.arange(len(weight))[:, None]
    weight = weight * (np.arange(len(weight)) % _EVERY == 0)
    for number in range(COARSE):
        vertices, share = linear.vertices_m(point), number / (COARSE - 1)
        reach, trust = (low * (high / low) ** share for low, high in (_REACHES_M, _TRUST_M))
        pairs = match.of_vertices(vertices, reach)
        off = pairs.off_m(vertices)
        trust = max(trust, spread(off[pairs.accepted]))
        root = weight * pairs.accepted / trust / (1.0 + (off / (_OUTLYING * trust)) ** 2)
        rows = Rows(own, np.ones(own.shape), pairs.normal, off, root)
        point = linear.step(point, [rows, marks_at(marks, vertices, 1.0 / (1.0 + 3.0 * share))]).point
    return point


def fine(
    linear: Linear,
    match: Matcher,
    marks: Rows,
    weight: Float[np.ndarray, " V"],
    start: Float[np.ndarray, " D"],
    faces: Int[np.ndarray, "F 3"],
) -> Registered:
    """The unknowns by all points of the scan, together with what no head of the model follows: a smooth bending of the
    surface along its normals, as large and as long as makes the scan likeliest. So a misfit is taken for one, and draws
    no vertex along the surface. Where none makes it likeliest the head alone is fitted, triangle by triangle."""
    point, count, best = start, len(weight), None
    length, size, bent, own, left = 0.0, _FIRST_MISFIT_M, np.zeros(count), np.zeros((count, 0)), np.zeros(count)
    for number in range(_FINE):
        base = linear.vertices_m(point)
        surface = base + bent[:, None] * host_normals(base, faces)
        rows, marked = match.of_points(surface, REACH_M), marks_at(marks, base, 1.0)
        sigma = spread(rows.off_m[rows.root > 0])
        trust = sigma * (1.0 + (rows.off_m / (_OUTLYING * sigma)) ** 2)
        heard = np.bincount(rows.corners.ravel(), (rows.shares * rows.root[:, None]).ravel(), count)
        accepted = rows.root * weight[rows.corners].min(axis=1)
        if size < LEAST_M and number >= _FINE - _EXACT:
            step = linear.step(point, [rows._replace(root=accepted / trust), marked])
            point, bent = step.point, np.zeros(count)
            continue
        best = None
        look = number in _LENGTH_ROUNDS and size >= LEAST_M
        for reach in LENGTHS_M if look else (length,):
            if look:
                own, left = spread_fields(base, heard > 0, reach)
            # What the fields lack of the misfit is each vertex's own, and all of its points share it.
            beside = ((heard * left)[rows.corners] * rows.shares).sum(axis=1)
            root = accepted / trust / np.sqrt(1.0 + beside * (size / sigma) ** 2)
            bending = Bending(host_normals(surface, faces), own, bent)
            evidence = linear.evidence(point, rows._replace(root=root), marked, bending)
            found, likely = likeliest(evidence, size)
            likely += float(np.log(root[root > 0]).sum())
            if best is None or likely > best[0]:
                best = likely, found, reach, own, left, evidence
        assert best is not None
        _, size, length, own, left, evidence = best
        step, weights = evidence.likely(size)
        point, bent = step.point, own @ weights
        if size < LEAST_M:
            own, left = np.zeros((count, 0)), np.zeros(count)
    base = linear.vertices_m(point)
    return Registered(step, base + bent[:, None] * host_normals(base, faces), sigma, size if size >= LEAST_M else 0.0)


def spread(off_m: Float[np.ndarray, " n"]) -> float:
    """Standard deviation in metres, unmoved by outliers; large where there is nothing."""
    return max(1.4826 * float(np.median(np.abs(off_m))), _LEAST_SIGMA_M) if len(off_m) else _TRUST_M[0]


def marks_at(marks: Rows, vertices_m: Float[np.ndarray, "V 3"], factor: float) -> Rows:
    """Landmarks as evidence at these vertices, their precision's root times a factor."""
    now = ((vertices_m[marks.corners] * marks.shares[:, :, None]).sum(axis=1) * marks.direction).sum(axis=1)
    return marks._replace(off_m=marks.off_m - now, root=marks.root * factor)


def landmark_rows(head: HeadModel, places_m: Float[np.ndarray, "68 3"], sigma_m: Float[np.ndarray, "68"]) -> Rows:
    """Three rows for each of iBUG's points, NaN where not known; `off_m` is the coordinate itself."""
    points = head.landmarks68
    if points is None:
        return Rows(np.zeros((0, 3), int), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0), np.zeros(0))
    corner, share = np.asarray(points.corners), np.asarray(points.barycentric, np.float64)
    root = np.where(np.isfinite(places_m).all(axis=1), 1.0 / sigma_m, 0.0)
    return Rows(
        np.repeat(corner, 3, axis=0), np.repeat(share, 3, axis=0), np.tile(np.eye(3), (len(corner), 1)),
        np.nan_to_num(places_m).reshape(-1), np.repeat(root, 3),
    )  # fmt: skip

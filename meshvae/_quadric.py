"""Quadric decimation that keeps a subset of the vertices (Garland and Heckbert 1997, collapses on to an endpoint)."""

import heapq
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from trimesh.triangles import closest_point, points_to_barycentric

_BORDER_WEIGHT = 10.0
_CANDIDATES = 6


def quadric_levels(
    points: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], strides: Sequence[int]
) -> list[tuple[Int[np.ndarray, " C"], Int[np.ndarray, "G 3"]]]:
    """The vertices kept after each stride s, 1/s² as many as before, and the triangles between them.

    Triangles are numbered among the kept vertices. A mesh that cannot be decimated further without folding over or
    losing a component stays as it is.
    """
    mesh = _Decimation(points, faces)
    levels = []
    target = float(len(points))
    for stride in strides:
        target /= stride**2
        mesh.collapse_to(max(round(target), 1))
        kept = np.flatnonzero(mesh.alive)
        rank = np.full(len(points), -1)
        rank[kept] = np.arange(kept.size)
        levels.append((kept, rank[np.asarray(sorted(mesh.faces.values()), np.int64)]))
    return levels


def transfer_by_triangles(
    fine: Float[np.ndarray, "V 3"], coarse: Float[np.ndarray, "C 3"], triangles: Int[np.ndarray, "G 3"]
) -> tuple[Int[np.ndarray, "V 3"], Float[np.ndarray, "V 3"]]:
    """Corners and barycentric weights of the nearest of the triangles around each fine vertex's nearest coarse ones."""
    nearest = cKDTree(coarse).query(fine, k=min(_CANDIDATES, len(coarse)))[1].reshape(len(fine), -1)
    around: list[list[int]] = [[] for _ in range(len(coarse))]
    for k, triangle in enumerate(triangles):
        for corner in triangle:
            around[corner].append(k)
    candidates = [sorted({t for vertex in row for t in around[vertex]}) for row in nearest]
    vertex = np.repeat(np.arange(len(fine)), [len(c) for c in candidates])
    candidate = np.concatenate([np.asarray(c, np.int64) for c in candidates])
    corners = coarse[triangles[candidate]]
    foot = closest_point(corners, fine[vertex])
    distance = np.linalg.norm(foot - fine[vertex], axis=1)
    best = np.lexsort((candidate, distance, vertex))
    best = best[np.searchsorted(vertex[best], np.arange(len(fine)))]
    weights = np.clip(np.nan_to_num(points_to_barycentric(corners[best], foot[best])), 0.0, 1.0)
    weights[weights < 1e-9] = 0.0
    empty = weights.sum(1) <= 0  # a triangle without area has no barycentric weights
    weights[empty, 0] = 1.0
    return triangles[candidate[best]], weights / weights.sum(1, keepdims=True)


class _Decimation:
    """A triangle mesh that loses vertices one by one, the least missed first."""

    def __init__(self, points: np.ndarray, faces: np.ndarray) -> None:
        self.points = points
        self.alive = np.ones(len(points), bool)
        self.stamp = [0] * len(points)
        self.faces = {k: tuple(int(v) for v in face) for k, face in enumerate(faces) if len(set(face.tolist())) == 3}
        self.around: list[set[int]] = [set() for _ in range(len(points))]
        for k, face in self.faces.items():
            for vertex in face:
                self.around[vertex].add(k)
        self.quadrics = self._quadrics()
        self.heap: list[tuple[float, int, int, int, int]] = []
        for vertex in range(len(points)):
            self._push(vertex)

    def collapse_to(self, target: int) -> None:
        """Collapse until so many vertices are left, or none can go."""
        count = int(self.alive.sum())
        while count > target and self.heap:
            _, gone, kept, stamp_gone, stamp_kept = heapq.heappop(self.heap)
            current = self.stamp[gone] == stamp_gone and self.stamp[kept] == stamp_kept
            if current and self.alive[gone] and self.alive[kept] and self._allowed(gone, kept):
                self._collapse(gone, kept)
                count -= 1

    def _neighbours(self, vertex: int) -> set[int]:
        return {other for k in self.around[vertex] for other in self.faces[k]} - {vertex}

    def _quadrics(self) -> np.ndarray:
        """Squared distance to the planes around each vertex, and to upright planes along borders."""
        quadrics = np.zeros((len(self.points), 4, 4))
        edges: dict[tuple[int, int], list[int]] = {}
        for k, face in self.faces.items():
            normal = np.cross(*(self.points[list(face[1:])] - self.points[face[0]]))
            self._add_plane(quadrics, face, normal, face[0], 0.5 * float(np.linalg.norm(normal)))
            for edge in ((face[0], face[1]), (face[1], face[2]), (face[2], face[0])):
                edges.setdefault((min(edge), max(edge)), []).append(k)
        for edge, beside in edges.items():
            if len(beside) == 1:
                corners = self.points[list(self.faces[beside[0]])]
                along = self.points[edge[1]] - self.points[edge[0]]
                upright = np.cross(along, np.cross(corners[1] - corners[0], corners[2] - corners[0]))
                self._add_plane(quadrics, edge, upright, edge[0], _BORDER_WEIGHT * float(along @ along))
        return quadrics

    def _add_plane(
        self, quadrics: np.ndarray, vertices: Sequence[int], normal: np.ndarray, through: int, weight: float
    ) -> None:
        length = float(np.linalg.norm(normal))
        if length > 0.0:
            plane = np.append(normal, -normal @ self.points[through]) / length
            for vertex in vertices:
                quadrics[vertex] += weight * np.outer(plane, plane)

    def _push(self, vertex: int) -> None:
        for other in self._neighbours(vertex):
            quadric = self.quadrics[vertex] + self.quadrics[other]
            for gone, kept in ((vertex, other), (other, vertex)):
                place = np.append(self.points[kept], 1.0)
                cost = max(float(place @ quadric @ place), 0.0)
                # A little length breaks the ties of flat regions in favour of even triangles.
                cost += 1e-9 * float(np.sum((self.points[gone] - self.points[kept]) ** 2))
                heapq.heappush(self.heap, (cost, gone, kept, self.stamp[gone], self.stamp[kept]))

    def _allowed(self, gone: int, kept: int) -> bool:
        shared = self.around[gone] & self.around[kept]
        thirds = [next(v for v in self.faces[k] if v not in (gone, kept)) for k in shared]
        moved = self.around[gone] - shared
        if not shared or not (moved or self.around[kept] - shared):
            return False
        if self._neighbours(gone) & self._neighbours(kept) != set(thirds):
            return False
        if any(len(self.around[third]) == 1 for third in thirds):
            return False
        present = {frozenset(self.faces[k]) for k in self.around[kept]}
        for k in moved:
            face = self.faces[k]
            if frozenset(kept if v == gone else v for v in face) in present:
                return False
            before, after = (self._normal(face), self._normal(tuple(kept if v == gone else v for v in face)))
            if before @ after < 0.2 * np.linalg.norm(before) * np.linalg.norm(after):
                return False
        return True

    def _normal(self, face: tuple[int, ...]) -> np.ndarray:
        a, b, c = self.points[list(face)]
        return np.cross(b - a, c - a)

    def _collapse(self, gone: int, kept: int) -> None:
        for k in list(self.around[gone]):
            face = self.faces[k]
            self.around[gone].discard(k)
            if kept in face:
                for vertex in face:
                    self.around[vertex].discard(k)
                del self.faces[k]
            else:
                self.faces[k] = tuple(kept if v == gone else v for v in face)
                self.around[kept].add(k)
        self.alive[gone] = False
        self.quadrics[kept] += self.quadrics[gone]
        self.stamp[kept] += 1
        self._push(kept)

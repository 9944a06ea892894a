"""What is wrong with a surface by itself: triangles that cross, and a crease where the visible part ends."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int

from ..surface import edges

_PAIRS_AT_ONCE = 1 << 20
"""Bounds the memory of a mesh whose triangles all overlap."""


def self_intersections(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Bool[np.ndarray, " F"]:
    """Triangles that cross another one with which they share no vertex.

    Two triangles cross when an edge of one passes through the other from side to side, by signed volumes; touching and
    lying in one plane do not count. Candidates come from a sweep along the longest axis.
    """
    corners = np.asarray(vertices, np.float64)[faces]
    crossing = np.zeros(len(faces), bool)
    for first, second in _overlapping(corners.min(1), corners.max(1)):
        adjacent = (faces[first][:, :, None] == faces[second][:, None, :]).any((1, 2))
        first, second = first[~adjacent], second[~adjacent]
        hit = _cross(corners[first], corners[second])
        crossing[first[hit]] = crossing[second[hit]] = True
    return crossing


def _overlapping(low: np.ndarray, high: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of boxes that overlap, in blocks."""
    axis = int((high.max(0, initial=-np.inf) - low.min(0, initial=np.inf)).argmax())
    order = np.argsort(low[:, axis], kind="stable")
    low, high = low[order], high[order]
    # A box's partners are those that start before it ends, and after it in order.
    count = np.searchsorted(low[:, axis], high[:, axis], side="right") - 1 - np.arange(len(low))
    total = np.cumsum(count)
    start = 0
    while start < len(low):
        done = total[start - 1] if start else 0
        stop = max(int(np.searchsorted(total, done + _PAIRS_AT_ONCE, side="right")), start + 1)
        here = count[start:stop]
        first = np.repeat(np.arange(start, stop), here)
        second = first + 1 + np.arange(len(first)) - np.repeat(np.cumsum(here) - here, here)
        for other in {0, 1, 2} - {axis}:
            meet = (low[first, other] <= high[second, other]) & (low[second, other] <= high[first, other])
            first, second = first[meet], second[meet]
        yield order[first], order[second]
        start = stop


def _cross(first: Float[np.ndarray, "P 3 3"], second: Float[np.ndarray, "P 3 3"]) -> Bool[np.ndarray, " P"]:
    """Whether two triangles cross, pair by pair."""
    hit = np.zeros(len(first), bool)
    # Most neighbours lie wholly on one side of each other's plane.
    left = np.flatnonzero(_straddles(first, second) & _straddles(second, first))
    for one, other in ((first[left], second[left]), (second[left], first[left])):
        for edge in range(3):
            hit[left] |= _pierces(one[:, edge], one[:, (edge + 1) % 3], other)
    return hit


def _straddles(one: np.ndarray, plane: np.ndarray) -> np.ndarray:
    a, b, c = (plane[:, i] for i in range(3))
    side = ((one - a[:, None]) * np.cross(b - a, c - a)[:, None]).sum(2)
    return (side.min(1) < 0) & (side.max(1) > 0)


def _pierces(start: np.ndarray, end: np.ndarray, triangle: np.ndarray) -> np.ndarray:
    """Whether segments pass from one side of triangles to the other."""
    a, b, c = (triangle[:, i] for i in range(3))
    along = end - start
    size = np.abs(triangle - a[:, None]).max((1, 2)) + np.abs(along).max(1)
    nothing = 1e-12 * size**3  # what rounding leaves of a volume that is zero
    normal = np.cross(b - a, c - a)
    above, below = ((point - a) * normal for point in (start, end))
    through = above.sum(1) * below.sum(1) < -(nothing**2)
    turns = np.stack([(np.cross(p - start, q - start) * along).sum(1) for p, q in ((a, b), (b, c), (c, a))])
    # Through a side or a corner counts: symmetric heads cross themselves exactly there.
    return through & ((turns >= -nothing).all(0) | (turns <= nothing).all(0))


def seam_error(
    vertices: Float[np.ndarray, "N V 3"],
    reference: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    visible: Bool[np.ndarray, " V"],
) -> float:
    """Crease at the border of the visible part, in degrees: mean over border edges and samples of |Δ dihedral angle|.

    A dihedral angle is that between the normals of an edge's two triangles, signed (convex and concave differ); Δ is
    against a reference without a seam: the truth, or the fit. Border edges are those of the strip of triangles whose
    corners differ in visibility, not just the edges that lead across: where the hidden part is shifted as a whole, the
    strip tilts evenly and the creases run along its two sides. NaN where nothing, or everything, is visible.
    """
    ends, sides = _inner_edges(faces)
    seen = visible[faces]
    strip = seen.any(1) & ~seen.all(1)
    border = strip[sides].any(1)
    if not border.any():
        return float("nan")
    ends, sides = ends[border], sides[border]
    expected = _dihedral(reference, faces, ends, sides)
    change = np.stack([_dihedral(sample, faces, ends, sides) - expected for sample in vertices])
    return float(np.degrees(np.abs((change + np.pi) % (2 * np.pi) - np.pi)).mean())


def _inner_edges(faces: np.ndarray) -> tuple[Int[np.ndarray, "E 2"], Int[np.ndarray, "E 2"]]:
    """Ends, and the two triangles, of every edge that has two."""
    ends, edge, times = edges(faces)
    side, inner = np.argsort(edge, kind="stable"), times == 2
    first = (np.cumsum(times) - times)[inner]
    return ends[inner], np.sort(np.stack([side[first], side[first + 1]], axis=1) % len(faces), axis=1)


def _dihedral(vertices: np.ndarray, faces: np.ndarray, ends: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Signed angle in radians between the normals on an edge's two sides; 0 beside a triangle without area."""
    points = np.asarray(vertices, np.float64)
    a, b, c = (points[faces[:, i]] for i in range(3))
    normals = np.cross(b - a, c - a)
    first, second = normals[sides[:, 0]], normals[sides[:, 1]]
    edge = points[ends[:, 1]] - points[ends[:, 0]]
    length = np.linalg.norm(edge, axis=1)
    across = (np.cross(first, second) * edge).sum(1) / np.where(length > 0, length, 1.0)
    return np.arctan2(across, (first * second).sum(1))

"""Head, neck and eyeballs cut out of MakeHuman's whole body, as triangles in FLAME's frame."""

from typing import NamedTuple

import numpy as np

from ...surface import boundary_loops
from ._source import Source

METRES_PER_DECIMETRE = 0.1

# Faces of the body above this slanted plane (decimetres) are kept: y + slope · z > height.
# It follows the rows of the neck, lower at the throat than at the nape.
_CUT_HEIGHT_DM, _CUT_SLOPE = 5.7, 0.2
_HALF_WIDTH_DM = 2.0  # keeps the raised arms of other poses out, should the base ever change

# Where the middle of the eyeballs lies in FLAME's frame (metres), so that both heads share one origin.
EYES_CENTRE_M = np.array([0.0, 0.0229, 0.0249])


class HeadMesh(NamedTuple):
    """The cut-out: which of the base vertices are used, and how they are joined."""

    source_index: np.ndarray  # int64 [V, 4], base vertices whose mean each vertex is (mostly four times one)
    faces: np.ndarray  # int32 [F, 3], counter-clockwise seen from outside
    vertices_dm: np.ndarray  # float64 [V, 3], the base shape in the source's frame
    left_eye: np.ndarray  # int64 [n], vertices of the person's left eyeball (x > 0)
    right_eye: np.ndarray  # int64 [n]
    mirror: np.ndarray  # int64 [V], the vertex mirrored in x = 0
    boundary: np.ndarray  # int64 [n], vertices of the neck cut

    def cut(self, table: np.ndarray) -> np.ndarray:
        """Values on the base mesh [n, …] brought to the vertices of the head [V, …]."""
        return table[self.source_index].mean(axis=1)


def cut_head(source: Source) -> HeadMesh:
    """Cut the head out of the base mesh and triangulate it, mirror-symmetrically."""
    vertices, groups = source.base_mesh()
    body = groups["body"]
    x, y, z = np.moveaxis(vertices[body], -1, 0)
    kept = (y + _CUT_SLOPE * z > _CUT_HEIGHT_DM) & (np.abs(x) < _HALF_WIDTH_DM)
    left, right = groups["helper-l-eye"], groups["helper-r-eye"]
    skin = _smooth_edge(body[kept.all(axis=1)])
    index = np.unique(skin)
    lookup = np.full(len(vertices), -1)
    lookup[index] = np.arange(len(index))
    parents, quads = [np.repeat(index[:, None], 4, axis=1)], [lookup[skin]]
    for eye in (left, right):
        means, fine = _subdivide(eye)
        quads.append(fine + sum(map(len, parents)))
        parents.append(means)
    source_index = np.concatenate(parents)
    shape = vertices[source_index].mean(axis=1)
    left_eye, right_eye = np.split(np.arange(len(index), len(shape)), [len(parents[1])])
    for eye in (left_eye, right_eye):
        shape[eye] = _onto_sphere(shape[eye])
    faces = _triangulate(np.concatenate(quads), shape)
    (neck,) = boundary_loops(faces)
    return HeadMesh(
        source_index=source_index,
        faces=faces,
        vertices_dm=shape,
        left_eye=left_eye,
        right_eye=right_eye,
        mirror=_mirror(shape),
        boundary=np.sort(neck),
    )


def _smooth_edge(quads: np.ndarray) -> np.ndarray:
    """Take away quads that stick out of the cut with two edges or more, until it follows one row."""
    while True:
        edges = np.sort(np.stack([quads, np.roll(quads, -1, axis=1)], axis=-1), axis=-1).reshape(-1, 2)
        _, inverse, uses = np.unique(edges, axis=0, return_inverse=True, return_counts=True)
        open_edges = (uses[inverse.reshape(-1)] == 1).reshape(-1, 4).sum(axis=1)
        if open_edges.max() < 2:
            return quads
        quads = quads[open_edges < 2]


def _subdivide(quads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each quad in four: the parents [n, 4] whose mean each new vertex is, and the finer quads.

    The source's eyeballs are too coarse for an iris.
    """
    corners = np.stack([quads] * 4, axis=-1)  # a vertex is the mean of itself
    following = np.roll(quads, -1, axis=1)
    edges = np.sort(np.stack([quads, quads, following, following], axis=-1), axis=-1)
    centres = np.repeat(np.sort(quads, axis=1)[:, None, :], 4, axis=1)
    parents = np.stack([corners, edges, centres, np.roll(edges, 1, axis=1)], axis=2)  # [quads, 4 corners, 4, 4]
    unique, index = np.unique(parents.reshape(-1, 4), axis=0, return_inverse=True)
    return unique, index.reshape(-1, 4)


def _onto_sphere(points: np.ndarray) -> np.ndarray:
    centre = (points.max(axis=0) + points.min(axis=0)) / 2
    radius = np.linalg.norm(points - centre, axis=1, keepdims=True)
    return centre + (points - centre) / radius * radius.max()


def _triangulate(quads: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """Split each quad along its shorter diagonal; ties are broken alike on both sides."""
    corners = vertices[quads]
    first = np.linalg.norm(corners[:, 0] - corners[:, 2], axis=1).round(6)
    second = np.linalg.norm(corners[:, 1] - corners[:, 3], axis=1).round(6)
    key = np.abs(corners).round(6) @ np.array([1.0, 31.0, 977.0])
    tie = key[:, [0, 2]].min(axis=1) < key[:, [1, 3]].min(axis=1)
    use_first = (first < second) | ((first == second) & tie)
    split = np.where(use_first[:, None], [[0, 1, 2, 0, 2, 3]], [[1, 2, 3, 1, 3, 0]])
    return np.take_along_axis(quads, split, axis=1).reshape(-1, 3).astype(np.int32)


def _mirror(vertices: np.ndarray) -> np.ndarray:
    from scipy.spatial import cKDTree

    distance, index = cKDTree(vertices).query(vertices * [-1.0, 1.0, 1.0])
    assert distance.max() < 2e-3, "the base mesh is symmetric"
    assert np.array_equal(index[index], np.arange(len(index)))
    return index

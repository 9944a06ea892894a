"""A scan as oriented points: merged, thinned, their normals found where the file has none."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree
from scipy.spatial import cKDTree

_NEIGHBOURS = 12
"""Points that a normal is found from."""

_STRAY = 5.0
"""Points whose neighbours are so many times farther than usual are none of a surface."""


class Cloud(NamedTuple):
    """Points of a surface."""

    points: Float[np.ndarray, "P 3"]
    normals: Float[np.ndarray, "P 3"]
    """Outward unit normals; all of them may have the wrong sign where nothing tells the outside."""
    colours: UInt8[np.ndarray, "P 3"] | None
    """sRGB, where the scan has colours."""

    def moved(self, turn: np.ndarray, shift: np.ndarray, scale: float = 1.0) -> "Cloud":
        """The cloud after x ↦ scale · turn · x + shift."""
        return Cloud(scale * self.points @ turn.T + shift, self.normals @ turn.T, self.colours)

    def chosen(self, keep: np.ndarray) -> "Cloud":
        """Some of its points."""
        return Cloud(self.points[keep], self.normals[keep], None if self.colours is None else self.colours[keep])


def thinned(cloud: Cloud, voxel: float) -> Cloud:
    """One point a voxel, the mean of those in it, which is also less noisy than they are."""
    cell = np.floor((cloud.points - cloud.points.min(axis=0)) / voxel).astype(np.int64)
    # Opposite surfaces that share a voxel are no one surface: the normal's main direction keeps them apart.
    axis = np.abs(cloud.normals).argmax(axis=1)
    side = 2 * axis + (np.take_along_axis(cloud.normals, axis[:, None], axis=1)[:, 0] > 0)
    span = cell.max(axis=0) + 1
    code = ((cell[:, 0] * span[1] + cell[:, 1]) * span[2] + cell[:, 2]) * 6 + side
    _, group, count = np.unique(code, return_inverse=True, return_counts=True)

    def mean(values: np.ndarray) -> np.ndarray:
        total = [np.bincount(group, column, len(count)) for column in values.T]
        return np.stack(total, axis=1) / count[:, None]

    normal = mean(cloud.normals)
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    colours = None if cloud.colours is None else np.round(mean(cloud.colours.astype(float))).astype(np.uint8)
    return Cloud(mean(cloud.points), normal / length.clip(1e-12), colours)


def cloud_of_points(points: Float[np.ndarray, "P 3"], colours: UInt8[np.ndarray, "P 3"] | None = None) -> Cloud:
    """Points without triangles: normals from the plane of each one's neighbours, turned alike from point to point.

    The sign of each connected piece is such that most of it faces away from the cloud's middle.
    """
    count = min(_NEIGHBOURS, len(points))
    distance = cKDTree(points).query(points, count, workers=-1)[0][:, -1]
    close = distance <= _STRAY * np.median(distance)
    points, colours = points[close], None if colours is None else colours[close]
    index = cKDTree(points).query(points, count, workers=-1)[1]
    near = points[index]
    near = near - near.mean(axis=1, keepdims=True)
    normal = np.linalg.eigh(np.einsum("pka,pkb->pab", near, near))[1][:, :, 0]
    normal = normal * _signs(normal, index)[:, None]
    outwards = np.einsum("pa,pa->p", normal, points - points.mean(axis=0))
    return Cloud(points, normal * (1.0 if outwards.sum() >= 0 else -1.0), colours)


def pieces_of(distance: Float[np.ndarray, "P k"], index: Int[np.ndarray, "P k"], reach: float) -> Int[np.ndarray, " P"]:
    """Number of the connected piece that each point belongs to, linked to its neighbours (a query's) within `reach`."""
    near = distance < reach
    row = np.broadcast_to(np.arange(len(index))[:, None], index.shape)
    graph = coo_matrix((np.ones(near.sum()), (row[near], index[near])), (len(index), len(index)))
    return connected_components(graph, directed=False)[1]


def _signs(normal: np.ndarray, index: Int[np.ndarray, "P k"]) -> np.ndarray:
    """±1 a point, so that neighbours agree: along the tree that turns the least (Hoppe et al. 1992)."""
    count = len(normal)
    row, column = np.repeat(np.arange(count), index.shape[1] - 1), index[:, 1:].ravel()
    alike = np.einsum("ea,ea->e", normal[row], normal[column])
    graph = coo_matrix((1.0 + 1e-6 - np.abs(alike), (row, column)), shape=(count, count)).tocsr()
    tree = minimum_spanning_tree(graph.maximum(graph.T))
    pieces, label = connected_components(tree, directed=False)
    sign = np.ones(count)
    for piece in range(pieces):
        start = int(np.flatnonzero(label == piece)[0]) if pieces < 64 else -1
        if start < 0:
            break
        order, before = breadth_first_order(tree, start, directed=False)
        turn = np.einsum("ea,ea->e", normal[order[1:]], normal[before[order[1:]]]) < 0
        for place, flip in zip(order[1:], turn, strict=True):
            sign[place] = -sign[before[place]] if flip else sign[before[place]]
    return sign

"""The mesh as a graph: edges, boundary, connected pieces, rings of neighbours, points that lie far apart."""

import numpy as np
import scipy.sparse as sparse
from jaxtyping import Bool, Float, Int
from scipy.sparse.csgraph import connected_components


def sides(faces: Int[np.ndarray, "F 3"]) -> Int[np.ndarray, "3*F 2"]:
    """Ends of the triangles' sides as they go round: all first sides, all second, all third."""
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def neighbours(faces: Int[np.ndarray, "F 3"]) -> tuple[Int[np.ndarray, " E"], Int[np.ndarray, " E"]]:
    """Ends of every side of every triangle, each side once a direction."""
    start, end = sides(faces).T
    return np.concatenate([start, end]), np.concatenate([end, start])


def uniform_laplacian(faces: Int[np.ndarray, "F 3"], count: int) -> sparse.csr_matrix:
    """Mean of the neighbours less the vertex itself, as a sparse matrix."""
    row, column = neighbours(faces)
    adjacency = sparse.csr_matrix((np.ones(row.size), (row, column)), shape=(count, count))
    adjacency.data[:] = 1.0
    degree = np.asarray(adjacency.sum(1)).ravel()
    mean = sparse.diags(1.0 / np.maximum(degree, 1.0)) @ adjacency
    return sparse.csr_matrix(mean - sparse.diags((degree > 0).astype(float)))


def edges(
    faces: Int[np.ndarray, "F 3"],
) -> tuple[Int[np.ndarray, "E 2"], Int[np.ndarray, " 3*F"], Int[np.ndarray, " E"]]:
    """Edges (the lesser end first, in order), which of them each of the `sides` is, and how many sides each is."""
    ends = np.sort(sides(faces).astype(np.int64), axis=1)
    code, edge, times = np.unique(ends[:, 0] << 32 | ends[:, 1], return_inverse=True, return_counts=True)
    return np.stack([code >> 32, code & 0xFFFFFFFF], axis=1), edge, times


def boundary(faces: Int[np.ndarray, "F 3"]) -> Int[np.ndarray, "B 2"]:
    """The sides that no other triangle shares."""
    _, edge, times = edges(faces)
    return sides(faces)[times[edge] == 1]


def boundary_loops(faces: Int[np.ndarray, "F 3"]) -> list[Int[np.ndarray, " r"]]:
    """Openings: closed paths along the boundary, with the surface on their left."""
    following: dict[int, int] = dict(boundary(faces).tolist())
    loops = []
    while following:
        first, at = next(iter(following.items()))
        loop = [first]
        del following[first]
        while at != first and at in following:
            loop.append(at)
            at = following.pop(at)
        if len(loop) > 2:
            loops.append(np.array(loop))
    return loops


def pieces(faces: Int[np.ndarray, "F 3"], count: int) -> Int[np.ndarray, " V"]:
    """Number of the connected piece that each vertex belongs to, the largest being 0."""
    row, column = neighbours(faces)
    graph = sparse.coo_matrix((np.ones(len(row)), (row, column)), shape=(count, count))
    label = connected_components(graph, directed=False)[1]
    order = np.argsort(-np.bincount(label), kind="stable")
    rank = np.empty(len(order), int)
    rank[order] = np.arange(len(order))
    return rank[label]


def grown(flags: Bool[np.ndarray, " V"], faces: Int[np.ndarray, "F 3"], rings: int) -> Bool[np.ndarray, " V"]:
    """The vertices within so many edges of the flagged ones."""
    for _ in range(rings):
        touched = flags[faces].any(axis=1)
        flags = flags.copy()
        flags[faces[touched]] = True
    return flags


def farthest_points(points: Float[np.ndarray, "n d"], count: int) -> Int[np.ndarray, " k"]:
    """Indices of `count` points, the first being 0 and each other the farthest from those before it (Gonzalez 1985)."""
    chosen = [0]
    away = ((points - points[0]) ** 2).sum(1)
    while len(chosen) < min(count, len(points)):
        chosen.append(int(away.argmax()))
        away = np.minimum(away, ((points - points[chosen[-1]]) ** 2).sum(1))
    return np.array(chosen)

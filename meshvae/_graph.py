"""The mesh as a graph: spatial order, rings, sampled centres, bridges between components, spirals."""

from collections import deque

import numpy as np
import scipy.sparse as sparse
from jaxtyping import Bool, Float, Int
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

_BITS = 16


def spatial_order(points: Float[np.ndarray, "V 3"]) -> Int[np.ndarray, " V"]:
    """Indices of the points along a Hilbert curve (Skilling 2004), so that neighbours in the order are near in space.

    Points in the same cell of the curve follow by coordinates; the order of the rows matters only where points
    coincide.
    """
    low, extent = points.min(0), float(np.ptp(points, axis=0).max())
    cells = np.floor((points - low) / max(extent, 1e-30) * (2**_BITS - 1)).astype(np.int64)
    axes = [cells[:, 0].copy(), cells[:, 1].copy(), cells[:, 2].copy()]
    bit = 1 << (_BITS - 1)
    while bit > 1:
        low_bits = bit - 1
        for axis in axes:
            high = (axis & bit) != 0
            swap = (axes[0] ^ axis) & low_bits
            first = np.where(high, axes[0] ^ low_bits, axes[0] ^ swap)
            if axis is axes[0]:
                axes[0][:] = np.where(high, axes[0] ^ low_bits, axes[0])
            else:
                axis[:] = np.where(high, axis, axis ^ swap)
                axes[0][:] = first
        bit >>= 1
    axes[1] ^= axes[0]
    axes[2] ^= axes[1]
    flip = np.zeros_like(axes[0])
    bit = 1 << (_BITS - 1)
    while bit > 1:
        flip ^= np.where((axes[2] & bit) != 0, bit - 1, 0)
        bit >>= 1
    code = np.zeros_like(flip)
    for level in range(_BITS - 1, -1, -1):
        for axis in axes:
            code = (code << 1) | (((axis ^ flip) >> level) & 1)
    return np.lexsort((points[:, 2], points[:, 1], points[:, 0], code))


def adjacency(faces: Int[np.ndarray, "F 3"], count: int) -> sparse.csr_array:
    """Symmetric boolean adjacency without the diagonal; an edge of any number of triangles is one edge."""
    row = np.concatenate([faces[:, [0, 1, 2]].ravel(), faces[:, [1, 2, 0]].ravel()])
    column = np.concatenate([faces[:, [1, 2, 0]].ravel(), faces[:, [0, 1, 2]].ravel()])
    return pattern(row[row != column], column[row != column], count)


def pattern(row: Int[np.ndarray, " E"], column: Int[np.ndarray, " E"], count: int) -> sparse.csr_array:
    """A boolean sparse matrix with sorted rows."""
    matrix = sparse.csr_array((np.ones(row.size, bool), (row, column)), shape=(count, count))
    matrix.sum_duplicates()
    matrix.sort_indices()
    return matrix


def within_rings(graph: sparse.csr_array, rings: int) -> sparse.csr_array:
    """Which vertices lie within so many rings of each vertex, itself included."""
    step = sparse.csr_array(graph + sparse.eye_array(graph.shape[0], dtype=bool, format="csr"))
    reach = sparse.csr_array(sparse.eye_array(graph.shape[0], dtype=bool, format="csr"))
    for _ in range(rings):
        reach = sparse.csr_array(reach @ step)
    reach.sort_indices()
    return reach


def sample_centres(graph: sparse.csr_array, stride: int) -> Int[np.ndarray, " C"]:
    """Centres by breadth-first graph sampling (Zhou et al. 2020).

    A vertex becomes a centre unless one lies within stride - 1 rings. The search starts at the first vertex of every
    connected component, so that each keeps at least one centre.
    """
    near = within_rings(graph, stride - 1)
    covered = np.zeros(graph.shape[0], bool)
    queued = np.zeros(graph.shape[0], bool)
    centres = []
    for seed in range(graph.shape[0]):
        if queued[seed]:
            continue
        queue = deque([seed])
        queued[seed] = True
        while queue:
            vertex = queue.popleft()
            if not covered[vertex]:
                centres.append(vertex)
                covered[near.indices[near.indptr[vertex] : near.indptr[vertex + 1]]] = True
            for other in graph.indices[graph.indptr[vertex] : graph.indptr[vertex + 1]]:
                if not queued[other]:
                    queued[other] = True
                    queue.append(other)
    return np.sort(np.asarray(centres, np.int64))


def centre_graph(graph: sparse.csr_array, centres: Int[np.ndarray, " C"], stride: int) -> sparse.csr_array:
    """Centres are joined when they lie within 2·stride - 1 rings of each other."""
    joined = sparse.csr_array(within_rings(graph, 2 * stride - 1)[centres][:, centres])
    coordinates = joined.tocoo()
    apart = coordinates.row != coordinates.col
    return pattern(coordinates.row[apart], coordinates.col[apart], len(centres))


def bridged(graph: sparse.csr_array, points: Float[np.ndarray, "V 3"]) -> sparse.csr_array:
    """The graph with its components joined, so that an eyeball and its lids can exchange information.

    Every vertex of every component but the largest is paired with the nearest vertex outside its component; of the
    pairs that share an outside vertex the closest is kept, lest that vertex become the hub of half an eyeball.
    """
    count, label = connected_components(graph, directed=False)
    largest = int(np.argmax(np.bincount(label)))
    row, column = graph.tocoo().coords
    for component in range(count):
        if component == largest:
            continue
        inside, outside = np.flatnonzero(label == component), np.flatnonzero(label != component)
        distance, nearest = cKDTree(points[outside]).query(points[inside])
        closest_first = np.lexsort((inside, distance))
        nearest, first = np.unique(outside[nearest][closest_first], return_index=True)
        inside = inside[closest_first][first]
        row, column = np.concatenate([row, inside, nearest]), np.concatenate([column, nearest, inside])
    return pattern(row, column, graph.shape[0])


def vertex_normals(points: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Float[np.ndarray, "V 3"]:
    """Area-weighted unit normals; the direction from the centroid where triangles give none."""
    corners = points[faces]
    area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal = np.zeros_like(points)
    for corner in range(3):
        np.add.at(normal, faces[:, corner], area)
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    fallback = points - points.mean(0) + np.array([0.0, 0.0, 1e-12])
    normal = np.where(length > 1e-20, normal, fallback)
    return normal / np.linalg.norm(normal, axis=1, keepdims=True)


def spirals(
    graph: sparse.csr_array, points: Float[np.ndarray, "V 3"], normals: Float[np.ndarray, "V 3"], length: int
) -> Int[np.ndarray, "V L"]:
    """The first `length` vertices around each vertex: itself, then ring by ring, each ring by angle about the normal.

    On a triangle mesh that is the spiral of Gong et al. 2019, started in the direction nearest to the y axis; on a
    sampled graph, which has no triangles, it still is defined. A component too small to fill it repeats the vertex.
    """
    up = np.where(np.abs(normals[:, 1:2]) < 0.9, np.array([[0.0, 1.0, 0.0]]), np.array([[0.0, 0.0, 1.0]]))
    across = np.cross(normals, up)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    ahead = np.cross(across, normals)
    result = np.repeat(np.arange(graph.shape[0])[:, None], length, axis=1)
    for vertex in range(graph.shape[0]):
        ordered, seen, ring = [vertex], {vertex}, [vertex]
        while ring and len(ordered) < length:
            following = {int(n) for v in ring for n in graph.indices[graph.indptr[v] : graph.indptr[v + 1]]} - seen
            seen |= following
            ring = sorted(following)
            offset = points[ring] - points[vertex]
            angle = np.arctan2(offset @ across[vertex], offset @ ahead[vertex])
            ring = [ring[k] for k in np.argsort(angle, kind="stable")]
            ordered += ring
        ordered = ordered[:length]
        result[vertex, : len(ordered)] = ordered
    return result


def isolated(graph: sparse.csr_array) -> Bool[np.ndarray, " V"]:
    """Vertices that no triangle touches."""
    return np.diff(graph.indptr) == 0

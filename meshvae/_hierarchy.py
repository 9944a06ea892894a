"""Pooling levels of a fixed mesh topology: built once from a template, stored beside the weights."""

import hashlib
from collections.abc import Mapping, Sequence

import equinox as eqx
import numpy as np
import scipy.sparse as sparse
from jaxtyping import Float, Int, Integer

from . import _graph as graphs
from ._errors import InputError
from ._quadric import quadric_levels, transfer_by_triangles

MAX_VERTICES = 200_000
"""Meshes larger than this are refused."""
MAX_RINGS = 8
"""Strides larger than this are refused: a neighbourhood would span most of any mesh."""
SPIRAL_LENGTH = 36
"""Vertices stored around each vertex: enough for spirals of nine with dilation up to four."""


class Edges(eqx.Module):
    """Which inputs each output sees; sorted by output, then input."""

    rows: Int[np.ndarray, " E"]
    """Output of each edge."""
    columns: Int[np.ndarray, " E"]
    """Input of each edge."""


class Level(eqx.Module):
    """One resolution of the mesh, its vertices in spatial order."""

    vertices: Int[np.ndarray, " V"]
    """External (the caller's) index of each vertex."""
    ring: Edges
    """Every vertex and the vertices joined to it."""
    spiral: Int[np.ndarray, "V S"]
    """The vertices around each vertex, ring by ring and by angle, itself first."""


class Transition(eqx.Module):
    """From one level to the next coarser one."""

    centres: Int[np.ndarray, " C"]
    """Which vertices of the finer level the coarser one keeps."""
    pool: Edges
    """Fine vertices (columns) within so many rings of each centre (rows) as the stride says."""
    transfer: Int[np.ndarray, "V 3"]
    """Three coarse vertices that carry each fine vertex."""
    transfer_weights: Float[np.ndarray, "V 3"]
    """Their weights; rows sum to one."""


class Hierarchy(eqx.Module):
    """Levels from the whole mesh to a handful of vertices, finest first."""

    levels: tuple[Level, ...]
    """The resolutions; one more than there are transitions."""
    transitions: tuple[Transition, ...]
    """One for each stride above 1."""
    strides: tuple[int, ...] = eqx.field(static=True)
    """The strides it was built for; a stride of 1 stays on its level."""
    fingerprint: str = eqx.field(static=True)
    """What `topology_fingerprint` gives for the mesh."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Vertices of each level."""
        return tuple(level.vertices.size for level in self.levels)


def topology_fingerprint(faces: Integer[np.ndarray, "F 3"], n_vertices: int) -> str:
    """SHA-256 of the number of vertices and the set of edges; the order of the triangles does not matter."""
    edges = graphs.adjacency(np.asarray(faces, np.int64), n_vertices).tocoo()
    digest = hashlib.sha256(f"{n_vertices}:".encode())
    digest.update(np.stack(edges.coords).astype("<i4").tobytes())
    return digest.hexdigest()


def build_hierarchy(
    vertices_m: Float[np.ndarray, "V 3"],
    faces: Integer[np.ndarray, "F 3"],
    *,
    method: str = "sampling",
    strides: Sequence[int] = (2, 1, 2, 1, 2, 1, 2),
) -> Hierarchy:
    """Levels of a triangle mesh by graph sampling (Zhou et al. 2020) or by quadric decimation (a quarter at stride 2).

    Edges of more than two triangles are edges like any other, and every connected component keeps a centre at every
    level. From the second level on components are joined to their nearest neighbours, so that information passes
    between them. Raises `InputError` for a mesh that has no faces, vertices without a face or values that are not
    finite.
    """
    strides = _checked_strides(strides)
    if method not in ("sampling", "quadric"):
        raise InputError(f"There is no hierarchy method '{method}'; use 'sampling' or 'quadric'.")
    points, triangles = _checked_mesh(vertices_m, faces)
    fingerprint = topology_fingerprint(triangles, len(points))
    order = graphs.spatial_order(points)
    rank = np.argsort(order)
    points, triangles = points[order], rank[triangles]
    normals = graphs.vertex_normals(points, triangles)
    own = graphs.adjacency(triangles, len(points))
    joined = own
    downs = [stride for stride in strides if stride > 1]
    decimated = iter(quadric_levels(points, triangles, downs) if method == "quadric" else ())
    vertices = np.arange(len(points))
    levels, transitions = [_level(joined, order, points, normals)], []
    for stride in downs:
        reach = graphs.within_rings(joined, stride)
        if method == "sampling":
            centres = graphs.sample_centres(own, stride)
            pool = reach[centres]
            own = graphs.centre_graph(own, centres, stride)
            transfer, weights = _transfer_by_distance(pool, points, points[centres])
        else:
            kept, coarse_triangles = next(decimated)
            centres = np.searchsorted(vertices, kept)
            transfer, weights = transfer_by_triangles(points, points[centres], coarse_triangles)
            # Decimation spreads its vertices unevenly: what lies beyond the radius is seen by those that carry it.
            carried = sparse.coo_array(
                (weights.ravel() > 0, (transfer.ravel(), np.repeat(np.arange(len(points)), 3))),
                shape=(len(centres), len(points)),
            )
            pool = sparse.csr_array(reach[centres] + carried.tocsr())
            own = graphs.adjacency(coarse_triangles, len(centres))
        transitions.append(Transition(_i32(centres), _edges(pool), _i32(transfer), np.asarray(weights, np.float32)))
        vertices, points, normals = vertices[centres], points[centres], normals[centres]
        joined = graphs.bridged(own, points)
        levels.append(_level(joined, order[vertices], points, normals))
    return Hierarchy(tuple(levels), tuple(transitions), strides, fingerprint)


def _level(graph: sparse.csr_array, external: np.ndarray, points: np.ndarray, normals: np.ndarray) -> Level:
    spiral = graphs.spirals(graph, points, normals, SPIRAL_LENGTH)
    return Level(_i32(external), _edges(graphs.within_rings(graph, 1)), _i32(spiral))


def _edges(matrix: sparse.csr_array) -> Edges:
    matrix.eliminate_zeros()
    matrix.sort_indices()
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    return Edges(_i32(rows), _i32(matrix.indices))


def _i32(array: np.ndarray) -> Int[np.ndarray, "..."]:
    return np.ascontiguousarray(array, np.int32)


def _transfer_by_distance(
    pool: sparse.csr_array, fine: np.ndarray, coarse: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The three nearest of the centres that pool each fine vertex, weighted by inverse distance."""
    covering = sparse.csr_array(pool.T)
    transfer = np.zeros((len(fine), 3), np.int64)
    weights = np.zeros((len(fine), 3))
    for vertex in range(len(fine)):
        centres = np.sort(covering.indices[covering.indptr[vertex] : covering.indptr[vertex + 1]])
        distance = np.linalg.norm(coarse[centres] - fine[vertex], axis=1)
        nearest = np.argsort(distance, kind="stable")[:3]
        if distance[nearest[0]] <= 1e-9 * (1.0 + distance[nearest[-1]]):
            nearest = nearest[:1]
        inverse = 1.0 / np.maximum(distance[nearest], 1e-30)
        transfer[vertex] = centres[nearest[0]]
        transfer[vertex, : nearest.size] = centres[nearest]
        weights[vertex, : nearest.size] = inverse / inverse.sum()
    return transfer, weights


def _checked_strides(strides: Sequence[int]) -> tuple[int, ...]:
    result = tuple(int(stride) for stride in strides)
    if not result or any(not 1 <= stride <= MAX_RINGS for stride in result):
        raise InputError(f"The strides {result} cannot be used; give one or more numbers from 1 to {MAX_RINGS}.")
    return result


def _checked_mesh(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    points, triangles = np.asarray(vertices, np.float64), np.asarray(faces)
    for array, wanted in ((points, "[vertices, 3]"), (triangles, "[faces, 3]")):
        if array.ndim != 2 or array.shape[1] != 3:
            raise InputError(f"The mesh has an array of shape {array.shape} where {wanted} is needed.")
    if not np.issubdtype(triangles.dtype, np.integer):
        raise InputError(f"The faces have type {triangles.dtype}; integer vertex indices are needed.")
    triangles = triangles.astype(np.int64)
    if len(triangles) == 0:
        raise InputError("The mesh has no faces; a point cloud cannot be used.")
    if len(points) > MAX_VERTICES:
        raise InputError(f"The mesh has {len(points)} vertices; meshes above {MAX_VERTICES} are refused.")
    bad = np.flatnonzero(~np.isfinite(points).all(1))
    if bad.size:
        raise InputError(f"Vertex {bad[0]} of the mesh is not finite ({bad.size} such vertices).")
    if triangles.min() < 0 or triangles.max() >= len(points):
        raise InputError(
            f"The faces name vertices from {triangles.min()} to {triangles.max()}, but the mesh has {len(points)}."
        )
    alone = np.flatnonzero(graphs.isolated(graphs.adjacency(triangles, len(points))))
    if alone.size:
        raise InputError(
            f"Vertex {alone[0]} belongs to no face ({alone.size} such vertices); remove them from the mesh."
        )
    return points, triangles


def hierarchy_arrays(hierarchy: Hierarchy) -> dict[str, np.ndarray]:
    """The hierarchy as named arrays, for a safetensors file."""
    arrays: dict[str, np.ndarray] = {
        "strides": np.asarray(hierarchy.strides, np.int32),
        "fingerprint": np.frombuffer(bytes.fromhex(hierarchy.fingerprint), np.uint8).copy(),
    }
    for k, level in enumerate(hierarchy.levels):
        arrays |= {
            f"level{k}/vertices": level.vertices,
            f"level{k}/ring_rows": level.ring.rows,
            f"level{k}/ring_columns": level.ring.columns,
            f"level{k}/spiral": level.spiral,
        }
    for k, transition in enumerate(hierarchy.transitions):
        arrays |= {
            f"transition{k}/centres": transition.centres,
            f"transition{k}/pool_rows": transition.pool.rows,
            f"transition{k}/pool_columns": transition.pool.columns,
            f"transition{k}/transfer": transition.transfer,
            f"transition{k}/transfer_weights": transition.transfer_weights,
        }
    return arrays


def hierarchy_from_arrays(arrays: Mapping[str, np.ndarray], *, n_vertices: int) -> Hierarchy:
    """The hierarchy that `hierarchy_arrays` took apart, for a mesh of `n_vertices`.

    Raises `InputError` that names the array which is missing or does not fit.
    """
    strides = _checked_strides(_array(arrays, "strides", 1, np.integer).tolist())
    fingerprint = _array(arrays, "fingerprint", 1, np.uint8)
    if fingerprint.size != 32:
        raise InputError(f"Array 'fingerprint' has {fingerprint.size} bytes; 32 are needed.")
    downs = sum(stride > 1 for stride in strides)
    levels, transitions = [], []
    size = n_vertices
    for k in range(downs + 1):
        vertices = _indices(arrays, f"level{k}/vertices", (size,), n_vertices)
        ring = _edges_from(arrays, f"level{k}/ring", size, size)
        spiral = _indices(arrays, f"level{k}/spiral", (size, SPIRAL_LENGTH), size)
        if np.unique(vertices).size != size:
            raise InputError(f"Array 'level{k}/vertices' names a vertex twice.")
        levels.append(Level(vertices, ring, spiral))
        if k == downs:
            break
        centres = _array(arrays, f"transition{k}/centres", 1, np.integer)
        coarse = centres.size
        pool = _edges_from(arrays, f"transition{k}/pool", coarse, size)
        if np.unique(pool.columns).size != size:
            raise InputError(f"Array 'transition{k}/pool_columns' leaves vertices out.")
        weights = _array(arrays, f"transition{k}/transfer_weights", 2, np.floating)
        if (
            weights.shape != (size, 3)
            or not np.isfinite(weights).all()
            or not np.allclose(weights.sum(1), 1, atol=1e-3)
        ):
            raise InputError(f"Array 'transition{k}/transfer_weights' must hold {size} rows of 3 that sum to 1.")
        transitions.append(
            Transition(
                _indices(arrays, f"transition{k}/centres", (coarse,), size),
                pool,
                _indices(arrays, f"transition{k}/transfer", (size, 3), coarse),
                weights.astype(np.float32),
            )
        )
        size = coarse
    return Hierarchy(tuple(levels), tuple(transitions), strides, fingerprint.tobytes().hex())


def _array(arrays: Mapping[str, np.ndarray], name: str, ndim: int, kind: type) -> np.ndarray:
    if name not in arrays:
        raise InputError(f"Array '{name}' is missing from the hierarchy.")
    array = np.asarray(arrays[name])
    if array.ndim != ndim or array.size == 0 or not np.issubdtype(array.dtype, kind):
        raise InputError(f"Array '{name}' of the hierarchy has shape {array.shape} and type {array.dtype}.")
    return array


def _indices(arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...], bound: int) -> np.ndarray:
    array = _array(arrays, name, len(shape), np.integer)
    if array.shape != shape:
        raise InputError(f"Array '{name}' of the hierarchy has shape {array.shape}; {shape} is needed.")
    if array.min() < 0 or array.max() >= bound:
        raise InputError(f"Array '{name}' of the hierarchy must hold indices from 0 to {bound - 1}.")
    return _i32(array)


def _edges_from(arrays: Mapping[str, np.ndarray], name: str, n_rows: int, n_columns: int) -> Edges:
    count = _array(arrays, f"{name}_rows", 1, np.integer).shape
    rows = _indices(arrays, f"{name}_rows", count, n_rows)
    columns = _indices(arrays, f"{name}_columns", count, n_columns)
    key = rows.astype(np.int64) * n_columns + columns
    if np.any(np.diff(key) <= 0) or np.unique(rows).size != n_rows:
        raise InputError(f"Arrays '{name}_rows' and '{name}_columns' must be sorted edges that reach every row.")
    return Edges(rows, columns)

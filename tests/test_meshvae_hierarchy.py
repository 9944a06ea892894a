"""Pooling levels: the laws of graph sampling, decimation, spirals and the file form."""

from pathlib import Path

import numpy as np
import pytest
import trimesh
from safetensors import safe_open
from scipy.sparse.csgraph import connected_components, shortest_path

import diverse3d
import meshvae
from meshvae import InputError, build_hierarchy, hierarchy_arrays, hierarchy_from_arrays, topology_fingerprint
from meshvae import _graph as graphs
from meshvae._hierarchy import _checked_mesh
from meshvae._quadric import quadric_levels, transfer_by_triangles

STRIDES = (2, 1, 2)


def two_spheres():
    """A sphere of 162 vertices and, beside it, one of 42: two components."""
    large, small = trimesh.creation.icosphere(2), trimesh.creation.icosphere(1, radius=0.3)
    points = np.concatenate([large.vertices, small.vertices + np.array([1.5, 0.2, 0.1])])
    return points, np.concatenate([large.faces, small.faces + len(large.vertices)]).astype(np.int64)


def head_mesh():
    """Template and faces of the embedded head; the rest of it is not needed here."""
    with safe_open(Path(diverse3d.__file__).parent / "assets" / "head.safetensors", "numpy") as file:
        return file.get_tensor("template").astype(np.float64), file.get_tensor("faces").astype(np.int64)


def test_the_spatial_order_depends_on_places_not_on_rows(rng):
    points = rng.normal(size=(500, 3))
    order = graphs.spatial_order(points)
    shuffle = rng.permutation(500)
    assert sorted(order) == list(range(500))
    np.testing.assert_array_equal(points[order], points[shuffle][graphs.spatial_order(points[shuffle])])


def test_neighbours_in_the_spatial_order_are_near(rng):
    points = rng.random((4096, 3))
    steps = np.linalg.norm(np.diff(points[graphs.spatial_order(points)], axis=0), axis=1)
    assert np.mean(steps) < 1.3 * 4096 ** (-1 / 3)  # a random order gives ten times as much


def test_the_curve_visits_neighbouring_cells():
    grid = np.stack(np.meshgrid(*[np.arange(8.0)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    steps = np.abs(np.diff(grid[graphs.spatial_order(grid)], axis=0)).sum(1)
    np.testing.assert_array_equal(steps, 1.0)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_centres_are_apart_and_cover_everything(stride):
    points, faces = two_spheres()
    graph = graphs.adjacency(faces, len(points))
    centres = graphs.sample_centres(graph, stride)
    rings = shortest_path(graph.astype(float), unweighted=True)
    between = rings[np.ix_(centres, centres)] + np.diag(np.full(len(centres), np.inf))
    assert between.min() >= stride
    assert rings[:, centres].min(1).max() <= stride - 1
    label = connected_components(graph)[1]
    assert set(label[centres]) == {0, 1}
    joined = graphs.centre_graph(graph, centres, stride)
    np.testing.assert_array_equal(joined.toarray(), (between <= 2 * stride - 1))
    assert connected_components(joined)[0] == 2


def test_a_pool_sees_all_vertices_within_the_radius():
    points, faces = two_spheres()
    hierarchy = build_hierarchy(points, faces, strides=(2, 3))
    external = hierarchy.levels[0].vertices
    rings = shortest_path(graphs.adjacency(faces, len(points)).astype(float), unweighted=True)[
        np.ix_(external, external)
    ]
    pool = hierarchy.transitions[0].pool
    seen = np.zeros((hierarchy.sizes[1], hierarchy.sizes[0]), bool)
    seen[pool.rows, pool.columns] = True
    np.testing.assert_array_equal(seen, rings[hierarchy.transitions[0].centres] <= 2)


def test_components_survive_and_meet_from_the_second_level_on():
    points, faces = two_spheres()
    hierarchy = build_hierarchy(points, faces, strides=(2, 2, 2))
    for k, level in enumerate(hierarchy.levels):
        small = level.vertices >= 162
        assert small.any() and not small.all()
        crossing = small[level.ring.rows] != small[level.ring.columns]
        assert crossing.any() == (k > 0)


def test_a_bridge_makes_no_hub():
    near = np.stack([np.linspace(0, 1, 50), np.zeros(50), np.zeros(50)], axis=1)
    points = np.concatenate([near, near + np.array([3.0, 0.0, 0.0])])  # everything's nearest is one end of the other
    row = np.concatenate([np.arange(49), 50 + np.arange(49)])
    graph = graphs.pattern(np.concatenate([row, row + 1]), np.concatenate([row + 1, row]), 100)
    joined = graphs.bridged(graph, points)
    assert connected_components(joined)[0] == 1
    assert np.diff(joined.indptr).max() <= 3
    assert joined[49, 50]


@pytest.mark.parametrize("method", ["sampling", "quadric"])
def test_relabelled_vertices_give_the_same_levels(method, rng):
    points, faces = two_spheres()
    points = points + rng.normal(scale=1e-3, size=points.shape)  # a sphere's ties would be broken by the labels
    new = rng.permutation(len(points))  # the new label of each vertex
    shuffled = np.empty_like(points)
    shuffled[new] = points
    before = hierarchy_arrays(build_hierarchy(points, faces, strides=STRIDES, method=method))
    after = hierarchy_arrays(build_hierarchy(shuffled, rng.permutation(new[faces]), strides=STRIDES, method=method))
    for name, array in before.items():
        if name == "fingerprint":
            assert (array != after[name]).any()
        elif name.endswith("/vertices"):
            np.testing.assert_array_equal(new[array], after[name])
        else:
            np.testing.assert_allclose(array, after[name], atol=1e-6)


def test_the_embedded_head_has_these_sizes():
    vertices, faces = head_mesh()
    hierarchy = build_hierarchy(vertices, faces)
    assert hierarchy.sizes == (4890, 1366, 279, 46, 8)
    label = connected_components(graphs.adjacency(faces, len(vertices)))[1]
    for level in hierarchy.levels:
        assert set(label[level.vertices]) == {0, 1, 2}  # the skin and two eyeballs
    small = build_hierarchy(vertices, faces, strides=meshvae.PRESETS["small"].strides)
    assert small.sizes == (4890, 585, 111, 16)
    again = hierarchy_arrays(build_hierarchy(vertices, faces, strides=meshvae.PRESETS["small"].strides))
    assert all(np.array_equal(array, again[name]) for name, array in hierarchy_arrays(small).items())


def test_flame_comes_near_the_published_sizes(shared):
    flame = np.load(shared / "flame" / "flame2023_60.npz")
    hierarchy = build_hierarchy(flame["v_template"].astype(np.float64), flame["faces"].astype(np.int64))
    assert hierarchy.sizes == (5023, 1419, 272, 42, 8)  # Dey and Boddeti 2022: 5023, 1367, 270, 45, 10
    widest = [int(np.bincount(transition.pool.rows).max()) for transition in hierarchy.transitions]
    assert widest == [42, 64, 91, 38]  # Dey and Boddeti 2022: 43, 54, 81, 37


def test_a_spiral_starts_at_the_vertex_and_walks_round_its_ring():
    sphere = trimesh.creation.icosphere(2)
    hierarchy = build_hierarchy(sphere.vertices.copy(), sphere.faces.astype(np.int64), strides=(1, 2))
    level = hierarchy.levels[0]
    graph = graphs.adjacency(np.argsort(level.vertices)[sphere.faces], 162)
    for vertex in range(162):
        ring = level.spiral[vertex, 1 : 1 + graph[[vertex]].sum()]
        assert level.spiral[vertex, 0] == vertex
        assert all(graph[int(a), int(b)] for a, b in zip(ring, np.roll(ring, 1), strict=True))
        assert np.unique(level.spiral[vertex]).size == level.spiral.shape[1]


def test_a_small_component_fills_its_spiral_with_itself():
    tetrahedron = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])
    hierarchy = build_hierarchy(np.eye(4, 3), tetrahedron, strides=(1, 2))
    spiral = hierarchy.levels[0].spiral
    assert sorted(spiral[2, :4]) == [0, 1, 2, 3] and (spiral[2, 4:] == 2).all()


def test_decimation_keeps_a_quarter_and_every_component():
    points, faces = two_spheres()
    hierarchy = build_hierarchy(points, faces, strides=(2, 2), method="quadric")
    assert hierarchy.sizes[1] == round(204 / 4)
    for level in hierarchy.levels:
        assert (level.vertices < 162).any() and (level.vertices >= 162).any()
    (_, coarse), *_ = quadric_levels(points, faces, (2,))
    edges = np.sort(np.concatenate([coarse[:, [0, 1]], coarse[:, [1, 2]], coarse[:, [2, 0]]]), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()  # still closed


def test_decimation_stops_at_a_tetrahedron():
    faces = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])
    kept, coarse = quadric_levels(np.eye(4, 3), faces, (4,))[0]
    assert kept.tolist() == [0, 1, 2, 3] and len(coarse) == 4


def test_decimation_takes_from_the_flat_and_keeps_the_corners():
    x, y = (a.ravel() for a in np.meshgrid(np.arange(9.0), np.arange(9.0)))
    points = np.stack([x, y, np.zeros(81)], axis=1)
    low = (np.arange(8)[:, None] * 9 + np.arange(8)[None, :]).ravel()
    faces = np.concatenate([np.stack([low, low + 1, low + 10], 1), np.stack([low, low + 10, low + 9], 1)])
    kept, coarse = quadric_levels(points, faces, (3,))[0]
    assert {0, 8, 72, 80} <= set(kept.tolist())
    transfer, weights = transfer_by_triangles(points, points[kept], coarse)
    np.testing.assert_allclose(weights.sum(1), 1.0)
    np.testing.assert_allclose(np.einsum("vk,vkd->vd", weights, points[kept][transfer]), points, atol=1e-9)


@pytest.mark.parametrize("method", ["sampling", "quadric"])
def test_transfer_gives_back_what_was_kept(method):
    points, faces = two_spheres()
    hierarchy = build_hierarchy(points, faces, strides=(2, 2), method=method)
    for transition in hierarchy.transitions:
        carried = transition.transfer_weights[transition.centres]
        np.testing.assert_allclose(carried.max(1), 1.0, atol=1e-5)
        own = np.take_along_axis(transition.transfer[transition.centres], carried.argmax(1)[:, None], axis=1)[:, 0]
        np.testing.assert_array_equal(own, np.arange(transition.centres.size))


def test_a_non_manifold_edge_is_an_edge_like_any_other():
    points, faces = two_spheres()
    points = np.concatenate([points, [[0.0, 0.0, 1.5]]])
    fin = np.array([[faces[0, 0], faces[0, 1], len(points) - 1]])  # a third triangle on an edge
    for method in ("sampling", "quadric"):
        hierarchy = build_hierarchy(points, np.concatenate([faces, fin]), strides=(2, 2), method=method)
        assert hierarchy.sizes[0] == 205


def test_the_fingerprint_is_of_the_edges(rng):
    _, faces = two_spheres()
    fingerprint = topology_fingerprint(faces, 204)
    assert topology_fingerprint(np.roll(rng.permutation(faces), 1, axis=1).astype(np.int32), 204) == fingerprint
    assert topology_fingerprint(faces[(faces != 3).all(1)], 204) != fingerprint
    assert topology_fingerprint(faces, 205) != fingerprint


@pytest.mark.parametrize("method", ["sampling", "quadric"])
def test_arrays_give_the_hierarchy_back(method):
    points, faces = two_spheres()
    hierarchy = build_hierarchy(points, faces, strides=STRIDES, method=method)
    arrays = hierarchy_arrays(hierarchy)
    back = hierarchy_from_arrays(arrays, n_vertices=204)
    assert (back.strides, back.fingerprint, back.sizes) == (hierarchy.strides, hierarchy.fingerprint, hierarchy.sizes)
    assert back.fingerprint == topology_fingerprint(faces, 204)
    for name, array in hierarchy_arrays(back).items():
        np.testing.assert_array_equal(array, arrays[name])


def _without(name):
    return lambda arrays: arrays.pop(name)


def _set(name, index, value):
    def damage(arrays):
        arrays[name] = arrays[name].copy()
        arrays[name][index] = value

    return damage


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_without("strides"), "'strides' is missing"),
        (_without("transition1/pool_rows"), "'transition1/pool_rows' is missing"),
        (_set("strides", 0, 200), "numbers from 1 to 8"),
        (_set("level0/vertices", 0, 1), "names a vertex twice"),
        (_set("level1/spiral", (0, 0), 10_000), "indices from 0 to"),
        (_set("level1/ring_columns", 0, -1), "indices from 0 to"),
        (_set("transition0/pool_rows", 0, 5), "sorted edges"),
        (_set("transition0/transfer_weights", (0, 0), np.nan), "sum to 1"),
        (lambda a: a.update({"level0/spiral": a["level0/spiral"][:, :5]}), r"has shape \(204, 5\)"),
        (lambda a: a.update(fingerprint=a["fingerprint"][:7]), "32 are needed"),
        (lambda a: a.update({"level0/ring_rows": a["level0/ring_rows"].astype(np.float32)}), "type float32"),
    ],
)
def test_damaged_arrays_are_refused(damage, said):
    points, faces = two_spheres()
    arrays = hierarchy_arrays(build_hierarchy(points, faces, strides=STRIDES))
    damage(arrays)
    with pytest.raises(InputError, match=said):
        hierarchy_from_arrays(arrays, n_vertices=204)


def test_arrays_of_another_mesh_are_refused():
    points, faces = two_spheres()
    arrays = hierarchy_arrays(build_hierarchy(points, faces, strides=STRIDES))
    with pytest.raises(InputError, match="shape"):
        hierarchy_from_arrays(arrays, n_vertices=203)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p, f: (p, f[:0]), "no faces"),
        (lambda p, f: (np.concatenate([p, p[:1]]), f), "Vertex 204 belongs to no face"),
        (lambda p, f: (p[:-1], f), "the mesh has 203"),
        (lambda p, f: (np.where(np.arange(204)[:, None] == 7, np.nan, p), f), "Vertex 7 of the mesh is not finite"),
        (lambda p, f: (np.zeros((200_001, 3)), f), "above 200000"),
    ],
)
def test_a_bad_mesh_is_one_sentence(change, said):
    with pytest.raises(InputError, match=said):
        build_hierarchy(*change(*two_spheres()))


def test_a_mesh_of_the_wrong_kind_is_one_sentence():
    """Past the machine-checked shapes of the tests, as a user without them meets it."""
    points, faces = two_spheres()
    for vertices, triangles, said in (
        (points[:, :2], faces, r"shape \(204, 2\) where \[vertices, 3\]"),
        (points, faces[:, [0, 1, 2, 2]], r"\[faces, 3\] is needed"),
        (points, faces.astype(float), "type float64; integer"),
    ):
        with pytest.raises(InputError, match=said):
            _checked_mesh(vertices, triangles)


def test_bad_options_are_one_sentence():
    points, faces = two_spheres()
    with pytest.raises(InputError, match="'sampling' or 'quadric'"):
        build_hierarchy(points, faces, method="voxels")
    for strides in ((), (0, 2), (2, 9)):
        with pytest.raises(InputError, match="numbers from 1 to 8"):
            build_hierarchy(points, faces, strides=strides)

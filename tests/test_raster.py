"""Depth order and coverage against brute force; visibility against geometry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trimesh
from helpers import as_float32, check_derivatives, ellipsoid, rotation_about

from diverse3d.surface import facing_camera, interpolate, rasterise, reweighed, vertex_normals
from diverse3d.surface._raster import MOST_PAIRS, _nearest


def brute_force(points, nearness, faces, height, width):
    """Every pixel against every triangle, in double precision: face ids, nearness, and distance from an edge."""
    best = np.full((height, width), -np.inf)
    face = np.full((height, width), -1)
    margin = np.full((height, width), np.inf)
    for index, corners in enumerate(points[faces]):
        low = np.clip(np.floor(corners.min(0)).astype(int) - 1, 0, [width, height])
        high = np.clip(np.ceil(corners.max(0)).astype(int) + 1, 0, [width, height])
        x, y = np.meshgrid(np.arange(low[0], high[0]) + 0.5, np.arange(low[1], high[1]) + 0.5)
        (ax, ay), (bx, by), (cx, cy) = corners
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0 or x.size == 0:
            continue
        u = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area
        v = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area
        weights = np.stack([u, v, 1 - u - v], -1)
        edge = weights.min(-1)
        near = weights @ nearness[faces[index]]
        window = np.s_[low[1] : high[1], low[0] : high[0]]
        win = (edge >= 0) & (near > best[window])
        best[window] = np.where(win, near, best[window])
        face[window] = np.where(win, index, face[window])
        margin[window] = np.minimum(margin[window], np.abs(edge))
    return face, best, margin


def assert_agrees(points, nearness, faces, size, dtype=np.float64, tolerance=1e-9):
    got = rasterise(
        jnp.asarray(points, dtype), jnp.asarray(nearness, dtype), jnp.asarray(faces, jnp.int32), height=size, width=size
    )
    face, best, margin = brute_force(points.astype(dtype), nearness.astype(dtype), faces, size, size)
    assert got.nearness.dtype == got.barycentric.dtype == dtype
    both = (np.asarray(got.face) >= 0) & (face >= 0)
    same = np.asarray(got.face) == face
    equal_depth = both & (np.abs(np.where(both, got.nearness, 0) - np.where(both, best, 0)) <= tolerance)
    clear = margin > 1e-4
    assert clear.mean() > 0.9
    assert (same | equal_depth)[clear].mean() >= 0.999
    hit = np.asarray(got.face) >= 0
    weights = np.asarray(got.barycentric)
    np.testing.assert_allclose(weights[hit].sum(1), 1, atol=1e-5)
    np.testing.assert_array_equal(weights[~hit], 0)
    assert (np.asarray(got.nearness)[~hit] == -np.inf).all()
    # The weights put the pixel's centre back where it is.
    centres = (points[faces[np.asarray(got.face)[hit]]] * weights[hit][:, :, None]).sum(1)
    rows, columns = np.nonzero(hit)
    slack = 1e-8 if dtype == np.float64 else 0.05
    np.testing.assert_allclose(centres, np.stack([columns, rows], 1) + 0.5, atol=slack)
    return got


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_crossing_triangles_of_every_size(rng, dtype):
    centres, sizes = rng.uniform(-5, 101, (150, 1, 2)), 10 ** rng.uniform(-0.5, 2.0, (150, 1, 1))
    points = (centres + sizes * rng.normal(size=(150, 3, 2))).reshape(-1, 2)
    assert_agrees(points, rng.normal(size=450), np.arange(450).reshape(150, 3), 96, dtype, 1e-4)


def test_a_non_convex_solid():
    torus = trimesh.creation.torus(1.0, 0.4, major_sections=40, minor_sections=20)
    vertices = torus.vertices @ rotation_about([1, 0.3, 0.2], 1.1).T
    assert_agrees(vertices[:, :2] * [30, -30] + 48, vertices[:, 2], np.asarray(torus.faces), 96)


@pytest.mark.parametrize("yaw", [0, 35, 90, -140])
def test_a_head_from_several_sides(flame_head, yaw):
    vertices = np.asarray(flame_head.template_m) @ rotation_about([0.1, 1, 0], np.radians(yaw)).T
    low, high = vertices[:, :2].min(0), vertices[:, :2].max(0)
    points = (vertices[:, :2] - (low + high) / 2) * [1, -1] * 120 / (high - low).max() + 64
    assert_agrees(points, vertices[:, 2], np.asarray(flame_head.faces), 128, np.float32, 1e-5)


@pytest.mark.parametrize("reach", [40.0, 3000.0, 50_000.0])
def test_large_triangles_have_no_holes(reach):
    points = jnp.asarray([[-reach, -reach], [3 * reach, -reach], [-reach, 3 * reach]])
    got = rasterise(points, jnp.zeros(3), jnp.asarray([[0, 1, 2]], jnp.int32), height=60, width=37)
    assert got.face.shape == (60, 37)
    inside = np.add.outer(np.arange(60) + 0.5, np.arange(37) + 0.5) <= 2 * reach
    np.testing.assert_array_equal(np.asarray(got.face) == 0, inside)


def test_neighbours_leave_no_cracks(rng):
    grid = np.stack(np.meshgrid(np.arange(9.0), np.arange(9.0)), -1).reshape(-1, 2)
    inner = (grid > 0).all(1) & (grid < 8).all(1)
    grid[inner] += rng.uniform(-0.3, 0.3, (inner.sum(), 2))
    corner = (np.arange(8)[:, None] * 9 + np.arange(8)[None]).ravel()
    faces = np.concatenate(
        [np.stack([corner, corner + 1, corner + 10], 1), np.stack([corner, corner + 10, corner + 9], 1)]
    )
    for dtype in (jnp.float32, jnp.float64):
        points = jnp.asarray(grid * 8.0, dtype)
        got = rasterise(points, jnp.zeros(81, dtype), jnp.asarray(faces, jnp.int32), height=64, width=64)
        assert (got.face >= 0).all()


def test_nothing_is_drawn_outside_or_edge_on():
    outside = jnp.asarray([[-30.0, 5], [-3, 5], [-10, 20], [70, 70], [90, 70], [70, 99], [2, 2], [9, 9], [30, 30]])
    faces = jnp.asarray([[0, 1, 2], [3, 4, 5], [6, 7, 8]], jnp.int32)
    got = rasterise(outside, jnp.zeros(9), faces, height=40, width=40)
    assert (got.face == -1).all() and (got.nearness == -jnp.inf).all() and (got.barycentric == 0).all()


def test_result_does_not_depend_on_the_order_of_triangles(rng):
    points, nearness = rng.uniform(0, 48, (60, 2)), rng.normal(size=60)
    faces = np.arange(60).reshape(20, 3)
    order = rng.permutation(20)
    draw = lambda f: rasterise(  # noqa: E731
        jnp.asarray(points), jnp.asarray(nearness), jnp.asarray(f, jnp.int32), height=48, width=48
    )
    first, second = draw(faces), draw(faces[order])
    np.testing.assert_array_equal(first.nearness, second.nearness)
    np.testing.assert_array_equal(first.face, np.append(order, -1)[np.asarray(second.face)])


def test_triangles_that_cannot_be_counted_together_are_drawn_in_groups(rng):
    points, nearness = jnp.asarray(rng.uniform(0, 48, (60, 2))), jnp.asarray(rng.normal(size=60))
    faces = jnp.asarray(rng.integers(0, 60, (40, 3)), jnp.int32)
    together, in_groups, alone = (
        _nearest(points, nearness, faces, 48, 48, most) for most in (MOST_PAIRS, 7 * 48**2, 1)
    )
    assert len(np.unique(together)) > 10
    np.testing.assert_array_equal(together, in_groups)
    np.testing.assert_array_equal(together, alone)


def sphere(radius=0.1, rows=40):
    vertices, faces = ellipsoid(rows, rows)
    return radius * vertices, faces.astype(np.int32)


def test_normals_of_a_sphere_and_of_a_loose_vertex():
    vertices, faces = sphere()
    with_loose = np.concatenate([vertices, [[1.0, 2.0, 3.0]]])
    normals = vertex_normals(jnp.asarray(with_loose), jnp.asarray(faces))
    np.testing.assert_allclose(normals[:-1], vertices / 0.1, atol=0.02)
    np.testing.assert_array_equal(normals[-1], 0)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_the_front_half_of_a_sphere_faces_the_camera(dtype):
    vertices, faces = sphere()
    seen = facing_camera(jnp.asarray(vertices, dtype), jnp.asarray(faces))
    depth = vertices[:, 2] / 0.1
    assert seen.dtype == bool
    assert seen[depth > 0.05].all() and not seen[depth < -0.05].any()


def test_a_plate_in_front_hides_what_is_behind_it():
    vertices, faces = sphere()
    plate = np.array([[-0.04, -0.04, 0.15], [0.04, -0.04, 0.15], [0.04, 0.04, 0.15], [-0.04, 0.04, 0.15]])
    count = len(vertices)
    both = np.concatenate([vertices, plate])
    together = np.concatenate([faces, count + np.array([[0, 1, 2], [0, 2, 3]])]).astype(np.int32)
    seen = facing_camera(jnp.asarray(both), jnp.asarray(together))
    reach = np.abs(vertices[:, :2]).max(1)
    front = vertices[:, 2] > 0.01
    assert seen[count:].all()
    assert not seen[:count][front & (reach < 0.039)].any()
    assert seen[:count][front & (reach > 0.041)].all()


def test_what_is_seen_does_not_depend_on_where_the_head_stands(tiny_head):
    vertices = tiny_head.template_m
    seen = facing_camera(vertices, tiny_head.faces)
    moved = facing_camera(vertices + jnp.asarray([[0.25, -0.5, 2.0]]), tiny_head.faces)
    np.testing.assert_array_equal(seen, moved)


def test_eyeballs_follow_the_same_rule(flame_head):
    seen = facing_camera(as_float32(flame_head).template_m, flame_head.faces)
    vertices = np.asarray(flame_head.template_m)
    for name in ("left_eyeball", "right_eyeball"):
        ball = np.asarray(flame_head.regions[name])
        middle = (vertices[ball, 2].min() + vertices[ball, 2].max()) / 2
        front, back = ball[vertices[ball, 2] > middle], ball[vertices[ball, 2] < middle - 1e-3]
        assert 0.1 < seen[front].mean() < 0.95  # between the lids: partly
        assert not seen[back].any()  # in the skull: never
    for name, part in {"nose": 0.6, "forehead": 0.8}.items():
        assert seen[np.asarray(flame_head.regions[name])].mean() > part


@pytest.fixture
def turned_torus():
    torus = trimesh.creation.torus(1.0, 0.4, major_sections=16, minor_sections=10)
    vertices = torus.vertices @ rotation_about([1, 0.3, 0.2], 1.1).T
    return jnp.asarray(vertices[:, :2] * [10, -10] + 16), jnp.asarray(vertices[:, 2]), jnp.asarray(torus.faces)


def test_any_attribute_is_interpolated(turned_torus):
    points, nearness, faces = turned_torus
    seen = rasterise(points, nearness, faces, height=32, width=32)
    inside = np.asarray(seen.face) >= 0
    values = jnp.concatenate([points, nearness[:, None], jnp.ones((len(points), 1))], axis=1)
    got = np.asarray(interpolate(seen, values, faces))
    rows, columns = np.nonzero(inside)
    np.testing.assert_allclose(got[inside][:, :2], np.stack([columns, rows], 1) + 0.5, atol=1e-9)
    np.testing.assert_allclose(got[inside][:, 2], np.asarray(seen.nearness)[inside], atol=1e-12)
    np.testing.assert_allclose(got[..., 3], inside, atol=1e-12)


def test_weights_follow_moved_points_and_have_derivatives(turned_torus, rng):
    points, nearness, faces = turned_torus
    seen = rasterise(points, nearness, faces, height=32, width=32)
    same = reweighed(seen, points, nearness, faces)
    np.testing.assert_allclose(same.barycentric, seen.barycentric, atol=1e-12)
    np.testing.assert_allclose(same.nearness, seen.nearness, atol=1e-12)
    weight, colours = jnp.asarray(rng.normal(size=(32, 32, 3))), jnp.asarray(rng.uniform(size=(len(points), 3)))
    inside = seen.face >= 0

    def drawn(points, nearness, colours):
        again = reweighed(seen, points, nearness, faces)
        depth = jnp.where(inside, again.nearness, jnp.zeros_like(again.nearness))
        return jnp.sum(weight * interpolate(again, colours, faces)) + jnp.sum(weight[..., 0] * depth)

    check_derivatives(drawn, points, nearness, colours, tolerance=1e-5)


def test_a_compiled_function_draws_and_derives_several_at_once(turned_torus, rng):
    points, nearness, faces = turned_torus
    several = points[None] + jnp.asarray(rng.normal(size=(3, 1, 2)))
    weight = jnp.asarray(rng.normal(size=(32, 32, 3)))

    def draw(points):
        drawn = rasterise(points, nearness, faces, height=32, width=32)
        return jnp.sum(weight * drawn.barycentric), drawn

    # Which triangle is seen carries no derivatives: they are those of the weights in triangles seen before.
    slopes, drawn = jax.jit(jax.vmap(jax.grad(draw, has_aux=True)))(several)
    for i, at in enumerate(several):
        seen = rasterise(at, nearness, faces, height=32, width=32)
        np.testing.assert_array_equal(drawn.face[i], seen.face)
        np.testing.assert_allclose(drawn.nearness[i], seen.nearness, atol=1e-12)
        slope = jax.grad(lambda at, seen: jnp.sum(weight * reweighed(seen, at, nearness, faces).barycentric))(at, seen)
        np.testing.assert_allclose(slopes[i], slope, atol=1e-9)


def test_colours_have_derivatives_through_light_and_normals(turned_torus, rng):
    from diverse3d.surface import shade

    points, nearness, faces = turned_torus
    seen = rasterise(points, nearness, faces, height=32, width=32)
    vertices = jnp.concatenate([points / 10, nearness[:, None]], axis=1)
    albedo, light = jnp.asarray(rng.uniform(0.2, 0.8, (len(points), 3))), jnp.asarray(rng.normal(size=(9, 3)))

    def picture(vertices, albedo, light):
        return interpolate(seen, shade(albedo, vertex_normals(vertices, faces), light), faces)

    check_derivatives(picture, vertices, albedo, light, tolerance=1e-5)

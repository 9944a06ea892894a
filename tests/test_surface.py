"""The mesh as a graph, and curves: small shapes whose answers are known."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import ellipsoid

from diverse3d.surface import (
    boundary,
    boundary_loops,
    catmull_rom,
    edges,
    farthest_points,
    grown,
    host_normals,
    pieces,
    vertex_normals,
)


@pytest.fixture
def strip():
    """Four triangles in a row over six vertices, and a triangle apart."""
    return np.array([[0, 1, 2], [2, 1, 3], [2, 3, 4], [4, 3, 5], [6, 7, 8]])


def test_every_edge_once_and_how_often_it_is_used(strip):
    ends, edge, times = edges(strip)
    assert ends.tolist() == sorted(
        map(list, {tuple(sorted((f[k], f[k - 1]))) for f in strip.tolist() for k in range(3)})
    )
    assert (times == 2).sum() == 3 and times.sum() == 15
    np.testing.assert_array_equal(ends[edge].reshape(3, 5, 2)[0], np.sort(strip[:, :2], axis=1))


def test_the_boundary_goes_round_each_piece(strip):
    loops = boundary_loops(strip)
    assert sorted(map(len, loops)) == [3, 6]
    assert {*boundary(strip).ravel()} == set(range(9))
    for loop in loops:
        sides = {tuple(side) for side in boundary(strip).tolist()}
        assert all((int(a), int(b)) in sides for a, b in zip(loop, np.roll(loop, -1), strict=True))
    assert boundary_loops(ellipsoid(8, 12)[1]) == []


def test_pieces_are_numbered_by_size(strip):
    assert pieces(strip, 10).tolist() == [0] * 6 + [1] * 3 + [2]


def test_growing_takes_whole_rings(strip):
    start = np.arange(9) == 0
    assert np.flatnonzero(grown(start, strip, 1)).tolist() == [0, 1, 2]
    assert np.flatnonzero(grown(start, strip, 2)).tolist() == [0, 1, 2, 3, 4]
    assert start.sum() == 1


def test_farthest_points_of_a_line():
    points = np.linspace(0.0, 1.0, 9)[:, None]
    assert farthest_points(points, 5).tolist() == [0, 8, 4, 2, 6]
    assert sorted(farthest_points(points, 20).tolist()) == list(range(9))


@pytest.mark.parametrize("closed", [False, True])
def test_a_curve_passes_through_its_corners(rng, closed):
    corners = rng.normal(size=(7, 2))
    curve = catmull_rom(corners, 7 * 4 if closed else 6 * 4 + 1, closed=closed)
    np.testing.assert_allclose(curve[::4], corners, atol=1e-12)


def test_a_curve_through_a_straight_line_is_straight():
    curve = catmull_rom(np.array([[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]]), 9)
    np.testing.assert_allclose(curve, np.linspace(0, 2, 9)[:, None] * [1.0, 2.0], atol=1e-12)


def test_normals_on_the_host_are_those_of_the_device(rng):
    vertices, faces = ellipsoid(12, 16)
    vertices = vertices + 0.05 * rng.normal(size=vertices.shape)
    vertices = np.concatenate([vertices, np.zeros((1, 3))])
    np.testing.assert_allclose(
        host_normals(vertices, faces), vertex_normals(jnp.asarray(vertices), jnp.asarray(faces)), atol=1e-12
    )

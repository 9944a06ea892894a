"""Crossing triangles, seams, plausibility, and the report of everything at once."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import ellipsoid, rotation_about

from diverse3d.head import HeadParameters
from diverse3d.metrics import (
    UNITS,
    apd,
    asd,
    coverage,
    plausibility,
    reading_of,
    report,
    ruler_of,
    seam_error,
    self_intersections,
    summary,
)


def crosses_by_solving(first, second):
    """Whether an edge of one triangle meets the inside of the other: by solving for where."""
    for one, other in ((first, second), (second, first)):
        for edge in range(3):
            start, end = one[edge], one[(edge + 1) % 3]
            matrix = np.stack([other[1] - other[0], other[2] - other[0], start - end], 1)
            u, v, t = np.linalg.solve(matrix, start - other[0])
            if u > 0 and v > 0 and u + v < 1 and 0 < t < 1:
                return True
    return False


@pytest.mark.parametrize("block", [1, 50, 1 << 20])
def test_crossing_triangles_are_those_found_by_trying_every_pair(block, rng, monkeypatch):
    monkeypatch.setattr("diverse3d.metrics._surface._PAIRS_AT_ONCE", block)
    corners = rng.normal(size=(40, 1, 3)) + 0.5 * rng.normal(size=(40, 3, 3))
    faces = np.arange(120).reshape(40, 3)
    expected = [any(crosses_by_solving(corners[i], corners[j]) for j in range(40) if j != i) for i in range(40)]
    assert 5 < sum(expected) < 38
    np.testing.assert_array_equal(self_intersections(corners.reshape(-1, 3), faces), expected)


def test_a_sound_surface_has_no_crossings_and_a_dented_one_has_them_where_it_is_dented():
    vertices, faces = ellipsoid(10, 12)
    assert not self_intersections(vertices, faces).any()
    dented = vertices.copy()
    dented[0] = [0.0, -1.3, 0.0]  # the north pole, through the south one
    crossing = self_intersections(dented, faces)
    assert crossing[(faces == 0).any(1)].all() and crossing.sum() == 24
    assert not self_intersections(vertices * 0.0, faces).any()


def test_touching_and_neighbouring_triangles_do_not_cross():
    square = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    folded = np.array([[0, 1, 2], [0, 2, 3]])
    assert not self_intersections(square, folded).any()
    standing = np.array([[0.5, 0.5, 0.0], [0.5, 0.2, 1.0], [0.5, 0.8, 1.0]])  # its tip rests on the square
    two = np.concatenate([square, standing])
    faces = np.concatenate([folded, [[4, 5, 6]]])
    assert not self_intersections(two, faces).any()
    two[4, 2] = -0.1
    two[4:, 0] += 0.2
    np.testing.assert_array_equal(self_intersections(two, faces), [True, False, True])


def strip(angle=0.0, step=0.0):
    """Two unit squares side by side along x; the right one is turned about their common side, or lifted."""
    x = np.array([[-1.0, 0, 0], [0, 0, 0], [np.cos(angle), 0, np.sin(angle) + step]])
    return np.concatenate([x, x + [0, 1, 0]])


STRIP = np.array([[0, 1, 4], [0, 4, 3], [1, 2, 5], [1, 5, 4]])


@pytest.mark.parametrize("sign", [1, -1])
def test_a_fold_at_the_border_is_measured_in_degrees(sign):
    visible = np.array([True, True, False] * 2)
    fold = np.radians(20.0) * sign
    # Border edges: the fold itself, and the diagonal of the turned square.
    np.testing.assert_allclose(seam_error(strip(fold)[None], strip(), STRIP, visible), 10.0)
    np.testing.assert_allclose(seam_error(strip(fold)[None], strip(-fold), STRIP, visible), 20.0)
    np.testing.assert_allclose(seam_error(strip(fold)[None], strip(fold), STRIP, visible), 0.0, atol=1e-9)
    assert np.isnan(seam_error(strip()[None], strip(), STRIP, np.ones(6, bool)))


def test_a_hidden_part_shifted_as_a_whole_shows_as_a_seam_wherever_it_lies():
    vertices, faces = ellipsoid(12, 16)
    visible = vertices[:, 1] > 0.05
    stepped = vertices + 0.05 * (~visible)[:, None] * vertices
    turn = rotation_about([1, 2, 3], 0.7)
    error = seam_error(stepped[None], vertices, faces, visible)
    assert error > 3
    moved = seam_error((stepped @ turn.T + 1.0)[None], vertices, faces, visible)
    np.testing.assert_allclose(moved, error, rtol=1e-9)
    assert seam_error((vertices @ turn.T)[None], vertices, faces, visible) < 1e-6
    both = seam_error(np.stack([stepped, vertices]), vertices, faces, visible)
    np.testing.assert_allclose(both, error / 2)


@pytest.fixture(scope="module")
def ruler(tiny_head):
    return ruler_of(tiny_head)


def test_mahalanobis_reads_the_coefficients_in_any_frame(tiny_head, ruler, rng):
    z = rng.normal(size=(3, tiny_head.n_components))
    heads = np.stack([np.asarray(tiny_head.shaped(tiny_head.prior_mean + jnp.asarray(row))) for row in z])
    reading = plausibility(heads, ruler.span)
    # Joints that the population turns count among the dimensions: they are at rest here.
    assert ruler.span.free == tiny_head.n_components + int((np.asarray(tiny_head.joint_std_rad) > 0).sum())
    np.testing.assert_allclose(reading.mahalanobis, np.sqrt((z**2).sum(1) / ruler.span.free), rtol=0.02)
    assert reading.outside_mm.max() < 0.02
    turn = rotation_about([1, -2, 0.5], 2.0)
    moved = plausibility(heads @ turn.T + [1.0, -2.0, 0.5], ruler.span)
    np.testing.assert_allclose(moved.mahalanobis, reading.mahalanobis, rtol=1e-5)
    mean = np.asarray(tiny_head.shaped(tiny_head.prior_mean))
    wider = plausibility(mean + 2 * (heads - mean), ruler.span)
    np.testing.assert_allclose(wider.mahalanobis, 2 * reading.mahalanobis, rtol=0.1)
    rough = plausibility(heads + 0.001 * rng.normal(size=heads.shape), ruler.span)
    assert (rough.outside_mm > 1.0).all()


def test_turned_joints_are_within_the_model(tiny_head, ruler):
    pose = np.asarray(tiny_head.joint_std_rad) * np.array([1.0, -1.0, 1.0])
    parameters = HeadParameters(tiny_head.prior_mean, jnp.asarray(pose), jnp.zeros(3))
    reading = plausibility(np.asarray(tiny_head(parameters))[None], ruler.span)
    turned = int((np.asarray(tiny_head.joint_std_rad)[1:] > 0).sum())
    assert reading.outside_mm[0] < 0.1
    assert 0.7 < reading.mahalanobis[0] / np.sqrt(turned / ruler.span.free) < 1.1


def test_report_holds_every_metric_once_and_agrees_with_the_parts(tiny_head, ruler, rng):
    draw = lambda count: np.stack(  # noqa: E731
        [np.asarray(tiny_head.shaped(jnp.asarray(rng.normal(size=tiny_head.n_components)))) for _ in range(count)]
    )
    heads, truth = draw(16), draw(1)[0]
    visible = truth[:, 1] > 0
    facing = truth[:, 2] > 0
    full = report(heads, visible, ruler, truth=truth, facing=facing)
    assert {name.partition("/")[0] for name in full} == set(UNITS)
    assert all(np.isfinite(value) for value in full.values())
    assert {name: full[name] for name in list(UNITS)[:7]} == summary(heads, truth, visible, truth)
    assert full["asd_o_front"] == asd(heads, ~visible & facing) and full["apd"] == apd(heads, ~visible)
    assert full["coverage_90"] == 100 * coverage(heads, truth, ~visible)
    assert "coverage_90/neck" in full and "coverage_90/left_eyeball" not in full  # the eyes are seen
    assert reading_of("coverage_90/neck").unit == "%"
    bare = report(heads, visible, ruler)
    left_out = {"visible_error", "uhd", "cse", "cse_occluded", "energy_score", "seam", "asd_v_front", "asd_o_front"}
    assert set(bare) == {name for name in full if "coverage" not in name} - left_out
    held = report(heads, visible, ruler, held=heads[0], reference=heads[0])
    assert held["visible_error"] == summary(heads, heads[0], visible)["visible_error"] and "seam" in held
    crossing = lambda head: 100 * self_intersections(head, ruler.faces).mean()  # noqa: E731
    mean_head = np.asarray(tiny_head.shaped(tiny_head.prior_mean))
    for made, base in ((bare, mean_head), (held, heads[0]), (full, truth)):
        np.testing.assert_allclose(made["self_intersections"], np.mean([crossing(head) for head in heads]))
        np.testing.assert_allclose(made["self_intersections_excess"], made["self_intersections"] - crossing(base))
    one = report(heads[:1], visible, ruler, truth=truth)
    assert one["asd_o"] == 0 and np.isnan([one["apd"], one["tmd"], one["coverage_90"]]).all()
    single = report(heads.astype(np.float32), visible, ruler, truth=truth.astype(np.float32), facing=facing)
    np.testing.assert_allclose(list(single.values()), list(full.values()), rtol=1e-3, atol=1e-3)

"""Metrics on sets whose answer is known by hand."""

import numpy as np
import pytest
from helpers import rotation_about

from diverse3d.metrics import UNITS, apd, asd, closest_sample_error, energy_score, summary, tmd, uhd, visible_error

ALL = np.ones(2, bool)
NONE = np.zeros(2, bool)


def shifted(*shifts_m):
    """Heads of two vertices: the same one moved along x, so that RMS distances are differences of shifts."""
    base = np.array([[0.0, 0.1, 0.2], [0.3, 0.4, 0.5]])
    return np.stack([base + [shift, 0, 0] for shift in shifts_m])


def test_asd_is_the_nearest_other_sample_and_not_the_mean_over_pairs():
    heads = shifted(0.0, 0.001, 0.010)  # nearest others: 1, 1, 9 mm; the mean over pairs would be 6.67
    np.testing.assert_allclose(asd(heads, ALL), 11 / 3, atol=1e-9)


def test_distances_are_rms_over_the_chosen_vertices():
    heads = shifted(0.0, 0.0)
    heads[1, 0] += [0.003, 0.004, 0]  # 5 mm on one of two vertices
    np.testing.assert_allclose(asd(heads, ALL), 5 / np.sqrt(2))
    np.testing.assert_allclose(asd(heads, np.array([True, False])), 5)
    np.testing.assert_allclose(asd(heads, np.array([False, True])), 0)


def test_closest_sample_visible_error_and_energy_score_by_hand():
    heads, truth = shifted(0.0, 0.002, 0.006), shifted(0.005)[0]
    np.testing.assert_allclose(closest_sample_error(heads, truth), 1)
    np.testing.assert_allclose(closest_sample_error(heads, truth, np.array([True, False])), 1)
    np.testing.assert_allclose(visible_error(heads, truth, ALL), (5 + 3 + 1) / 3)
    np.testing.assert_allclose(energy_score(heads, truth, ALL), 3 - 0.5 * 2 * (2 + 6 + 4) / 9)


def test_pairwise_and_hausdorff_distances_by_hand():
    heads = shifted(0.0, 0.001, 0.010)  # pairs: 1, 10, 9 mm; means to the others: 5.5, 5, 9.5
    np.testing.assert_allclose(apd(heads, ALL), 20 / 3)
    np.testing.assert_allclose(tmd(heads), 20)
    assert np.isnan([apd(heads[:1], ALL), tmd(heads[:1]), apd(heads, NONE), uhd(heads, np.zeros((0, 3)))]).all()
    points = heads[0] + [[0, 0, 0.002], [0, 0, 0]]  # the worst point counts; its nearest vertex is its own
    np.testing.assert_allclose(uhd(heads[:1], points), 2)
    np.testing.assert_allclose(uhd(heads[:2], points), (2 + np.sqrt(5)) / 2)
    np.testing.assert_allclose(uhd(heads[:1, ::-1], points), 2)


def test_one_sample():
    heads, truth = shifted(0.002), shifted(0.0)[0]
    assert asd(heads, ALL) == 0
    np.testing.assert_allclose(energy_score(heads, truth, ALL), 2)
    result = summary(heads, truth, np.array([True, False]), truth)
    assert np.isnan(result["ratio"]) and result["asd_o"] == 0


@pytest.mark.parametrize("visible", [ALL, NONE], ids=["nothing hidden", "nothing visible"])
def test_what_is_not_defined_is_nan_and_nothing_else_is(visible):
    result = summary(shifted(0.0, 0.001), shifted(0.0)[0], visible, shifted(0.003)[0])
    undefined = {"asd_o", "cse_occluded", "energy_score"} if visible.all() else {"asd_v", "visible_error"}
    assert {key for key, value in result.items() if np.isnan(value)} == undefined | {"ratio"}
    assert list(result) == list(UNITS)[:7]


def test_summary_without_a_truth_and_its_agreement_with_the_parts(rng):
    heads, held, truth = rng.normal(size=(4, 9, 3)), rng.normal(size=(9, 3)), rng.normal(size=(9, 3))
    visible = np.arange(9) < 5
    short, full = summary(heads, held, visible), summary(heads, held, visible, truth)
    assert list(short) == ["asd_v", "asd_o", "ratio", "visible_error"]
    assert {key: full[key] for key in short} == short
    assert full["asd_v"] == asd(heads, visible) and full["asd_o"] == asd(heads, ~visible)
    np.testing.assert_allclose(full["ratio"], full["asd_o"] / full["asd_v"])
    assert full["visible_error"] == visible_error(heads, held, visible)
    assert full["cse"] == closest_sample_error(heads, truth)
    assert full["cse_occluded"] == closest_sample_error(heads, truth, ~visible)
    assert full["energy_score"] == energy_score(heads, truth, ~visible)
    by_hand = min(np.sqrt(((head - truth) ** 2).sum() / 9) for head in heads)
    np.testing.assert_allclose(full["cse"], 1e3 * by_hand)


def test_rigid_motion_units_and_order_of_samples(rng):
    heads, truth = rng.normal(size=(4, 9, 3)), rng.normal(size=(9, 3))
    visible = np.arange(9) < 5
    before = summary(heads, truth, visible, truth)
    turn, shift = rotation_about([1, -2, 0.5], 1.0), [5.0, -3.0, 1.0]
    move = lambda points: points @ turn.T + shift  # noqa: E731
    after = summary(move(heads)[::-1], move(truth), visible, move(truth))
    scaled = summary(1e-3 * heads, 1e-3 * truth, visible, 1e-3 * truth)
    for key, value in before.items():
        np.testing.assert_allclose(after[key], value, err_msg=key)
        np.testing.assert_allclose(scaled[key], value * (1 if key == "ratio" else 1e-3), err_msg=key)


def test_single_precision_heads_far_from_the_origin_keep_their_distances():
    heads = (shifted(0.0, 0.001) + 1.0).astype(np.float32)
    np.testing.assert_allclose(asd(heads, ALL), 1.0, atol=1e-3)


def test_energy_score_is_proper(rng):
    """Samples of the truth's own distribution score better in expectation than narrower, wider or shifted ones."""
    count, trials, chosen = 64, 600, np.ones(2, bool)
    draw = lambda spread, shift, n: shift + spread * rng.normal(size=(n, 2, 3))  # noqa: E731
    truths = draw(1, 0, trials)

    def expected(spread, shift=0.0):
        return np.mean([energy_score(draw(spread, shift, count), truth, chosen) for truth in truths])

    own = expected(1.0)
    for other in (expected(0.4), expected(2.0), expected(1.0, 1.0), expected(0.0)):
        assert own < other

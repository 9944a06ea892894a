"""Coverage is calibrated at every number of samples; comparisons are paired, of one size, and wary of bought spread."""

import numpy as np
import pytest

from diverse3d import InputError
from diverse3d.metrics import (
    LEVELS,
    apd,
    asd,
    bootstrap_paired,
    calibration_card,
    closest_sample_error,
    coverage,
    energy_score,
    gaming_alarm,
)

VERTICES = 4000
EVERY = np.ones(VERTICES, bool)
ERROR = 4 * np.sqrt(0.25 / (3 * VERTICES))  # of a share of so many coordinates, four standard deviations at most


def draw(rng, count, spread=1.0):
    """Heads whose coordinates are skewed, each of its own size and place."""
    scale = np.linspace(0.001, 0.01, VERTICES)[:, None]
    return scale * spread * (rng.exponential(size=(count, VERTICES, 3)) - 1) + 0.1 * scale


@pytest.mark.parametrize("count", [9, 16, 20, 61])
def test_truth_of_the_samples_own_distribution_is_covered_as_stated(count, rng):
    samples, truth = draw(rng, count), draw(rng, 1)[0]
    assert abs(coverage(samples, truth, EVERY) - 0.9) < ERROR
    card = calibration_card(samples, truth, EVERY, {"half": np.arange(VERTICES // 2), "none": np.zeros(0, int)})
    assert set(card) == {"all", "half"}
    np.testing.assert_allclose(card["all"], LEVELS, atol=ERROR)
    np.testing.assert_allclose(card["half"], LEVELS, atol=1.5 * ERROR)
    assert card["all"][-1] == coverage(samples, truth, EVERY)


def test_narrow_and_wide_spreads_are_told(rng):
    truth = draw(rng, 1)[0]
    assert coverage(draw(rng, 20, spread=0.5), truth, EVERY) < 0.75
    assert coverage(draw(rng, 20, spread=2.0), truth, EVERY) > 0.95
    assert coverage(np.repeat(truth[None] + 1.0, 20, 0), truth, EVERY) == 0
    np.testing.assert_allclose(coverage(np.repeat(truth[None] + 1.0, 16, 0), truth, EVERY), 0.15)  # the stated floor
    np.testing.assert_allclose(coverage(np.repeat(truth[None], 16, 0), truth, EVERY), 0.9)  # nothing but ties


def test_coverage_by_hand():
    samples = np.zeros((9, 1, 3)) + np.arange(9)[:, None, None]  # contents 0.8, 0.6, …; 90 % is half-way to the line
    truth = np.array([[-1.0, 0.5, 4.0]])
    every = np.ones(1, bool)
    np.testing.assert_allclose(coverage(samples, truth, every), (0.5 + 1 + 1) / 3)
    np.testing.assert_allclose(coverage(samples, truth, every, level=0.8), 2 / 3)
    np.testing.assert_allclose(coverage(samples, truth, every, level=0.6), 1 / 3)


def test_coverage_of_too_few_samples_or_nothing_is_not_defined(rng):
    samples, truth = draw(rng, 8), draw(rng, 1)[0]
    assert np.isnan(coverage(samples, truth, EVERY)) and not np.isnan(coverage(samples, truth, EVERY, level=0.7))
    assert np.isnan(coverage(draw(rng, 20), truth, ~EVERY))
    assert calibration_card(samples, truth, ~EVERY, {}) == {}


def test_paired_interval_draws_subjects_and_averages_their_runs(rng):
    faces = rng.normal(5, 3, 40)
    subjects = np.repeat(np.arange(40), 3)
    runs = faces[subjects] + 0.1 * rng.normal(size=120)
    shuffled = rng.permutation(120)
    exact = bootstrap_paired(list(runs[shuffled] - 0.5), list(runs[shuffled]), list(subjects[shuffled]))
    np.testing.assert_allclose(exact, -0.5, atol=1e-12)
    difference = rng.normal(0.2, 1, 40)
    mean, low, high = bootstrap_paired(list(faces + difference), list(faces), [f"face {i}" for i in range(40)])
    np.testing.assert_allclose(mean, difference.mean())
    np.testing.assert_allclose((high - low) / 2, 1.96 * difference.std() / np.sqrt(40), rtol=0.1)
    again = bootstrap_paired(
        list(np.repeat(faces + difference, 3)), list(np.repeat(faces, 3)), list(np.repeat(np.arange(40), 3))
    )
    narrow = again.high - again.low
    assert 0.8 < narrow / (high - low) < 1.25  # three runs a face are not three faces


def test_only_sets_of_one_size_are_compared():
    values, subjects = [1.0, 2.0], [0, 1]
    with pytest.raises(InputError, match="Sets of 16 and 20 samples can't be compared"):
        bootstrap_paired(values, values, subjects, samples=(16, 20))
    assert bootstrap_paired(values, values, subjects, samples=(16, 1)).mean == 0  # a single guess is what it is
    with pytest.raises(InputError, match="Sets of 16 and 20"):
        gaming_alarm({"n": 16.0, "asd_o": 1.0}, {"n": 20.0, "asd_o": 1.0})
    for first, second, names in ((values, [1.0], subjects), (values, values, [0]), ([], [], [])):
        with pytest.raises(InputError, match="can't be paired"):
            bootstrap_paired(first, second, names)


@pytest.fixture(scope="module")
def world():
    """Mean metrics over faces that a method's samples get, by how much wider than the truth's own they spread."""
    rng = np.random.default_rng(5)
    basis, hidden = 1e-3 * rng.normal(size=(6, 30, 3)), np.arange(30) >= 10
    basis[:, ~hidden] = 0
    truths = rng.normal(size=(60, 6))
    noise = rng.normal(size=(60, 16, 6))

    def measured(spread):
        rows = []
        for z, epsilon in zip(truths, noise, strict=True):
            samples = np.einsum("nk,kvc->nvc", spread * epsilon, basis)
            truth = np.einsum("k,kvc->vc", z, basis)
            rows.append(
                {
                    "asd_o": asd(samples, hidden),
                    "apd": apd(samples, hidden),
                    "cse_occluded": closest_sample_error(samples, truth, hidden),
                    "energy_score": energy_score(samples, truth, hidden),
                    "mahalanobis": float(np.sqrt(((spread * epsilon) ** 2).mean(1)).mean()),
                    "visible_error": 0.05,
                }
            )
        return rows

    return {spread: measured(spread) for spread in (0.4, 1.0, 2.0)}


def means(rows):
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]} | {"n": 16.0}


def paired(first, second):
    columns = {name: ([row[name] for row in first], [row[name] for row in second]) for name in first[0]}
    return {name: bootstrap_paired(*sides, list(range(len(first)))) for name, sides in columns.items()}


def test_a_doubled_posterior_raises_the_alarm_and_a_better_one_does_not(world):
    alarm = gaming_alarm(means(world[2.0]), means(world[1.0]))
    assert any("energy score" in sentence for sentence in alarm)
    assert any("Mahalanobis" in sentence for sentence in alarm)
    assert all(sentence.startswith("Diversity was bought: ASD-O (hidden) (") for sentence in alarm)
    assert gaming_alarm(means(world[1.0]), means(world[0.4])) == []  # more diverse, and nearer the truth
    assert gaming_alarm(means(world[1.0]), means(world[2.0])) == []  # worse diversity is no gain
    assert gaming_alarm(means(world[1.0]), means(world[1.0])) == []


def test_the_alarm_heeds_intervals_tolerance_and_what_is_missing(world):
    ours, reference = means(world[2.0]), means(world[1.0])
    intervals = paired(world[2.0], world[1.0])
    assert gaming_alarm(ours, reference, intervals=intervals) == gaming_alarm(ours, reference)
    unclear = {name: (mean, -1.0, high) for name, (mean, low, high) in intervals.items()}
    assert gaming_alarm(ours, reference, intervals=unclear) == []
    assert gaming_alarm(ours, reference, tolerance=10.0) == []
    few = {"apd": 2.0, "visible_error": 0.5, "energy_score": None, "mahalanobis": float("nan")}
    before = {"apd": 1.0, "visible_error": 0.1, "energy_score": 0.1}
    (sentence,) = gaming_alarm(few, before)
    assert (
        sentence
        == "Diversity was bought: APD (hidden) (1.00 → 2.00 mm) rose, but so did visible error (0.10 → 0.50 mm)."
    )
    # Nearer to what is typical is no loss.
    assert gaming_alarm({"apd": 2.0, "mahalanobis": 0.95}, {"apd": 1.0, "mahalanobis": 0.6}) == []
    assert len(gaming_alarm({"apd": 2.0, "mahalanobis": 1.1}, {"apd": 1.0, "mahalanobis": 0.6})) == 1

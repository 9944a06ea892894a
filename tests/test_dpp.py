"""The determinantal point process: laws of its kernel and loss, and greedy selection against brute force."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import as_float32, check_derivatives
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, norm

from diverse3d.diversify import dpp
from diverse3d.diversify.dpp import quality, quality_threshold

# Compiled once a shape: op by op would compile every operation on its own.
pairwise_distance, dpp_loss, log_det = (jax.jit(f) for f in (dpp.pairwise_distance, dpp.dpp_loss, dpp.log_det))
similarity, kernel = jax.jit(dpp.similarity, static_argnums=1), jax.jit(dpp.kernel, static_argnames="k")
greedy_selection = jax.jit(dpp.greedy_selection, static_argnums=1)


def l_of(points, weight=None, qualities=None, k=0.5):
    """The whole chain from flattened vertices to L."""
    points = jnp.asarray(points)
    weight = jnp.ones(points.shape[1], points.dtype) if weight is None else jnp.asarray(weight, points.dtype)
    qualities = jnp.ones(points.shape[0], points.dtype) if qualities is None else jnp.asarray(qualities, points.dtype)
    return kernel(pairwise_distance(points, weight), qualities, k=k)


CASES = {
    "ordinary": lambda rng: rng.normal(size=(6, 12)),
    "one sample": lambda rng: rng.normal(size=(1, 12)),
    "two samples": lambda rng: rng.normal(size=(2, 12)),
    "all alike": lambda rng: np.repeat(rng.normal(size=(1, 12)), 6, 0),
    "duplicates": lambda rng: np.repeat(rng.normal(size=(3, 12)), 2, 0),
    "mostly duplicates": lambda rng: np.concatenate([np.zeros((5, 12)), rng.normal(size=(1, 12))]),
    "more than the rank": lambda rng: rng.normal(size=(6, 2)) @ rng.normal(size=(2, 12)),
    "far from the origin": lambda rng: 1e3 + rng.normal(size=(6, 12)),
    "huge": lambda rng: 1e15 * rng.normal(size=(6, 12)),
    "tiny": lambda rng: 1e-25 * rng.normal(size=(6, 12)),
    "near and far": lambda rng: np.geomspace(1e-6, 1e6, 6)[:, None] * rng.normal(size=(6, 12)),
}
WEIGHTS = {"nothing visible": np.ones(12), "half hidden": np.repeat([1.0, 0.0], 6), "nothing hidden": np.zeros(12)}
over_cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


@jax.jit
def everything(points, weight):
    """L under qualities that differ, its loss, the loss's gradient, log det(L + I) and a greedy selection."""
    count = points.shape[0]
    qualities = jnp.linspace(0.1, 1, count, dtype=points.dtype)
    matrix = l_of(points, weight, qualities)
    value, gradient = jax.value_and_grad(lambda p: dpp_loss(l_of(p, weight, qualities)))(points)
    return matrix, value, gradient, log_det(matrix), greedy_selection(matrix, min(count, 4))


@over_cases
@pytest.mark.parametrize("weight", WEIGHTS.values(), ids=WEIGHTS.keys())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kernel_is_symmetric_semidefinite_and_loss_and_gradient_finite(case, weight, dtype, rng):
    points = jnp.asarray(case(rng), dtype)
    count = points.shape[0]
    matrix, value, gradient, volume, chosen = everything(points, jnp.asarray(weight, dtype))
    assert {array.dtype for array in (matrix, value, gradient, volume)} == {jnp.dtype(dtype)}
    np.testing.assert_allclose(matrix, matrix.T, rtol=1e-6 if dtype == np.float32 else 1e-12)
    assert np.linalg.eigvalsh(np.asarray(matrix, np.float64)).min() > (-1e-12 if dtype == np.float64 else -1e-3)
    assert -count <= value <= 0 <= volume and jnp.isfinite(gradient).all()
    assert len(set(chosen.tolist())) == min(count, 4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distance_is_rms_over_hidden_vertices(rng, dtype):
    heads = rng.normal(size=(4, 5, 3))
    hidden = np.array([1, 0, 1, 1, 0], bool)
    expected = np.sqrt(((heads[:, None, hidden] - heads[None, :, hidden]) ** 2).sum((2, 3)) / 3)
    got = pairwise_distance(jnp.asarray(heads.reshape(4, 15), dtype), jnp.asarray(np.repeat(hidden, 3), dtype))
    np.testing.assert_allclose(got, expected, atol=1e-5 if dtype == np.float32 else 1e-12)
    assert (jnp.diagonal(got) == 0).all()


def test_nothing_hidden_makes_all_samples_alike(rng):
    points = jnp.asarray(rng.normal(size=(6, 12)))
    np.testing.assert_array_equal(pairwise_distance(points, jnp.zeros(12)), 0)
    np.testing.assert_allclose(l_of(points, np.zeros(12)), np.ones((6, 6)))


def test_visible_coordinates_do_not_count(rng):
    points, weight = rng.normal(size=(6, 12)), np.repeat([1.0, 0.0], 6)
    np.testing.assert_allclose(l_of(points, weight), l_of(points * weight, weight), atol=1e-14)
    gradient = jax.jit(jax.grad(lambda p: dpp_loss(l_of(p, weight))))(jnp.asarray(points))
    np.testing.assert_array_equal(gradient[:, 6:], 0)


def test_permuting_samples_permutes_the_kernel_and_keeps_the_loss(rng):
    points, qualities, order = rng.normal(size=(6, 12)), rng.uniform(size=6), rng.permutation(6)
    matrix, permuted = l_of(points, None, qualities), l_of(points[order], None, qualities[order])
    np.testing.assert_allclose(permuted, np.asarray(matrix)[np.ix_(order, order)], atol=1e-14)
    np.testing.assert_allclose(dpp_loss(permuted), dpp_loss(matrix), atol=1e-13)
    np.testing.assert_allclose(log_det(permuted), log_det(matrix), atol=1e-13)


def test_moving_all_samples_alike_keeps_the_kernel(rng):
    points = rng.normal(size=(6, 12))
    turn = np.linalg.qr(rng.normal(size=(12, 12)))[0]
    np.testing.assert_allclose(l_of(points @ turn + 3.0), l_of(points), atol=1e-12)
    np.testing.assert_allclose(l_of(1000 * points), l_of(points), atol=1e-12)  # the median sets the scale


def test_a_duplicate_is_less_diverse_than_something_new(rng):
    points = rng.normal(size=(6, 12))
    copied = points.copy()
    copied[3] = points[1]
    distance, again = (pairwise_distance(jnp.asarray(p), jnp.ones(12)) for p in (points, copied))
    scale = float(jnp.median(distance[jnp.triu_indices(6, 1)]))
    first, second = (jnp.exp(-0.5 / scale * d) for d in (distance, again))  # one scale for both
    assert log_det(second) < log_det(first)
    assert dpp_loss(second) > dpp_loss(first)
    assert log_det(l_of(copied)) < log_det(l_of(points))


def test_loss_of_two_by_two_by_hand():
    s, q = np.exp(-0.5), np.array([0.9, 0.4])
    matrix = kernel(jnp.asarray([[0.0, 7.0], [7.0, 0.0]]), jnp.asarray(q), k=0.5)
    a, b, c = q[0] ** 2, q[0] * q[1] * s, q[1] ** 2
    np.testing.assert_allclose(matrix, [[a, b], [b, c]], atol=1e-15)
    determinant = (1 + a) * (1 + c) - b**2
    np.testing.assert_allclose(dpp_loss(matrix), -(2 - (2 + a + c) / determinant), atol=1e-15)
    np.testing.assert_allclose(log_det(matrix), np.log(determinant), atol=1e-15)


def test_loss_is_minus_the_expected_number_of_samples_drawn(rng):
    matrix = np.asarray(l_of(rng.normal(size=(4, 6)), None, rng.uniform(size=4)))
    subsets = [list(c) for size in range(5) for c in itertools.combinations(range(4), size)]
    weights = np.array([np.linalg.det(matrix[np.ix_(s, s)]) if s else 1.0 for s in subsets])
    expected = (weights * [len(s) for s in subsets]).sum() / weights.sum()
    np.testing.assert_allclose(dpp_loss(jnp.asarray(matrix)), -expected, atol=1e-12)
    np.testing.assert_allclose(log_det(jnp.asarray(matrix)), np.log(weights.sum()), atol=1e-12)


def test_gradient_of_the_loss_is_right_at_a_fixed_median(rng):
    points, weight = jnp.asarray(rng.normal(size=(6, 12))), jnp.repeat(jnp.asarray([1.0, 0.0]), 6)
    distance = pairwise_distance(points, weight)
    median = jnp.median(distance[jnp.triu_indices(6, 1)])

    def at_fixed_median(p):
        return dpp_loss(jnp.exp(-0.5 / median * pairwise_distance(p, weight)))

    check_derivatives(at_fixed_median, points)
    check_derivatives(lambda q: dpp_loss(kernel(distance, q, k=0.5)), jnp.asarray(rng.uniform(size=6)))
    through_kernel = jax.jit(jax.grad(lambda p: dpp_loss(l_of(p, weight))))(points)
    np.testing.assert_allclose(through_kernel, jax.jit(jax.grad(at_fixed_median))(points), atol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_similarity_is_one_half_k_at_the_median(count, rng):
    distance = pairwise_distance(jnp.asarray(rng.normal(size=(count, 12))), jnp.ones(12))
    got = np.asarray(similarity(distance, 0.5))
    np.testing.assert_array_equal(np.diag(got), 1)
    if count > 1:
        above = got[np.triu_indices(count, 1)]
        if len(above) % 2:
            np.testing.assert_allclose(np.median(above), np.exp(-0.5))


def test_quality_falls_only_beyond_its_threshold():
    got = quality(jnp.asarray([0.0, 9.9, 10.0, 11.0, 1e6]), jnp.asarray(10.0))
    np.testing.assert_allclose(got, [1, 1, 1, np.exp(-1), 0])


@pytest.mark.parametrize("dimension", [1, 10, 64, 640])
@pytest.mark.parametrize("n_sigma", [1.0, 3.0, 5.0])
def test_threshold_is_a_quantile_or_the_paper_s_literal_form(dimension, n_sigma):
    assert quality_threshold(dimension, n_sigma, literal=True) == n_sigma * dimension**0.5
    exact = chi2.isf(norm.sf(n_sigma), dimension)
    np.testing.assert_allclose(quality_threshold(dimension, n_sigma), exact, rtol=0.2 if dimension == 1 else 0.03)


def test_literal_threshold_kills_ordinary_latents_and_the_default_does_not(rng):
    square = jnp.asarray((rng.normal(size=(50, 640)) ** 2).sum(1))
    assert (quality(square, jnp.asarray(quality_threshold(640, 3.0, literal=True))) < 1e-9).all()
    assert (quality(square, jnp.asarray(quality_threshold(640, 3.0))) == 1).mean() > 0.95


def best_next(matrix: np.ndarray, count: int) -> list[int]:
    """Greedy by definition: each time the member that gives the largest determinant."""
    chosen: list[int] = []
    for _ in range(count):
        gains = {
            i: np.linalg.slogdet(matrix[np.ix_([*chosen, i], [*chosen, i])])[1]
            for i in range(len(matrix))
            if i not in chosen
        }
        chosen.append(max(gains, key=gains.get))
    return chosen


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_greedy_equals_the_best_next_determinant(seed):
    rng = np.random.default_rng(seed)
    matrix = np.asarray(l_of(rng.normal(size=(9, 6)), None, rng.uniform(0.2, 1, 9)))
    assert greedy_selection(jnp.asarray(matrix), 9).tolist() == best_next(matrix, 9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_greedy_is_always_distinct(dtype, rng):
    for matrix in (np.zeros((6, 6)), np.ones((6, 6)), np.eye(6), np.outer(*2 * [rng.normal(size=6)]) ** 2):
        chosen = greedy_selection(jnp.asarray(matrix, dtype), 6)
        assert sorted(chosen.tolist()) == list(range(6))


def test_greedy_takes_one_of_each_kind_before_a_second(rng):
    kinds = np.repeat(np.arange(4), 5)
    chosen = greedy_selection(as_float32(l_of(rng.normal(size=(4, 12))[kinds])), 4)
    assert sorted(kinds[np.asarray(chosen)]) == [0, 1, 2, 3]

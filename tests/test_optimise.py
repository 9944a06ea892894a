"""The one optimisation loop: it minimises, says how it ended, and never lets NaN out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import as_float32

from diverse3d._optimise import BUDGET_USED, CONVERGED, DIVERGED, RESULT_TEXT, descend, least_squares


def rosenbrock(y):
    return [10.0 * (y["b"] - y["a"] ** 2), 1.0 - y["a"]]


START = {"a": jnp.asarray(-1.2), "b": jnp.asarray(1.0)}


def test_levenberg_marquardt_solves_rosenbrock():
    solution = jax.jit(lambda y: least_squares(rosenbrock, y, steps=200, tolerance=1e-10))(START)
    np.testing.assert_allclose([solution.value["a"], solution.value["b"]], 1.0, atol=1e-6)
    assert int(solution.result) == CONVERGED and 0 < int(solution.steps) < 200
    np.testing.assert_allclose(solution.loss, 0, atol=1e-12)


def test_levenberg_marquardt_solves_a_linear_problem_exactly(rng):
    matrix, target = jnp.asarray(rng.normal(size=(12, 5))), jnp.asarray(rng.normal(size=12))
    solution = least_squares(lambda y: matrix @ y - target, jnp.zeros(5), steps=100, tolerance=1e-12)
    np.testing.assert_allclose(solution.value, np.linalg.lstsq(matrix, target)[0], atol=1e-9)
    np.testing.assert_allclose(solution.loss, 0.5 * np.sum((matrix @ solution.value - target) ** 2))


def test_too_few_steps_are_said_and_still_help():
    solution = least_squares(rosenbrock, START, steps=3, tolerance=1e-10)
    assert int(solution.result) == BUDGET_USED and int(solution.steps) == 3
    assert float(solution.loss) < 0.5 * sum(float(r) ** 2 for r in rosenbrock(START))


@pytest.mark.parametrize("optimiser", [optax.sgd(0.1), optax.adam(0.1)], ids=["sgd", "adam"])
@pytest.mark.usefixtures("optax_promotion")
def test_descent_solves_a_quadratic(optimiser):
    centre, curvature = jnp.asarray([3.0, -2.0, 0.5]), jnp.asarray([1.0, 4.0, 0.5])
    solution = descend(
        lambda y: jnp.sum(curvature * (y - centre) ** 2), jnp.zeros(3), optimiser, steps=400, tolerance=0.0
    )
    np.testing.assert_allclose(solution.value, centre, atol=1e-3)
    assert int(solution.steps) == 400 and int(solution.result) == BUDGET_USED


def test_descent_stops_when_it_has_converged():
    solution = descend(lambda y: jnp.sum(y**2), jnp.ones(2), optax.sgd(0.1), steps=1000, tolerance=1e-6)
    assert int(solution.result) == CONVERGED and int(solution.steps) < 1000


def test_descent_keeps_the_best_point_that_it_saw():
    # A step of 1.1 / curvature overshoots ever further: nothing after the start is better.
    solution = descend(lambda y: jnp.sum(y**2), jnp.ones(2), optax.sgd(1.1), steps=20, tolerance=0.0)
    np.testing.assert_array_equal(solution.value, jnp.ones(2))
    np.testing.assert_allclose(solution.loss, 2.0)


NOT_FINITE = {
    "nan everywhere": lambda y: jnp.sum(y) * jnp.nan,
    "nan after the start": lambda y: jnp.where(y[0] == 2.0, jnp.sum(y**2), jnp.nan),
    "infinite": lambda y: jnp.sum(y) * jnp.inf,
    "log of a negative": lambda y: jnp.sum(jnp.log(1.99 - y) + 5 * y),
}


@pytest.mark.parametrize("loss", NOT_FINITE.values(), ids=NOT_FINITE.keys())
@pytest.mark.parametrize("solver", ["least squares", "descent"])
def test_what_is_not_finite_keeps_the_start_and_is_said(loss, solver):
    start = jnp.asarray([2.0, 2.0])
    if solver == "descent":
        solution = descend(loss, start, optax.sgd(0.1), steps=10, tolerance=0.0)
    else:
        solution = least_squares(lambda y: loss(y)[None], start, steps=10, tolerance=1e-6)
    assert jnp.isfinite(solution.value).all()
    np.testing.assert_array_equal(solution.value, start)
    assert int(solution.result) == (BUDGET_USED if jnp.isfinite(loss(start)) else DIVERGED)


def test_one_bad_problem_of_a_batch_leaves_the_others_alone():
    def solve(scale):
        return least_squares(lambda y: scale * (y - 3.0), jnp.zeros(2), steps=50, tolerance=1e-10)

    solution = jax.vmap(solve)(jnp.asarray([1.0, jnp.nan, 2.0]))
    np.testing.assert_allclose(solution.value[jnp.array([0, 2])], 3.0, atol=1e-6)
    np.testing.assert_array_equal(solution.value[1], 0)
    assert solution.result.tolist() == [CONVERGED, DIVERGED, CONVERGED]


@pytest.mark.usefixtures("single_precision", "optax_promotion")
def test_single_precision_stays_single():
    solution = least_squares(rosenbrock, as_float32(START), steps=100, tolerance=1e-5)
    assert {leaf.dtype for leaf in jax.tree.leaves((solution.value, solution.loss))} == {jnp.dtype("float32")}
    np.testing.assert_allclose([solution.value["a"], solution.value["b"]], 1.0, atol=1e-3)
    solution = descend(lambda y: jnp.sum(y**2), jnp.ones(2, jnp.float32), optax.adam(0.1), steps=10, tolerance=0.0)
    assert solution.value.dtype == solution.loss.dtype == jnp.float32


def test_every_code_has_words():
    assert set(RESULT_TEXT) == {CONVERGED, BUDGET_USED, DIVERGED}

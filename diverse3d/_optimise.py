"""The one optimisation loop: fitting and diversification both run here, on optimistix."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import optax
import optimistix as optx
from jaxtyping import Array, Float, Int, PyTree

Y = TypeVar("Y")

CONVERGED, BUDGET_USED, DIVERGED = 0, 1, 2
RESULT_TEXT = {
    CONVERGED: "converged",
    BUDGET_USED: "step budget used",
    DIVERGED: "diverged; the start was kept",
}
"""What a fit's result code means."""


class Solution(eqx.Module, Generic[Y]):
    """Where an optimisation ended."""

    value: Y
    """The best point found; never NaN when the start was finite."""
    loss: Float[Array, ""]
    """Loss there."""
    steps: Int[Array, ""]
    """Steps taken."""
    result: Int[Array, ""]
    """CONVERGED, BUDGET_USED or DIVERGED."""


def least_squares(residuals: Callable[[Y], PyTree[Array]], start: Y, *, steps: int, tolerance: float) -> Solution[Y]:
    """Minimise half the sum of squares by Levenberg–Marquardt.

    Residuals should be scaled so that a unit of damping (the solver's start) is mild: with a prior among them, so that
    the prior's Jacobian is the identity. Stops when both the point and the loss change by less than `tolerance`,
    relatively. Steps come from the normal equations by Cholesky, ten times faster than QR: in single precision they
    are inexact where conditioning is bad, which slows convergence but can't move the optimum, since each step's
    residual is computed afresh.
    """
    solver: Any = optx.LevenbergMarquardt(rtol=tolerance, atol=tolerance, linear_solver=lx.Normal(lx.Cholesky()))
    solution: optx.Solution[Y, Any] = optx.least_squares(
        lambda y, _: residuals(y), solver, start, max_steps=steps, throw=False
    )

    def loss(value: Y) -> Float[Array, ""]:
        return 0.5 * sum_of_squares(residuals(value))

    return _guarded(loss, start, solution)


def descend(
    loss: Callable[[Y], Float[Array, ""]],
    start: Y,
    optimiser: optax.GradientTransformation,
    *,
    steps: int,
    tolerance: float,
) -> Solution[Y]:
    """Minimise by a first-order optax optimiser and keep the best point seen."""
    solver: Any = optx.BestSoFarMinimiser(optx.OptaxMinimiser(optimiser, rtol=tolerance, atol=tolerance))
    solution: optx.Solution[Y, Any] = optx.minimise(lambda y, _: loss(y), solver, start, max_steps=steps, throw=False)
    return _guarded(loss, start, solution)


def sum_of_squares(parts: PyTree[Array]) -> Float[Array, ""]:
    """Sum of the squares of every entry of every leaf."""
    return jnp.sum(jnp.stack([jnp.sum(leaf**2) for leaf in jax.tree.leaves(parts)]))


def _guarded(loss: Callable[[Y], Float[Array, ""]], start: Y, solution: optx.Solution[Y, Any]) -> Solution[Y]:
    """Fall back to the start where the end is not finite or no better: a result code, never a NaN."""
    before, after = loss(start), loss(solution.value)
    finite = jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(solution.value)]).all()
    good = finite & jnp.isfinite(after) & (after <= before)
    value = jax.tree.map(lambda new, old: jnp.where(good, new, old), solution.value, start)
    stopped = jnp.where(solution.result == optx.RESULTS.successful, CONVERGED, BUDGET_USED)
    return Solution(
        value=value,
        loss=jnp.where(good, after, before),
        steps=jnp.asarray(solution.stats["num_steps"]),
        result=jnp.where(good, stopped, DIVERGED).astype(jnp.int32),
    )

"""The solver that stage 1 was asked to run by, over landmarks, vertices and pixels alike."""

from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from .._arrays import on_device
from .._optimise import Solution, descend, least_squares, sum_of_squares
from ..head import HeadModel
from ._config import FitConfig
from ._state import Unknowns, start

Y = TypeVar("Y")

_RATE, _LARGEST_GRADIENT = 5e-3, 10.0


def solve(
    residuals: Callable[[Y], PyTree[Array]],
    begin: Y,
    config: FitConfig,
    rates: Float[Array, " K"],
    *,
    steps: int,
    tolerance: float,
) -> Solution[Y]:
    """Minimise a sum of squares by Levenberg–Marquardt or the paper's gradient descent, as `config` says.

    Residuals are in units of the prior: λ3 times their squares is Algorithm 1's loss, which gradient descent goes down
    with its whole budget, since its steps grow small long before it arrives. `rates` are `coefficient_rates`.
    """
    if config.solver == "lm":
        return least_squares(residuals, begin, steps=steps, tolerance=tolerance)
    return descend(
        lambda y: config.weights.prior * sum_of_squares(residuals(y)),
        begin,
        optax.chain(optax.clip_by_global_norm(_LARGEST_GRADIENT), _slowed(rates), optax.sgd(_RATE)),
        steps=steps,
        tolerance=0.0,
    )


def solve_in_turn(
    residuals: Callable[[Unknowns], PyTree[Array]], head: HeadModel, config: FitConfig
) -> tuple[Solution[Unknowns], Int[Array, ""]]:
    """Pose and camera first, a fifth of the budget, then all unknowns, by the configured solver."""
    begin = start(head)

    def posed(pose: tuple[Array, Array, Array]) -> Unknowns:
        return eqx.tree_at(lambda u: (u.rotation, u.translation, u.camera), begin, pose)

    pose_start = (begin.rotation, begin.translation, begin.camera)
    first = _run(lambda pose: residuals(posed(pose)), pose_start, config.part_steps, head, config)
    second = _run(residuals, posed(first.value), config.steps, head, config)
    return second, first.steps + second.steps


def _run(
    residuals: Callable[[Any], PyTree[Array]], begin: Any, steps: int, head: HeadModel, config: FitConfig
) -> Solution[Any]:
    unit = 1.0 / config.weights.prior**0.5
    return solve(
        lambda u: jax.tree.map(lambda part: unit * part, residuals(u)),
        begin,
        config,
        coefficient_rates(head),
        steps=steps,
        tolerance=config.tolerance,
    )


def coefficient_rates(head: HeadModel) -> Float[Array, " K"]:
    """Factor of the learning rate a coefficient: half for the eyeballs' region components, as the release has it."""
    rate, row = np.ones(head.n_components), head.n_identity + head.n_expression
    for name, local in head.local_models.items():
        size = local.components_m.shape[0]
        if name.endswith("eyeball") and row < head.n_components:
            rate[row : row + size] = 0.5
        row += size
    return on_device(rate, head.dtype)


def _slowed(rates: Float[Array, " K"]) -> optax.GradientTransformation:
    """Scales the coefficients of every `Unknowns` among the updates."""

    def is_shape(part: Any) -> bool:
        return isinstance(part, Unknowns)

    def slow(part: Any) -> Any:
        return eqx.tree_at(lambda u: u.z, part, part.z * rates) if is_shape(part) else part

    return optax.stateless(lambda updates, _: jax.tree.map(slow, updates, is_leaf=is_shape))

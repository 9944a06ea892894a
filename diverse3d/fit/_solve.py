"""The solver that stage 1 was asked to run by, over landmarks, vertices and pixels alike."""

from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from .._arrays import on_device
from .._optimise import Solution, descend, least_squares, sum_of_squares
from ..head import HeadModel
from ._config import FitConfig
from ._state import Unknowns

Y = TypeVar("Y")

_RATE, _LARGEST_GRADIENT = 5e-3, 10.0


def solve(
    residuals: Callable[[Y], PyTree[Array]],
    at: Y,
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
        return least_squares(residuals, at, steps=steps, tolerance=tolerance)
    return descend(
        lambda y: config.weights.prior * sum_of_squares(residuals(y)),
        at,
        optax.chain(optax.clip_by_global_norm(_LARGEST_GRADIENT), _slowed(rates), optax.sgd(_RATE)),
        steps=steps,
        tolerance=0.0,
    )


def coefficient_rates(head: HeadModel) -> Float[Array, " K"]:
    """Share of the learning rate a coefficient: half for the eyeballs' region components (papers/004 §2.1)."""
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

"""How likely a head is under a head file's own linear model, and how much of it the model can't say."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float

from ..diversify import N_RIGID, head_vertices
from ..head import HeadModel
from ..surface import kabsch

_STEPS = 4
"""Of the iteration: one is exact where joints are at rest and the pose is known; turned joints need some more."""

_RIDGE_M = 1e-5
"""Weight of the prior, in metres: rounding's size, so that unknowns without effect stay at zero and no other moves."""


class Span(NamedTuple):
    """A head's linear model at its mean, prepared once for many readings."""

    head: HeadModel
    """The head."""
    jacobian_m: Float[np.ndarray, "D C"]
    """Metres a unit of each unknown: coefficients, joints, rigid motion; C = 3V."""
    solver: tuple[np.ndarray, bool]
    """Cholesky factor of its normal matrix."""
    ridge: Float[np.ndarray, " D"]
    """Diagonal that was added to it."""
    free: int
    """How many unknowns the population varies: K in √K."""


class Plausibility(NamedTuple):
    """Reading of N heads."""

    mahalanobis: Float[np.ndarray, " N"]
    """Mahalanobis distance over √K: RMS of the coefficients in standard deviations, about 1 for heads of the
    population."""
    outside_mm: Float[np.ndarray, " N"]
    """RMS distance a vertex of what no coefficients express."""


def span_of(head: HeadModel) -> Span:
    """Linear model of a head, for `plausibility`."""
    jacobian = np.asarray(_jacobian(head), np.float64)
    ridge = np.full(len(jacobian), _RIDGE_M**2)
    ridge[-N_RIGID:] *= 1e-4
    solver = scipy.linalg.cho_factor(jacobian @ jacobian.T + np.diag(ridge))
    joints = 0 if head.joint_std_rad is None else int((np.asarray(head.joint_std_rad)[1:] > 0).sum())
    return Span(head, jacobian, solver, ridge, head.n_components + joints)


def plausibility(vertices: Float[np.ndarray, "N V 3"], span: Span) -> Plausibility:
    """Mahalanobis distance of heads (metres, any frame) under the head's linear model, over √K.

    Coefficients (less their population mean, unit variance each), joint angles in standard deviations and the rigid
    motion are read off the vertices by least squares, the nonlinear part by Gauss–Newton steps with the Jacobian at the
    mean. In a Gaussian of K dimensions the distance (Mahalanobis 1936) is √K ± 0.7, hence the scale: 1 is typical,
    above is less likely than the population's heads, and well below is more average than people are. What lies outside
    the span is invisible to the distance and is given apart.
    """
    head, count = span.head, span.head.n_components + 3 * span.head.n_joints
    mean = np.asarray(head.shaped(head.prior_mean), np.float64)
    frames = [kabsch(mean, np.asarray(sample, np.float64)) for sample in vertices]
    moved = [(sample - shift) @ turn for sample, (turn, shift) in zip(vertices, frames, strict=True)]
    target = np.stack(moved).reshape(len(vertices), -1)
    points = np.zeros((len(vertices), len(span.jacobian_m)))
    for _ in range(_STEPS):
        slope = (target - _at(head, points)) @ span.jacobian_m.T - points * span.ridge[None]
        points = points + scipy.linalg.cho_solve(span.solver, slope.T).T
    left = (target - _at(head, points)).reshape(len(vertices), -1, 3)
    return Plausibility(
        mahalanobis=np.sqrt((points[:, :count] ** 2).sum(1) / span.free),
        outside_mm=1e3 * np.sqrt((left**2).sum(2).mean(1)),
    )


def _at(head: HeadModel, points: np.ndarray) -> np.ndarray:
    return np.asarray(_heads(head, jnp.asarray(points, head.dtype)), np.float64)


@eqx.filter_jit
def _heads(head: HeadModel, points: Float[Array, "N D"]) -> Float[Array, "N C"]:
    return jax.lax.map(lambda point: head_vertices(head, point).reshape(-1), points, batch_size=64)


@eqx.filter_jit
def _jacobian(head: HeadModel) -> Float[Array, "D C"]:
    size = head.n_components + 3 * head.n_joints + N_RIGID
    return jax.jacfwd(lambda point: head_vertices(head, point).reshape(-1))(jnp.zeros(size, head.dtype)).T

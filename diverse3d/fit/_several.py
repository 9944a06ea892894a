"""Several photos of one person: one identity under all of them, and a posture, expression and camera for each.

The detector's errors are the person's in part: what it gets wrong of somebody in one photo it gets wrong in the next.
So errors of the same point in two photos share `SHARED` of their variance, and that part doesn't average away.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float64, Int
from scipy.linalg import cho_factor, cho_solve

from .._arrays import on_device
from ..head import HeadModel
from ._types import PictureEvidence

SHARED = 0.75
"""Share of the landmark errors' variance that two photos of one person have in common: 0.42 on rendered photos of the
population, 0.43 and 0.74 on those of FLAME's and ICT's people, what all people share included."""

RIGID_ROOT = 1e-2
"""Prior precision (square root) of turns and shifts, which nothing is known of: flat, but never singular."""


class Picture(NamedTuple):
    """One photo's landmarks linearised at its fit.

    Unknowns are coefficients and joints, turn and shift of the head, the camera's scale and its centre: U = D + 9.
    """

    point: Float64[np.ndarray, " D"]
    """Coefficients and joints there, in units of their prior."""
    left: Float64[np.ndarray, " E"]
    """Whitened detected less fitted positions."""
    change: Float64[np.ndarray, "E U"]
    """How the fitted ones change with a unit of each unknown."""
    seen: Bool[np.ndarray, " E"]
    """Which of them count."""


class Joint(NamedTuple):
    """What photos say together of the head in the first, everything else of them left open."""

    precision: Float64[np.ndarray, "T T"]
    """Of the first photo's coefficients, joints, turn and shift at its linearisation, without their prior."""
    pull: Float64[np.ndarray, " T"]
    """Precision times where they are pulled to."""
    counted: float
    """How many independent errors that is: the weights of all."""
    left: float
    """Sum of squares left where they are not changed, priors of the other photos' own unknowns included."""
    start: Float64[np.ndarray, " Q"]
    """All other unknowns, a photo after the other: change where the first's head stays."""
    follow: Float64[np.ndarray, "Q T"]
    """How much less they change with the first's head."""


def identity_index(head: HeadModel) -> Int[np.ndarray, " I"]:
    """Coefficients that say who somebody is: identity and smooth residual, no expression. All coefficients of a head
    that has region components."""
    return np.setdiff1d(np.arange(head.n_components), head.n_identity + np.arange(head.n_expression))


def joint(pictures: Sequence[Picture], identity: Int[np.ndarray, " I"]) -> Joint:
    """Photos of one person taken together, the first the one that heads are wanted for.

    The first's camera keeps its scale, since a picture tells no size; the others' follow.
    """
    first, size = pictures[0], len(pictures[0].point)
    own = np.setdiff1d(np.arange(size), identity)
    head, starts = size + 6, size + 6 + np.cumsum([0, 2, *[len(own) + 9] * (len(pictures) - 1)])
    prior, at = np.full(starts[-1], RIGID_ROOT**2), np.zeros(starts[-1])
    rows, offs = [np.zeros((len(one.left), starts[-1])) for one in pictures], [first.left]
    rows[0][:, :head], rows[0][:, head : starts[1]] = first.change[:, :head], first.change[:, -2:]
    for k, one in enumerate(pictures[1:], start=1):
        begin, end = starts[k], starts[k + 1]
        rows[k][:, identity] = one.change[:, identity]
        rows[k][:, begin:end] = np.concatenate([one.change[:, own], one.change[:, size:]], axis=1)
        offs.append(one.left - one.change[:, identity] @ (first.point[identity] - one.point[identity]))
        prior[begin : begin + len(own)], at[begin : begin + len(own)] = 1.0, one.point[own]
        prior[end - 3] = 1.0  # the camera's scale: a tenth
    weights = _weights(np.stack([one.seen for one in pictures]))
    root = np.sqrt(weights).reshape(-1)
    a, b = root[:, None] * np.concatenate(rows), root * np.concatenate(offs)
    normal, goal = a.T @ a, a.T @ b
    inner = slice(head, None)
    factor = cho_factor(normal[inner, inner] + np.diag(prior[inner]))
    rest = goal[inner] - (prior * at)[inner]
    follow, start = cho_solve(factor, normal[inner, :head]), cho_solve(factor, rest)
    precision = normal[:head, :head] - normal[:head, inner] @ follow
    pull = goal[:head] - follow.T @ rest
    left = float(b @ b + (prior * at**2)[inner].sum() - rest @ start)
    return Joint(precision, pull, float(weights.sum()), left, start, follow)


def _weights(seen: Bool[np.ndarray, "K E"]) -> Float64[np.ndarray, "K E"]:
    """What an error of each photo counts: all of them together as much as a mean of errors that share `SHARED`.

    The first photo's count in full, since they alone tell its own expression and pose; the others' are what they add.
    By the errors' full covariance, what photos say differently would be trusted more than what any says alone: then
    small differences of pose shape the head.
    """
    others = np.maximum(seen[1:].sum(0), 1)
    told = np.where(seen[0], (1.0 - SHARED) / (1.0 + SHARED * others), 1.0 / (1.0 + SHARED * (others - 1)))
    return seen * np.concatenate([np.ones((1, seen.shape[1])), np.broadcast_to(told, (len(seen) - 1, len(told)))])


def changes(
    told: Joint, pictures: Sequence[Picture], identity: Int[np.ndarray, " I"], held: Float64[np.ndarray, "3 T"]
) -> list[Float64[np.ndarray, " U"]]:
    """The most likely change of each photo's unknowns, with the mean place of what is seen in the first held."""
    first, size = pictures[0], len(pictures[0].point)
    prior = np.r_[np.ones(size), np.full(6, RIGID_ROOT**2)]
    head = np.linalg.solve(
        told.precision + np.diag(prior) + held.T @ held, told.pull - prior * np.r_[first.point, np.zeros(6)]
    )
    rest = told.start - told.follow @ head
    own = np.setdiff1d(np.arange(size), identity)
    moved = [np.r_[head, 0.0, rest[:2]]]
    for one, mine in zip(pictures[1:], rest[2:].reshape(len(pictures) - 1, len(own) + 9), strict=True):
        change = np.r_[np.zeros(size), mine[len(own) :]]
        change[own] = mine[: len(own)]
        change[identity] = (first.point + head[:size] - one.point)[identity]
        moved.append(change)
    return moved


def evidence_of(told: Joint, held: Float64[np.ndarray, "3 U"], rows: int, dtype: jnp.dtype) -> PictureEvidence:
    """The same as independent errors, in as many rows as one photo has: one compiled closed form serves both."""
    values, vectors = np.linalg.eigh(told.precision)
    root = np.sqrt(np.maximum(values, 0.0))
    some = root > 1e-6 * max(root.max(), 1e-12)
    jacobian = np.where(some, root, 0.0)[:, None] * vectors.T
    left = np.where(some, vectors.T @ told.pull / np.where(some, root, 1.0), 0.0)
    rest = max(told.left - float(left @ left), 0.0) ** 0.5
    size, all_rows = jacobian.shape[1], max(rows, len(left) + 1)
    padded = np.zeros((all_rows, size))
    padded[: len(left)] = jacobian
    offs = np.zeros(all_rows)
    offs[: len(left)], offs[len(left)] = left, rest
    return PictureEvidence(
        on_device(np.r_[offs, np.zeros(3)], dtype),
        on_device(np.r_[padded, held], dtype),
        on_device(max(told.counted - 2.0, 1.0), dtype),
    )

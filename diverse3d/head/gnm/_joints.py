"""A joint regressor that gives GNM's joints for every identity."""

import numpy as np
import scipy.linalg

from ..._errors import InputError

_HAIR, _REFINED = 1e-9, 6  # added to a diagonal of ones; steps of refinement
TOLERANCE_M = 1e-4
"""How far a regressed joint may lie from the file's, at rest and for one standard deviation of any component."""


def regressor_for(
    regressor: np.ndarray,
    template: np.ndarray,
    identity: np.ndarray,
    expression: np.ndarray,
    positions: np.ndarray,
    moves: np.ndarray,
) -> tuple[np.ndarray, list[str]]:
    """The regressor [J, V] whose joints are the file's: at rest `positions` [J, 3], by identity `moves` [I, J, 3].

    In GNM an expression moves no joint. Where the file's own regressor keeps to all of that within `TOLERANCE_M` it is
    returned as it is; else with the least change (in squares) that makes it, and a sentence that says so. Raises
    `InputError` where no regressor can.
    """
    regressor = regressor / _sums(regressor)[:, None]
    off = _off(regressor, template, identity, expression, positions, moves)
    if max(off) <= TOLERANCE_M:
        return regressor, []
    rest, by_identity, by_expression = (f"{1e3 * each:.2g} mm" for each in off)
    found = (
        f"Array 'joint_regressor' misses the file's own joints by {rest} at rest, {by_identity} for an identity "
        f"component and {by_expression} for an expression"
    )
    mended = _mended(regressor, template, [identity, expression], positions, moves)
    if max(_off(mended, template, identity, expression, positions, moves)) <= TOLERANCE_M:
        return mended, [f"{found}; it was changed as little as makes them exact."]
    if max(off[:2]) > TOLERANCE_M:
        regressor = _mended(regressor, template, [identity], positions, moves)
        left = _off(regressor, template, identity, expression, positions, moves)
        if max(left[:2]) > TOLERANCE_M:
            raise InputError(
                f"no joint regressor gives the file's joints: 'joint_regressor' is off by {rest} at rest and by "
                f"{by_identity} a component, and at best {1e3 * max(left[:2]):.2g} mm remain."
            )
        return regressor, [f"{found}; it was changed so that only expressions move joints, by {1e3 * left[2]:.2g} mm."]
    return regressor, [f"{found}, so expressions move joints a little here."]


def _mended(
    regressor: np.ndarray, template: np.ndarray, bases: list[np.ndarray], positions: np.ndarray, moves: np.ndarray
) -> np.ndarray:
    """The nearest regressor whose joints are right at rest and for the first of the bases, and still for the others."""
    count, joints = regressor.shape[1], len(regressor)
    flat = [basis.transpose(0, 2, 1).reshape(-1, count) for basis in bases]
    rows = np.concatenate([np.ones((1, count)), template.T, *flat]).astype(np.float64)
    still = np.zeros((sum(len(basis) for basis in flat[1:]), joints))
    wanted = np.concatenate([np.ones((1, joints)), positions.T, moves.transpose(0, 2, 1).reshape(-1, joints), still])
    size = np.linalg.norm(rows, axis=1)
    rows, wanted = rows[size > 0] / size[size > 0, None], wanted[size > 0] / size[size > 0, None]
    # Dependent rows leave the normal matrix singular: a hair on its diagonal, and the solution refined.
    factor = scipy.linalg.cho_factor(rows @ rows.T + _HAIR * np.eye(len(rows)))
    for _ in range(_REFINED):
        regressor = regressor + (rows.T @ scipy.linalg.cho_solve(factor, wanted - rows @ regressor.T)).T
    return regressor


def _sums(regressor: np.ndarray) -> np.ndarray:
    sums = regressor.sum(axis=1)
    if sums.min() < 0.1:  # others are brought to one, and what they give is measured
        raise InputError(
            f"the rows of array 'joint_regressor' must sum to 1 (found {sums.min():.4f} to {sums.max():.4f})."
        )
    return sums


def _off(
    regressor: np.ndarray,
    template: np.ndarray,
    identity: np.ndarray,
    expression: np.ndarray,
    positions: np.ndarray,
    moves: np.ndarray,
) -> tuple[float, float, float]:
    """How far joints lie off, metres: at rest, for an identity component, for an expression component."""

    def joints(basis: np.ndarray) -> np.ndarray:
        flat = np.ascontiguousarray(basis.transpose(1, 0, 2)).reshape(len(template), -1)
        moved = regressor.astype(flat.dtype) @ flat
        return moved.reshape(len(regressor), -1, 3).transpose(1, 0, 2).astype(np.float64)

    rest = np.linalg.norm(regressor @ template.astype(np.float64) - positions, axis=1).max()
    by_identity = np.linalg.norm(joints(identity) - moves, axis=2).max(initial=0.0)
    by_expression = np.linalg.norm(joints(expression), axis=2).max(initial=0.0)
    return float(rest), float(by_identity), float(by_expression)

"""What no head of the model has, as a Gaussian process along the surface's normals, its size and length by evidence."""

import numpy as np
from jaxtyping import Bool, Float

from ._solve import Evidence

LENGTHS_M = (0.012, 0.024)
"""How far a misfit reaches over the surface, the Gaussian kernel's deviation: one of these, which are the finest of the
embedded head's own residual."""
LEAST_M, _MOST_M = 1e-5, 4e-3
"""Below the least there is none."""
_FACTOR = 2.0
_MOST_FIELDS = 600
_LEFT_OUT = 0.01
"""Share of a place's variance that the fields may lack; with it they end."""


def spread_fields(
    vertices_m: Float[np.ndarray, "V 3"], where: Bool[np.ndarray, " V"], length_m: float
) -> tuple[Float[np.ndarray, "V r"], Float[np.ndarray, " V"]]:
    """The `fields` of some vertices, and what they lack; both zero elsewhere."""
    found, lack = fields(vertices_m[where], length_m)
    every, left = np.zeros((len(where), found.shape[1])), np.zeros(len(where))
    every[where], left[where] = found, lack
    return every, left


def fields(
    points_m: Float[np.ndarray, "n 3"], length_m: float
) -> tuple[Float[np.ndarray, "n r"], Float[np.ndarray, " n"]]:
    """Fields whose sum with independent normal weights is a process of unit variance, and what of it they lack at each
    point: the kernel's pivoted Cholesky factor, the greatest variance that is left first."""
    left, found = np.ones(len(points_m)), np.zeros((len(points_m), min(_MOST_FIELDS, len(points_m))))
    for column in range(found.shape[1]):
        place = int(np.argmax(left))
        if left[place] < _LEFT_OUT:
            return found[:, :column], left
        kernel = np.exp(-((points_m - points_m[place]) ** 2).sum(axis=1) / (2 * length_m**2))
        found[:, column] = (kernel - found[:, :column] @ found[place, :column]) / np.sqrt(left[place])
        left = np.maximum(left - found[:, column] ** 2, 0.0)
    return found, left


def likeliest(evidence: Evidence, start_m: float) -> tuple[float, float]:
    """The misfit's size under which the evidence is likeliest, up or down from a start by steps; and the likelihood's
    logarithm."""
    best = (start_m, evidence.likelihood(start_m))
    for factor in (_FACTOR, 1.0 / _FACTOR):
        moved = False
        while best[0] >= LEAST_M and best[0] * factor <= _MOST_M:
            one = (best[0] * factor, evidence.likelihood(best[0] * factor))
            if one[1] <= best[1]:
                break
            best, moved = one, True
        if moved:
            break
    return best

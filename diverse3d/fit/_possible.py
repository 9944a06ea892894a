"""Whether vertices can be a head at all: the last guard, after every other has let something through."""

import numpy as np
from jaxtyping import Bool, Float

from .._errors import InputError
from ..head import HeadModel

_EXTENT = 2.0
"""Factor on the mean head's size along each axis."""
_SIGMAS = 12.0
"""Distance from the mean head, over the population's; what people reach is 2."""


def possible(head: HeadModel, vertices_m: Float[np.ndarray, "N V 3"]) -> Bool[np.ndarray, " N"]:
    """Which of N heads (metres, head frame) are finite, of a head's size, and no farther from the mean than can be."""
    mean = np.asarray(head.shaped(head.prior_mean), np.float64)
    usual = np.sqrt(np.square(np.asarray(head.components_m, np.float64)).sum() / head.n_vertices)
    size = np.ptp(mean, axis=0)
    found = np.zeros(len(vertices_m), bool)
    for i, vertices in enumerate(vertices_m):  # one by one: the difference from the mean is as large as a head
        if np.isfinite(vertices).all():
            extent = np.ptp(vertices, axis=0) / size
            off = np.sqrt(np.square(vertices - mean).sum() / head.n_vertices)
            found[i] = extent.max() < _EXTENT and extent.min() > 1.0 / _EXTENT and off < _SIGMAS * usual
    return found


def check_possible(head: HeadModel, vertices_m: Float[np.ndarray, "V 3"], source: str) -> None:
    """Raise `InputError` where a fitted head is none."""
    if not possible(head, vertices_m[None])[0]:
        raise InputError(
            f"What fits {source} best is no head that can be, so nothing is made of it: give a head, and as a mesh in "
            "the head's own order of vertices, or register it as a scan: diverse3d register FILE."
        )

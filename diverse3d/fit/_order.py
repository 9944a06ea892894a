"""Whether a mesh's visible vertices can be a head's own, vertex for vertex, and which of them can't.

A head of anybody is nearly an affine image of the mean head, one whose axes are stretched alike: what isn't has another
order of vertices, is mirrored or squashed. Few vertices, or all near one another, are affine images of anything, and
are judged by what the fit leaves over alone.
"""

import numpy as np
from jaxtyping import Bool, Float

from .._errors import InputError
from ..surface import kabsch

_ROUNDS = 5
_FAR_M, _FAR_FACTOR = 0.06, 10.0
"""A vertex is no head's farther from the affine image than this, and than so many times the median."""
_LEFT_M, _LEFT_FACTOR = 0.01, 10.0
"""The same of a fitted head, which comes much closer."""
_MOST_LEFT_OUT = 0.2
_FEWEST = 12
_UNEXPLAINED = 0.3
"""Median distance from the affine image over that from the middle, which another order of vertices has: a head has
0.05, and a random order nearly 1."""
_SQUASHED = 0.6
"""Least stretch over the largest; people have 0.8 and more."""
_ODD_SIZE = 1.4
"""Factor on the mean head's size; people have 1.2."""
FLAT_M = 0.005
"""RMS extent from which on a direction tells of turns about another."""
_BROAD_M, _DEEP_M = 0.03, 0.01
"""The same of stretches: the second extent's, and the third's."""
_MIRRORED_M = 0.004

_REGISTER = "or register it as a scan: diverse3d register FILE"


def tells_pose(points_m: Float[np.ndarray, "V 3"], visible: Bool[np.ndarray, " V"]) -> bool:
    """Whether so many vertices, lying so, say how the head is turned: not where they are near a line, or in a spot."""
    return bool(visible.sum() >= 3 and _extents(points_m[visible])[1] > FLAT_M)


def far_off(
    mean_m: Float[np.ndarray, "V 3"], vertices_m: Float[np.ndarray, "V 3"], visible: Bool[np.ndarray, " V"], source: str
) -> Bool[np.ndarray, " V"]:
    """Visible vertices that can't be part of a head, before it is fitted.

    Raises `InputError` where the vertices as a whole are no head's in this order, and says why.
    """
    off = np.zeros_like(visible)
    if visible.sum() < _FEWEST or not tells_pose(mean_m, visible):
        return off
    design = np.concatenate([mean_m, np.ones((len(mean_m), 1))], 1)
    for _ in range(_ROUNDS):
        kept = visible & ~off
        target = vertices_m - np.median(vertices_m[kept], axis=0)
        affine = np.linalg.lstsq(design[kept], target[kept], rcond=None)[0]
        distance = np.linalg.norm(design @ affine - target, axis=1)
        median = float(np.median(distance[kept]))
        now = visible & (distance > max(_FAR_M, _FAR_FACTOR * median))
        if (now == off).all():
            break
        off = now
    size = float(np.median(np.linalg.norm(target[kept], axis=1)))
    if median > _UNEXPLAINED * size or off.sum() > _MOST_LEFT_OUT * visible.sum():
        raise another_order(source)
    _check_shape(mean_m[kept], target[kept], affine[:3], source)
    return off


def left_over(distance_m: Float[np.ndarray, " V"], visible: Bool[np.ndarray, " V"]) -> Bool[np.ndarray, " V"]:
    """Visible vertices that the fitted head misses by far more than the others."""
    if visible.sum() < _FEWEST:
        return np.zeros_like(visible)
    return visible & (distance_m > max(_LEFT_M, _LEFT_FACTOR * float(np.median(distance_m[visible]))))


def check_left_out(visible: Bool[np.ndarray, " V"], given: Bool[np.ndarray, " V"], source: str) -> None:
    """Raise `InputError` where so many of the given vertices are left out that the others prove nothing."""
    if given.sum() - visible.sum() > _MOST_LEFT_OUT * given.sum():
        raise another_order(source)


def another_order(source: str) -> InputError:
    """The refusal of vertices that are in no head's order."""
    return InputError(
        f"The vertices of {source} are not in the head's own order, or not a head's: give them in its order, name the "
        f"head that they are of with --head FILE, {_REGISTER}."
    )


def _check_shape(
    mean_m: Float[np.ndarray, "n 3"], target_m: Float[np.ndarray, "n 3"], stretch: Float[np.ndarray, "3 3"], source: str
) -> None:
    """Raise `InputError` for a mirror image, a squashed head, and one of no head's size."""
    # With its sign changed, a mirror image is a rotated head.
    proper, mirrored = _rigid_rms(mean_m, target_m), _rigid_rms(mean_m, -target_m)
    extents = _extents(mean_m)
    if extents[2] > FLAT_M and proper > _MIRRORED_M and mirrored < 0.6 * proper and np.linalg.det(stretch) < 0:
        raise InputError(
            f"{source} is a mirror image of a head (an axis has the wrong sign, or two axes are swapped): mirror it "
            f"back, {_REGISTER}."
        )
    if extents[1] < _BROAD_M or extents[2] < _DEEP_M:
        return
    stretches = np.linalg.svd(stretch, compute_uv=False)
    if stretches[2] < _SQUASHED * stretches[0]:
        raise InputError(
            f"{source} is squashed: one of its directions has {stretches[2] / stretches[0]:.2f} times the size of "
            "another, as no head has; give it with one scale for all axes."
        )
    if not 1.0 / _ODD_SIZE < (size := float(np.prod(stretches) ** (1 / 3))) < _ODD_SIZE:
        raise InputError(
            f"{source}: the visible part is {size:.2f} times the size of a head in metres; give it in metres, "
            "decimetres, centimetres or millimetres, and at its true size."
        )


def _rigid_rms(source_m: Float[np.ndarray, "n 3"], target_m: Float[np.ndarray, "n 3"]) -> float:
    turn, shift = kabsch(source_m, target_m)
    return float(np.sqrt(((source_m @ turn.T + shift - target_m) ** 2).sum(1).mean()))


def _extents(points_m: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "3"]:
    """RMS along the principal axes, from the largest."""
    return np.linalg.svd(points_m - points_m.mean(0), compute_uv=False) / len(points_m) ** 0.5

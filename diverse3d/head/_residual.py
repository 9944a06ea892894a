"""What a head's components can't express: a smooth Gaussian process over its surface, and its components.

The displacement field is u(x) = Σ over length scales of a field whose three coordinates are independent. Coordinate c
at scale ℓ has covariance a(x) a(y) d²(ℓ, c) [s K±(x, y) + (1 - s) K∓(x, y)] with K±(x, y) = k(x, y) ± k(x, ȳ),
k(x, y) = exp(-|x - y|²/2ℓ²) and ȳ mirrored in x = 0. K+ for y and z, and K- for x, are the mirror-symmetric fields;
s is their share. a(x) = exp(Σ φᵢ(x) cᵢ) varies the amplitude over anchors, φ being normalised Gaussians about them.
(Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, chapter 4; for shapes Lüthi et al., Gaussian
process morphable models, 2018.)
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from .._errors import InputError

KEPT = 0.995
"""Share of the process's variance that its components keep."""
LARGEST_COUNT = 480
"""Components at most."""
_PIVOTS = 600
CARRIED_M = 0.007
"""Within this distance skin goes more and more with the eyeball that it touches. More of it would make the face about
the eyes so stiff that what it shows there is read as another chin (cross-validation, docs/people.md)."""
_LEAST_WEIGHT, _WEIGHT_WIDTH_M = 0.1, 0.020
"""How much variance far from the face counts for the choice of components, and how fast it falls to that."""
_LARGEST_ARRAY = 256
_FAR = (1e-6, 0.120)
"""Weight and width (metres) of the second Gaussian of an anchor, which decides far from all of them."""


class Residual(NamedTuple):
    """Hyper-parameters of the process, in the head's own frame (x = 0 is the plane of symmetry)."""

    length_m: Float[np.ndarray, " L"]
    """Length scales ℓ in metres."""
    deviation_m: Float[np.ndarray, "L 3"]
    """Standard deviation d of each coordinate at each scale in metres, where a = 1."""
    anchor_m: Float[np.ndarray, "A 3"]
    """Anchors of the amplitude, on the side x ≥ 0; the other side is alike."""
    log_amplitude: Float[np.ndarray, " A"]
    """c: log a at the anchors."""
    anchor_width_m: float
    """Width of the anchors' Gaussians in metres."""
    symmetry: float
    """s, from 0 to 1."""

    def arrays(self) -> dict[str, np.ndarray]:
        """As stored in a head file."""
        return {f"residual_{name}": np.asarray(value, np.float32) for name, value in self._asdict().items()}


class Fields(NamedTuple):
    """Components of the process: each moves the surface along one axis by a scalar field."""

    field: Float[np.ndarray, "R V"]
    """Largest magnitude 1."""
    axis: Int[np.ndarray, " R"]
    """0, 1 or 2."""
    scale_m: Float[np.ndarray, " R"]
    """Metres a standard deviation."""

    def components_m(self) -> Float[np.ndarray, "R V 3"]:
        """Offsets in metres a standard deviation."""
        rows = np.zeros((*self.field.shape, 3), np.float32)
        rows[np.arange(len(rows)), :, self.axis] = self.field * self.scale_m[:, None]
        return rows


def read_residual(arrays: Mapping[str, np.ndarray]) -> Residual | None:
    """The hyper-parameters in a head file's arrays; None where it has none.

    Raises `InputError` for ones that are incomplete, misshapen or beyond any head's.
    """
    if not any(f"residual_{name}" in arrays for name in Residual._fields):
        return None
    parts = {}
    for name in Residual._fields:
        if f"residual_{name}" not in arrays:
            raise InputError(f"array 'residual_{name}' is missing; the smooth residual needs all of its numbers.")
        parts[name] = np.asarray(arrays[f"residual_{name}"], np.float64)
    length, anchors = parts["length_m"], parts["anchor_m"]
    scales, count = length.size, len(np.atleast_1d(parts["log_amplitude"]))
    sound = (
        length.shape == (scales,)
        and 1 <= scales <= _LARGEST_ARRAY
        and parts["deviation_m"].shape == (scales, 3)
        and 1 <= count <= _LARGEST_ARRAY
        and anchors.shape == (count, 3)
        and parts["log_amplitude"].shape == (count,)
        and parts["anchor_width_m"].shape == parts["symmetry"].shape == ()
    )
    if not sound:
        raise InputError("the arrays 'residual_…' have shapes that don't belong together (see docs/head-file.md).")
    likely = (
        (length > 1e-4).all()
        and (length < 10).all()
        and (parts["deviation_m"] >= 0).all()
        and (parts["deviation_m"] < 1).all()
        and (np.abs(parts["log_amplitude"]) < 10).all()
        and 1e-4 < parts["anchor_width_m"] < 10
        and 0 <= parts["symmetry"] <= 1
    )
    if not likely:
        raise InputError("the arrays 'residual_…' hold values that no smooth residual of a head has, in metres.")
    return Residual(
        length, parts["deviation_m"], anchors, parts["log_amplitude"], float(parts["anchor_width_m"]),
        float(parts["symmetry"]),
    )  # fmt: skip


def amplitude(points_m: Float[np.ndarray, "n 3"], residual: Residual) -> Float[np.ndarray, " n"]:
    """a(x): how much stronger than at 1 the process is at some points."""
    return np.exp(anchor_weights(points_m, residual.anchor_m, residual.anchor_width_m) @ residual.log_amplitude)


def anchor_weights(
    points_m: Float[np.ndarray, "n 3"], anchors_m: Float[np.ndarray, "A 3"], width_m: float
) -> Float[np.ndarray, "n A"]:
    """φ: normalised Gaussians about the anchors and their mirror images; rows sum to one."""
    folded = points_m * np.array([1.0, 1.0, 1.0])
    folded[:, 0] = np.abs(folded[:, 0])
    square = ((folded[:, None] - anchors_m[None]) ** 2).sum(2)
    far, wide = _FAR
    weight = np.exp(-square / (2 * width_m**2)) + far * np.exp(-square / (2 * wide**2)) + 1e-300
    return weight / weight.sum(1, keepdims=True)


def carried(
    vertices_m: Float[np.ndarray, "V 3"],
    eyeballs: list[Int[np.ndarray, " n"]],
    *,
    reach_m: float = CARRIED_M,
    forward: float = 1.0,
) -> Float[np.ndarray, "V 3"]:
    """Where the process is read for each vertex: an eyeball at one point, so that it moves as one, and the skin within
    `reach_m` of it the nearer to there the nearer it lies, so that lids stay on it. The point lies `forward` radii
    before the ball's centre (z): at 1 between the lids."""
    places = np.array(vertices_m, np.float64)
    ball = np.zeros(len(places), bool)
    for index in eyeballs:
        ball[index] = True
    for index in eyeballs:
        centre = vertices_m[index].mean(axis=0, dtype=np.float64)
        radius = float(np.linalg.norm(vertices_m[index] - centre, axis=1).max())
        point = centre + np.array([0.0, 0.0, forward * radius])
        away = np.clip((np.linalg.norm(vertices_m - centre, axis=1) - radius) / reach_m, 0.0, 1.0)
        own = away * away * (3.0 - 2.0 * away)
        places = np.where(ball[:, None], places, point + own[:, None] * (places - point))
        places[index] = point
    return places


def face_weight(vertices_m: Float[np.ndarray, "V 3"], face: Int[np.ndarray, " n"] | None) -> Float[np.ndarray, " V"]:
    """How much each vertex counts where components are chosen: 1 on the face, less beside it; all alike without one."""
    if face is None or not len(face):
        return np.ones(len(vertices_m))
    away = cKDTree(vertices_m[face]).query(vertices_m)[0]
    return _LEAST_WEIGHT + (1.0 - _LEAST_WEIGHT) * np.exp(-((away / _WEIGHT_WIDTH_M) ** 2))


def residual_fields(
    places_m: Float[np.ndarray, "V 3"],
    residual: Residual,
    *,
    weight: Float[np.ndarray, " V"] | None = None,
    kept: float = KEPT,
    largest: int = LARGEST_COUNT,
) -> Fields:
    """The process's principal components at some places (`carried` vertices), the strongest first.

    Every coordinate's symmetric and antisymmetric fields are a process of their own, factored by pivoted Cholesky
    (Harbrecht, Peters, Schneider 2012) and rotated to principal axes; of all of them the first are taken that keep
    `kept` of the variance, in which vertices count by their `weight` (all alike where None).
    """
    rows, axes, values, total = [], [], [], 0.0
    root = np.ones(len(places_m)) if weight is None else np.sqrt(weight)
    strength = amplitude(places_m, residual) * root
    for axis in range(3):
        for mirrored in (1.0, -1.0):
            symmetric = (mirrored > 0) == (axis > 0)
            share = residual.symmetry if symmetric else 1.0 - residual.symmetry
            factor, trace = _factor(places_m, strength, residual, axis, mirrored, share, 0.4 * (1.0 - kept))
            total += trace
            if len(factor):
                value, turn = np.linalg.eigh(factor @ factor.T)
                rows.append((turn.T @ factor) / root)
                values.append(value)
                axes.append(np.full(len(value), axis))
    if not rows:
        return Fields(np.zeros((0, len(places_m)), np.float32), np.zeros(0, np.int32), np.zeros(0, np.float32))
    row, value, axis_of = np.concatenate(rows), np.concatenate(values), np.concatenate(axes)
    order = np.argsort(-value, kind="stable")
    count = min(int(np.searchsorted(np.cumsum(value[order]), kept * total)) + 1, largest, len(order))
    chosen = row[order[:count]]
    peak = np.abs(chosen).argmax(axis=1)
    scale = chosen[np.arange(count), peak]  # its sign makes the largest entry positive
    return Fields(
        (chosen / scale[:, None]).astype(np.float32), axis_of[order[:count]].astype(np.int32),
        np.abs(scale).astype(np.float32),
    )  # fmt: skip


def _factor(
    places_m: np.ndarray, strength: np.ndarray, residual: Residual, axis: int, mirrored: float, share: float,
    left: float,
) -> tuple[np.ndarray, float]:  # fmt: skip
    """L [r, V] with LᵀL = the covariance of one coordinate's (anti)symmetric fields up to a share `left`; its trace."""
    variance = share * residual.deviation_m[:, axis] ** 2
    inverse = 1.0 / (2.0 * residual.length_m**2)
    flipped = places_m * np.array([-1.0, 1.0, 1.0])

    def kernel(square: np.ndarray, across: np.ndarray) -> np.ndarray:
        parts = np.exp(-square[:, None] * inverse) + mirrored * np.exp(-across[:, None] * inverse)
        return parts @ variance

    nothing = np.zeros(len(places_m))
    diagonal = strength**2 * kernel(nothing, (2.0 * places_m[:, 0]) ** 2)
    trace = float(diagonal.sum())
    factor = np.zeros((min(_PIVOTS, len(places_m)), len(places_m)))
    for number in range(len(factor)):
        pivot = int(diagonal.argmax())
        if diagonal.sum() <= left * trace or diagonal[pivot] <= 1e-12 * strength[pivot] ** 2:
            return factor[:number], trace
        place = places_m[pivot]
        column = kernel(((places_m - place) ** 2).sum(1), ((flipped - place) ** 2).sum(1))
        column = strength * strength[pivot] * column - factor[:number, pivot] @ factor[:number]
        factor[number] = column / np.sqrt(diagonal[pivot])
        diagonal = np.maximum(diagonal - factor[number] ** 2, 0.0)
    return factor, trace

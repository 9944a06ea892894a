"""A part of one completion kept while the rest is drawn anew: its vertices are further observations of the closed form,
with next to no noise."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from .._errors import InputError
from .._methods import METHODS, get_method
from .._suggest import nearest
from ..fit import Fit
from ..head import HeadModel
from ._hold import Hold
from ._posterior import Posterior, head_vertices

PIN_SIGMA_M = 3e-5
"""Noise of a pinned vertex, metres a coordinate."""

PIN_TOLERANCE_M = 1e-4
"""How far a pinned vertex may lie from where it was kept."""

_CHORDS = 3
"""Steps towards the most likely point by one Jacobian."""


class Pin(eqx.Module):
    """What is kept of a completion."""

    vertices: Bool[np.ndarray, " V"]
    """The vertices that are kept."""
    held_m: Float[np.ndarray, "V 3"]
    """Where they lie, in metres, in the completions' own frame."""
    index: int = eqx.field(static=True)
    """Number of the completion that they are of."""
    regions: tuple[str, ...] = eqx.field(static=True)
    """The regions of the head that they are; none where vertices were given one by one."""
    of: str = eqx.field(static=True)
    """Hash of the completions that they are of (`completions.npz`)."""


class Kept(eqx.Module):
    """The closed form around a fit, conditioned on what is pinned, as samplers draw from it."""

    mean: Float[Array, " D"]
    """The most likely point that keeps what is pinned."""
    spread: Float[Array, "D D"]
    """What white noise is multiplied by to make differences from it: for what is not held together, its square is the
    conditioned covariance."""
    vertices: Bool[Array, " V"]
    """The vertices that are kept."""
    jacobian_m: Float[Array, "C D"]
    """Metres a unit of each unknown, at the mean."""
    gain: Float[Array, "D C"]
    """What a pinned vertex that is off, in metres, says of the unknowns; zero for the others."""

    def __call__(self, vertices_m: Float[Array, "V 3"], held_m: Float[Array, "V 3"]) -> Float[Array, "V 3"]:
        """A head whose pinned vertices are drawn to `held_m` by the closed form: what joints and turns bent."""
        off = jnp.where(self.vertices[:, None], held_m - vertices_m, jnp.zeros_like(held_m)).reshape(-1)
        return vertices_m + (self.jacobian_m @ (self.gain @ off)).reshape(vertices_m.shape)


class HeldTwice(eqx.Module):
    """The kriging correction of what is visible, then what is pinned drawn to where it is kept."""

    correct: Any
    """Of the visible part: a `Kriging`, or one of these of an earlier pin."""
    kept: Kept
    """Of what is pinned."""

    def __call__(self, vertices_m: Float[Array, "V 3"], held_m: Float[Array, "V 3"]) -> Float[Array, "V 3"]:
        """Vertices in metres, corrected towards `held_m`; both in the fit's head frame and finite."""
        return self.kept(self.correct(vertices_m, held_m), held_m)


def chosen_vertices(
    head: HeadModel, region: str | Sequence[str] | Bool[np.ndarray, " V"]
) -> tuple[Bool[np.ndarray, " V"], tuple[str, ...]]:
    """The vertices of a head's regions, by name, and the names; or a mask itself.

    Raises `InputError` for a name that the head has no region of, a mask of another length, and for no vertices.
    """
    marks, names = np.zeros(head.n_vertices, bool), list[str]()
    if isinstance(region, np.ndarray):
        if region.shape != marks.shape or region.dtype != bool:
            raise InputError(
                f"The mask of what is pinned is {region.dtype} of shape {region.shape}; give bool, one for each of "
                f"{head.n_vertices} vertices."
            )
        marks = region
    else:
        names = [region] if isinstance(region, str) else list(region)
        for name in names:
            if name not in head.regions:
                raise InputError(f"The head '{head.name}' has no region '{name}'{nearest(name, sorted(head.regions))}.")
            marks[np.asarray(head.regions[name])] = True
    if not marks.any():
        raise InputError("Nothing is pinned; name a region, or mark one vertex or more.")
    return marks, tuple(dict.fromkeys(names))


def check_pin(method: str, count: int, index: int) -> None:
    """Raise `InputError` unless completion `index` of `count` is there and the method can draw with a part kept."""
    row = get_method(method)
    if row.sampler not in ("posterior", "hybrid") or row.single:
        able = [name for name, one in METHODS.items() if one.sampler in ("posterior", "hybrid") and not one.single]
        why = "makes a single head" if row.single else "does not draw from the closed form"
        raise InputError(
            f"The method '{method}' {why}, so no part of a completion can be pinned; use {', '.join(able)}."
        )
    if not 0 <= index < count:
        raise InputError(f"There is no completion {index}; give a number from 0 to {count - 1}.")


def keep(head: HeadModel, fit: Fit, posterior: Posterior, hold: Hold | None, pin: Pin) -> tuple[Fit, Kept]:
    """A fit as if what is pinned had been seen there, and its closed form conditioned on that.

    Matheron's rule in the closed form's own units: with F = R⁻¹ and G = JF, white noise is left with the precision
    I + GᵀG/σ², whose inverse root takes the pin's directions out of it. Samples that are held together are drawn by HF
    instead and conditioned as such; the mean is led there first, and by F where HF does not reach. A few hundred
    unknowns in double precision, on the host: the pin's noise is a thousandth of what it pins. Raises `InputError`
    where that lies more than `PIN_TOLERANCE_M` from any head there can be: such completions are no heads of the closed
    form alone.
    """
    turn, shift = np.asarray(fit.turn, np.float64), np.asarray(fit.shift_m, np.float64)
    target = (np.asarray(pin.held_m, np.float64) - shift) @ turn
    rows, goal = np.repeat(pin.vertices, 3), target[pin.vertices].reshape(-1)
    mean = np.asarray(posterior.mean, np.float64)
    free = solve_triangular(np.asarray(posterior.factor, np.float64), np.eye(mean.size))
    drawn = free if hold is None else np.asarray(_held(hold, jnp.asarray(free, head.dtype)), np.float64)
    point = mean
    # Heads whose joints stay at rest are linear but for a motion of some millimetres.
    for _ in range(1 if head.joint_std_rad is None else 3):
        jacobian = np.asarray(_jacobian(head, jnp.asarray(point, head.dtype)))
        slope = jacobian[rows].astype(np.float64)
        loose, tight = _Conditioned(slope @ free), _Conditioned(slope @ drawn)
        for _ in range(_CHORDS):
            made = np.asarray(_vertices(head, jnp.asarray(point, head.dtype)), np.float64)
            left = goal - made.reshape(-1)[rows] + slope @ (point - mean)
            off = drawn @ tight.told(left)
            if hold is not None:
                off = off + free @ loose.told(left - slope @ off)
            point = mean + off
    best = _vertices(head, jnp.asarray(point, head.dtype))
    off_m = np.linalg.norm(np.asarray(best, np.float64) - target, axis=1)[pin.vertices].max()
    if not off_m <= PIN_TOLERANCE_M:
        raise InputError(
            f"Completion {pin.index} can't be kept there: the nearest head that the closed form can make lies "
            f"{1e3 * off_m:.2f} mm off. It may have been repaired (run.json says so); take another."
        )
    gain = np.zeros((mean.size, rows.size), np.float32)
    gain[:, rows] = free @ loose.gain()
    marks = jnp.asarray(pin.vertices)
    kept = Kept(
        mean=jnp.asarray(point, head.dtype),
        spread=jnp.asarray(drawn @ tight.root(), head.dtype),
        vertices=marks,
        jacobian_m=jnp.asarray(jacobian, head.dtype),
        gain=jnp.asarray(gain, head.dtype),
    )
    held = jnp.where(marks[:, None], jnp.asarray(target, head.dtype), fit.held_m)
    return dataclasses.replace(fit, vertices_m=best, held_m=held, visible=fit.visible | marks), kept


class _Conditioned:
    """White noise conditioned on what a slope G makes of it, up to the pin's noise."""

    def __init__(self, slope: Float[np.ndarray, "P D"]) -> None:
        self._slope = slope / PIN_SIGMA_M
        self._square = self._slope.T @ self._slope

    @functools.cached_property
    def _factor(self) -> tuple[np.ndarray, bool]:
        return cho_factor(self._square + np.eye(len(self._square)), lower=True)

    def told(self, left_m: Float[np.ndarray, " P"]) -> Float[np.ndarray, " D"]:
        """Its mean where the slope makes `left_m` of it."""
        return cho_solve(self._factor, self._slope.T @ (left_m / PIN_SIGMA_M))

    def gain(self) -> Float[np.ndarray, "D P"]:
        """The map of `told`."""
        return cho_solve(self._factor, self._slope.T / PIN_SIGMA_M)

    def root(self) -> Float[np.ndarray, "D D"]:
        """The symmetric root of its covariance."""
        values, axes = np.linalg.eigh(self._square)
        return (axes / np.sqrt(1.0 + np.maximum(values, 0.0))) @ axes.T


@eqx.filter_jit
def _held(hold: Hold, columns: Float[Array, "D D"]) -> Float[Array, "D D"]:
    return jax.vmap(hold, 1, 1)(columns)


@eqx.filter_jit
def _vertices(head: HeadModel, point: Float[Array, " D"]) -> Float[Array, "V 3"]:
    return head_vertices(head, point)


@eqx.filter_jit
def _jacobian(head: HeadModel, point: Float[Array, " D"]) -> Float[Array, "C D"]:
    return jax.jacfwd(lambda at: head_vertices(head, at).reshape(-1))(point)


@eqx.filter_jit
def brought_back(kept: Kept, fit: Fit, heads_m: Float[Array, "N V 3"]) -> Float[Array, "N V 3"]:
    """Heads whose pinned vertices are drawn to where the fit holds them."""
    return jax.lax.map(lambda one: kept(one, fit.held_m), heads_m, batch_size=16)

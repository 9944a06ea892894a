"""The path between two completions (Dey and Boddeti, 2022): the visible part is held all the way, and equal steps look
equal."""

from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._errors import InputError
from .._methods import DiversifyConfig, Method, get_method
from ..head import HeadModel
from ._complete import SAMPLERS, Given
from ._completions import Completions
from ._samplers import Sampler

LARGEST_FRAMES = 200
"""Frames that a path has at most."""

_FINE = 16
"""Points a step at which the path's length is measured."""

_ROUNDS = 4
"""Times that the heads found are moved along the path, to make the distances between them equal."""

Decode = Callable[[Float[Array, "*latent"]], Float[Array, "V 3"]]
"""Latent → vertices in metres, head frame. An `equinox.Module`, so that its arrays are arguments of compiled code."""

Correct = Callable[[Float[Array, "V 3"], Float[Array, "V 3"]], Float[Array, "V 3"]]
"""(vertices, what they are held to) → vertices, as `Kriging`."""


class HeadPath(eqx.Module):
    """Heads along the path between two completions, in the completions' own frame."""

    vertices: Float[Array, "F V 3"]
    """Heads in metres; the first and the last are the two completions themselves."""
    alpha: Float[Array, " F"]
    """Share of the second completion's latent in each head's, from 0 to 1."""
    of: Completions
    """The completions it lies between."""
    first: int = eqx.field(static=True)
    """Number of the completion it begins at."""
    second: int = eqx.field(static=True)
    """Number of the completion it ends at."""
    plain: bool = eqx.field(static=True)
    """Whether the visible part was left as the latents' straight line has it."""

    @property
    def step_mm(self) -> Float[np.ndarray, " S"]:
        """RMS distance between successive heads over what is hidden (over all where nothing is), in millimetres."""
        return _rms_mm(np.diff(np.asarray(self.vertices, np.float64), axis=0), _moving(np.asarray(self.of.visible)))

    @property
    def largest_step(self) -> float:
        """The largest step over the mean one; 1 where the two ends are the same."""
        step = self.step_mm
        return float(step.max() / step.mean()) if step.mean() > 0 else 1.0

    @property
    def visible_deviation_mm(self) -> Float[np.ndarray, " F"]:
        """RMS distance of each head from what is held to, over what is visible, in mm; NaN where nothing is."""
        held = np.asarray(self.of.held, np.float64)
        return _rms_mm(np.asarray(self.vertices, np.float64) - held, np.asarray(self.of.visible))

    @property
    def visible_drift_mm(self) -> Float[np.ndarray, " F"]:
        """The part of that deviation which is the path's own: RMS distance from the blend of its two ends, in mm."""
        vertices, alpha = np.asarray(self.vertices, np.float64), np.asarray(self.alpha, np.float64)[:, None, None]
        return _rms_mm(vertices - (1 - alpha) * vertices[0] - alpha * vertices[-1], np.asarray(self.of.visible))


@eqx.filter_jit
def path(
    decode: Decode,
    z_i: Float[Array, "*latent"],
    z_j: Float[Array, "*latent"],
    frames: int,
    *,
    ends_m: Float[Array, "2 V 3"],
    moving: Bool[Array, " V"],
    correct: Correct | None = None,
) -> tuple[Float[Array, "F V 3"], Float[Array, " F"]]:
    """Heads along z(α) = (1-α) z_i + α z_j with successive ones equally far apart, and their α.

    `ends_m` are the two completions, which the path begins and ends with exactly: what their latents leave out (a rigid
    motion, joints, a blend) goes over from the one to the other in proportion to α. `correct` draws each head towards
    the blend of the two ends' visible parts, which lies no farther from the held one than they do; None leaves the
    plain line. By linearity this is the correction towards the held part less its blend at the two ends. Distances are
    RMS over the `moving` vertices.
    """
    left = ends_m - jnp.stack([decode(z_i), decode(z_j)])
    weight = moving.astype(ends_m.dtype)[:, None]

    def blend(alpha: Float[Array, ""], pair: Float[Array, "2 *n"]) -> Float[Array, "*n"]:
        return (1.0 - alpha) * pair[0] + alpha * pair[1]

    def at(alpha: Float[Array, ""]) -> Float[Array, "V 3"]:
        vertices = decode(blend(alpha, jnp.stack([z_i, z_j]))) + blend(alpha, left)
        return vertices if correct is None else correct(vertices, blend(alpha, ends_m))

    def steps(heads: Float[Array, "n V 3"]) -> Float[Array, " m"]:
        return jnp.sqrt(jnp.sum(jnp.diff(heads, axis=0) ** 2 * weight[None], axis=(1, 2)))

    def walk(last: Float[Array, "V 3"], alphas: Float[Array, " n"]) -> tuple[Float[Array, "V 3"], Float[Array, " n"]]:
        heads = jax.vmap(at)(alphas)
        return heads[-1], steps(jnp.concatenate([last[None], heads]))

    def along(step: Float[Array, " m"]) -> Float[Array, " n"]:
        return jnp.concatenate([jnp.zeros(1, ends_m.dtype), jnp.cumsum(step)])

    def spread(_: Array, place: Float[Array, " F"]) -> Float[Array, " F"]:
        across = along(steps(jax.lax.map(at, jnp.interp(place, length, fine))))
        return jnp.interp(even * across[-1], across, place)

    even = jnp.linspace(0.0, 1.0, frames, dtype=ends_m.dtype)
    fine = jnp.linspace(0.0, 1.0, _FINE * (frames - 1) + 1, dtype=ends_m.dtype)
    _, found = jax.lax.scan(walk, ends_m[0], fine[1:].reshape(-1, _FINE))
    length = along(found.reshape(-1))
    # Equal lengths along a curve are not yet equal distances across its bends.
    alpha = jnp.interp(jax.lax.fori_loop(0, _ROUNDS, spread, even * length[-1]), length, fine)
    # Two equal ends have nothing but rounding to share out.
    rounding = 10.0 * fine.size * jnp.finfo(ends_m.dtype).eps * jnp.sqrt(jnp.sum(ends_m[0] ** 2 * weight))
    alpha = jnp.where(length[-1] > rounding, alpha, even)
    alpha = alpha.at[0].set(0.0).at[-1].set(1.0)
    return jax.lax.map(at, alpha).at[0].set(ends_m[0]).at[-1].set(ends_m[1]), alpha


def interpolate(
    result: Completions,
    first: int,
    second: int,
    *,
    head: HeadModel,
    frames: int = 9,
    plain: bool = False,
    config: DiversifyConfig | None = None,
    weights: Path | None = None,
) -> HeadPath:
    """The path between two completions of any method that has latents; see `path`.

    `head` is the one that the completions were made with, and so are `config` and `weights`. `plain` leaves out the
    correction that holds the visible part. Raises `InputError` for completions that are not there, are the same or have
    no latents, for a number of frames out of range, and for another head or other weights.
    """
    method = check_path(result.method, len(result.vertices), first, second, frames)
    model = method.head(head)
    if model.n_vertices != result.vertices.shape[1]:
        raise InputError(
            f"The completions have {result.vertices.shape[1]} vertices and the head '{head.name}' has "
            f"{model.n_vertices}; give the head that they were made with."
        )
    given = Given.of(result, model, config or DiversifyConfig(), weights=weights).pinned(result.pin)
    fit = given.fit
    sampler = _made(SAMPLERS[method.latents](given))
    if result.latents is None or result.latents.shape[1] != sampler.latent_size:
        raise InputError(f"These completions hold no latents of the head '{head.name}', so no path joins them.")
    pair = jnp.asarray([first, second])
    turn, shift = np.asarray(fit.turn, np.float64), np.asarray(fit.shift_m, np.float64)
    # Double precision on the host: the input may lie far from the origin.
    ends = (np.asarray(result.vertices[pair], np.float64) - shift) @ turn
    latents = result.latents[pair].astype(model.dtype)
    vertices, alpha = path(
        sampler.decode,
        latents[0],
        latents[1],
        frames,
        ends_m=jnp.asarray(ends, model.dtype),
        moving=jnp.asarray(_moving(np.asarray(fit.visible))),
        correct=None if plain else given.kriging,
    )
    world = fit.to_world(vertices).astype(result.vertices.dtype)
    return HeadPath(
        # To the head frame and back costs the last digit.
        vertices=world.at[0].set(result.vertices[first]).at[-1].set(result.vertices[second]),
        alpha=alpha,
        of=result,
        first=first,
        second=second,
        plain=plain,
    )


@eqx.filter_jit
def _made(make: Callable[[], Sampler]) -> Sampler:
    return make()


def check_path(method_name: str, count: int, first: int, second: int, frames: int) -> Method:
    """The method, if `count` completions by it have a path between the two; else raises `InputError`."""
    method = get_method(method_name)
    if method.single:
        raise InputError(f"The method '{method_name}' makes a single completion, and a path joins two.")
    for index in (first, second):
        if not 0 <= index < count:
            raise InputError(f"There is no completion {index}; give two different numbers from 0 to {count - 1}.")
    if first == second:
        raise InputError(f"Both ends are completion {first}; give two different ones.")
    if not 2 <= frames <= LARGEST_FRAMES:
        raise InputError(f"{frames} frames were asked for; ask for 2 to {LARGEST_FRAMES}.")
    return method


def _moving(visible: Bool[np.ndarray, " V"]) -> Bool[np.ndarray, " V"]:
    """The vertices whose steps count: the hidden ones, or all where nothing is hidden."""
    return np.ones_like(visible) if visible.all() else ~visible


def _rms_mm(offsets_m: Float[np.ndarray, "n V 3"], chosen: Bool[np.ndarray, " V"]) -> Float[np.ndarray, " n"]:
    """RMS length in mm over the chosen vertices; NaN where there are none."""
    if not chosen.any():
        return np.full(len(offsets_m), np.nan)
    return 1e3 * np.sqrt((offsets_m[:, chosen] ** 2).sum(2).mean(1))

"""Observation → Completions: stage 1, then a method of the table, then back to the world frame."""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from meshvae import free_memory_bytes

from .._errors import InputError
from ..fit import Fit, FitConfig, FitProblem, NoiseModel, check_noise, fit, load_noise, prepare, seen_pixels
from ..head import HeadModel
from ..observe import Observation, PhotoObservation
from ._completions import SAMPLE_OFF_VISIBLE, SAMPLE_OK, SAMPLE_REPAIRED, Completions, sample_results
from ._config import DiversifyConfig
from ._gaussian import Posterior, head_vertices, posterior
from ._hold import Hold, hold_together
from ._kriging import kriging
from ._learned import Learned, check_visible, load_learned
from ._methods import Method, default_method, get_method
from ._task import Task


def complete(
    seen: Observation,
    *,
    head: HeadModel | FitProblem,
    n: int = 20,
    method: str | None = None,
    key: PRNGKeyArray,
    noise: str | NoiseModel | None = None,
    fit_config: FitConfig | None = None,
    config: DiversifyConfig | None = None,
    fitted: Fit | None = None,
    belief: Posterior | None = None,
    learned: Learned | Path | None = None,
) -> Completions:
    """N plausible heads that agree with what is visible.

    `method` None is `default_method(head)`. `noise` is `exact`, `realistic`, `photo`, a `NoiseModel`, or None: then a
    photo's fit is held to as `realistic`, and a mesh as `exact` or `realistic`, whichever explains its visible vertices
    better (by log evidence). The methods that start from no closed form hold to the fit alone and ignore it. `fitted`
    skips stage 1 with a fit of the method's own head, `belief` the closed form with the posterior of that fit.
    `learned` is the trained model of a method that has one, or its file; None is the one that the package carries for
    the head. A sample that leaves the visible part by more than `config.visible_tolerance_mm` is repaired by the
    kriging correction, which its result code says. Raises `InputError` for an unknown method or noise, n < 1, more
    samples than the machine's memory holds, a head without weights, or nothing visible where the method encodes what
    is.
    """
    if method is None:
        method = default_method(head.head if isinstance(head, FitProblem) else head)
    chosen = get_method(method)
    config = chosen.settle(DiversifyConfig() if config is None else config)
    problem = head if isinstance(head, FitProblem) else prepare(chosen.head(head))
    model = problem.head
    check_count(n, model, chosen, config)
    if isinstance(noise, str):
        check_noise(noise)
    at = fit(seen, problem, fit_config) if fitted is None else fitted
    if not chosen.closed_form:
        belief = None
    elif belief is None:
        belief = believe(seen, model, at, noise)
    if chosen.weights is None:
        learned = None
    elif not isinstance(learned, Learned):
        learned = load_learned(model, chosen.weights, learned)
    if chosen.weights == "masked":
        check_visible(np.asarray(at.visible), method)
    hold = None if belief is None else holding(seen, model, at, chosen, belief, noise, config)
    photometric = chosen.pixels and config.photometric_weight > 0.0
    task = Task(model, at, belief, learned, hold, seen_pixels(seen, problem.pixels, at) if photometric else None)
    samples = chosen.run(task, n, config, key=key)
    drawn = corrected(task, samples.vertices_m, noise) if chosen.kriging else samples.vertices_m
    tolerance_m = 1e-3 * config.visible_tolerance_mm
    vertices, results = sample_results(drawn, at, tolerance_m)
    if (np.asarray(results) == SAMPLE_OFF_VISIBLE).any():
        known = task._replace(belief=believe(seen, model, at, noise) if belief is None else belief)
        vertices, results = _repaired(known, vertices, results, noise, tolerance_m)
    best = at.vertices_m if belief is None else _most_likely(model, belief)
    return Completions(
        vertices=at.to_world(vertices),
        faces=model.faces,
        visible=at.visible,
        fit_vertices=at.to_world(at.vertices_m),
        map_vertices=at.to_world(best),
        held=at.to_world(at.held_m),
        latents=samples.latents,
        results=results,
        fit=at,
        seen=seen,
        method=method,
        noise="none" if belief is None else belief.noise,
        prior_widening=1.0 if belief is None else float(belief.prior_widening),
        noise_widening=1.0 if belief is None else float(belief.noise_widening),
        weights_sha256=None if learned is None else learned.sha256,
    )


def corrected(
    task: Task, vertices_m: Float[Array, "N V 3"], noise: str | NoiseModel | None = None
) -> Float[Array, "N V 3"]:
    """Any heads brought back to the held visible part by the kriging correction."""
    assert task.belief is not None
    correct = kriging(task.head, task.fit, task.belief, _noise_of(task.head, task.belief, noise))
    return jax.lax.map(lambda one: correct(one, task.fit.held_m), vertices_m, batch_size=16)


@eqx.filter_jit
def _most_likely(head: HeadModel, belief: Posterior) -> Float[Array, "V 3"]:
    return head_vertices(head, belief.mean)


def _repaired(
    task: Task,
    vertices_m: Float[Array, "N V 3"],
    results: Int[Array, " N"],
    noise: str | NoiseModel | None,
    tolerance_m: float,
) -> tuple[Float[Array, "N V 3"], Int[Array, " N"]]:
    """Samples that left the visible part brought back; what even the correction does not bring back stays reported."""
    mended, after = sample_results(corrected(task, vertices_m, noise), task.fit, tolerance_m)
    off = results == SAMPLE_OFF_VISIBLE
    outcome = jnp.where(off & (after == SAMPLE_OK), SAMPLE_REPAIRED, results).astype(jnp.int32)
    return jnp.where((outcome == SAMPLE_REPAIRED)[:, None, None], mended, vertices_m), outcome


def believe(seen: Observation, head: HeadModel, at: Fit, noise: str | NoiseModel | None = None) -> Posterior:
    """The closed-form posterior under the noise asked for, or under the one that fits the input."""
    if isinstance(noise, NoiseModel):
        return posterior(head, at, noise)
    if noise is not None or isinstance(seen, PhotoObservation):
        return posterior(head, at, load_noise(head, noise or "realistic"))
    candidates = [posterior(head, at, load_noise(head, name)) for name in ("exact", "realistic")]
    return max(candidates, key=lambda belief: float(belief.log_evidence))


def holding(
    seen: Observation,
    head: HeadModel,
    at: Fit,
    method: Method,
    belief: Posterior,
    noise: str | NoiseModel | None,
    config: DiversifyConfig,
) -> Hold | None:
    """What holds a method's samples together where visible (`DiversifyConfig.hold`); None where nothing does."""
    known = belief.noise == "exact" or (isinstance(seen, PhotoObservation) and belief.noise == "realistic")
    if method.hold is None or not known:
        return None
    strength = method.settle(config).hold
    return hold_together(head, at, _noise_of(head, belief, noise), strength) if strength else None


def _noise_of(head: HeadModel, belief: Posterior, noise: str | NoiseModel | None) -> NoiseModel:
    """The noise that a posterior was made with."""
    return noise if isinstance(noise, NoiseModel) else load_noise(head, belief.noise)


def check_count(n: int, head: HeadModel, method: Method, config: DiversifyConfig) -> None:
    """Refuse a number of samples that is not positive or that memory can't hold, before anything is allocated."""
    if n < 1:
        raise InputError(f"{n} completions were asked for; ask for at least 1.")
    itemsize = jnp.dtype(head.dtype).itemsize
    pooled = method.pool is not None
    pool = method.settle(config).pool_size(n) if pooled else n
    # Vertices in flight (drawn, posed, selected, written), the kernel and its factors.
    needed = itemsize * (4 * pool * head.n_vertices * 3 + (3 * pool + n) * pool * (1 if pooled else 0))
    available = free_memory_bytes()
    if needed > available // 2:
        raise InputError(
            f"{n} completions by this method would need about {needed / 2**30:.1f} GiB, more than half of the "
            f"{available / 2**30:.1f} GiB of memory that is free; ask for fewer{', or for a smaller pool' * pooled}."
        )

"""Fit → Completions: a sampler and a choice of the table of methods, then back to the world frame."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from meshvae import free_memory_bytes

from .._errors import InputError
from .._methods import ChoiceName, DiversifyConfig, SamplerName, get_method
from ..fit import (
    PICTURE_NOISE,
    REGISTERED_NOISE,
    SCAN_NOISE,
    Fit,
    NoiseModel,
    PhotoFit,
    SeenPixels,
    check_noise,
    load_noise,
    registered_noise,
    scan_noise,
    seen_pixels,
)
from ..fit._pixels import PixelHead
from ..fit._possible import possible
from ..head import HeadModel
from ..observe import MeshObservation, Observation, PhotoObservation
from ._algorithm2 import Algorithm2, CoefficientSampler, VaeSampler
from ._choice import Blend, Choice, Diverse, Independent, Mode, best_cover, best_support
from ._completions import (
    SAMPLE_IMPOSSIBLE,
    SAMPLE_OFF_VISIBLE,
    SAMPLE_OK,
    SAMPLE_REPAIRED,
    Completions,
    sample_results,
)
from ._hold import Hold, Kriging, hold_together, kriging
from ._learned import Learned, MaskedModel, ResidualModel, check_visible, check_weights, load_learned
from ._pin import HeldTwice, Kept, Pin, brought_back, keep
from ._posterior import Posterior, head_vertices, picture_posterior, posterior
from ._samplers import PosteriorSampler, Sampler, Samples, hybrid_sampler

_TOO_SMALL = 1.2
"""How much larger than a noise setting errors may be before it is the wrong one: 1.0 on heads of the population, 1.4 to
1.7 on people of scan models, whose predictions under a noise that small are up to twice as far off."""

HELD_NOISE = "realistic"
"""The noise by which a photo's heads are held to its fit where a correction needs vertices."""


class Given:
    """A fitted face and what a method may know of it; what takes work is found when it is first asked for."""

    def __init__(
        self,
        name: str,
        config: DiversifyConfig,
        seen: Observation,
        head: HeadModel,
        fit: Fit,
        *,
        noise: str | NoiseModel | None = None,
        posterior: Posterior | None = None,
        weights: Learned | Path | None = None,
        pixels: PixelHead | None = None,
        before: "Given | None" = None,
        kept: Kept | None = None,
    ) -> None:
        """`head` is the method's own and `fit` made with it; `posterior` is that of the fit under the noise, `weights`
        the trained model or its file (None: the one that the package carries), `pixels` the head as a photo shows it,
        `kept` the posterior conditioned on what is pinned, and `before` what was given before that.
        """
        self.name, self.method, self.config = name, get_method(name), config
        self.seen, self.head, self.fit, self.noise = seen, head, fit, noise
        self._weights, self._pixels = weights, pixels
        self._before, self.kept = before, kept
        if posterior is not None:
            self.posterior = posterior

    @classmethod
    def of(
        cls,
        result: Completions,
        head: HeadModel,
        config: DiversifyConfig,
        *,
        name: str | None = None,
        posterior: Posterior | None = None,
        weights: Learned | Path | None = None,
    ) -> "Given":
        """What completions were made of, so that more can be, by their own method or one of another `name`.

        `head` is the method's own. Raises `InputError` where the trained weights are not those they were made with.
        """
        noise = None if result.noise in ("none", SCAN_NOISE) else result.noise
        given = cls(
            name or result.method, config, result.seen, head, result.fit,
            noise=noise, posterior=posterior, weights=weights,
        )  # fmt: skip
        same = given.method.weights == get_method(result.method).weights
        if same and given.learned is not None and result.weights_sha256 != given.learned.sha256:
            raise InputError("These completions were made with other trained weights; give them by --weights.")
        return given

    @cached_property
    def posterior(self) -> Posterior:
        """The closed form around the fit."""
        return choose_posterior(self.seen, self.head, self.fit, self.noise)

    @cached_property
    def noise_model(self) -> NoiseModel:
        """The noise that the posterior was made with."""
        if isinstance(self.noise, NoiseModel):
            return self.noise
        if self.posterior.noise == SCAN_NOISE and (own := _own_noise(self.seen, self.fit)) is not None:
            return own
        name = self.posterior.noise
        name = HELD_NOISE if name == PICTURE_NOISE and isinstance(self.fit, PhotoFit) else name
        return _noise_named(self.head, self.fit, name)

    @cached_property
    def kriging(self) -> Kriging | HeldTwice:
        """The correction of any heads towards the visible part (a photo's: of its fit), and towards what is pinned."""
        if self._before is not None and self.kept is not None:
            return HeldTwice(self._before.kriging, self.kept)
        noise = self.noise_model
        held = self.posterior if self.posterior.noise == noise.name else posterior(self.head, self.fit, noise)
        return kriging(self.head, self.fit, held, noise)

    @cached_property
    def hold(self) -> Hold | None:
        """What holds samples together where visible (`SamplingConfig.hold`); None where nothing does, or what is kept
        holds them already."""
        noise, strength = self.posterior.noise, self.method.settle(self.config).sampling.hold
        known = noise == "exact" or (isinstance(self.seen, PhotoObservation) and noise == "realistic")
        if self.method.hold is None or not strength or not known or self.kept is not None:
            return None
        return hold_together(self.head, self.fit, self.noise_model, strength)

    @cached_property
    def learned(self) -> Learned | None:
        """The trained model of a method that has one."""
        if self.method.weights is None:
            return None
        if isinstance(self._weights, Learned):
            return self._weights
        return load_learned(self.head, self.method.weights, self._weights)

    @property
    def pixels(self) -> SeenPixels | None:
        """What a photo shows of the fit; None for a mesh, and where the photometric term is left out."""
        if self.config.algorithm2.photometric_weight == 0.0:
            return None
        return seen_pixels(self.seen, self._pixels, self.fit)

    def pinned(self, pin: Pin | None) -> "Given":
        """The same with what is pinned counted as seen (see `keep`); itself where nothing is."""
        if pin is None:
            return self
        hold = self.hold if self.method.sampler == "hybrid" else None
        fit, kept = keep(self.head, self.fit, self.posterior, hold, pin)
        return Given(
            self.name, self.config, self.seen, self.head, fit,
            noise=self.noise, posterior=self.posterior, weights=self.learned, before=self, kept=kept,
        )  # fmt: skip

    @property
    def contraction(self) -> float:
        """What samples' differences from the posterior mean are multiplied by."""
        return self.method.scale(self.config)


def _model(given: Given, kind: type) -> Any:
    """The trained model, if it is of a kind; else raises `InputError`."""
    if not isinstance(given.learned, kind):
        was = type(given.learned).__name__
        raise InputError(f"The method '{given.name}' can't use a {was}; give the weights made for it.")
    return given.learned


SAMPLERS: dict[SamplerName, Callable[[Given], Callable[[], Sampler]]] = {
    "posterior": lambda g: eqx.Partial(PosteriorSampler, g.head, g.fit, g.posterior, g.contraction, g.kept),
    "hybrid": lambda g: eqx.Partial(
        hybrid_sampler, g.head, g.fit, g.posterior, _model(g, ResidualModel), g.hold, g.contraction, g.kept
    ),
    "vae": lambda g: eqx.Partial(VaeSampler, g.head, g.fit, _model(g, MaskedModel)),
    "coefficients": lambda g: eqx.Partial(CoefficientSampler, g.head, g.fit, g.config.algorithm2.start_spread),
}
"""What makes each sampler; called within compiled code."""


def _diverse(given: Given, n: int) -> Diverse:
    config, pool = given.config, given.method.pool_size(given.config, n)
    sampling, tolerance = config.sampling, config.algorithm2.tolerance
    return Diverse(n, pool, config.kernel, sampling.refine, sampling.refine_rate, tolerance)


CHOICES: dict[ChoiceName, Callable[[Given, int], Choice[Any]]] = {
    "mode": lambda g, n: Mode(),
    "independent": lambda g, n: Independent(n),
    "dpp": _diverse,
    "cover": lambda g, n: Blend(n, g.method.pool_size(g.config, n), best_cover),
    "support": lambda g, n: Blend(n, g.method.pool_size(g.config, n), best_support),
    "algorithm2": lambda g, n: Algorithm2(n, g.config.algorithm2, g.config.kernel, g.pixels),
}


def sample(given: Given, n: int, *, key: PRNGKeyArray) -> Samples:
    """N heads by the method, in the fit's head frame."""
    method = given.method
    samples = _sampled(SAMPLERS[method.sampler](given), CHOICES[method.choice](given, n), key)
    if not method.kriging:
        return samples
    return Samples(_corrected(given.kriging, given.fit, samples.vertices_m), samples.latents)


def complete(given: Given, n: int, *, key: PRNGKeyArray, pin: Pin | None = None) -> Completions:
    """N plausible heads that agree with what is visible.

    What is `pin`ned is kept in all of them; only for methods that draw from the closed form (`check_pin`).

    A sample that leaves the visible part by more than `DiversifyConfig.visible_tolerance_mm` is repaired by the kriging
    correction, and one that is no possible head is replaced by the fit, which their result codes say. Raises
    `InputError` for a head without weights, nothing visible where the method encodes what is, and where no sample is a
    possible head.
    """
    unpinned, given = given.fit, given.pinned(pin)
    method, fit = given.method, given.fit
    if method.weights == "masked":
        check_visible(np.asarray(fit.visible), given.name)
    samples = sample(given, n, key=key)
    made = samples.vertices_m
    if given.kept is not None:
        made = brought_back(given.kept, fit, made)
    tolerance_m = 1e-3 * given.config.visible_tolerance_mm
    # Where the picture is what counts, the fit is one of many heads, and leaving it is no fault.
    free = method.closed_form and isinstance(fit, PhotoFit) and given.posterior.noise == PICTURE_NOISE
    vertices, results = _judged(made, fit, np.inf if free else tolerance_m)
    if (np.asarray(results) == SAMPLE_OFF_VISIBLE).any():
        vertices, results = _repaired(given.kriging, fit, vertices, results, tolerance_m)
    vertices, results = _guarded(given, vertices, results)
    closed = given.posterior if method.closed_form else None
    point = None if closed is None else closed.mean if given.kept is None else given.kept.mean
    vertices, fitted, best, held = _in_world(given.head, unpinned, vertices, point)
    return Completions(
        vertices=vertices,
        faces=given.head.faces,
        visible=unpinned.visible,
        fit_vertices=fitted,
        map_vertices=best,
        held=held,
        latents=samples.latents,
        results=results,
        fit=unpinned,
        seen=given.seen,
        method=given.name,
        noise="none" if closed is None else closed.noise,
        prior_widening=1.0 if closed is None else float(closed.prior_widening),
        noise_widening=1.0 if closed is None else float(closed.noise_widening),
        weights_sha256=None if given.learned is None else given.learned.sha256,
        pin=pin,
    )


def _guarded(
    given: Given, vertices_m: Float[Array, "N V 3"], results: Int[Array, " N"]
) -> tuple[Float[Array, "N V 3"], Int[Array, " N"]]:
    """The fit in the place of samples that are no possible heads; raises `InputError` where that is all of them."""
    odd = ~possible(given.head, np.asarray(vertices_m))
    if not odd.any():
        return vertices_m, results
    if odd.all():
        raise InputError(
            f"No completion of {given.seen.source} by '{given.name}' is a head that can be, so none is written: is the "
            "visible part a head's, and are the weights made for this head?"
        )
    kept = jnp.where(odd[:, None, None], given.fit.vertices_m[None], vertices_m)
    return kept, jnp.where(odd, SAMPLE_IMPOSSIBLE, results).astype(jnp.int32)


@eqx.filter_jit
def _sampled(make: Callable[[], Sampler], choice: Choice[Any], key: PRNGKeyArray) -> Samples:
    return choice(make(), key=key)


@eqx.filter_jit
def _corrected(correct: Kriging | HeldTwice, fit: Fit, vertices_m: Float[Array, "N V 3"]) -> Float[Array, "N V 3"]:
    """Any heads brought back to the held visible part."""
    return jax.lax.map(lambda one: correct(one, fit.held_m), vertices_m, batch_size=16)


_judged = eqx.filter_jit(sample_results)


@eqx.filter_jit
def _repaired(
    correct: Kriging | HeldTwice,
    fit: Fit,
    vertices_m: Float[Array, "N V 3"],
    results: Int[Array, " N"],
    tolerance_m: float,
) -> tuple[Float[Array, "N V 3"], Int[Array, " N"]]:
    """Samples that left the visible part brought back; what even the correction does not bring back stays reported."""
    mended, after = sample_results(_corrected(correct, fit, vertices_m), fit, tolerance_m)
    off = results == SAMPLE_OFF_VISIBLE
    outcome = jnp.where(off & (after == SAMPLE_OK), SAMPLE_REPAIRED, results).astype(jnp.int32)
    return jnp.where((outcome == SAMPLE_REPAIRED)[:, None, None], mended, vertices_m), outcome


@eqx.filter_jit
def _in_world(
    head: HeadModel, fit: Fit, vertices_m: Float[Array, "N V 3"], point: Float[Array, " D"] | None
) -> tuple[Float[Array, "N V 3"], Float[Array, "V 3"], Float[Array, "V 3"], Float[Array, "V 3"]]:
    """Samples, fit, most likely head (at `point`; None: the fit) and what is held to, in the world frame."""
    best = fit.vertices_m if point is None else head_vertices(head, point)
    return fit.to_world(vertices_m), fit.to_world(fit.vertices_m), fit.to_world(best), fit.to_world(fit.held_m)


def choose_posterior(seen: Observation, head: HeadModel, fit: Fit, noise: str | NoiseModel | None = None) -> Posterior:
    """The closed-form posterior under the noise asked for, or under the one that fits the input.

    That is the picture's own for a photo (`photo`; where another is asked for, the fit's vertices are held to); for a
    registered scan its own; for another mesh `exact` or `realistic`, whichever explains its visible vertices better (by
    log evidence), or `registered` where neither is large enough by far: for people whom the head wasn't made of.
    """
    if isinstance(noise, NoiseModel):
        return posterior(head, fit, noise)
    if isinstance(fit, PhotoFit) and noise in (None, PICTURE_NOISE):
        return picture_posterior(head, fit)
    if noise is None and (own := _own_noise(seen, fit)) is not None:
        return posterior(head, fit, own)
    if noise is not None:
        return posterior(head, fit, _noise_named(head, fit, noise))
    candidates = [posterior(head, fit, load_noise(head, name)) for name in ("exact", "realistic")]
    best = max(candidates, key=lambda one: float(one.log_evidence))
    if float(best.noise_widening) <= _TOO_SMALL:
        return best
    return posterior(head, fit, _noise_named(head, fit, REGISTERED_NOISE))


def _noise_named(head: HeadModel, fit: Fit, name: str) -> NoiseModel:
    if name == REGISTERED_NOISE:
        return registered_noise(fit, np.asarray(head.faces))
    return load_noise(head, name)


def _own_noise(seen: Observation, fit: Fit) -> NoiseModel | None:
    """The noise that a registered scan brings with it."""
    return scan_noise(seen.mesh, fit) if isinstance(seen, MeshObservation) else None


def check(
    name: str,
    head: HeadModel,
    n: int,
    config: DiversifyConfig,
    *,
    noise: str | NoiseModel | None = None,
    weights: Learned | Path | None = None,
) -> None:
    """Refuse what can be refused before anything is computed; `head` is the method's own.

    Raises `InputError` for an unknown method or noise, n < 1, more samples than memory holds, or no weights.
    """
    method = get_method(name)
    if isinstance(noise, str):
        check_noise(noise)
    if method.weights is not None and not isinstance(weights, Learned):
        check_weights(head, method.weights, weights)
    if n < 1:
        raise InputError(f"{n} completions were asked for; ask for at least 1.")
    itemsize, pool = jnp.dtype(head.dtype).itemsize, method.pool_size(config, n)
    pooled = method.pool is not None
    # Vertices in flight (drawn, posed, selected, written), the kernel and its factors.
    needed = itemsize * (4 * pool * head.n_vertices * 3 + (3 * pool + n) * pool * (1 if pooled else 0))
    available = free_memory_bytes()
    if needed > available // 2:
        raise InputError(
            f"{n} completions by this method would need about {needed / 2**30:.1f} GiB, more than half of the "
            f"{available / 2**30:.1f} GiB of memory that is free; ask for fewer{', or for a smaller pool' * pooled}."
        )

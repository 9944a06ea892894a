"""The one table of methods: the command line, the benchmark and the documentation read it."""

import dataclasses
import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from .._errors import InputError
from .._suggest import nearest
from ..head import HeadModel
from ._coefficients import run_coefficient_dpp
from ._config import DiversifyConfig
from ._hybrid import run_hybrid, run_hybrid_choice, run_hybrid_dpp
from ._learned import Kind, has_weights
from ._linear import run_map, run_posterior, run_posterior_choice, run_posterior_dpp
from ._select import best_cover, best_support
from ._task import Samples
from ._vae import run_vae, run_vae_dpp


class Method(NamedTuple):
    """One way from a fit to completions."""

    summary: str
    """What it does, in a line."""
    run: Callable[..., Samples]
    """(task, n, config that the method has settled, key=…) → Samples."""
    head: Callable[[HeadModel], HeadModel] = lambda head: head
    """The head it works on, from the head given."""
    closed_form: bool = True
    """Whether it needs the closed-form posterior: to start from it, or to be corrected by it."""
    weights: Kind | None = None
    """The trained model that it needs."""
    kriging: bool = False
    """Whether its heads go through the kriging correction in the end."""
    hold: float | None = None
    """How firmly its samples are held together where visible, unless `DiversifyConfig.hold` says so; None: they can't
    be. On validation heads, 0 leaves independent samples with honest intervals, 1 serves the selections' diversity,
    and half of it the support points' energy score."""
    pixels: bool = False
    """Whether its loss compares heads with a photo's pixels (`DiversifyConfig.photometric_weight`)."""
    latents: str = "coefficients"
    """What it varies, and an interpolation goes along: `coefficients`, `vae` or `hybrid` latents."""
    single: bool = False
    """Whether it gives one completion whatever is asked for."""
    pool: int | None = None
    """Samples that its selection chooses from, unless `DiversifyConfig.pool` says so; None: it searches none. On
    validation heads, 1600 bring cluster centres closer to the truth than 200, and support points hardly; the most
    diverse of more samples are but more extreme."""
    contraction: float = 1.0
    """What samples' differences from the posterior mean are multiplied by, unless `DiversifyConfig.contraction` says so
    (methods that don't start from the posterior have no use for it). On validation heads, 0.65 serves the selections
    for diversity, and with 1.1 the 90 % intervals of hybrid's independent samples hold 90 % of what is hidden, on
    average over three occluders and two settings."""

    def settle(self, config: DiversifyConfig) -> DiversifyConfig:
        """The settings with what they leave to the method, so that a record of them says what was done."""
        left = {name: getattr(self, name) for name in ("pool", "hold", "contraction") if getattr(config, name) is None}
        return dataclasses.replace(config, **left)


def _global_local(head: HeadModel) -> HeadModel:
    if not head.local_models:
        raise InputError(f"The head '{head.name}' has no local region models, which 'global-local-dpp' needs.")
    return head.global_local()


METHODS: dict[str, Method] = {
    "map": Method("the single most likely head", run_map, single=True),
    "posterior": Method("independent samples of the closed-form posterior", run_posterior),
    "posterior-dpp": Method(
        "the most diverse samples of a posterior pool (greedy DPP)",
        run_posterior_dpp,
        pool=200,
        contraction=0.65,
    ),
    "posterior-cover": Method(
        "the centres of clusters of a posterior pool (k-means)",
        partial(run_posterior_choice, choose=best_cover),
        pool=1600,
    ),
    "posterior-support": Method(
        "the points that together stand for a posterior pool best (support points)",
        partial(run_posterior_choice, choose=best_support),
        pool=200,
    ),
    "global-dpp": Method(
        "Algorithm 2's loss over the coefficients of the whole head",
        run_coefficient_dpp,
        closed_form=False,
        pixels=True,
    ),
    "global-local-dpp": Method(
        "Algorithm 2's loss over 10 + 10 global and all region coefficients",
        run_coefficient_dpp,
        head=_global_local,
        closed_form=False,
        pixels=True,
    ),
    "vae": Method("independent samples of the masked VAE", run_vae, weights="masked", closed_form=False, latents="vae"),
    "vae-dpp": Method(
        "the published method: the masked VAE's latents optimised together (Algorithm 2)",
        run_vae_dpp,
        weights="masked",
        closed_form=False,
        pixels=True,
        latents="vae",
    ),
    "vae-dpp-kriging": Method(
        "the published method, its heads brought back to the visible part by the kriging correction",
        run_vae_dpp,
        weights="masked",
        kriging=True,
        pixels=True,
        latents="vae",
    ),
    "hybrid": Method(
        "independent samples of the closed form and the residual VAE together",
        run_hybrid,
        weights="residual",
        hold=0.0,
        contraction=1.1,
        latents="hybrid",
    ),
    "hybrid-dpp": Method(
        "the most diverse of a pool of the closed form and the residual VAE together",
        run_hybrid_dpp,
        weights="residual",
        hold=1.0,
        pool=200,
        contraction=0.65,
        latents="hybrid",
    ),
    "hybrid-cover": Method(
        "the centres of clusters of such a pool (k-means)",
        partial(run_hybrid_choice, choose=best_cover),
        weights="residual",
        hold=1.0,
        pool=1600,
    ),
    "hybrid-support": Method(
        "the points that together stand for such a pool best (support points)",
        partial(run_hybrid_choice, choose=best_support),
        weights="residual",
        hold=0.5,
        pool=200,
    ),
}

DEFAULT_METHOD = "hybrid-dpp"
_WITHOUT_WEIGHTS = "posterior-dpp"
SELECTIONS = {"diverse": "-dpp", "cover": "-cover", "support": "-support"}
"""What a pool can be searched for, with the ending of the methods that do so."""


def default_method(head: HeadModel) -> str:
    """The default method of a head: the best of the closed form where the package has no weights for it."""
    weights = METHODS[DEFAULT_METHOD].weights
    return DEFAULT_METHOD if weights is None or has_weights(head, weights) else _WITHOUT_WEIGHTS


def selected(name: str, select: str | None) -> str:
    """The method like `name` that searches its pool for `select`; raises `InputError` where there is none."""
    if select is None:
        return name
    base = get_method(name) and re.sub(f"({'|'.join(SELECTIONS.values())})$", "", name)
    if select not in SELECTIONS or base + SELECTIONS[select] not in METHODS:
        raise InputError(f"The method '{name}' does not search a pool for '{select}'; use hybrid-dpp or posterior-dpp.")
    return base + SELECTIONS[select]


def get_method(name: str) -> Method:
    """The method called `name`; raises `InputError` with the nearest name where there is none."""
    if name not in METHODS:
        raise InputError(f"There is no method '{name}'{nearest(name, METHODS)}.")
    return METHODS[name]

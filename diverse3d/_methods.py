"""The one table of methods and their settings: the command line, the benchmark and the documentation read it.

Nothing here needs jax, so that help texts can be made of it at once.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from ._errors import InputError
from ._suggest import nearest

Head = TypeVar("Head")
Kind = Literal["masked", "residual"]
"""Trained models: the published masked VAE; what is learned beside the closed form."""
SamplerName = Literal["posterior", "hybrid", "vae", "coefficients"]
ChoiceName = Literal["mode", "independent", "dpp", "cover", "support", "algorithm2"]


def _check(config: Any, *, positive: tuple[str, ...] = (), not_negative: tuple[str, ...] = ()) -> None:
    """Raise `InputError` for a number out of range."""
    for name in (*positive, *not_negative):
        value = getattr(config, name)
        if value is not None and not ((value > 0 if name in positive else value >= 0) and math.isfinite(value)):
            wish = "a positive number" if name in positive else "0 or more"
            raise InputError(f"{name} {value} is out of range; give {wish}.")


@dataclasses.dataclass(frozen=True)
class KernelConfig:
    """The kernel of the determinantal point process; defaults of Dey and Boddeti, 2022."""

    k: float = 0.5
    """Sharpness of similarity, in units of the median distance."""
    n_sigma: float = 3.0
    """How unlikely a sample may be before its quality falls, in standard deviations of ‖z‖²."""
    literal_quality: bool = False
    """Read the quality threshold literally, n_σ√d, as the paper prints it."""

    def __post_init__(self) -> None:
        _check(self, positive=("k",), not_negative=("n_sigma",))


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """How the closed form's and the hybrid's samples are drawn and chosen; what is None is the method's own."""

    pool: int | None = None
    """Samples that a selection chooses from (at least twice the number asked for)."""
    contraction: float | None = None
    """What samples' differences from the posterior mean are multiplied by, before any selection: below 1 draws them
    together."""
    hold: float | None = None
    """How firmly the hybrid's samples are held together where visible: 0 leaves samples as the closed form has them, 1
    keeps half of a difference where data and prior say equally much of it. The noise `exact` was enlarged to serve the
    hidden part, so the visible part is known better; a photo's is the fit's own, unless its noise is `photo`."""
    refine: int = 0
    """Steps of Adam by which hybrid-dpp pushes its selected latents farther apart by the DPP loss; 0 leaves them. On
    validation heads 30 steps raise ASD-O by half, but the closest sample's error too, so none are the default."""
    refine_rate: float = 0.01
    """Adam's learning rate there."""

    def __post_init__(self) -> None:
        _check(self, positive=("pool", "contraction", "refine_rate"), not_negative=("hold", "refine"))


@dataclasses.dataclass(frozen=True)
class Algorithm2Config:
    """The published optimisation; defaults of Dey and Boddeti, 2022, where they are given."""

    visible_weight: float = 1000.0
    """λ1, on the mean visible L1 distance in metres."""
    photometric_weight: float = 500.0
    """λ2, on the mean squared difference of colours over the picture of a photo's face, robustly, on a tone scale from
    0 to 1; 0 leaves pixels out."""
    dpp_weight: float = 0.025
    """λ3."""
    steps: int = 300
    """Iterations."""
    learning_rate: float = 0.05
    """Learning rate."""
    sgd: bool = False
    """Plain gradient descent, as the paper has it, and not Adam (it hardly moves latents of unit size in 300 steps)."""
    tolerance: float = 0.0
    """Stop early once latents and loss change by less than this, relatively."""
    start_spread: float = 0.5
    """Standard deviation of the starting coefficients around the fit."""

    def __post_init__(self) -> None:
        weights = ("visible_weight", "photometric_weight", "dpp_weight", "tolerance", "start_spread")
        _check(self, positive=("steps", "learning_rate"), not_negative=weights)


@dataclasses.dataclass(frozen=True)
class DiversifyConfig:
    """How completions are made."""

    kernel: KernelConfig = KernelConfig()
    """Similarity and quality, of selections and of Algorithm 2."""
    sampling: SamplingConfig = SamplingConfig()
    """Draws of the closed form and the hybrid."""
    algorithm2: Algorithm2Config = Algorithm2Config()
    """The published optimisation."""
    visible_tolerance_mm: float = 3.0
    """RMS distance from the visible part beyond which a sample is repaired by the kriging correction, and said so."""

    def __post_init__(self) -> None:
        _check(self, positive=("visible_tolerance_mm",))

    def replace(self, **values: Any) -> "DiversifyConfig":
        """The settings with others in their places, each by its own name, whatever part it stands in.

        Raises `TypeError` for a name that no part has, `InputError` for a value out of range.
        """
        parts = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name, part in parts.items():
            if dataclasses.is_dataclass(part) and not isinstance(part, type):
                own = {field.name: values.pop(field.name) for field in dataclasses.fields(part) if field.name in values}
                parts[name] = dataclasses.replace(part, **own)
        return DiversifyConfig(**parts | values)


@dataclasses.dataclass(frozen=True)
class Method:
    """One way from a fit to completions: what is drawn, and how N are chosen."""

    summary: str
    """What it does, in a line."""
    sampler: SamplerName
    """What draws and decodes latents."""
    choice: ChoiceName
    """How the completions come of it."""
    latents: SamplerName = "coefficients"
    """What decodes the latents that a result records, and an interpolation goes along."""
    variant: Callable[[Any], Any] | None = None
    """The head it works on, made of the head given; None: that very head."""
    closed_form: bool = True
    """Whether it needs the closed-form posterior: to start from it, or to be corrected by it."""
    weights: Kind | None = None
    """The trained model that it needs."""
    kriging: bool = False
    """Whether its heads go through the kriging correction in the end."""
    hold: float | None = None
    """`SamplingConfig.hold` where that is None; None: its samples can't be held together. On validation heads, 0 leaves
    independent samples with honest intervals, 1 serves the selections' diversity, and half of it the support points'
    energy score."""
    pool: int | None = None
    """`SamplingConfig.pool` where that is None; None: it searches none. On validation heads, 1600 bring cluster centres
    closer to the truth than 200, and support points hardly; the most diverse of more samples are but more extreme."""
    contraction: float = 1.0
    """`SamplingConfig.contraction` where that is None (of no use to methods that don't start from the posterior). On
    validation heads, 0.65 serves the selections for diversity, and with 1.1 the 90 % intervals of hybrid's independent
    samples hold 90 % of what is hidden, on average over three occluders and two settings."""

    @property
    def single(self) -> bool:
        """Whether it gives one completion whatever is asked for."""
        return self.choice == "mode"

    def head(self, head: Head) -> Head:
        """The head it works on, from the head given; raises `InputError` for one that it can't work on."""
        return head if self.variant is None else self.variant(head)

    def settle(self, config: DiversifyConfig) -> DiversifyConfig:
        """The settings with what they leave to the method, so that a record of them says what was done."""
        names = ("pool", "hold", "contraction")
        return config.replace(**{name: getattr(self, name) for name in names if getattr(config.sampling, name) is None})

    def pool_size(self, config: DiversifyConfig, n: int) -> int:
        """How many samples `n` completions are chosen from; `n` where no pool is searched."""
        pool = self.pool if config.sampling.pool is None else config.sampling.pool
        return n if self.pool is None or pool is None else max(pool, 2 * n)

    def scale(self, config: DiversifyConfig) -> float:
        """What samples' differences from the posterior mean are multiplied by."""
        return self.contraction if config.sampling.contraction is None else config.sampling.contraction


def _global_local(head: Any) -> Any:
    if not head.local_models:
        raise InputError(f"The head '{head.name}' has no local region models, which 'global-local-dpp' needs.")
    return head.global_local()


METHODS: dict[str, Method] = {
    "map": Method("the single most likely head", "posterior", "mode"),
    "posterior": Method("independent samples of the closed-form posterior", "posterior", "independent"),
    "posterior-dpp": Method(
        "the most diverse samples of a posterior pool (greedy DPP)", "posterior", "dpp", pool=200, contraction=0.65
    ),
    "posterior-cover": Method("the centres of clusters of a posterior pool (k-means)", "posterior", "cover", pool=1600),
    "posterior-support": Method(
        "the points that together stand for a posterior pool best (support points)", "posterior", "support", pool=200
    ),
    "global-dpp": Method(
        "Algorithm 2's loss over the coefficients of the whole head", "coefficients", "algorithm2", closed_form=False
    ),
    "global-local-dpp": Method(
        "Algorithm 2's loss over 10 + 10 global and all region coefficients",
        "coefficients",
        "algorithm2",
        variant=_global_local,
        closed_form=False,
    ),
    "vae": Method(
        "independent samples of the masked VAE",
        "vae",
        "independent",
        latents="vae",
        weights="masked",
        closed_form=False,
    ),
    "vae-dpp": Method(
        "the published method: the masked VAE's latents optimised together (Algorithm 2)",
        "vae",
        "algorithm2",
        latents="vae",
        weights="masked",
        closed_form=False,
    ),
    "vae-dpp-kriging": Method(
        "the published method, its heads brought back to the visible part by the kriging correction",
        "vae",
        "algorithm2",
        latents="vae",
        weights="masked",
        kriging=True,
    ),
    "hybrid": Method(
        "independent samples of the closed form and the residual VAE together",
        "hybrid",
        "independent",
        latents="hybrid",
        weights="residual",
        hold=0.0,
        contraction=1.1,
    ),
    "hybrid-dpp": Method(
        "the most diverse of a pool of the closed form and the residual VAE together",
        "hybrid",
        "dpp",
        latents="hybrid",
        weights="residual",
        hold=1.0,
        pool=200,
        contraction=0.65,
    ),
    "hybrid-cover": Method(
        "the centres of clusters of such a pool (k-means)", "hybrid", "cover", weights="residual", hold=1.0, pool=1600
    ),
    "hybrid-support": Method(
        "the points that together stand for such a pool best (support points)",
        "hybrid",
        "support",
        weights="residual",
        hold=0.5,
        pool=200,
    ),
}
"""Every method by its name."""

DEFAULT_METHOD = "hybrid-dpp"
WITHOUT_WEIGHTS = "posterior-dpp"
"""The default for heads that the package has no weights for: the best of the closed form."""
SELECTIONS: dict[str, ChoiceName] = {"diverse": "dpp", "cover": "cover", "support": "support"}
"""What a pool can be searched for."""


def selected(name: str, select: str | None) -> str:
    """The method like `name` that searches its pool for `select`; raises `InputError` where there is none."""
    method = get_method(name)
    if select is None:
        return name
    for other, row in METHODS.items():
        if row.sampler == method.sampler and row.choice == SELECTIONS.get(select) and not method.single:
            return other
    raise InputError(f"The method '{name}' does not search a pool for '{select}'; use hybrid-dpp or posterior-dpp.")


def get_method(name: str) -> Method:
    """The method called `name`; raises `InputError` with the nearest name where there is none."""
    if name not in METHODS:
        raise InputError(f"There is no method '{name}'{nearest(name, METHODS)}.")
    return METHODS[name]

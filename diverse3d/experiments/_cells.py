"""One cell of an experiment: a face under an occluder, fitted once, completed by every method."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from .. import metrics
from .._api import complete
from ..diversify import METHODS, Completions, DiversifyConfig, Learned, Posterior, choose_posterior
from ..fit import Fit, FitProblem, fit, prepare
from ..head import HeadModel
from ..surface import facing_camera
from ._subjects import Sight, Subject

Knobs = tuple[tuple[str, float], ...]
"""Settings of stage 2 that differ from the default: (field of `DiversifyConfig`, value)."""


class Trial(NamedTuple):
    """What is run on a cell."""

    method: str
    """Name in the table of methods."""
    seed: int
    """Number of the run."""
    knobs: Knobs = ()
    """Settings that are turned."""


class Record(NamedTuple):
    """One run of one method on one head."""

    head: int
    """Index in the test split."""
    occluder: str
    """Region hidden."""
    setting: str
    """`exact` or `realistic`; `photo`."""
    method: str
    """Name in the table of methods."""
    seed: int
    """Number of the run."""
    values: dict[str, float | None]
    """Metrics by name: `metrics.UNITS`, `asd_o_front` (mm), `seconds` a completion (where nothing is turned),
    `fit_seconds`, and what an experiment adds; None: undefined."""
    knobs: Knobs = ()
    """Settings that were turned."""

    @property
    def run(self) -> tuple[str, str, str, int, Knobs]:
        """What was run on the head."""
        return self.occluder, self.setting, self.method, self.seed, self.knobs


class Done(NamedTuple):
    """A finished run, for an experiment's own measurements."""

    result: Completions
    """The completions."""
    vertices_m: np.ndarray
    """Their vertices [N,V,3], in double precision."""
    truth_m: np.ndarray | None
    """The true head [V,3] in the same frame."""
    head: HeadModel
    """The head given; some methods work on a variant of it."""


More = Callable[[Done], dict[str, float]]
"""What an experiment measures besides; metres in, millimetres out."""


class Bench:
    """Heads prepared for fitting, one a variant of the head that the methods work on."""

    def __init__(
        self, head: HeadModel, samples: int, *, learned: Mapping[str, Learned] | None = None, more: More | None = None
    ) -> None:
        self.head, self.samples, self.more = head, samples, more
        self.learned = dict(learned or {})
        self.problems: dict[str, FitProblem] = {}
        self.variants: dict[str, str] = {}
        self.warm: set[tuple[str, str]] = set()

    def cell(
        self, index: int, subject: Subject, occluder: str, setting: str, runs: Sequence[Trial], *, key: PRNGKeyArray
    ) -> list[Record]:
        """Records of runs on a subject, whose fits the methods share."""
        seen_key, run_key = jax.random.split(key)
        sight = subject.observe(self.head, occluder, setting, key=seen_key)
        fits: dict[str, tuple[Fit, float, Posterior, np.ndarray]] = {}
        records = []
        for run in runs:
            variant = self._variant(run.method)
            if variant not in fits:
                fits[variant] = self._fit(sight, variant)
            fitted, fit_seconds, posterior, facing = fits[variant]
            values = self._run(run, sight, fitted, posterior, facing, key=jax.random.fold_in(run_key, run.seed))
            values["fit_seconds"] = fit_seconds
            records.append(Record(index, occluder, setting, run.method, run.seed, values, run.knobs))
        return records

    def _variant(self, method: str) -> str:
        """Which prepared head a method works on; methods that take the head as it is share one."""
        if method not in self.variants:
            model = METHODS[method].head(self.head)
            name = "whole" if model is self.head else method
            self.variants[method] = name
            if name not in self.problems:
                self.problems[name] = prepare(model)
        return self.variants[method]

    def _fit(self, sight: Sight, variant: str) -> tuple[Fit, float, Posterior, np.ndarray]:
        problem = self.problems[variant]
        if ("fit", variant) not in self.warm:
            self.warm.add(("fit", variant))
            jax.block_until_ready(fit(sight.seen, problem))
        start = time.perf_counter()
        fitted = jax.block_until_ready(fit(sight.seen, problem))
        seconds = time.perf_counter() - start
        shape = fitted.to_world(fitted.vertices_m) if sight.truth_m is None else sight.truth_m
        facing = facing_camera(jnp.asarray(shape, self.head.dtype), self.head.faces)
        return fitted, seconds, choose_posterior(sight.seen, problem.head, fitted, sight.noise), facing

    def _run(
        self, run: Trial, sight: Sight, fitted: Fit, posterior: Posterior, facing: np.ndarray, *, key: PRNGKeyArray
    ) -> dict[str, float | None]:
        knobs: dict[str, Any] = dict(run.knobs)
        problem, config = self.problems[self._variant(run.method)], DiversifyConfig().replace(**knobs)
        kind = METHODS[run.method].weights
        learned = None if kind is None else self.learned.get(kind)

        def once() -> tuple[Completions, np.ndarray]:
            result = complete(
                sight.seen, head=problem, n=self.samples, method=run.method, key=key, noise=sight.noise,
                config=config, fitted=fitted, posterior=posterior, weights=learned,
            )  # fmt: skip
            return result, np.asarray(result.vertices, np.float64)

        if not run.knobs and ("run", run.method) not in self.warm:
            self.warm.add(("run", run.method))  # compiled once a process; no user waits for it twice
            once()
        start = time.perf_counter()
        result, vertices = once()
        seconds = (time.perf_counter() - start) / len(vertices)
        visible = np.asarray(result.visible)
        # Truth and completions are both in the input's frame.
        values = metrics.summary(vertices, np.asarray(result.held, np.float64), visible, sight.truth_m)
        values["asd_o_front"] = metrics.asd(vertices, ~visible & facing)
        if not run.knobs:
            values["seconds"] = seconds
        if self.more is not None:
            values |= self.more(Done(result, vertices, sight.truth_m, self.head))
        return {name: float(value) if np.isfinite(value) else None for name, value in values.items()}

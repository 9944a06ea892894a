"""One cell of the quality suite: a head under an occluder, fitted once, completed by every method."""

import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from diverse3d import metrics
from diverse3d.diversify import METHODS, Posterior, believe, complete
from diverse3d.fit import Fit, FitProblem, fit, prepare
from diverse3d.head import HeadModel
from diverse3d.observe import Observation, simulate_mesh
from diverse3d.raster import facing_camera


class Record(NamedTuple):
    """One run of one method on one head."""

    head: int
    """Index in the test split."""
    occluder: str
    """Region hidden."""
    setting: str
    """`exact` or `realistic`."""
    method: str
    """Name in the table of methods."""
    seed: int
    """Number of the run."""
    values: dict[str, float | None]
    """Metrics by name: `metrics.UNITS`, `asd_o_front` (mm), `seconds` a completion, `fit_seconds`; None: undefined."""

    @property
    def run(self) -> tuple[str, str, str, int]:
        """What was run on the head."""
        return self.occluder, self.setting, self.method, self.seed


class Bench:
    """Heads prepared for fitting, one a variant of the head that the methods work on."""

    def __init__(self, head: HeadModel, samples: int) -> None:
        self.head, self.samples = head, samples
        self.problems: dict[str, FitProblem] = {}
        self.variants: dict[str, str] = {}
        self.warm: set[tuple[str, str]] = set()

    def cell(
        self,
        index: int,
        truth_m: np.ndarray,
        occluder: str,
        setting: str,
        runs: Sequence[tuple[str, int]],
        *,
        key: PRNGKeyArray,
    ) -> list[Record]:
        """Records of (method, seed) runs on a head [V,3] in metres, whose fits the methods share."""
        seen_key, run_key = jax.random.split(key)
        seen = simulate_mesh(truth_m, self.head, region=occluder, setting=setting, key=seen_key)
        facing = facing_camera(jnp.asarray(truth_m, self.head.dtype), self.head.faces)
        fits: dict[str, tuple[Fit, float, Posterior]] = {}
        records = []
        for method, seed in runs:
            variant = self._variant(method)
            if variant not in fits:
                fits[variant] = self._fit(seen, setting, variant)
            fitted, fit_seconds, belief = fits[variant]
            values = self._run(
                method, seen, fitted, belief, truth_m, facing, key=jax.random.fold_in(run_key, seed)
            )
            values["fit_seconds"] = fit_seconds
            records.append(Record(index, occluder, setting, method, seed, values))
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

    def _fit(self, seen: Observation, setting: str, variant: str) -> tuple[Fit, float, Posterior]:
        problem = self.problems[variant]
        if ("fit", variant) not in self.warm:
            self.warm.add(("fit", variant))
            jax.block_until_ready(fit(seen, problem))
        start = time.perf_counter()
        fitted = jax.block_until_ready(fit(seen, problem))
        seconds = time.perf_counter() - start
        return fitted, seconds, believe(seen, problem.head, fitted, setting)

    def _run(
        self,
        method: str,
        seen: Observation,
        fitted: Fit,
        belief: Posterior,
        truth_m: np.ndarray,
        facing: np.ndarray,
        *,
        key: PRNGKeyArray,
    ) -> dict[str, float | None]:
        problem = self.problems[self._variant(method)]

        def once():
            result = complete(
                seen, head=problem, n=self.samples, method=method, key=key, fitted=fitted, belief=belief
            )
            return result, np.asarray(result.vertices, np.float64)

        if ("run", method) not in self.warm:  # compiled once a process; no user waits for it twice
            self.warm.add(("run", method))
            once()
        start = time.perf_counter()
        result, vertices = once()
        seconds = (time.perf_counter() - start) / len(vertices)
        visible = np.asarray(result.visible)
        # Truth and completions are both in the input's frame.
        values = metrics.summary(vertices, np.asarray(result.held, np.float64), visible, truth_m)
        values["asd_o_front"] = metrics.asd(vertices, ~visible & facing)
        values["seconds"] = seconds
        return {name: value if np.isfinite(value) else None for name, value in values.items()}

"""Energy score of residual models beside the closed form's, on the same occluded heads."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from rich.console import Console

from diverse3d import complete, metrics
from diverse3d.diversify import Learned, choose_posterior
from diverse3d.fit import fit, prepare
from diverse3d.head import HeadModel
from diverse3d.metrics import bootstrap_paired
from diverse3d.observe import SETTINGS, STANDARD_REGIONS, simulate_mesh

from .._metric import Metric
from .._report import markdown

SAMPLES = 16
CLOSED_FORM = "closed form"
"""The row that all others are compared with: independent samples of the posterior."""


class Score(NamedTuple):
    """One set of samples of one head."""

    row: str
    """Which model."""
    occluder: str
    """Region hidden."""
    setting: str
    """`exact` or `realistic`."""
    head: int
    """Index in the test split."""
    value: float
    """Energy score over hidden vertices in mm."""


def scores(rows: Mapping[str, Learned], head: HeadModel, truths_m: np.ndarray, console: Console) -> list[Score]:
    """Every row on every head [H,V,3] behind every occluder in both settings, from one fit and one posterior each."""
    problem, found = prepare(head), []
    for index, truth in enumerate(np.asarray(truths_m, np.float64)):
        for number, occluder in enumerate(STANDARD_REGIONS):
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), index), number)
            seen_key, run_key = jax.random.split(key)  # as in the suite `quality`: the same occluder on the same head
            for setting in SETTINGS:
                seen = simulate_mesh(truth, problem.head, region=occluder, setting=setting, key=seen_key)
                fitted = fit(seen, problem)
                posterior = choose_posterior(seen, problem.head, fitted, setting)
                for row, learned in ((CLOSED_FORM, None), *rows.items()):
                    result = complete(
                        seen,
                        head=problem,
                        n=SAMPLES,
                        method="posterior" if learned is None else "hybrid",
                        key=run_key,
                        fitted=fitted,
                        posterior=posterior,
                        weights=learned,
                    )
                    drawn, hidden = np.asarray(result.vertices, np.float64), ~np.asarray(result.visible)
                    found.append(Score(row, occluder, setting, index, metrics.energy_score(drawn, truth, hidden)))
        if (index + 1) % 8 == 0 or index + 1 == len(truths_m):
            console.print(f"vae: energy scores, {index + 1} of {len(truths_m)} heads", highlight=False)
    return found


def summarise(found: Sequence[Score]) -> dict[tuple[str, str, str], tuple[float, float, float, float]]:
    """By (row, setting, occluder): the mean, and the difference to the closed form in % of it with its interval."""
    values: dict[tuple[str, str, str], dict[int, float]] = {}
    for score in found:
        values.setdefault((score.row, score.setting, score.occluder), {})[score.head] = score.value
    summary = {}
    for (row, setting, occluder), own in values.items():
        reference = values[CLOSED_FORM, setting, occluder]
        heads = sorted(own)
        difference = bootstrap_paired([own[h] for h in heads], [reference[h] for h in heads], heads)
        unit = 100.0 / float(np.mean([reference[h] for h in heads]))
        mean = float(np.mean([own[h] for h in heads]))
        apart, low, high = difference
        summary[row, setting, occluder] = (mean, unit * apart, unit * low, unit * high)
    return summary


def energy_metrics(found: Sequence[Score], settings: str) -> list[Metric]:
    """The mean energy score of every row, setting and occluder."""
    measured = []
    for (row, setting, occluder), (mean, *_) in summarise(found).items():
        key = f"{settings}/{row}/{occluder}/{setting}/energy_score"
        measured.append(Metric(key, mean, "mm", "lower", 0.1 if "[" in row else 0.03, 0.01))
    return measured


def energy_table(found: Sequence[Score], settings: str, path: Path) -> str:
    """A line a row and setting; and all of it as CSV."""
    summary = summarise(found)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "setting", "occluder", "energy_score", "difference_percent", "low", "high"])
        for key, numbers in summary.items():
            writer.writerow([*key, *(f"{value:.6g}" for value in numbers)])
    rows = []
    for row, setting in dict.fromkeys((row, setting) for row, setting, _ in summary):
        cells = []
        for occluder in STANDARD_REGIONS:
            mean, percent, low, high = summary[row, setting, occluder]
            compared = "" if row == CLOSED_FORM else f" ({percent:+.1f} % [{low:+.1f}, {high:+.1f}])"
            cells.append(f"{mean:.3f}{compared}")
        rows.append([row, setting, *cells])
    title = f"{settings}: energy score of {SAMPLES} samples over hidden vertices, mm (against the closed form, paired)"
    return markdown(title, ["model", "setting", *STANDARD_REGIONS], rows)

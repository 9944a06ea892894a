"""Energy score of residual models beside the closed form's, on the same occluded heads."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from rich.console import Console

from diverse3d import complete, metrics
from diverse3d.diversify import Learned, choose_posterior
from diverse3d.experiments import Record, chosen, difference, mean
from diverse3d.fit import fit, prepare
from diverse3d.head import HeadModel
from diverse3d.observe import SETTINGS, STANDARD_REGIONS, simulate_mesh

from .._metric import Metric
from .._report import markdown, write_csv

SAMPLES = 16
FIGURE = "energy_score"
CLOSED_FORM = "closed form"
"""The row that all others are compared with: independent samples of the posterior."""


def scores(rows: Mapping[str, Learned], head: HeadModel, truths_m: np.ndarray, console: Console) -> list[Record]:
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
                    value = metrics.energy_score(drawn, truth, hidden)
                    found.append(Record(index, occluder, setting, row, 0, {FIGURE: value}))
        if (index + 1) % 8 == 0 or index + 1 == len(truths_m):
            console.print(f"vae: energy scores, {index + 1} of {len(truths_m)} heads", highlight=False)
    return found


def summarise(found: Sequence[Record]) -> dict[tuple[str, str, str], tuple[float, float, float, float]]:
    """By (row, setting, occluder): the mean, and the difference to the closed form in % of it with its interval."""
    summary = {}
    for row, setting, occluder in dict.fromkeys((one.method, one.setting, one.occluder) for one in found):
        ours, reference = (chosen(found, setting, occluder, name) for name in (row, CLOSED_FORM))
        apart, low, high = difference(ours, reference, FIGURE)
        unit = 100.0 / mean(reference, FIGURE)
        summary[row, setting, occluder] = (mean(ours, FIGURE), unit * apart, unit * low, unit * high)
    return summary


def energy_metrics(found: Sequence[Record], settings: str) -> list[Metric]:
    """The mean energy score of every row, setting and occluder."""
    measured = []
    for (row, setting, occluder), (value, *_) in summarise(found).items():
        key = f"{settings}/{row}/{occluder}/{setting}/energy_score"
        measured.append(Metric(key, value, "mm", "lower", 0.1 if "[" in row else 0.03, 0.01))
    return measured


def energy_table(found: Sequence[Record], settings: str, path: Path) -> str:
    """A line a row and setting; and all of it as CSV."""
    summary = summarise(found)
    head = ("model", "setting", "occluder", "energy_score", "difference_percent", "low", "high")
    write_csv(path, head, [(*key, *numbers) for key, numbers in summary.items()])
    rows = []
    for row, setting in dict.fromkeys((row, setting) for row, setting, _ in summary):
        cells = []
        for occluder in STANDARD_REGIONS:
            value, percent, low, high = summary[row, setting, occluder]
            compared = "" if row == CLOSED_FORM else f" ({percent:+.1f} % [{low:+.1f}, {high:+.1f}])"
            cells.append(f"{value:.3f}{compared}")
        rows.append([row, setting, *cells])
    title = f"{settings}: energy score of {SAMPLES} samples over hidden vertices, mm (against the closed form, paired)"
    return markdown(title, ["model", "setting", *STANDARD_REGIONS], rows)

"""Records of the quality suite → metrics, paired intervals, tables."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from diverse3d.experiments import Plan, Record, by_head, chosen
from diverse3d.metrics import UNITS, bootstrap_paired

from ._metric import Metric
from ._report import markdown


class Column(NamedTuple):
    """How one metric is reported."""

    unit: str
    """Unit."""
    direction: Literal["lower", "higher"]
    """Which way is better."""
    rel_tol: float
    """Tolerance of the gate."""
    title: str
    """Title of its table."""


COLUMNS = {
    "cse_occluded": Column(UNITS["cse_occluded"], "lower", 0.03, "CSE-O (closest sample, hidden vertices)"),
    "energy_score": Column(UNITS["energy_score"], "lower", 0.03, "Energy score, hidden vertices"),
    "cse": Column(UNITS["cse"], "lower", 0.03, "CSE (closest sample, all vertices)"),
    "visible_error": Column(UNITS["visible_error"], "lower", 0.03, "Visible error"),
    "asd_v": Column(UNITS["asd_v"], "lower", 0.05, "ASD-V"),
    "asd_o": Column(UNITS["asd_o"], "higher", 0.05, "ASD-O"),
    "asd_o_front": Column("mm", "higher", 0.05, "ASD-O of hidden vertices that face the camera"),
    # Over- and underconfidence are both wrong; what a change is likely to lose is the truth, so the gate looks there.
    "coverage_90": Column("%", "higher", 0.05, "Coverage of the 90 % interval, hidden vertices (90 is right)"),
    "mahalanobis": Column(UNITS["mahalanobis"], "lower", 0.05, "Mahalanobis distance from the mean head / √K"),
    "seam": Column("°", "lower", 0.1, "Seam: how much normals at the mask's border turn beyond the true head's"),
    "seconds": Column("s", "lower", 2.0, "Seconds a completion, fit and compilation left out"),
    "fit_seconds": Column("s", "lower", 2.0, "Seconds of the fit that a completion starts from"),
}
COMPARED = {"cse_occluded": "map", "energy_score": "posterior"}
"""Which method a metric is compared with, head by head."""

Cell = tuple[str, str]
"""(occluder, setting)."""


def paired_difference(ours: dict[int, float], reference: dict[int, float]) -> tuple[float, float, float]:
    """Mean difference over heads and its 95 % bootstrap interval; heads are drawn, since seeds share a head."""
    return bootstrap_paired(list(ours.values()), [reference[head] for head in ours], list(ours))


class Summary(NamedTuple):
    """Means of a method in a cell."""

    mean: dict[str, float]
    """Mean over heads of each of `COLUMNS`, and `ratio`."""
    against: dict[str, tuple[float, float, float]]
    """For each of `COMPARED`: paired difference to the reference method with its interval."""
    share_of_map: float
    """Mean CSE-O over that of `map`."""


def summarise(records: Sequence[Record], plan: Plan) -> dict[tuple[Cell, str], Summary]:
    """Summary of every (cell, method)."""
    summaries = {}
    for cell in ((o, s) for o in plan.occluders for s in plan.settings):
        occluder, setting = cell
        heads = {
            method: {name: by_head(chosen(records, setting, occluder, method), name) for name in COLUMNS}
            for method in plan.methods
        }
        for method in plan.methods:
            mean = {name: float(np.mean(list(heads[method][name].values()))) for name in COLUMNS}
            # Of means, as in the paper's tables: the mean of ratios is ruled by the heads whose ASD-V is tiny.
            mean["ratio"] = mean["asd_o"] / mean["asd_v"] if mean["asd_v"] > 0 else float("nan")
            against = {
                name: paired_difference(heads[method][name], heads[reference][name])
                for name, reference in COMPARED.items()
            }
            base = float(np.mean(list(heads["map"]["cse_occluded"].values())))
            summaries[cell, method] = Summary(mean, against, mean["cse_occluded"] / base)
    return summaries


def quality_metrics(records: Sequence[Record], plan: Plan, settings: str) -> list[Metric]:
    """The suite's contract: means of every cell and method. A single completion has no spread to report."""
    metrics = []
    for ((occluder, setting), method), summary in summarise(records, plan).items():
        for name, column in COLUMNS.items():
            if np.isnan(summary.mean[name]) or (method == "map" and name.startswith("asd")):
                continue
            key = f"{settings}/{occluder}/{setting}/{method}/{name}"
            absolute = 0.01 if column.unit == "mm" else 0.02
            metrics.append(Metric(key, summary.mean[name], column.unit, column.direction, column.rel_tol, absolute))
    return metrics


def quality_tables(records: Sequence[Record], plan: Plan, settings: str, out: Path) -> dict[str, str]:
    """Markdown with a row a method and a column an occluder × setting; the same numbers as quality.csv in `out`."""
    summaries = summarise(records, plan)
    cells = [(o, s) for s in plan.settings for o in plan.occluders]
    head = ["method", *(f"{occluder}, {setting}" for occluder, setting in cells)]

    def table(title: str, text) -> str:
        rows = [[method, *(text(summaries[cell, method]) for cell in cells)] for method in plan.methods]
        return markdown(title, head, rows)

    def with_interval(name: str):
        def text(summary: Summary) -> str:
            difference, low, high = summary.against[name]
            return f"{difference:+.2f} [{low:+.2f}, {high:+.2f}]"

        return text

    note = "Millimetres; means over heads and seeds; 95 % intervals are paired bootstraps over heads."
    parts = [f"# {settings}\n\n{note}\n\n", _overview(summaries, plan)]
    for name, column in COLUMNS.items():
        digits = {"s": 3, "%": 0}.get(column.unit, 2)
        title = f"{column.title} ({column.unit}, {column.direction} is better)"
        parts.append(table(title, lambda s, name=name, digits=digits: _number(s.mean[name], digits)))
        if name in COMPARED:
            parts.append(table(f"{column.title}: difference to {COMPARED[name]}", with_interval(name)))
    parts.append(table("CSE-O as a share of map's", lambda s: f"{s.share_of_map:.2f}"))
    parts.append(table("ASD-O / ASD-V (of the means)", lambda s: _number(s.mean["ratio"], 1)))
    _write_csv(summaries, out / "quality.csv")
    return {"quality": "".join(parts)}


def _overview(summaries: dict[tuple[Cell, str], Summary], plan: Plan) -> str:
    """The table of findings: one cell holds every occluder, so that a method's numbers stand in one row."""
    names = ("ratio", "cse_occluded", "energy_score", "visible_error")
    text = ""
    for setting in plan.settings:
        rows = []
        for method in plan.methods:
            means = [summaries[(occluder, setting), method].mean for occluder in plan.occluders]
            cells = [" / ".join(_number(mean[name], 0 if name == "ratio" else 2) for mean in means) for name in names]
            rows.append([method, *cells, f"{1e3 * np.mean([mean['seconds'] for mean in means]):.0f}"])
        head = ["method", "ASD-O / ASD-V", "CSE-O", "energy score", "visible error", "ms a completion"]
        text += markdown(f"{setting}: {' / '.join(plan.occluders)}", head, rows)
    return text


def _number(value: float, digits: int) -> str:
    return "–" if np.isnan(value) else f"{value:.{digits}f}"


def _write_csv(summaries: dict[tuple[Cell, str], Summary], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "occluder", "setting", "metric", "mean", "reference", "difference", "low", "high"])
        for ((occluder, setting), method), summary in summaries.items():
            for name, value in summary.mean.items():
                compared = (COMPARED[name], *summary.against[name]) if name in COMPARED else ("", "", "", "")
                writer.writerow([method, occluder, setting, name, value, *compared])
            writer.writerow([method, occluder, setting, "cse_occluded / map", summary.share_of_map, "", "", "", ""])

"""Suite `quality`: the experiment `table1`, whose figures become metrics; an interrupted run goes on."""

import math
from typing import Literal

from rich.console import Console

from diverse3d import experiments
from diverse3d.experiments import OVERALL, Findings, Table
from diverse3d.head import load_head

from .._metric import Metric
from .._options import Options
from .._report import markdown

TOLERANCES = {
    "cse_occluded": 0.03, "energy_score": 0.03, "cse": 0.03, "visible_error": 0.03, "asd_v": 0.05, "asd_o": 0.05,
    "asd_o_front": 0.05, "coverage_90": 0.05, "mahalanobis": 0.05, "seam": 0.1, "seconds": 2.0, "fit_seconds": 2.0,
}  # fmt: skip
"""Figures that the gate watches, each with its relative tolerance."""


def run(options: Options, console: Console) -> tuple[list[Metric], dict[str, str]]:
    """Measure; metrics and tables. The experiment's own files lie in `quality`."""
    asked = experiments.Options(
        out=options.out / "quality", methods=options.methods, heads=options.heads, seeds=options.seeds,
        head=options.head,
    )  # fmt: skip
    found = experiments.run("table1", asked, console)
    other = "" if options.head is None else f",head={load_head(options.head).sha256[:8]}"
    settings = f"quality[heads={asked.heads},seeds={asked.seeds},n={asked.samples}{other}]"
    return quality_metrics(found, settings), {"quality": quality_table(found, settings)}


def quality_metrics(found: Findings, settings: str) -> list[Metric]:
    """Means of every occluder, setting and method. A single completion has no spread to report."""
    metrics = []
    for row in found.rows:
        name, method, mean = row["figure"], row["method"], row["mean"]
        if row["occluder"] == OVERALL or name not in TOLERANCES or math.isnan(mean):
            continue
        if method == "map" and name.startswith("asd"):
            continue
        # Over- and underconfidence are both wrong; what a change is likely to lose is the truth: coverage counts up.
        better: Literal["lower", "higher"] = "higher" if name.startswith("asd_o") or name == "coverage_90" else "lower"
        key = f"{settings}/{row['occluder']}/{row['setting']}/{method}/{name}"
        room = 0.01 if row["unit"] == "mm" else 0.02
        metrics.append(Metric(key, mean, row["unit"], better, TOLERANCES[name], room))
    return metrics


def quality_table(found: Findings, settings: str) -> str:
    """The findings in Markdown."""
    said = "".join(f"- {text}\n" for text in found.statements)
    tables = (markdown(part.title, part.head, part.rows) for part in found.parts if isinstance(part, Table))
    return f"# {settings}\n\n{said}\n{''.join(tables)}"

"""A run's numbers as JSON, CSV, Markdown and on the screen."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from ._metric import Metric, Verdict, entry


def write(metrics: Sequence[Metric], tables: Mapping[str, str], environment: dict[str, str], out: Path) -> None:
    """results.json and results.csv with every metric, and one Markdown file a table."""
    results = {"environment": environment, "metrics": {metric.key: entry(metric) for metric in metrics}}
    (out / "results.json").write_text(json.dumps(results, indent=1, allow_nan=False) + "\n")
    write_csv(out / "results.csv", ("key", "value", "unit", "direction"), [
        (m.key, m.value, m.unit, m.direction) for m in metrics
    ])  # fmt: skip
    for name, text in tables.items():
        (out / f"{name}.md").write_text(text)


def write_csv(path: Path, head: Sequence[str], rows: Iterable[Sequence[str | float]]) -> None:
    """A table as CSV; six digits a number are more than any has."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row] for row in rows)


def markdown(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table under a title."""
    lines = [f"### {title}", "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n\n"


def show(console: Console, metrics: Sequence[Metric], verdict: Verdict, baseline: Mapping[str, float]) -> None:
    """Every metric beside its baseline, then what got worse and what the baseline lacks."""
    worse = {metric.key for metric, _ in verdict.regressions}
    table = Table(Column("metric", overflow="fold"), "value", "baseline", "unit", "better", title="Benchmarks")
    for metric in metrics:
        known = f"{baseline[metric.key]:.4g}" if metric.key in baseline else "missing"
        style = "bold red" if metric.key in worse else None
        value, name = f"{metric.value:.4g}", metric.key.replace("[", r"\[")
        table.add_row(name, value, known, metric.unit, metric.direction, style=style)
    console.print(table)
    for metric, before in verdict.regressions:
        console.print(
            f"REGRESSION {metric.key}: {metric.value:.4g} {metric.unit}, baseline {before:.4g} "
            f"({metric.direction} is better, tolerance {metric.rel_tol:.0%} + {metric.abs_tol:g})",
            style="bold red",
            markup=False,
        )
    if verdict.missing:
        console.print(
            f"{len(verdict.missing)} of {len(metrics)} metrics have no baseline and were NOT judged, "
            f"for example {verdict.missing[0].key}; --update-baseline records them.",
            style="yellow",
            markup=False,
        )
    worse_count, unknown = len(verdict.regressions), len(verdict.missing)
    console.print(f"{verdict.passed} held, {worse_count} got worse, {unknown} without a baseline.")

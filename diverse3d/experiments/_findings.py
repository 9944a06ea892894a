"""Records → means, paired differences, and what a suite hands to the page."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..metrics import READINGS, PairedDifference, Reading, bootstrap_paired
from ._cells import Knobs, Record

OVERALL = "overall"
"""All occluders of a plan together."""

FIGURES = {
    **READINGS,
    "seconds": Reading("s", "lower", "seconds a completion, fit and compilation left out"),
    "fit_seconds": Reading("s", "lower", "seconds of the fit"),
    "identity": Reading("standard deviations", "", "spread of identity"),
    "expression": Reading("standard deviations", "", "spread of expression"),
    "identity_mm": Reading("mm", "", "spread of identity"),
    "expression_mm": Reading("mm", "", "spread of expression"),
    "spread": Reading("mm", "", "spread of a region's vertices"),
    "deviation": Reading("mm", "lower", "visible deviation from what is held"),
    "drift": Reading("mm", "lower", "visible deviation that the ends don't have"),
    "largest_step": Reading("mean steps", "lower", "largest step"),
    "plain_deviation": Reading("mm", "lower", "visible deviation, straight line"),
    "plain_drift": Reading("mm", "lower", "visible deviation that the ends don't have, straight line"),
    "plain_largest_step": Reading("mean steps", "lower", "largest step, straight line"),
}
"""How every figure is read, by the part of its name before `/`."""


class Table(NamedTuple):
    """A table of a page."""

    title: str
    """What it shows."""
    head: tuple[str, ...]
    """Titles of its columns."""
    rows: list[tuple[str, ...]]
    """Cells; the first is the row's name."""


class Picture(NamedTuple):
    """A plot of a page."""

    title: str
    """What it shows."""
    svg: str
    """The drawing."""


@dataclass(frozen=True)
class Findings:
    """What a suite found."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    """Figures, a row a line of the CSV; all rows have the same keys."""
    statements: list[str] = field(default_factory=list)
    """What the figures say, computed, one sentence each."""
    claims: list[dict[str, Any]] = field(default_factory=list)
    """The same as data."""
    parts: list[Table | Picture] = field(default_factory=list)
    """Tables and plots, in order."""
    alarms: list[dict[str, str]] = field(default_factory=list)
    """Where diversity was bought."""


def chosen(records: Sequence[Record], setting: str, occluder: str, method: str, knobs: Knobs = ()) -> list[Record]:
    """Records of one method in a cell; behind every occluder where it is `OVERALL`."""
    return [
        record
        for record in records
        if (record.setting, record.method, record.knobs) == (setting, method, knobs)
        and occluder in (OVERALL, record.occluder)
    ]


def by_head(records: Sequence[Record], name: str) -> dict[int, float]:
    """A figure's mean over occluders and seeds, by head; NaN where it is not defined."""
    values: dict[int, list[float]] = {}
    for record in records:
        value = record.values[name]
        values.setdefault(record.head, []).append(float("nan") if value is None else value)
    return {head: float(np.mean(each)) for head, each in values.items()}


def mean(records: Sequence[Record], name: str) -> float:
    """A figure's mean over heads; NaN where a head has none."""
    return float(np.mean(list(by_head(records, name).values())))


def means(records: Sequence[Record], names: Sequence[str]) -> dict[str, float]:
    """Means of figures, with `ratio` of the mean self-distances.

    As in the paper's tables: the mean of ratios is ruled by the heads whose ASD-V is tiny.
    """
    values = {name: mean(records, name) for name in names if name != "ratio"}
    if "ratio" in names:
        values["ratio"] = values["asd_o"] / values["asd_v"] if values["asd_v"] > 0 else float("nan")
    return {name: values[name] for name in names}


def difference(ours: Sequence[Record], reference: Sequence[Record], name: str) -> PairedDifference:
    """Paired difference of a figure, ours - reference, over heads with its 95 % interval."""
    first, second = by_head(ours, name), by_head(reference, name)
    return bootstrap_paired(list(first.values()), [second[head] for head in first], list(first))


def number(value: float, digits: int = 2) -> str:
    """A figure as text; a dash where it is not defined."""
    return f"{value:.{digits}f}" if np.isfinite(value) else "–"


def interval(value: PairedDifference, digits: int = 2) -> str:
    """A difference with its interval as text."""
    if not np.isfinite(value.mean):
        return "–"
    return f"{value.mean:+.{digits}f} [{value.low:+.{digits}f}, {value.high:+.{digits}f}]"


def knob_text(knobs: Knobs) -> str:
    """Settings as text; empty for the defaults."""
    return ", ".join(f"{name} = {value:g}" for name, value in knobs)


def unit(name: str) -> str:
    """Unit of a figure."""
    return FIGURES[name.partition("/")[0]].unit

"""fig4: the visible part along interpolation paths (Dey and Boddeti 2022, supplement §1.6)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..diversify import METHODS
from ._cells import Record
from ._extras import FRAMES
from ._findings import Findings, Picture, Table, chosen, mean, number
from ._plan import Plan
from ._plots import Line, curves

ABOUT = (
    "The path between the two completions farthest apart, its visible part held along the way, and the latents' "
    "straight line beside it. Deviation is the RMS distance from what the visible part is held to; drift is what of it "
    "the path's ends don't have. Millimetres; means over heads, occluders and seeds, with the largest of any path."
)
LARGEST_DRIFT_MM = 0.2
LARGEST_STEP = 1.5


def suits(method: str) -> str | None:
    """A path takes two completions."""
    return "a path joins two completions, and it makes one." if METHODS[method].single else None


def conclude(records: Sequence[Record], plan: Plan) -> Findings:
    """Deviation by frame, and whether the path holds the visible part and walks evenly."""
    found = Findings()
    panels: dict[str, list[Line]] = {}
    table: list[tuple[str, ...]] = []
    for setting in plan.settings:
        for method in plan.methods:
            for occluder in plan.groups:
                cell = chosen(records, setting, occluder, method)
                along = {name: _along(cell, name) for name in ("deviation", "drift", "plain_deviation", "plain_drift")}
                where = {"method": method, "setting": setting, "occluder": occluder}
                found.rows.extend(
                    {**where, "frame": frame, **{name: values[frame] for name, values in along.items()}}
                    for frame in range(FRAMES)
                )
            drift, plain = (_largest(cell, f"{name}/") for name in ("drift", "plain_drift"))
            step = _largest(cell, "largest_step")
            holds, even = bool(drift <= LARGEST_DRIFT_MM), bool(step <= LARGEST_STEP)
            title = f"{method}, {setting}, {occluder}"
            found.claims.append({
                "claim": "the visible part is held along the path", **where, "true": holds, "largest_drift_mm": drift,
                "largest_drift_of_the_straight_line_mm": plain, "largest_step": step, "even": even,
            })  # fmt: skip
            found.statements.append(
                f"{title}: drift of at most {LARGEST_DRIFT_MM} mm: {'true' if holds else 'false'} (largest "
                f"{drift:.3f} mm; straight line {plain:.3f} mm); steps of at most {LARGEST_STEP} × their mean: "
                f"{'true' if even else 'false'} (largest {step:.2f})."
            )
            measured = (mean(cell, f"deviation/{FRAMES // 2}"), drift, plain, step)
            table.append((title, *(number(value, 3) for value in measured)))
            panels[f"{setting}, {occluder}"] = [
                *panels.get(f"{setting}, {occluder}", []),
                Line(range(FRAMES), along["deviation"], method),
                Line(range(FRAMES), along["plain_deviation"], f"{method}, straight", pale=True),
            ]
    head = ("path", "deviation half way (mm)", "largest drift (mm)", "of the straight line (mm)", "largest step")
    found.parts.append(Table("Paths", head, table))
    picture = curves(panels, "head along the path", "visible deviation (mm)")
    found.parts.append(Picture("Visible deviation along the path", picture))
    return found


def _along(records: Sequence[Record], name: str) -> list[float]:
    return [mean(records, f"{name}/{frame}") for frame in range(FRAMES)]


def _largest(records: Sequence[Record], name: str) -> float:
    """The largest value of any run; NaN where one is not defined."""
    values: list[Any] = [value for record in records for key, value in record.values.items() if key.startswith(name)]
    return float(np.max([np.nan if value is None else value for value in values]))

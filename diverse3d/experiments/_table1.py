"""table1: methods × occluders, as in Dey and Boddeti's (2022) table 1, with what that table leaves out."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..metrics import PairedDifference, gaming_alarm
from ._cells import Record
from ._findings import FIGURES, Findings, Picture, Table, chosen, difference, interval, means, number, unit
from ._plan import Plan
from ._plots import Line, curves, differences

ABOUT = (
    "Every method completes the same heads behind the same occluders. ASD-V and ASD-O are the distances to the nearest "
    "other completion over what is visible (low is good) and hidden (high is good); diversity alone can't buy the "
    "closest sample's error, the energy score and the visible error. Millimetres; means over heads, occluders and "
    "seeds; in brackets 95 % intervals of paired bootstraps over heads."
)
REFERENCES = ("map", "posterior")
"""Methods that all others are compared with."""

COLUMNS = (
    "asd_v", "asd_o", "asd_o_front", "ratio", "cse_occluded", "energy_score", "cse", "visible_error", "coverage_90",
    "mahalanobis", "seam", "seconds", "fit_seconds",
)  # fmt: skip
_COMPARED = {"cse_occluded": "map", "energy_score": "posterior"}
"""Differences that the page shows; the files hold them all."""

_SHORT = {
    "asd_v": "ASD-V", "asd_o": "ASD-O", "asd_o_front": "ASD-O, front", "ratio": "ratio", "cse_occluded": "CSE-O",
    "energy_score": "energy score", "cse": "CSE", "visible_error": "visible error", "coverage_90": "coverage 90 (%)",
    "mahalanobis": "Mahalanobis / √K", "seam": "seam (°)", "seconds": "ms",
}  # fmt: skip
"""Figures on the page, with their titles there."""

_SCALE = {"ratio": (1.0, 1), "coverage_90": (1.0, 1), "seconds": (1e3, 0)}
"""Factor and decimals of those that are not millimetres with two."""

Means = Mapping[str, Mapping[str, float]]
"""Figures by method."""

Against = Mapping[str, Mapping[tuple[str, str], PairedDifference]]
"""Paired differences by method, then by (figure, reference)."""


def conclude(records: Sequence[Record], plan: Plan) -> Findings:
    """Tables by setting and occluder, with alarms; plots of all occluders together."""
    names = [name for name in COLUMNS if all(name in record.values for record in records)]
    found = Findings()
    for setting in plan.settings:
        tables: list[Table | Picture] = []
        for occluder in plan.groups:
            cell = {method: chosen(records, setting, occluder, method) for method in plan.methods}
            figures = {method: means(cell[method], names) for method in plan.methods}
            against: Against = {
                method: {
                    (name, reference): difference(cell[method], cell[reference], name)
                    for name in names
                    for reference in REFERENCES
                    if name != "ratio"
                }
                for method in plan.methods
            }
            found.rows.extend(_rows(setting, occluder, figures, against))
            tables.append(_table(setting, occluder, figures, against))
            _alarm(found, f"{setting}, {occluder}", figures, against)
            if len({record.head for record in records}) > 1:
                _state(found, setting, occluder, against, stated=occluder == plan.groups[-1])
            if occluder == plan.groups[-1]:
                found.parts.extend(_pictures(f"{setting}, {occluder}", figures, against))
        found.parts.extend(tables)
    return found


def _alarm(found: Findings, where: str, figures: Means, against: Against) -> None:
    for method, own in figures.items():
        intervals = {name: paired for (name, reference), paired in against[method].items() if reference == "posterior"}
        for sentence in gaming_alarm(own, figures["posterior"], intervals=intervals):
            found.alarms.append({
                "where": f"{where}, {method}", "method": method, "reference": "posterior", "sentence": sentence,
            })  # fmt: skip


def _rows(setting: str, occluder: str, figures: Means, against: Against) -> list[dict[str, Any]]:
    rows = []
    for method, values in figures.items():
        for name, value in values.items():
            row: dict[str, Any] = {
                "setting": setting, "occluder": occluder, "method": method, "figure": name, "unit": unit(name),
                "mean": value,
            }  # fmt: skip
            for reference in REFERENCES:
                paired = against[method].get((name, reference), (float("nan"),) * 3)
                ends = zip(("", "_low", "_high"), paired, strict=True)
                row |= {f"minus_{reference}{end}": part for end, part in ends}
            rows.append(row)
    return rows


def _table(setting: str, occluder: str, figures: Means, against: Against) -> Table:
    names = [name for name in next(iter(figures.values())) if name in _SHORT]
    head = ["method"]
    for name in names:
        head += [_SHORT[name], f"− {_COMPARED[name]}"] if name in _COMPARED else [_SHORT[name]]
    rows = []
    for method, values in figures.items():
        row = [method]
        for name in names:
            scale, digits = _SCALE.get(name, (1.0, 2))
            row.append(number(scale * values[name], digits))
            if name in _COMPARED:
                same = method == _COMPARED[name]
                row.append("" if same else interval(against[method][name, _COMPARED[name]]))
        rows.append(tuple(row))
    return Table(f"{occluder}, {setting}", tuple(head), rows)


def _state(found: Findings, setting: str, occluder: str, against: Against, *, stated: bool) -> None:
    """Whose closest sample beats the single guess, and whose energy score the posterior's, beyond the interval."""
    for name, reference in _COMPARED.items():
        ours = {method: each[name, reference] for method, each in against.items() if (name, reference) in each}
        lower = [method for method, each in ours.items() if each.high < 0]
        higher = [method for method, each in ours.items() if each.low > 0]
        if ours:
            found.claims.append({
                "claim": f"{name} against {reference}", "setting": setting, "occluder": occluder, "lower": lower,
                "higher": higher,
            })  # fmt: skip
        if ours and stated:
            found.statements.append(
                f"{setting}, {occluder}: {FIGURES[name].title} is below {reference}'s beyond the interval for "
                f"{', '.join(lower) or 'none'}, and above it for {', '.join(higher) or 'none'}."
            )


def _pictures(where: str, figures: Means, against: Against) -> list[Table | Picture]:
    honest = [name for name in ("cse_occluded", "energy_score", "visible_error") if name in figures["posterior"]]
    panels = {
        FIGURES[name].title: [Line([own["asd_o"]], [own[name]], method) for method, own in figures.items()]
        for name in honest
    }
    made: list[Table | Picture] = [Picture(f"{where}: what diversity comes with", curves(panels, "ASD-O (mm)", "mm"))]
    compared = {
        f"{FIGURES[name].title}, less {reference}'s": {m: each[name, reference] for m, each in against.items()}
        for name, reference in _COMPARED.items()
        if name in honest
    }
    if compared:
        made.append(Picture(f"{where}: paired differences", differences(compared, "mm")))
    return made

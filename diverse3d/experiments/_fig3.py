"""fig3: what is diverse behind which occluder (Dey and Boddeti 2022, supplement, figure 3)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..diversify import METHODS
from ..observe import REGIONS
from ._cells import Record
from ._findings import Findings, Picture, Table, chosen, difference, interval, means, number
from ._plan import Plan
from ._plots import bars, heat

ABOUT = (
    "An occluder over each part of the face in turn. Identity and expression are the RMS standard deviation over "
    "completions of a coefficient, in population standard deviations, the coefficients read off the vertices by least "
    "squares; a region's spread is the RMS distance of its vertices from their mean. Means over heads and seeds."
)
OCCLUDERS = tuple(region for region in REGIONS if region not in ("glasses", "face-mask"))
_FIGURES = ("asd_v", "asd_o", "identity", "expression", "identity_mm", "expression_mm")
_CLAIMED = "mouth"


def suits(method: str) -> str | None:
    """A single completion has no spread."""
    return "a single completion has no spread." if METHODS[method].single else None


def conclude(records: Sequence[Record], plan: Plan) -> Findings:
    """Spreads by occluder and region; whether expression is most diverse behind the mouth's occluder."""
    found = Findings()
    regions = [name for name in records[0].values if name.startswith("spread/")]
    drawn: dict[str, dict[str, list[float]]] = {}
    for method in plan.methods:
        for setting in plan.settings:
            cells = {occluder: chosen(records, setting, occluder, method) for occluder in plan.occluders}
            figures = {occluder: means(cell, (*_FIGURES, *regions)) for occluder, cell in cells.items()}
            where = {"method": method, "setting": setting}
            found.rows.extend({**where, "occluder": occluder, **values} for occluder, values in figures.items())
            title = f"{method}, {setting}"
            head = ("occluder", "ASD-V", "ASD-O", "identity (σ)", "expression (σ)", "identity (mm)", "expression (mm)")
            rows = [(occluder, *(number(v[name], 3) for name in _FIGURES)) for occluder, v in figures.items()]
            found.parts.append(Table(title, head, rows))
            drawn[title] = {name: [v[name] for v in figures.values()] for name in ("identity", "expression")}
            names = [name.removeprefix("spread/").replace("_", " ") for name in regions]
            matrix = np.array([[figures[occluder][name] for name in regions] for occluder in plan.occluders])
            if regions:
                picture = heat({f"{title} (mm)": matrix}, plan.occluders, names, "occluder", "")
                found.parts.append(Picture(f"{title}: spread of each region", picture))
            _claim(found, where, cells, figures)
    picture = bars(drawn, plan.occluders, "spread (population σ)")
    found.parts.insert(0, Picture("Identity against expression", picture))
    return found


def _claim(
    found: Findings, where: dict[str, str], cells: dict[str, list[Record]], figures: dict[str, dict[str, float]]
) -> None:
    """The paper's claim that expression is most diverse for the mouth, in standard deviations and in millimetres."""
    if _CLAIMED not in cells or len(cells) < 2:
        return
    for name, unit in (("expression", "σ"), ("expression_mm", "mm")):
        order = sorted((o for o in cells if o != _CLAIMED), key=lambda occluder: -figures[occluder][name])
        rival, own = order[0], figures[_CLAIMED][name]
        holds = bool(own > figures[rival][name])
        paired = difference(cells[_CLAIMED], cells[rival], name)
        claim: dict[str, Any] = {
            "claim": "expression diversity is highest for the mouth", "unit": unit, **where, "true": holds,
            "mouth": own, "highest_other": {"occluder": rival, "value": figures[rival][name]},
            "difference": paired._asdict(),
        }  # fmt: skip
        found.claims.append(claim)
        found.statements.append(
            f"{where['method']}, {where['setting']}: expression diversity is highest for the mouth: "
            f"{'true' if holds else 'false'} ({own:.3f} {unit}; highest elsewhere {figures[rival][name]:.3f} {unit}, "
            f"{rival}; paired difference {interval(paired, 3)})."
        )

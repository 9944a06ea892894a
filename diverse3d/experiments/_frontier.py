"""frontier: what each method's diversity costs, while its knob turns."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ._cells import Knobs, Record
from ._findings import FIGURES, Findings, Picture, Table, by_head, chosen, knob_text, means, number
from ._plan import Plan
from ._plots import Line, curves

ABOUT = (
    "Each method's knob is turned: the contraction of a pool before selection, or the weight of Algorithm 2's "
    "diversity loss; methods without a knob are points. Down and to the right is better: errors that diversity can't "
    "buy, at the same diversity. Millimetres; means over heads and seeds."
)
CONTRACTION = (0.3, 0.5, 0.7, 0.85, 1.0, 1.15, 1.3)
DPP_WEIGHT = (0.0025, 0.008, 0.025, 0.08, 0.25)
KNOBS: dict[str, tuple[str, tuple[float, ...]]] = {
    "posterior-dpp": ("contraction", CONTRACTION),
    "hybrid-dpp": ("contraction", CONTRACTION),
    "global-dpp": ("dpp_weight", DPP_WEIGHT),
    "global-local-dpp": ("dpp_weight", DPP_WEIGHT),
    "vae-dpp": ("dpp_weight", DPP_WEIGHT),
    "vae-dpp-kriging": ("dpp_weight", DPP_WEIGHT),
}
"""The knob of each method that has one."""

OURS, REFERENCE = "hybrid-dpp", "posterior-dpp"
"""The curve that is looked at most, and the one that all others are compared with."""

HONEST = ("cse_occluded", "energy_score")
_FIGURES = ("asd_v", "asd_o", "ratio", *HONEST, "visible_error")
_POINTS = 41
_DRAWS = 1000


def knobs(method: str) -> tuple[Knobs, ...]:
    """The settings of a method's curve."""
    if method not in KNOBS:
        return ((),)
    name, values = KNOBS[method]
    return tuple(((name, value),) for value in values)


class Curve(NamedTuple):
    """A method's curve, by head."""

    x: Float[np.ndarray, "points heads"]
    """ASD-O."""
    y: Float[np.ndarray, "points heads"]
    """An error."""

    def at(self, x: Float[np.ndarray, " n"], heads: Any = slice(None)) -> Float[np.ndarray, " n"]:
        """The error at given diversities, of the means over heads; linear between the points."""
        across, up = self.x[:, heads].mean(1), self.y[:, heads].mean(1)
        order = np.argsort(across, kind="stable")
        return np.interp(x, across[order], up[order])

    @property
    def reach(self) -> tuple[float, float]:
        """Lowest and highest mean diversity."""
        across = self.x.mean(1)
        return float(across.min()), float(across.max())


class Comparison(NamedTuple):
    """Two curves at equal diversity."""

    x: Float[np.ndarray, " n"]
    """Diversities that both reach, evenly spaced."""
    difference: Float[np.ndarray, " n"]
    """Ours less the reference's."""
    low: Float[np.ndarray, " n"]
    """Lower end of its 95 % bootstrap interval over heads."""
    high: Float[np.ndarray, " n"]
    """Upper end."""

    def below(self) -> list[tuple[float, float]]:
        """Stretches of diversity where ours lies below."""
        return stretches(self.x, self.difference < 0)


def stretches(x: np.ndarray, inside: np.ndarray) -> list[tuple[float, float]]:
    """First and last `x` of each run of true entries."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], inside.astype(np.int8), [0]])))
    return [(float(x[first]), float(x[last - 1])) for first, last in edges.reshape(-1, 2)]


def compare(ours: Curve, reference: Curve) -> Comparison | None:
    """Ours against the reference at equal diversity; None where they reach none together."""
    low, high = max(ours.reach[0], reference.reach[0]), min(ours.reach[1], reference.reach[1])
    if low > high:
        return None
    x = np.linspace(low, high, _POINTS)
    count = ours.x.shape[1]
    draws = np.random.default_rng(0).integers(0, count, (_DRAWS, count))
    drawn = np.stack([ours.at(x, heads) - reference.at(x, heads) for heads in draws])
    ends = np.percentile(drawn, [2.5, 97.5], axis=0)
    return Comparison(x, ours.at(x) - reference.at(x), ends[0], ends[1])


def conclude(records: Sequence[Record], plan: Plan) -> Findings:
    """Curves, and where each method's lies below the closed form's."""
    found = Findings()
    for setting in plan.settings:
        for occluder in plan.groups:
            cells = {
                method: [chosen(records, setting, occluder, method, turned) for turned in plan.knobs[method]]
                for method in plan.methods
            }
            rows = _rows(setting, occluder, cells, plan)
            found.rows.extend(rows)
            for method in plan.methods:
                if method in KNOBS and method != REFERENCE and REFERENCE in cells:
                    _compare(found, setting, occluder, method, cells, stated=occluder == plan.groups[-1])
            title = f"{setting}, {occluder}"
            found.parts.append(Picture(f"{title}: error against diversity", _drawn(rows)))
            if occluder == plan.groups[-1]:
                head = ("method", "knob", *(FIGURES[name].title for name in _FIGURES))
                lines = [(r["method"], r["knobs"], *(number(r[name], 3) for name in _FIGURES)) for r in rows]
                found.parts.append(Table(title, head, lines))
    missing = [name for name in (OURS, REFERENCE) if name not in plan.methods]
    if missing:
        found.statements.insert(0, f"Without {' and '.join(missing)} nothing is said of {OURS} against {REFERENCE}.")
    return found


def _rows(setting: str, occluder: str, cells: Mapping[str, list[list[Record]]], plan: Plan) -> list[dict[str, Any]]:
    where = {"setting": setting, "occluder": occluder}
    return [
        {**where, "method": method, "knobs": knob_text(turned), **means(cell, _FIGURES)}
        for method, curve in cells.items()
        for turned, cell in zip(plan.knobs[method], curve, strict=True)
    ]


def _compare(
    found: Findings, setting: str, occluder: str, method: str, cells: Mapping[str, list[list[Record]]], *, stated: bool
) -> None:
    """A claim a figure; a sentence each of ours, and of the others where it is `stated`."""
    for name in HONEST:
        ours, reference = (_curve(cells[one], name) for one in (method, REFERENCE))
        result = compare(ours, reference)
        claim: dict[str, Any] = {
            "claim": f"{method} lies below {REFERENCE}", "figure": name, "setting": setting, "occluder": occluder,
            "reach_mm": {method: ours.reach, REFERENCE: reference.reach}, "shared": result is not None,
        }  # fmt: skip
        said = f"{setting}, {occluder}, {FIGURES[name].title}: {method}"
        if result is None:
            said += f" and {REFERENCE} reach no ASD-O in common."
        else:
            below, everywhere = result.below(), bool((result.difference < 0).all())
            sure = int((result.high < 0).sum()), int((result.low > 0).sum())
            claim |= {
                "true": everywhere, "below_mm": below, "not_below_mm": stretches(result.x, result.difference >= 0),
                "asd_o_mm": result.x, "difference_mm": result.difference, "low_mm": result.low, "high_mm": result.high,
            }  # fmt: skip
            said += f" lies {_where(result, below, everywhere)} "
            said += "(one head gives no interval)." if ours.x.shape[1] == 1 else _surely(*sure)
        found.claims.append(claim)
        if method == OURS or stated:
            found.statements.append(said)


def _where(result: Comparison, below: list[tuple[float, float]], everywhere: bool) -> str:
    reach = f"the {result.x[0]:.2f} to {result.x[-1]:.2f} mm of ASD-O that both reach"
    if everywhere:
        return f"below {REFERENCE} at every one of {reach}"
    if not below:
        return f"nowhere below {REFERENCE} in {reach}"
    stretches_text = " and from ".join(f"{first:.2f} to {last:.2f}" for first, last in below)
    return f"below {REFERENCE} from {stretches_text} mm, and not elsewhere in {reach}"


def _surely(below: int, above: int) -> str:
    return f"(the 95 % interval is below zero at {below} and above it at {above} of {_POINTS} points)."


def _curve(cells: Sequence[Sequence[Record]], name: str) -> Curve:
    x, y = (np.array([list(by_head(cell, figure).values()) for cell in cells]) for figure in ("asd_o", name))
    return Curve(x, y)


def _drawn(rows: Sequence[dict[str, Any]]) -> str:
    panels = {}
    for name in HONEST:
        lines = []
        for method in dict.fromkeys(row["method"] for row in rows):
            own = sorted((row for row in rows if row["method"] == method), key=lambda row: row["asd_o"])
            lines.append(Line([row["asd_o"] for row in own], [row[name] for row in own], method))
        panels[f"{FIGURES[name].title} (mm)"] = lines
    return curves(panels, "ASD-O (mm)", "")

"""table2: k × n_σ of the diversity kernel (Dey and Boddeti 2022, supplement, table 2)."""

from collections.abc import Sequence

import numpy as np

from ._cells import Knobs, Record
from ._findings import Findings, Picture, Table, chosen, means, number
from ._plan import Plan
from ._plots import heat

ABOUT = (
    "The diversity kernel's two settings: k, the sharpness of similarity in units of the median distance, and n_σ, how "
    "unlikely a completion may be before its quality falls. Millimetres; means over heads, occluders and seeds."
)
K = (0.1, 0.25, 0.5, 1.0, 2.0)
N_SIGMA = (1.0, 2.0, 3.0, 4.0, 5.0)
_FIGURES = ("asd_v", "asd_o", "ratio", "cse_occluded", "energy_score", "visible_error")
_DRAWN = {"asd_v": "ASD-V (mm)", "asd_o": "ASD-O (mm)"}


def suits(method: str) -> str | None:
    """Only methods with the kernel have its settings."""
    return None if "-dpp" in method else "it has no diversity kernel."


def knobs(method: str) -> tuple[Knobs, ...]:
    """The grid."""
    del method
    return tuple((("k", k), ("n_sigma", n_sigma)) for k in K for n_sigma in N_SIGMA)


def conclude(records: Sequence[Record], plan: Plan) -> Findings:
    """A matrix a figure, and whether both self-distances grow with n_σ."""
    found = Findings()
    for method in plan.methods:
        for setting in plan.settings:
            for occluder in plan.groups:
                grids = {name: np.zeros((len(K), len(N_SIGMA))) for name in _FIGURES}
                for place, turned in enumerate(knobs(method)):
                    values = means(chosen(records, setting, occluder, method, turned), _FIGURES)
                    where = {"method": method, "setting": setting, "occluder": occluder}
                    found.rows.append({**where, **dict(turned), **values})
                    for name, value in values.items():
                        grids[name].flat[place] = value
                if occluder == plan.groups[-1]:
                    _conclude_grid(found, method, setting, occluder, grids)
    return found


def _conclude_grid(found: Findings, method: str, setting: str, occluder: str, grids: dict[str, np.ndarray]) -> None:
    title = f"{method}, {setting}, {occluder}"
    for name, text in _DRAWN.items():
        grown = grids[name][:, -1] > grids[name][:, 0]
        best = K[int(grids[name].mean(1).argmax())]
        found.claims.append({
            "claim": f"{name} grows with n_sigma", "method": method, "setting": setting, "occluder": occluder,
            "true": bool(grown.all()), "k_where_it_does": [k for k, g in zip(K, grown, strict=True) if g],
            "k_of_the_largest": best, "from": grids[name][:, 0], "to": grids[name][:, -1],
        })  # fmt: skip
        means_text = f"{number(grids[name][:, 0].mean(), 3)} → {number(grids[name][:, -1].mean(), 3)} mm"
        found.statements.append(
            f"{title}: {text.removesuffix(' (mm)')} is larger at n_σ = {N_SIGMA[-1]:g} than at {N_SIGMA[0]:g} for "
            f"{int(grown.sum())} of {len(K)} values of k ({means_text} on average); it is largest at k = {best:g}."
        )
        rows = [(f"k = {k:g}", *(number(value, 3) for value in row)) for k, row in zip(K, grids[name], strict=True)]
        found.parts.append(Table(f"{title}: {text}", ("", *(f"n_σ = {n:g}" for n in N_SIGMA)), rows))
    drawn = {text: grids[name] for name, text in _DRAWN.items()}
    labels = [f"{k:g}" for k in K], [f"{n:g}" for n in N_SIGMA]
    found.parts.append(Picture(title, heat(drawn, *labels, "k", "n_σ")))

"""Measure heads as people are measured: distances between anatomical landmarks, beside published norms of adults.

    python -m tools.measure_people                    # 2,000 neutral heads of the embedded head's population
    python -m tools.measure_people --head FILE         # as many of what another head file says of people

Landmarks are vertices (or points on the surface) found once on the template by geometry around the 68 iBUG landmarks;
breadths and head length are the largest over a set of vertices, on every head anew. A measure whose region or landmarks
a head lacks is left out.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from diverse3d.head import HeadModel, load_head
from diverse3d.head.population import split

MM = 1e3
MIDLINE_M = 0.0015
BACK_HALF_WIDTH_M, BEHIND_M = 0.010, 0.120
"""The back of the head: so near to the midline, and so far behind the face's front."""
BEFORE_EARS_M = 0.006
"""The zygomatic arches are measured this far in front of the ears, where cheek no longer turns into ear."""


class Norm(NamedTuple):
    """A measure's mean and standard deviation in a survey, in millimetres; None where no source was found."""

    mean: float | None
    deviation: float | None


class Places(NamedTuple):
    """Where a head is measured: each pair's two points, or the vertices whose extent is taken."""

    points: Mapping[str, Int[np.ndarray, " n"]]
    """Vertices whose mean is a landmark: one vertex, or an eyeball."""
    surface: Mapping[str, tuple[np.ndarray, np.ndarray]]
    """Landmarks on the surface: corners and barycentric weights."""
    sets: Mapping[str, Int[np.ndarray, " n"]]
    """Vertices over which a maximum is taken."""


MEASURES = {
    "interpupillary": "centres of the eyeballs",
    "sellion–menton": "deepest point of the nasal root to the chin's lower edge",
    "nasal protrusion": "pronasale to subnasale, straight",
    "bizygomatic breadth": "largest breadth at the zygomatic arches, in front of the ears",
    "head breadth": "largest breadth above the ears",
    "head length": "glabella to the farthest point of the back of the head",
    "nose breadth": "largest breadth of the nostrils' wings",
    "mouth breadth": "between the corners of the mouth",
    "subnasale–menton": "lower face height",
}
MAIN = tuple(MEASURES)[:6]


def both_sexes(men: tuple[float, float], women: tuple[float, float]) -> Norm:
    """Mean and standard deviation of as many men as women, from those of each."""
    (one, wide), (other, narrow) = men, women
    return Norm((one + other) / 2, float(np.sqrt((wide**2 + narrow**2) / 2 + ((one - other) / 2) ** 2)))


NONE = Norm(None, None)
NORMS = {
    # ANSUR II (Gordon et al. 2014; 4,082 men and 1,986 women of the US Army), mean and deviation of men and of women.
    "interpupillary": both_sexes((64.0, 3.4), (61.7, 3.6)),
    "sellion–menton": both_sexes((122.6, 6.7), (113.1, 6.1)),
    "nasal protrusion": Norm(21.4, None),  # of the notes on the scan models that calibration uses
    "bizygomatic breadth": both_sexes((142.6, 6.2), (133.8, 5.6)),
    "head breadth": both_sexes((154.3, 5.5), (147.8, 5.2)),
    "head length": both_sexes((199.5, 7.0), (189.8, 7.5)),
}
NORM_CORRELATIONS = {
    # ANSUR II, men and women pooled.
    ("interpupillary", "sellion–menton"): 0.31,
    ("interpupillary", "bizygomatic breadth"): 0.52,
    ("interpupillary", "head breadth"): 0.39,
    ("interpupillary", "head length"): 0.40,
    ("sellion–menton", "bizygomatic breadth"): 0.46,
    ("bizygomatic breadth", "head breadth"): 0.74,
}
BEFORE = {"interpupillary": 57.7, "sellion–menton": 108.8, "nasal protrusion": 15.6, "head breadth": 142.9}
"""The template's measures in millimetres before it was calibrated on scan models."""


def main() -> int:
    """Draw, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--head", type=Path, help="a head file to measure instead of the embedded head")
    parser.add_argument("--count", type=int, default=2000)
    options = parser.parse_args()
    head = load_head(options.head, dtype=np.float32)
    places = find_places(head)
    template = measure(np.asarray(head.template_m)[None], places)
    drawn = draw(head, options.count) if options.head else np.asarray(split("train", options.count).neutral)
    values = measure(drawn, places)
    known = options.head is None
    print(f"{options.count:,} neutral heads of '{head.name}', millimetres\n")
    print("\n".join(table(values, template, before=BEFORE if known else {})))
    print("\ncorrelations, in brackets those of the survey\n")
    print("\n".join(correlations(values)))
    return 0


def draw(head: HeadModel, count: int, seed: int = 0) -> Float[np.ndarray, "n V 3"]:
    """Neutral heads in metres from a head file's own Gaussian of identity and residual."""
    first = head.n_identity + head.n_expression
    chosen = np.r_[: head.n_identity, first : first + head.n_residual]
    rows = np.asarray(head.components_m, np.float32)[chosen]
    # Components of expression stay at rest; those of identity have a mean only where the template isn't it.
    mean = np.asarray(head.prior_mean, np.float32)[chosen]
    coefficients = mean + np.random.default_rng(seed).standard_normal((count, len(chosen)), np.float32)
    return np.asarray(head.template_m, np.float32) + (coefficients @ rows).reshape(count, -1, 3)


def find_places(head: HeadModel) -> Places:
    """Landmarks and sets of vertices on a head's template, by geometry."""
    template = np.asarray(head.template_m, np.float64)
    regions = {name: np.asarray(index) for name, index in head.regions.items()}
    points: dict[str, np.ndarray] = {}
    surface: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    sets: dict[str, np.ndarray] = {}
    for side in ("left", "right"):
        if f"{side}_eyeball" in regions:
            points[f"{side} pupil"] = regions[f"{side}_eyeball"]
    if head.landmarks68 is None:
        return Places(points, surface, sets)
    at = np.asarray(head.landmarks68(head.template_m), np.float64)
    corners, weights = np.asarray(head.landmarks68.corners), np.asarray(head.landmarks68.barycentric)
    surface = {name: (corners[i], weights[i]) for name, i in (("right cheilion", 48), ("left cheilion", 54))}

    def profile(landmark: int, within: float) -> np.ndarray:
        near = np.linalg.norm(template - at[landmark], axis=1) < within
        return np.flatnonzero(near & (np.abs(template[:, 0]) < MIDLINE_M))

    for name, index in profile_points(template, at, profile).items():
        points[name] = np.array([index])
    height, depth, sideways = template[:, 1], template[:, 2], np.abs(template[:, 0])
    # The wings end where the cheek begins: behind the corners of the nostrils nothing is nose.
    wing = (np.abs(height - at[[31, 35], 1].mean()) < 0.012) & (depth > at[[31, 35], 2].mean() - 0.008)
    sets["wings"] = np.flatnonzero(wing & (sideways < 1.75 * np.abs(at[[31, 35], 0]).mean()))
    sets["back"] = np.flatnonzero(
        (sideways < BACK_HALF_WIDTH_M) & (depth < at[27, 2] - BEHIND_M) & (height > at[33, 1])
    )
    ears = [regions[name] for name in ("left_ear", "right_ear") if name in regions]
    if len(ears) == 2:
        ear = np.concatenate(ears)
        skin = np.ones(len(template), bool)
        skin[ear] = False
        eyes = at[36:48, 1].mean()
        arches = (height > at[33, 1]) & (height < eyes) & (depth > depth[ear].max() + BEFORE_EARS_M)
        sets["arches"] = np.flatnonzero(skin & arches)
        sets["skull"] = np.flatnonzero(skin & (height > height[ear].max()))
    return Places(points, surface, sets)


def profile_points(template: np.ndarray, at: np.ndarray, profile: Callable[[int, float], np.ndarray]) -> dict[str, int]:
    """Vertices of the midline that have a name; those that a template has."""
    found: dict[str, int] = {}
    root = profile(27, 0.012)
    if len(root):
        found["sellion"] = int(root[template[root, 2].argmin()])
    brow = profile(27, 0.025)
    brow = brow[template[brow, 1] > at[27, 1] + 0.008]
    if len(brow):
        found["glabella"] = int(brow[template[brow, 2].argmax()])
    tip = profile(30, 0.012)
    if len(tip):
        found["pronasale"] = int(tip[template[tip, 2].argmax()])
    base = profile(33, 0.008)
    if len(base) and "pronasale" in found:
        # Deepest between the tip of the nose and the upper lip.
        above, below = template[found["pronasale"], 1:], at[51, 1:]
        along = (below - above) / np.linalg.norm(below - above)
        offset = template[base, 1:] - above
        found["subnasale"] = int(base[(along[0] * offset[:, 1] - along[1] * offset[:, 0]).argmax()])
    chin = profile(8, 0.012)
    if len(chin):
        # The skin beneath the chin falls on towards the neck: its lowest point is no edge, the landmark is.
        found["menton"] = int(chin[np.linalg.norm(template[chin] - at[8], axis=1).argmin()])
    return found


def measure(vertices_m: Float[np.ndarray, "n V 3"], places: Places) -> dict[str, Float[np.ndarray, " n"]]:
    """Each measure of each head in millimetres."""
    spots = {name: vertices_m[:, index].mean(axis=1) for name, index in places.points.items()}
    for name, (corner, weight) in places.surface.items():
        spots[name] = (vertices_m[:, corner] * weight[:, None]).sum(axis=1)
    ends = {
        "interpupillary": ("left pupil", "right pupil"),
        "sellion–menton": ("sellion", "menton"),
        "nasal protrusion": ("pronasale", "subnasale"),
        "mouth breadth": ("left cheilion", "right cheilion"),
        "subnasale–menton": ("subnasale", "menton"),
    }
    values = {
        name: np.linalg.norm(spots[one] - spots[other], axis=1)
        for name, (one, other) in ends.items()
        if one in spots and other in spots
    }
    breadths = {"bizygomatic breadth": "arches", "head breadth": "skull", "nose breadth": "wings"}
    for name, part in breadths.items():
        if len(places.sets.get(part, ())):
            values[name] = np.ptp(vertices_m[:, places.sets[part], 0], axis=1)
    if "glabella" in spots and len(places.sets.get("back", ())):
        away = vertices_m[:, places.sets["back"]] - spots["glabella"][:, None]
        values["head length"] = np.linalg.norm(away, axis=2).max(axis=1)
    return {name: MM * values[name].astype(np.float64) for name in MEASURES if name in values}


def table(
    values: Mapping[str, np.ndarray], template: Mapping[str, np.ndarray], before: Mapping[str, float]
) -> list[str]:
    """Rows in markdown: the template before calibration and now, mean and deviation of the heads, and the norms."""
    rows = [
        "| measure | before | template | mean | SD | norm | its SD | off by |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, drawn in values.items():
        norm = NORMS.get(name, NONE)
        off = "–" if norm.mean is None else f"{100 * (drawn.mean() / norm.mean - 1):+.1f} %"
        cells = [before.get(name), float(template[name][0]), drawn.mean(), drawn.std(), norm.mean, norm.deviation]
        rows.append(" | ".join([f"| {name}", *("–" if cell is None else f"{cell:.1f}" for cell in cells), f"{off} |"]))
    return rows


def correlations(values: Mapping[str, np.ndarray]) -> list[str]:
    """The correlation matrix of the main measures in markdown, with the survey's in brackets."""
    names = [name for name in MAIN if name in values]
    matrix = np.corrcoef([values[name] for name in names])
    rows = [f"| | {' | '.join(names[1:])} |", "|---" * len(names) + "|"]
    for i, one in enumerate(names[:-1]):
        cells = ["" for _ in range(i)]
        for j in range(i + 1, len(names)):
            norm = NORM_CORRELATIONS.get((one, names[j]))
            cells.append(f"{matrix[i, j]:.2f}" + ("" if norm is None else f" ({norm:.2f})"))
        rows.append(f"| {one} | {' | '.join(cells)} |")
    return rows


if __name__ == "__main__":
    sys.exit(main())

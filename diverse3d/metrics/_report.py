"""Every metric of one set of completions in one call."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from ..head import HeadModel
from ._calibration import coverage
from ._metrics import apd, asd, summary, tmd, uhd
from ._plausibility import Span, plausibility, span_of
from ._surface import seam_error, self_intersections


class Ruler(NamedTuple):
    """What depends on the head alone, prepared once for many reports."""

    span: Span
    """Its linear model."""
    faces: Int[np.ndarray, "F 3"]
    """Its triangles."""
    regions: dict[str, Int[np.ndarray, " n"]]
    """Vertices of its named regions."""
    self_intersections: float
    """Share (0 to 1) of triangles of its mean head that cross others: lids and eyeballs do from the start."""


def ruler_of(head: HeadModel) -> Ruler:
    """Prepare a head for `report`."""
    faces = np.asarray(head.faces, np.int64)
    return Ruler(
        span=span_of(head),
        faces=faces,
        regions={name: np.asarray(vertices, np.int64) for name, vertices in head.regions.items()},
        self_intersections=float(self_intersections(np.asarray(head.shaped(head.prior_mean)), faces).mean()),
    )


def report(
    vertices: Float[np.ndarray, "N V 3"],
    visible: Bool[np.ndarray, " V"],
    ruler: Ruler,
    *,
    held: Float[np.ndarray, "V 3"] | None = None,
    truth: Float[np.ndarray, "V 3"] | None = None,
    reference: Float[np.ndarray, "V 3"] | None = None,
    facing: Bool[np.ndarray, " V"] | None = None,
) -> dict[str, float]:
    """All metrics of N completions (metres), keyed as in `UNITS`, with `coverage_90/REGION` for each region.

    `held` is what they are to agree with where visible (a result's `held`; the truth if not given), `truth` the true
    head, `reference` a sound head (the truth if not given; a result's `fit_vertices`) against which seams and
    self-intersections are counted (the latter against the mean head where there is none), `facing` the vertices that
    face the camera; all in the completions' own frame, for nothing is aligned here. Metrics that need something that
    isn't given are left out; those that are not defined (nothing hidden, a single sample's spread) are NaN, but for the
    self-distances of a single sample, which are 0 as in `summary`.
    """
    held = truth if held is None else held
    reference = truth if reference is None else reference
    hidden = ~visible
    values = summary(vertices, vertices[0] if held is None else held, visible, truth)
    if held is None:
        del values["visible_error"]
    if facing is not None:
        values["asd_v_front"] = asd(vertices, visible & facing)
        values["asd_o_front"] = asd(vertices, hidden & facing)
    values["apd"], values["tmd"] = apd(vertices, hidden), tmd(vertices)
    if held is not None:
        values["uhd"] = uhd(vertices, held[visible])
    likely = plausibility(vertices, ruler.span)
    values["mahalanobis"] = float(likely.mahalanobis.mean())
    values["outside_span"] = float(likely.outside_mm.mean())
    crossing = float(np.mean([self_intersections(sample, ruler.faces).mean() for sample in vertices]))
    base = ruler.self_intersections
    if reference is not None:
        base = float(self_intersections(reference, ruler.faces).mean())
    values["self_intersections"] = 100.0 * crossing
    values["self_intersections_excess"] = 100.0 * (crossing - base)
    if reference is not None:
        values["seam"] = seam_error(vertices, reference, ruler.faces, visible)
    values["n"] = float(len(vertices))
    if truth is not None:
        values["coverage_90"] = 100.0 * coverage(vertices, truth, hidden)
        for name, members in ruler.regions.items():
            inside = np.zeros(len(hidden), bool)
            inside[members] = True
            if (inside & hidden).any():
                values[f"coverage_90/{name}"] = 100.0 * coverage(vertices, truth, inside & hidden)
    return values

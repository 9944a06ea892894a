"""What experiments measure besides the usual metrics: each function gives a measurement of a finished run."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.linalg
from jaxtyping import Bool, Float

from .. import metrics
from ..diversify import METHODS, interpolate
from ..head import HeadModel
from ._cells import Done, More

FRAMES = 9
"""Heads along an interpolation path."""


def honesty(head: HeadModel) -> More:
    """What diversity is bought with: `mahalanobis`, `coverage_90`, `seam`."""
    span = metrics.span_of(head)
    faces = np.asarray(head.faces, np.int64)

    def measured(done: Done) -> dict[str, float]:
        visible = np.asarray(done.result.visible)
        reference = np.asarray(done.result.fit_vertices, np.float64) if done.truth_m is None else done.truth_m
        values = {
            "mahalanobis": float(metrics.plausibility(done.vertices_m, span).mahalanobis.mean()),
            "seam": metrics.seam_error(done.vertices_m, reference, faces, visible),
        }
        if done.truth_m is not None:
            values["coverage_90"] = 100.0 * metrics.coverage(done.vertices_m, done.truth_m, ~visible)
        return values

    return measured


def spreads(head: HeadModel) -> More:
    """How far completions spread: in a region (`spread/REGION`, mm), and as identity and expression.

    `identity` and `expression` are the RMS standard deviation of a coefficient over samples, in population standard
    deviations; coefficients are read off the vertices by least squares at the mean head, joints that the population
    turns count as expression, and a rigid motion as neither. `identity_mm` and `expression_mm` are the RMS distance a
    vertex that those deviations make.
    """
    span = metrics.span_of(head)
    regions = {name: np.asarray(members, np.int64) for name, members in head.regions.items()}
    first, last = head.n_identity, head.n_components + 3 * head.n_joints
    free = {"identity": first, "expression": span.free - first}

    def measured(done: Done) -> dict[str, float]:
        offset = done.vertices_m - done.vertices_m.mean(0)
        spread = 1e3 * np.sqrt((offset**2).sum(2).mean(0))
        values = {f"spread/{name}": _rms(spread[members]) for name, members in regions.items()}
        flat = offset.reshape(len(offset), -1)
        points = scipy.linalg.cho_solve(span.solver, span.jacobian_m @ flat.T).T
        for name, columns in (("identity", slice(first)), ("expression", slice(first, last))):
            part = points[:, columns]
            values[name] = float(np.sqrt((part**2).sum(1).mean() / free[name])) if free[name] else float("nan")
            moved = (part @ span.jacobian_m[columns]).reshape(offset.shape)
            values[f"{name}_mm"] = 1e3 * float(np.sqrt((moved**2).sum(2).mean()))
        return values

    return measured


def paths(weights: Callable[[str], Path | None]) -> More:
    """What the visible part does on the way between the two completions farthest apart, in mm (Dey and Boddeti 2022,
    supplement §1.6).

    `deviation/FRAME` is its RMS distance from what it is held to and `drift/FRAME` what of that its ends don't have;
    `plain_…` the same along the latents' straight line; `largest_step` and `plain_largest_step` the largest step over
    the mean one. `weights` gives the file of a kind of weights, None for those of the package.
    """

    def measured(done: Done) -> dict[str, float]:
        first, second = farthest(done.vertices_m, ~np.asarray(done.result.visible))
        values: dict[str, float] = {}
        for prefix, plain in (("", False), ("plain_", True)):
            kind = METHODS[done.result.method].weights
            path = interpolate(
                done.result, first, second, head=done.head, frames=FRAMES, plain=plain,
                weights=None if kind is None else weights(kind),
            )  # fmt: skip
            values[f"{prefix}largest_step"] = path.largest_step
            for name, along in (("deviation", path.visible_deviation_mm), ("drift", path.visible_drift_mm)):
                values |= {f"{prefix}{name}/{frame}": float(value) for frame, value in enumerate(along)}
        return values

    return measured


def farthest(vertices_m: Float[np.ndarray, "N V 3"], hidden: Bool[np.ndarray, " V"]) -> tuple[int, int]:
    """The two completions that differ most where they are hidden (everywhere, if nothing is)."""
    chosen = vertices_m[:, hidden] if hidden.any() else vertices_m
    flat = chosen.reshape(len(chosen), -1)
    square = np.stack([((flat - row[None]) ** 2).sum(1) for row in flat])
    first, second = np.unravel_index(int(square.argmax()), square.shape)
    return int(first), int(second)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean())) if values.size else float("nan")

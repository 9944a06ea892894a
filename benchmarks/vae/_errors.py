"""How far reconstructed heads are from true ones, and heads of a model's prior from any true one."""

import time
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial import cKDTree

from diverse3d.head import HeadModel
from diverse3d.learn import occluder_masks
from diverse3d.observe import STANDARD_REGIONS

from ._rows import Row

SAMPLES = 64
"""Heads of a prior that specificity is the mean of."""
CANDIDATES = 8
"""Training heads, nearest in corresponding vertices, among which the nearest by closest points is sought."""
TIMED = 5
"""Heads that seconds are the median of."""


@dataclass(frozen=True)
class OccludedHeads:
    """True heads and what is seen of each behind every occluder; all rows see the same."""

    vertices_m: Float[np.ndarray, "H V 3"]
    """Metres."""
    visible: dict[str, Bool[np.ndarray, "H V"]]
    """By occluder."""


def behind_occluders(head: HeadModel, vertices_m: Float[np.ndarray, "H V 3"]) -> OccludedHeads:
    """Heads with each occluder in its place on each; the first of a set don't depend on how many there are."""
    return OccludedHeads(
        vertices_m, {occluder: ~occluder_masks(head, vertices_m, occluder) for occluder in STANDARD_REGIONS}
    )


def errors(row: Row, heads: OccludedHeads) -> dict[str, float]:
    """Mean and median distance of vertices in mm: unmasked, and the hidden and the visible part behind occluders.

    `hidden/mean` and the like are means over occluders. `generalisation` is the mean distance from the vertices of the
    reconstruction of a whole unseen head to the closest vertices of that head (scalismo's `ModelMetrics`).
    """
    whole = [row.reconstruct(truth, np.ones(len(truth), bool)) for truth in heads.vertices_m]
    closest = [average_distance(guess, truth) for guess, truth in zip(whole, heads.vertices_m, strict=True)]
    figures = _statistics("unmasked", _distances_mm(np.stack(whole), heads.vertices_m).ravel())
    for occluder, visible in heads.visible.items():
        guesses = np.stack([row.reconstruct(*pair) for pair in zip(heads.vertices_m, visible, strict=True)])
        distances = _distances_mm(guesses, heads.vertices_m)
        figures |= _statistics(f"{occluder}/hidden", distances[~visible])
        figures |= _statistics(f"{occluder}/visible", distances[visible])
    for name in ("hidden/mean", "hidden/median", "visible/mean", "visible/median"):
        figures[name] = float(np.mean([figures[f"{occluder}/{name}"] for occluder in heads.visible]))
    return figures | {"generalisation": 1e3 * float(np.mean(closest))}


def hidden_error(row: Row, heads: OccludedHeads) -> float:
    """Mean distance of hidden vertices in mm, the mean over occluders."""
    means = []
    for visible in heads.visible.values():
        guesses = np.stack([row.reconstruct(*pair) for pair in zip(heads.vertices_m, visible, strict=True)])
        means.append(_distances_mm(guesses, heads.vertices_m)[~visible].mean())
    return float(np.mean(means))


def specificity(row: Row, training_m: Float[np.ndarray, "S V 3"], samples: int = SAMPLES) -> float:
    """Mean over heads of the prior of the distance in mm to the nearest training head (scalismo's `ModelMetrics`).

    The distance is the mean over the training head's vertices to the closest vertices of the sample. It is taken for
    the few training heads that are nearest by corresponding vertices: never below scalismo's, which tries them all.
    """
    drawn = row.sample(samples)
    flat, centre = drawn.reshape(samples, -1), training_m.mean(0).reshape(-1)
    known = training_m.reshape(len(training_m), -1) - centre
    square = (known**2).sum(1)[None] - 2.0 * (flat - centre) @ known.T  # the sample's own square is the same for all
    nearest = []
    for sample, apart in zip(drawn, square, strict=True):
        candidates = training_m[apart.argsort()[:CANDIDATES]]
        nearest.append(min(average_distance(head, sample) for head in candidates))
    return 1e3 * float(np.mean(nearest))


def average_distance(points_m: Float[np.ndarray, "P 3"], others_m: Float[np.ndarray, "Q 3"]) -> float:
    """Mean distance in metres from points to the closest of others (scalismo's `MeshMetrics.avgDistance`)."""
    return float(cKDTree(others_m).query(points_m)[0].mean())


def seconds_a_head(row: Row, heads: OccludedHeads) -> float:
    """Median time of a masked reconstruction, compilation left out."""
    visible = heads.visible[STANDARD_REGIONS[0]]
    row.reconstruct(heads.vertices_m[0], visible[0])
    times = []
    for turn in range(TIMED):
        index = turn % len(visible)
        start = time.perf_counter()
        row.reconstruct(heads.vertices_m[index], visible[index])
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def _distances_mm(guesses_m: Float[np.ndarray, "H V 3"], truths_m: Float[np.ndarray, "H V 3"]) -> np.ndarray:
    return 1e3 * np.linalg.norm(guesses_m - truths_m, axis=2)


def _statistics(name: str, distances: np.ndarray) -> dict[str, float]:
    return {f"{name}/mean": float(distances.mean()), f"{name}/median": float(np.median(distances))}

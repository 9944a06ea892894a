"""What a report says in words: verdicts, and what each metric means."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ..diversify import SAMPLE_TEXT, Completions
from ..fit import PICTURE_NOISE
from ..metrics import READINGS

_MEANINGS = {
    "asd_v": "How much the heads differ where the input shows the face: from each head to its nearest other one.",
    "asd_o": "How much they differ where the face is hidden: from each head to its nearest other one.",
    "ratio": "How many times as much they differ where hidden as where visible.",
    "visible_error": "How far the heads lie from what the input shows.",
}
"""Of the metrics that need no truth, the ones that a result has."""

_BETTER = {"lower": "low is good", "higher": "high is good"}


class Metric(NamedTuple):
    """A figure as a report shows it."""

    title: str
    """Its name."""
    value: str
    """The figure, or a dash where it is not defined."""
    unit: str
    """Its unit."""
    meaning: str
    """What it says, in a sentence."""
    better: str
    """Which way is good."""


def metrics_in_words(values: Mapping[str, float]) -> list[Metric]:
    """The metrics of a result, keyed as in `UNITS`."""
    rows = []
    for name, value in values.items():
        reading = READINGS[name]
        unit = "×" if name == "ratio" else reading.unit
        better = _BETTER.get(reading.better, reading.better)
        rows.append(Metric(reading.title, _figure(value), unit, _MEANINGS.get(name, ""), better))
    return rows


def verdict(values: Mapping[str, float], count: int, picture: bool = False) -> str:
    """A result of `count` heads in a sentence or two; `picture` says that they are held to a photo and not to a fit."""
    off, apart = (f"{values[name]:.2g}\N{NO-BREAK SPACE}mm" for name in ("visible_error", "asd_o"))
    if not math.isfinite(values["visible_error"]):
        rest = f"; each head lies {apart} from its nearest other one." if count > 1 else "."
        return f"Nothing of the face is visible{rest}"
    lie = "the heads lie" if count > 1 else "the head lies"
    held = f"Where the input shows the face, {lie} {off} from it."
    if picture:
        held = f"Where the photo shows the face, {lie} {off} from the fit: a photo tells little of depth."
    if count == 1:
        return f"{held} One head says nothing of how others may differ."
    if not math.isfinite(values["asd_o"]):
        return f"{held} Nothing is hidden, so they differ by noise alone."
    return f"{held} Where it is hidden they differ: each lies {apart} from its nearest other one."


def all_well(completions: Completions) -> str:
    """What it means that there are no warnings."""
    count = len(completions.results)
    heads = "the one head" if count == 1 else f"all {count} heads"
    if completions.noise == PICTURE_NOISE:
        return f"the fit converged, and {heads} may be the one in the photo."
    return f"the fit converged, and {heads} {'holds' if count == 1 else 'hold'} to what is visible."


def head_words(completions: Completions) -> list[str]:
    """A few words for each completion, from the most central to the most unusual."""
    distance = distances_mm(np.asarray(completions.vertices, np.float64))
    count = len(distance)
    words = [f"{value:.1f} mm" if count > 1 else "" for value in distance[completions.order]]
    if count > 1:
        words[0], words[-1] = f"{words[0]}, most central", f"{words[-1]}, most unusual"
    return words


def result_words(code: int) -> str:
    """What is wrong with a completion, if anything."""
    return f"It {SAMPLE_TEXT[code]}." if code else ""


def distances_mm(vertices: Float[np.ndarray, "N V 3"]) -> Float[np.ndarray, " N"]:
    """Mean RMS distance of each head to the others over all vertices, in mm."""
    flat = vertices.reshape(len(vertices), -1)
    flat = flat - flat.mean(0)
    gram = flat @ flat.T
    square = np.diag(gram)[:, None] + np.diag(gram)[None] - 2 * gram
    distance = np.sqrt(np.clip(square, 0, None) / vertices.shape[1])
    return 1e3 * distance.sum(1) / max(len(vertices) - 1, 1)


def facts_of(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What made a result, as rows of a table."""
    given, head, settings = record["input"], record["head"], record["configuration"]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    device = record["device"]
    rows = [
        ("Input", f"{given['name']} ({given['kind']})"),
        ("Input’s SHA-256", given["sha256"]),
        ("Head", head["name"]),
        ("Head’s SHA-256", head["sha256"]),
        ("Weights’ SHA-256", record["weights"]["sha256"]),
        ("Method", f"{settings['method']}, {settings['n']} heads"),
        ("Noise", record["noise"]),
        ("Occluder", settings.get("occlude") or settings.get("mask")),
        ("Seed", record["seed"]),
        ("Versions", versions),
        ("Device", f"{device['count']} × {device['kind']} ({device['platform']})"),
    ]
    return [(name, str(value)) for name, value in rows if value is not None and value != ""]


def seconds_of(seconds: Mapping[str, float]) -> list[tuple[str, str, str]]:
    """Stage, seconds, and its share of the longest in percent; the last row is the sum, without a share."""
    most = max([*seconds.values(), 1e-9])
    rows = [(name, f"{value:.1f}", f"{100 * value / most:.1f}") for name, value in seconds.items()]
    return [*rows, ("in all", f"{sum(seconds.values()):.1f}", "")]


def _figure(value: float) -> str:
    if not math.isfinite(value):
        return "–"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"

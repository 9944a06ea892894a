"""Two methods on the same faces: paired intervals, and an alarm for diversity that was bought."""

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .._errors import InputError
from ._readings import reading_of

GAMING_TOLERANCE = 0.02
"""Share of the reference's value that a metric may worsen without an alarm, and that a gain must exceed to count."""

_LEAST = 0.01
"""Differences below this, in a metric's own unit, are noise."""

_TYPICAL = 1.0
"""Mahalanobis distance / √K of a head of the population: heads more average than that may come nearer to it."""

GAINS = ("asd_o", "apd")
HONEST = ("mahalanobis", "visible_error", "cse_occluded", "energy_score")


class PairedDifference(NamedTuple):
    """A mean difference with its 95 % interval."""

    mean: float
    """Mean over subjects of first less second."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""


def check_same_count(first: int, second: int) -> None:
    """Raise `InputError` unless two sets have equally many samples: of more samples the closest is closer, for free.

    A single guess (one sample) is compared as what it is.
    """
    if first != second and 1 not in (first, second):
        raise InputError(f"Sets of {first} and {second} samples can't be compared; give both the same number.")


def bootstrap_paired(
    first: Sequence[float],
    second: Sequence[float],
    subjects: Sequence[Hashable],
    *,
    samples: tuple[int, int] | None = None,
    seed: int = 0,
    draws: int = 4000,
) -> PairedDifference:
    """Paired difference first - second of a metric over subjects, with its 95 % percentile bootstrap interval.

    Entry i of both is one run on subject `subjects[i]`. Runs (seeds) of a subject are averaged first and subjects are
    drawn, since runs that share a face are not independent (Efron & Tibshirani 1993, ch. 13). `samples` are the sizes
    of the sets compared, which must be the same (`check_same_count`). Raises `InputError` for lists of unequal length
    and for none.
    """
    if samples is not None:
        check_same_count(*samples)
    if not len(first) == len(second) == len(subjects) or not len(subjects):
        raise InputError(
            f"{len(first)} and {len(second)} values of {len(subjects)} runs can't be paired; give one of each a run."
        )
    _, subject = np.unique(np.asarray(subjects), return_inverse=True)
    # Each side by itself, then the difference, so that a subject's figure is the one that tables show.
    runs = np.bincount(subject)
    a, b = (np.bincount(subject, np.asarray(side, np.float64)) / runs for side in (first, second))
    difference = a - b
    drawn = np.random.default_rng(seed).integers(0, len(difference), (draws, len(difference)))
    low, high = np.percentile(difference[drawn].mean(1), [2.5, 97.5])
    return PairedDifference(float(difference.mean()), float(low), float(high))


def gaming_alarm(
    ours: Mapping[str, float | None],
    reference: Mapping[str, float | None],
    *,
    intervals: Mapping[str, tuple[float, float, float]] | None = None,
    tolerance: float = GAMING_TOLERANCE,
) -> list[str]:
    """A sentence for each way in which a gain in diversity was bought; none where it was earned, or isn't there.

    The arguments hold metrics by their keys in `UNITS`. An alarm is raised when ASD-O or APD is higher than the
    reference's while the Mahalanobis distance (beyond 1, which is typical), the visible error, CSE-O or the energy
    score is worse, each by more than `tolerance` of the reference's value and a hundredth of its unit. Where
    `intervals` hold a metric's paired difference ours - reference as `bootstrap_paired` gives it, a change must be
    clear of zero besides. Metrics that are missing or not defined on either side are passed over. Raises `InputError`
    for different numbers of samples `n`.
    """
    counts = [side.get("n") for side in (ours, reference)]
    if counts[0] is not None and counts[1] is not None:
        check_same_count(int(counts[0]), int(counts[1]))

    def risen(name: str) -> tuple[float, float] | None:
        """Both values, if ours is higher beyond doubt."""
        new, old = (_number(side.get(name)) for side in (ours, reference))
        compared = (max(new, _TYPICAL), max(old, _TYPICAL)) if name == "mahalanobis" else (new, old)
        enough = compared[0] - compared[1] > max(tolerance * abs(compared[1]), _LEAST)
        clear = intervals is None or name not in intervals or intervals[name][1] > 0
        return (new, old) if enough and clear else None

    gains = [_change(name, *values) for name in GAINS if (values := risen(name))]
    losses = [_change(name, *values) for name in HONEST if (values := risen(name))]
    return [f"Diversity was bought: {' and '.join(gains)} rose, but so did {loss}." for loss in losses if gains]


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _change(name: str, new: float, old: float) -> str:
    reading = reading_of(name)
    unit = f" {reading.unit}" if reading.unit == "mm" else ""
    return f"{reading.title} ({old:.2f} → {new:.2f}{unit})"

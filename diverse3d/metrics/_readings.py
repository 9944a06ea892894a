"""What every metric is called, its unit, and which way is good: one table for files, tables and alarms."""

from typing import NamedTuple


class Reading(NamedTuple):
    """How one metric is read."""

    unit: str
    """Unit."""
    better: str
    """Which way is good."""
    title: str
    """Name in tables and sentences."""


READINGS = {
    "asd_v": Reading("mm", "lower", "ASD-V (visible)"),
    "asd_o": Reading("mm", "higher", "ASD-O (hidden)"),
    "ratio": Reading("asd_o / asd_v", "higher", "ASD-O / ASD-V"),
    "visible_error": Reading("mm", "lower", "visible error"),
    "cse": Reading("mm", "lower", "CSE (closest sample)"),
    "cse_occluded": Reading("mm", "lower", "CSE-O (closest sample, hidden)"),
    "energy_score": Reading("mm", "lower", "energy score (hidden)"),
    "asd_v_front": Reading("mm", "lower", "ASD-V, facing the camera"),
    "asd_o_front": Reading("mm", "higher", "ASD-O, facing the camera"),
    "apd": Reading("mm", "higher", "APD (hidden)"),
    "tmd": Reading("mm", "higher", "TMD (all vertices)"),
    "uhd": Reading("mm", "lower", "UHD (visible points)"),
    "coverage_90": Reading("%", "near 90", "coverage of the 90 % interval (hidden)"),
    "mahalanobis": Reading("1 = typical", "near 1", "Mahalanobis distance / √K"),
    "outside_span": Reading("mm", "lower", "what the head's components can't express"),
    "self_intersections": Reading("% of triangles", "lower", "self-intersections"),
    "self_intersections_excess": Reading("% of triangles", "lower", "self-intersections beyond the reference's"),
    "seam": Reading("degrees", "lower", "seam at the mask's border"),
    "n": Reading("samples", "", "samples"),
}
"""By the key of `summary` and `report`. A region's figure is keyed `coverage_90/REGION`."""

UNITS = {name: reading.unit for name, reading in READINGS.items()}
"""Unit of each metric."""


def reading_of(name: str) -> Reading:
    """The reading of a metric, or of its figure in one region."""
    return READINGS[name.partition("/")[0]]

"""Suites of rendered photos, whose truth is known: masks and fits, and the errors of single fits."""

from ._histogram import run as run_histogram
from ._people import run as run_people
from ._photos import run as run

__all__ = ["run", "run_histogram", "run_people"]

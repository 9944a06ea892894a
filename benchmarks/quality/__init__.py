"""Suites of heads whose truth is known: fits, and the completions of every method."""

from ._completions import run as run
from ._fit import run as run_fit

__all__ = ["run", "run_fit"]

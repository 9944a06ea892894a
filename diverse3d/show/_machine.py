"""On what a result was made: versions, device and processor, as far as the last bits of its numbers depend on them."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jaxlib
import numpy as np


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    try:
        own = metadata.version("diverse3d")
    except metadata.PackageNotFoundError:  # run from a source tree
        from .. import __version__ as own
    return {
        "diverse3d": own,
        "python": platform.python_version(),
        "jax": jax.__version__,
        "jaxlib": jaxlib.version.__version__,
        "numpy": np.__version__,
    }


def device() -> dict[str, Any]:
    """The device; of a processor also which it is, and how many threads it may use: sums are split among them."""
    first = jax.devices()[0]
    table: dict[str, Any] = {"platform": first.platform, "kind": first.device_kind, "count": jax.device_count()}
    if first.platform == "cpu":
        table |= {"processor": _processor(), "threads": _threads()}
    return table


def _threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration, IndexError):
        return platform.processor() or platform.machine()

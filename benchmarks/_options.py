"""What may be asked of the benchmarks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from diverse3d.diversify import METHODS

from ._metric import BASELINE

SLOW = ("global-dpp", "global-local-dpp", "vae-dpp", "vae-dpp-kriging")
Suite = Literal["quality", "fit", "photos", "histogram", "people", "register", "vae", "speed", "all"]


@dataclass(frozen=True)
class Options:
    """Measure quality, fit, mesh VAEs and speed, and compare with the committed baseline."""

    out: Path
    """Folder for results; an interrupted quality or vae run goes on from what it finds there."""
    suite: Annotated[Suite, tyro.conf.Positional] = "all"
    """What to measure."""
    heads: int = 64
    """How many heads of the test split (photos, histogram: how many photos; register: scans;
    people: people a scan model)."""
    seeds: int = 3
    """How many times each random method runs on each head."""
    methods: tuple[str, ...] = tuple(name for name in METHODS if name not in SLOW)
    """Methods of the table of methods; map and posterior are the references and always run. Algorithm 2's take minutes
    a head, so they run where they are named."""
    head: Path | None = None
    """Head file for the quality suite, its heads drawn from its own prior; the embedded head if not given."""
    people: Path | None = None
    """Folder of scan models on the head's vertices (`ict_on_head.npz`, `flame_on_head.npz`), for the
    suites register and people."""
    outside: bool = False
    """Let the register suite run trimesh's registration too, which needs rtree."""
    masked: Path | None = None
    """Weights of a masked model for the vae suite; those of the package if not given."""
    residual: Path | None = None
    """Weights of a residual model for the vae suite; those of the package if not given."""
    budgets: tuple[int, ...] = (50, 100, 200, 400)
    """Training budgets in steps of the vae suite's own rows; none trains none."""
    baseline: Path = BASELINE
    """Baseline file."""
    gate: bool = False
    """Exit with 1 when a number got worse than the baseline by more than its tolerance."""
    update_baseline: bool = False
    """Put this run's numbers into the baseline."""

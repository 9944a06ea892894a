"""python -m benchmarks [quality|fit|photos|histogram|vae|speed|all] --out DIR"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from diverse3d._errors import InputError
from diverse3d.diversify import METHODS, get_method
from diverse3d.experiments import environment

from ._metric import BASELINE, Metric, judge, read_baseline, update_baseline
from ._report import show, write

SLOW = ("global-dpp", "global-local-dpp", "vae-dpp", "vae-dpp-kriging")
Suite = Literal["quality", "fit", "photos", "histogram", "vae", "speed", "all"]


@dataclass(frozen=True)
class Options:
    """Measure quality, fit, mesh VAEs and speed, and compare with the committed baseline."""

    out: Path
    """Folder for results; an interrupted quality or vae run goes on from what it finds there."""
    suite: Annotated[Suite, tyro.conf.Positional] = "all"
    """What to measure."""
    heads: int = 64
    """How many heads of the test split (photos, histogram: how many photos)."""
    seeds: int = 3
    """How many times each random method runs on each head."""
    methods: tuple[str, ...] = tuple(name for name in METHODS if name not in SLOW)
    """Methods of the table of methods; map and posterior are the references and always run. Algorithm 2's take minutes
    a head, so they run where they are named."""
    head: Path | None = None
    """Head file for the quality suite, its heads drawn from its own prior; the embedded head if not given."""
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


def suites(name: Suite) -> dict[str, Callable[[Options, Console], tuple[list[Metric], dict[str, str]]]]:
    """The suites asked for; imported late, so that one doesn't need another's extras."""
    from . import fitting, histogram, photos, quality, speed, vae

    every = {
        "quality": quality.run,
        "fit": fitting.run,
        "photos": photos.run,
        "histogram": histogram.run,
        "vae": vae.run,
        "speed": speed.run,
    }
    return every if name == "all" else {name: every[name]}


def run(options: Options, console: Console | None = None) -> int:
    """Run the suites; the exit code."""
    # A log has no width of its own; keys shall stay whole there.
    console = Console(width=None if sys.stdout.isatty() else 140) if console is None else console
    if options.heads < 1 or options.seeds < 1:
        raise InputError("--heads and --seeds must be at least 1.")
    if options.head is not None and options.suite != "quality":
        raise InputError("--head is for the quality suite; run `python -m benchmarks quality --head FILE`.")
    if (options.masked is not None or options.residual is not None) and options.suite != "vae":
        raise InputError("--masked and --residual are for the vae suite; run `python -m benchmarks vae`.")
    for method in options.methods:
        get_method(method)
    options.out.mkdir(parents=True, exist_ok=True)
    metrics: list[Metric] = []
    tables: dict[str, str] = {}
    for suite in suites(options.suite).values():
        measured, written = suite(options, console)
        metrics += measured
        tables |= written
    return conclude(metrics, tables, options, console)


def conclude(metrics: list[Metric], tables: dict[str, str], options: Options, console: Console) -> int:
    """Write, show, judge; the exit code."""
    here, baseline = environment(), read_baseline(options.baseline)
    write(metrics, tables, here, options.out)
    verdict = judge(metrics, baseline)
    show(console, metrics, verdict, baseline)
    console.print(f"Results are in {options.out}.", markup=False)
    if options.update_baseline:
        update_baseline(metrics, here, options.baseline)
    return 1 if options.gate and verdict.regressions else 0


def main() -> None:
    """The command."""
    try:
        sys.exit(run(tyro.cli(Options, prog="python -m benchmarks")))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()

"""python -m benchmarks [quality|fit|photos|histogram|people|register|vae|speed|all] --out DIR"""

import sys
from collections.abc import Callable

import tyro
from rich.console import Console

from diverse3d import InputError
from diverse3d.diversify import get_method
from diverse3d.experiments import environment

from . import photos, quality, scans, speed, vae
from ._metric import Metric, judge, read_baseline, update_baseline
from ._options import Options
from ._report import show, write

SUITES: dict[str, Callable[[Options, Console], tuple[list[Metric], dict[str, str]]]] = {
    "quality": quality.run,
    "fit": quality.run_fit,
    "photos": photos.run,
    "histogram": photos.run_histogram,
    "people": photos.run_people,
    "register": scans.run,
    "vae": vae.run,
    "speed": speed.run,
}
"""Each measures: metrics for the gate, and tables by the name of their file."""


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
    for suite in SUITES if options.suite == "all" else (options.suite,):
        measured, written = SUITES[suite](options, console)
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

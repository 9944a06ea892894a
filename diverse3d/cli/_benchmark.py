"""The command `benchmark`: one suite of experiments."""

import sys

from rich.console import Console

from ..experiments import Options, check, run
from ._commands import Benchmark
from ._progress import use_compilation_cache


def run_benchmark(command: Benchmark) -> int:
    """Check, measure, write, say what the figures say."""
    options = Options(
        out=command.out,
        methods=command.methods,
        occluders=command.occluders,
        settings=command.settings,
        heads=command.heads,
        seeds=command.seeds,
        samples=command.n,
        head=command.head,
        photo=command.photo,
        masked=command.masked,
        residual=command.residual,
        seed=command.seed,
    )
    check(command.suite, options)
    use_compilation_cache()
    try:
        found = run(command.suite, options, Console(stderr=True, quiet=command.quiet))
    except KeyboardInterrupt:
        print("diverse3d: interrupted; the same command goes on with the heads that are left", file=sys.stderr)
        return 1
    if not command.quiet:
        for sentence in found.statements:
            print(sentence)
        for alarm in found.alarms:
            print(f"alarm: {alarm['where']}: {alarm['sentence']}")
        print(f"look at {command.out / command.suite}.html")
    return 0

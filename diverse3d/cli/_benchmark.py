"""The command `benchmark`: one suite of experiments."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from ._options import Common, OptionalFile


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark(Common):
    """Measure methods on the same occluded heads of the test split, whose truth is known: tables, plots, statements.

    An interrupted run goes on in the same folder; methods whose weights are not there are left out, which is said."""

    suite: Positional[Annotated[str, arg(metavar="SUITE")]]
    """table1 (methods × occluders), table2 (k × n_σ), fig3 (what is diverse where), fig4 (interpolation paths) or
    frontier (what diversity costs)."""
    out: Path
    """Folder for SUITE.csv, SUITE.json and SUITE.html, and for the records of each head."""
    methods: Annotated[tuple[str, ...], arg(metavar="NAME", aliases=["--method"])] = ()
    """Methods of the table of methods; the suite's own choice if not given."""
    occluders: Annotated[tuple[str, ...], arg(metavar="REGION")] = ()
    """Regions that are hidden; the suite's own if not given."""
    settings: Annotated[tuple[str, ...], arg(metavar="NAME")] = ()
    """exact (what is visible is given without error), realistic (front-facing vertices, 1 mm off), or both; the suite's
    own if not given."""
    heads: int = 16
    """How many heads."""
    seeds: int = 3
    """How many times each random method runs on each head."""
    n: Annotated[int, arg(aliases=["-n"])] = 16
    """How many completions a run."""
    head: OptionalFile = None
    """Head file, its heads drawn from its own prior; the embedded head and the population's test split if not given."""
    photo: OptionalFile = None
    """A photo in place of heads (table1 alone): nobody knows its truth, so what needs one is left out."""
    masked: OptionalFile = None
    """Weights of a masked model, for vae methods; the ones in the package if not given."""
    residual: OptionalFile = None
    """Weights of a residual model, for hybrid methods; the ones in the package if not given."""

    def run(self) -> int:
        """Check, measure, write, say what the figures say."""
        from rich.console import Console

        from ..experiments import Options, check, run

        options = Options(
            out=self.out,
            methods=self.methods,
            occluders=self.occluders,
            settings=self.settings,
            heads=self.heads,
            seeds=self.seeds,
            samples=self.n,
            head=self.head,
            photo=self.photo,
            masked=self.masked,
            residual=self.residual,
            seed=self.seed,
        )
        check(self.suite, options)
        try:
            found = run(self.suite, options, Console(stderr=True, quiet=self.quiet))
        except KeyboardInterrupt:
            print("diverse3d: interrupted; the same command goes on with the heads that are left", file=sys.stderr)
            return 1
        if not self.quiet:
            for sentence in found.statements:
                print(sentence)
            for alarm in found.alarms:
                print(f"alarm: {alarm['where']}: {alarm['sentence']}")
            print(f"look at {self.out / self.suite}.html")
        return 0

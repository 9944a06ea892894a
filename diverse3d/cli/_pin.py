"""The command `pin`: a part of one completion kept, the rest drawn anew."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from .._errors import InputError
from ._options import Common, OptionalFile, seed_key
from ._progress import Reporter


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pin(Common):
    """Keep a region of one completion, within 0.1 mm, and draw new completions of the rest."""

    result: Positional[Annotated[Path, arg(metavar="DIR")]]
    """Folder that `complete` or `demo` wrote."""
    index: Positional[Annotated[int, arg(metavar="INDEX")]]
    """Number of the completion that is kept there, from 0."""
    out: Path
    """Folder to write: it must be new, empty, or replaced with --force."""
    region: Annotated[str | None, arg(metavar="NAME")] = None
    """Region of the head that is kept, such as lips, nose or eye_region; several with commas between."""
    vertices: OptionalFile = None
    """Instead of a region: a .npy, .npz or text with one 0/1 a vertex, 1 kept."""
    n: Annotated[int | None, arg(aliases=["-n"], metavar="INT")] = None
    """How many completions; as many as the result has if not given."""
    method: Annotated[str | None, arg(metavar="NAME")] = None
    """Another method than the result's, of those that draw from the closed form: posterior…, hybrid…."""
    head: OptionalFile = None
    """Head file that the result was made with; the embedded head if not given."""
    weights: OptionalFile = None
    """Trained weights that the result was made with; the ones in the package if not given."""
    light: Literal["kept", "removed"] = "kept"
    """Whether a photo's light stays on the textures or is taken away."""
    no_report: bool = False
    """Write no report.html."""
    force: bool = False
    """Replace the result that the output folder already holds."""

    def check_paths(self) -> None:
        """Refuse what can be refused by looking at names alone: raises `InputError`."""
        from ..files import check_target

        if (self.region is None) == (self.vertices is None):
            raise InputError("Say what is kept: --region NAME, or --vertices FILE.")
        check_target(self.out, force=self.force, needed=(self.result, self.head, self.weights, self.vertices))

    def run(self) -> int:
        """Read, condition, draw, write."""
        from .. import _api
        from .._errors import spelt_out
        from ..diversify import check_pin
        from ..observe import read_marks
        from ..show import REPORT_NAME, Stages, warnings_of
        from ._stored import read_completions, read_record, read_result

        key = seed_key(self.seed)
        record, run = read_record(self.result)
        arrays = read_completions(self.result)
        check_pin(self.method or run.method, len(arrays["vertices"]), self.index)
        marks = None if self.vertices is None else read_marks(self.vertices, arrays["vertices"].shape[1])
        names = [] if self.region is None else [name.strip() for name in self.region.split(",")]
        reporter = Reporter(self, ("head", "observe", "prepare", "fit", "complete", "draw", "write"))
        stages = Stages(reporter)
        with reporter.shown():
            result, _ = read_result(self.result, record, run, arrays, head_file=self.head, stages=stages)
            made = _api.pin(
                result, self.index, names if marks is None else marks, self.n,
                key=key, method=self.method, weights=self.weights, stages=stages,
            )  # fmt: skip
            options = {"command": "pin", "of": spelt_out(self.result.name)}
            made.save(
                self.out, force=self.force, light=self.light, stages=stages, options=options, report=not self.no_report
            )
        if not self.quiet:
            for note in warnings_of(made.seen, made.fit, made):
                print(note, file=sys.stderr)
            look = self.out / ("contact-sheet.png" if self.no_report else REPORT_NAME)
            print(f"{len(made.vertices)} completions in {self.out}; look at {look}")
        return 0

"""The command `interpolate`: the path between two completions of a result."""

import dataclasses
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from ._options import Common, OptionalFile, OptionalFolder
from ._progress import Reporter


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interpolate(Common):
    """The path between two completions of a result: meshes, one animated GLB, a GIF and a strip. Nothing is random."""

    result: Positional[Annotated[Path, arg(metavar="DIR")]]
    """Folder that `complete` or `demo` wrote."""
    i: Positional[Annotated[int, arg(metavar="I")]]
    """Number of the completion where it begins, from 0."""
    j: Positional[Annotated[int, arg(metavar="J")]]
    """Number of the completion where it ends."""
    frames: int = 9
    """Heads along the path, both ends counted."""
    out: OptionalFolder = None
    """Folder to write, new or empty; interpolation-I-J in the result's folder if not given."""
    plain: bool = False
    """Leave the straight line of the latents as it is, instead of holding the visible part along the path."""
    head: OptionalFile = None
    """Head file that the result was made with; the embedded head if not given."""
    weights: OptionalFile = None
    """Trained weights that the result was made with; the ones in the package if not given."""
    force: bool = False
    """Replace the path that the output folder already holds."""

    def run(self) -> int:
        """Read, walk, write."""
        import jax

        from .. import _api
        from ..diversify import check_path
        from ..show import PATH_RECORD_NAME, Stages, check_target, path_caption
        from ._stored import read_completions, read_record, read_result

        record, run = read_record(self.result)
        arrays = read_completions(self.result)
        check_path(run.method, len(arrays["vertices"]), self.i, self.j, self.frames)
        out = self.result / f"interpolation-{self.i}-{self.j}" if self.out is None else self.out
        check_target(out, force=self.force, record=PATH_RECORD_NAME)
        reporter = Reporter(self, ("head", "observe", "prepare", "fit", "interpolate", "render", "write"))
        stages = Stages(reporter)
        with reporter.shown():
            result, head = read_result(self.result, record, run, arrays, head_file=self.head, stages=stages)
            with stages("interpolate"):
                path = _api.interpolate(
                    result, self.i, self.j, frames=self.frames, plain=self.plain, head=head,
                    weights=self.weights,
                )  # fmt: skip
                jax.block_until_ready(path.vertices)
            path.save(out, force=self.force, stages=stages)
        if not self.quiet:
            made = f"{len(path.vertices)} heads from completion {self.i} to {self.j} in {out}"
            print(f"{made} ({path_caption(path)}); look at {out / 'path.png'}")
        return 0

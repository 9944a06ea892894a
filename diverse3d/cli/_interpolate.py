"""The command `interpolate`: the path between two completions of a result."""

import jax

from .. import _api
from ..diversify import check_path
from ..show import PATH_RECORD_NAME, Stages, check_target, path_caption
from ._commands import Interpolate
from ._progress import Reporter, use_compilation_cache
from ._replay import read_record
from ._stored import read_completions, read_result


def run_interpolate(command: Interpolate) -> int:
    """Read, walk, write."""
    record, run = read_record(command.result)
    arrays = read_completions(command.result)
    check_path(run.method, len(arrays["vertices"]), command.i, command.j, command.frames)
    out = command.result / f"interpolation-{command.i}-{command.j}" if command.out is None else command.out
    check_target(out, force=command.force, record=PATH_RECORD_NAME)
    use_compilation_cache()
    reporter = Reporter(("head", "observe", "prepare", "fit", "interpolate", "render", "write"), quiet=command.quiet)
    stages = Stages(reporter)
    with reporter.shown():
        result, head = read_result(command.result, record, run, arrays, head_file=command.head, stages=stages)
        with stages("interpolate"):
            path = _api.interpolate(
                result, command.i, command.j, frames=command.frames, plain=command.plain, head=head,
                weights=command.weights,
            )  # fmt: skip
            jax.block_until_ready(path.vertices)
        path.save(out, force=command.force, stages=stages)
    if not command.quiet:
        made = f"{len(path.vertices)} heads from completion {command.i} to {command.j} in {out}"
        print(f"{made} ({path_caption(path)}); look at {out / 'path.png'}")
    return 0

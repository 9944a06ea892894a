"""The command `replay`: a result again, from its folder alone."""

import dataclasses
import math
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from .._errors import InputError
from ._options import OptionalFile, seed_key
from ._progress import Reporter

SAME_MM = 0.01
"""Results of other machines, versions or numbers of threads are the same if no vertex lies farther off."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Replay:
    """Run a result again from its record and say whether it is the same (exit code 0) or not (1): byte for byte, or on
    another machine, with other versions or another number of threads, within a hundredth of a millimetre."""

    result: Positional[Path]
    """Folder that `complete` or `demo` wrote."""
    head: OptionalFile = None
    """Head file that the result was made with; the embedded head if not given."""
    weights: OptionalFile = None
    """Trained weights that the result was made with; the ones in the package if not given."""
    seed: Annotated[int | None, arg(metavar="INT")] = None
    """Another seed than the record's, to see what it changes."""
    quiet: bool = False
    """Print nothing but errors."""

    def run(self) -> int:
        """Run again and compare `completions.npz`: 0 if it is the same, else 1."""
        from .. import _api, show
        from ..files import Limits, npz_bytes, one_line, read_bytes
        from ._stored import load_same_head, observe_again, read_pin, read_record

        record, run = read_record(self.result)
        stored = self.result / "completions.npz"
        if not stored.is_file():
            raise InputError(f"{self.result} holds no completions.npz; give a folder that `complete` or `demo` wrote.")
        key = run.key() if self.seed is None else seed_key(self.seed)
        before = read_bytes(stored, "result_bytes", Limits.from_environment())
        reporter = Reporter(self, ("head", "observe", "prepare", "fit", "complete"))
        stages = show.Stages(reporter)
        with reporter.shown():
            with stages("head"):
                head = load_same_head(self.head, self.result, run)
            with stages("observe"):
                seen = observe_again(self.result, head)
            pin = read_pin(self.result, record, run.method, head.n_vertices)
            result = _api.complete(
                seen, head=head, n=run.n, method=run.method, key=key, noise=run.noise,
                fit_config=run.fit, config=run.diversify, weights=self.weights, stages=stages, pin=pin,
            )  # fmt: skip
        stored_weights = record.get("weights")
        made_with = stored_weights.get("sha256") if isinstance(stored_weights, dict) else None
        if made_with != result.weights_sha256:
            raise InputError(
                f"{self.result} was made with other trained weights ({one_line(made_with)[:12]}); "
                "give them by --weights."
            )
        again = npz_bytes(show.completion_arrays(result))
        if again == before:
            if not self.quiet:
                print(f"{self.result}: identical, all {len(before)} bytes of completions.npz")
            return 0
        changed = _changed(record)
        text, apart_mm = _difference(before, again)
        alike = bool(changed) and apart_mm <= SAME_MM
        if not self.quiet:
            word = f"the same within {SAME_MM:g} mm, not byte for byte" if alike else "not identical"
            print(f"{self.result}: {word}; {text}")
            for line in changed or ["Versions, processor and number of threads are as they were."]:
                print(f"  {line}")
        return 0 if alike else 1


def _changed(record: dict[str, Any]) -> list[str]:
    """What differs from where a result was made, of what the last bits depend on, a line each."""
    from .. import show
    from ..files import one_line

    lines = []
    for part, now in (("versions", show.versions()), ("device", show.device())):
        former = record.get(part)
        former = former if isinstance(former, dict) else {}
        lines += [
            f"{name} was {one_line(former[name]) if name in former else 'not recorded'} and is {value}"
            for name, value in now.items()
            if former.get(name) != value
        ]
    return lines


def _difference(before: bytes, after: bytes) -> tuple[str, float]:
    """How far two results' vertices lie apart, in words, and in mm at most; infinite where that can't be said."""
    import numpy as np

    from ..files import Limits, parse_npz

    limits = Limits.from_environment()
    new = parse_npz(after, "the new completions.npz", limits, limit="result_bytes")
    try:
        old = parse_npz(before, "the stored completions.npz", limits, limit="result_bytes")
    except InputError as error:
        return str(error), math.inf
    if "vertices" not in old:
        return "the stored completions.npz holds no vertices", math.inf
    with np.errstate(invalid="ignore"):
        first, second = old["vertices"].astype(np.float64), new["vertices"].astype(np.float64)
    same = [name for name in new if name in old and np.array_equal(old[name], new[name])]
    if first.shape != second.shape:
        return f"its vertices are of shape {second.shape}, not {first.shape} as stored", math.inf
    with np.errstate(over="ignore", invalid="ignore"):
        distance = 1e3 * np.linalg.norm(first - second, axis=2)
    text = (
        f"vertices lie {distance.max():.3g} mm apart at most, {np.sqrt((distance**2).mean()):.3g} mm RMS "
        f"(equal arrays: {', '.join(same) or 'none'})"
    )
    return text, float(distance.max())

"""The command `replay`: a result again, from its folder alone."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from .. import _api, show
from .._errors import InputError
from ..diversify import DiversifyConfig
from ..fit import FitConfig, Weights
from ..head import HeadModel, load_head
from ..observe import Observation, observe_mesh, observe_photo
from ..show import Run, Stages
from ._commands import Replay
from ._complete import seed_key
from ._progress import Reporter, use_compilation_cache

_LARGEST_RECORD_BYTES = 16 << 20


def run_replay(command: Replay) -> int:
    """Run again and compare `completions.npz`: 0 if it is the same byte for byte, else 1."""
    record, run = read_record(command.result)
    stored = command.result / "completions.npz"
    if not stored.is_file():
        raise InputError(f"{command.result} holds no completions.npz; give a folder that `complete` or `demo` wrote.")
    key = run.key() if command.seed is None else seed_key(command.seed)
    use_compilation_cache()
    reporter = Reporter(("head", "observe", "prepare", "fit", "complete"), quiet=command.quiet)
    stages = Stages(reporter)
    with reporter.shown():
        with stages("head"):
            head = load_head(command.head)
        if head.sha256 != run.head_sha256:
            raise InputError(
                f"{command.result} was made with the head '{run.head_name}' ({run.head_sha256[:12] or 'from arrays'}), "
                f"and this one is '{head.name}' ({head.sha256[:12]}); give the right one with --head."
            )
        with stages("observe"):
            seen = _observe(command.result, head)
        result = _api.complete(
            seen, head=head, n=run.n, method=run.method, key=key, noise=run.noise,
            fit_config=run.fit, config=run.diversify, stages=stages,
        )  # fmt: skip
    again, before = show.npz_bytes(show.completion_arrays(result)), stored.read_bytes()
    if again == before:
        if not command.quiet:
            print(f"{command.result}: identical, all {len(before)} bytes of completions.npz")
        return 0
    if not command.quiet:
        print(f"{command.result}: not identical; {_difference(before, again)}")
        now = show.versions()
        for name, version in record.get("versions", {}).items():
            if now.get(name) != version:
                print(f"  {name} was {version} and is {now.get(name)}")
    return 1


def read_record(folder: Path) -> tuple[dict[str, Any], Run]:
    """The record of a result and the run it describes; raises `InputError` where there is none that can be read."""
    path = folder / show.RECORD_NAME
    if not path.is_file():
        raise InputError(f"{folder} holds no {show.RECORD_NAME}; give a folder that `complete` or `demo` wrote.")
    if path.stat().st_size > _LARGEST_RECORD_BYTES:
        raise InputError(f"{path} is larger than a record can be.")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        settings = dict(record["configuration"])
        fit = dict(settings["fit"])
        run = Run(
            head_name=str(record["head"]["name"]),
            head_sha256=str(record["head"]["sha256"] or ""),
            key_impl=str(settings["key_impl"]),
            key_data=tuple(int(word) for word in settings["key_data"]),
            n=int(settings["n"]),
            method=str(settings["method"]),
            noise=settings["noise"],
            fit=FitConfig(**{**fit, "weights": Weights(**fit["weights"])}),
            diversify=DiversifyConfig(**settings["diversify"]),
        )
        run.key()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a record of this version ({type(error).__name__}: {error}).") from error
    return record, run


def _observe(folder: Path, head: HeadModel) -> Observation:
    if (folder / "input.png").is_file():
        return observe_photo(folder / "input.png", mask=folder / "mask.png")
    return observe_mesh(folder / "input.npz", head=head)


def _difference(before: bytes, after: bytes) -> str:
    """How far two results' vertices lie apart, in words."""
    try:
        with (
            np.load(io.BytesIO(before), allow_pickle=False) as old,
            np.load(io.BytesIO(after), allow_pickle=False) as new,
        ):
            first, second = old["vertices"].astype(np.float64), new["vertices"].astype(np.float64)
            same = [name for name in new.files if name in old.files and np.array_equal(old[name], new[name])]
    except (ValueError, OSError, KeyError, EOFError) as error:
        return f"the stored completions.npz can't be read ({error})"
    if first.shape != second.shape:
        return f"it has {second.shape[0]} heads of {second.shape[1]} vertices, not {first.shape[0]} of {first.shape[1]}"
    distance = 1e3 * np.linalg.norm(first - second, axis=2)
    return (
        f"vertices lie {distance.max():.3g} mm apart at most, {np.sqrt((distance**2).mean()):.3g} mm RMS "
        f"(equal arrays: {', '.join(same) or 'none'})"
    )

"""The command `replay`: a result again, from its folder alone."""

import dataclasses
import math
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np

from .. import _api, show
from .._errors import InputError
from .._json import read_json
from .._limits import Limits, one_line, read_bytes
from .._npz import parse_npz
from ..diversify import DiversifyConfig
from ..fit import FitConfig
from ..head import HeadModel, load_head, residual_of
from ..observe import Observation, observe_mesh, observe_photo
from ..show import Run, Stages
from ._commands import Replay
from ._complete import seed_key
from ._progress import Reporter, use_compilation_cache


def run_replay(command: Replay) -> int:
    """Run again and compare `completions.npz`: 0 if it is the same byte for byte, else 1."""
    record, run = read_record(command.result)
    stored = command.result / "completions.npz"
    if not stored.is_file():
        raise InputError(f"{command.result} holds no completions.npz; give a folder that `complete` or `demo` wrote.")
    key = run.key() if command.seed is None else seed_key(command.seed)
    before = read_bytes(stored, "result_bytes", Limits.from_environment())
    use_compilation_cache()
    reporter = Reporter(("head", "observe", "prepare", "fit", "complete"), quiet=command.quiet)
    stages = Stages(reporter)
    with reporter.shown():
        with stages("head"):
            head = load_same_head(command.head, command.result, run)
        with stages("observe"):
            seen = observe_again(command.result, head)
        result = _api.complete(
            seen, head=head, n=run.n, method=run.method, key=key, noise=run.noise,
            fit_config=run.fit, config=run.diversify, weights=command.weights, stages=stages,
        )  # fmt: skip
    stored_weights = record.get("weights")
    made_with = stored_weights.get("sha256") if isinstance(stored_weights, dict) else None
    if made_with != result.weights_sha256:
        raise InputError(
            f"{command.result} was made with other trained weights ({one_line(made_with)[:12]}); "
            "give them by --weights."
        )
    again = show.npz_bytes(show.completion_arrays(result))
    if again == before:
        if not command.quiet:
            print(f"{command.result}: identical, all {len(before)} bytes of completions.npz")
        return 0
    if not command.quiet:
        print(f"{command.result}: not identical; {_difference(before, again)}")
        now = show.versions()
        for name, version in now.items():
            if (former := record.get("versions", {}).get(name)) != version:
                print(f"  {name} was {one_line(former)} and is {version}")
    return 1


def read_record(folder: Path) -> tuple[dict[str, Any], Run]:
    """The record of a result and the run it describes; raises `InputError` where there is none that can be read."""
    path = folder / show.RECORD_NAME
    if not path.is_file():
        raise InputError(f"{folder} holds no {show.RECORD_NAME}; give a folder that `complete` or `demo` wrote.")
    record = read_json(path)
    try:
        settings, head = _table(record["configuration"]), _table(record["head"])
        run = Run(
            head_name=_as(str, head["name"]),
            head_sha256=_as(str, head["sha256"] or ""),
            key_impl=_as(str, settings["key_impl"]),
            key_data=tuple(_as(int, word) for word in settings["key_data"]),
            n=_as(int, settings["n"]),
            method=_as(str, settings["method"]),
            noise=None if settings["noise"] is None else _as(str, settings["noise"]),
            fit=_settings(FitConfig(), settings["fit"]),
            diversify=_settings(DiversifyConfig(), settings["diversify"]),
        )
        if not 1 <= len(run.key_data) <= 8 or max(run.key_data) >= 1 << 32:
            raise ValueError("its random key is unknown")
        _table(record.get("versions", {}))
        run.key()
    except (ValueError, KeyError, TypeError) as error:
        wrong = f"{type(error).__name__}: {one_line(error)}"
        raise InputError(f"{path} is not a record of this version ({wrong}).") from error
    return record, run


def _settings(default: Any, values: Any) -> Any:
    """Settings with the record's values, each of its field's type; raises `ValueError` for any other."""
    table, read = _table(values), {}
    for field in dataclasses.fields(default):
        part = getattr(default, field.name)
        if dataclasses.is_dataclass(part):
            # Records of earlier versions hold the settings of parts beside the others.
            own = {inner.name: table.pop(inner.name) for inner in dataclasses.fields(part) if inner.name in table}
            read[field.name] = _settings(part, own | _table(table.pop(field.name, {})))
        elif field.name in table:
            read[field.name] = _as(field.type, table.pop(field.name))
    if table:
        raise KeyError(*table)
    return dataclasses.replace(default, **read)


def _table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("a table is missing")
    return dict(value)


def _as(kind: Any, value: Any) -> Any:
    """The value, if it is of the type, or one of the types or words; a record's numbers are all positive or zero."""
    kinds = get_args(kind) or (kind,)
    if get_origin(kind) is Literal:
        if value not in kinds:
            raise ValueError(f"{value!r:.40} is none of {', '.join(kinds)}")
        return value
    if float in kinds and type(value) is int:
        value = float(value)
    if type(value) not in kinds:
        raise TypeError(f"{value!r:.40} is not of type {' or '.join(one.__name__ for one in kinds)}")
    if isinstance(value, int | float) and not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{value!r:.40} is out of range")
    return value


def load_same_head(file: Path | None, folder: Path, run: Run) -> HeadModel:
    """The head file, or the embedded head; raises `InputError` unless it is the one that the result was made with."""
    head = load_head(file, residual=residual_of(run.head_sha256))
    if head.sha256 != run.head_sha256:
        made_with = run.head_sha256[:12] or "from arrays"
        remedy = "give the right one with --head."
        if file is None and run.head_name == head.name:
            remedy = "it came with another version of diverse3d; install that one, or complete the input anew."
        raise InputError(
            f"{folder} was made with the head '{one_line(run.head_name)}' ({one_line(made_with)}), "
            f"and this one is '{head.name}' ({head.sha256[:12]}); {remedy}"
        )
    return head


def observe_again(folder: Path, head: HeadModel) -> Observation:
    """The observation of the input that lies in a result's folder."""
    if (folder / "input.png").is_file():
        return observe_photo(folder / "input.png", mask=folder / "mask.png")
    return observe_mesh(folder / "input.npz", head=head)


def _difference(before: bytes, after: bytes) -> str:
    """How far two results' vertices lie apart, in words."""
    limits = Limits.from_environment()
    new = parse_npz(after, "the new completions.npz", limits, limit="result_bytes")
    try:
        old = parse_npz(before, "the stored completions.npz", limits, limit="result_bytes")
    except InputError as error:
        return str(error)
    if "vertices" not in old:
        return "the stored completions.npz holds no vertices"
    with np.errstate(invalid="ignore"):
        first, second = old["vertices"].astype(np.float64), new["vertices"].astype(np.float64)
    same = [name for name in new if name in old and np.array_equal(old[name], new[name])]
    if first.shape != second.shape:
        return f"its vertices are of shape {second.shape}, not {first.shape} as stored"
    with np.errstate(over="ignore", invalid="ignore"):
        distance = 1e3 * np.linalg.norm(first - second, axis=2)
    return (
        f"vertices lie {distance.max():.3g} mm apart at most, {np.sqrt((distance**2).mean()):.3g} mm RMS "
        f"(equal arrays: {', '.join(same) or 'none'})"
    )

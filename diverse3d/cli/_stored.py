"""A result back from its folder: its record and completions as stored, the fit made again from the input there."""

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import jax
import jax.numpy as jnp
import numpy as np

from .. import _api
from .._errors import InputError
from ..diversify import SAMPLE_TEXT, DiversifyConfig, Pin, check_pin, get_method
from ..files import one_line, read_json, read_npz
from ..fit import FitConfig, prepare
from ..fit import fit as fit_observation
from ..head import HeadModel, load_head, residual_of
from ..observe import MOST_PHOTOS, Observation, observe_mesh, observe_photo, together
from ..show import PIN_NAME, RECORD_NAME, Run, Stages

_SAME_FIT_MM = 1.0
"""How far a fit may lie from the stored one; machines differ by far less, inputs by far more."""


def read_record(folder: Path) -> tuple[dict[str, Any], Run]:
    """The record of a result and the run it describes; raises `InputError` where there is none that can be read."""
    path = folder / RECORD_NAME
    if not path.is_file():
        raise InputError(f"{folder} holds no {RECORD_NAME}; give a folder that `complete` or `demo` wrote.")
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
        seen = observe_photo(folder / "input.png", mask=folder / "mask.png", face=_face(folder))
        numbers = iter(range(2, MOST_PHOTOS + 1))
        more = list(itertools.takewhile(Path.is_file, (folder / f"input-{number}.png" for number in numbers)))
        others = [observe_photo(path, mask=path.with_name(path.name.replace("input", "mask"))) for path in more]
        return together(seen, others) if others else seen
    return observe_mesh(folder / "input.npz", head=head)


def _face(folder: Path) -> int | None:
    """Which face of the picture a result is of; None for the largest, and for records that don't say."""
    face = _table(read_json(folder / RECORD_NAME)).get("face")
    if isinstance(face, dict) and face.get("chosen") is True and type(number := face.get("number")) is int:
        return number
    return None


def read_completions(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of a folder's `completions.npz`; raises `InputError` unless they are a result's."""
    path = folder / "completions.npz"
    if not path.is_file():
        raise InputError(f"{folder} holds no completions.npz; give a folder that `complete` or `demo` wrote.")
    arrays = read_npz(path, limit="result_bytes")
    vertices, visible, fitted = (arrays.get(name, np.zeros(0)) for name in ("vertices", "visible", "fit"))
    best = arrays.setdefault("map", fitted)  # results of older versions hold none
    latents = arrays.get("latents", np.zeros((len(vertices), 0), np.float32))
    sound = (
        vertices.ndim == 3
        and vertices.shape[2] == 3
        and len(vertices) > 0
        and (visible.shape, visible.dtype) == (vertices.shape[1:2], np.dtype(bool))
        and fitted.shape == best.shape == vertices.shape[1:]
        and latents.ndim == 2
        and len(latents) == len(vertices)
        and all(array.dtype.kind == "f" and np.isfinite(array).all() for array in (vertices, fitted, best, latents))
    )
    if not sound:
        raise InputError(f"{path} does not hold the arrays of a result; make the result again.")
    return arrays


def read_result(
    folder: Path,
    record: dict[str, Any],
    run: Run,
    arrays: dict[str, np.ndarray],
    *,
    head_file: Path | None,
    stages: Stages,
) -> tuple[_api.Result, HeadModel]:
    """The result that `arrays` (see `read_completions`) and the folder's record describe, and its head.

    Raises `InputError` for another head than the one it was made with, and for files that don't belong together.
    """
    codes = {text: code for code, text in SAMPLE_TEXT.items()}
    samples, noise = record.get("samples"), record.get("noise")
    known = isinstance(samples, list) and all(isinstance(text, str) and text in codes for text in samples)
    if not known or not isinstance(samples, list) or len(samples) != len(arrays["vertices"]):
        raise InputError(f"{folder / RECORD_NAME} does not describe the completions beside it; make the result again.")
    if not isinstance(noise, str):
        raise InputError(f"{folder / RECORD_NAME} is not a record of this version (it names no noise).")
    method = get_method(run.method)
    with stages("head"):
        head = load_same_head(head_file, folder, run)
    if arrays["vertices"].shape[1] != head.n_vertices:
        raise InputError(f"{folder / 'completions.npz'} is not of the head that its record names; make it again.")
    with stages("observe"):
        seen = observe_again(folder, head)
    with stages("prepare"):
        problem = prepare(method.head(head))
        jax.block_until_ready(problem.smoothness)
    with stages("fit"):
        # Another machine may decide otherwise about a vertex at the border: what was seen then counts.
        visible = jnp.asarray(arrays["visible"])
        at = dataclasses.replace(fit_observation(seen, problem, run.fit), visible=visible)
        fitted = np.asarray(at.to_world(at.vertices_m), np.float64)
    off_mm = 1e3 * float(np.sqrt(((fitted - arrays["fit"]) ** 2).sum(1).mean()))
    if not off_mm <= _SAME_FIT_MM:
        raise InputError(
            f"The fit to the input in {folder} lies {off_mm:.1f} mm from the stored one: one of its files was changed; "
            "make the result again."
        )
    dtype = head.dtype
    result = _api.Result(
        vertices=jnp.asarray(arrays["vertices"], dtype),
        faces=problem.head.faces,
        visible=at.visible,
        fit_vertices=jnp.asarray(arrays["fit"], dtype),
        map_vertices=jnp.asarray(arrays["map"], dtype),
        held=at.to_world(at.held_m),
        latents=jnp.asarray(arrays["latents"], dtype) if "latents" in arrays else None,
        results=jnp.asarray([codes[text] for text in samples], jnp.int32),
        fit=at,
        seen=seen,
        method=run.method,
        noise=noise,
        prior_widening=_widening(record, "prior"),
        noise_widening=_widening(record, "noise"),
        weights_sha256=_weights(record),
        pin=read_pin(folder, record, run.method, head.n_vertices),
        head=problem.head,
        run=run,
    )
    return result, head


def read_pin(folder: Path, record: dict[str, Any], method: str, n_vertices: int) -> Pin | None:
    """What of an earlier completion a result keeps; None where nothing was pinned.

    Raises `InputError` where the record and the file beside it don't say it.
    """
    table = record.get("pin")
    if table is None:
        return None
    path = folder / PIN_NAME
    if not path.is_file():
        raise InputError(f"{folder} holds no {PIN_NAME}, which its record speaks of; make the result again.")
    arrays = read_npz(path)
    marks, held = arrays.get("vertices", np.zeros(0)), arrays.get("held", np.zeros(0))
    try:
        table = _table(table)
        index, of = _as(int, table["completion"]), _as(str, table["completions_sha256"])
        names = tuple(_as(str, name) for name in table["regions"])
        sound = marks.dtype == bool and marks.any() and held.dtype.kind == "f" and np.isfinite(held).all()
        if not sound or (marks.shape, held.shape) != ((n_vertices,), (n_vertices, 3)):
            raise ValueError("its arrays are of another head, or damaged")
    except (ValueError, KeyError, TypeError) as error:
        wrong = f"{type(error).__name__}: {one_line(error)}"
        raise InputError(f"{path} is not what its record says was pinned ({wrong}); make the result again.") from error
    check_pin(method, index + 1, index)
    return Pin(marks, held.astype(np.float32), index, names, of)


def _widening(record: dict[str, Any], name: str) -> float:
    """How far the closed form was widened, as the record says."""
    table = record.get("widening")
    value = table.get(name) if isinstance(table, dict) else None
    return float(value) if isinstance(value, int | float) and 1.0 <= value < 1e9 else 1.0


def _weights(record: dict[str, Any]) -> str | None:
    """Hash of the trained weights that a result was made with."""
    weights = record.get("weights")
    digest = weights.get("sha256") if isinstance(weights, dict) else None
    return digest if isinstance(digest, str) else None

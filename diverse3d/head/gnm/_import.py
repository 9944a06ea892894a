"""GNM Head as downloaded → a head file."""

import hashlib
from collections import Counter
from pathlib import Path
from typing import cast

import numpy as np

from ..._errors import InputError
from ...files import parse_npz, read_bytes
from ...surface import pieces
from .._anatomy import colours_by_landmarks, eyeballs, regions_by_landmarks
from .._imported import Imported, finish, packed
from .._points68 import jaw_order, landmarks68_arrays, read_points68, shipped_landmarks
from ..flame._local import higher_local_arrays
from ..flame._read import ImportLimits
from ._validate import GnmArrays, validate

JOINT_STD_RAD = {
    "head": (0.10, 0.10, 0.05),
    "jaw": (0.10, 0.02, 0.02),
    "left_eye": (0.10, 0.15, 0.02),
    "right_eye": (0.10, 0.15, 0.02),
}
"""How far joints are taken to turn about x, y, z (radians a standard deviation), as FLAME's neck, jaw and eyes; others
stay at rest."""

_SMALLEST_GROUP = 10
_NAMED = {"eyeball": ("left_eye", "right_eye"), "ear": ("left_ear", "right_ear")}
"""Our regions that are GNM's groups under another name; the rest of a face's parts FLAME cuts otherwise."""

_INSIDE = ("mouth_sock", "teeth", "gums", "tongue", "upper_teeth_and_gums", "lower_teeth_and_gums")
"""Groups that are no skin."""


def import_gnm(file: Path, *, landmarks: Path | None = None, limits: ImportLimits | None = None) -> Imported:
    """A head from `gnm_head.npz` as downloaded: every vertex in its order, every component, the joints and their tree.

    `landmarks` is a text of 68 lines, a vertex and its weight three times each (`head_sparse_68.txt`); without it the
    landmarks that come with the package are taken, where the mesh is GNM Head 3's. Raises `InputError` for anything
    that is not sound; nothing in a file is ever executed.
    """
    limits = cast(ImportLimits, ImportLimits.from_environment()) if limits is None else limits
    data = read_bytes(file, "import_bytes", limits)
    digest = hashlib.sha256(data).hexdigest()
    arrays = parse_npz(data, str(file), limits, limit="import_unpacked_bytes", texts=True)
    del data
    try:
        gnm = validate(arrays)
    except InputError as error:
        raise InputError(f"{file} is not a usable GNM head: {error}") from None
    del arrays
    notes = list(gnm.notes)
    result, used = model_arrays(gnm, notes), {file.name: digest}
    points, said, used_landmarks = _landmarks(gnm, landmarks)
    result |= points
    notes += said
    used |= used_landmarks
    if "landmarks68_face" in result:
        result |= _parts(gnm, result)
    else:
        notes.append("Regions and colours need the 68 landmarks; this mesh came without.")
    regions = {key.split("/")[1]: value for key, value in result.items() if key.startswith("region/")}
    local, origin = higher_local_arrays(gnm.identity, gnm.expression, regions)
    metadata = {
        "name": f"GNM Head {gnm.version}",
        "licence": "Apache-2.0 (Google, GNM Head)",
        "source": file.name,
        "source_sha256": digest,
        "provenance": "; ".join(f"{name} {sha}" for name, sha in used.items()),
        "unit_of_source": gnm.unit,
        "components_by_kind": _kinds(gnm),
        "joint_names": ", ".join(gnm.joint_names),
        "local_models": origin,
        "prior": _prior(gnm),
    }
    return finish(result | local, metadata, notes)


def model_arrays(gnm: GnmArrays, notes: list[str]) -> dict[str, np.ndarray]:
    """Head-file arrays of a checked GNM head; the bases in half precision, which adds a sentence to `notes`."""
    identity, expression = packed("identity", gnm.identity), packed("expression", gnm.expression)
    worst = float(np.sqrt((identity.square_error + expression.square_error).max()))
    notes.append(
        f"Bases are stored in half precision: a random head's vertices are off by {1e6 * worst:.1f} µm at most (RMS "
        "of the worst vertex)."
    )
    arrays = {
        "template": gnm.template,
        "faces": gnm.faces,
        **identity.arrays,
        **expression.arrays,
        "joint_parents": np.array(gnm.parents, np.int32),
        "joint_regressor": gnm.joint_regressor.astype(np.float32),
        "skinning_weights": gnm.weights.astype(np.float32),
    }
    if gnm.pose is not None:
        arrays["pose_basis"] = gnm.pose.astype(np.float32)
    turns = np.array([JOINT_STD_RAD.get(name, (0.0, 0.0, 0.0)) for name in gnm.joint_names], np.float32)
    turns[0] = 0
    if turns.any():
        arrays["joint_std"] = turns
    return arrays


def _landmarks(gnm: GnmArrays, file: Path | None) -> tuple[dict[str, np.ndarray], list[str], dict[str, str]]:
    """Landmark arrays, notes, and the hash of the file they are from."""
    arrays = dict(shipped_landmarks("gnm", gnm.faces))
    if file is None:
        return arrays, [], {}
    corners, weights, digest = read_points68(file, len(gnm.template))
    order = jaw_order((gnm.template[corners] * weights[:, :, None]).sum(axis=1))
    notes = []
    if (order != np.arange(68)).any():
        notes.append(f"{file.name}: rows of the jaw line stood in another order than iBUG's; they were sorted.")
    try:
        return arrays | landmarks68_arrays(gnm.faces, corners[order], weights[order]), notes, {file.name: digest}
    except InputError as error:
        raise InputError(f"{file} doesn't fit the head: {error}") from None


def _parts(gnm: GnmArrays, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Regions, by the file's groups where they have one and else by geometry, and colours."""
    corners, weights = gnm.faces[arrays["landmarks68_face"]], arrays["landmarks68_barycentric"].astype(np.float64)
    template = gnm.template.astype(np.float64)
    points = (template[corners] * weights[:, :, None]).sum(axis=1)
    known = eyeballs(template, gnm.faces, points)
    for part, names in _NAMED.items():
        for name in names:
            group = np.flatnonzero(gnm.groups.get(name, np.zeros(0, bool))).astype(np.int32)
            if len(group) >= _SMALLEST_GROUP:
                # Here left is the person's, at positive x.
                known[f"{'left' if template[group, 0].mean() > 0 else 'right'}_{part}"] = group
    inside = pieces(gnm.faces, len(template)) != 0
    for name in ("left_eyeball", "right_eyeball"):
        inside[known.get(name, [])] = False
    for name in _INSIDE:
        inside |= gnm.groups.get(name, False)
    regions = regions_by_landmarks(template, gnm.faces, points, known, inside)
    if gnm.mirror is not None:
        regions = _symmetric(regions, gnm.mirror)
    eyes = {name: index for name, index in regions.items() if name.endswith("_eyeball")}
    colours = colours_by_landmarks(template, points, eyes, inside)
    return {**{f"region/{name}/vertices": index for name, index in regions.items()}, "colours": colours}


def _symmetric(regions: dict[str, np.ndarray], mirror: np.ndarray) -> dict[str, np.ndarray]:
    """Each region with what mirrors its twin."""
    result = {}
    for name in regions:
        side, _, rest = name.partition("_")
        twin = {"left": f"right_{rest}", "right": f"left_{rest}"}.get(side, name)
        other = mirror[regions[twin]] if twin in regions else np.zeros(0, int)
        result[name] = np.union1d(regions[name], other).astype(np.int32)
    return result


def _kinds(gnm: GnmArrays) -> str:
    counts = [Counter(name.rsplit("_", 1)[0] for name in names) for names in (gnm.identity_names, gnm.expression_names)]
    identity, expression = (", ".join(f"{count} {kind}" for kind, count in kinds.items()) for kinds in counts)
    return f"identity: {identity}; expression: {expression}"[:1000]


def _prior(gnm: GnmArrays) -> str:
    turned = [name for j, name in enumerate(gnm.joint_names) if j and name in JOINT_STD_RAD]
    turns = ", ".join(f"{name} {' '.join(f'{x:.2f}' for x in JOINT_STD_RAD[name])}" for name in turned)
    joints = f"joints turn about x y z by (rad): {turns}; others at rest" if turns else "joints at rest"
    return f"identity and expression coefficients of unit variance and mean zero; {joints}"

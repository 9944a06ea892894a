"""FLAME as downloaded → a head file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from ..._errors import InputError
from ...files import read_registered, unit_by_size
from .._imported import Imported as Imported
from .._imported import finish
from .._imported import write_head as write_head
from ._landmarks import read_landmarks, read_masks
from ._local import higher_components, local_arrays, mesh_residuals
from ._read import ImportLimits, read_arrays
from ._texture import read_texture
from ._validate import FLAME_PARENTS, FlameArrays, validate

Gender = Literal["generic", "female", "male"]

JOINT_STD_RAD = np.array(
    [[0, 0, 0], [0.10, 0.10, 0.05], [0.10, 0.02, 0.02], [0.10, 0.15, 0.02], [0.10, 0.15, 0.02]], np.float32
)
"""How far FLAME's joints are taken to turn about x, y, z: neck, jaw and eyes, radians a standard deviation."""

_JOINTS = ("global", "neck", "jaw", "left eye", "right eye")

_WANTED = (
    "v_template", "f", "faces", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table",
    "lmk_face_idx", "lmk_b_coords", "landmark_indices",
)  # fmt: skip

MAX_MESHES = 5000
"""More registered meshes than these are thinned evenly."""

_LICENCE = "that of the imported files (see docs/use-your-flame.md)"


def import_flame(
    file: Path,
    *,
    masks: Path | None = None,
    landmarks: Sequence[Path] = (),
    texture: Path | None = None,
    data: Path | None = None,
    identity: int | None = None,
    gender: Gender | None = None,
    limits: ImportLimits | None = None,
) -> Imported:
    """A head from FLAME files as downloaded: see docs/use-your-flame.md.

    `file` is a .pkl, .npz or .safetensors with FLAME's arrays; `masks`, `landmarks` and `texture` are the files of
    those names; `data` is a folder of registered meshes, of which the regions' local models are made instead of the
    head's own higher components. Numbers keep the precision they come in. Raises `InputError` for anything that is
    not sound; nothing in a file is ever executed.
    """
    content = read_arrays(file, wanted=_WANTED, limits=limits)
    try:
        flame = validate(content.arrays, identity=identity)
    except InputError as error:
        held = ", ".join([*content.arrays, *content.other][:12]) or "nothing"
        raise InputError(f"{file} is not a usable FLAME model: {error} (It holds {held}.)") from None
    notes, used = list(flame.notes), {file.name: content.sha256}
    arrays = model_arrays(flame)
    if masks is not None:
        regions, said, digest = read_masks(masks, len(flame.template), limits)
        arrays |= {f"region/{name}/vertices": index for name, index in regions.items()}
        notes += said
        used[masks.name] = digest
        local, origin = _local(flame, regions, data)
        arrays |= local
    else:
        if data is not None:
            raise InputError(
                "--data makes local models of regions, which --masks names; give FLAME's mask file as well."
            )
        origin = "none (no region masks were given)"
        notes.append("Without --masks the head has no regions, and so no method of regions.")
    # A model file may carry mediapipe's landmarks itself.
    embeddings = [*landmarks, file] if "landmark_indices" in content.arrays else list(landmarks)
    points, said, digests = read_landmarks(embeddings, len(flame.faces), limits)
    arrays |= points
    notes += said
    used |= digests
    if "landmarks68_face" not in arrays:
        notes.append("Without 68 landmarks (--landmarks) the head can't be fitted to photos, only to meshes.")
    if texture is not None:
        painted, digest = read_texture(texture, flame.faces, len(flame.template), limits)
        arrays |= painted
        used[texture.name] = digest
    gender = _gender(file) if gender is None else gender
    metadata = {
        "name": f"FLAME ({gender})" if gender else f"FLAME ({file.stem})",
        "licence": _LICENCE,
        "source": file.name,
        "source_sha256": content.sha256,
        "provenance": "; ".join(f"{name} {digest}" for name, digest in used.items()),
        "unit_of_source": flame.unit,
        "local_models": origin,
        "prior": _prior(flame),
    }
    return finish(arrays, metadata, notes)


def model_arrays(flame: FlameArrays) -> dict[str, np.ndarray]:
    """Head-file arrays of a checked FLAME model, in the precision it has."""
    arrays = {
        "template": flame.template,
        "faces": flame.faces,
        "identity_basis": flame.identity,
        "joint_parents": np.array(flame.parents, np.int32),
    }
    if len(flame.expression):
        arrays["expression_basis"] = flame.expression
    if flame.joint_regressor is not None:
        arrays["joint_regressor"] = flame.joint_regressor
    if flame.weights is not None:
        arrays["skinning_weights"] = flame.weights
        if flame.parents == FLAME_PARENTS:
            arrays["joint_std"] = JOINT_STD_RAD
    if flame.pose is not None:
        arrays["pose_basis"] = flame.pose
    return arrays


def _local(flame: FlameArrays, regions: dict[str, np.ndarray], data: Path | None) -> tuple[dict[str, np.ndarray], str]:
    """Local models of the regions, and where they come from."""
    if data is None:
        residual = higher_components(flame.identity, flame.expression)
        if not len(residual):
            return {}, "none (the head has no more than ten identity and ten expression components)"
        origin = f"the head's own {len(residual) // 2} components after ten identity and ten expression components"
        return local_arrays(residual, regions), origin
    meshes, _, _, total = read_registered(data, len(flame.template), most=MAX_MESHES)
    scale = _mesh_unit(meshes, flame.template)
    residual = mesh_residuals(
        scale * meshes, flame.template.astype(np.float64), flame.identity, flame.expression, regions.get("scalp")
    )
    thinned = "" if total == len(meshes) else f" of {total}"
    origin = (
        f"{len(meshes)}{thinned} registered meshes in {data.name}, after ten identity and ten expression components"
    )
    return local_arrays(residual, regions), origin


def _mesh_unit(meshes: np.ndarray, template: np.ndarray) -> np.float32:
    """Metres a unit of registered meshes, by their size against the template's."""
    size = float(np.median(np.ptp(meshes, axis=1).max(axis=1)))
    size_m = float(np.ptp(template, axis=0).max())
    unit = unit_by_size(size, size_m)
    if unit is None:
        raise InputError(
            f"the registered meshes are {size:.3g} units tall, which is no head's size in metres to millimetres."
        )
    return np.float32(unit[1])


def _gender(file: Path) -> Gender | None:
    """Gender that a file's name gives."""
    stem = file.stem.lower()
    if "female" in stem:
        return "female"
    return "male" if "male" in stem else "generic" if "generic" in stem else None


def _prior(flame: FlameArrays) -> str:
    """What a fit takes for likely, in words."""
    text = "identity and expression coefficients of unit variance and mean zero"
    if flame.weights is None or flame.parents != FLAME_PARENTS:
        return f"{text}; joints at rest"
    turns = ", ".join(f"{name} {' '.join(f'{x:.2f}' for x in JOINT_STD_RAD[j])}" for j, name in enumerate(_JOINTS) if j)
    return f"{text}; joints turn about x y z by (rad): {turns}"

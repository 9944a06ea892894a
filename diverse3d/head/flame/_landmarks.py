"""FLAME's landmark embeddings and region masks, in the forms in which they are handed around."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..._errors import InputError
from ._read import ImportLimits, read_arrays

FLAME_REGIONS = (
    "face", "neck", "scalp", "boundary", "right_eyeball", "left_eyeball", "right_ear", "left_ear", "forehead",
    "eye_region", "nose", "lips", "right_eye_region", "left_eye_region",
)  # fmt: skip
"""The fourteen regions of FLAME's mask file."""

_MEDIAPIPE_POINTS = 468
_NAMES = (
    "landmark_indices", "lmk_face_idx", "lmk_b_coords", "full_lmk_faces_idx", "full_lmk_bary_coords", "face_index",
    "barycentric",
)  # fmt: skip
_FORMS = (
    "51 or 68 landmarks (lmk_face_idx, lmk_b_coords), 17 of the jaw line for each angle, or mediapipe's with indices"
)


def read_landmarks(
    paths: Sequence[Path], faces: int, limits: ImportLimits | None = None
) -> tuple[dict[str, np.ndarray], list[str], dict[str, str]]:
    """Head-file arrays of one or more embedding files for a head of so many triangles; notes; hashes by file name.

    Static embeddings hold 51 landmarks without the jaw line or all 68; dynamic ones hold the 17 of the jaw line for
    each angle of the head, of which the first is frontal; mediapipe's hold which of its 468 points they are. Raises
    `InputError` for anything else, for indices beyond the triangles, and for 51 landmarks without a jaw line.
    """
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    result: dict[str, np.ndarray] = {}
    notes, hashes = [], {}
    for path in paths:
        content = read_arrays(path, wanted=_NAMES, tensors=True, limits=limits, limit="import_side_bytes")
        hashes[path.name] = content.sha256
        arrays = content.arrays
        if "landmark_indices" in arrays:
            face, weights = _points(arrays, "lmk_face_idx", "lmk_b_coords", faces, path)
            index = arrays["landmark_indices"].reshape(-1)
            if len(index) != len(face) or index.dtype.kind not in "iu" or (index < 0).any():
                raise InputError(
                    f"{path}: array 'landmark_indices' doesn't name a point of mediapipe's for each landmark."
                )
            # Later versions of mediapipe add irises, which our detector does not see.
            kept = index < _MEDIAPIPE_POINTS
            if not kept.all():
                notes.append(f"{path.name}: {int((~kept).sum())} landmarks beyond mediapipe's first 468 were left out.")
            if not kept.any():
                raise InputError(f"{path}: array 'landmark_indices' names none of mediapipe's 468 points.")
            result["landmarks_dense_index"] = index[kept].astype(np.int32)
            result["landmarks_dense_face"], result["landmarks_dense_barycentric"] = face[kept], weights[kept]
        elif "full_lmk_faces_idx" in arrays:
            face, weights = _points(arrays, "full_lmk_faces_idx", "full_lmk_bary_coords", faces, path)
            if len(face) < 68:
                raise InputError(f"{path} holds {len(face)} landmarks; {_FORMS} are needed.")
            if len(face) > 68:
                notes.append(f"{path.name}: the first 68 of {len(face)} landmarks were taken.")
            found["all"] = face[:68], weights[:68]
        elif "face_index" in arrays and "barycentric" in arrays:
            found[_size(len(arrays["face_index"]), path)] = _points(arrays, "face_index", "barycentric", faces, path)
        elif "lmk_face_idx" in arrays:
            face, weights = _points(arrays, "lmk_face_idx", "lmk_b_coords", faces, path)
            found["contour" if face.ndim == 2 else _size(len(face), path)] = face, weights
        else:
            raise InputError(f"{path} holds no landmarks; {_FORMS} are needed.")
    if "contour" in found:
        result["landmarks_contour_face"], result["landmarks_contour_barycentric"] = found["contour"]
    if "inner" in found and "all" not in found:
        if "contour" not in found:
            raise InputError(
                "51 landmarks were given without the 17 of the jaw line; give FLAME's dynamic embedding besides, "
                "or an embedding of all 68."
            )
        found["all"] = tuple(  # type: ignore[assignment]
            np.concatenate([jaw[0], inner]) for jaw, inner in zip(found["contour"], found["inner"], strict=True)
        )
    if "all" in found:
        result["landmarks68_face"], result["landmarks68_barycentric"] = found["all"]
    return result, notes, hashes


def _size(count: int, path: Path) -> str:
    if count not in (51, 68):
        raise InputError(f"{path} holds {count} landmarks; {_FORMS} are needed.")
    return "all" if count == 68 else "inner"


def _points(
    arrays: Mapping[str, np.ndarray], face_name: str, weights_name: str, faces: int, path: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Triangle indices and barycentric weights, checked."""
    face, weights = arrays[face_name], arrays.get(weights_name)
    if face.ndim == 2 and face.shape[0] == 1:  # a batch of one, as DECA writes
        face, weights = face[0], None if weights is None else weights[0]
    if weights is None or weights.shape != (*face.shape, 3) or face.ndim not in (1, 2) or face.size == 0:
        raise InputError(f"{path}: array '{weights_name}' doesn't hold three weights for each of '{face_name}'.")
    if face.ndim == 2 and face.shape[1] != 17:
        raise InputError(f"{path}: array '{face_name}' has shape {list(face.shape)}; [angles, 17] is needed.")
    if face.dtype.kind not in "iu" or face.min() < 0 or face.max() >= faces:
        raise InputError(f"{path}: array '{face_name}' must hold triangle indices from 0 to {faces - 1}.")
    weights = np.asarray(weights, np.float64)
    if not np.isfinite(weights).all() or np.abs(weights.sum(-1) - 1).max() > 1e-3 or weights.min() < -0.05:
        raise InputError(f"{path}: the rows of array '{weights_name}' must be barycentric weights that sum to 1.")
    return face.astype(np.int32), weights


def read_masks(
    path: Path, vertices: int, limits: ImportLimits | None = None
) -> tuple[dict[str, np.ndarray], list[str], str]:
    """Vertex indices of each region of a mask file for a head of so many vertices; notes; the file's hash."""
    content = read_arrays(path, limits=limits, limit="import_side_bytes")
    if not content.arrays:
        raise InputError(f"{path} holds no regions; an array of vertex indices for each is needed.")
    regions = {}
    for name, index in content.arrays.items():
        if not re.fullmatch(r"[A-Za-z0-9_]{1,40}", name):
            raise InputError(f"{path}: a region is named '{name[:40]}'; letters, digits and underscores are needed.")
        index = index.reshape(-1)
        if index.dtype.kind not in "iu" or index.size == 0 or index.min() < 0 or index.max() >= vertices:
            raise InputError(f"{path}: region '{name}' must hold vertex indices from 0 to {vertices - 1}.")
        regions[name] = np.unique(index).astype(np.int32)
    missing = [name for name in FLAME_REGIONS if name not in regions]
    notes = [f"The masks lack {', '.join(missing)}."] if missing else []
    return regions, notes, content.sha256

"""Head files: safetensors in, `HeadModel` out; the names are listed in docs/head-file.md."""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from .._arrays import on_device
from .._errors import InputError
from ..files import Limits, Tensors, read_safetensors
from ._albedo import Albedo
from ._model import HeadModel, LocalModel, SurfacePoints
from ._residual import LARGEST_COUNT, Fields, Residual, carried, face_weight, read_residual, residual_fields

EMBEDDED_HEAD = Path(__file__).parents[1] / "assets" / "head.safetensors"
EMBEDDED_ALBEDO = EMBEDDED_HEAD.with_name("albedo.safetensors")

_LARGEST_RESIDUAL = 10.0
_SCALED = ", residual × "
_LARGEST = 1e9
"""Numbers beyond this are none of a head's, and would overflow in single precision."""


def load_head(path: str | Path | None = None, *, dtype: DTypeLike | None = None, residual: float = 1.0) -> HeadModel:
    """The embedded head, or the head file at `path`.

    Arrays come in `dtype`, by default jax's default floating-point type. The embedded head's albedo is a file of its
    own, tied to it by its hash. `residual` scales the standard deviation of the head's smooth residual; 0 leaves it
    out. Raises `InputError` for anything that is not a sound head file, or is beyond the limits (docs/limits.md).
    """
    resolved = Path(path) if path is not None else EMBEDDED_HEAD
    arrays, metadata, digest = _read(resolved)
    try:
        head = head_from_arrays(
            arrays, dtype=dtype, name=metadata.get("name", resolved.stem), sha256=digest, residual=residual
        )
    except InputError as error:
        raise InputError(f"{resolved} is not a usable head file: {error}") from None
    if head.albedo is not None:
        return head
    return dataclasses.replace(head, albedo=_shipped_albedo(EMBEDDED_ALBEDO, head, digest))


def residual_of(sha256: str) -> float:
    """How a head's residual was scaled, by the hash that the head then has; 1 where it was not."""
    try:
        scale = float(sha256.partition(_SCALED)[2] or 1.0)
    except ValueError:
        return 1.0
    return scale if 0.0 <= scale <= _LARGEST_RESIDUAL else 1.0


def head_metadata(path: str | Path | None = None) -> dict[str, str]:
    """The text fields of a head file: name, licence, source, provenance."""
    return _read(Path(path) if path is not None else EMBEDDED_HEAD)[1]


def head_arrays(path: str | Path | None = None) -> dict[str, np.ndarray]:
    """The arrays of a head file as they are stored (docs/head-file.md)."""
    return _read(Path(path) if path is not None else EMBEDDED_HEAD)[0]


@functools.lru_cache(maxsize=4)
def _read_cached(path: Path, _stamp: tuple[int, int], limits: Limits) -> Tensors:
    return read_safetensors(path, limits, what="head file")


def _read(path: Path) -> Tensors:
    if not path.is_file():
        raise InputError(f"There is no head file at {path}; leave --head out to use the embedded head.")
    status = path.stat()
    return _read_cached(path, (status.st_mtime_ns, status.st_size), Limits.from_environment())


def head_from_arrays(
    arrays: Mapping[str, np.ndarray],
    *,
    dtype: DTypeLike | None = None,
    name: str = "head",
    sha256: str = "",
    residual: float = 1.0,
) -> HeadModel:
    """A `HeadModel` from named arrays (the names of a head file), validated.

    Only `template` [V,3], `faces` [F,3] and `identity_basis` [K,V,3] are required: without expressions there are no
    expression components, without skinning weights the head moves as one rigid piece, without a joint regressor it
    turns about its centroid, without a residual's hyper-parameters it has none. A head whose residual is scaled
    (`residual`) is another head: its hash says so, and weights trained for the file don't fit it. Raises `InputError`
    naming the array that is wrong.
    """
    limits = Limits.from_environment()
    if not 0.0 <= residual <= _LARGEST_RESIDUAL:
        raise InputError(f"The residual can be scaled by 0 to {_LARGEST_RESIDUAL:g}, not by {residual:g}.")
    dtype = jnp.dtype(jnp.result_type(float) if dtype is None else dtype)
    for required in ("template", "faces", "identity_basis"):
        if required not in arrays:
            raise InputError(f"array '{required}' is missing.")
    for key, array in arrays.items():
        if np.asarray(array).dtype.kind not in "biuf":
            raise InputError(f"array '{key}' has type {array.dtype}; numbers are needed.")
        finite = np.isfinite(array).all()
        if not finite or (np.size(array) and max(-float(np.min(array)), float(np.max(array))) > _LARGEST):
            raise InputError(f"array '{key}' holds values that are not finite, or beyond {_LARGEST:g}.")
    template = np.asarray(arrays["template"], np.float64)
    if template.ndim != 2 or template.shape[1] != 3 or template.shape[0] < 4:
        raise InputError(f"array 'template' has shape {template.shape}; [vertices, 3] is needed.")
    count = template.shape[0]
    if count > limits.head_vertices:
        raise limits.exceeded("head_vertices", f"array 'template' has {count} rows, more")
    faces = _indices(arrays, "faces", count, width=3)

    identity = _components(arrays, "identity", count)
    expression = _components(arrays, "expression", count)
    own = len(identity) + len(expression)
    prior_mean = _shaped(arrays, "prior_mean", (own,), np.zeros(own))
    regions, local_models = _regions(arrays, count, dtype)
    beyond = _residual_rows(arrays, template, regions) if residual > 0.0 else np.zeros((0, count, 3), np.float32)
    components = np.concatenate([identity, expression, np.float32(residual) * beyond])
    prior_mean = np.concatenate([prior_mean, np.zeros(len(beyond))])

    tree = np.asarray(arrays.get("joint_parents", [-1]))
    if tree.size > limits.head_joints:
        raise limits.exceeded("head_joints", f"array 'joint_parents' has {tree.size} values, more")
    parents = tuple(int(p) for p in tree.ravel())
    sound = tree.ndim == 1 and np.issubdtype(tree.dtype, np.integer) and parents[:1] == (-1,)
    if not sound or any(not 0 <= p < j for j, p in enumerate(parents[1:], start=1)):
        raise InputError("array 'joint_parents' is no tree: the root must come first and parents before children.")
    joints = len(parents)
    default_regressor = np.full((joints, count), 1.0 / count)
    regressor = _rows_sum_to_one(
        _shaped(arrays, "joint_regressor", (joints, count), default_regressor), "joint_regressor"
    )
    rigid = np.zeros((count, joints))
    rigid[:, 0] = 1.0
    weights = _rows_sum_to_one(_shaped(arrays, "skinning_weights", (count, joints), rigid), "skinning_weights")
    pose_basis = None
    if "pose_basis" in arrays:
        rows = (joints - 1) * 9
        pose_basis = on_device(_shaped(arrays, "pose_basis", (rows, count, 3), None).reshape(rows, -1), dtype)

    landmarks68 = _surface_points(arrays, "landmarks68", faces, dtype)
    if landmarks68 is not None and landmarks68.corners.shape[0] != 68:
        raise InputError(
            f"array 'landmarks68_face' has shape {arrays['landmarks68_face'].shape}; 68 landmarks are needed."
        )
    dense, dense_index = _surface_points(arrays, "landmarks_dense", faces, dtype), None
    if dense is not None:
        dense_index = _indices(arrays, "landmarks_dense_index", 468)
        _shaped(arrays, "landmarks_dense_index", dense.corners.shape[:1], None)
    if "colours" in arrays:
        _shaped(arrays, "colours", (count, 3), None)
        if arrays["colours"].dtype != np.uint8:
            raise InputError(f"array 'colours' has type {arrays['colours'].dtype}; uint8 is needed.")
    return HeadModel(
        template_m=on_device(template, dtype),
        components_m=on_device(components.reshape(len(components), -1), dtype),
        prior_mean=on_device(prior_mean, dtype),
        joint_template_m=on_device(regressor @ template, dtype),
        joint_components_m=on_device(
            np.einsum("jv,kvc->kjc", regressor, components, optimize=True).reshape(len(components), -1), dtype
        ),
        skinning_weights=on_device(weights, dtype),
        pose_basis_m=pose_basis,
        joint_std_rad=(
            on_device(_shaped(arrays, "joint_std", (joints, 3), None), dtype) if "joint_std" in arrays else None
        ),
        faces=on_device(faces, jnp.int32),
        landmarks68=landmarks68,
        landmarks_dense=dense,
        landmarks_dense_index=None if dense_index is None else on_device(dense_index, jnp.int32),
        regions=regions,
        local_models=local_models,
        colours=on_device(arrays["colours"], jnp.uint8) if "colours" in arrays else None,
        joint_parents=parents,
        n_identity=len(identity),
        n_expression=len(expression),
        name=name,
        sha256=sha256 if residual == 1.0 or not sha256 else f"{sha256}{_SCALED}{float(residual)!r}",
        albedo=_albedo(arrays, count, dtype),
        n_residual=len(beyond),
    )


def _residual_rows(arrays: Mapping[str, np.ndarray], template: np.ndarray, regions: Mapping[str, Any]) -> np.ndarray:
    """Components [R, V, 3] of the smooth residual: the stored ones, or made anew from its hyper-parameters."""
    count = len(template)
    hyper = read_residual(arrays)
    if hyper is None:
        return np.zeros((0, count, 3), np.float32)
    if "residual_field" in arrays:
        number = np.shape(arrays["residual_field"])[0] if np.ndim(arrays["residual_field"]) else 0
        if number > LARGEST_COUNT:
            raise InputError(f"array 'residual_field' has {number} rows; a residual has at most {LARGEST_COUNT}.")
        field = _shaped(arrays, "residual_field", (number, count), None).astype(np.float32)
        axis = _indices(arrays, "residual_axis", 3)
        scale = _shaped(arrays, "residual_scale", (number,), None).astype(np.float32)
        if axis.shape != (number,):
            raise InputError(f"array 'residual_axis' has shape {axis.shape}; ({number},) is needed.")
        return Fields(field, axis, scale).components_m()
    eyeballs = [np.asarray(regions[name]) for name in ("left_eyeball", "right_eyeball") if name in regions]
    if "residual_place" in arrays:
        place = _shaped(arrays, "residual_place", (count, 3), None).astype(np.float64)
    else:
        place = carried(template, eyeballs)
    face = np.asarray(regions["face"]) if "face" in regions else None
    return _made(place, hyper, face_weight(template, face)).components_m()


_last_made: dict[bytes, Fields] = {}


def _made(place: np.ndarray, hyper: Residual, weight: np.ndarray) -> Fields:
    """`residual_fields`; the last two are kept, since making them takes seconds for a fine head, and a head that has
    just been imported is read again at once."""
    parts = (np.asarray(part, np.float64).tobytes() for part in (place, weight, *hyper))
    key = hashlib.sha256(b"".join(parts)).digest()
    if key not in _last_made:
        made = residual_fields(place, hyper, weight=weight)
        for old in list(_last_made)[:-1]:
            del _last_made[old]
        _last_made[key] = made
    return _last_made[key]


def _albedo(arrays: Mapping[str, np.ndarray], count: int, dtype: jnp.dtype) -> Albedo | None:
    """The colour model of a head imported from FLAME's files with a texture: sRGB, as that file has it."""
    if "albedo_mean" not in arrays:
        return None
    mean = _shaped(arrays, "albedo_mean", (count, 3), None)
    return Albedo(on_device(mean, dtype), on_device(_components(arrays, "albedo", count), dtype), False)


def _shipped_albedo(path: Path, head: HeadModel, digest: str) -> Albedo | None:
    """The colour model that comes with the package, where it was made for the head file with this hash.

    Component k of vertex v is `field[k, v]` times `pigment[k]`. Raises `InputError` when the file is damaged.
    """
    try:
        arrays, metadata, _ = _read(path)
        if metadata.get("head_sha256") != digest:
            return None
        for name in ("mean", "field", "pigment"):
            if not np.isfinite(arrays.get(name, np.nan)).all():
                raise InputError(f"array '{name}' is missing or not finite.")
        count = len(np.atleast_1d(arrays["pigment"]))
        mean = _shaped(arrays, "mean", (head.n_vertices, 3), None)
        field = _shaped(arrays, "field", (count, head.n_vertices), None)
        pigment = _shaped(arrays, "pigment", (count, 3), None)
    except InputError as error:
        raise InputError(f"{path} is missing or damaged ({error}); reinstall the package.") from None
    components = field[:, :, None] * pigment[:, None, :]
    return Albedo(on_device(mean, head.dtype), on_device(components, head.dtype), True)


def _components(arrays: Mapping[str, np.ndarray], kind: str, count: int) -> np.ndarray:
    """Components [K,V,3] in metres a standard deviation: the stored basis times its scale."""
    basis = _at_least_single(arrays.get(f"{kind}_basis", np.zeros((0, count, 3), np.float32)))
    if basis.ndim != 3 or basis.shape[1:] != (count, 3):
        raise InputError(f"array '{kind}_basis' has shape {basis.shape}; [components, {count}, 3] is needed.")
    scale = _shaped(arrays, f"{kind}_scale", (len(basis),), np.ones(len(basis)))
    return basis * scale[:, None, None].astype(basis.dtype)


def _at_least_single(array: np.ndarray) -> np.ndarray:
    """Half precision is for the disk; double is kept, so that an imported head is the original to the last digit."""
    return array if array.dtype == np.float64 else np.asarray(array, np.float32)


def _regions(arrays: Mapping[str, np.ndarray], count: int, dtype: jnp.dtype) -> tuple[dict[str, Any], dict[str, Any]]:
    names = sorted(key.split("/")[1] for key in arrays if key.startswith("region/") and key.endswith("/vertices"))
    regions, local_models = {}, {}
    for name in names:
        vertices = _indices(arrays, f"region/{name}/vertices", count)
        regions[name] = on_device(vertices, jnp.int32)
        if f"region/{name}/basis" not in arrays:
            continue
        basis = _at_least_single(arrays[f"region/{name}/basis"])
        if basis.ndim != 3 or basis.shape[1:] != (len(vertices), 3):
            raise InputError(f"array 'region/{name}/basis' has shape {basis.shape}; [k, {len(vertices)}, 3] is needed.")
        scale = _shaped(arrays, f"region/{name}/scale", (len(basis),), np.ones(len(basis)))
        mean = _shaped(arrays, f"region/{name}/mean", (len(vertices), 3), np.zeros((len(vertices), 3)))
        local_models[name] = LocalModel(
            vertices=regions[name],
            mean_m=on_device(mean, dtype),
            components_m=on_device(basis * scale[:, None, None].astype(basis.dtype), dtype),
        )
    return regions, local_models


def _surface_points(
    arrays: Mapping[str, np.ndarray], name: str, faces: np.ndarray, dtype: jnp.dtype
) -> SurfacePoints | None:
    if f"{name}_face" not in arrays:
        return None
    face = _indices(arrays, f"{name}_face", len(faces))
    barycentric = _shaped(arrays, f"{name}_barycentric", (len(face), 3), None)
    return SurfacePoints(on_device(faces[face], jnp.int32), on_device(barycentric, dtype))


def _shaped(
    arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...], default: np.ndarray | None
) -> np.ndarray:
    array = arrays.get(name, default)
    if array is None:
        raise InputError(f"array '{name}' is missing.")
    if array.shape != shape:
        raise InputError(f"array '{name}' has shape {array.shape}; {shape} is needed.")
    return np.asarray(array, np.float64)


def _indices(arrays: Mapping[str, np.ndarray], name: str, bound: int, width: int | None = None) -> np.ndarray:
    if name not in arrays:
        raise InputError(f"array '{name}' is missing.")
    array = np.asarray(arrays[name])
    expected = 1 if width is None else 2
    if array.ndim != expected or not np.issubdtype(array.dtype, np.integer) or (width and array.shape[1] != width):
        raise InputError(f"array '{name}' has shape {array.shape} and type {array.dtype}; integer indices are needed.")
    if array.size == 0 or array.min() < 0 or array.max() >= bound:
        raise InputError(f"array '{name}' must hold indices from 0 to {bound - 1}.")
    return array.astype(np.int64)


def _rows_sum_to_one(array: np.ndarray, name: str) -> np.ndarray:
    sums = array.sum(1)
    if not np.allclose(sums, 1.0, atol=1e-3):
        raise InputError(f"the rows of array '{name}' must sum to 1 (found {sums.min():.4f} to {sums.max():.4f}).")
    return array / sums[:, None]

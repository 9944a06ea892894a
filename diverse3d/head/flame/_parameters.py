"""FLAME parameters as npz, under the key names that VHAP writes and reads."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from ..._errors import InputError
from ...files import write_npz
from .._model import HeadModel, HeadParameters
from ._read import ImportLimits, read_arrays

FLAME_VERTICES = 5023
FLAME_PARENTS = (-1, 0, 1, 1, 1)
_EACH_FRAME = {"expr": None, "rotation": 3, "neck_pose": 3, "jaw_pose": 3, "eyes_pose": 6, "translation": 3}


@dataclasses.dataclass(frozen=True)
class FlameParameters:
    """FLAME's parameters of T frames of one person, named as in VHAP's files; rotations are axis-angle in radians."""

    shape: np.ndarray
    """[S] identity coefficients"""
    expr: np.ndarray
    """[T, E] expression coefficients"""
    rotation: np.ndarray
    """[T, 3] of the whole head, about the root joint"""
    neck_pose: np.ndarray
    """[T, 3]"""
    jaw_pose: np.ndarray
    """[T, 3]"""
    eyes_pose: np.ndarray
    """[T, 6] left eye, right eye"""
    translation: np.ndarray
    """[T, 3] metres"""
    static_offset: np.ndarray | None = None
    """[1, V, 3] metres, added to the template; carried along, not applied"""
    dynamic_offset: np.ndarray | None = None
    """[T, V, 3] metres, likewise"""

    @property
    def frames(self) -> int:
        """Number of frames T."""
        return len(self.expr)

    def head_parameters(self, head: HeadModel, frame: int = 0) -> HeadParameters:
        """One frame as parameters of a head.

        Coefficients that the head has and the file lacks are zero. Raises `InputError` where the file has more that
        are not zero, for a frame that isn't there, and for a head without FLAME's joints.
        """
        _check_joints(head)
        if not 0 <= frame < self.frames:
            raise InputError(f"There is no frame {frame}; the parameters have {self.frames}.")
        coefficients = np.concatenate(
            [
                _fitted(self.shape, head.n_identity, "shape"),
                _fitted(self.expr[frame], head.n_expression, "expr"),
                np.zeros(head.n_components - head.n_identity - head.n_expression),
            ]
        )
        joints = (self.rotation, self.neck_pose, self.jaw_pose, self.eyes_pose)
        pose = np.concatenate([joint[frame] for joint in joints]).reshape(5, 3)
        return HeadParameters(
            coefficients=jnp.asarray(coefficients, head.dtype),
            pose=jnp.asarray(pose, head.dtype),
            translation_m=jnp.asarray(self.translation[frame], head.dtype),
        )


def is_flame(head: HeadModel) -> bool:
    """Whether a head has FLAME's vertices and joints, so that its parameters mean something to others."""
    return head.n_vertices == FLAME_VERTICES and head.joint_parents == FLAME_PARENTS


def flame_parameters(head: HeadModel, frames: Sequence[HeadParameters]) -> FlameParameters:
    """Parameters of a head with FLAME's joints, under FLAME's names; the identity is the first frame's.

    What the head's smooth residual adds, which FLAME's components can't say, becomes the static offset of the first
    frame.

    Raises `InputError` for a head without FLAME's joints, or frames of different identities.
    """
    _check_joints(head)
    if not frames:
        raise InputError("There are no parameters to write.")
    coefficients = np.stack([np.asarray(each.coefficients) for each in frames])
    poses = np.stack([np.asarray(each.pose) for each in frames])
    shape, end = coefficients[:, : head.n_identity], head.n_identity + head.n_expression
    if not np.allclose(shape, shape[:1], atol=1e-6):
        raise InputError("The frames have different identities; FLAME's files hold one shape for all frames.")
    return FlameParameters(
        shape=shape[0],
        expr=coefficients[:, head.n_identity : end],
        rotation=poses[:, 0],
        neck_pose=poses[:, 1],
        jaw_pose=poses[:, 2],
        eyes_pose=poses[:, 3:].reshape(-1, 6),
        translation=np.stack([np.asarray(each.translation_m) for each in frames]),
        static_offset=np.asarray(head.residual_part(frames[0].coefficients))[None] if head.n_residual else None,
    )


def write_flame_parameters(path: str | os.PathLike[str], parameters: FlameParameters) -> None:
    """Write parameters as .npz with VHAP's key names, whole or not at all."""
    table = {field.name: getattr(parameters, field.name) for field in dataclasses.fields(parameters)}
    write_npz(Path(path), {name: value for name, value in table.items() if value is not None})


def read_flame_parameters(path: str | os.PathLike[str], limits: ImportLimits | None = None) -> FlameParameters:
    """Parameters from an .npz of VHAP's, or of `write_flame_parameters`.

    What a file leaves out is zero. Raises `InputError` for arrays of other shapes, and values that are not finite.
    """
    path = Path(path)
    content = read_arrays(path, limits=limits, limit="import_side_bytes").arrays
    arrays = {name: _numbers(array, name, path) for name, array in content.items() if name in _NAMES}
    if not {"shape", "expr", "rotation"} & set(arrays):
        raise InputError(f"{path} holds none of FLAME's parameters (shape, expr, rotation …).")
    each = {name: array[None] if array.ndim == 1 else array for name, array in arrays.items() if name in _EACH_FRAME}
    frames = max((len(array) for array in each.values()), default=1)
    for name, width in _EACH_FRAME.items():
        array = each.setdefault(name, np.zeros((frames, width or 0)))
        if array.ndim != 2 or len(array) != frames or (width is not None and array.shape[1] != width):
            wanted = f"[{frames}, {width or 'coefficients'}]"
            raise InputError(f"{path}: array '{name}' has shape {list(array.shape)}; {wanted} is needed.")
    shape = arrays.get("shape", np.zeros(0))
    shape = shape[0] if shape.ndim == 2 and len(shape) == 1 else shape
    if shape.ndim != 1:
        raise InputError(
            f"{path}: array 'shape' has shape {list(shape.shape)}; one identity's coefficients are needed."
        )
    offsets = {name: arrays[name] for name in ("static_offset", "dynamic_offset") if name in arrays}
    for name, array in offsets.items():
        if array.ndim != 3 or array.shape[2] != 3 or len(array) != (1 if name == "static_offset" else frames):
            raise InputError(f"{path}: array '{name}' has shape {list(array.shape)}; [frames, vertices, 3] is needed.")
    return FlameParameters(shape=shape, **each, **offsets)


_NAMES = tuple(field.name for field in dataclasses.fields(FlameParameters))


def _check_joints(head: HeadModel) -> None:
    if head.joint_parents != FLAME_PARENTS:
        raise InputError(f"The head '{head.name}' has not FLAME's joints (global, neck, jaw, left eye, right eye).")


def _fitted(values: np.ndarray, count: int, name: str) -> np.ndarray:
    """Coefficients cut or filled with zeros to what a head has."""
    if np.abs(values[count:]).max(initial=0.0) > 0:
        raise InputError(f"'{name}' has {len(values)} coefficients that are not zero; the head has {count}.")
    return np.pad(values[:count].astype(np.float64), (0, max(count - len(values), 0)))


def _numbers(array: np.ndarray, name: str, path: Path) -> np.ndarray:
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise InputError(f"{path}: array '{name}' holds values that are no finite numbers.")
    return array

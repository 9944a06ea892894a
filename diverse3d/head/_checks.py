"""What every importer checks of arrays from outside: numbers, triangles, the unit."""

from collections.abc import Mapping

import numpy as np

from .._errors import InputError
from ..files import unit_by_size
from ..surface import edges

_HEAD_M = 0.316  # the middle of what is taken for a head, 0.1 to 1 m


def shape_of(array: np.ndarray | None) -> str:
    """What a message says of an array that isn't what it should be."""
    return "is missing" if array is None else f"has shape {list(array.shape)}"


def real(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray | None:
    """A finite array of numbers, in the precision it comes in (at least single); None where there is none."""
    if name not in arrays:
        return None
    array = arrays[name]
    if array.dtype.kind not in "fiu":
        raise InputError(f"array '{name}' has type {array.dtype}; numbers are needed.")
    if not np.isfinite(array).all():
        raise InputError(f"array '{name}' holds values that are not finite.")
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)


def triangles(arrays: Mapping[str, np.ndarray], name: str, template: np.ndarray) -> np.ndarray:
    """Triangles, int32 [F, 3], of vertices that there are, without a corner twice, facing outwards."""
    faces = arrays.get(name)
    if faces is None or faces.ndim != 2 or faces.shape[1] != 3 or not 0 < len(faces) <= 1 << 21:
        raise InputError(f"array '{name}' {shape_of(faces)}; [triangles, 3] is needed.")
    if faces.dtype.kind not in "iu":
        whole = faces.dtype.kind == "f" and np.isfinite(faces).all() and (faces == np.round(faces)).all()
        if not whole:
            raise InputError(f"array '{name}' holds values that are no whole numbers; triangles are vertex indices.")
    if faces.min() < 0 or faces.max() >= len(template):
        raise InputError(f"array '{name}' must hold indices from 0 to {len(template) - 1}.")
    faces = faces.astype(np.int32)
    a, b, c = faces.T
    flat = int(((a == b) | (b == c) | (c == a)).sum())
    if flat:
        raise InputError(f"array '{name}' holds {flat} triangles with a corner twice.")
    corners = (template - template.mean(0)).astype(np.float64)[faces]
    if np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) <= 0:
        raise InputError(f"the triangles of array '{name}' face inwards; counter-clockwise from outside is needed.")
    return faces


def manifold(faces: np.ndarray, name: str) -> None:
    """Refuse a mesh in which three or more triangles meet in one edge."""
    times = edges(faces)[2]
    if times.max(initial=0) > 2:
        raise InputError(f"the triangles of {name} are no surface: {int((times > 2).sum())} edges have more than two.")


def metres_a_unit(template: np.ndarray) -> tuple[str, float]:
    """The unit in which the template is the size of a head (FLAME's largest extent is 0.32 m): its name, and metres."""
    extent = float(np.ptp(template, axis=0).max())
    unit = unit_by_size(extent, _HEAD_M, within=10**0.5)
    if unit is not None:
        return unit
    raise InputError(
        f"the template is {extent:.3g} units tall, which is the size of a head in no unit from metres to millimetres."
    )


def components(basis: np.ndarray, kind: str) -> list[str]:
    """Whether components [K, V, 3] in metres can be a head's (not all zero, none beyond 0.3 m); what is unusual."""
    largest = np.abs(basis).max(axis=(1, 2), initial=0.0)
    if not (largest > 0).any():
        raise InputError(f"the {kind} components are all zero.")
    if largest.max() > 0.3:
        raise InputError(
            f"the {kind} component {int(largest.argmax())} moves a vertex by {largest.max():.2g} m a standard "
            "deviation; no head's does."
        )
    empty = int((largest == 0).sum())
    return [f"{empty} of {len(basis)} {kind} components are zero."] if empty else []


def largest_cosine(basis: np.ndarray) -> float:
    """How far components [K, V, 3] are from orthogonal: the largest cosine between two of them."""
    flat = basis.reshape(len(basis), -1)
    gram = (flat @ flat.T).astype(np.float64)
    size = np.sqrt(np.diagonal(gram)).clip(1e-12)
    return float(np.abs(np.triu(gram / size[:, None] / size[None, :], 1)).max(initial=0.0))

"""What every importer ends with: arrays that make a head, texts that say what it is, notes on what is unusual."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .._errors import InputError
from ..files import write_safetensors
from ._file import head_arrays, head_from_arrays, load_head
from ._residual import amplitude, read_residual


@dataclasses.dataclass(frozen=True)
class Imported:
    """What an import made."""

    arrays: dict[str, np.ndarray]
    """Arrays under the names of a head file."""
    metadata: dict[str, str]
    """Name, licence, source, hashes and provenance."""
    notes: tuple[str, ...]
    """What was unusual, a sentence each."""


def finish(
    arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str], notes: tuple[str, ...] | list[str]
) -> Imported:
    """The end of every importer: whatever each imported head shall get is added here, and the result can be loaded.

    Raises `InputError` where the arrays make no head.
    """
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    if read_residual(whole) is None:
        whole |= default_residual(whole)
    head_from_arrays(whole, dtype=np.float32)  # what is written can be loaded
    return Imported(whole, dict(metadata), tuple(notes))


def default_residual(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The embedded head's smooth residual for another head: hyper-parameters alone, brought into its frame.

    The anchors of its amplitude move with the 68 landmarks, by the similarity between the two mean faces; length scales
    and deviations are people's, in metres, and stay. Without landmarks, the amplitude is that of the whole face.
    """
    own = load_head(dtype=np.float32)
    hyper = read_residual(head_arrays())
    assert hyper is not None and own.landmarks68 is not None, "the embedded head has both"
    if "landmarks68_face" not in arrays:
        flat = float(np.log(np.mean(amplitude(np.asarray(own.template_m, np.float64), hyper))))
        return hyper._replace(anchor_m=np.zeros((1, 3)), log_amplitude=np.array([flat])).arrays()
    template, weights = np.asarray(arrays["template"], np.float64), arrays["landmarks68_barycentric"]
    there = (template[arrays["faces"][arrays["landmarks68_face"]]] * np.asarray(weights)[:, :, None]).sum(axis=1)
    here = np.asarray(own.landmarks68(own.template_m), np.float64)
    moved, centred = there - there.mean(axis=0), here - here.mean(axis=0)
    # No turn: both frames have y up and the face along z.
    size = float((moved * centred).sum() / (centred**2).sum())
    anchors = there.mean(axis=0) * [0.0, 1.0, 1.0] + size * (hyper.anchor_m - here.mean(axis=0) * [0.0, 1.0, 1.0])
    return hyper._replace(anchor_m=anchors).arrays()


def write_head(imported: Imported, out: Path) -> None:
    """Write an imported head as a head file, whole or not at all; the same import gives the same bytes."""
    write_safetensors(out, imported.arrays, imported.metadata)


class Packed(NamedTuple):
    """Components as they are stored, and what that costs."""

    arrays: dict[str, np.ndarray]
    """`KIND_basis` in half precision and `KIND_scale`."""
    square_error: np.ndarray
    """float64 [V], square metres: of a vertex, summed over components of unit variance."""


def packed(kind: str, components: np.ndarray) -> Packed:
    """Components [K, V, 3] in half precision; no arrays for K = 0.

    An entry is off by 1/2048 of itself at most, or by 3e-8 of its component's largest.
    """
    error = np.zeros(components.shape[1])
    if not len(components):
        return Packed({}, error)
    scale = np.abs(components).max(axis=(1, 2)).astype(np.float32)
    scale[scale == 0] = 1
    basis = np.empty(components.shape, np.float16)
    for row, component, largest in zip(basis, components, scale, strict=True):  # one at a time: a basis may be large
        row[:] = component / largest
        error += np.square(row.astype(np.float32) * largest - component).sum(axis=1)
    return Packed({f"{kind}_basis": basis, f"{kind}_scale": scale}, error)


def on_faces(faces: np.ndarray, corners: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points as three vertices [n, 3] and their weights [n, 3] → int32 triangle [n], float32 weights in its order.

    Vertices of weight zero are free: a single vertex is a point of any triangle that has it. Raises `InputError` where
    no triangle of the mesh has the vertices.
    """
    around = np.argsort(faces.ravel(), kind="stable")
    starts = np.searchsorted(faces.ravel()[around], np.arange(faces.max() + 2))
    face, placed = np.empty(len(corners), np.int32), np.zeros((len(corners), 3), np.float32)
    near: np.ndarray | list[int]
    for row, (corner, weight) in enumerate(zip(corners.tolist(), weights.tolist(), strict=True)):
        total: dict[int, float] = {}
        for vertex, part in zip(corner, weight, strict=True):
            if part:
                total[vertex] = total.get(vertex, 0.0) + part
        first = max(total, key=lambda vertex: total[vertex])
        near = around[starts[first] : starts[first + 1]] // 3 if first < len(starts) - 1 else []
        chosen = next((one for one in near if set(total) <= set(faces[one].tolist())), None)
        if chosen is None:
            raise InputError(f"landmark {row} lies on the vertices {sorted(total)}, which are not of one triangle.")
        face[row] = chosen
        placed[row] = [total.get(vertex, 0.0) for vertex in faces[chosen].tolist()]
    return face, placed / placed.sum(axis=1, keepdims=True)

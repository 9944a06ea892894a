"""What every importer ends with: arrays that make a head, texts that say what it is, and sentences on what is unusual."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ._file import head_from_arrays
from .build._write import write_tensors


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
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    head_from_arrays(whole, dtype=np.float32)  # what is written can be loaded
    return Imported(whole, dict(metadata), tuple(notes))


def write_head(imported: Imported, out: Path) -> None:
    """Write an imported head as a head file, whole or not at all; the same import gives the same bytes."""
    write_tensors(out, imported.arrays, imported.metadata)


def packed(kind: str, components: np.ndarray) -> dict[str, np.ndarray]:
    """Head-file arrays of components [K, V, 3] in half precision, none for K = 0.

    An entry is off by 1/2048 of itself at most, or by 3e-8 of its component's largest.
    """
    if not len(components):
        return {}
    scale = np.abs(components).max(axis=(1, 2)).astype(np.float32)
    scale[scale == 0] = 1
    basis = np.empty(components.shape, np.float16)
    for row, component, largest in zip(basis, components, scale, strict=True):  # one at a time: a basis may be large
        row[:] = component / largest
    return {f"{kind}_basis": basis, f"{kind}_scale": scale}

"""Downloaded files → named numpy arrays; pickles and archives are opened in a process of their own, under limits."""

import contextlib
import hashlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from ..._errors import InputError
from ...files import Limits, read_safetensors, temporary_folder

_CHILD = Path(__file__).with_name("_child.py")
_CODES = ("b1", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8")
_TYPES = frozenset(order + code for order in "<>" for code in _CODES)
_MAX_TABLE_BYTES = 1 << 20
_MOST_LENGTH = 1 << 40
_MOST_WRITTEN_OUT = 1 << 23
"""Values of all sparse matrices of a file, written out: FLAME's have some 25,000."""


@dataclass(frozen=True)
class ImportLimits(Limits):
    """What reading one downloaded file may cost; as every limit, each can be set in the environment."""

    import_bytes: int = 2 << 30
    """Size of the file."""
    import_unpacked_bytes: int = 512 << 20
    """What a head's arrays may unpack to."""
    import_side_bytes: int = 64 << 20
    """The same of masks, landmarks and parameters."""
    import_memory_bytes: int = 512 << 20
    """Address space of the reading process, besides twice the file's size."""
    import_cpu_seconds: int = 60
    """Processor time of the reading process."""
    import_seconds: int = 300
    """Time on the clock."""


class Arrays(NamedTuple):
    """What a file holds."""

    arrays: Mapping[str, np.ndarray]
    """Arrays by name; an unnamed one (a plain .npy file) has the empty name."""
    other: tuple[str, ...]
    """Names of entries that are no arrays of numbers, which were not read."""
    sha256: str
    """Hash of the file."""


def read_arrays(
    path: Path,
    *,
    wanted: tuple[str, ...] | None = None,
    tensors: bool = False,
    limits: ImportLimits | None = None,
    limit: str = "import_unpacked_bytes",
) -> Arrays:
    """The numeric arrays of a .pkl, .npz, .npy or .safetensors file; only those `wanted`, if names are given.

    No pickle is ever executed: see `_unpickle`. `tensors` lets a file pass that holds PyTorch tensors besides; they
    are left out. `limit` names the one on what is unpacked. Raises `InputError` for anything that isn't such a file,
    asks for more than `limits` or is damaged.
    """
    with open_arrays(path, wanted=wanted, tensors=tensors, limits=limits, limit=limit) as found:
        return found._replace(arrays={name: np.array(array) for name, array in found.arrays.items()})


@contextlib.contextmanager
def open_arrays(
    path: Path,
    *,
    wanted: tuple[str, ...] | None = None,
    tensors: bool = False,
    limits: ImportLimits | None = None,
    limit: str = "import_unpacked_bytes",
) -> Iterator[Arrays]:
    """As `read_arrays`, with arrays that stay on the disk and are gone on leaving: for what memory should not hold."""
    if limits is None:
        limits = cast(ImportLimits, ImportLimits.from_environment())
    kind = _kind(path, limits)
    digest = _sha256(path)
    if kind == "safetensors":
        arrays = read_safetensors(path, limits, limit="import_bytes").arrays
        yield Arrays({name: array for name, array in arrays.items() if wanted is None or name in wanted}, (), digest)
        return
    with temporary_folder() as folder:
        out = folder / "arrays"
        _run_child(path, kind, out, wanted, tensors, limits, limit)
        table, size = _table(out, path)
        data = np.memmap(out, np.uint8, "r", shape=(size,)) if size else np.zeros(0, np.uint8)
        try:
            _check_written_out(table["arrays"], path)
            yield Arrays(
                {str(name): _cook(entry, data, path, str(name)) for name, entry in table["arrays"].items()},
                tuple(str(name) for name in table["other"]),
                digest,
            )
        finally:
            del data


def _kind(path: Path, limits: ImportLimits) -> str:
    """`npz`, `npy`, `safetensors` or `pickle`, by the file's first bytes."""
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    size = path.stat().st_size
    if size > limits.import_bytes:
        raise limits.exceeded("import_bytes", f"{path} is {size >> 20} MiB, more")
    with path.open("rb") as file:
        start = file.read(16)
    if not start:
        raise InputError(f"{path} is empty.")
    for magic, what in ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ", "xz"), (b"7z\xbc\xaf", "7-Zip")):
        if start.startswith(magic):
            raise InputError(f"{path} is packed by {what}; unpack it first and give the file inside.")
    if start.startswith(b"PK"):
        return "npz"
    if start.startswith(b"\x93NUMPY"):
        return "npy"
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < size:
        return "safetensors"
    return "pickle"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _run_child(
    path: Path, kind: str, out: Path, wanted: tuple[str, ...] | None, tensors: bool, limits: ImportLimits, limit: str
) -> None:
    """Let the reading process write a file's arrays to `out`; raises `InputError` with what it says."""
    if not sys.executable:
        raise InputError(f"{path} can't be read: this Python can't start another one, in which downloads are opened.")
    job: dict[str, Any] = {
        "path": str(path.resolve()),
        "kind": kind,
        "out": str(out),
        "wanted": wanted,
        "tensors": tensors,
    }
    job["parent"] = os.getpid()
    job |= {name: getattr(limits, f"import_{name}") for name in ("memory_bytes", "cpu_seconds")}
    job |= {"unpacked_bytes": getattr(limits, limit), "unpacked_limit": limit.removeprefix("import_")}
    # Isolated: no environment variables, no user's packages, no site: the standard library alone.
    command = [sys.executable, "-I", "-S", "-B", str(_CHILD), json.dumps(job)]
    said = out.with_name("said")
    try:
        with said.open("wb") as errors:
            result = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                cwd=out.parent,
                timeout=limits.import_seconds,
                check=False,
            )
    except subprocess.TimeoutExpired:
        raise limits.exceeded("import_seconds", f"reading {path} took more") from None
    if result.returncode == 0:
        return
    with said.open("rb") as errors:
        message = errors.read(2000).decode("utf-8", "replace")
    if result.returncode == 3 and message:
        raise InputError(f"{path} {message}")
    if result.returncode < 0:  # killed: by the processor limit if by anything
        raise limits.exceeded("import_cpu_seconds", f"reading {path} took more processor time")
    raise InputError(f"{path} could not be read (the reading process ended with code {result.returncode}).")


def _table(out: Path, path: Path) -> tuple[dict[str, Any], int]:
    """The table at the end of the reading process's output, and how many bytes of arrays come before it."""
    total = out.stat().st_size
    with out.open("rb") as file:
        file.seek(max(total - 8, 0))
        length = int.from_bytes(file.read(8), "little")
        if total < 8 or length > min(_MAX_TABLE_BYTES, total - 8):
            raise InputError(f"{path} could not be read (the reading process left no table).")
        file.seek(total - 8 - length)
        return json.loads(file.read(length)), total - 8 - length


def _check_written_out(entries: Mapping[str, Any], path: Path) -> None:
    """Raise `InputError` where sparse matrices, which may declare any size, would take more memory than is sensible."""
    values, left = 0, list(entries.values())
    while left:
        entry = left.pop()
        left += entry.get("parts", {}).values()
        shape = entry.get("shape")
        if entry.get("form") in ("csc", "csr", "coo") and isinstance(shape, list):
            values += math.prod(extent for extent in shape if type(extent) is int)
    if values > _MOST_WRITTEN_OUT:
        raise InputError(
            f"{path} holds sparse matrices of {values:,} values, far more than a head's; save them as plain arrays."
        )


def _cook(entry: Any, data: np.ndarray, path: Path, name: str) -> np.ndarray:
    """Put an array together. The reading process is not trusted: every number is checked against its output."""
    if "type" in entry:
        return _dense(entry, data, path, name)
    parts = {part: _cook(inner, data, path, name) for part, inner in entry["parts"].items()}
    form, shape = entry["form"], entry["shape"]
    if form == "dense":
        return parts[""]
    try:
        if form == "reshape":
            return parts["a"].reshape(shape)
        if form == "select":
            chosen = parts["a"].reshape(-1)[_whole(parts["idxs"], 0, parts["a"].size)]
            return chosen if shape is None else chosen.reshape(shape)
        return _sparse(form, parts, shape)
    except (ValueError, IndexError, TypeError) as error:
        raise InputError(f"{path} is damaged: '{name}' can't be put together ({error}).") from None


def _dense(entry: Any, data: np.ndarray, path: Path, name: str) -> np.ndarray:
    code, shape, offset = entry["type"], tuple(entry["shape"]), entry["offset"]
    if code not in _TYPES or not all(type(extent) is int and extent >= 0 for extent in (*shape, offset)):
        raise InputError(f"{path} could not be read ('{name}' came back broken).")
    # An array without values may declare any other length; numpy multiplies them all the same.
    if math.prod(extent or 1 for extent in shape) > _MOST_LENGTH:
        raise InputError(f"{path} is damaged: '{name}' declares the impossible shape {shape}.")
    type_ = np.dtype(code)
    size = math.prod(shape) * type_.itemsize
    if offset + size > data.size:
        raise InputError(f"{path} could not be read ('{name}' came back broken).")
    array = np.frombuffer(data, type_, math.prod(shape), offset).reshape(shape, order="F" if entry["fortran"] else "C")
    return array.astype(type_.newbyteorder("="), copy=False)


def _sparse(form: str, parts: Mapping[str, np.ndarray], shape: Any) -> np.ndarray:
    """A sparse matrix written out; entries that meet add, as scipy's do."""
    rows, columns = shape
    values = parts["data"].astype(np.float64).reshape(-1)
    if form == "coo":
        row, column = parts["row"], parts["col"]
    else:
        major = columns if form == "csc" else rows
        starts = _whole(parts["indptr"], 0, values.size + 1)
        if starts.size != major + 1 or starts[0] != 0 or starts[-1] > values.size or (np.diff(starts) < 0).any():
            raise ValueError("its columns' starts are not in order")
        values = values[: starts[-1]]
        outer, inner = np.repeat(np.arange(major), np.diff(starts)), parts["indices"][: starts[-1]]
        row, column = (inner, outer) if form == "csc" else (outer, inner)
    row, column = _whole(row, 0, rows), _whole(column, 0, columns)
    if not row.shape == column.shape == values.shape:
        raise ValueError("it has not as many places as values")
    dense = np.zeros((rows, columns))
    np.add.at(dense, (row, column), values)
    return dense


def _whole(array: np.ndarray, low: int, high: int) -> np.ndarray:
    """Indices from `low` to before `high`."""
    array = array.reshape(-1)
    if not np.issubdtype(array.dtype, np.integer) or (array.size and (array.min() < low or array.max() >= high)):
        raise ValueError(f"an index is none from {low} to {high - 1}")
    return array.astype(np.int64)

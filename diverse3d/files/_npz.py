"""Arrays of .npz and .npy files: in, without pickles, each declared size checked before it is allocated; and out."""

import io
import math
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .._errors import InputError
from ._limits import Limits, one_line, read_bytes
from ._whole import whole_file

_MAGIC = b"\x93NUMPY"
_MOST_HEADER = 1 << 16
_MOST_DIMENSIONS = 8
_MOST_LENGTH = 1 << 40

# A header is a Python table of three entries; read as text, nothing in it is evaluated.
_ENTRY = r"""\s*['"](descr|fortran_order|shape)['"]\s*:\s*(?:['"]([^'"]{1,16})['"]|(True|False)|\(([\d\s,]*)\))\s*"""
_HEADER = re.compile(rf"\{{{_ENTRY},{_ENTRY},{_ENTRY},?\s*\}}\s*", re.ASCII)
_SHAPE = re.compile(r"\s*|\s*\d+\s*,\s*|\s*\d+(\s*,\s*\d+)+\s*,?\s*", re.ASCII)
_TYPE = re.compile(r"[<>=|]?(?:b1|[iu][1248]|f[248])", re.ASCII)
_TEXT = re.compile(r"[<>]U[1-9]\d{0,3}", re.ASCII)

_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)

# What zipfile and zlib raise on damaged archives.
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, LookupError, ArithmeticError, RuntimeError)


def read_npz(
    path: Path, limits: Limits | None = None, *, limit: str = "mesh_bytes", texts: bool = False
) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name: numbers and truth values, and with `texts` names too; read-only.

    `limit` names the limit on its size, packed and unpacked. Raises `InputError` where there is no such file, it is
    damaged, declares more than `limits` allow, or holds anything but numbers.
    """
    limits = Limits.from_environment() if limits is None else limits
    return parse_npz(read_bytes(path, limit, limits), str(path), limits, limit=limit, texts=texts)


def read_npy(path: Path, limits: Limits | None = None, *, limit: str = "mesh_bytes") -> np.ndarray:
    """The array of an .npy file, as `read_npz` reads each."""
    limits = Limits.from_environment() if limits is None else limits
    return _parse_npy(read_bytes(path, limit, limits), str(path))


def parse_npz(
    data: bytes, name: str, limits: Limits, *, limit: str = "mesh_bytes", texts: bool = False
) -> dict[str, np.ndarray]:
    """As `read_npz`, from a file's content; `name` says in messages what is read."""
    # Each entry of the directory starts so: counted before zipfile makes objects of them.
    if data.count(b"PK\x01\x02") > limits.archive_entries:
        raise limits.exceeded("archive_entries", f"{name} holds more")
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > getattr(limits, limit):
                raise limits.exceeded(limit, f"{name} unpacks to more")
            for entry in entries:
                key = entry.filename.removesuffix(".npy")
                if key == entry.filename or key in arrays:
                    raise InputError(f"{name} holds {entry.filename[:60]!r}, which is no array; give an .npz file.")
                if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or entry.flag_bits & 1:
                    raise InputError(f"{name} is packed as numpy never does; write it anew with numpy.savez.")
                with archive.open(entry) as file:
                    content = file.read(entry.file_size)  # no more is unpacked than was declared
                arrays[key] = _parse_npy(content, f"{name}, array {key[:60]!r},", texts=texts)
    except InputError:  # a ValueError, too
        raise
    except _DAMAGED as error:
        raise InputError(f"{name} can't be read as an .npz file ({one_line(error)}); give an intact one.") from None
    return arrays


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """An .npz whose bytes depend on the arrays alone (`np.savez` stores the time of day)."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asarray(array, order="C"), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _ZIP_EPOCH), content.getvalue())
    return whole.getvalue()


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write `npz_bytes`, whole or not at all; raises `InputError` when writing fails."""
    with whole_file(path) as aside:
        aside.write_bytes(npz_bytes(arrays))


def _parse_npy(data: bytes, name: str, *, texts: bool = False) -> np.ndarray:
    """The one array of .npy content; its header must account for every byte."""
    start = 10 if data[6:7] == b"\x01" else 12
    if not data.startswith(_MAGIC) or data[6:8] not in (b"\x01\x00", b"\x02\x00") or len(data) < start:
        raise InputError(f"{name} can't be read as a numpy array; write it anew with numpy.save.")
    end = start + int.from_bytes(data[8:start], "little")
    found = _HEADER.fullmatch(data[start:end].decode("latin-1")) if end - start <= _MOST_HEADER else None
    groups = found.groups() if found else ()
    fields = {groups[i]: groups[i + 1] or groups[i + 2] or groups[i + 3] or "" for i in range(0, len(groups), 4)}
    kind, order, lengths = (fields.get(key, "") for key in ("descr", "fortran_order", "shape"))
    if len(fields) != 3 or order not in ("True", "False") or not _SHAPE.fullmatch(lengths):
        raise InputError(f"{name} can't be read: its header is damaged or tells of Python objects; save plain numbers.")
    if not _TYPE.fullmatch(kind) and not (texts and _TEXT.fullmatch(kind)):
        raise InputError(f"{name} can't be read: its values are of type '{kind}' and no numbers; save plain numbers.")
    words = [word.strip() for word in lengths.split(",") if word.strip()]
    shape = tuple(int(word) if len(word) < 15 else _MOST_LENGTH + 1 for word in words)
    # An array without values may declare any other length; numpy multiplies them all the same.
    if len(shape) > _MOST_DIMENSIONS or math.prod(length or 1 for length in shape) > _MOST_LENGTH:
        raise InputError(f"{name} can't be read: it declares the impossible shape ({lengths}).")
    dtype = np.dtype(kind)
    size = math.prod(shape) * dtype.itemsize
    if size != len(data) - end:
        raise InputError(f"{name} can't be read: it declares {size} bytes and holds {len(data) - end}; mend it.")
    if dtype.kind == "U":
        letters = np.frombuffer(data, np.dtype(f"{kind[0]}u4"), offset=end)
        if letters.size and (letters.max() > 0x10FFFF or ((letters >= 0xD800) & (letters < 0xE000)).any()):
            raise InputError(f"{name} can't be read: it holds what is no text; mend it.")
    flat = np.frombuffer(data, np.uint8 if dtype.kind == "b" else dtype, offset=end) if size else np.zeros(0, dtype)
    values = flat != 0 if dtype.kind == "b" else flat.astype(dtype.newbyteorder("="), copy=False)
    return values.reshape(shape, order="F" if order == "True" else "C")

"""The process that reads a downloaded file: run by path, standard library only, under limits that it sets itself.

Arguments: one JSON object. Output: the raw bytes of all arrays, then a JSON table of them, then the table's length in
eight bytes. Exit code 3 with one line on stderr where the file is refused.
"""

import json
import mmap
import os
import sys
import types
import zipfile
from typing import Any, BinaryIO

# This folder as a package of its own: its __init__ would import numpy and jax.
_READER = types.ModuleType("flame_reader")
_READER.__path__ = [os.path.dirname(os.path.abspath(__file__))]  # noqa: PTH100, PTH120 (pathlib costs start-up time)
sys.modules[_READER.__name__] = _READER

from flame_reader._recipes import Dense, Recipe, npy_header, object_table, recipe  # noqa: E402
from flame_reader._unpickle import ALLOWED, TENSORS, Refused, read_pickle, shown  # noqa: E402

_CHUNK = 1 << 20
_MAX_NAMES = 1000


def advice(name: str) -> str:
    """What to do about a limit."""
    return f"if you trust it, raise DIVERSE3D_MAX_IMPORT_{name.upper()}."


class Writer:
    """Array bytes as they come, counted against the output limit."""

    def __init__(self, file: BinaryIO, limit: int, name: str) -> None:
        self.file, self.limit, self.name, self.at = file, limit, name, 0

    def reserve(self, size: int) -> int:
        """Where the next `size` bytes go; refuses before anything is written."""
        if self.at + size > self.limit:
            raise Refused(f"unpacks to more than {self.limit >> 20} MiB; {advice(self.name)}")
        self.at += size
        return self.at - size

    def part(self, part: Dense | Recipe) -> dict[str, Any]:
        """Write a recipe's bytes and describe it."""
        if isinstance(part, Recipe):
            return {
                "form": part.form,
                "parts": {name: self.part(inner) for name, inner in part.parts.items()},
                "shape": part.shape,
            }
        offset = self.reserve(part.size)
        self.file.write(part.raw)
        return describe(part, offset)


def describe(array: Dense, offset: int) -> dict[str, Any]:
    """An array's entry in the table."""
    return {"type": array.type, "shape": array.shape, "fortran": array.fortran, "offset": offset}


def limit(job: dict[str, Any], file_bytes: int) -> None:
    """Limit this process; where the system can't, its parent's clock and the reader's own checks remain."""
    try:
        import resource
    except ImportError:  # not Unix
        return
    # The file is mapped, and text in old pickles is decoded into a copy.
    memory = job["memory_bytes"] + 2 * file_bytes
    for name, value in (
        ("RLIMIT_AS", memory),
        ("RLIMIT_CPU", job["cpu_seconds"]),
        ("RLIMIT_FSIZE", job["unpacked_bytes"] + (16 << 20)),
        ("RLIMIT_CORE", 0),
    ):
        try:
            kind = getattr(resource, name)
            hard = resource.getrlimit(kind)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (value, value))
        except (AttributeError, OSError, ValueError):
            continue


def end_with_parent(parent: int) -> None:
    """End when the process that waits for this one is killed, where the system can do that (Linux)."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
    except (ImportError, OSError, AttributeError):
        return
    if os.getppid() != parent:  # it was killed before
        sys.exit(3)


def from_table(table: Any, writer: Writer, wanted: list[str] | None) -> tuple[dict[str, Any], list[str]]:
    """Entries of a dictionary's arrays, and the names of what is no array."""
    if type(table) is not dict:
        raise Refused("holds no dictionary of arrays.")
    if len(table) > _MAX_NAMES:
        raise Refused(f"holds more than {_MAX_NAMES} entries.")
    entries, other = {}, []
    for name, value in table.items():
        found = recipe(value) if wanted is None or name in wanted else None
        if found is None:
            other.append(shown(str(name)))
        else:
            entries[str(name)] = writer.part(found)
    return entries, other


def from_npy(data: memoryview, writer: Writer, allowed: frozenset[str]) -> tuple[dict[str, Any], list[str]]:
    """The array of a .npy file under the empty name, or the arrays of the dictionary it holds."""
    array, start = npy_header(bytes(data[:12_000]))
    if array is None:
        return from_table(object_table(read_pickle(data[start:], allowed)), writer, None)
    raw = data[start:]
    if array.size != len(raw):
        raise Refused(f"is damaged: its array declares {array.size} bytes and holds {len(raw)}.")
    whole = Dense(array.type, array.shape, array.fortran, raw)
    return {"": writer.part(Recipe("dense", {"": whole}))}, []


def from_npz(path: str, writer: Writer, wanted: list[str] | None) -> tuple[dict[str, Any], list[str]]:
    """The arrays of a .npz file, unpacked piece by piece and never beyond what their headers declare."""
    entries, other = {}, []
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) > _MAX_NAMES:
            raise Refused(f"holds more than {_MAX_NAMES} entries.")
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name == member.filename or (wanted is not None and name not in wanted):
                other.append(shown(name))
                continue
            if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise Refused(f"holds '{shown(name)}' encrypted or packed in a way that numpy does not use.")
            with archive.open(member) as stream:
                head = stream.read(12_000)
                array, start = npy_header(head)
                if array is None:
                    raise Refused(f"holds Python objects under '{shown(name)}'; they are not read.")
                if start + array.size != member.file_size:
                    raise Refused(
                        f"is damaged: '{shown(name)}' declares {array.size} bytes and holds {member.file_size - start}."
                    )
                offset = writer.reserve(array.size)
                left, piece = array.size, head[start:]
                while piece:
                    left -= len(piece)
                    if left < 0:
                        raise Refused(f"is damaged: '{shown(name)}' is longer than it says.")
                    writer.file.write(piece)
                    piece = stream.read(_CHUNK)
                if left:
                    raise Refused(f"is cut short: '{shown(name)}' ends early.")
            entries[name] = {"form": "dense", "parts": {"": describe(array, offset)}, "shape": None}
    return entries, other


def read(job: dict[str, Any], writer: Writer) -> dict[str, Any]:
    """The table of a file's arrays, their bytes written."""
    allowed = ALLOWED | TENSORS if job["tensors"] else ALLOWED
    if job["kind"] == "npz":
        entries, other = from_npz(job["path"], writer, job["wanted"])
        return {"arrays": entries, "other": other}
    with open(job["path"], "rb") as file:  # noqa: PTH123
        # Never closed: views of it live as long as what was read, and the process ends with them.
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    if job["kind"] == "npy":
        entries, other = from_npy(view, writer, allowed)
    else:
        entries, other = from_table(read_pickle(view, allowed), writer, job["wanted"])
    return {"arrays": entries, "other": other}


def main() -> int:
    """Read one file."""
    job = json.loads(sys.argv[1])
    end_with_parent(job["parent"])
    limit(job, os.path.getsize(job["path"]))  # noqa: PTH202
    try:
        with open(job["out"], "wb") as file:  # noqa: PTH123
            writer = Writer(file, job["unpacked_bytes"], job["unpacked_limit"])
            table = json.dumps(read(job, writer)).encode("utf-8")
            file.write(table + len(table).to_bytes(8, "little"))
        return 0
    except Refused as refusal:
        message = str(refusal)
    except MemoryError:
        message = f"needs more than {job['memory_bytes'] >> 20} MiB of memory to read; {advice('memory_bytes')}"
    except Exception as error:  # the readers of damaged archives raise whatever they stumble over
        message = f"can't be read ({type(error).__name__}: {shown(str(error))})."
    sys.stderr.write(message)
    return 3


if __name__ == "__main__":
    sys.exit(main())

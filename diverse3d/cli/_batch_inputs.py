"""What `batch` reads: folders, lists of files and tar shards, one face after the other."""

import dataclasses
import hashlib
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath, PurePosixPath

from .._errors import InputError, spelt_out
from ..files import Limits, check_there, lines_of, one_line, read_bytes

LIST_SUFFIXES = (".txt", ".lst")
_MASK = re.compile(r"(.+)\.mask(\.\w+)", re.DOTALL)
_BESIDE = {".txt", ".lst", ".csv", ".json", ".md", ".html", ".mtl", ".db", ".ini", ".yaml", ".yml", ".log", ".tar"}
_PLAIN = re.compile(r"\w[\w.\- ]{0,99}")
_MOST_MEMBERS = 10_000_000
_LARGEST_NAME = 1 << 20


@dataclasses.dataclass(frozen=True)
class Source:
    """A file, or the part of a tar file where one lies."""

    path: Path
    """The file."""
    name: str
    """What it is called, for people."""
    offset: int | None = None
    """Where it begins in the tar file `path`; None for a file of its own."""
    size: int = 0
    """Its length there, in bytes."""

    def sha256(self) -> str:
        """Hash of the content; raises `InputError` where it can't be read or no reader would take that much."""
        limits = Limits.from_environment()
        limit = max("image_bytes", "mesh_bytes", key=lambda name: getattr(limits, name))
        if self.offset is not None:
            return hashlib.sha256(self._part(limits, limit)).hexdigest()
        check_there(self.path)
        if not self.path.is_file():
            raise InputError(f"{self.path} is not a file.")
        if self.path.stat().st_size > getattr(limits, limit):
            raise limits.exceeded(limit, f"{self.path} is refused unread: it is larger")
        try:
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise InputError(f"{self.path} can't be read ({error.strerror or error}).") from None

    def file(self, folder: Path) -> Path:
        """A file with the content: itself, or a copy of the part in a `folder` of its own, by its own plain name."""
        if self.offset is None:
            return self.path
        limits = Limits.from_environment()
        name = PurePosixPath(self.name).name
        path = folder / (name if _PLAIN.fullmatch(name) else f"input{PurePosixPath(name).suffix[:8]}")
        path.write_bytes(self._part(limits, max("image_bytes", "mesh_bytes", key=lambda one: getattr(limits, one))))
        return path

    def _part(self, limits: Limits, limit: str) -> bytes:
        if self.size > getattr(limits, limit):
            raise limits.exceeded(limit, f"{self.name} in {self.path} is refused unread: it is larger")
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset or 0)
                data = file.read(self.size)
        except OSError as error:
            raise InputError(f"{self.path} can't be read ({error.strerror or error}).") from None
        if len(data) < self.size:
            raise InputError(f"{self.path} ends within {self.name}: give an intact file.")
        return data


@dataclasses.dataclass(frozen=True)
class Entry:
    """One face to complete."""

    given: Source
    """Photo, scan or mesh."""
    mask: Source | None = None
    """What hides it, where a file beside it says so."""

    @property
    def name(self) -> str:
        """What it is called, for people."""
        return self.given.name

    def content(self) -> str:
        """Hash of what is given: the file's SHA-256, with a mask that of both files' hashes. Raises `InputError`."""
        first = self.given.sha256()
        return first if self.mask is None else hashlib.sha256((first + self.mask.sha256()).encode()).hexdigest()


def entries(inputs: Sequence[Path], *, out: Path) -> list[Entry]:
    """All faces of folders (and those in them), lists, tar files and single files, in the order of names.

    `NAME.mask.png` (or `.npy`, `.npz`, `.txt`) beside `NAME.jpg` is its mask. `out`, where results go, is no input.
    Raises `InputError` for what is not there, a damaged list or tar file, and where there is nothing.
    """
    found = [entry for path in inputs for entry in _of(path, out.resolve())]
    if not found:
        raise InputError(f"{', '.join(map(str, inputs))} holds no photo, scan or mesh.")
    return found


def _of(path: Path, out: Path) -> list[Entry]:
    check_there(path)
    if path.is_dir():
        files = [
            Source(file, spelt_out(file.relative_to(path).as_posix()))
            for file in sorted(path.rglob("*"))
            if not file.resolve().is_relative_to(out) and file.is_file() and not _hidden(file.relative_to(path))
        ]
        return _paired(files, unknown=_BESIDE)
    if path.suffix.lower() in LIST_SUFFIXES:
        return [_listed(path, line) for line in _lines(path)]
    if path.suffix.lower() == ".tar":
        return _paired(list(_members(path)), unknown=_BESIDE)
    if path.name.lower().endswith((".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".tar.zst")):
        raise InputError(f"{path} is compressed, so its files can't be found by their place: give a plain .tar file.")
    return [Entry(Source(path, spelt_out(path.name)))]


def _hidden(path: PurePath) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _lines(path: Path) -> list[str]:
    limits = Limits.from_environment()
    lines = lines_of(read_bytes(path, "text_bytes", limits), path, limits)
    return [os.fsdecode(line) for line in lines if not line.startswith(b"#")]


def _listed(path: Path, line: str) -> Entry:
    """A line names a file, and perhaps, after a tab, its mask; from the list's own folder."""
    names = line.split("\t")
    if len(names) > 2 or "\0" in line:
        raise InputError(f"{path} has the line '{one_line(line)}'; give a file, or a file, a tab and its mask.")
    sources = [Source(path.parent / name.strip(), spelt_out(name.strip())) for name in names]
    return Entry(sources[0], sources[1] if len(sources) == 2 else None)


def _paired(sources: list[Source], *, unknown: set[str]) -> list[Entry]:
    """Files with the masks beside them; those that are of no picture or mesh are passed over."""
    masks = {found[1]: source for source in sources if (found := _MASK.fullmatch(source.name))}
    stems: dict[str, list[Source]] = {}
    for source in sources:
        if not _MASK.fullmatch(source.name) and PurePosixPath(source.name).suffix.lower() not in unknown:
            stems.setdefault(str(PurePosixPath(source.name).with_suffix("")), []).append(source)
    return [Entry(source, masks.get(stem)) for stem, group in stems.items() for source in group]


class _Member(tarfile.TarInfo):
    """A tar file's entry whose own description is bounded: tarfile would read any length of it."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE) and self.size > _LARGEST_NAME:
            raise tarfile.ReadError("the description of a member is too long")
        return super()._proc_member(tar)


def _members(path: Path) -> Iterator[Source]:
    """The plain files in a tar file, found without unpacking any; links, devices and sparse ones are passed over."""
    if not path.is_file():
        raise InputError(f"{path} is not a file: give the path of one file.")
    try:
        size = path.stat().st_size
        with tarfile.open(path, "r:", tarinfo=_Member) as tar:
            for number, member in enumerate(tar):
                if number >= _MOST_MEMBERS:
                    raise InputError(f"{path} holds more than {_MOST_MEMBERS:,} files; give several smaller ones.")
                if not 0 <= member.size <= size:
                    raise InputError(f"{path} ends within {one_line(member.name)}: give an intact file.")
                name = PurePosixPath(spelt_out(member.name))
                if member.isreg() and member.sparse is None and name.name and not _hidden(name):
                    yield Source(path, str(name), member.offset_data, member.size)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror or error}).") from None
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:  # UnicodeError is a ValueError
        raise InputError(
            f"{path} is not a tar file that can be read ({one_line(error)}); give an intact file."
        ) from None

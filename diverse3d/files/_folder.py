"""Result folders: they appear whole or not at all, and only what a record says we wrote is ever replaced."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .._errors import InputError
from ._json import read_json, write_json
from ._whole import clear_leftovers

RECORD_NAME = "run.json"
"""The file that marks a folder as a result."""

_FILES = "files"
"""The record's table of what was written: SHA-256 by name."""

_seen: dict[Path, bytes | None] = {}
"""The record at each place that this process was allowed to write: another one is another run's, and not replaced."""


def check_target(
    directory: str | os.PathLike[str],
    *,
    force: bool,
    record: str = RECORD_NAME,
    needed: tuple[Path | None, ...] = (),
) -> Path:
    """The folder that a result is going to be, absolute; raises `InputError` unless it may be written there.

    With `force` an older result is replaced where its `record` names every file there and none was changed since; never
    a folder that holds the working directory or one of the files `needed`.
    """
    try:
        target = Path(directory).resolve()
        _check(directory, target, force=force, record=record, needed=needed)
        _seen.setdefault(target, _record_bytes(target, record))
    except InputError:  # a ValueError, too
        raise
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a name too long, no permission to look
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{directory} can't be written ({reason}); name another folder.") from None
    return target


def _check(
    directory: str | os.PathLike[str], target: Path, *, force: bool, record: str, needed: tuple[Path | None, ...]
) -> None:
    for place in (Path.cwd(), *(path.resolve() for path in needed if path is not None)):
        if place.is_relative_to(target):
            raise InputError(f"{directory} can't be replaced while it is in use ({place}); name a new folder.")
    if target.parent == target:
        raise InputError(f"{directory} can't be replaced while it is in use; name a new folder inside it.")
    if target.exists() and not target.is_dir():
        raise InputError(f"{directory} is a file; name a folder that is new.")
    _check_writable(next(parent for parent in target.parents if parent.exists()))
    # Names of what is written aside are the longest: a name that is too long is met now, and not after the work.
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        _aside(target, "part").lstat()
    if target.is_dir():
        _check_writable(target)
        if any(target.iterdir()):
            if not (target / record).is_file():
                raise InputError(f"{directory} holds files that are not a result; name a folder that is new.")
            if not force:
                raise InputError(
                    f"{directory} already holds a result; name another folder, or replace it with --force."
                )
            check_unchanged(target, record)


def check_unchanged(folder: Path, record: str) -> None:
    """Raise `InputError` unless a folder's record names every file in it, each as it was written."""
    content = read_json(folder / record)
    written = content.get(_FILES) if isinstance(content, dict) else None
    if not isinstance(written, dict):
        raise InputError(
            f"{folder / record} does not say which files belong to the result, so none is replaced; name another."
        )
    known = {(folder / name) for name in written}
    folders = {parent for path in known for parent in path.parents}
    for path in sorted(folder.rglob("*")):
        if path == folder / record or (path in folders and path.is_dir() and not path.is_symlink()):
            continue
        if path not in known or not path.is_file() or path.is_symlink():
            raise InputError(f"{path} is no part of the result beside it, so nothing is replaced; move it elsewhere.")
        if _sha256(path) != written[str(path.relative_to(folder).as_posix())]:
            raise InputError(
                f"{path} was changed since the result was written, so nothing is replaced; move it elsewhere."
            )


def write_record(folder: Path, content: Mapping[str, Any], record: str = RECORD_NAME) -> None:
    """Write a result's record, with the names and hashes of all other files in the folder: the last thing written."""
    files = {
        str(path.relative_to(folder).as_posix()): _sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()
    }
    write_json(folder / record, {**content, _FILES: files})


def _check_writable(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; name a folder that can be written to.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{folder} is not writable; name a folder that can be written to.")


@contextlib.contextmanager
def whole_folder(directory: str | os.PathLike[str], *, force: bool, record: str = RECORD_NAME) -> Iterator[Path]:
    """A folder to fill, which becomes `directory` if nothing goes wrong and vanishes if anything does.

    What a process that was killed left behind there goes too. Raises `InputError` as `check_target` does, when another
    process writes there or has done so since this one looked, and when writing fails.
    """
    target = check_target(directory, force=force, record=record)
    _check_same(directory, target, record)
    aside, old = _aside(target, "part"), _aside(target, "old")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        if clear_leftovers(target):
            raise _taken(directory)
        yield aside
        check_target(directory, force=force, record=record)
        _check_same(directory, target, record)
        try:
            if target.exists():
                target.rename(old)
            aside.rename(target)
        except BaseException:
            if old.exists() and not target.exists():
                old.rename(target)
            raise
        _seen[target] = _record_bytes(target, record)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise InputError(f"{directory} can't be written ({error.strerror or error}); name another folder.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _check_same(directory: str | os.PathLike[str], target: Path, record: str) -> None:
    """Raise `InputError` where another result came since this process first looked."""
    now = _record_bytes(target, record)
    if now is not None and now != _seen[target]:
        del _seen[target]  # who asks again has read this
        raise _taken(directory)


def _taken(directory: str | os.PathLike[str]) -> InputError:
    return InputError(f"{directory} was or is being written by another run, whose result stays; name another folder.")


def _aside(target: Path, suffix: str) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.{suffix}")


def _record_bytes(target: Path, record: str) -> bytes | None:
    path = target / record
    return path.read_bytes() if path.is_file() else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

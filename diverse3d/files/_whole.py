"""Files and folders that appear whole or not at all: written aside, then renamed into place."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from meshvae._files import whole_file as whole_file

from .._errors import InputError

RECORD_NAME = "run.json"
"""The file that marks a folder as a result."""


def check_target(directory: str | os.PathLike[str], *, force: bool, record: str = RECORD_NAME) -> Path:
    """The folder that a result is going to be, absolute; raises `InputError` unless it may be written there.

    With `force` an older result is replaced, but never a folder that holds something else: `record` is the file that
    tells.
    """
    target = Path(directory).resolve()
    if target == Path.cwd() or target.parent == target:
        raise InputError(f"{directory} can't be replaced while it is in use; name a new folder inside it.")
    if target.exists() and not target.is_dir():
        raise InputError(f"{directory} is a file; name a folder that is new.")
    _check_writable(next(parent for parent in target.parents if parent.exists()))
    if target.is_dir():
        _check_writable(target)
        if any(target.iterdir()):
            if not (target / record).is_file():
                raise InputError(f"{directory} holds files that are not a result; name a folder that is new.")
            if not force:
                raise InputError(
                    f"{directory} already holds a result; name another folder, or replace it with --force."
                )
    return target


def _check_writable(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; name a folder that can be written to.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{folder} is not writable; name a folder that can be written to.")


@contextlib.contextmanager
def whole_folder(directory: str | os.PathLike[str], *, force: bool, record: str = RECORD_NAME) -> Iterator[Path]:
    """A folder to fill, which becomes `directory` if nothing goes wrong and vanishes if anything does.

    Raises `InputError` as `check_target` does, and when writing fails.
    """
    target = check_target(directory, force=force, record=record)
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        yield aside
        try:
            if target.exists():
                target.rename(old)
            aside.rename(target)
        except BaseException:
            if old.exists() and not target.exists():
                old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise InputError(f"{directory} can't be written ({error.strerror or error}); name another folder.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)

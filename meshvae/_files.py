"""Files that appear whole or not at all."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from ._errors import InputError


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write to, which becomes `path` if nothing goes wrong and vanishes if anything does.

    What a process that was killed left behind at the same place goes too. Raises `InputError` when writing fails.
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            clear_leftovers(path)
            yield aside
            aside.replace(path)
        finally:
            with contextlib.suppress(OSError):
                aside.unlink()
    except OSError as error:
        raise InputError(f"Can't write {path} ({error.strerror or error}); name another file.") from error


def clear_leftovers(path: Path) -> list[int]:
    """Remove what killed processes left aside while they wrote `path`; returns the living ones that write it now.

    A former result that a killed process had set aside, with none in its place yet, is put back.
    """
    living = []
    name = re.compile(rf"\.{re.escape(path.name)}\.(\d{{1,10}})\.(part|old)")
    for aside in list(path.parent.iterdir()) if path.parent.is_dir() else []:
        found = name.fullmatch(aside.name)
        if found is None or int(found[1]) == os.getpid():
            continue
        if lives(int(found[1])):
            living.append(int(found[1]))
        elif found[2] == "old" and not path.exists():
            aside.rename(path)
        elif aside.is_dir() and not aside.is_symlink():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                aside.unlink()
    return living


def lives(process: int) -> bool:
    """Whether there is such a process; yes where it can't be told."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True

"""Temporary folders: gone when left, and by the next one's maker where the process that made them was killed."""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from meshvae._files import lives

from .._errors import InputError

_NAME = re.compile(r"diverse3d-(\d{1,10})-\w+")


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """An empty folder of this process alone; raises `InputError` where there can't be one."""
    root = temporary_root()
    _clear_dead(root)
    try:
        folder = Path(tempfile.mkdtemp(prefix=f"diverse3d-{os.getpid()}-", dir=root))
    except OSError as error:
        raise _none(error) from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def temporary_root() -> Path:
    """Where the system keeps temporary files; raises `InputError` where there is no such place."""
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        raise _none(error) from None


def _none(error: OSError) -> InputError:
    reason = error.strerror or error
    return InputError(f"No temporary folder can be used ({reason}); name one that can be written to in TMPDIR.")


def _clear_dead(root: Path) -> None:
    """Remove this user's folders of processes that are no more."""
    with contextlib.suppress(OSError):
        for path in root.iterdir():
            found = _NAME.fullmatch(path.name)
            if found is None or lives(int(found[1])) or path.is_symlink():
                continue
            if not hasattr(os, "getuid") or path.stat().st_uid == os.getuid():
                shutil.rmtree(path, ignore_errors=True)

"""One process at a time in a folder: a lock that ends with the process, however that ends."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from .._errors import InputError

LOCK_NAME = ".lock"
"""The file that is locked; it goes with the last process that holds it alone."""


@contextlib.contextmanager
def locked(folder: Path, part: str = "") -> Iterator[None]:
    """Hold a folder alone, or as one of several `part`s, each of which one process may hold at a time.

    The folder is made if need be. Raises `InputError` where another process holds it or the part, and where the folder
    can't be written. Where the system has no such locks (Windows) there is none.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} can't be written ({error.strerror or error}); name another folder.") from error
    with contextlib.ExitStack() as held:
        held.enter_context(_held(folder, folder / LOCK_NAME, alone=not part))
        if part:
            held.enter_context(_held(folder, folder / f"{LOCK_NAME}-{part}", alone=True))
        yield


@contextlib.contextmanager
def _held(folder: Path, path: Path, *, alone: bool) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:
        yield
        return
    kind = (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB
    while True:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise InputError(f"{folder} can't be written ({error.strerror or error}); name another folder.") from error
        try:
            fcntl.flock(file, kind)
            if _is_still(path, file):  # else the one that held it has deleted it meanwhile
                break
        except BlockingIOError:
            os.close(file)
            raise InputError(
                f"{folder} is in use by another run; wait until it ends, or name another folder."
            ) from None
        except OSError as error:
            os.close(file)
            raise InputError(f"{folder} can't be locked ({error.strerror or error}); name another folder.") from error
        os.close(file)
    try:
        yield
    finally:
        if alone:
            with contextlib.suppress(OSError):
                path.unlink()
        os.close(file)


def _is_still(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False

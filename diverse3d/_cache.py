"""The user's own cache folder, and jax's compiled code in it: bounded, never shared, never needed."""

import contextlib
import os
import re
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path

_MOST_BYTES = 1 << 30
"""What compiled code may take; one run compiles some megabytes."""

_UNREADABLE = r"Error reading persistent compilation cache entry for '([\w.<>-]+)'"


def cache_folder() -> Path | None:
    """The user's cache folder for this program, made if need be; None where there can't be one.

    Nobody else may read or write it, and one that belongs to somebody else is not used. `DIVERSE3D_NO_CACHE=1` is a
    wish for none.
    """
    if os.environ.get("DIVERSE3D_NO_CACHE", "0") not in ("", "0"):
        return None
    try:
        return _own(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diverse3d")
    except (OSError, RuntimeError):  # read-only, somebody else's, or no home at all: everything works without
        return None


def compiled_folder() -> Path | None:
    """Where compiled code is kept, or None."""
    root = cache_folder()
    try:
        return None if root is None else _own(root / "compiled")
    except OSError:
        return None


def use_compilation_cache() -> None:
    """Have jax keep compiled code between processes, unless it was told where to (or not to) already."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" in os.environ or jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    folder = compiled_folder()
    if folder is None:
        return
    _forget_oldest(folder, _MOST_BYTES)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # Programs are kept however small: a run has hundreds.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@contextlib.contextmanager
def quiet_and_healing(*, quiet: bool) -> Iterator[None]:
    """Within, warnings are not shown if `quiet`, and an entry of the cache that jax can't read is deleted.

    jax never writes an entry anew that is there, however damaged (by a full disk, say): all later runs would compile
    it again. Deleted as soon as jax warns of it, it is written when it has been compiled.
    """
    with warnings.catch_warnings():
        if quiet:
            warnings.simplefilter("ignore")
        warnings.filterwarnings("always", message=_UNREADABLE)
        show = warnings.showwarning

        def heard(message: Warning | str, *rest: object, **more: object) -> None:
            if found := re.match(_UNREADABLE, str(message)):
                _forget(found[1])
            elif not quiet:
                show(message, *rest, **more)  # type: ignore[arg-type]

        warnings.showwarning = heard
        yield


def _forget(name: str) -> None:
    """Delete the entries of a program."""
    import jax

    folder = jax.config.values["jax_compilation_cache_dir"]
    for path in Path(folder).iterdir() if folder and Path(folder).is_dir() else []:
        if path.name.startswith(f"{name}-"):
            with contextlib.suppress(OSError):
                path.unlink()


def holds_compiled() -> bool:
    """Whether jax keeps compiled code between processes, and has some."""
    import jax

    folder = jax.config.values["jax_compilation_cache_dir"]
    return bool(folder) and Path(folder).is_dir() and next(Path(folder).iterdir(), None) is not None


def _own(folder: Path) -> Path:
    """The folder, made if need be, closed to others; raises `PermissionError` where it is somebody else's."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if hasattr(os, "getuid"):
        if found.st_uid != os.getuid():
            raise PermissionError(f"{folder} belongs to somebody else")
        if stat.S_IMODE(found.st_mode) & 0o077:
            folder.chmod(0o700)
    return folder


def _forget_oldest(folder: Path, most: int) -> None:
    """Delete empty files, and what was used longest ago until the files take at most so many bytes."""
    # jax could bound it itself, but with one more package and a lock around every reading.
    found = []
    for path in folder.iterdir():
        try:
            status = path.lstat()
        except OSError:  # another process was faster
            continue
        # An empty one is damaged (by a full disk), and jax never writes it anew: it comes first.
        age = max(status.st_atime, status.st_mtime) if status.st_size else 0.0
        found.append((age, status.st_size, path))
    left = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if size and left <= most:
            return
        try:
            path.unlink()
        except OSError:
            continue
        left -= size

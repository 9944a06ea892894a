"""Arrays and folders that are the same whenever their content is, and that appear whole or not at all."""

import contextlib
import io
import json
import math
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._errors import InputError

RECORD_NAME = "run.json"
"""The file that marks a folder as a result."""

_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """An .npz whose bytes depend on the arrays alone (`np.savez` stores the time of day)."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asarray(array, order="C"), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _ZIP_EPOCH), content.getvalue())
    return whole.getvalue()


def json_text(content: Any) -> str:
    """JSON that every reader takes: numbers that are not finite become null."""
    return json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, content: Any) -> None:
    """Write such JSON."""
    path.write_text(json_text(content), encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy's and jax's arrays and numbers
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


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

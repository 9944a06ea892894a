"""Whether what the package carries is what was shipped."""

import functools
import hashlib
import os
from pathlib import Path

from ._errors import InputError

ASSETS = Path(__file__).parent / "assets"
"""Where the package's own files lie."""

TABLE_NAME = "SHA256SUMS"
"""Their hashes, as `tools/hash_assets.py` writes them."""


def check_assets() -> None:
    """Raise `InputError` unless every file of the package is as it was shipped.

    Once a process, some hundredths of a second. `DIVERSE3D_OWN_ASSETS=1` is for who makes such files: then it is not
    looked at them.
    """
    if os.environ.get("DIVERSE3D_OWN_ASSETS", "0") in ("", "0"):
        _check(ASSETS)


@functools.cache
def _check(folder: Path) -> None:
    try:
        rows = [line.split("  ", 1) for line in (folder / TABLE_NAME).read_text(encoding="utf-8").splitlines()]
        wrong = [name for digest, name in rows if _sha256(folder / name) != digest]
    except (OSError, ValueError) as error:
        raise InputError(f"A file of the package is missing or damaged ({error}); reinstall diverse3d.") from None
    if wrong:
        raise InputError(f"{folder / wrong[0]} is not as it was shipped; reinstall diverse3d.")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Which head a file or folder is, by what is in it: nothing of it is opened but a few bytes and names."""

from pathlib import Path
from typing import Literal

from .._errors import InputError
from .gnm._validate import MAIN_KEYS
from .ict._read import MAIN_FOLDER, NEUTRAL

_DIRECTORY_BYTES = 1 << 20


def recognise(path: Path) -> Literal["flame", "gnm", "ict"]:
    """`gnm` for an .npz with GNM's names, `ict` for ICT-FaceKit's folder, `flame` for any other file.

    Raises `InputError` where there is nothing, or a folder of something else.
    """
    if path.is_dir():
        if (path / NEUTRAL).is_file() or (path / MAIN_FOLDER).is_dir():
            return "ict"
        if path.name == MAIN_FOLDER or any(path.glob("identity*.obj")):
            return "ict"
        npz = next(iter(sorted(path.glob("**/gnm_head.npz"))), None) if (path / "v3_0").is_dir() else None
        hint = f"; GNM's file is {npz}" if npz else ""
        raise InputError(
            f"{path} is a folder without {MAIN_FOLDER}/{NEUTRAL}, so it is not ICT-FaceKit's; of FLAME and GNM give "
            f"the file itself{hint}."
        )
    if not path.is_file():
        raise InputError(f"There is no file or folder {path}.")
    if path.suffix.lower() == ".obj":
        raise InputError(f"{path} is one mesh, which makes no head; give ICT-FaceKit's folder, FLAME's or GNM's file.")
    with path.open("rb") as file:
        if file.read(2) == b"PK":
            # The names of a .npz file's arrays stand at its end.
            file.seek(max(path.stat().st_size - _DIRECTORY_BYTES, 0))
            names = file.read(_DIRECTORY_BYTES)
            if any(key.encode() in names for key in MAIN_KEYS):
                return "gnm"
    return "flame"

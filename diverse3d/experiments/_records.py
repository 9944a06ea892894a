"""Records of a run on disk, a file a head, so that an interrupted run goes on."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import meshvae

from .._errors import InputError
from ..files import read_json, whole_file
from ..head import HeadModel
from ._cells import Record

_ROOT = Path(__file__).parents[1]
_MADE_BY = (
    *(
        _ROOT / name
        for name in ("surface", "head", "observe", "fit", "diversify", "metrics", "_methods.py", "_optimise.py")
    ),
    *(_ROOT / "assets" / f"{name}.safetensors" for name in ("noise", "population", "masked", "residual")),
    *(Path(__file__).with_name(name) for name in ("_cells.py", "_extras.py", "_subjects.py")),
    Path(meshvae.__file__).parent,
)
"""What the numbers depend on, besides the head."""


def fingerprint(head: HeadModel) -> str:
    """Hash of the head, the shipped data and weights, and the source that the numbers come from."""
    digest = hashlib.sha256(head.sha256.encode())
    for room in _MADE_BY:
        for path in sorted(room.rglob("*.py")) if room.is_dir() else [room] * room.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


class RecordStore:
    """Records of heads, kept while the code, the head and the settings that made them stay the same.

    `settings` are those that a record does not name.
    """

    def __init__(self, folder: Path, head: HeadModel, settings: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.fingerprint = hashlib.sha256(f"{fingerprint(head)} {settings}".encode()).hexdigest()

    def load(self, index: int) -> list[Record]:
        """What is known of a head; nothing where other code, another head or other settings made it."""
        path = self._path(index)
        if not path.is_file():
            return []
        stored = read_json(path)
        if not isinstance(stored, dict) or stored.get("fingerprint") != self.fingerprint:
            return []
        try:
            return [_record(entry) for entry in stored["records"]]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} is damaged; delete it, and the head is measured again.") from error

    def save(self, index: int, fresh: Sequence[Record]) -> None:
        """Add records of a head to those on disk, in one step: a run that is killed leaves no half file."""
        records = [record._asdict() for record in [*self.load(index), *fresh]]
        path = self._path(index)
        with whole_file(path) as aside:
            aside.write_text(json.dumps({"fingerprint": self.fingerprint, "records": records}, allow_nan=False))

    def _path(self, index: int) -> Path:
        return self.folder / f"head-{index:04d}.json"


def _record(entry: dict[str, Any]) -> Record:
    knobs = tuple((str(name), float(value)) for name, value in entry["knobs"])
    return Record(**{**entry, "knobs": knobs})

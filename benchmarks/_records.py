"""Records of a quality run on disk, a file a head, so that an interrupted run goes on."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import diverse3d
from diverse3d.head import HeadModel

from ._cells import Record

ROOMS = ("head", "observe", "fit", "diversify", "metrics", "assets/noise.safetensors", "raster.py", "_optimise.py")
"""What the numbers depend on, besides the head."""


def fingerprint(head: HeadModel) -> str:
    """Hash of the head, the learnt noise and the source that the numbers come from."""
    digest = hashlib.sha256(head.sha256.encode())
    root = Path(diverse3d.__file__).parent
    for room in (*(root / name for name in ROOMS), Path(__file__).with_name("_cells.py")):
        for path in sorted(room.rglob("*.py")) if room.is_dir() else [room] * room.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


class RecordStore:
    """Records of heads, kept while the code and the head that made them stay the same."""

    def __init__(self, folder: Path, head: HeadModel) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.fingerprint = folder, fingerprint(head)

    def load(self, index: int) -> list[Record]:
        """What is known of a head; nothing where other code or another head made it."""
        path = self._path(index)
        if not path.is_file():
            return []
        stored = json.loads(path.read_text())
        if stored["fingerprint"] != self.fingerprint:
            return []
        return [Record(**record) for record in stored["records"]]

    def save(self, index: int, fresh: Sequence[Record]) -> None:
        """Add records of a head to those on disk, in one step: a run that is killed leaves no half file."""
        records = [record._asdict() for record in [*self.load(index), *fresh]]
        path = self._path(index)
        unfinished = path.with_suffix(".part")
        unfinished.write_text(json.dumps({"fingerprint": self.fingerprint, "records": records}))
        unfinished.replace(path)

    def _path(self, index: int) -> Path:
        return self.folder / f"head-{index:04d}.json"

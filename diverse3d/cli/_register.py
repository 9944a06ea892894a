"""The command `register`: raw scans in the head's topology."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from .._errors import InputError
from ._options import Common, OptionalFile
from ._progress import Reporter


@dataclasses.dataclass(frozen=True, kw_only=True)
class Register(Common):
    """A raw scan in the head's topology, with residuals and a verdict; or all scans of a folder."""

    input: Positional[Path]
    """A scan of a face: a mesh of any topology or a point cloud (.ply, .obj, .off, .stl, .glb, .gltf with its data
    embedded); or a folder of such files, each of which gets a folder of its own, for `train --data`."""
    out: Path
    """Folder to write: it must be new, empty, or replaced with --force."""
    landmarks: OptionalFile = None
    """Landmarks, where the face isn't found: names or iBUG's numbers and three coordinates each, as JSON, text, .npy
    or MeshLab's .pp."""
    unit: Annotated[str | None, arg(metavar="UNIT")] = None
    """Unit of the scan: m, dm, cm, mm or inch; recognised by the face's size if not given."""
    head: OptionalFile = None
    """Head file; the embedded head if not given."""
    force: bool = False
    """Replace the registration that the output folder already holds."""

    def run(self) -> int:
        """Read, register, write."""
        from ..files import MESH_SUFFIXES
        from ..head import load_head

        self.check_paths()
        if not self.input.is_dir():
            reporter = Reporter(self, ("head", "observe", "write"))
            with reporter.shown():
                head = load_head(self.head)
                verdict, notes = self._one(self.input, self.out, head)
            if not self.quiet:
                for note in notes:
                    print(note, file=sys.stderr)
                print(f"{verdict}: the registered head is in {self.out}; look at {self.out / 'registration.png'}")
            return 0
        scans = sorted(path for path in self.input.iterdir() if path.suffix.lower() in MESH_SUFFIXES)
        if not scans:
            raise InputError(f"{self.input} holds no scan ({', '.join(MESH_SUFFIXES)}).")
        if self.landmarks is not None:
            raise InputError("--landmarks is of one scan; give that scan instead of a folder.")
        head, refused = load_head(self.head), 0
        for number, path in enumerate(scans):
            target = self.out / path.stem
            try:
                if target.exists() and not self.force:
                    text = "is there already"
                else:
                    verdict, _ = self._one(path, target, head)
                    text = verdict
            except InputError as error:
                refused, text = refused + 1, f"refused: {error}"
            if not self.quiet:
                print(f"{number + 1} of {len(scans)}: {path.name}: {text}", file=sys.stderr)
        if refused == len(scans):
            raise InputError(f"None of the {len(scans)} scans in {self.input} could be registered.")
        if not self.quiet:
            print(f"{len(scans) - refused} of {len(scans)} scans are registered in {self.out}")
        return 0

    def check_paths(self) -> None:
        """Refuse what can be refused by looking at names alone: raises `InputError`."""
        from ..files import check_target, check_there

        needed = (self.input, self.landmarks, self.head)
        if not self.input.is_dir():
            check_target(self.out, force=self.force, needed=needed)
        for path in needed:
            if path is not None and not path.is_dir():
                check_there(path)

    def _one(self, path: Path, out: Path, head: "object") -> tuple[str, list[str]]:
        from .. import _api, show
        from ..head import HeadModel

        assert isinstance(head, HeadModel)
        show.check_target(out, force=self.force)
        seen = _api.observe_scan(path, head=head, landmarks=self.landmarks, unit=self.unit)
        show.save_registration(seen, head, out, force=self.force)
        return seen.registration.verdict, show.scan_notes(seen.registration)

"""The command `export`: the heads of a result for other programs."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from .._errors import InputError, spelt_out
from .._names import EXPORT_FORMATS, EXPORT_RECORD_NAME, EXPORT_UNITS_M
from ._options import Common


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export(Common):
    """The heads of a result as GLB, PLY, OBJ, STL or npz for other programs, vertex for vertex. Nothing is random."""

    folder: Positional[Annotated[Path, arg(metavar="DIR")]]
    """Folder that complete, demo, fit, register or interpolate wrote."""
    format: Literal[EXPORT_FORMATS]
    """glb, ply (colours, uncertainty), obj (with .mtl and .png), stl (triangles with corners of their own), npz."""
    out: Path
    """Folder to write: it must be new, empty, or replaced with --force."""
    only: tuple[int, ...] = ()
    """Numbers of some heads, as 0 3 7; all, and the fit, if not given."""
    unit: Literal[tuple(EXPORT_UNITS_M)] | None = None
    """Unit of the files; metres if not given, but millimetres for STL."""
    closed: bool = False
    """Close the neck of STL files, for printing."""
    force: bool = False
    """Replace the exported heads that the output folder already holds."""

    def run(self) -> int:
        """Read, write."""
        from .. import show

        names, shapes = show.stored_shapes(self.folder, self.only)
        show.export(
            shapes, self.out, self.format, unit=self.unit, closed=self.closed, force=self.force,
            facts=show.source_facts(self.folder),
        )  # fmt: skip
        if not self.quiet:
            heads = "1 head" if len(names) == 1 else f"{len(names)} heads"
            print(f"{heads} as {self.format.upper()} in {spelt_out(str(self.out))}")
        return 0

    def check_paths(self) -> None:
        """Refuse what can be refused by looking at names alone: raises `InputError`."""
        from ..files import check_target

        if not self.folder.is_dir():
            raise InputError(f"There is no folder {self.folder}.")
        check_target(self.out, force=self.force, record=EXPORT_RECORD_NAME, needed=(self.folder,))

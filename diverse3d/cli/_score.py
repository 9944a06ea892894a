"""The command `score`: the completions of any tool, ours too, measured by the same code."""

import dataclasses
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from .._errors import InputError, spelt_out
from ._options import Common, OptionalFile
from ._progress import Reporter

if TYPE_CHECKING:
    import numpy as np

    from ..head import HeadModel
    from ._score_files import Given

_FAR_MM = 20.0
"""A visible error beyond this is another frame, and no completion's."""

_FEWEST_FOR_COVERAGE = 9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score(Common):
    """Measure the completions of any tool, in the head's topology: diversity, errors, calibration, plausibility.

    Nothing is random, and nothing is aligned: all meshes must lie in one frame."""

    folder: Positional[Annotated[Path, arg(metavar="DIR")]]
    """A result's folder, or one with completions as .ply, .obj, .off, .glb, .gltf, .stl (as exported) or .npz
    (`vertices` [N,V,3]); metres to millimetres."""
    truth: OptionalFile = None
    """The true head (a mesh); without it, what needs no truth is measured."""
    visible: OptionalFile = None
    """What is visible: .npy or .npz with a true or false a vertex (also a result's completions.npz), or text with the
    indices of visible vertices; a result's own if not given."""
    held: OptionalFile = None
    """Mesh that the completions should agree with where visible; a result's own, or the truth, if not given."""
    head: OptionalFile = None
    """Head file; the embedded head if not given."""
    out: OptionalFile = None
    """JSON file to write."""
    force: bool = False
    """Replace the file that is there."""

    def run(self) -> int:
        """Read, measure, show, write."""
        from ..files import write_json
        from ..head import load_head
        from ..metrics import LEVELS, calibration_card, reading_of, report, ruler_of
        from ..show import Stages
        from ._score_files import read_given, read_head_mesh, read_visible

        self.check_paths()
        reporter = Reporter(self, ("head", "read", "measure"))
        stages = Stages(reporter)
        with reporter.shown():
            with stages("head"):
                head = load_head(self.head)
            with stages("read"):
                given = read_given(self.folder, head)
                visible = given.visible if self.visible is None else read_visible(self.visible, head)
                if visible is None:
                    raise InputError(f"{self.folder} does not say what is visible; give it with --visible.")
                truth = None if self.truth is None else read_head_mesh(self.truth, head)
                held = given.held if self.held is None else read_head_mesh(self.held, head)
            with stages("measure"):
                ruler = ruler_of(head)
                reference = given.fit if truth is None else truth
                facing = _facing(given, reference, head)
                values = report(
                    given.vertices, visible, ruler, held=held, truth=truth, reference=reference, facing=facing
                )
                hidden = ~visible
                card = {} if truth is None else calibration_card(given.vertices, truth, hidden, ruler.regions)
        notes = _notes(given, values, visible, truth is not None)
        if not self.quiet:
            _print(self.folder, values, card)
            for note in notes:
                print(note, file=sys.stderr)
        if self.out is not None:
            facts = {
                "folder": spelt_out(self.folder.name),
                "unit": given.unit,
                "head": {"name": head.name, "sha256": head.sha256 or None},
                "truth": None if self.truth is None else spelt_out(self.truth.name),
                "visible_vertices": int(visible.sum()),
                "hidden_vertices": int(hidden.sum()),
            }
            percent = {name: 100.0 * shares for name, shares in card.items()}
            calibration = {"nominal": [100.0 * level for level in LEVELS], "observed": percent, "unit": "%"}
            units = {name: reading_of(name).unit for name in values}
            content = {
                **values,
                "units": units,
                "calibration": calibration if card else None,
                "set": facts,
                "notes": notes,
            }
            write_json(self.out, content)
        return 0

    def check_paths(self) -> None:
        """Refuse what can be refused at once: raises `InputError`."""
        from ..files import check_there

        if not self.folder.is_dir():
            raise InputError(f"There is no folder {self.folder}.")
        for path in (self.truth, self.visible, self.held, self.head):
            if path is not None:
                check_there(path)
        if self.out is not None:
            if self.out.is_dir() or not self.out.parent.is_dir():
                raise InputError(f"{self.out} can't be written: name a file in a folder that exists.")
            if self.out.exists() and not self.force:
                raise InputError(f"{self.out} exists; name another file, or replace it with --force.")


def _facing(given: "Given", reference: "np.ndarray | None", head: "HeadModel") -> "np.ndarray":
    """Vertices that face the camera: a photo's own, else one in front of the face."""
    import jax.numpy as jnp
    import numpy as np

    from ..surface import facing_camera, kabsch

    shape = given.vertices.astype(np.float64).mean(0) if reference is None else np.asarray(reference, np.float64)
    if not given.from_photo:
        mean = np.asarray(head.shaped(head.prior_mean), np.float64)
        turn, shift = kabsch(mean, shape)
        shape = (shape - shift) @ turn
    return facing_camera(jnp.asarray(shape, head.dtype), head.faces)


def _notes(given: "Given", values: dict[str, float], visible: "np.ndarray", has_truth: bool) -> list[str]:
    """What to know before reading the figures, one sentence each."""
    notes = []
    if given.unit != "metres":
        notes.append(f"The meshes are in {given.unit}, by their size.")
    count = len(given.vertices)
    if count == 1:
        notes.append("A single mesh has no spread: ASD-V and ASD-O are 0, and APD, TMD and coverage are not defined.")
    elif has_truth and count < _FEWEST_FOR_COVERAGE:
        notes.append(f"Coverage of 90 % is not defined for {count} meshes; it takes {_FEWEST_FOR_COVERAGE}.")
    if visible.all():
        notes.append("Nothing is hidden: what is measured over hidden vertices is not defined.")
    if not visible.any():
        notes.append("Nothing is visible: what is measured over visible vertices is not defined.")
    if not has_truth:
        notes.append("Without --truth the errors against it, the energy score and the coverage are left out.")
    if values.get("visible_error", 0.0) > _FAR_MM:
        notes.append(
            f"The meshes lie {values['visible_error']:.0f} mm from what is visible: are they in the same frame? "
            "Nothing is aligned."
        )
    return notes


def _print(folder: Path, values: dict[str, float], card: "dict[str, np.ndarray]") -> None:
    from rich.console import Console
    from rich.table import Table

    from ..metrics import LEVELS, reading_of

    console = Console()
    table = Table("metric", "value", "unit", "better", title=f"{spelt_out(str(folder))}: {values['n']:.0f} completions")
    for name, value in values.items():
        if "/" not in name and name != "n":
            reading = reading_of(name)
            table.add_row(reading.title, _number(value, 3), reading.unit, reading.better)
    console.print(table)
    if card:
        title = "Calibration: % of hidden coordinates inside the samples' central interval of nominal content"
        observed = Table("region", *(f"{100 * level:.0f}" for level in LEVELS), title=title)
        for name, shares in card.items():
            observed.add_row(name, *(_number(100.0 * share, 0) for share in shares))
        console.print(observed)


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"

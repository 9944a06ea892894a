"""The command `train`."""

import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from .._errors import InputError
from ._options import Common, OptionalFile

if TYPE_CHECKING:
    import meshvae


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train(Common):
    """Train a head's mesh VAE: the masked one of the published method, or the residual one beside the closed form."""

    out: Path
    """Folder to write: checkpoints, curves, and in the end weights.safetensors."""
    model: Literal["masked", "residual", "components"] = "masked"
    """What to train: whole heads from masked ones; or what the closed form leaves over, on the mesh or as coefficients
    (`components`, a small network, for which the preset says nothing)."""
    preset: Literal["small", "small-spiral", "full"] = "small"
    """Size: small trains on two CPU cores, full is the paper's."""
    head: OptionalFile = None
    """Head file; the embedded head if not given."""
    data: Annotated[Path | None, arg(metavar="DIR")] = None
    """Folder of registered meshes (.npz, .npy, .ply, .obj; CoMA's layout); samples of the head if not given."""
    split_by: Literal["subject", "expression"] = "subject"
    """What the held-back meshes of a folder share with no other."""
    steps: int = 20_000
    """Optimiser steps."""
    batch: int = 16
    """Heads a step."""
    learning_rate: float = 1e-3
    """Of AdamW, after a warm-up and down a cosine."""
    energy_samples: int = 4
    """Samples a head that the residual model's energy score is estimated from (2 or more)."""
    views: int = 256
    """Occluder masks to train with, a setting."""
    validate_every: int = 500
    """Steps between validations, each with a checkpoint."""
    half: bool = False
    """Store the weights in half precision."""
    resume: bool = False
    """Go on from the newest checkpoint in the output folder."""
    start: OptionalFile = None
    """Trained weights to start from, of a mesh model for a head with the same triangles, whose sizes and pooling levels
    are kept; random ones if not given."""

    @property
    def left(self) -> str:
        """What an interrupted run leaves."""
        if self.out.is_dir() and any(self.out.iterdir()):
            return f"the checkpoints in {self.out} stay, and the same command goes on from the newest with --resume"
        return "nothing was written"

    def run(self) -> int:
        """Train; a run that is stopped goes on with --resume, bit for bit as if it had not been."""
        import meshvae

        from ..diversify import ComponentConfig
        from ..head import load_head
        from ..learn import folder_data, head_data, population_data, start_from, train_components, train_head

        if self.out.exists() and not self.out.is_dir():
            raise InputError(f"{self.out} is a file; name a folder.")
        if (self.out / "weights.safetensors").exists() and not self.resume:
            raise InputError(f"{self.out} holds trained weights already; name another folder.")
        if self.views < 8:
            raise InputError(f"--views {self.views} is too few; an eighth is held back, so give 8 or more.")
        if self.start is not None and self.model == "components":
            raise InputError("--start is for mesh models; the component model starts anew, since components change.")
        head = load_head(self.head)
        validation = 4 * self.batch
        try:
            if self.data is not None:
                data = folder_data(head, self.data, by=self.split_by)
            elif self.head is None:
                data = population_data(head, validation=validation)
            else:
                data = head_data(head, validation=validation)
            config = meshvae.TrainConfig(
                steps=self.steps,
                batch=self.batch,
                learning_rate=self.learning_rate,
                energy_samples=self.energy_samples,
                validate_every=self.validate_every,
                seed=self.seed,
            )
            preset = self.preset if self.model == "masked" else f"{self.preset}-residual"
            with _shown(self.steps, quiet=self.quiet) as (report, progress):
                options: dict[str, Any] = {
                    "out": self.out, "views": self.views, "resume": self.resume, "half": self.half,
                    "report": report, "progress": progress,
                }  # fmt: skip
                if self.model == "components":
                    digest = train_components(head, data, ComponentConfig(), config, **options)
                else:
                    start = None if self.start is None else start_from(self.start, head, self.model)
                    network = meshvae.PRESETS[preset]
                    digest = train_head(head, data, network, config, start=start, **options).sha256
        except OSError as error:
            raise InputError(f"{self.out} can't be written ({error.strerror or error}).") from error
        if not self.quiet:
            print(f"{self.out / 'weights.safetensors'}  {digest}")
        return 0


@contextmanager
def _shown(steps: int, *, quiet: bool) -> Iterator[tuple[Callable[[str], None], Callable[["meshvae.Progress"], None]]]:
    """Two functions that show what they are told: a text, and the progress of training with the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if quiet:
        yield (lambda text: None), (lambda progress: None)
        return
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
    if not console.is_terminal:
        yield say, lambda at: say(_line(at))
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("preparing", total=steps)

        def advance(at: "meshvae.Progress") -> None:
            bar.update(task, completed=at.step, description=_line(at))

        yield (lambda text: bar.update(task, description=text)), advance


def _line(at: "meshvae.Progress") -> str:
    loss, hidden = at.figures["loss"], at.figures["hidden_rms"]
    return f"step {at.step} of {at.steps}: loss {loss:.4g}, hidden {hidden:.4g}; {at.seconds_left:.0f} s left"

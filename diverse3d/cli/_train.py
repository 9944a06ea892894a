"""The command `train`."""

import sys
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from .._errors import InputError
from ..head import load_head
from ._commands import Train
from ._progress import use_compilation_cache

if TYPE_CHECKING:
    import meshvae


def run_train(command: Train) -> int:
    """Train; a run that is stopped goes on with --resume, bit for bit as if it had not been."""
    import meshvae

    from ..diversify import ComponentConfig
    from ..learn import folder_data, head_data, population_data, train_components, train_head

    use_compilation_cache()
    if command.out.exists() and not command.out.is_dir():
        raise InputError(f"{command.out} is a file; name a folder.")
    if (command.out / "weights.safetensors").exists() and not command.resume:
        raise InputError(f"{command.out} holds trained weights already; name another folder.")
    if command.views < 8:
        raise InputError(f"--views {command.views} is too few; an eighth is held back, so give 8 or more.")
    head = load_head(command.head)
    validation = 4 * command.batch
    try:
        if command.data is not None:
            data = folder_data(head, command.data, by=command.split_by)
        elif command.head is None:
            data = population_data(head, validation=validation)
        else:
            data = head_data(head, validation=validation)
        config = meshvae.TrainConfig(
            steps=command.steps,
            batch=command.batch,
            learning_rate=command.learning_rate,
            energy_samples=command.energy_samples,
            validate_every=command.validate_every,
            seed=command.seed,
        )
        preset = command.preset if command.model == "masked" else f"{command.preset}-residual"
        with _shown(command.steps, quiet=command.quiet) as (report, progress):
            options: dict[str, Any] = {
                "out": command.out, "views": command.views, "resume": command.resume, "half": command.half,
                "report": report, "progress": progress,
            }  # fmt: skip
            if command.model == "components":
                digest = train_components(head, data, ComponentConfig(), config, **options)
            else:
                digest = train_head(head, data, meshvae.PRESETS[preset], config, **options).sha256
    except OSError as error:
        raise InputError(f"{command.out} can't be written ({error.strerror or error}).") from error
    if not command.quiet:
        print(f"{command.out / 'weights.safetensors'}  {digest}")
    return 0


@contextmanager
def _shown(steps: int, *, quiet: bool):
    """Two functions that show what they are told: a text, and the progress of training with the time left."""
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

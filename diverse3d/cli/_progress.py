"""Progress on stderr, with the time left."""

import contextlib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .. import __version__
from .._cache import holds_compiled
from ._console import say
from ._estimate import Estimate, LastRuns, kind_of

if TYPE_CHECKING:
    from rich.progress import Progress

_LABELS = {
    "head": "reading the head",
    "observe": "looking at the input",
    "prepare": "preparing the head",
    "fit": "fitting what is visible",
    "complete": "completing what is hidden",
    "interpolate": "walking from one to the other",
    "render": "drawing the heads",
    "read": "reading the meshes",
    "measure": "measuring",
    "draw": "drawing the contact sheet",
    "write": "writing files",
}


class Reporter:
    """Hears the stages of a command's run, and says each one with the time left."""

    def __init__(self, command: Any, stages: tuple[str, ...]) -> None:
        import jax

        self._quiet: bool = command.quiet
        self._runs = LastRuns(
            kind_of(command), compiled=holds_compiled(), version=f"{__version__}, jax {jax.__version__}"
        )
        expected, known = self._runs.expected(stages)
        self._total = math.fsum(expected.values())
        self._estimate = Estimate(expected, known=known)
        self._bar: Progress | None = None

    def __call__(self, name: str) -> None:
        """A stage starts."""
        if not self._estimate.start(name):
            return
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=_LABELS[name], completed=self._estimate.done)
        elif not self._quiet:
            left = self._left()
            say(f"{_LABELS[name]} ({left})" if left else _LABELS[name])

    def _left(self) -> str:
        left = self._estimate.left()
        return "" if left is None else f"about {left:.0f} s left"

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Show a bar while inside, if stderr is a terminal, else one line a stage; a run that ends well is a lesson."""
        with self._shown():
            yield
        self._estimate.start(None)
        self._runs.keep(self._estimate.taken)

    @contextlib.contextmanager
    def _shown(self) -> Iterator[None]:
        if self._quiet:
            yield
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.text import Text

        console = Console(stderr=True)
        if not console.is_terminal:
            yield
            return

        class SecondsLeft(ProgressColumn):
            def render(column, task: object) -> Text:
                return Text(self._left())

        columns = (SpinnerColumn(), TextColumn("{task.description:<26}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, SecondsLeft(), console=console, transient=True) as self._bar:
            self._bar.add_task("starting", total=self._total)
            yield

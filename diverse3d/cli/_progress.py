"""Progress on stderr, with the time left."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

TYPICAL_SECONDS = {
    "head": 1.0,
    "observe": 1.5,
    "prepare": 3.0,
    "fit": 14.0,
    "complete": 6.0,
    "interpolate": 8.0,
    "render": 8.0,
    "read": 1.0,
    "measure": 8.0,
    "draw": 12.0,
    "write": 2.0,
}
"""What each stage takes on two cores of a small machine when nothing is compiled yet, in the order they run."""

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
    """Hears the stages of a run and estimates the rest: typical times, scaled by how this machine has fared so far."""

    def __init__(self, stages: tuple[str, ...], *, quiet: bool) -> None:
        self._left = list(stages)
        self._total = sum(TYPICAL_SECONDS[name] for name in stages)
        self._now: str | None = None
        self._start = self._since = time.monotonic()
        self._expected = 0.0
        self._quiet = quiet
        self._bar: Progress | None = None

    def __call__(self, name: str) -> None:
        """A stage starts."""
        now = time.monotonic()
        if self._now is not None:
            self._expected += TYPICAL_SECONDS[self._now]
        self._now, self._since = name, now
        self._left = self._left[self._left.index(name) + 1 :] if name in self._left else self._left
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=_LABELS[name], completed=self._expected)
        elif not self._quiet:
            print(f"{_LABELS[name]} (about {self.seconds_left():.0f} s left)", file=sys.stderr, flush=True)

    def seconds_left(self) -> float:
        """Estimate of the seconds to go."""
        pace = 1.0
        if self._expected > 0:
            pace = min(max((self._since - self._start) / self._expected, 0.2), 5.0)
        current = TYPICAL_SECONDS[self._now] if self._now is not None else 0.0
        in_stage = max(pace * current - (time.monotonic() - self._since), 0.0)
        return in_stage + pace * sum(TYPICAL_SECONDS[name] for name in self._left)

    @contextlib.contextmanager
    def shown(self) -> Iterator["Reporter"]:
        """Show a bar while inside, if stderr is a terminal; else one line a stage."""
        if self._quiet:
            yield self
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.text import Text

        console = Console(stderr=True)
        if not console.is_terminal:
            yield self
            return

        class SecondsLeft(ProgressColumn):
            def render(column, task: object) -> Text:
                return Text(f"about {self.seconds_left():.0f} s left")

        columns = (SpinnerColumn(), TextColumn("{task.description:<26}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, SecondsLeft(), console=console, transient=True) as self._bar:
            self._bar.add_task("starting", total=self._total)
            yield self

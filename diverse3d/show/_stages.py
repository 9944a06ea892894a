"""Where the time of a run goes: wall-clock seconds a stage, with jax's compilation counted apart."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Mapping

import jax

COMPILE = "compile"
"""Key of the seconds spent tracing and compiling, which no stage's own seconds contain."""

Listener = Callable[[str], None]

_Interval = tuple[float, float]


class Stages:
    """A stopwatch of named stages that run one after the other; `listener` hears each one's name as it starts.

    `seconds` carries on from an earlier stopwatch's.
    """

    def __init__(self, listener: Listener | None = None, *, seconds: Mapping[str, float] | None = None) -> None:
        self._listener = listener
        self._seconds = dict(seconds or {})
        self._compile = self._seconds.pop(COMPILE, 0.0)

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time a stage. Wait for its arrays inside (`jax.block_until_ready`), or the next stage pays for them."""
        if self._listener is not None:
            self._listener(name)
        events = _compile_events()
        events.clear()
        start = time.perf_counter()
        yield
        total = time.perf_counter() - start
        compiling = min(_covered(events), total)
        self._seconds[name] = self._seconds.get(name, 0.0) + total - compiling
        self._compile += compiling

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of every stage so far and, under `COMPILE`, of all compilation; they sum to the whole."""
        table = {**self._seconds, COMPILE: self._compile}
        return {name: round(value, 3) for name, value in table.items()}


@functools.cache
def _compile_events() -> list[_Interval]:
    """The list into which jax's tracing, lowering and compiling report when they ran."""
    events: list[_Interval] = []

    def note(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event.startswith("/jax/core/compile/"):
            end = time.perf_counter()
            events.append((end - duration_secs, end))

    jax.monitoring.register_event_duration_secs_listener(note)
    return events


def _covered(intervals: list[_Interval]) -> float:
    """Length of the union: a function traced inside another one reports both times."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(end - max(start, reached), 0.0)
        reached = max(reached, end)
    return total

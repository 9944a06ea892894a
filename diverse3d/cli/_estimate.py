"""How long a run still takes: judged by the user's own last runs, the first time by what is typical."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .._cache import cache_folder
from .._errors import InputError

TYPICAL_SECONDS = {
    "head": (0.7, 0.5),
    "observe": (0.3, 0.2),
    "prepare": (2.5, 1.0),
    "fit": (27.0, 8.0),
    "complete": (9.0, 4.0),
    "interpolate": (8.0, 4.0),
    "render": (8.0, 4.0),
    "read": (1.0, 1.0),
    "measure": (8.0, 4.0),
    "draw": (6.0, 4.0),
    "write": (1.0, 1.0),
}
"""What each stage takes on two cores of a small machine when nothing is compiled yet, and when all is."""

_KINDS = 32
_TRUST = 0.1
"""How much of a whole run the first stages weigh against, where its length is known from earlier runs."""
_GROWTH, _GROWTH_SECONDS = 1.5, 2.0
"""The estimate grows at most by this factor from one look to the next, and no faster than in these seconds."""
_NOT_LISTED = ("seed", "quiet", "force", "out", "i", "j")


class Estimate:
    """The seconds left of stages that run one after the other, each expected to take some.

    The pace of the stages so far tells how the rest will fare. Where nothing is `known` of the machine, there is no
    estimate before the first stage has ended. It may fall as it likes, but grows by no more than half at a time.
    """

    def __init__(
        self, expected: Mapping[str, float], *, known: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.taken: dict[str, float] = {}
        """Seconds of each stage that has ended."""
        self._expected, self._known, self._clock = dict(expected), known, clock
        self._left = list(expected)
        self._now: str | None = None
        self._since = clock()
        self._last: tuple[float, float] | None = None

    @property
    def done(self) -> float:
        """Expected seconds of the stages that have ended."""
        return math.fsum(self._expected.get(name, 0.0) for name in self.taken)

    def start(self, name: str | None) -> bool:
        """The stage before ends and another one starts (None: nothing more does); False if it is the same one still."""
        if name == self._now:
            return False
        now = self._clock()
        if self._now is not None:
            self.taken[self._now] = self.taken.get(self._now, 0.0) + now - self._since
        self._now, self._since = name, now
        if name in self._left:
            self._left = self._left[self._left.index(name) + 1 :]
        return True

    def left(self) -> float | None:
        """Seconds to go, or None where that can't be told yet."""
        now, raw = self._clock(), self._raw()
        if raw is None:
            return None
        if self._last is not None:
            at, said = self._last
            raw = min(raw, max(said, 1.0) * _GROWTH ** min(1.0, (now - at) / _GROWTH_SECONDS))
        self._last = now, raw
        return raw

    def _raw(self) -> float | None:
        trust = _TRUST * math.fsum(self._expected.values()) if self._known else 0.0
        done, taken = self.done + trust, math.fsum(self.taken.values()) + trust
        stage = 0.0 if self._now is None else self._expected.get(self._now, 0.0)
        elapsed = self._clock() - self._since
        if done == 0.0:
            return None
        # A stage that takes longer than it should tells of the pace before it ends.
        pace = max(taken / done, (taken + elapsed) / (done + stage) if stage else 0.0)
        in_stage = 0.0 if self._now is None else max(pace * stage - elapsed, elapsed / 5.0)
        return in_stage + pace * math.fsum(self._expected[name] for name in self._left)


class LastRuns:
    """Seconds of each stage in the last runs of each kind of run, kept in the user's cache folder.

    A run whose code is `compiled` already, by an earlier run of its kind and this `version`, is another thing than one
    that compiles it, and remembered apart. What can't be read or written is as if nothing had been kept.
    """

    def __init__(self, kind: str, *, compiled: bool, version: str) -> None:
        self._kind, self._version = kind, version
        self._file = None if (folder := cache_folder()) is None else folder / "seconds.json"
        self._kinds = _read(self._file)
        own = self._kinds.get(kind, {})
        self._state = "warm" if compiled and own.get("version") == version else "cold"

    def expected(self, stages: Iterable[str]) -> tuple[dict[str, float], bool]:
        """What each stage is expected to take, and whether earlier runs say so."""
        own = self._kinds.get(self._kind, {})
        # The stages of other kinds of runs are much the same, and compiled by them.
        others = [(run, "warm") for run in reversed(self._kinds.values()) if run.get("version") == self._version]
        runs = [(own, self._state), *others]
        expected = {name: next(filter(None, (_seconds(*run, name) for run in runs)), None) for name in stages}
        typical = {name: TYPICAL_SECONDS[name][self._state == "warm"] for name in expected}
        known = any(value is not None for value in expected.values())
        return {name: typical[name] if value is None else value for name, value in expected.items()}, known

    def keep(self, taken: Mapping[str, float]) -> None:
        """Remember a run that has ended well."""
        from ..files import write_json

        own = self._kinds.pop(self._kind, {})
        seconds = {name: round(max(value, 0.001), 3) for name, value in taken.items()}
        self._kinds[self._kind] = {**own, "version": self._version, self._state: seconds}
        latest = dict(list(self._kinds.items())[-_KINDS:])
        if self._file is not None:
            with contextlib.suppress(OSError, InputError):
                write_json(self._file, latest)


def kind_of(command: Any) -> str:
    """What a run's time depends on, as far as its options say it; of files it says no more than their kind."""
    return " ".join([type(command).__name__.lower(), *_options(command)])


def _options(part: Any) -> Iterator[str]:
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if dataclasses.is_dataclass(value):
            yield from _options(value)
        elif field.name not in _NOT_LISTED and value != field.default:
            yield f"{field.name}={value.suffix.lower() if isinstance(value, Path) else value}"[:40]


def _seconds(run: Mapping[str, Any], state: str, name: str) -> float | None:
    """Seconds of a stage in a run's record; from the other state's where there are none of this one."""
    if name in run.get(state, {}):
        return float(run[state][name])
    other = "cold" if state == "warm" else "warm"
    if name not in run.get(other, {}):
        return None
    cold, warm = TYPICAL_SECONDS[name]
    return float(run[other][name]) * (warm / cold if state == "warm" else cold / warm)


def _read(file: Path | None) -> dict[str, dict[str, Any]]:
    """The record of earlier runs, as far as it is sound."""
    from ..files import read_json

    if file is None or not file.is_file():
        return {}
    try:
        kinds = read_json(file)
    except (OSError, InputError):
        return {}
    return {kind: run for kind, run in kinds.items() if _is_run(run)} if isinstance(kinds, dict) else {}


def _is_run(run: Any) -> bool:
    return (
        isinstance(run, dict)
        and isinstance(run.get("version"), str)
        and run.keys() <= {"version", "cold", "warm"}
        and all(isinstance(run[state], dict) for state in run.keys() - {"version"})
        and all(
            name in TYPICAL_SECONDS and type(value) in (int, float) and math.isfinite(value) and 0.0 < value < 1e5
            for state in run.keys() - {"version"}
            for name, value in run[state].items()
        )
    )

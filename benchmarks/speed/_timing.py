"""Interleaved timing: on a shared machine only ratios of neighbours in time mean anything."""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

THREADS = 2
"""Of PyTorch, as many as the small machines have cores."""

Contestants = dict[str, Callable[[], object]]

Case = tuple[str, Callable[[], Contestants]]
"""A row's name, and what makes its contestants, which raises `AssertionError` where they don't do the same work."""
"""What is timed, by name; each blocks until its work is done."""


class Timing(NamedTuple):
    """Seconds a call of one contestant, a value a round."""

    wall: np.ndarray
    """Wall-clock seconds."""
    cpu: np.ndarray
    """Processor seconds of all threads."""


def interleave(
    contestants: Mapping[str, Callable[[], object]],
    *,
    rounds: tuple[int, int] = (5, 40),
    turn: float = 0.03,
    budget: float = 12.0,
) -> dict[str, Timing]:
    """Time contestants in turn (A B C A B C …), each for about `turn` seconds a round.

    Between `rounds[0]` and `rounds[1]` rounds, as many as `budget` seconds allow. Each contestant must block until its
    work is done. The first calls of a turn aren't counted where calls are short: they pay for the caches and the
    thread pools that the contestant before has left behind.
    """
    repeats = {}
    for name, call in contestants.items():
        call()
        start = time.perf_counter()
        call()
        repeats[name] = int(np.clip(turn / max(time.perf_counter() - start, 1e-9), 1, 1000))
    wall: dict[str, list[float]] = {name: [] for name in contestants}
    cpu: dict[str, list[float]] = {name: [] for name in contestants}
    begin = time.perf_counter()
    for done in range(rounds[1]):
        if done >= rounds[0] and time.perf_counter() - begin > budget:
            break
        for name, call in contestants.items():
            for _ in range(min(3, repeats[name] - 1)):
                call()
            start, start_cpu = time.perf_counter(), time.process_time()
            for _ in range(repeats[name]):
                call()
            wall[name].append((time.perf_counter() - start) / repeats[name])
            cpu[name].append((time.process_time() - start_cpu) / repeats[name])
    return {name: Timing(np.array(wall[name]), np.array(cpu[name])) for name in contestants}


def speedup(ours: np.ndarray, other: np.ndarray) -> float:
    """How many times faster: the median over rounds of the ratio of neighbours."""
    return float(np.median(other / ours))

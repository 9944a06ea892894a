"""Scans changed in ways that people and scanners do, in great number: each is registered soundly, or refused in one
sentence.

    python -m tools.fuzz_scans --cases 300 --seed 0

Exit code 1 if a case gives anything else. A case takes as long as a registration does. The tests run a few of the same.
"""

import argparse
import collections
import os
import sys
import time
import traceback
from collections.abc import Callable

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np
from scipy.spatial import cKDTree

from diverse3d import InputError, load_head
from diverse3d.files import Mesh
from diverse3d.head import population
from diverse3d.register import register
from scenes import raw_scan

_NO_FACES = np.zeros((0, 3), np.int32)
_FARTHEST_M = 0.004
"""Distance of registered visible vertices from the scan, in the middle, that is no nonsense."""
_EXTENT_M = (0.15, 0.60)

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def scan_points(number: int) -> np.ndarray:
    """Points [P, 3] of a test head's front scan, in millimetres."""
    head = load_head()
    vertices = np.asarray(population.split("test", number + 1).vertices[number], np.float64)
    scan = raw_scan(vertices, np.asarray(head.faces), np.random.default_rng(number), points=8_000)
    return 1e3 * (scan.points_m - scan.shift_m) @ scan.turn


def _ball(points: np.ndarray, random: np.random.Generator, radius: float) -> np.ndarray:
    direction = random.standard_normal((len(points) // 2, 3))
    return radius * direction / np.linalg.norm(direction, axis=1, keepdims=True)


def _some(points: np.ndarray, random: np.random.Generator, share: float, value: object) -> np.ndarray:
    changed = points.copy()
    changed[random.random(len(points)) < share] = value
    return changed


def _half(points: np.ndarray, random: np.random.Generator) -> np.ndarray:
    normal = random.standard_normal(3)
    return points[(points - points.mean(axis=0)) @ normal > 0]


def _spikes(points: np.ndarray, random: np.random.Generator) -> np.ndarray:
    far = random.random(len(points)) < 0.02
    return points + far[:, None] * random.normal(0, 80, points.shape)


def _hole(points: np.ndarray, random: np.random.Generator) -> np.ndarray:
    centre = points[random.integers(len(points))]
    return points[np.linalg.norm(points - centre, axis=1) > random.uniform(20, 90)]


CHANGES: dict[str, Change] = {
    "as it is": lambda points, _: points,
    "noise of 5 mm": lambda points, random: points + random.normal(0, 5, points.shape),
    "noise of 1 mm": lambda points, random: points + random.normal(0, 1, points.shape),
    "spikes": _spikes,
    "a hole": _hole,
    "half of it": _half,
    "few points": lambda points, random: points[random.permutation(len(points))[: random.integers(3, 1500)]],
    "not a number here and there": lambda points, random: _some(points, random, 0.1, np.nan),
    "infinite here and there": lambda points, random: _some(points, random, 0.1, np.inf),
    "missing ones at the origin": lambda points, random: _some(points, random, 0.3, 0.0),
    "every point twice": lambda points, _: np.concatenate([points, points]),
    "mirrored": lambda points, _: points * [-1.0, 1.0, 1.0],
    "flattened": lambda points, random: points * [1.0, 1.0, random.uniform(0.0, 0.6)],
    "stretched": lambda points, random: points * random.uniform(0.4, 2.0, 3),
    "another unit": lambda points, random: points * random.choice([1e-6, 1e-3, 0.1, 1 / 25.4, 3.0, 1e6]),
    "far away": lambda points, random: points + random.normal(0, 1e6, 3),
    "on a grid of 2 mm": lambda points, _: np.round(points / 2) * 2,
    "a wall behind": lambda points, random: np.concatenate(
        [points, np.stack([*random.uniform(-400, 400, (2, len(points))), np.full(len(points), -150.0)], axis=1)]
    ),
    "a ball on top": lambda points, random: np.concatenate([points, np.add(_ball(points, random, 90.0), [0, 170, 0])]),
    "a ball in place of it": lambda points, random: _ball(points, random, 100.0),
    "points anywhere": lambda points, random: random.normal(0, 80, points.shape),
    "two of it": lambda points, _: np.concatenate([points, np.add(points, [350.0, 0.0, 0.0])]),
    "on one line": lambda points, _: points * [1.0, 0.0, 0.0],
    "one far point": lambda points, _: np.concatenate([points, [[1e9, 0.0, 0.0]]]),
}
"""What is done to a scan [P, 3] of a face that looks along +z, in millimetres."""


def outcome(points: np.ndarray) -> str:
    """The verdict, or 'refused'; raises `AssertionError` where a head comes out that is none or lies elsewhere."""
    try:
        found = register(Mesh(points, _NO_FACES), load_head())
    except InputError as error:
        text = str(error)
        assert text.endswith(".") and "\n" not in text and len(text) < 500, text
        return "refused"
    vertices, seen = found.vertices_m, found.visible
    for values in (vertices, found.along_m, found.across_m):
        assert np.isfinite(values).all(), "not finite"
    extent = float(np.ptp(vertices, axis=0).max())
    assert _EXTENT_M[0] < extent < _EXTENT_M[1], f"a head of {extent:.2f} m"
    sound = points[np.isfinite(points).all(axis=1)] * found.unit_m
    away = float(np.median(cKDTree(sound).query(vertices[seen])[0]))
    assert away < _FARTHEST_M, f"{1e3 * away:.1f} mm off the scan"
    return found.verdict


def case(seed: int, number: int) -> tuple[str, np.ndarray]:
    """The name of a change, and a scan after it (and, of every second one, another)."""
    random = np.random.default_rng([seed, number])
    names = list(CHANGES)
    name = names[number % len(names)]
    points = CHANGES[name](scan_points(number % 4), random)
    if number >= len(names) and number % 2 and len(points) > 3:
        other = names[random.integers(len(names))]
        name, points = f"{name}, {other}", CHANGES[other](points, random)
    turn = np.linalg.qr(random.standard_normal((3, 3)))[0]
    return name, points @ (turn * np.sign(np.linalg.det(turn)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--start", type=int, default=0, help="the first case's number")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    counts: collections.Counter[str] = collections.Counter()
    for number in range(options.start, options.start + options.cases):
        name, points = case(options.seed, number)
        begin = time.process_time()
        try:
            kind = outcome(points)
        except Exception:
            kind = "other"
            traceback.print_exc()
        counts[kind] += 1
        print(f"{number:4} {name:40} {kind:12} {time.process_time() - begin:6.1f} s", flush=True)
    print(", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())))
    return 1 if counts["other"] else 0


if __name__ == "__main__":
    sys.exit(main())

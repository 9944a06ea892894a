"""Commands killed at random moments: what they write is complete or absent, and the next run finds nothing in its way.

    python -m tools.kill --command complete --times 50

SIGKILL, SIGTERM and SIGINT in turn, at random moments of a whole run with a tiny head of a hundred vertices. Exit code
1 where anything else was left than a complete result or nothing; what SIGKILL leaves aside must go with the next run.
"""

import argparse
import collections
import dataclasses
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from safetensors.numpy import load_file, save_file  # noqa: E402

from diverse3d.files import read_json  # noqa: E402
from diverse3d.files._folder import check_unchanged  # noqa: E402

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
RUN = [sys.executable, "-c", "import sys; from diverse3d.cli import main; sys.exit(main())"]


@dataclasses.dataclass(frozen=True)
class Job:
    """A command in a folder of its own, and what may be there when it has ended."""

    arguments: Callable[[Path], list[str]]
    """Of the command, in a folder with the inputs."""
    state: Callable[[Path], str]
    """`absent`, `complete`, or `part` of what goes on from there; raises where there is anything else."""
    again: tuple[str, ...] = ()
    """What the command takes to go on from a part."""


def inputs(folder: Path) -> None:
    """A tiny head, a partial mesh of it, three more, and a file to import."""
    from flame_files import official_pickle, small_flame
    from helpers import tiny_arrays

    arrays = tiny_arrays()
    save_file(arrays, folder / "head.safetensors", {"name": "tiny"})
    (folder / "faces").mkdir()
    visible = arrays["template"][:, 1] > 0
    for i in range(3):
        np.savez(folder / "faces" / f"{i}.npz", vertices=arrays["template"] * (1 + 0.01 * i), visible=visible)
    (folder / "flame.pkl").write_bytes(official_pickle(small_flame(np.random.default_rng(0))))


def whole(folder: Path) -> str:
    """Of a result: all its record names, unchanged, and nothing else."""
    if not folder.exists():
        return "absent"
    check_unchanged(folder, "run.json")
    missing = [name for name in read_json(folder / "run.json")["files"] if not (folder / name).is_file()]
    assert not missing, missing
    return "complete"


def whole_head(path: Path) -> str:
    """Of a head file: that it can be read."""
    if not path.exists():
        return "absent"
    load_file(path)
    return "complete"


def whole_batch(folder: Path) -> str:
    """Of a batch: that each of its results is whole."""
    results = folder / "results"
    states = [whole(path) for path in results.iterdir() if path.name[0] != "."] if results.is_dir() else []
    for name in ("batch.json",):
        if (folder / name).exists():
            read_json(folder / name)
    return "complete" if (folder / "table.html").exists() else "part" if states else "absent"


def whole_training(folder: Path) -> str:
    """Of a training: weights that can be read, or checkpoints to go on from."""
    if (folder / "weights.safetensors").exists():
        load_file(folder / "weights.safetensors")
        return "complete"
    return "part" if folder.is_dir() and any(folder.iterdir()) else "absent"


QUICK = ["--head", "head.safetensors", "--method", "posterior", "-n", "2", "--steps", "6", "--quiet"]
JOBS = {
    "complete": Job(lambda f: ["complete", "faces/0.npz", "--out", "out", *QUICK], lambda f: whole(f / "out")),
    "batch": Job(lambda f: ["batch", "faces", "--out", "out", *QUICK], lambda f: whole_batch(f / "out")),
    "head import": Job(
        lambda f: ["head", "import", "flame.pkl", "--out", "out.safetensors", "--quiet"],
        lambda f: whole_head(f / "out.safetensors"),
    ),
    "train": Job(
        lambda f: ["train", "--head", "head.safetensors", "--out", "out", "--steps", "40", "--batch", "2",
                   "--validate-every", "5", "--views", "16", "--quiet"],
        lambda f: whole_training(f / "out"),
        ("--resume",),
    ),
}  # fmt: skip


def run(job: Job, folder: Path, *more: str, wait: float | None = None, number: int = 0) -> tuple[int, str, float]:
    """Run a job, and after `wait` seconds kill it: exit code, what it said, seconds."""
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache"), "TMPDIR": str(folder / "tmp")}
    environment |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    (folder / "tmp").mkdir(exist_ok=True)
    began = time.monotonic()
    with subprocess.Popen(
        [*RUN, *job.arguments(folder), *more], cwd=folder, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        try:
            said = process.communicate(timeout=wait)[0]
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            said = process.communicate()[0]
    return process.returncode, said, time.monotonic() - began


def leftovers(folder: Path, job_out: str = "out") -> list[str]:
    """What lies beside the output, or in the temporary folder."""
    beside = [path.name for path in folder.iterdir() if path.name.startswith(f".{job_out}")]
    return beside + [path.name for path in (folder / "tmp").iterdir()]


def clear(folder: Path) -> None:
    """Remove the output."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    (folder / "out.safetensors").unlink(missing_ok=True)


def kill(
    name: str, times: int, seed: int, folder: Path, *, warm: int = 2
) -> tuple[collections.Counter[str], list[str]]:
    """Kill a command so many times: what was found after each, and everything that must not be."""
    job, rng, found, wrong = JOBS[name], random.Random(f"{seed}/{name}"), collections.Counter[str](), []
    for _ in range(warm):  # the first compiles
        code, said, seconds = run(job, folder)
        assert code == 0 and job.state(folder) == "complete", said
        clear(folder)
    for time_number in range(times):
        number = SIGNALS[time_number % len(SIGNALS)]
        code, said, _ = run(job, folder, wait=rng.uniform(0.0, seconds), number=number)
        try:
            state = job.state(folder)
        except Exception as error:
            state = "broken"
            wrong.append(f"{name}, {number.name}: {type(error).__name__}: {error}")
        found[f"{number.name} {state}"] += 1
        print(f"{name} {time_number + 1} of {times}: {number.name}: {state}", file=sys.stderr, flush=True)
        left = leftovers(folder)
        found["SIGKILL leftovers"] += bool(left) and number == signal.SIGKILL
        if number != signal.SIGKILL and left:
            wrong.append(f"{name}, {number.name} left {left}")
        if code == 1 and ("Traceback" in said or said.count("\n") != 1):
            wrong.append(f"{name}, {number.name} said: {said[-500:]}")
        if state in ("part", "broken") or left or time_number == times - 1:
            more = job.again if state == "part" else ()
            clear(folder) if state in ("complete", "broken") else None
            code, said, _ = run(job, folder, *more)
            if code or job.state(folder) != "complete" or leftovers(folder):
                wrong.append(
                    f"{name}: after {number.name} the next run ended with {code}: {said[-500:]} {leftovers(folder)}"
                )
        clear(folder)
    found["seconds of a whole run"] = round(seconds)
    return found, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--command", choices=JOBS, default="complete")
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        inputs(Path(name))
        found, wrong = kill(options.command, options.times, options.seed, Path(name))
    for what, count in sorted(found.items()):
        print(f"{options.command}: {what}: {count}")
    for sentence in wrong:
        print(f"WRONG {sentence}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

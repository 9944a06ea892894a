"""Suite `speed`: ratios against PyTorch doing the same work, interleaved in one process; and plain seconds."""

import ctypes
import sys
from collections.abc import Callable
from importlib.util import find_spec
from itertools import chain

from rich.console import Console

from .._metric import Metric
from .._options import Options
from .._report import markdown
from ._timing import THREADS, Contestants, Timing, interleave, speedup

TOLERANCE = {"": 1.0, "/cpu": 1.0, "/best": 0.6}
"""How much of a ratio may be lost before the gate speaks; all of it means that it is recorded and never judged. Only
the ratio of the best times is steady: as soon as another program takes a core, PyTorch's threads wait for each other
and its usual times grow many times longer, in our favour."""


def run(options: Options, console: Console) -> tuple[list[Metric], dict[str, str]]:
    """Head model, raster, Algorithm 2 over coefficients and latents, closed form, mesh VAE, and whole completions."""
    del options
    if find_spec("torch") is None:
        console.print("speed: PyTorch is not installed, so its suite is left out; pip install '.[benchmark]' adds it.")
        return [], {}
    import torch

    from . import _completion, _head, _meshvae, _raster, _vae_dpp

    torch.set_num_threads(THREADS)
    keep_freed_memory()
    metrics: list[Metric] = []
    rows: list[list[str]] = []
    suites = _head, _raster, _completion, _meshvae, _vae_dpp
    for name, make in chain.from_iterable(suite.cases() for suite in suites):
        measure(metrics, rows, name, make, console)
    for name, contestants in _completion.whole():
        console.print(f"speed: {name}", markup=False)
        timing = interleave(contestants, rounds=(3, 10))["ours"]
        metrics.append(Metric(f"speed/{name}/seconds", float(timing.wall.min()), "s", "lower", 2.0, 0.05))
        rows.append([name, f"{1e3 * timing.wall.min():.4g}", f"{1e3 * timing.cpu.min():.4g}", *["–"] * 4])
    head = ["work", "ours (ms, best)", "CPU (ms)", "× usual", "× matched", "× usual (CPU)", "× matched (CPU)"]
    title = f"Speed against PyTorch, {THREADS} threads: medians over rounds of ratios (in brackets: ratio of the best)"
    text = markdown(title, head, rows)
    console.print(f"speed: {_meshvae.STEP}, memory", markup=False)
    peaks = _meshvae.peaks()
    if peaks:
        text += memory(metrics, _meshvae.STEP, peaks)
    return metrics, {"speed": text}


def measure(
    metrics: list[Metric], rows: list[list[str]], name: str, make: Callable[[], Contestants], console: Console
) -> None:
    """One row; where PyTorch turns out to do other work, it says so and the others go on."""
    console.print(f"speed: {name}", markup=False)
    try:
        contestants = make()
    except AssertionError as error:
        console.print(f"speed: {name} is left out, since the programs differ: {error}", markup=False)
        rows.append([name, "differ", *["–"] * 5])
        return
    add(metrics, rows, name, interleave(contestants))


def memory(metrics: list[Metric], name: str, peaks: dict[str, float]) -> str:
    """What a piece of work takes in MiB beyond what stays: ours as a metric, all forms as a table."""
    metrics.append(Metric(f"speed/{name}/peak_memory", peaks["ours"], "MiB", "lower", 0.2, 5.0))
    for form in ("usual", "matched"):
        metrics.append(Metric(f"speed/{name}/peak_memory_over_{form}", peaks[form] / peaks["ours"], "×", "higher", 0.3))
    row = [name, *(f"{peaks[form]:.0f}" for form in ("ours", "usual", "matched"))]
    return markdown("Peak memory beyond what stays, MiB", ["work", "ours", "usual", "matched"], [row])


def keep_freed_memory() -> None:
    """Have the allocator keep what is freed.

    By default glibc gives large blocks back and asks for them again at every call. PyTorch then spends most of its
    time on page faults, which says nothing about either program.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        m_trim_threshold, m_mmap_threshold = -1, -3
        libc.mallopt(m_mmap_threshold, 1 << 30)
        libc.mallopt(m_trim_threshold, (1 << 31) - 1)


def add(metrics: list[Metric], rows: list[list[str]], name: str, timings: dict[str, Timing]) -> None:
    """Ratios of one case: medians of neighbours in time, wall-clock and processor, and of each one's best."""
    ours = timings["ours"]
    cells, cpu_cells = [], []
    for form in ("usual", "matched"):
        if form not in timings:
            cells.append("–")
            cpu_cells.append("–")
            continue
        other = timings[form]
        wall, cpu = speedup(ours.wall, other.wall), speedup(ours.cpu, other.cpu)
        best = float(other.wall.min() / ours.wall.min())
        for kind, value in (("", wall), ("/cpu", cpu), ("/best", best)):
            metrics.append(Metric(f"speed/{name}/over_{form}{kind}", value, "×", "higher", TOLERANCE[kind]))
        cells.append(f"{wall:.2f} ({best:.2f})")
        cpu_cells.append(f"{cpu:.2f}")
    rows.append([name, f"{1e3 * ours.wall.min():.4g}", f"{1e3 * ours.cpu.min():.4g}", *cells, *cpu_cells])

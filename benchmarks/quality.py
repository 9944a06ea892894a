"""Suite `quality`: every method on the same occluded heads of the test split, whose truth is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from diverse3d.diversify import METHODS
from diverse3d.head import HeadModel, load_head, sample_head
from diverse3d.head.population import split

from ._cells import Bench, Record
from ._metric import Metric
from ._quality_tables import quality_metrics, quality_tables
from ._records import RecordStore

if TYPE_CHECKING:
    from .__main__ import Options

OCCLUDERS = ("glasses", "face-mask", "random")
SETTINGS = ("exact", "realistic")
REFERENCES = ("map", "posterior")
SAMPLES = 16


@dataclass(frozen=True)
class Plan:
    """What a quality run measures; heads are paired: every method sees the same ones under the same occluders."""

    seeds: int
    """Runs of each random method a cell; `map` has no randomness and runs once."""
    methods: tuple[str, ...]
    """Methods, the references first."""
    occluders: tuple[str, ...] = OCCLUDERS
    """Regions that are hidden."""
    settings: tuple[str, ...] = SETTINGS
    """How the visible part is given, which is also the noise that methods are told to expect."""
    samples: int = SAMPLES
    """Completions a run."""

    def runs(self) -> list[tuple[str, int]]:
        """Every (method, seed) of a cell."""
        return [(m, s) for m in self.methods for s in range(1 if METHODS[m].single else self.seeds)]


def run(options: "Options", console: Console) -> tuple[list[Metric], dict[str, str]]:
    """Measure, or go on where an interrupted run stopped; metrics and tables."""
    head = load_head(options.head)
    if options.head is None:
        truths = np.asarray(split("test", options.heads).vertices, np.float64)
    else:
        truths = drawn_heads(head, options.heads)
    methods = (*REFERENCES, *(m for m in options.methods if m not in REFERENCES))
    plan = Plan(seeds=options.seeds, methods=methods)
    store = RecordStore(options.out / "quality", head)
    records = measure(head, truths, plan, store, console)
    other = "" if options.head is None else f",head={head.sha256[:8]}"
    settings = f"quality[heads={options.heads},seeds={options.seeds},n={plan.samples}{other}]"
    return quality_metrics(records, plan, settings), quality_tables(records, plan, settings, options.out)


def drawn_heads(head: HeadModel, count: int) -> np.ndarray:
    """True heads [count,V,3] in metres from a head's own prior: nothing of them lies outside the head's span."""
    keys = [jax.random.fold_in(jax.random.key(3003), index) for index in range(count)]
    draw = jax.jit(lambda key: head(sample_head(head, key=key)))
    return np.stack([np.asarray(draw(key), np.float64) for key in keys])


def measure(
    head: HeadModel, truths: np.ndarray, plan: Plan, store: RecordStore, console: Console
) -> list[Record]:
    """Records of every cell of every head [H,V,3] (metres); a head's are stored as soon as they are complete."""
    bench = Bench(head, plan.samples)
    kept: list[Record] = []
    pending: list[tuple[int, Sequence[Record]]] = []
    wanted = {(o, s, m, seed) for o in plan.occluders for s in plan.settings for m, seed in plan.runs()}
    for index in range(len(truths)):
        stored = [record for record in store.load(index) if record.run in wanted]
        kept += stored
        if len(stored) < len(wanted):
            pending.append((index, stored))
    if kept:
        console.print(f"quality: going on with {len(truths) - len(pending)} of {len(truths)} heads done")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task("quality", total=len(pending) * len(plan.occluders) * len(plan.settings))
        for number_done, (index, stored) in enumerate(pending, start=1):
            done = {record.run for record in stored}
            fresh: list[Record] = []
            for number, occluder in enumerate(plan.occluders):
                # The same key in both settings: the same occluder on the same head.
                key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), index), number)
                for setting in plan.settings:
                    runs = [r for r in plan.runs() if (occluder, setting, *r) not in done]
                    fresh += bench.cell(index, truths[index], occluder, setting, runs, key=key)
                    progress.advance(task)
            store.save(index, fresh)
            kept += fresh
            if not console.is_terminal:  # a log shows no moving bar
                elapsed = progress.tasks[task].elapsed or 0.0
                left = elapsed / number_done * (len(pending) - number_done)
                console.print(f"quality: {number_done} of {len(pending)} heads, {elapsed:.0f} s; {left:.0f} s left")
    return kept

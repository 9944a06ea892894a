"""Every run of a plan on every subject, with the time left; what is on the disk already is not run again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import jax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..diversify import METHODS, Learned
from ..head import HeadModel
from ..observe import SETTINGS, STANDARD_REGIONS
from ._cells import Bench, Knobs, More, Record, Trial
from ._findings import OVERALL
from ._records import RecordStore
from ._subjects import Subject

SAMPLES = 16


@dataclass(frozen=True)
class Plan:
    """What is measured; heads are paired: every method sees the same ones under the same occluders."""

    seeds: int
    """Runs of each random method a cell; `map` has no randomness and runs once."""
    methods: tuple[str, ...]
    """Methods, the references first."""
    occluders: tuple[str, ...] = STANDARD_REGIONS
    """Regions that are hidden."""
    settings: tuple[str, ...] = SETTINGS
    """How the visible part is given, which is also the noise that methods are told to expect."""
    samples: int = SAMPLES
    """Completions a run."""
    knobs: Mapping[str, tuple[Knobs, ...]] = field(default_factory=dict)
    """Settings that a method runs with, one after the other; its defaults where it is not named."""
    seed: int = 0
    """Seed of all occluders and samples."""

    @property
    def groups(self) -> tuple[str, ...]:
        """Occluders that figures are given for: each, and where there are several, all of them together at the end."""
        return (*self.occluders, OVERALL) if len(self.occluders) > 1 else self.occluders

    def runs(self) -> list[Trial]:
        """Every run of a cell."""
        return [
            Trial(method, seed, knobs)
            for method in self.methods
            for knobs in self.knobs.get(method, ((),))
            for seed in range(1 if METHODS[method].single else self.seeds)
        ]


def measure(
    head: HeadModel,
    subjects: Sequence[Subject],
    plan: Plan,
    store: RecordStore,
    console: Console,
    *,
    title: str,
    learned: Mapping[str, Learned] | None = None,
    more: More | None = None,
) -> list[Record]:
    """Records of every cell of every subject, in the plan's order; a subject's are stored once they are complete."""
    bench = Bench(head, plan.samples, learned=learned, more=more)
    cells = [(occluder, setting) for occluder in plan.occluders for setting in plan.settings]
    wanted = [(*cell, *run) for cell in cells for run in plan.runs()]
    order = {run: place for place, run in enumerate(wanted)}
    kept: list[Record] = []
    pending: list[tuple[int, set[tuple[str, str, str, int, Knobs]]]] = []
    for index in range(len(subjects)):
        stored = [record for record in store.load(index) if record.run in order]
        kept += stored
        if len(stored) < len(wanted):
            pending.append((index, {record.run for record in stored}))
    if kept:
        console.print(f"{title}: going on with {len(subjects) - len(pending)} of {len(subjects)} heads done")
    if not pending:
        return sorted(kept, key=lambda record: (record.head, order[record.run]))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task(title, total=len(pending) * len(plan.occluders) * len(plan.settings))
        for number_done, (index, done) in enumerate(pending, start=1):
            fresh: list[Record] = []
            for number, occluder in enumerate(plan.occluders):
                # The same key in both settings: the same occluder on the same head.
                key = jax.random.fold_in(jax.random.fold_in(jax.random.key(plan.seed), index), number)
                for setting in plan.settings:
                    runs = [run for run in plan.runs() if (occluder, setting, *run) not in done]
                    fresh += bench.cell(index, subjects[index], occluder, setting, runs, key=key)
                    progress.advance(task)
            store.save(index, fresh)
            kept += fresh
            if not console.is_terminal:  # a log shows no moving bar
                elapsed = progress.tasks[task].elapsed or 0.0
                left = elapsed / number_done * (len(pending) - number_done)
                console.print(f"{title}: {number_done} of {len(pending)} heads, {elapsed:.0f} s; {left:.0f} s left")
    return sorted(kept, key=lambda record: (record.head, order[record.run]))

"""Suite `quality`: every method on the same occluded heads of the test split, whose truth is known."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from diverse3d.diversify import METHODS, Learned, load_learned
from diverse3d.experiments import Plan, Record, RecordStore, drawn_heads, honesty, true_heads
from diverse3d.experiments import measure as measure_subjects
from diverse3d.head import HeadModel, load_head
from diverse3d.head.population import split

from ._metric import Metric
from ._quality_tables import quality_metrics, quality_tables

if TYPE_CHECKING:
    from .__main__ import Options

REFERENCES = ("map", "posterior")


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
    kinds = {METHODS[method].weights for method in methods} - {None}
    learned = {kind: load_learned(head, kind) for kind in kinds}
    records = measure(head, truths, plan, store, console, learned=learned)
    other = "" if options.head is None else f",head={head.sha256[:8]}"
    settings = f"quality[heads={options.heads},seeds={options.seeds},n={plan.samples}{other}]"
    return quality_metrics(records, plan, settings), quality_tables(records, plan, settings, options.out)


def measure(
    head: HeadModel,
    truths: np.ndarray,
    plan: Plan,
    store: RecordStore,
    console: Console,
    *,
    learned: Mapping[str, Learned] | None = None,
) -> list[Record]:
    """Records of every cell of every head [H,V,3] (metres); a head's are stored as soon as they are complete."""
    return measure_subjects(
        head, true_heads(truths), plan, store, console, title="quality", more=honesty(head), learned=learned
    )

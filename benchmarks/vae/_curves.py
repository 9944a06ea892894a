"""Hidden error against the training budget, drawn."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from meshvae import whole_file


class Point(NamedTuple):
    """One budget of one row."""

    row: str
    """Which model."""
    steps: int
    """Optimiser steps."""
    validation_mm: float
    """Mean distance of hidden vertices on validation heads."""
    test_mm: float
    """The same on test heads."""
    seconds: float
    """Time of the training; of a run that was stopped, of its last part."""


def draw_curves(points: Sequence[Point], references: Mapping[str, float], path: Path) -> None:
    """Test (lines) and validation (dots) error of each row; what needs no budget as level lines."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, row in enumerate(dict.fromkeys(point.row for point in points)):
        own = [point for point in points if point.row == row]
        steps, colour = [point.steps for point in own], f"C{number}"
        axes.plot(steps, [point.test_mm for point in own], color=colour, marker="o", label=row)
        axes.plot(steps, [point.validation_mm for point in own], color=colour, marker=".", linestyle=":")
    for number, (name, value) in enumerate(references.items()):
        axes.axhline(value, color="0.4", linestyle=("-", "--", "-.", ":")[number % 4], linewidth=1, label=name)
    axes.set(xscale="log", yscale="log", xlabel="training steps", ylabel="hidden vertices: mean error (mm)")
    axes.legend(fontsize="small")
    with whole_file(path) as aside:
        FigureCanvasAgg(figure).print_png(str(aside))

"""Plots as SVG text, all in one look."""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import numpy as np

from ..diversify import METHODS

_COLOURS = (
    "#4a4a4a", "#8a8580", "#3d7ea6", "#7fb3d0", "#8f8cc4", "#a8a13a", "#d1c866",
    "#5b8f5a", "#2f6b4f", "#9cc59a", "#d99a6c", "#b63e54", "#e27a54", "#cf7fa8",
)  # fmt: skip
_MARKS = "osD^8vP<>XphHd"
_LOOK = {
    "font.family": "sans-serif", "font.size": 9, "axes.titlesize": 9, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": "#e4dfda", "grid.linewidth": 0.6,
    "axes.edgecolor": "#8a8580", "axes.axisbelow": True, "legend.fontsize": 8, "legend.frameon": False,
    "svg.hashsalt": "diverse3d",
}  # fmt: skip


_LEGEND = 1.4
"""Inches beside the axes."""


class Line(NamedTuple):
    """A curve, or a single point."""

    x: Sequence[float]
    """Where."""
    y: Sequence[float]
    """What."""
    name: str
    """Its label; a method's name gives it the method's colour."""
    pale: bool = False
    """Whether it is drawn as a wide pale band, which shows behind a line that covers it."""


def style(name: str, number: int = 0) -> dict[str, Any]:
    """Colour and mark of a method, the same in every plot; of anything else, by its number."""
    method = name.partition(",")[0]
    place = list(METHODS).index(method) if method in METHODS else number
    return {"color": _COLOURS[place % len(_COLOURS)], "marker": _MARKS[place % len(_MARKS)], "markersize": 4}


@contextmanager
def drawing(
    columns: int, *, width: float = 3.4, height: float = 3.0, legend: bool = False
) -> Iterator[tuple[list[Any], list[str]]]:
    """A row of axes to draw on, and a list that holds the SVG in the end."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    svg: list[str] = []
    with matplotlib.rc_context(rc=cast(Any, _LOOK)):
        figure = Figure(figsize=(width * columns + (_LEGEND if legend else 0.0), height), layout="constrained")
        axes = figure.subplots(1, columns, squeeze=False)[0]
        yield list(axes), svg
        handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        if legend and handles:
            figure.legend(list(handles.values()), list(handles), loc="outside right upper")
        text = io.StringIO()
        # No date: the same figures give the same bytes.
        FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None})
        svg.append(text.getvalue())


def curves(panels: Mapping[str, Sequence[Line]], x_title: str, y_title: str) -> str:
    """A panel a title, with its lines."""
    with drawing(len(panels), legend=True) as (axes, svg):
        for ax, (title, lines) in zip(axes, panels.items(), strict=True):
            for place, line in enumerate(lines):
                look = style(line.name, place)
                look |= {"marker": "", "linewidth": 6, "alpha": 0.3, "zorder": 1} if line.pale else {}
                ax.plot(line.x, line.y, label=line.name, **look)
            ax.set(title=title, xlabel=x_title, ylabel=y_title)
    return svg[0]


def bars(panels: Mapping[str, Mapping[str, Sequence[float]]], groups: Sequence[str], y_title: str) -> str:
    """A panel a title; a cluster of bars a group, a bar a named series."""
    with drawing(len(panels), width=max(3.4, 0.8 * len(groups)), legend=True) as (axes, svg):
        for ax, (title, series) in zip(axes, panels.items(), strict=True):
            wide = 0.8 / max(len(series), 1)
            for place, (name, values) in enumerate(series.items()):
                at = np.arange(len(groups)) + (place - 0.5 * (len(series) - 1)) * wide
                ax.bar(at, values, wide, label=name, color=_COLOURS[(2, 11, 6, 10)[place % 4]])
            ax.set_xticks(range(len(groups)), groups, rotation=30, ha="right")
            ax.set(title=title, ylabel=y_title)
            ax.grid(axis="x", visible=False)
    return svg[0]


def heat(
    panels: Mapping[str, np.ndarray], rows: Sequence[str], columns: Sequence[str], row_title: str, column_title: str
) -> str:
    """A panel a title: a matrix [rows, columns] as coloured, numbered squares."""
    width = max(3.2, 0.55 * len(columns) + 1.2)
    with drawing(len(panels), width=width, height=max(2.6, 0.32 * len(rows) + 1.4)) as (axes, svg):
        for ax, (title, values) in zip(axes, panels.items(), strict=True):
            values = np.asarray(values, np.float64)
            ax.imshow(np.ma.masked_invalid(values), cmap="OrRd", aspect="auto")
            known = values[np.isfinite(values)]
            dark = 0.3 * known.min() + 0.7 * known.max() if known.size else np.inf
            for (row, column), value in np.ndenumerate(values):
                ink = "white" if value > dark else "black"
                text = f"{value:.2f}" if np.isfinite(value) else "–"
                ax.text(column, row, text, ha="center", va="center", fontsize=7, color=ink)
            long = max(map(len, columns)) > 4
            ax.set_xticks(range(len(columns)), columns, rotation=30 if long else 0, ha="right" if long else "center")
            ax.set_yticks(range(len(rows)), rows)
            ax.set(title=title, xlabel=column_title, ylabel=row_title)
            ax.grid(visible=False)
    return svg[0]


def differences(panels: Mapping[str, Mapping[str, tuple[float, float, float]]], x_title: str) -> str:
    """A panel a title: named differences with their intervals, and the line of no difference."""
    tallest = max((len(rows) for rows in panels.values()), default=1)
    with drawing(len(panels), width=4.2, height=0.28 * tallest + 1.3) as (axes, svg):
        for ax, (title, rows) in zip(axes, panels.items(), strict=True):
            for place, (name, (middle, low, high)) in enumerate(rows.items()):
                ax.plot([low, high], [place, place], color=style(name, place)["color"], linewidth=1.5)
                ax.plot([middle], [place], linestyle="", **style(name, place))
            ax.axvline(0.0, color="#4a4a4a", linewidth=0.8)
            ax.set_yticks(range(len(rows)), list(rows))
            ax.invert_yaxis()
            ax.set(title=title, xlabel=x_title)
    return svg[0]

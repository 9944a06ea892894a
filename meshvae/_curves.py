"""Training curves: a CSV line a validation, and a picture."""

import csv
from pathlib import Path

from ._files import whole_file


class Curves:
    """`curves.csv`: a line a validation."""

    def __init__(self, path: Path, *, keep_until: int) -> None:
        self.path = path
        self.lines: list[dict[str, str]] = []
        if keep_until and path.is_file():
            self.lines = [line for line in read_curves(path) if int(line["step"]) <= keep_until]

    def add(self, figures: dict[str, float]) -> None:
        """Add a line and write all, aside and then renamed."""
        self.lines.append({name: f"{value:.6g}" for name, value in figures.items()})
        with whole_file(self.path) as aside, aside.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(self.lines[-1]))
            writer.writeheader()
            writer.writerows(self.lines)


def read_curves(path: Path) -> list[dict[str, str]]:
    """The lines of a `curves.csv`."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def draw_curves(table: Path, picture: Path) -> None:
    """Draw a `curves.csv` as a PNG: losses, distances, and the latent's health."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = read_curves(table)
    if not lines:
        return
    panels = (("train_loss", "loss"), ("visible_l1", "hidden_l1", "hidden_rms"), ("kl",), ("active",))
    figure = Figure(figsize=(12, 3), layout="constrained")
    steps = [int(line["step"]) for line in lines]
    for axes, names in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for name in names:
            values = [float(line[name]) for line in lines]
            axes.plot(steps, values, label=name)
            if min(values) > 0 and max(values) > 10 * min(values):
                axes.set_yscale("log")
        axes.set_xlabel("step")
        axes.legend()
    with whole_file(picture) as aside:
        FigureCanvasAgg(figure).print_png(str(aside))

"""Suite `histogram`: errors of single fits to occluded photos, global head against global + local.

After Dey and Boddeti 2022, supplement §1.2.
"""

import dataclasses
import itertools

import numpy as np
from rich.console import Console
from rich.progress import track

from diverse3d import InputError
from diverse3d.experiments import drawing, style
from diverse3d.fit import fit, prepare
from diverse3d.head import HeadModel, load_head
from diverse3d.observe import observe_photo
from scenes import OCCLUDERS, scenes

from .._metric import Metric
from .._options import Options
from .._report import markdown
from ._backgrounds import shipped_photos
from ._photos import geometry_error_mm

_STYLES = (2, 7, 11)
BAD_MM2 = 25.0
"""Mean squared error from which on a fit is very bad: 5 mm RMS."""
UNFITTED = "mean head, unfitted"
_BINS_MM2 = np.arange(0.0, 61.0, 2.5)


def heads(head: HeadModel) -> dict[str, HeadModel]:
    """The two heads of the paper's figure, and the one that is fitted by default."""
    return {
        "global": dataclasses.replace(head, local_models={}).global_local(),
        "global + local": head.global_local(),
        "all components": head,
    }


def run(options: Options, console: Console) -> tuple[list[Metric], dict[str, str]]:
    """Fit each head to every photo, with the true mask; no photo is bare. The mean head, unfitted, is beside them."""
    head = load_head()
    problems = {name: prepare(one) for name, one in heads(head).items()}
    mean = head.shaped(head.prior_mean)
    errors: dict[str, list[float]] = {name: [] for name in (*problems, UNFITTED)}
    kinds = tuple(name for name in OCCLUDERS if name != "none")
    drawn = scenes("test", options.heads, head=head, occluders=kinds, backgrounds=shipped_photos())
    missed = 0
    for scene in track(drawn, "histogram", total=options.heads, console=console):
        try:
            seen = observe_photo(scene.rgb, mask=scene.hidden)
        except InputError:
            missed += 1
            continue
        made = {name: fit(seen, one).vertices_m for name, one in problems.items()} | {UNFITTED: mean}
        for name, vertices in made.items():
            errors[name].append(geometry_error_mm(vertices, scene, head) ** 2)
    # A face of which next to nothing is visible has no error.
    arrays = {name: np.array(values)[~np.isnan(values)] for name, values in errors.items()}
    (options.out / "histogram.svg").write_text(histogram({name: arrays[name] for name in problems}))
    return report(arrays, missed, options.heads)


def histogram(errors: dict[str, np.ndarray]) -> str:
    """Steps of the share of photos by mean squared error, as SVG."""
    with drawing(1, width=5.2, height=3.0) as (axes, svg):
        for number, (name, values) in zip(itertools.cycle(_STYLES), errors.items(), strict=False):
            clipped = np.minimum(values, _BINS_MM2[-1] - 1e-6)
            weights = np.full(len(values), 100.0 / max(len(values), 1))
            axes[0].hist(clipped, _BINS_MM2, weights=weights, histtype="step", linewidth=1.4,
                         color=style(name, number)["color"], label=name)  # fmt: skip
        axes[0].axvline(BAD_MM2, color="#8a8580", linewidth=0.8, linestyle=":")
        axes[0].set_xlabel("MSE of visible vertices (mm²; last bin: all above)")
        axes[0].set_ylabel("share of photos (%)")
        axes[0].legend()
    return svg[0]


def report(errors: dict[str, np.ndarray], missed: int, count: int) -> tuple[list[Metric], dict[str, str]]:
    """Mean, median, tail and the share of very bad fits of each head."""
    settings, metrics, rows = f"histogram[photos={count}]", [], []
    for name, values in errors.items():
        if not values.size:
            continue
        figures = {
            "mean": float(values.mean()),
            "median": float(np.median(values)),
            "p95": float(np.quantile(values, 0.95)),
        }
        bad = 100.0 * float((values > BAD_MM2).mean())
        metrics += [Metric(f"{settings}/{name}/{key}", value, "mm²", "lower", 0.05) for key, value in figures.items()]
        metrics.append(Metric(f"{settings}/{name}/very_bad", bad, "%", "lower", 0.0, 2.0))
        rows.append([name, str(values.size), *(f"{v:.1f}" for v in figures.values()), f"{bad:.1f}"])
    head = ["head", "photos", "mean MSE (mm²)", "median", "95 %", f"share above {BAD_MM2:.0f} mm² (%)"]
    text = markdown(f"{settings}: single fits to occluded photos, true masks", head, rows)
    return metrics, {"histogram": text + f"No face found in {missed} of {count}.\n"}

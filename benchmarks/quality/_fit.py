"""Suite `fit`: stage 1 on held-back heads and on the bundled photo."""

import time
from importlib import resources

import jax
import numpy as np
from rich.console import Console
from rich.progress import track

from diverse3d.fit import FitProblem, fit, prepare
from diverse3d.head import load_head
from diverse3d.head.population import split
from diverse3d.observe import SETTINGS, STANDARD_REGIONS, observe_photo, simulate_mesh

from .._metric import Metric
from .._options import Options
from .._report import markdown


def run(options: Options, console: Console) -> tuple[list[Metric], dict[str, str]]:
    """Heads from their visible vertices alone, in both settings, occluders in turn; then the photo's landmarks."""
    problem = prepare(load_head())
    truths = np.asarray(split("test", options.heads).vertices, np.float64)
    settings = f"fit[heads={options.heads}]"
    metrics, rows = [], []
    for setting in SETTINGS:
        given, true, seconds = _heads(problem, truths, setting, console)
        for name, values in (("given", given), ("truth", true)):
            for statistic, value in (("mean", values.mean()), ("worst", values.max())):
                key = f"{settings}/{setting}/visible_rms_to_{name}/{statistic}"
                metrics.append(Metric(key, float(value), "mm", "lower", 0.03, 0.01))
        metrics.append(Metric(f"{settings}/{setting}/seconds", float(np.median(seconds)), "s", "lower", 2.0, 0.05))
        rows.append(
            [
                setting,
                *(f"{v:.3f}" for v in (given.mean(), given.max(), true.mean(), true.max())),
                f"{np.median(seconds):.2f}",
            ]
        )
    share, seconds_photo = _photo(problem)
    metrics.append(Metric("fit/photo/landmarks", 100 * share, "% of inter-ocular", "lower", 0.03, 0.02))
    metrics.append(Metric("fit/photo/seconds", seconds_photo, "s", "lower", 2.0, 0.05))
    head = ["setting", "mean to given (mm)", "worst", "mean to truth (mm)", "worst", "seconds"]
    text = markdown(f"{settings}: RMS over visible vertices", head, rows)
    return metrics, {
        "fit": f"{text}Photo: visible landmarks {100 * share:.2f} % of the inter-ocular distance (RMS), "
        f"{seconds_photo:.2f} s.\n"
    }


def _heads(
    problem: FitProblem, truths: np.ndarray, setting: str, console: Console
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """RMS distance of the fit's visible vertices from those given and from the true ones (mm), and seconds."""
    given: list[float] = []
    true: list[float] = []
    seconds: list[float] = []
    warm = False
    for index, truth in enumerate(track(truths, f"fit, {setting}", console=console)):
        occluder = STANDARD_REGIONS[index % len(STANDARD_REGIONS)]
        key = jax.random.fold_in(jax.random.key(1), index)
        seen = simulate_mesh(truth, problem.head, region=occluder, setting=setting, key=key)
        if not warm:
            jax.block_until_ready(fit(seen, problem))
            warm = True
        start = time.perf_counter()
        fitted = jax.block_until_ready(fit(seen, problem))
        seconds.append(time.perf_counter() - start)
        visible = np.asarray(fitted.visible)
        placed = np.asarray(fitted.to_world(fitted.vertices_m), np.float64)[visible]
        for store, target in ((given, seen.mesh.vertices_m), (true, truth)):
            store.append(1e3 * np.sqrt(((placed - target[visible]) ** 2).sum(1).mean()))
    return np.array(given), np.array(true), np.array(seconds)


def _photo(problem: FitProblem) -> tuple[float, float]:
    """RMS of the bundled photo's visible landmarks as a share of the inter-ocular distance, and seconds of the fit."""
    with resources.as_file(resources.files("diverse3d.assets") / "astronaut.png") as path:
        seen = observe_photo(path, occlude="face-mask", key=jax.random.key(0))
    jax.block_until_ready(fit(seen, problem))
    start = time.perf_counter()
    fitted = jax.block_until_ready(fit(seen, problem))
    return float(fitted.report.landmark_rms_interocular), time.perf_counter() - start

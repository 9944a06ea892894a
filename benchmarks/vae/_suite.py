"""Suite `vae`: whole heads from masked ones, by the shipped model, by PCA, and by models trained here for a while; and
what residual models add to the closed form."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from rich.console import Console

import meshvae
from diverse3d import InputError
from diverse3d.diversify import Learned, has_weights, load_learned
from diverse3d.experiments import Record, drawn_heads
from diverse3d.head import HeadModel, load_head
from diverse3d.head.population import split
from diverse3d.learn import head_data, population_data
from diverse3d.observe import STANDARD_REGIONS

from .._metric import Metric
from .._options import Options
from .._report import markdown, write_csv
from ._budgets import RESIDUALS, VARIANTS, trained_weights
from ._curves import Point, draw_curves
from ._errors import OccludedHeads, behind_occluders, errors, hidden_error, seconds_a_head, specificity
from ._flame import flame_head
from ._residual import energy_metrics, energy_table, scores
from ._rows import Network, Row, fit_pca, load_masked, tuned

TRAINING_HEADS = 2048
"""Heads that PCA is made of; its rows know no others, while networks see new ones at every step."""
COMPARED_HEADS = 512
"""Training heads that specificity looks for the nearest among."""
TUNING_HEADS = 16
"""Validation heads that PCA's noise is chosen on."""
RESIDUAL_VIEWS = 64
"""Occluder masks a setting that residual models are trained with: the closed form is solved for each beforehand."""
VALIDATION_HEADS = 64
"""OccludedHeads-back heads that training stops early by."""
FULL_LATENT, FEW_COMPONENTS = 640, 64
"""Latent numbers of the paper's model, and the smaller PCA's components."""

Figures = dict[str, float]


def run(options: Options, console: Console) -> tuple[list[Metric], dict[str, str]]:
    """Measure; trainings that an interrupted run has begun go on."""
    if any(steps < 10 for steps in options.budgets):
        raise InputError("--budgets must be at least 10 steps each.")
    budgets = sorted(set(options.budgets))
    out = options.out / "vae"
    out.mkdir(parents=True, exist_ok=True)
    head = load_head()
    figures, points = _embedded(head, options, budgets, out, console)
    figures |= _flame(options.heads, budgets, out, console)
    found = _residual(head, options, budgets, out, console)
    settings = f"vae[heads={options.heads}]"
    _write_csv(figures, options.out / "vae.csv")
    text = _table(figures, settings)
    if points:
        write_csv(options.out / "vae-curves.csv", Point._fields, points)
        references = {name: each["hidden/mean"] for name, each in figures.items() if "[" not in name}
        draw_curves(points, references, options.out / "vae-curves.png")
        text += "Hidden error at each budget: vae-curves.csv, vae-curves.png.\n\n"
    if found:
        text += energy_table(found, settings, options.out / "vae-residual.csv")
    return metrics(figures, points, settings) + energy_metrics(found, settings), {"vae": text}


def _embedded(
    head: HeadModel, options: Options, budgets: list[int], out: Path, console: Console
) -> tuple[dict[str, Figures], list[Point]]:
    """The rows of the embedded head, and the curves of those that are trained here."""
    training = np.asarray(split("train", TRAINING_HEADS).vertices)
    test, validation = (
        behind_occluders(head, np.asarray(split(name, count).vertices, np.float64))
        for name, count in (("test", options.heads), ("validation", min(options.heads, VALIDATION_HEADS)))
    )
    rows: dict[str, Row] = {}
    shipped = load_masked(options.masked, head)
    if shipped is None:
        console.print("vae: the package holds no masked weights, so they are left out; --masked FILE names others.")
    else:
        rows["masked model"] = Network(shipped)
    latents = rows["masked model"].latents if rows else FULL_LATENT
    pca = fit_pca(training, latents)
    few = OccludedHeads(
        validation.vertices_m[:TUNING_HEADS], {o: v[:TUNING_HEADS] for o, v in validation.visible.items()}
    )
    for name, count in ((f"PCA {latents}", latents), (f"PCA {FEW_COMPONENTS}", FEW_COMPONENTS)):
        rows[name] = row = tuned(pca.truncated(count), few.vertices_m, few.visible)
        console.print(f"vae: {name}: noise {1e3 * row.sigma_m:g} mm", markup=False, highlight=False)
    figures = {name: _measured(name, row, test, training[:COMPARED_HEADS], console) for name, row in rows.items()}
    points: list[Point] = []
    if not budgets:
        return figures, points
    data = population_data(head, validation=VALIDATION_HEADS)
    for name, config in VARIANTS.items():
        for steps in budgets:
            trained = meshvae.load_model(trained_weights(name, config, head, data, steps, out, console))
            network = Network(trained)
            title = f"{name}[steps={steps}]"
            figures[title] = _measured(title, network, test, training[:COMPARED_HEADS], console)
            seconds = float(trained.card["seconds_of_the_last_run"])
            points.append(Point(name, steps, hidden_error(network, validation), figures[title]["hidden/mean"], seconds))
    return figures, points


def _flame(count: int, budgets: list[int], out: Path, console: Console) -> dict[str, Figures]:
    """The vcConv row on FLAME's topology, trained and tested on heads of its own prior."""
    if not budgets:
        return {}
    head = flame_head()
    if head is None:
        console.print("vae: FLAME's reference files are not there, so the row of its topology is left out.")
        return {}
    data = head_data(head, validation=VALIDATION_HEADS)
    name, steps = "vcconv on FLAME's topology", budgets[-1]
    weights = trained_weights("flame-vcconv", VARIANTS["vcconv"], head, data, steps, out, console)
    test = behind_occluders(head, drawn_heads(head, count))
    title, row = f"{name}[steps={steps}]", Network(meshvae.load_model(weights))
    return {title: _measured(title, row, test, data.reference_m[:COMPARED_HEADS], console)}


def _residual(head: HeadModel, options: Options, budgets: list[int], out: Path, console: Console) -> list[Record]:
    """The shipped residual model, and those that are trained here."""
    rows: dict[str, Learned] = {}
    if options.residual is not None or has_weights(head, "residual"):
        rows["residual model"] = load_learned(head, "residual", options.residual)
    else:
        console.print("vae: the package holds no residual weights, so they are left out; --residual FILE names others.")
    if budgets:
        steps, data = budgets[-1], population_data(head, validation=VALIDATION_HEADS)
        for name, config in RESIDUALS.items():
            weights = trained_weights(name, config, head, data, steps, out, console, views=RESIDUAL_VIEWS)
            rows[f"{name}[steps={steps}]"] = load_learned(head, "residual", weights)
    if not rows:
        return []
    return scores(rows, head, np.asarray(split("test", options.heads).vertices), console)


def _measured(name: str, row: Row, test: OccludedHeads, training_m: np.ndarray, console: Console) -> Figures:
    console.print(f"vae: measuring {name}", markup=False, highlight=False)
    figures = errors(row, test) | {"specificity": specificity(row, training_m)}
    sizes = {"parameters": float(row.parameters), "latents": float(row.latents)}
    return figures | sizes | {"seconds": seconds_a_head(row, test)}


def metrics(figures: Mapping[str, Figures], points: list[Point], settings: str) -> list[Metric]:
    """The suite's contract. Weights that are trained again elsewhere differ, so their rows are given more room."""
    measured = []
    for name, each in figures.items():
        room = 0.15 if "[" in name else 0.03
        for figure, value in each.items():
            key = f"{settings}/{name}/{figure}"
            if figure == "seconds":
                measured.append(Metric(key, value, "s", "lower", 2.0, 0.05))
            elif figure in ("parameters", "latents"):
                measured.append(Metric(key, value, "numbers", "lower", 0.0))
            else:
                measured.append(Metric(key, value, "mm", "lower", room, 0.01))
    for point in points:
        key = f"{settings}/{point.row}[steps={point.steps}]/validation/hidden/mean"
        measured.append(Metric(key, point.validation_mm, "mm", "lower", 0.15, 0.01))
    return measured


def _table(figures: Mapping[str, Figures], settings: str) -> str:
    head = [
        "model", "unmasked", f"hidden: {' / '.join(STANDARD_REGIONS)}", "hidden", "visible", "generalisation",
        "specificity", "latents", "parameters", "ms a head",
    ]  # fmt: skip
    rows = []
    for name, each in figures.items():
        hidden = " / ".join(f"{each[f'{occluder}/hidden/mean']:.2f}" for occluder in STANDARD_REGIONS)
        parts = ("unmasked", "hidden", "visible")
        pairs = [f"{each[f'{part}/mean']:.2f} ({each[f'{part}/median']:.2f})" for part in parts]
        rows.append([
            name, pairs[0], hidden, *pairs[1:], f"{each['generalisation']:.2f}", f"{each['specificity']:.2f}",
            f"{each['latents']:.0f}", f"{each['parameters']:,.0f}", f"{1e3 * each['seconds']:.3g}",
        ])  # fmt: skip
    return markdown(f"{settings}: error of vertices in mm, mean (median)", head, rows)


def _write_csv(figures: Mapping[str, Figures], path: Path) -> None:
    rows = [(name, figure, value) for name, each in figures.items() for figure, value in each.items()]
    write_csv(path, ("model", "figure", "value"), rows)

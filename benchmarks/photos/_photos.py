"""Suite `photos`: rendered photos of the test split, whose occluders, landmarks and geometry are known."""

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from rich.console import Console
from rich.progress import track

from diverse3d import InputError
from diverse3d.fit import FitProblem, PhotoFit, crop_face, fit, perhaps_hidden, prepare, render_face
from diverse3d.head import HeadModel, load_head
from diverse3d.observe import PhotoObservation, observe_photo, with_mask
from diverse3d.segment import FoundOccluder, find_occluder
from diverse3d.surface import facing_camera
from scenes import OCCLUDERS, Scene, scenes

from .._metric import Metric
from .._options import Options
from .._report import markdown
from ._backgrounds import shipped_photos

FIGURES = ("accuracy", "precision", "recall", "f1")
MASKS = ("true", "found", "none")
TONES = ("light", "medium", "dark")
FITTED_ROUND = 3
"""Every third round of occluders is fitted too, with three masks; masks alone are found in all photos."""

FEWEST = 15
"""Hidden vertices under which a share of them says nothing."""

_TONE_LIMITS = (-0.6, 0.9)


class Row(NamedTuple):
    """What was measured on one photo."""

    occluder: str
    tone: str
    mask: tuple[float, ...]
    """`FIGURES` of the seen face inside the rendered one, as Li et al. 2021 count them."""
    missed: tuple[float, ...]
    """Per cent of truly hidden vertices that count as seen: of the face, and about the jaw beside it (NaN: none)."""
    certainty: float
    geometry_mm: tuple[float, ...]
    """RMS distance of truly visible face vertices, placed by a similarity, for each of `MASKS`."""
    rmse: float
    """Of the re-rendered image inside the visible face, 0 to 255."""
    seconds_mask: float
    seconds_fit: float


def run(options: Options, console: Console) -> tuple[list[Metric], dict[str, str]]:
    """Masks found in photos, and what they are worth to the fit; by occluder and by skin tone."""
    problem = prepare(load_head())
    rows: list[Row] = []
    missed: list[str] = []
    drawn = scenes("test", options.heads, head=problem.head, backgrounds=shipped_photos())
    for index, scene in enumerate(track(drawn, "photos", total=options.heads, console=console)):
        try:
            seen = observe_photo(scene.rgb)
        except InputError:
            missed.append(scene.occluder)
            continue
        if not rows:
            measure(scene, seen, problem, fits=True)  # compiles
        # Whole rounds of occluders, so that each is fitted equally often.
        rows.append(measure(scene, seen, problem, fits=index // len(OCCLUDERS) % FITTED_ROUND == 0))
    return report(rows, missed, options.heads)


def measure(scene: Scene, seen: PhotoObservation, problem: FitProblem, *, fits: bool) -> Row:
    """One photo: its mask, and where `fits`, the fit with the true mask, the found one and none (else NaN)."""
    start = time.perf_counter()
    found = find_occluder(seen.photo, problem)
    between = time.perf_counter()
    masks = (scene.hidden, found.hidden, np.zeros_like(found.hidden)) if fits else ()
    fitted = [jax.block_until_ready(fit(with_mask(seen, mask), problem)) for mask in masks]
    end = time.perf_counter()
    return Row(
        occluder=scene.occluder,
        tone=TONES[int(np.searchsorted(_TONE_LIMITS, scene.melanin))],
        mask=mask_figures(found, scene),
        missed=missed_vertices(found, scene, seen, problem.head),
        certainty=found.certainty,
        geometry_mm=tuple(geometry_error_mm(one.vertices_m, scene, problem.head) for one in fitted)
        or (np.nan,) * len(MASKS),
        rmse=rerendered_rmse(fitted[1], scene, seen, problem) if fits else np.nan,
        seconds_mask=between - start,
        seconds_fit=(end - between) / len(MASKS) if fits else np.nan,
    )


def mask_figures(found: FoundOccluder, scene: Scene) -> tuple[float, ...]:
    """Accuracy, precision, recall and F1 of "this is the face, and seen" inside the rendered face."""
    said, true = ~found.hidden[found.face], (scene.face & ~scene.hidden)[found.face]
    both = float((said & true).sum())
    precision, recall = both / max(said.sum(), 1), both / max(true.sum(), 1)
    return (
        float((said == true).mean()),
        precision,
        recall,
        2 * precision * recall / max(precision + recall, 1e-9),
    )


def missed_vertices(found: FoundOccluder, scene: Scene, seen: PhotoObservation, head: HeadModel) -> tuple[float, float]:
    """Per cent of vertices in the picture that face the camera and are hidden all the same, but not by the found mask:
    of the face, and of what lies below the lips beside it."""
    doubted = perhaps_hidden(with_mask(seen, found.hidden, probability=found.probability).photo)
    turned = jnp.asarray(scene.vertices_m, jnp.float32)
    column, row = np.floor(np.asarray(scene.camera.project(turned))).astype(int).T
    height, width = doubted.shape
    hidden = (column >= 0) & (column < width) & (row >= 0) & (row < height) & ~scene.visible
    hidden &= np.asarray(facing_camera(turned, head.faces))
    face, template = np.zeros(head.n_vertices, bool), np.asarray(head.template_m)
    face[np.asarray(head.regions["face"])] = True
    jaw = ~face & (template[:, 1] < template[np.asarray(head.regions["lips"]), 1].mean())
    missed = ~doubted[row.clip(0, height - 1), column.clip(0, width - 1)]
    shares = [100.0 * float(missed[hidden & part].mean()) if (hidden & part).sum() >= FEWEST else float("nan")
              for part in (face, jaw)]  # fmt: skip
    return shares[0], shares[1]


def geometry_error_mm(vertices_m: Float[Array, "V 3"], scene: Scene, head: HeadModel) -> float:
    """RMS distance of visible face vertices from the truth, in any frame; a photo tells no size: a similarity is free.

    NaN where next to nothing of the face is visible.
    """
    chosen = np.asarray(head.regions["face"])
    chosen = chosen[scene.visible[chosen]]
    made = np.asarray(vertices_m, np.float64)[chosen]
    true = np.asarray(scene.vertices_m, np.float64)[chosen]
    if len(chosen) < 10:
        return float("nan")
    made, true = made - made.mean(0), true - true.mean(0)
    u, values, vt = np.linalg.svd(made.T @ true)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    scale = float((values * signs).sum() / (made**2).sum())
    off = scale * made @ (u * signs) @ vt - true
    return 1e3 * float(np.sqrt((off**2).sum(1).mean()))


def rerendered_rmse(fitted: PhotoFit, scene: Scene, seen: PhotoObservation, problem: FitProblem) -> float:
    """RMS difference of the fitted face's picture and the photo, on the tone scale times 255, where truly seen."""
    if problem.pixels is None or fitted.appearance is None:
        return float("nan")
    crop = crop_face(with_mask(seen, ~(scene.face & ~scene.hidden)).photo, problem.head.dtype)
    posed = fitted.to_world(fitted.vertices_m)[problem.pixels.kept]
    picture = render_face(problem.pixels, crop, posed, fitted.camera, fitted.appearance)
    shown = np.asarray(picture.inside) & (np.asarray(crop.weight) > 0)
    difference = np.asarray(jnp.clip(picture.tone, 0, 1) - crop.tone, np.float64)[shown]
    return 255.0 * float(np.sqrt((difference**2).mean())) if shown.any() else float("nan")


def known_mean(values: list[float]) -> float:
    """Mean of what was measured; NaN where nothing was."""
    known = np.asarray(values)[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def report(rows: list[Row], missed: list[str], count: int) -> tuple[list[Metric], dict[str, str]]:
    """Metrics and tables of all photos together, by occluder and by skin tone."""
    settings = f"photos[photos={count}]"
    groups = {
        "occluded": [r for r in rows if r.occluder != "none"],
        "unoccluded": [r for r in rows if r.occluder == "none"],
        "overall": rows,
    }
    groups |= {name: [r for r in rows if r.occluder == name] for name in sorted({r.occluder for r in rows} - {"none"})}
    groups |= {f"{tone} skin": [r for r in rows if r.tone == tone] for tone in TONES}
    metrics = [Metric(f"{settings}/faces_missed", 100 * len(missed) / count, "%", "lower", 0.1, 2.0)]
    table = []
    for name, members in groups.items():
        if not members:
            continue
        figures = dict(zip(FIGURES, np.mean([r.mask for r in members], axis=0), strict=True))
        geometry = {mask: known_mean([r.geometry_mm[i] for r in members]) for i, mask in enumerate(MASKS)}
        rmse = known_mean([r.rmse for r in members])
        missed_face, missed_jaw = (known_mean([r.missed[i] for r in members]) for i in range(2))
        key = f"{settings}/{name}"
        metrics += [Metric(f"{key}/{figure}", float(v), "share", "higher", 0.02) for figure, v in figures.items()]
        metrics += [Metric(f"{key}/geometry/{mask}", v, "mm", "lower", 0.05) for mask, v in geometry.items()]
        metrics.append(Metric(f"{key}/rmse", rmse, "of 255", "lower", 0.05))
        for part, value in (("face", missed_face), ("jaw", missed_jaw)):
            metrics.append(Metric(f"{key}/missed/{part}", value, "%", "lower", 0.1, 3.0))
        table.append([name, str(len(members)), *(f"{v:.3f}" for v in figures.values()),
                      *(f"{v:.2f}" for v in geometry.values()), f"{rmse:.1f}",
                      f"{missed_face:.0f}", f"{missed_jaw:.0f}"])  # fmt: skip
    seconds = [np.median([r.seconds_mask for r in rows]), np.nanmedian([r.seconds_fit for r in rows])]
    for name, value in zip(("mask", "fit"), seconds, strict=True):
        metrics.append(Metric(f"{settings}/seconds/{name}", float(value), "s", "lower", 2.0, 0.5))
    wrong = np.array([1 - r.mask[0] for r in rows])
    told = float(np.corrcoef(wrong, [1 - r.certainty for r in rows])[0, 1]) if len(rows) > 2 else float("nan")
    metrics.append(Metric(f"{settings}/certainty_correlation", told, "correlation", "higher", 0.0, 0.1))
    head = [
        "photos",
        "n",
        *FIGURES,
        *(f"geometry, {mask} mask (mm)" for mask in MASKS),
        "RMSE",
        "hidden face called seen (%)",
        "hidden jaw called seen (%)",
    ]
    text = markdown(f"{settings}: the seen face inside the rendered one; geometry of visible vertices", head, table)
    text += (
        f"No face found in {len(missed)} of {count} ({', '.join(missed) or '-'}). Median {seconds[0]:.2f} s for a "
        f"mask, {seconds[1]:.2f} s for a fit. Correlation of uncertainty with error {told:.2f}.\n"
    )
    return metrics, {"photos": text}

"""Suite `people`: rendered photos of scan models' people, whom neither the fit nor the detector's noise was learnt on.

What is seen and what is hidden is told along the surface's normal, since registration slides along it.
"""

import time
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from rich.console import Console
from rich.progress import track

import diverse3d as d3
from diverse3d import InputError
from diverse3d.fit import FitProblem, prepare
from diverse3d.head import HeadModel, load_head
from diverse3d.observe import observe_photo
from diverse3d.surface import host_normals, kabsch
from scenes import OCCLUDERS, Scene, draw_scene

from .._metric import Metric
from .._options import Options
from .._report import markdown
from .._scan_models import covered, scan_model_heads
from ._backgrounds import shipped_photos

SAMPLES = 32
NOISES = ("photo", "realistic")
"""Held to the picture, as by default, and to the fit, as published."""
_SEED = 31
_NORMAL_QUANTILE = 1.645
_FEWEST = 30


class Row(NamedTuple):
    """One photo."""

    fit_mm: float
    """RMS along the normal of seen face vertices, placed by a similarity."""
    mean_mm: float
    """The same of the unfitted mean head."""
    energy_mm: tuple[float, ...]
    """Energy score over hidden face vertices, of each of `NOISES`."""
    seen: tuple[float, ...]
    """Per cent of seen face vertices whose true place lies in the 90 % interval."""
    hidden: tuple[float, ...]
    """The same of hidden ones."""
    spread_mm: tuple[float, ...]
    """RMS spread of seen vertices."""
    identity: np.ndarray
    """The fit's identity coefficients."""
    seconds: float


def run(options: Options, console: Console) -> tuple[list[Metric], dict[str, str]]:
    """Two photos of each person, in other light, pose and occluder; true masks."""
    if options.people is None:
        raise InputError("The suite people needs the folder of scan models: --people DIR.")
    problem = prepare(load_head())
    metrics: list[Metric] = []
    table: list[list[str]] = []
    for model in ("ict", "flame"):
        pairs: list[list[Row]] = []
        drawn, reached = photos(problem.head, options, model), covered(options.people, model)
        for shots in track(drawn, model, total=options.heads, console=console):
            pairs.append([row for shot in shots if (row := measured(shot, problem, reached)) is not None])
        key = f"people[{model},{options.heads}]"
        made, line = reported(key, pairs)
        metrics += made
        table.append([model, *line])
        console.print(" | ".join(table[-1]), markup=False)
    names = ["people of", "photos", "fit (mm)", "mean head (mm)", "energy, photo / held to the fit (mm)",
             "seen in 90 % (%)", "hidden in 90 % (%)", "spread where seen (mm)", "AUC", "seconds a fit"]  # fmt: skip
    title = f"people: rendered photos of {options.heads} people a scan model, two each, true masks; along the normal"
    return metrics, {"people": markdown(title, names, table)}


def photos(head: HeadModel, options: Options, model: str) -> Iterator[list[Scene]]:
    """Two scenes a person."""
    assert options.people is not None
    heads = scan_model_heads(options.people, model, options.heads, np.asarray(head.template_m, np.float64))
    key, backgrounds = jax.random.key(_SEED, impl="threefry2x32"), shipped_photos()
    for number, one in enumerate(heads):
        yield [
            draw_scene(
                head, one, key=jax.random.fold_in(key, 2 * number + shot),
                occluder=OCCLUDERS[(number + 4 * shot) % len(OCCLUDERS)], backgrounds=backgrounds,
            )
            for shot in range(2)
        ]  # fmt: skip


def measured(scene: Scene, problem: FitProblem, reached: np.ndarray) -> Row | None:
    """One photo's figures over the face that registration reached; None where no face is found or next to nothing of it
    is seen."""
    head, face = problem.head, np.asarray(problem.head.regions["face"])
    face = face[reached[face]]
    seen, hidden = face[scene.visible[face]], face[~scene.visible[face]]
    try:
        photo = observe_photo(scene.rgb, mask=scene.hidden)
    except InputError:
        return None
    if len(seen) < _FEWEST:
        return None
    begin = time.perf_counter()
    fitted = jax.block_until_ready(d3.fit(photo, problem))
    seconds = time.perf_counter() - begin
    truth, faces = scene.vertices_m, np.asarray(head.faces)
    errors = [_across(_placed(np.asarray(one, np.float64), truth, seen), truth, faces, seen)
              for one in (fitted.vertices_m, head.shaped(head.prior_mean))]  # fmt: skip
    scored = []
    for noise in NOISES:
        made = d3.complete(
            photo, head=problem, n=SAMPLES, method="posterior", noise=noise, fitted=fitted, key=jax.random.key(1)
        )
        scored.append(_scored(np.asarray(made.vertices, np.float64), truth, faces, seen, hidden))
    energy, in_seen, in_hidden, spread = zip(*scored, strict=True)
    index = np.r_[: head.n_identity, head.n_identity + head.n_expression : head.n_components]
    identity = np.asarray(fitted.unknowns.z, np.float64)[index]
    return Row(_rms_mm(errors[0]), _rms_mm(errors[1]), energy, in_seen, in_hidden, spread, identity, seconds)


def _rms_mm(off_m: np.ndarray) -> float:
    return 1e3 * float(np.sqrt((off_m**2).mean()))


def _placed(vertices: np.ndarray, goal: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Vertices moved on to a goal by the similarity that fits some of them best."""
    turn, _ = kabsch(vertices, goal, index)
    turned = vertices @ turn.T
    off, aim = turned[index] - turned[index].mean(0), goal[index] - goal[index].mean(0)
    size = float((off * aim).sum() / (off**2).sum())
    return size * (turned - turned[index].mean(0)) + goal[index].mean(0)


def _across(vertices: np.ndarray, truth: np.ndarray, faces: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Distances along the truth's normals, metres."""
    return ((vertices - truth)[index] * host_normals(truth, faces)[index]).sum(1)


def _scored(
    samples: np.ndarray, truth: np.ndarray, faces: np.ndarray, seen: np.ndarray, hidden: np.ndarray
) -> tuple[float, float, float, float]:
    """Energy score (mm, hidden), share in the interval where seen and where hidden (%), spread where seen (mm).

    Samples and truth are laid on the samples' mean alike, by what is seen and a similarity: a photo tells neither place
    nor size.
    """
    centre = samples.mean(0)
    samples = np.stack([_placed(one, centre, seen) for one in samples])
    truth = _placed(truth, centre, seen)
    centre, normals = samples.mean(0), host_normals(samples.mean(0), faces)
    off = ((samples - centre) * normals).sum(2)
    # Few samples' own deviation is too small, and their mean off, both by their number.
    deviation = off.std(0, ddof=1) * np.sqrt(1.0 + 1.0 / len(samples))
    error = ((truth - centre) * normals).sum(1)
    within = np.abs(error) <= _NORMAL_QUANTILE * deviation
    share = [100.0 * float(within[part].mean()) if len(part) >= _FEWEST else float("nan") for part in (seen, hidden)]
    energy = float("nan")
    if len(hidden) >= _FEWEST:
        far = np.sqrt(((off - error)[:, hidden] ** 2).mean(1)).mean()
        half = len(samples) // 2
        apart = np.sqrt(((off[:half] - off[half : 2 * half])[:, hidden] ** 2).mean(1)).mean()
        energy = 1e3 * float(far - apart / 2)
    return energy, share[0], share[1], 1e3 * float(np.sqrt((deviation[seen] ** 2).mean()))


def reported(key: str, pairs: list[list[Row]]) -> tuple[list[Metric], list[str]]:
    """Metrics and a line of the table."""
    rows = [row for pair in pairs for row in pair]

    def mean(values: list[float]) -> float:
        known = [value for value in values if np.isfinite(value)]
        return float(np.mean(known)) if known else float("nan")

    fit, bare = mean([row.fit_mm for row in rows]), mean([row.mean_mm for row in rows])
    by_noise = {
        name: [mean([getattr(row, name)[i] for row in rows]) for i in range(len(NOISES))]
        for name in ("energy_mm", "seen", "hidden", "spread_mm")
    }
    area = auc([pair for pair in pairs if len(pair) == 2])
    metrics = [Metric(f"{key}/fit", fit, "mm", "lower", 0.05), Metric(f"{key}/mean_head", bare, "mm", "lower", 0.05)]
    for i, noise in enumerate(NOISES):
        metrics.append(Metric(f"{key}/{noise}/energy", by_noise["energy_mm"][i], "mm", "lower", 0.05))
        for part in ("seen", "hidden"):
            metrics.append(Metric(f"{key}/{noise}/coverage_{part}", by_noise[part][i], "%", "higher", 0.0, 5.0))
    metrics.append(Metric(f"{key}/auc", area, "", "higher", 0.0, 0.03))
    seconds = float(np.median([row.seconds for row in rows]))
    both = {name: " / ".join(f"{value:.2f}" for value in values) for name, values in by_noise.items()}
    return metrics, [
        str(len(rows)), f"{fit:.2f}", f"{bare:.2f}", both["energy_mm"], both["seen"], both["hidden"],
        both["spread_mm"], f"{area:.3f}", f"{seconds:.1f}",
    ]  # fmt: skip


def auc(pairs: list[list[Row]]) -> float:
    """Chance that two photos of one person are more alike than two of different people, by the cosine of the fits'
    identity coefficients about their mean: what all share tells nobody apart."""
    if len(pairs) < 2:
        return float("nan")
    first, second = (np.stack([pair[i].identity for pair in pairs]) for i in range(2))
    middle = np.concatenate([first, second]).mean(0)
    first, second = first - middle, second - middle
    first, second = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (first, second))
    alike = first @ second.T
    same, other = np.diag(alike), alike[~np.eye(len(alike), dtype=bool)]
    return float((same[:, None] > other[None]).mean() + 0.5 * (same[:, None] == other[None]).mean())

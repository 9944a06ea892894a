"""Suite `register`: raw front scans without landmarks, in the head's topology."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from diverse3d import InputError, load_head
from diverse3d.files import Mesh
from diverse3d.head import HeadModel, population
from diverse3d.register import register
from diverse3d.surface import host_normals, kabsch, nearest_places
from scenes import RawScan, raw_scan

from .._metric import Metric
from .._options import Options
from .._report import markdown
from .._scan_models import covered, scan_model_heads
from ._rivals import amberg, literal, statistical_stage

MISFIT_M = 0.0015
_SEED = 20
_NO_FACES = np.zeros((0, 3), np.int32)
_OWN, _AMBERG, _LITERAL = "", ": nricp_amberg, landmarks given", ": relaxation as published"


@dataclass(frozen=True)
class Errors:
    """One registered scan, millimetres, over seen vertices of the face."""

    vertex: float
    """Mean distance to the true vertex."""
    surface: float
    """Mean distance to the true surface."""
    along: float
    """Mean distance to the true vertex along the true surface's normal."""
    seconds: float
    """Processor time."""
    noise: float = 0.2
    """The scan's own noise, as it was found."""


def run(options: Options, console: Console) -> tuple[list[Metric], dict[str, str]]:
    """Scan heads of the test split, as they are and with a smooth field added that the head doesn't have, and samples
    of scan models where a folder of them is given (`--people`); register each; compare.

    What is measured of each scan is kept in `register-scans.json` of the output folder, and an interrupted run goes on
    from there.
    """
    head, count = load_head(), options.heads
    own = np.asarray(population.split("test", count).vertices, np.float64)
    known = face_of(head)
    cases = {"own heads": (own, 0.0, known), "own heads + misfit": (own, MISFIT_M, known)}
    if options.people is not None:
        for name in ("ict", "flame"):
            heads = scan_model_heads(options.people, name, count)
            cases[f"{name} samples"] = (heads, 0.0, known & covered(options.people, name))
    store = options.out / "register-scans.json"
    kept: dict[str, dict[str, dict[str, float] | None]] = json.loads(store.read_text()) if store.is_file() else {}
    metrics: list[Metric] = []
    rows: list[list[str]] = []
    for name, (heads, misfit, where) in cases.items():
        for number in track(range(count), name, total=count, console=console):
            key = f"{name}/{number}/{options.outside}"
            if key not in kept:
                random = np.random.default_rng(_SEED + number)
                scan = raw_scan(heads[number], np.asarray(head.faces), random, misfit_m=misfit)
                kept[key] = measured(scan, head, where, random, outside=options.outside)
                _keep(store, kept)
        for kind in (_OWN, _AMBERG, _LITERAL) if options.outside else (_OWN,):
            each = [kept[f"{name}/{number}/{options.outside}"].get(kind) for number in range(count)]
            found = [Errors(**one) for one in each if one is not None]
            metrics += of_case(f"register[scans={count}]/{name}{kind}", found, count)
            rows.append(row(name + kind, found, count))
            console.print(" | ".join(rows[-1]), markup=False)
    names = [
        "scans", "registered", "to the true vertex (mm)", "worst", "to the true surface (mm)", "worst",
        "along the normal (mm)", "seconds",
    ]  # fmt: skip
    title = f"register[scans={count}]: raw front scans, 30,000 points, noise 0.2 mm, no landmarks given"
    return metrics, {"register": markdown(title, names, rows)}


def _keep(store: Path, kept: dict[str, dict[str, dict[str, float] | None]]) -> None:
    part = store.with_suffix(".part")
    part.write_text(json.dumps(kept, indent=1))
    part.replace(store)


def measured(
    scan: RawScan, head: HeadModel, where: np.ndarray, random: np.random.Generator, *, outside: bool
) -> dict[str, dict[str, float] | None]:
    """Errors of one scan by the name of the registration, None where it is refused; over vertices `where`."""
    begin = time.process_time()
    with statistical_stage() as stage:
        try:
            found = register(Mesh(1e3 * scan.points_m, _NO_FACES), head)
        except InputError:
            return {_OWN: None}
    taken = time.process_time() - begin
    seen = found.visible & where
    noise = found.figures.noise_mm
    result: dict[str, dict[str, float] | None] = {
        _OWN: asdict(errors(found.vertices_m, seen, scan, head, taken, noise))
    }
    if outside:
        begin = time.process_time()
        vertices = amberg(scan, head, random)
        result[_AMBERG] = asdict(errors(vertices, seen, scan, head, time.process_time() - begin, noise))
        relaxed, match, start, faces, *_ = stage
        begin = time.process_time()
        vertices = literal(match, start, faces)
        extra = time.process_time() - begin
        # Back into the scan's frame, by the motion that brought the product's own head there.
        turn, shift = kabsch(relaxed, found.vertices_m, ~found.visible)
        vertices = vertices @ turn.T + shift
        result[_LITERAL] = asdict(errors(vertices, seen, scan, head, taken + extra, noise))
    return result


def errors(
    vertices: np.ndarray, seen: np.ndarray, scan: RawScan, head: HeadModel, seconds: float, noise: float
) -> Errors:
    """How far seen vertices lie off."""
    faces = np.asarray(head.faces)
    place = nearest_places(vertices[seen], scan.surface_m, faces).place
    off = (vertices - scan.surface_m)[seen]
    along = (off * host_normals(scan.surface_m, faces)[seen]).sum(axis=1)
    return Errors(
        1e3 * float(np.linalg.norm(off, axis=1).mean()),
        1e3 * float(np.linalg.norm(vertices[seen] - place, axis=1).mean()),
        1e3 * float(np.abs(along).mean()),
        seconds,
        noise,
    )


def face_of(head: HeadModel) -> np.ndarray:
    """bool [V]: the face without eyeballs."""
    face = np.zeros(head.n_vertices, bool)
    face[np.asarray(head.regions["face"])] = True
    for name in ("left_eyeball", "right_eyeball"):
        face[np.asarray(head.regions[name])] = False
    return face


def of_case(settings: str, found: list[Errors], count: int) -> list[Metric]:
    """Metrics of a case."""
    metrics = [Metric(f"{settings}/registered", 100.0 * len(found) / count, "%", "higher", 0.0, 5.0)]
    if found:
        vertex, surface, along = _columns(found)
        metrics += [
            Metric(f"{settings}/vertex", float(vertex.mean()), "mm", "lower", 0.05, 0.01),
            Metric(f"{settings}/vertex_worst", float(vertex.max()), "mm", "lower", 0.1, 0.02),
            Metric(f"{settings}/surface", float(surface.mean()), "mm", "lower", 0.05, 0.005),
            Metric(f"{settings}/surface_worst", float(surface.max()), "mm", "lower", 0.1, 0.01),
            Metric(f"{settings}/along", float(along.mean()), "mm", "lower", 0.05, 0.005),
            Metric(f"{settings}/seconds", float(np.median([one.seconds for one in found])), "s", "lower", 1.0),
        ]
    return metrics


def row(name: str, found: list[Errors], count: int) -> list[str]:
    """A line of the table."""
    if not found:
        return [name, f"0 of {count}", *[""] * 6]
    vertex, surface, along = _columns(found)
    seconds = float(np.median([one.seconds for one in found]))
    figures = [vertex.mean(), vertex.max(), surface.mean(), surface.max(), along.mean()]
    return [name, f"{len(found)} of {count}", *(f"{figure:.2f}" for figure in figures), f"{seconds:.0f}"]


def _columns(found: list[Errors]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    columns = np.array([(one.vertex, one.surface, one.along) for one in found]).T
    return columns[0], columns[1], columns[2]

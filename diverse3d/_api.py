"""What `import diverse3d as d3` offers: the data's way in one call each, with the embedded head where none is given."""

import hashlib
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import trimesh
from jaxtyping import Bool, Float, PRNGKeyArray, UInt8
from PIL import Image

from . import diversify, observe, show
from ._assets import check_assets
from ._errors import InputError
from ._names import EXPORT_RECORD_NAME
from .diversify import (
    Completions,
    DiversifyConfig,
    Given,
    HeadPath,
    Learned,
    Pin,
    Posterior,
    check_pin,
    chosen_vertices,
    default_method,
    get_method,
)
from .files import Mesh, npz_bytes
from .fit import Fit, FitConfig, FitProblem, NoiseModel, PhotoFit, prepare
from .fit import fit as fit_observation
from .head import HeadModel, load_head
from .observe import MeshObservation, Observation, PhotoObservation
from .register import ScanObservation, observed, read_landmarks, register
from .segment import find_occluder
from .show import Run, Stages, Textures, check_target, textures


class Result(Completions):
    """N plausible heads for one occluded face, with how they were made; they can be measured and saved."""

    head: HeadModel
    """The head that it was made with."""
    run: Run = eqx.field(static=True)
    """Settings, key and head, as `run.json` records them."""

    def metrics(self, truth: Float[np.ndarray, "V 3"] | None = None) -> dict[str, float]:
        """Diversity and agreement with what is visible, in the units of `diverse3d.UNITS`; NaN where not defined.

        `truth` is the true head in the result's own frame, in metres: then the errors against it are there too.
        """
        return show.metrics_of(self, truth)

    def save(
        self,
        directory: str | os.PathLike[str],
        *,
        force: bool = False,
        light: Literal["kept", "removed"] = "kept",
        stages: Stages | None = None,
        options: Mapping[str, Any] | None = None,
        report: bool = True,
    ) -> Path:
        """Write everything into a folder, which appears whole or not at all, and return its path.

        Where a photo gives a texture, meshes carry it, with the photo's light `kept` on it or `removed`. `stages` is
        told of each stage, `options` are further facts for the record, `report` says whether `report.html` is written
        too. Raises `InputError` when the folder can't be
        written or holds something (`force` replaces an older result).
        """
        stages = Stages(seconds=dict(self.run.seconds)) if stages is None else stages
        check_target(directory, force=force)
        with stages("draw"):
            skins = self.textures(light)
        return show.save(
            self, directory, force=force, run=self.run, stages=stages, options=options, textures=skins, report=report
        )

    def export(
        self,
        directory: str | os.PathLike[str],
        format: show.Format,
        *,
        unit: show.Unit | None = None,
        closed: bool = False,
        light: Literal["kept", "removed"] = "kept",
        force: bool = False,
    ) -> Path:
        """Write the fit and the heads for another program, and return the folder; `diverse3d export` does it for a
        result on the disk.

        `format` is glb, ply, obj, stl or npz; vertices keep their order (an STL file's triangles keep theirs, each with
        corners of its own). `unit` is m, cm or mm: metres if not given, for STL millimetres. `closed` closes the neck
        of an STL mesh. Raises `InputError` as `save` does, and for a format or unit that isn't there.
        """
        check_target(directory, force=force, record=EXPORT_RECORD_NAME)
        skins, faces = self.textures(light), np.asarray(self.faces)
        spread = self.uncertainty.astype(np.float32)
        colours = None if skins is not None else show.uncertainty_colours(self.uncertainty)
        heads = [("fit", self.fit_vertices), *((f"{i:02d}", head) for i, head in enumerate(np.asarray(self.vertices)))]
        pictures = [None] * len(heads) if skins is None else itertools.chain([skins.fit], skins.heads)
        uv = None if skins is None else skins.uv
        shapes = (
            (name, show.Shape(np.asarray(vertices, np.float32), faces, colours, uv, picture, spread))
            for (name, vertices), picture in zip(heads, pictures, strict=True)
        )
        return show.export(shapes, directory, format, unit=unit, closed=closed, force=force)

    def plot(self) -> Image.Image:
        """The contact sheet: what was given, the fit, the spread in millimetres, and the heads; takes some seconds."""
        drawing = show.draw(self.seen, self.fit, np.asarray(self.faces), self, self.textures())
        return show.contact_sheet(self.seen, self.fit, drawing, self)

    def _repr_html_(self) -> str:
        """The contact sheet, for notebooks."""
        return show.picture_html(self.plot(), f"{len(self.vertices)} completions of {self.seen.source}")

    def textures(self, light: Literal["kept", "removed"] = "kept") -> Textures | None:
        """Textures of the fit and the heads, where a photo gives them."""
        if not (isinstance(self.seen, PhotoObservation) and isinstance(self.fit, PhotoFit)):
            return None
        if self.fit.appearance is None:
            return None
        return textures(self.seen.photo, self.fit, self.head, self.vertices, self.fit.appearance, light)


class Interpolation(HeadPath):
    """Heads along the path between two completions of a result; they can be saved."""

    run: Run = eqx.field(static=True)
    """How the result was made."""

    def save(self, directory: str | os.PathLike[str], *, force: bool = False, stages: Stages | None = None) -> Path:
        """Write meshes, one animated GLB, a GIF, a strip and figures into a folder and return its path.

        It appears whole or not at all. Raises `InputError` when it can't be written or holds something (`force`
        replaces an older path).
        """
        return show.save_path(self, directory, force=force, run=self.run, stages=stages)


def complete(
    seen: Observation,
    *,
    head: HeadModel | FitProblem | None = None,
    n: int = 20,
    method: str | None = None,
    key: PRNGKeyArray,
    noise: str | NoiseModel | None = None,
    fit_config: FitConfig | None = None,
    config: DiversifyConfig | None = None,
    fitted: Fit | None = None,
    posterior: Posterior | None = None,
    weights: str | os.PathLike[str] | Learned | None = None,
    stages: Stages | None = None,
    pin: Pin | None = None,
) -> Result:
    """N plausible heads that agree with what is visible.

    `head` None is the embedded one, `method` None its default. `noise` is `exact`, `realistic`,
    `registered`, `photo`, a `NoiseModel`, or None: then a photo goes by its landmarks (`photo`), and a mesh is held to
    as `exact` or `realistic`, whichever explains its visible vertices better (by log evidence), or, where both are far
    too small, as `registered`. The methods that start from no closed form hold to the fit
    alone and ignore it. `fitted` skips stage 1 with a fit of the method's own head, `posterior` the closed form with
    that of the fit. `weights` is the trained model of a method that has one, or its file; None is the one that the
    package carries for the head. `stages` is told of each stage and counts its seconds. `pin` is what of an earlier
    result is kept in all of them, which `diverse3d.pin` makes.

    A sample that leaves the visible part by more than `DiversifyConfig.visible_tolerance_mm` is repaired by the kriging
    correction, which its result code says. Raises `InputError` for an unknown method or noise, n < 1, more samples than
    the machine's memory holds, a head without weights, or nothing visible where the method encodes what is.
    """
    check_assets()
    stages = Stages() if stages is None else stages
    fit_config = FitConfig() if fit_config is None else fit_config
    learned = weights if isinstance(weights, Learned) or weights is None else Path(weights)
    with stages("prepare"):
        head = load_head() if head is None else head
        name = default_method(head.head if isinstance(head, FitProblem) else head) if method is None else method
        chosen = get_method(name)
        config = chosen.settle(DiversifyConfig() if config is None else config)
        own = head.head if isinstance(head, FitProblem) else chosen.head(head)
        diversify.check(name, own, n, config, noise=noise, weights=learned)
        if pin is not None:
            check_pin(name, pin.index + 1, pin.index)
        problem = head if isinstance(head, FitProblem) else prepare(own)
        jax.block_until_ready(problem.smoothness)
    if fitted is None:
        with stages("fit"):
            fitted = fit_observation(seen, problem, fit_config)
            jax.block_until_ready(fitted.vertices_m)
    with stages("complete"):
        given = Given(
            name, config, seen, own, fitted,
            noise=noise, posterior=posterior, weights=learned, pixels=problem.pixels,
        )  # fmt: skip
        made = diversify.complete(given, n, key=key, pin=pin)
        jax.block_until_ready(made.vertices)
    asked = made.noise if isinstance(noise, NoiseModel) else noise
    run = describe(
        own, key=key, n=n, method=name, noise=asked, fit_config=fit_config, config=config, stages=stages
    )  # fmt: skip
    return Result(**vars(made), head=own, run=run)


def pin(
    result: Result,
    index: int,
    region: str | Sequence[str] | Bool[np.ndarray, " V"],
    n: int | None = None,
    *,
    key: PRNGKeyArray,
    method: str | None = None,
    config: DiversifyConfig | None = None,
    posterior: Posterior | None = None,
    weights: str | os.PathLike[str] | Learned | None = None,
    stages: Stages | None = None,
) -> Result:
    """`n` new completions in which a region of completion `index` is kept and the rest is drawn anew.

    The closed form is conditioned on the region's vertices, as if they had been seen with next to no noise: they stay
    within 0.1 mm, and nothing is rejected. The visible part is held as before, and what was pinned before stays so. For
    hybrids, the trained model is told the same. `region` is one of `result.head.regions` or several, by name, or
    bool [V], true where kept. `n` None is as many as the result has, `method` another one that draws from the closed
    form (None: the result's own, with its settings; `config` are others). `posterior` is the closed form of the
    result's fit, if it is there already, `weights` the trained model that the result was made with; None is the
    package's. Raises `InputError` for a completion or region that isn't there, for methods that don't draw from the
    closed form, for other weights, and where a repaired completion's region is out of the closed form's reach.
    """
    stages = Stages() if stages is None else stages
    name = result.method if method is None else method
    check_pin(name, len(result.vertices), index)
    n = len(result.vertices) if n is None else n
    marks, names = chosen_vertices(result.head, region)
    if result.pin is not None:
        marks, names = marks | result.pin.vertices, tuple(dict.fromkeys([*result.pin.regions, *names]))
    if config is None:
        own = result.run.diversify
        config = own if name == result.method else own.replace(pool=None, hold=None, contraction=None)
    config = get_method(name).settle(config)
    learned = weights if isinstance(weights, Learned) or weights is None else Path(weights)
    diversify.check(name, result.head, n, config, weights=learned)
    held = np.where(marks[:, None], np.asarray(result.vertices[index], np.float32), np.float32(0))
    of = hashlib.sha256(npz_bytes(show.completion_arrays(result))).hexdigest()
    with stages("complete"):
        given = _given(result, name, config, posterior, learned)
        made = diversify.complete(given, n, key=key, pin=Pin(marks, held, index, names, of))
        jax.block_until_ready(made.vertices)
    run = describe(
        result.head, key=key, n=n, method=name, noise=result.run.noise, fit_config=result.run.fit, config=config,
        stages=stages,
    )  # fmt: skip
    return Result(**vars(made), head=result.head, run=run)


_last_given: list[tuple[tuple[Any, ...], Given]] = []


def _given(
    result: Result, name: str, config: DiversifyConfig, posterior: Posterior | None, weights: Learned | Path | None
) -> Given:
    """What a result was made of. The last one is kept, since who pins does so again, and the closed form and what holds
    samples together take longer than the pin itself."""
    asked = (result.fit, result.head, posterior, weights)
    settings = (name, config, result.noise, result.weights_sha256)
    for (before, said), given in _last_given:
        if said == settings and all(one is other for one, other in zip(before, asked, strict=True)):
            return given
    given = Given.of(result, result.head, config, name=name, posterior=posterior, weights=weights)
    _last_given[:] = [((asked, settings), given)]
    return given


def interpolate(
    result: Result,
    i: int,
    j: int,
    *,
    frames: int = 9,
    plain: bool = False,
    head: HeadModel | None = None,
    weights: str | os.PathLike[str] | None = None,
) -> Interpolation:
    """The path from completion `i` to `j` of a result, its visible part held; see `diverse3d.diversify.interpolate`.

    `head` is the one that the result was made with, None the embedded one; `weights` likewise. `plain` leaves the
    visible part to the latents' straight line. Raises `InputError` for another head or other weights, for completions
    that are not there, are the same or have no latents, and for a number of frames out of range.
    """
    head = load_head() if head is None else head
    if head.sha256 != result.run.head_sha256:
        raise InputError(f"The result was made with the head '{result.run.head_name}', not '{head.name}'; give that.")
    file = None if weights is None else Path(weights)
    path = diversify.interpolate(
        result, i, j, head=head, frames=frames, plain=plain, config=result.run.diversify, weights=file
    )
    return Interpolation(**vars(path), run=result.run)


def fit(seen: Observation, head: HeadModel | FitProblem | None = None, config: FitConfig | None = None) -> Fit:
    """The single best head for an observation; see `diverse3d.fit.fit`. `head` None is the embedded one."""
    return fit_observation(seen, load_head() if head is None else head, config)


def observe_photo(
    photo: str | Path | UInt8[np.ndarray, "H W 3"],
    *,
    mask: str | Path | Bool[np.ndarray, "H W"] | None = None,
    occlude: str | None = None,
    key: PRNGKeyArray | None = None,
    head: HeadModel | FitProblem | None = None,
    face: observe.Which | None = None,
) -> PhotoObservation:
    """Observation from a photo: its largest face, 468 landmarks, and what hides them.

    `mask` (a picture whose white hides, or bool [H,W]) says where something hides the face; `occlude` names a region of
    `REGIONS` to paint over (drawn by `key`), `auto` to find what hides the face in the photo itself, or `none`. Without
    either, it is `auto`, unless `head` (None: the embedded one) has no albedo to tell by. `face` is another face than
    the largest: its number from left to right, from 1, or a point (x, y) in pixels that it is nearest to. Raises
    `InputError` for unreadable pictures, no face or none of that number, an unknown region, or `auto` with a mask or
    with a head that can't be told by.
    """
    seen = look_at_photo(photo, mask=mask, occlude=occlude, key=key, face=face)
    return with_occluder_found(seen, mask=mask, occlude=occlude, head=head)


def observe_photos(
    photos: Sequence[str | Path | UInt8[np.ndarray, "H W 3"]],
    *,
    target: int = 0,
    masks: Sequence[str | Path | Bool[np.ndarray, "H W"] | None] | None = None,
    head: HeadModel | FitProblem | None = None,
) -> PhotoObservation:
    """Observation from several photos of one person: `photos[target]` is what is completed, the others tell more of
    the person. What hides a face is found in each photo, where `masks` doesn't say it.

    Light, pose, expression and what is hidden may differ. Raises `InputError` as `observe_photo` does, and for a target
    that isn't there or masks of another number.
    """
    if not 0 <= target < len(photos):
        raise InputError(f"There is no photo {target} among {len(photos)}; targets count from 0.")
    masks = [None] * len(photos) if masks is None else masks
    if len(masks) != len(photos):
        raise InputError(f"{len(masks)} masks were given for {len(photos)} photos; give one each, or None.")
    problem = head if isinstance(head, FitProblem) else prepare(load_head() if head is None else head)
    seen = [observe_photo(photo, mask=mask, head=problem) for photo, mask in zip(photos, masks, strict=True)]
    return observe.together(seen.pop(target), seen)


def look_at_photo(
    photo: str | Path | UInt8[np.ndarray, "H W 3"],
    *,
    mask: str | Path | Bool[np.ndarray, "H W"] | None,
    occlude: str | None,
    key: PRNGKeyArray | None,
    face: observe.Which | None,
) -> PhotoObservation:
    """The part of `observe_photo` that asks no head: decoding, detection, and the mask where it is given or painted."""
    check_assets()
    if _is_to_be_found(mask, occlude):
        return observe.observe_photo(photo, face=face)
    return observe.observe_photo(photo, mask=mask, occlude=occlude or "none", key=key, face=face)


def with_occluder_found(
    seen: PhotoObservation, *, mask: object, occlude: str | None, head: HeadModel | FitProblem | None
) -> PhotoObservation:
    """The other part of `observe_photo`: what hides the face, where it is to be found in the photo itself."""
    if not _is_to_be_found(mask, occlude):
        return seen
    problem = head if isinstance(head, FitProblem) else prepare(load_head() if head is None else head)
    if occlude is None and (problem.landmarks is None or problem.pixels is None):
        return seen
    found = find_occluder(seen.photo, problem)
    return observe.with_mask(
        seen, found.hidden, probability=found.probability, certainty=found.certainty, face_hidden=found.face_hidden
    )


def _is_to_be_found(mask: object, occlude: str | None) -> bool:
    """Whether a photo's occluder is; raises `InputError` where a mask says it already."""
    if occlude == "auto" and mask is not None:
        raise InputError("A mask was given, and finding one was asked for too; choose either.")
    return occlude == "auto" or (not occlude and mask is None)


def observe_mesh(
    mesh: Any,
    *,
    head: HeadModel | None = None,
    hidden: Bool[np.ndarray, " V"] | str | Path | None = None,
    **former: Any,
) -> MeshObservation:
    """Observation from a partial mesh; see `diverse3d.observe.observe_mesh`. `head` None is the embedded one."""
    head = load_head() if head is None else head
    return observe.observe_mesh(mesh, head=head, hidden=hidden, **former)


def observe_scan(
    scan: str | Path | trimesh.Trimesh | Mesh,
    *,
    head: HeadModel | None = None,
    landmarks: str | Path | Float[np.ndarray, "68 3"] | None = None,
    unit: str | None = None,
    source: str | None = None,
) -> ScanObservation:
    """Observation from a raw scan of a face: any topology or a point cloud, any pose and unit, registered.

    `landmarks` (a file, or iBUG's points [68,3] in the scan's coordinates, NaN where not known) and `unit` (m, dm, cm,
    mm, inch) are found if not given; `head` None is the embedded one; `source` is what messages and
    records call the scan. See `diverse3d.register.register`, whose verdict and figures are the observation's
    `registration`. Raises `InputError` where no face is found or none can be registered, with the likeliest cause.
    """
    head = load_head() if head is None else head
    given = read_landmarks(Path(landmarks)) if isinstance(landmarks, str | Path) else landmarks
    if source is None:
        source = Path(scan).name if isinstance(scan, str | Path) else "scan"
    return observed(register(scan, head, landmarks=given, unit=unit, source=source), source)


def describe(
    head: HeadModel,
    *,
    key: PRNGKeyArray,
    n: int,
    method: str,
    noise: str | None,
    fit_config: FitConfig,
    config: DiversifyConfig,
    stages: Stages,
) -> Run:
    """The record of a run."""
    key = key if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key)
    return Run(
        head_name=head.name,
        head_sha256=head.sha256,
        key_impl=str(jax.random.key_impl(key)),
        key_data=tuple(int(word) for word in np.asarray(jax.random.key_data(key)).reshape(-1)),
        n=n,
        method=method,
        noise=noise,
        fit=fit_config,
        diversify=config,
        seconds=tuple(stages.seconds.items()),
    )

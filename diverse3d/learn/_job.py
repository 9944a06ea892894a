"""Training of a head's mesh VAEs: data, model and loop put together; the weights written at the end."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

import meshvae
from meshvae import MaskedVAE, MeshSource, ModelConfig, ResidualVAE, Source, TrainConfig, Trained

from .._errors import InputError
from ..diversify import ComponentConfig, count_components, make_component_model, save_components
from ..files import read_registered
from ..fit import load_noise
from ..head import HeadModel, sample_head
from ..head.population import load_population, sample, split
from ..observe import SETTINGS, Setting
from ._bank import LARGEST_BANK, fill_bank, make_basis
from ._components import ComponentSource, TrainedComponents, component_views
from ._residual import Mixture, ResidualSource, error_fields, linearise, make_views
from ._views import region_masks

RESIDUAL_SCALE_M = 1e-3
"""Unit of residuals: about what the closed form leaves over."""
_NORM_HEADS = 1024
"""Training heads that the size of latents is measured on."""
_BASIS_HEADS = 2048
"""Heads that the basis of a bank is made for."""
_REFERENCE_HEADS = 512
"""Training heads that the scale is measured on, and whose outlines the masks are taken from."""


@dataclasses.dataclass(frozen=True)
class Data:
    """Where heads come from."""

    draw_m: Callable[[int, PRNGKeyArray], Float[Array, "B V 3"]]
    """(count, key) → vertices in metres."""
    reference_m: Float[np.ndarray, "S V 3"]
    """Some training heads."""
    held_back_m: Float[np.ndarray, "H V 3"]
    """Heads to validate on."""
    text: str
    """What they are, for the model card."""


def population_data(head: HeadModel, *, validation: int) -> Data:
    """An endless stream of the embedded head's population, and its validation split."""
    population = load_population()
    if population.base.shape[0] != head.n_vertices:
        raise InputError(
            f"The head '{head.name}' has no population of its own: name a folder of registered meshes with --data."
        )

    @partial(jax.jit, static_argnums=0)
    def draw(count: int, key: PRNGKeyArray) -> Float[Array, "B V 3"]:
        return jax.vmap(lambda one: sample(population, key=one).vertices)(jax.random.split(key, count))

    return Data(
        draw_m=draw,
        reference_m=np.asarray(split("train", _REFERENCE_HEADS).vertices),
        held_back_m=np.asarray(split("validation", validation).vertices),
        text="heads drawn from the embedded head's population; its validation split held back",
    )


def head_data(head: HeadModel, *, validation: int) -> Data:
    """Samples of a head's own prior: what a head has that comes with no population."""

    @partial(jax.jit, static_argnums=0)
    def draw(count: int, key: PRNGKeyArray) -> Float[Array, "B V 3"]:
        return jax.vmap(lambda one: head(sample_head(head, key=one)))(jax.random.split(key, count))

    train_key, held_key = jax.random.split(jax.random.key(1001))
    return Data(
        draw_m=draw,
        reference_m=np.asarray(draw(_REFERENCE_HEADS, train_key)),
        held_back_m=np.asarray(draw(validation, held_key)),
        text="heads drawn from the head's own prior",
    )


def folder_data(head: HeadModel, folder: Path, *, by: str) -> Data:
    """Registered meshes of a folder, split by subject or by expression."""
    meshes, subjects, expressions, _ = read_registered(folder, head.n_vertices)
    kept, back = meshvae.split_by_subject(subjects, expressions, by=by)
    draw = meshvae.from_array(meshes[kept])
    return Data(
        draw_m=draw,
        reference_m=meshes[kept[:_REFERENCE_HEADS]],
        held_back_m=meshes[back],
        text=f"{len(kept)} registered meshes to train on and {len(back)} held back, split by {by}",
    )


def masked_source(head: HeadModel, data: Data, *, scale_m: float, masks: int, batch: int) -> MeshSource:
    """Whole heads behind occluder regions and drawn shapes, in units of the scale."""
    template = head.template_m
    pool, _ = region_masks(head, data.reference_m, masks, key=jax.random.key(11))

    def draw(count: int, key: PRNGKeyArray) -> Float[Array, "B V 3"]:
        return (data.draw_m(count, key) - template[None]) / scale_m

    return MeshSource(
        draw=draw,
        held_back=(data.held_back_m - np.asarray(template)) / np.float32(scale_m),
        template=template / scale_m,
        pool=jnp.asarray(pool),
        batch=batch,
    )


def residual_sources(
    head: HeadModel,
    data: Data,
    *,
    settings: tuple[Setting, ...],
    scale_m: float,
    views: int,
    batch: int,
    report: Callable[[str], None],
) -> tuple[ResidualSource, ...]:
    """Heads that were completed in closed form behind occluder regions, in each setting."""
    sources = []
    for number, setting in enumerate(settings):
        noise = load_noise(head, setting)
        linear = linearise(head, noise)
        hidden = _training_masks(head, data, setting, number, views)
        held = max(1, views // 8)
        source = ResidualSource(
            draw=data.draw_m,
            held_back_m=data.held_back_m,
            linear=linear,
            views=make_views(linear, noise, hidden[held:], report=_solving(setting, report)),
            held_views=make_views(linear, noise, hidden[:held]),
            errors_m=error_fields(head, setting),
            held_errors_m=error_fields(head, setting, held_back=True),
            template_m=head.template_m,
            scale_m=scale_m,
            residual_scale_m=RESIDUAL_SCALE_M,
            batch=batch,
        )
        sources.append(source)
    return tuple(sources)


def component_sources(
    head: HeadModel,
    data: Data,
    *,
    settings: tuple[Setting, ...],
    views: int,
    batch: int,
    heads: int,
    seed: int,
    report: Callable[[str], None],
) -> tuple[ComponentSource, ...]:
    """The same for the component model, from a bank of (about) `heads` heads that the settings share."""
    noises = [load_noise(head, setting) for setting in settings]
    linearised = [linearise(head, noise) for noise in noises]
    key = jax.random.key(seed)
    # The basis depends on the head alone.
    basis = make_basis(linearised[0], np.asarray(data.draw_m(min(_BASIS_HEADS, heads), jax.random.fold_in(key, 0))))
    held_bank = basis.weights(jnp.asarray(data.held_back_m, head.dtype))
    bank = fill_bank(basis, data.draw_m, min(heads, LARGEST_BANK), key=jax.random.fold_in(key, 1), report=report)
    sources = []
    for number, (setting, noise, linear) in enumerate(zip(settings, noises, linearised, strict=True)):
        hidden = _training_masks(head, data, setting, number, views)
        held = max(1, views // 8)
        errors, others = (np.asarray(error_fields(head, setting, held_back=back)) for back in (False, True))
        said = _solving(setting, report)
        seen = component_views(linear, noise, basis, hidden[held:], errors, report=said)
        held_seen = component_views(linear, noise, basis, hidden[:held], others)
        sources.append(ComponentSource(bank, held_bank, seen, held_seen, batch=batch))
    return tuple(sources)


def _training_masks(head: HeadModel, data: Data, setting: Setting, number: int, count: int) -> Bool[np.ndarray, "M V"]:
    key = jax.random.fold_in(jax.random.key(12), number)
    hidden, _ = region_masks(head, data.reference_m, count, front=setting == "realistic", key=key)
    if not len(hidden):
        raise InputError(f"The head '{head.name}' carries no landmarks, by which occluders are placed.")
    return hidden


def _solving(setting: Setting, report: Callable[[str], None]) -> Callable[[int, int], None]:
    def solved(done: int, of: int) -> None:
        if done % 32 == 0 or done == of:
            report(f"closed form, {setting}: {done} of {of} masks")

    return solved


def start_from(path: Path, head: HeadModel, kind: str) -> Trained:
    """Weights to go on training from; raises `InputError` unless they are of the kind, for the head's triangles."""
    fingerprint = meshvae.topology_fingerprint(np.asarray(head.faces), head.n_vertices)
    start = meshvae.load_model(path, fingerprint=fingerprint)
    if start.model.config.kind != kind:
        raise InputError(f"{path} holds a {start.model.config.kind} model, not a {kind} one; name another file.")
    return start


def train_head(
    head: HeadModel,
    data: Data,
    model: ModelConfig,
    config: TrainConfig,
    *,
    out: Path,
    start: Trained | None = None,
    settings: tuple[Setting, ...] = SETTINGS,
    views: int = 256,
    resume: bool = False,
    half: bool = False,
    report: Callable[[str], None] = lambda text: None,
    progress: Callable[[meshvae.Progress], None] = lambda progress: None,
) -> Trained:
    """Train a model for a head and write `out/weights.safetensors`, `curves.csv` and `curves.png`.

    `start` are weights to begin with, whose sizes and pooling levels then count, in place of random ones of `model`.
    """
    template = np.asarray(head.template_m, np.float64)
    scale_m = float(np.sqrt(((data.reference_m - template) ** 2).sum(2).mean()))
    report("pooling levels")
    if start is not None:
        model, hierarchy = start.model.config, start.hierarchy
    else:
        faces = np.asarray(head.faces)
        hierarchy = meshvae.build_hierarchy(template, faces, method=model.hierarchy, strides=model.strides)
    meshvae.check_memory(model, hierarchy, batch=config.batch, samples=config.energy_samples)
    source: Source
    if model.kind == "masked":
        source = masked_source(head, data, scale_m=scale_m, masks=views, batch=config.batch)
    else:
        each = residual_sources(
            head, data, settings=settings, scale_m=scale_m, views=views, batch=config.batch, report=report
        )
        source = Mixture(each)
    network = start.model if start else meshvae.make_model(model, hierarchy, key=jax.random.key(config.seed))
    surface = meshvae.make_surface(template / scale_m, np.asarray(head.faces), dtype=head.dtype)
    report(f"training {meshvae.count_parameters(network):,} parameters; the first step compiles")
    result = meshvae.train(network, source, config, surface=surface, out=out, resume=resume, report=progress)
    assert isinstance(result.model, MaskedVAE | ResidualVAE)
    card = _card(head, data, config, result) | {
        "settings": list(settings) if model.kind == "residual" else [],
        "parameters": meshvae.count_parameters(network),
        "started_from": None if start is None else start.sha256,
        "validation": result.figures,
        "unit": "validation distances are in units of the scale (masked) or of the residual scale",
    }
    if isinstance(source, MeshSource):
        card["latent_norm"] = latent_norm(result.model, source, key=jax.random.key(config.seed + 1))
    trained = Trained(
        model=result.model,
        hierarchy=hierarchy,
        template=template,
        scale=scale_m,
        residual_scale=RESIDUAL_SCALE_M if model.kind == "residual" else scale_m,
        card=card,
    )
    digest = meshvae.save_model(trained, out / "weights.safetensors", half=half)
    meshvae.draw_curves(out / "curves.csv", out / "curves.png")
    return dataclasses.replace(trained, sha256=digest)


def train_components(
    head: HeadModel,
    data: Data,
    network: ComponentConfig,
    config: TrainConfig,
    *,
    out: Path,
    settings: tuple[Setting, ...] = SETTINGS,
    views: int = 256,
    resume: bool = False,
    half: bool = False,
    report: Callable[[str], None] = lambda text: None,
    progress: Callable[[meshvae.Progress], None] = lambda progress: None,
) -> str:
    """Train the component model of a head and write `out/weights.safetensors` with its curves; returns its hash."""
    each = component_sources(
        head, data, settings=settings, views=views, batch=config.batch, heads=config.steps * config.batch,
        seed=config.seed, report=report,
    )  # fmt: skip
    source = Mixture(each)
    unknowns = each[0].views.mean.shape[1]
    model = make_component_model(head, unknowns, network, key=jax.random.key(config.seed))
    report(f"training {count_components(model):,} parameters; the first step compiles")
    result = meshvae.train(
        TrainedComponents(model), source, config, surface=None, out=out, resume=resume, report=progress
    )
    assert isinstance(result.model, TrainedComponents)
    card = _card(head, data, config, result) | {
        "settings": list(settings),
        "views": views,
        "heads": len(each[0].bank),
        "parameters": count_components(model),
        "validation": {name: result.figures[name] for name in ("loss", "hidden_rms")},
        "unit": "mm",
    }
    digest = save_components(result.model.network, out / "weights.safetensors", card=card, half=half)
    meshvae.draw_curves(out / "curves.csv", out / "curves.png")
    return digest


def _card(head: HeadModel, data: Data, config: TrainConfig, result: meshvae.Result) -> dict[str, Any]:
    """What every model card says of how a model was made."""
    return {
        "head": head.name,
        "head_sha256": head.sha256,
        "data": data.text,
        "training": meshvae.training_record(config),
        "steps": result.steps,
    }


def latent_norm(model: MaskedVAE | ResidualVAE, source: MeshSource, *, key: PRNGKeyArray) -> dict[str, float]:
    """How large the latents of training heads behind masks are: mean and deviation of ‖z‖^⅔, which is near normal.

    Where the quality of a latent starts to fall is read off from it (Dey and Boddeti 2022, supplement §1.3).
    """
    assert isinstance(model, MaskedVAE), "only a masked model encodes what is visible"

    @eqx.filter_jit
    def norms(model: MaskedVAE, examples: meshvae.Examples, key: PRNGKeyArray) -> Float[Array, " B"]:
        def one(offsets: Float[Array, "V 3"], visible: Bool[Array, " V"], key: PRNGKeyArray) -> Float[Array, ""]:
            return jnp.sum(model.encode(offsets, visible).sample(key=key) ** 2)

        return jax.vmap(one)(examples.target, examples.visible, jax.random.split(key, len(examples.target)))

    root = []
    for number in range(-(-_NORM_HEADS // source.batch)):
        data_key, draw_key = jax.random.split(jax.random.fold_in(key, number))
        examples = source.examples(source.batch, progress=1.0, key=data_key)
        root.append(np.cbrt(np.asarray(norms(model, examples, draw_key), np.float64)))
    return {"cube_root_mean": float(np.mean(root)), "cube_root_deviation": float(np.std(root))}

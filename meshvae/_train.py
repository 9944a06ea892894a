"""The training loop: pure in its seed, checkpointed, and bit for bit the same when it was stopped and went on."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from ._checkpoint import Checkpoints
from ._curves import Curves
from ._data import Source
from ._errors import InputError
from ._loss import Corrector, LossConfig, Surface, Terms, energy_loss, masked_loss, residual_loss
from ._model import MaskedVAE, ResidualVAE


@runtime_checkable
class SelfScoring(Protocol):
    """Any other model that the loop can train: it scores its own examples."""

    @property
    def fingerprint(self) -> str:
        """What it was made for; checkpoints of another one are refused."""
        ...

    @property
    def config(self) -> Any:
        """Its sizes; `to_json` gives them as text."""
        ...

    def example_loss(self, one: Any, *, samples: int, key: PRNGKeyArray) -> tuple[Float[Array, ""], Terms]:
        """Loss and its terms for one example; `samples` is `TrainConfig.energy_samples`."""
        ...


Model = MaskedVAE | ResidualVAE | SelfScoring
ACTIVE_VARIANCE = 0.01
"""A latent variable says nothing when its mean varies over the data by less than this share of its own variance (Burda
et al. 2016, who measure in units of the prior's: that would call dead what has yet to grow against a weak prior)."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How a model is trained."""

    steps: int = 20_000
    """Optimiser steps."""
    batch: int = 16
    """Examples a step."""
    learning_rate: float = 1e-3
    """AdamW's, after a warm-up and down a cosine to a hundredth."""
    warmup: int = 200
    """Steps of the warm-up."""
    weight_decay: float = 1e-4
    """AdamW's."""
    clip: float = 1.0
    """Largest global norm of a gradient."""
    average: float = 0.999
    """Decay of the moving average of the weights, which is what is validated and kept."""
    kl_warmup: int = 1000
    """Steps over which the divergence term comes in."""
    curriculum: float = 0.5
    """Share of the training over which masks grow to their full size."""
    energy_samples: int = 4
    """Samples an example that the energy score is estimated from, 2 or more (residual model of objective `energy`)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What matrix products round their inputs to, where the device can; everything is stored in float32."""
    validate_every: int = 500
    """Steps between validations, each of which also writes a checkpoint."""
    patience: int = 10
    """Validations without gain after which training stops."""
    seed: int = 0
    """Seed of everything random."""
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    """Weights of the loss."""

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.validate_every, self.patience) < 1 or min(self.warmup, self.kl_warmup) < 0:
            raise InputError("Steps, batch, validate_every and patience must be at least 1, warm-ups at least 0.")
        if self.energy_samples < 2:
            raise InputError(f"The energy score needs 2 samples or more, not {self.energy_samples}.")
        if not 0.0 <= self.average < 1.0 or not 0.0 <= self.curriculum <= 1.0:
            raise InputError("average must be at least 0 and below 1, curriculum between 0 and 1.")


class CollapsedError(InputError):
    """The latent says nothing: posterior collapse."""


class State(eqx.Module):
    """All that a step changes."""

    learned: PyTree[Array]
    """Learned arrays of the model."""
    averaged: PyTree[Array]
    """Their moving average."""
    optimiser: PyTree[Array]
    """The optimiser's."""
    step: Int[Array, ""]
    """Steps taken."""
    best: PyTree[Array]
    """The average at the best validation."""
    best_loss: Float[Array, ""]
    """Loss there."""
    stale: Int[Array, ""]
    """Validations since."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """What a caller may show while training runs."""

    step: int
    """Steps taken."""
    steps: int
    """Steps in all."""
    seconds_left: float
    """Time left at this run's speed."""
    figures: dict[str, float]
    """The newest line of the curves."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What training gives."""

    model: Model
    """The model with the averaged weights of the best validation."""
    steps: int
    """Steps taken."""
    seconds: float
    """Time of this run; a run that went on does not count the runs before it."""
    figures: dict[str, float]
    """The best validation's."""


def train(
    model: Model,
    source: Source,
    config: TrainConfig,
    *,
    surface: Surface | None,
    out: Path,
    resume: bool = False,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Result:
    """Train a model; `out` holds checkpoints and `curves.csv`, and `resume` goes on from the newest checkpoint there.

    Same seed, same machine: same bytes, whether or not the run was stopped in between. Raises `InputError` when `out`
    holds checkpoints and `resume` is not set, or checkpoints of another model; `CollapsedError` when the latent dies.
    """
    learned, rest = eqx.partition(model, eqx.is_inexact_array)
    optimiser = make_optimiser(config)
    start = State(
        learned, learned, optimiser.init(learned), jnp.zeros((), jnp.int32), learned,
        jnp.asarray(jnp.inf, jnp.float32), jnp.zeros((), jnp.int32),
    )  # fmt: skip
    root, held = jax.random.key(config.seed), source.validation()
    if not held:
        raise InputError("There are fewer validation meshes than a batch holds; give more, or a smaller batch.")
    out.mkdir(parents=True, exist_ok=True)
    with Checkpoints(out / "checkpoints", identity=_identity(model, config)) as checkpoints:
        state = checkpoints.newest(start) if resume else None
        if state is None:
            checkpoints.check_empty()
            state = start
        curves = Curves(out / "curves.csv", keep_until=int(state.step))
        begin, first = time.perf_counter(), int(state.step)
        recent: list[Array] = []
        # Counted here: to ask the state for its step would wait for the device at every one.
        for step in range(first, config.steps if int(state.stale) < config.patience else first):
            data_key, step_key = jax.random.split(jax.random.fold_in(root, step))
            share = step / config.steps / config.curriculum if config.curriculum else 1.0
            examples = source.examples(config.batch, progress=min(1.0, share), key=data_key)
            state, loss = train_step(state, rest, examples, surface, source.corrector, config, optimiser, key=step_key)
            recent.append(loss)
            if (step + 1) % config.validate_every and step + 1 < config.steps:
                continue
            averaged = eqx.combine(state.averaged, rest)
            validated = validate(averaged, held, surface, source.corrector, config)
            state = _judged(state, validated["loss"])
            mean_loss = float(np.mean(np.asarray(jnp.stack(recent))))
            figures = {"step": float(step + 1), "train_loss": mean_loss, **validated}
            recent = []
            curves.add(figures)
            checkpoints.save(state)
            pace = (time.perf_counter() - begin) / (step + 1 - first)
            report(Progress(step + 1, config.steps, pace * (config.steps - step - 1), figures))
            if isinstance(model, MaskedVAE | ResidualVAE) and model.config.objective == "evidence":
                _check_alive(figures, config, out)
            if int(state.stale) >= config.patience:
                break
        seconds = time.perf_counter() - begin
    best = eqx.combine(state.best, rest)
    return Result(best, int(state.step), seconds, validate(best, held, surface, source.corrector, config))


def make_optimiser(config: TrainConfig) -> optax.GradientTransformation:
    """AdamW with clipping, warm-up and cosine decay."""
    steps = max(config.steps, config.warmup + 1)
    rate = optax.warmup_cosine_decay_schedule(
        0.0 if config.warmup else config.learning_rate, config.learning_rate, config.warmup, steps,
        0.01 * config.learning_rate,
    )  # fmt: skip
    return optax.chain(optax.clip_by_global_norm(config.clip), optax.adamw(rate, weight_decay=config.weight_decay))


def example_loss(
    model: Model,
    one: Any,
    surface: Surface | None,
    corrector: Corrector | None,
    config: TrainConfig,
    *,
    kl_scale: Float[Array, ""],
    key: PRNGKeyArray,
) -> tuple[Float[Array, ""], Terms]:
    """Loss and its terms for one example (of a batch that was mapped over)."""
    if not isinstance(model, MaskedVAE | ResidualVAE):
        return model.example_loss(one, samples=config.energy_samples, key=key)
    assert surface is not None, "a mesh model needs its surface"
    if isinstance(model, MaskedVAE):
        return masked_loss(model, one.target, one.visible, surface, config.loss, kl_scale=kl_scale, key=key)
    assert one.base is not None and corrector is not None, "a residual model needs a closed form"

    def correct(residual: Float[Array, "V 3"]) -> Float[Array, "V 3"]:
        return corrector(one.correction, residual)

    def draw(residual: Float[Array, "V 3"], share: Float[Array, ""], key: PRNGKeyArray) -> Float[Array, "V 3"]:
        return corrector.draw(one.correction, residual, share, key=key)

    if model.config.objective == "energy":
        return energy_loss(model, one.target, one.base, one.visible, draw, samples=config.energy_samples, key=key)
    return residual_loss(model, one.target, one.base, one.visible, correct, config.loss, kl_scale=kl_scale, key=key)


@eqx.filter_jit
def train_step(
    state: State,
    rest: Model,
    examples: Any,
    surface: Surface | None,
    corrector: Corrector | None,
    config: TrainConfig,
    optimiser: optax.GradientTransformation,
    *,
    key: PRNGKeyArray,
) -> tuple[State, Float[Array, ""]]:
    kl_scale = jnp.minimum(1.0, (state.step + 1).astype(jnp.float32) / max(config.kl_warmup, 1))

    def mean_loss(learned: PyTree[Array]) -> Float[Array, ""]:
        model = eqx.combine(learned, rest)
        keys = jax.random.split(key, len(jax.tree.leaves(examples)[0]))
        losses, _ = jax.vmap(
            lambda one, key: example_loss(model, one, surface, corrector, config, kl_scale=kl_scale, key=key)
        )(examples, keys)
        return jnp.mean(losses)

    with jax.default_matmul_precision(config.precision):
        loss, gradient = jax.value_and_grad(mean_loss)(state.learned)
    updates, memory = optimiser.update(gradient, state.optimiser, state.learned)
    learned = optax.apply_updates(state.learned, updates)
    # Early on the average would be of the random start: it follows faster until it has seen enough steps.
    count = state.step.astype(jnp.float32)
    decay = jnp.minimum(config.average, (1.0 + count) / (10.0 + count))
    averaged = jax.tree.map(lambda old, new: decay * old + (1.0 - decay) * new, state.averaged, learned)
    return State(learned, averaged, memory, state.step + 1, state.best, state.best_loss, state.stale), loss


def validate(
    model: Model, held: list[Any], surface: Surface | None, corrector: Corrector | None, config: TrainConfig
) -> dict[str, float]:
    """Means over the validation batches: loss, distances (units of the scale), nats, and how many variables live."""
    lines = [_validate_batch(model, batch, surface, corrector, config, key=jax.random.key(1)) for batch in held]
    loss, terms, variance = jax.tree.map(lambda *parts: np.mean([np.asarray(part) for part in parts], axis=0), *lines)
    return {
        "loss": float(loss),
        "visible_l1": float(terms.visible_l1),
        "hidden_l1": float(terms.hidden_l1),
        "hidden_rms": float(terms.hidden_rms),
        "kl": float(terms.kl.sum()),
        "active": float((variance > ACTIVE_VARIANCE).sum()),
    }


@eqx.filter_jit
def _validate_batch(
    model: Model,
    batch: Any,
    surface: Surface | None,
    corrector: Corrector | None,
    config: TrainConfig,
    *,
    key: PRNGKeyArray,
) -> tuple[Float[Array, ""], Terms, Float[Array, "v c"]]:
    keys = jax.random.split(key, len(jax.tree.leaves(batch)[0]))
    one = jnp.ones((), jnp.float32)
    losses, terms = jax.vmap(
        lambda example, key: example_loss(model, example, surface, corrector, config, kl_scale=one, key=key)
    )(batch, keys)
    variance = jnp.mean(jnp.square(terms.shift - jnp.mean(terms.shift, axis=0, keepdims=True)), axis=0)
    return jnp.mean(losses), jax.tree.map(lambda term: jnp.mean(term, axis=0), terms), variance


def _judged(state: State, loss: float) -> State:
    """The state after a validation."""
    if not np.isfinite(loss):
        raise InputError("The validation loss is not finite: training diverged; lower the learning rate and resume.")
    better = loss < float(state.best_loss)
    if not better:
        return dataclasses.replace(state, stale=state.stale + 1)
    return dataclasses.replace(
        state, best=state.averaged, best_loss=jnp.asarray(loss, jnp.float32), stale=jnp.zeros_like(state.stale)
    )


def _check_alive(figures: dict[str, float], config: TrainConfig, out: Path) -> None:
    if figures["step"] >= 2 * config.kl_warmup and figures["active"] < 1:
        raise CollapsedError(
            f"Posterior collapse: after {figures['step']:.0f} steps no latent variable varies with the data; "
            f"lower the weight of the divergence or raise the free bits ({out})."
        )


def _identity(model: Model, config: TrainConfig) -> dict[str, Any]:
    """What a checkpoint must agree on; the number of steps is part of the schedule, so it counts."""
    return {"topology": model.fingerprint, "model": model.config.to_json(), "training": training_record(config)}


def training_record(config: TrainConfig) -> dict[str, Any]:
    """A configuration as plain data, for a record."""
    return dataclasses.asdict(config)

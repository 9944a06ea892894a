"""Speed and memory of the mesh VAE: a training step, and the decoder as the second stage calls it.

Run as a program it prints how much memory one form's training step takes: `python -m benchmarks.speed._meshvae usual`.
"""

import ctypes
import functools
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import torch

from diverse3d.head import HeadModel, load_head
from meshvae import (
    PRESETS,
    Examples,
    MaskedVAE,
    ModelConfig,
    State,
    Surface,
    TrainConfig,
    build_hierarchy,
    make_model,
    make_optimiser,
    make_surface,
    train_step,
)

from ._timing import THREADS, Case, Contestants
from ._torch_meshvae import MatchedBlock, TorchTraining, TorchVAE, UsualBlock, our_moments

FORMS: dict[str, type[UsualBlock] | type[MatchedBlock]] = {"usual": UsualBlock, "matched": MatchedBlock}
BATCH = 16
STEP = f"mesh VAE/training step, small, batch {BATCH}"
HALF = ModelConfig(channels=(16, 32, 64, 128, 256, 512), basis=8)
"""All layers of `full` at half their width, with half the kernels: 5.3 million weights, four times `small`."""
# Without warm-ups a step is the same whichever it is.
CONFIG = TrainConfig(warmup=0, kl_warmup=0, batch=BATCH)


class Problem(NamedTuple):
    """Heads behind masks and an untrained model."""

    model: MaskedVAE
    """The model."""
    surface: Surface
    """What the loss needs of the mesh."""
    examples: Examples
    """A batch."""
    key: jax.Array
    """Of the step's noise."""


def untrained(head: HeadModel, config: ModelConfig) -> MaskedVAE:
    """A masked model of a head with random weights: what they are costs no time."""
    template = np.asarray(head.template_m, np.float64)
    hierarchy = build_hierarchy(template, np.asarray(head.faces), method=config.hierarchy, strides=config.strides)
    model = make_model(config, hierarchy, key=jax.random.key(0))
    assert isinstance(model, MaskedVAE)
    return model


@functools.cache
def _problem(config: ModelConfig = PRESETS["small"]) -> Problem:
    head = load_head(dtype=jnp.float32)
    template, faces = np.asarray(head.template_m, np.float64), np.asarray(head.faces)
    rng = np.random.default_rng(0)
    coefficients = np.asarray(head.prior_mean) + rng.standard_normal((BATCH, head.n_components)).astype(np.float32)
    offsets = (coefficients @ np.asarray(head.components_m)).reshape(BATCH, -1, 3)
    scale = np.float32(np.sqrt((offsets**2).sum(2).mean()))
    below = template[:, 1] < rng.uniform(-0.08, 0.0, (BATCH, 1))  # of each head another lower part
    return Problem(
        model=untrained(head, config),
        surface=make_surface(template / scale, faces, dtype=jnp.float32),
        examples=Examples(jnp.asarray(offsets / scale), jnp.asarray(~below)),
        key=jax.random.key(1),
    )


def cases() -> Iterator[Case]:
    """A training step of two sizes; the decoder, and its gradient by the latents."""
    yield STEP, lambda: _training(_problem())
    yield f"mesh VAE/training step, half the paper's width, batch {BATCH}", lambda: _training(_problem(HALF))
    for gradient, name in ((False, "forward"), (True, "forward and gradient of z")):
        yield f"mesh VAE/decoder, small, {name}, {BATCH} samples", functools.partial(_decoding, gradient)


def _training(problem: Problem) -> Contestants:
    steps = {form: make_step(form, problem) for form in ("ours", *FORMS)}
    check_step(steps)
    return {form: step.call for form, step in steps.items()}


class Step(NamedTuple):
    """One form's training step."""

    call: Callable[[], object]
    """Take it, and wait until it is done."""
    outcome: Callable[[], tuple[float, list[np.ndarray]]]
    """Take the first step; its loss, and AdamW's first moments after it."""


def make_step(form: str, problem: Problem | None = None) -> Step:
    """The training step of `ours` or of one of PyTorch's forms, all from the same weights, heads and noise."""
    problem = _problem() if problem is None else problem
    model, surface, examples, key = problem
    if form == "ours":
        learned, rest = eqx.partition(model, eqx.is_inexact_array)
        optimiser, zero = make_optimiser(CONFIG), jnp.zeros((), jnp.int32)
        start = State(learned, learned, optimiser.init(learned), zero, learned, jnp.zeros((), jnp.float32), zero)

        def ours() -> tuple[State, jax.Array]:
            return jax.block_until_ready(train_step(start, rest, examples, surface, None, CONFIG, optimiser, key=key))

        def outcome() -> tuple[float, list[np.ndarray]]:
            state, loss = ours()
            return float(loss), our_moments(state.optimiser)

        return Step(ours, outcome)
    keys = jax.random.split(key, len(examples.target))
    noise = jax.vmap(lambda one: jax.random.normal(one, model.latent_shape, jnp.float32))(keys)
    data = [torch.from_numpy(np.array(part)) for part in (examples.target, examples.visible, noise)]
    training = TorchTraining(TorchVAE(model, FORMS[form]), surface, CONFIG)
    return Step(lambda: training(*data), lambda: (float(training(*data)), training.moments()))


def check_step(steps: dict[str, Step]) -> None:
    """Stop unless every form has our loss and gradients: otherwise different work would be compared."""
    loss, moments = steps["ours"].outcome()
    for form in FORMS:
        other, others = steps[form].outcome()
        np.testing.assert_allclose(other, loss, rtol=1e-4, err_msg=f"PyTorch, {form}: loss")
        for number, (our, their) in enumerate(zip(moments, others, strict=True)):
            # Sums of thousands of terms of either sign in single precision, in another order.
            bound = 1e-3 * float(np.abs(our).max()) + 1e-12
            np.testing.assert_allclose(their, our, rtol=0, atol=bound, err_msg=f"PyTorch, {form}: gradient {number}")


@eqx.filter_jit
def _decode(model: MaskedVAE, z: jax.Array, weight: jax.Array | None) -> object:
    if weight is None:
        return jax.vmap(model.decode)(z)
    return jax.value_and_grad(lambda at: jnp.sum(jax.vmap(model.decode)(at) * weight))(z)


def _decoding(gradient: bool, problem: Problem | None = None) -> Contestants:
    """Decoded samples, or a weighted sum of them with its gradient; PyTorch's usual form has its weights ready."""
    model = (_problem() if problem is None else problem).model
    rng = np.random.default_rng(0)
    z = rng.standard_normal((BATCH, *model.latent_shape)).astype(np.float32)
    weight = rng.standard_normal((BATCH, model.n_vertices, 3)).astype(np.float32) if gradient else None
    ours_z, ours_weight = jnp.asarray(z), None if weight is None else jnp.asarray(weight)

    def theirs(form: str) -> Callable[[], object]:
        network = TorchVAE(model, FORMS[form]).freeze()

        def call() -> object:
            if weight is None:
                with torch.no_grad():
                    return network.decode(torch.from_numpy(z))
            leaf = torch.from_numpy(z).requires_grad_()
            loss = (network.decode(leaf) * torch.from_numpy(weight)).sum()
            loss.backward()
            return loss.detach(), leaf.grad

        return call

    forms: Contestants = {"ours": lambda: jax.block_until_ready(_decode(model, ours_z, ours_weight))}
    forms |= {form: theirs(form) for form in FORMS}
    reference = [np.asarray(leaf) for leaf in jax.tree.leaves(forms["ours"]())]
    for form in FORMS:
        for ours, other in zip(reference, jax.tree.leaves(forms[form]()), strict=True):
            bound = 1e-4 * float(np.abs(ours).max())
            np.testing.assert_allclose(np.asarray(other), ours, rtol=0, atol=bound, err_msg=f"PyTorch, {form}")
    return forms


def peaks() -> dict[str, float]:
    """Memory that a training step takes beyond what stays, in MiB; a process a form. Empty where it can't be told."""
    if sys.platform != "linux":
        return {}
    measured = {}
    for form in ("ours", *FORMS):
        command = [sys.executable, "-m", "benchmarks.speed._meshvae", form]
        done = subprocess.run(command, cwd=Path(__file__).parents[2], check=True, stdout=subprocess.PIPE, text=True)
        measured[form] = float(done.stdout)
    return measured


def _peak_mib(form: str) -> float:
    """The kernel's own high-water mark of one warm step; getrusage's would start at that of the parent process."""
    step = make_step(form).call
    step()
    step()
    ctypes.CDLL(None).malloc_trim(0)  # what the first steps have freed shall not hide what the next one takes
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    step()
    return (_status("VmHWM") - before) / 1024


def _status(name: str) -> int:
    """A figure of /proc/self/status in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    print(_peak_mib(sys.argv[1]))

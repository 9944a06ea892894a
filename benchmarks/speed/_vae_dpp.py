"""Speed of the published method: an iteration of Algorithm 2 over the latents of the masked model."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import numpy as np
import optax
import torch

from diverse3d.diversify import DiversifyConfig, Task, load_learned
from diverse3d.diversify._algorithm2 import optimiser
from diverse3d.diversify._vae import VaeDecoder, vae_dpp_loss
from meshvae import PRESETS

from ._completion import SAMPLES, subject
from ._meshvae import FORMS, untrained
from ._timing import Contestants
from ._torch_completion import Algorithm2
from ._torch_head import tensor
from ._torch_meshvae import TorchVAE


def cases() -> Iterator[tuple[str, Contestants]]:
    """An iteration of `vae-dpp` from samples of the encoder: the shipped weights, and untrained ones of full size.

    PyTorch's usual form once with the weight of every edge made before the first iteration, and once as a layer that
    is called makes it.
    """
    _, problem, fitted = subject()
    shipped = load_learned(problem.head, "masked")
    assert shipped.masked.config == PRESETS["small"], "the row is named after another model"
    full = dataclasses.replace(shipped, model=untrained(problem.head, PRESETS["full"]))  # tables 3 and 4 of papers/004
    for size, learned in (("small", shipped), ("full", full)):
        task = Task(problem.head, fitted, None, learned)
        start = VaeDecoder(task).draws(SAMPLES, key=jax.random.key(1))
        name = f"mesh VAE/iteration of vae-dpp, {size}, {SAMPLES} samples"
        yield name, iteration(task, DiversifyConfig(), start)
        anew = iteration(task, DiversifyConfig(), start, ready=False)
        yield f"{name}, edges' weights made anew", {form: anew[form] for form in ("ours", "usual")}


@eqx.filter_jit
def _iterate(task: Task, config: DiversifyConfig, z: jax.Array, state: optax.OptState) -> tuple[Any, ...]:
    loss, gradient = jax.value_and_grad(vae_dpp_loss(task, config))(z)
    update, state = optimiser(config).update(gradient, state, z)
    return loss, gradient, optax.apply_updates(z, update), state


def iteration(task: Task, config: DiversifyConfig, start: jax.Array, *, ready: bool = True) -> Contestants:
    """Loss, its gradient by the latents, and Adam's step; `ready`: PyTorch's usual form has made its weights before.

    Ours begins at `start` every time, PyTorch goes on from where it is: the work is the same.
    """
    state = optimiser(config).init(start)
    forms: Contestants = {"ours": lambda: jax.block_until_ready(_iterate(task, config, start, state)[:3])}
    forms |= {form: _theirs(form, task, config, start, ready) for form in FORMS}
    _check(
        {form: [np.asarray(part) for part in jax.tree.leaves(call())] for form, call in forms.items()},
        config.learning_rate,
    )
    return forms


def _check(first: dict[str, list[np.ndarray]], rate: float) -> None:
    """Stop unless every form's first iteration has our loss and gradient and leads to the same place."""
    loss, gradient, reached = first["ours"]
    steep = np.abs(gradient) > 1e-2 * np.abs(gradient).max()  # Adam's first step goes by the sign
    for form in FORMS:
        their_loss, theirs, there = first[form]
        np.testing.assert_allclose(their_loss, loss, rtol=1e-4, err_msg=f"PyTorch, {form}: loss")
        # Sums of thousands of signs: that of a difference near zero may turn.
        bound = 1e-3 * float(np.abs(gradient).max())
        np.testing.assert_allclose(theirs, gradient, rtol=0, atol=bound, err_msg=f"PyTorch, {form}: gradient")
        np.testing.assert_allclose(there[steep], reached[steep], rtol=0, atol=1e-2 * rate, err_msg=f"PyTorch, {form}")


def _theirs(form: str, task: Task, config: DiversifyConfig, start: jax.Array, ready: bool) -> Callable[[], object]:
    learned = task.learned
    assert learned is not None
    network = TorchVAE(learned.masked, FORMS[form]).freeze(ready=ready)
    template, scale = tensor(learned.template_m), float(learned.scale_m)
    algorithm = Algorithm2(task.fit, learned.threshold(config.n_sigma, literal=config.literal_quality), config)
    z = tensor(start).requires_grad_()
    adam = torch.optim.Adam([z], lr=config.learning_rate)

    def call() -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
        adam.zero_grad()
        vertices = torch.add(template, network.decode(z.view(-1, *learned.masked.latent_shape)), alpha=scale)
        loss = algorithm.usual(vertices, z) if form == "usual" else algorithm.matched(vertices.flatten(1), z)
        loss.backward()
        adam.step()
        return loss.detach(), z.grad, z.detach()

    return call

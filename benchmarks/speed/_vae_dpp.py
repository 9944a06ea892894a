"""Speed of the published method: an iteration of Algorithm 2 over the latents of the masked model."""

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import equinox as eqx
import jax
import numpy as np
import optax
import torch

from diverse3d.diversify import Algorithm2, DiversifyConfig, VaeSampler, load_learned
from meshvae import PRESETS

from ._completion import SAMPLES, subject
from ._meshvae import FORMS, untrained
from ._timing import Case, Contestants
from ._torch_completion import Algorithm2 as TorchAlgorithm2
from ._torch_head import tensor
from ._torch_meshvae import TorchVAE


def cases() -> Iterator[Case]:
    """An iteration of `vae-dpp` from samples of the encoder: the shipped weights, and untrained ones of full size.

    PyTorch's usual form once with the weight of every edge made before the first iteration, and once as a layer that
    is called makes it.
    """
    _, problem, fitted = subject()
    shipped = load_learned(problem.head, "masked")
    assert shipped.model.config == PRESETS["small"], "the row is named after another model"
    full = dataclasses.replace(shipped, model=untrained(problem.head, PRESETS["full"]))
    for size, learned in (("small", shipped), ("full", full)):
        sampler = VaeSampler(problem.head, fitted, learned)
        start = sampler.draw(SAMPLES, key=jax.random.key(1))
        name = f"mesh VAE/iteration of vae-dpp, {size}, {SAMPLES} samples"
        yield name, partial(iteration, sampler, DiversifyConfig(), start)
        yield f"{name}, edges' weights made anew", partial(_made_anew, sampler, start)


def _made_anew(sampler: VaeSampler, start: jax.Array) -> Contestants:
    forms = iteration(sampler, DiversifyConfig(), start, ready=False)
    return {form: forms[form] for form in ("ours", "usual")}


@eqx.filter_jit
def _iterate(sampler: VaeSampler, method: Algorithm2, z: jax.Array, state: optax.OptState) -> tuple[Any, ...]:
    loss, gradient = jax.value_and_grad(lambda z: method.loss(sampler, z))(z)
    update, state = method.optimiser.update(gradient, state, z)
    return loss, gradient, optax.apply_updates(z, update), state


def iteration(sampler: VaeSampler, config: DiversifyConfig, start: jax.Array, *, ready: bool = True) -> Contestants:
    """Loss, its gradient by the latents, and Adam's step; `ready`: PyTorch's usual form has made its weights before.

    Ours begins at `start` every time, PyTorch goes on from where it is: the work is the same.
    """
    method = Algorithm2(len(start), config.algorithm2, config.kernel)
    state = method.optimiser.init(start)
    forms: Contestants = {"ours": lambda: jax.block_until_ready(_iterate(sampler, method, start, state)[:3])}
    forms |= {form: _theirs(form, sampler, config, start, ready) for form in FORMS}
    _check(
        {form: [np.asarray(part) for part in jax.tree.leaves(call())] for form, call in forms.items()},
        config.algorithm2.learning_rate,
    )
    return forms


def _check(first: dict[str, list[np.ndarray]], rate: float) -> None:
    """Stop unless every form's first iteration has our loss and gradient and leads to the same place."""
    loss, gradient, reached = first["ours"]
    steep = np.abs(gradient) > 1e-2 * np.abs(gradient).max()  # Adam's first step goes by the sign
    for form in FORMS:
        their_loss, theirs, there = first[form]
        np.testing.assert_allclose(their_loss, loss, rtol=1e-4, err_msg=f"PyTorch, {form}: loss")
        check_gradient(theirs, gradient, f"PyTorch, {form}: gradient")
        np.testing.assert_allclose(there[steep], reached[steep], rtol=0, atol=1e-2 * rate, err_msg=f"PyTorch, {form}")


def check_gradient(theirs: np.ndarray, ours: np.ndarray, what: str) -> None:
    """Raise `AssertionError` unless two gradients are the same sums, added in another order in single precision.

    As a whole they agree to a thousandth. A single element is a sum of thousands of signs, of which that of a
    difference near zero may turn, on one processor and not on another: one in a thousand may be off by ten times that.
    """
    off, largest = np.abs(theirs - ours), float(np.abs(ours).max())
    np.testing.assert_array_less(np.linalg.norm(off), 1e-3 * np.linalg.norm(ours) + 1e-30, err_msg=what)
    np.testing.assert_array_less(np.quantile(off, 0.999), 1e-3 * largest + 1e-30, err_msg=what)
    np.testing.assert_array_less(off.max(), 1e-2 * largest + 1e-30, err_msg=what)


def _theirs(
    form: str, sampler: VaeSampler, config: DiversifyConfig, start: jax.Array, ready: bool
) -> Callable[[], object]:
    learned = sampler.model
    network = TorchVAE(learned.model, FORMS[form]).freeze(ready=ready)
    template, scale = tensor(learned.template_m), float(learned.scale_m)
    algorithm = TorchAlgorithm2(sampler.fit, sampler.threshold(config.kernel), config)
    z = tensor(start).requires_grad_()
    adam = torch.optim.Adam([z], lr=config.algorithm2.learning_rate)

    def call() -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
        adam.zero_grad()
        vertices = torch.add(template, network.decode(z.view(-1, *learned.model.latent_shape)), alpha=scale)
        loss = algorithm.usual(vertices, z) if form == "usual" else algorithm.matched(vertices.flatten(1), z)
        loss.backward()
        adam.step()
        return loss.detach(), z.grad, z.detach()

    return call

"""Speed of the head model: vertices and the gradient of a weighted sum of them."""

from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import torch

from diverse3d.head import HeadModel, HeadParameters, load_head

from ._synthetic import embedded_regressor, synthetic_head
from ._timing import Case, Contestants
from ._torch_head import MatchedHead, UsualHead

BATCHES = (1, 16, 64)
STEPS = 20
"""Gradient steps of the loop case: how a fit calls the head."""
STEP_SIZE = 1e-6

Gradient = tuple[jax.Array, HeadParameters]
"""A loss, and its gradient or where it led."""


def cases() -> Iterator[Case]:
    """Forward and gradient of the FLAME-sized and of the embedded head, at each batch size."""
    heads = {"flame-sized": synthetic_head(jnp.float32)}
    embedded = load_head(dtype=jnp.float32)
    heads["embedded"] = (embedded, embedded_regressor())
    for name, (head, regressor) in heads.items():
        usual, matched = UsualHead(head, regressor), MatchedHead(head)
        for batch in BATCHES:
            yield f"head/{name}/batch {batch}", partial(contestants, head, usual, matched, batch)
        yield f"head/{name}/batch 1 in a loop", partial(loop_contestants, head, usual, matched)


def _loss_and_gradient(head: HeadModel, parameters: HeadParameters, weight: jax.Array) -> Gradient:
    def loss(at: HeadParameters) -> jax.Array:
        vertices = head(at) if at.coefficients.ndim == 1 else jax.vmap(head)(at)
        return jnp.sum(vertices * weight)

    return jax.value_and_grad(loss)(parameters)


_ours = jax.jit(_loss_and_gradient)


@jax.jit
def _our_descent(head: HeadModel, parameters: HeadParameters, weight: jax.Array) -> Gradient:
    def step(at: HeadParameters, _: None) -> tuple[HeadParameters, jax.Array]:
        loss, gradient = _loss_and_gradient(head, at, weight)
        return jax.tree.map(lambda x, slope: x - STEP_SIZE * slope, at, gradient), loss

    end, losses = jax.lax.scan(step, parameters, None, length=STEPS)
    return losses[-1], end


def _numbers(head: HeadModel, batch: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Coefficients, pose and translation of `batch` heads, and the weights of the sum that is differentiated."""
    rng = np.random.default_rng(batch)
    shapes = [(batch, head.n_components), (batch, head.n_joints, 3), (batch, 3)]
    values = [(0.5 * rng.standard_normal(shape)).astype(np.float32) for shape in shapes]
    return values, rng.standard_normal((batch, head.n_vertices, 3)).astype(np.float32)


def contestants(head: HeadModel, usual: UsualHead, matched: MatchedHead, batch: int) -> Contestants:
    """The three forms on the same numbers, after a check that they give the same loss and gradients."""
    values, weight = _numbers(head, batch)
    parameters, ours_weight = HeadParameters(*map(jnp.asarray, values)), jnp.asarray(weight)
    if batch == 1:  # one head is the unbatched function, as the fit calls it
        parameters, ours_weight = jax.tree.map(lambda x: x[0], (parameters, ours_weight))
    torch_weight = torch.from_numpy(weight)

    def ours() -> object:
        return jax.block_until_ready(_ours(head, parameters, ours_weight))

    def theirs(form: UsualHead | MatchedHead) -> Callable[[], object]:
        def call() -> object:
            leaves = [torch.from_numpy(value).requires_grad_() for value in values]
            loss = (form(*leaves) * torch_weight).sum()
            loss.backward()
            return loss.detach(), [leaf.grad for leaf in leaves]

        return call

    forms = {"ours": ours, "usual": theirs(usual), "matched": theirs(matched)}
    check_same(forms)
    return forms


def loop_contestants(head: HeadModel, usual: UsualHead, matched: MatchedHead) -> Contestants:
    """`STEPS` steps of gradient descent on one head: the last loss and where the parameters end."""
    values, weight = _numbers(head, 1)
    parameters, ours_weight = HeadParameters(*(jnp.asarray(value[0]) for value in values)), jnp.asarray(weight[0])
    torch_weight = torch.from_numpy(weight)

    def theirs(form: UsualHead | MatchedHead) -> Callable[[], object]:
        def call() -> object:
            leaves = [torch.from_numpy(value.copy()).requires_grad_() for value in values]
            for _ in range(STEPS):
                loss = (form(*leaves) * torch_weight).sum()
                loss.backward()
                with torch.no_grad():
                    for leaf in leaves:
                        assert leaf.grad is not None
                        leaf -= STEP_SIZE * leaf.grad
                        leaf.grad = None
            return loss.detach(), [leaf.detach() for leaf in leaves]

        return call

    forms = {
        "ours": lambda: jax.block_until_ready(_our_descent(head, parameters, ours_weight)),
        "usual": theirs(usual),
        "matched": theirs(matched),
    }
    check_same(forms)
    return forms


def check_same(forms: Contestants) -> None:
    """Stop unless every form gives our loss and gradients: otherwise different work would be compared."""
    reference = [np.asarray(leaf) for leaf in jax.tree.leaves(forms["ours"]())]
    for name in ("usual", "matched"):
        for ours, theirs in zip(reference, jax.tree.leaves(forms[name]()), strict=True):
            scale = max(float(np.abs(ours).max()), 1.0)
            np.testing.assert_allclose(
                np.asarray(theirs).reshape(ours.shape), ours, atol=1e-4 * scale, rtol=0, err_msg=f"PyTorch, {name}"
            )

"""Speed of the head model: vertices and the gradient of a weighted sum of them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import torch

from diverse3d.head import HeadModel, HeadParameters, load_head

from ._synthetic import embedded_regressor, synthetic_head
from ._torch_head import MatchedHead, UsualHead

if TYPE_CHECKING:
    from .speed import Contestants

BATCHES = (1, 16, 64)


def cases() -> Iterator[tuple[str, "Contestants"]]:
    """Forward and gradient of the FLAME-sized and of the embedded head, at each batch size."""
    heads = {"flame-sized": synthetic_head(jnp.float32)}
    embedded = load_head(dtype=jnp.float32)
    heads["embedded"] = (embedded, embedded_regressor())
    for name, (head, regressor) in heads.items():
        usual, matched = UsualHead(head, regressor), MatchedHead(head)
        for batch in BATCHES:
            yield f"head/{name}/batch {batch}", contestants(head, usual, matched, batch)


@jax.jit
def _ours(head: HeadModel, parameters: HeadParameters, weight: jax.Array):
    def loss(at: HeadParameters) -> jax.Array:
        vertices = head(at) if at.coefficients.ndim == 1 else jax.vmap(head)(at)
        return jnp.sum(vertices * weight)

    return jax.value_and_grad(loss)(parameters)


def contestants(head: HeadModel, usual: UsualHead, matched: MatchedHead, batch: int) -> "Contestants":
    """The three forms on the same numbers, after a check that they give the same loss and gradients."""
    rng = np.random.default_rng(batch)
    shapes = [(batch, head.n_components), (batch, head.n_joints, 3), (batch, 3)]
    values = [(0.5 * rng.standard_normal(shape)).astype(np.float32) for shape in shapes]
    weight = rng.standard_normal((batch, head.n_vertices, 3)).astype(np.float32)
    parameters, ours_weight = HeadParameters(*map(jnp.asarray, values)), jnp.asarray(weight)
    if batch == 1:  # one head is the unbatched function, as the fit calls it
        parameters, ours_weight = jax.tree.map(lambda x: x[0], (parameters, ours_weight))
    torch_weight = torch.from_numpy(weight)

    def ours():
        return jax.block_until_ready(_ours(head, parameters, ours_weight))

    def theirs(form):
        def call():
            leaves = [torch.from_numpy(value).requires_grad_() for value in values]
            loss = (form(*leaves) * torch_weight).sum()
            loss.backward()
            return loss.detach(), [leaf.grad for leaf in leaves]

        return call

    forms = {"ours": ours, "usual": theirs(usual), "matched": theirs(matched)}
    check_same(forms)
    return forms


def check_same(forms: "Contestants") -> None:
    """Stop unless every form gives our loss and gradients: otherwise different work would be compared."""
    reference = [np.asarray(leaf) for leaf in jax.tree.leaves(forms["ours"]())]
    for name in ("usual", "matched"):
        loss, gradients = forms[name]()
        for ours, theirs in zip(reference, [loss, *gradients], strict=True):
            scale = max(float(np.abs(ours).max()), 1.0)
            np.testing.assert_allclose(
                np.asarray(theirs).reshape(ours.shape), ours, atol=1e-4 * scale, rtol=0, err_msg=f"PyTorch, {name}"
            )

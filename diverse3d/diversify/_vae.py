"""The published method: a masked VAE's samples, and Algorithm 2 over their latents (papers/004 §1.1, §2.2)."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from .._optimise import descend
from ._config import DiversifyConfig
from ._task import Samples, Task
from .dpp import dpp_loss, kernel, pairwise_distance, quality

CHUNK = 32
"""Samples decoded at a time: what bounds the memory of a step."""


class VaeDecoder(eqx.Module):
    """Latent → head, by the decoder of the masked model."""

    task: Task
    """The fitted face with its masked model."""

    def __call__(self, latent: Float[Array, " L"]) -> Float[Array, "V 3"]:
        """Vertices in metres, head frame."""
        learned = self.task.learned
        assert learned is not None, "the method needs a masked model"
        return learned.vertices(learned.masked.decode(latent.reshape(learned.masked.latent_shape)))

    def draws(self, n: int, *, key: PRNGKeyArray) -> Float[Array, "n L"]:
        """Samples of q(z | visible part): the fitted mesh with its hidden vertices zeroed goes through the encoder."""
        learned, fit = self.task.learned, self.task.fit
        assert learned is not None, "the method needs a masked model"
        latent = learned.masked.encode(learned.offsets(fit.held_m), fit.visible)
        return jax.vmap(lambda one: latent.sample(key=one).reshape(-1))(jax.random.split(key, n))


@eqx.filter_jit
def run_vae(task: Task, n: int, config: DiversifyConfig, *, key: PRNGKeyArray) -> Samples:
    """Independent samples of the encoder, decoded."""
    del config
    decode = VaeDecoder(task)
    z = decode.draws(n, key=key)
    return Samples(jax.lax.map(decode, z, batch_size=CHUNK), z)


@eqx.filter_jit
def run_vae_dpp(task: Task, n: int, config: DiversifyConfig, *, key: PRNGKeyArray) -> Samples:
    """Algorithm 2: N latents optimised together by λ1 · visible L1 + λ3 · L_dpp, from samples of the encoder."""
    decode, loss = VaeDecoder(task), vae_dpp_loss(task, config)
    begin = decode.draws(n, key=key)
    solution = descend(loss, begin, optimiser(config), steps=config.steps, tolerance=config.tolerance)
    return Samples(_heads(decode, solution.value).reshape(n, -1, 3), solution.value)


def vae_dpp_loss(task: Task, config: DiversifyConfig) -> Callable[[Float[Array, "N L"]], Float[Array, ""]]:
    """Algorithm 2's loss of N latents: λ1 · visible L1 + λ3 · L_dpp.

    The visible L1 is the mean over samples, visible vertices and coordinates, in metres.
    """
    decode, fit, learned = VaeDecoder(task), task.fit, task.learned
    assert learned is not None, "the method needs a masked model"
    dtype = task.head.dtype
    visible = jnp.repeat(fit.visible.astype(dtype), 3)
    threshold = jnp.asarray(learned.threshold(config.n_sigma, literal=config.literal_quality), dtype)
    target = fit.held_m.reshape(-1)

    def loss(z: Float[Array, "N L"]) -> Float[Array, ""]:
        points = _heads(decode, z)
        off = jnp.sum(jnp.abs(points - target[None, :]) * visible[None, :])
        off = off / (z.shape[0] * jnp.maximum(jnp.sum(visible), 1.0))
        distance = pairwise_distance(points, 1.0 - visible)
        spread = dpp_loss(kernel(distance, quality(jnp.sum(z**2, axis=1), threshold), k=config.k))
        return config.visible_weight * off + config.dpp_weight * spread

    return loss


def _heads(decode: VaeDecoder, z: Float[Array, "N L"]) -> Float[Array, "N C"]:
    n = z.shape[0]
    if n <= CHUNK:
        return jax.vmap(decode)(z).reshape(n, -1)
    # A function of its own: jax.checkpoint hashes what it is given, and a module of traced arrays has no hash.
    decoded = jax.lax.map(jax.checkpoint(lambda one: decode(one)), z, batch_size=CHUNK)
    return decoded.reshape(n, -1)


def optimiser(config: DiversifyConfig) -> optax.GradientTransformation:
    """Algorithm 2's: Adam, or the paper's SGD."""
    return (optax.sgd if config.sgd else optax.adam)(config.learning_rate)

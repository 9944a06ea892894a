"""The published method: a masked VAE's samples, and Algorithm 2 over their latents (papers/004 §1.1, §2.2)."""

from collections.abc import Callable

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from .._optimise import descend
from ._algorithm2 import algorithm2_loss, optimiser
from ._config import DiversifyConfig
from ._task import Samples, Task

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
    """Algorithm 2: N latents optimised together by `algorithm2_loss`, from samples of the encoder."""
    decode, loss = VaeDecoder(task), vae_dpp_loss(task, config)
    begin = decode.draws(n, key=key)
    solution = descend(loss, begin, optimiser(config), steps=config.steps, tolerance=config.tolerance)
    return Samples(_heads(decode, solution.value).reshape(n, -1, 3), solution.value)


def vae_dpp_loss(task: Task, config: DiversifyConfig) -> Callable[[Float[Array, "N L"]], Float[Array, ""]]:
    """`algorithm2_loss` of N latents."""
    decode, learned = VaeDecoder(task), task.learned
    assert learned is not None, "the method needs a masked model"
    threshold = learned.threshold(config.n_sigma, literal=config.literal_quality)

    def loss(z: Float[Array, "N L"]) -> Float[Array, ""]:
        return algorithm2_loss(
            _heads(decode, z),
            z,
            held_m=task.fit.held_m,
            visible=task.fit.visible,
            threshold=threshold,
            config=config,
            pixels=task.pixels,
        )

    return loss


def _heads(decode: VaeDecoder, z: Float[Array, "N L"]) -> Float[Array, "N C"]:
    n = z.shape[0]
    if n <= CHUNK:
        return jax.vmap(decode)(z).reshape(n, -1)
    # A function of its own: jax.checkpoint hashes what it is given, and a module of traced arrays has no hash.
    decoded = jax.lax.map(jax.checkpoint(lambda one: decode(one)), z, batch_size=CHUNK)
    return decoded.reshape(n, -1)

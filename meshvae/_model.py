"""Two autoencoders over the same layers: one for masked meshes, one for what a given completion leaves over."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Shaped

from ._blocks import Block, Step, init_block, make_steps
from ._config import ModelConfig
from ._errors import InputError
from ._hierarchy import Hierarchy
from ._pattern import FORMS

LOG_VARIANCE_BOUND = 12.0
"""Latent log σ² stays within ± this, smoothly, so that no exponential overflows."""


SHARE_START = 2.0
"""Logit of the share of the closed form's spread that an untrained model keeps: most of it, with a live gradient."""


class Gaussian(eqx.Module):
    """Independent normal variables, one for each vertex of the coarsest level and latent channel."""

    mean: Float[Array, "v c"]
    """Their means."""
    log_variance: Float[Array, "v c"]
    """Their log σ²."""

    def sample(self, *, key: PRNGKeyArray) -> Float[Array, "v c"]:
        """One draw."""
        noise = jax.random.normal(key, self.mean.shape, self.mean.dtype)
        return self.mean + jnp.exp(0.5 * self.log_variance) * noise

    def kl(self, other: "Gaussian | None" = None) -> Float[Array, "v c"]:
        """KL(self ‖ other) of each variable in nats; against the standard normal by default."""
        if other is None:
            other = Gaussian(jnp.zeros_like(self.mean), jnp.zeros_like(self.mean))
        difference = self.log_variance - other.log_variance
        shift = jnp.square(self.mean - other.mean) * jnp.exp(-other.log_variance)
        return 0.5 * (jnp.expm1(difference) - difference + shift)


class Encoder(eqx.Module):
    """Features of every layer, and a Gaussian over the latent."""

    blocks: tuple[Block, ...]
    """One for each stride but the last."""
    mean: Block
    """The head of μ."""
    log_variance: Block
    """The head of log σ²."""

    def __call__(
        self, x: Float[Array, "V C"], steps: tuple[Step, ...], config: ModelConfig
    ) -> tuple[tuple[Float[Array, "_ _"], ...], Gaussian]:
        """Features after every block, finest first, and the latent; vertices in the hierarchy's order."""
        features = []
        for block, step in zip(self.blocks, steps, strict=False):
            x = block(x, step)
            features.append(x)
        raw = config.log_variance_start + config.log_variance_scale * self.log_variance(x, steps[-1])
        log_variance = LOG_VARIANCE_BOUND * jnp.tanh(raw / LOG_VARIANCE_BOUND)
        return tuple(features), Gaussian(config.mean_scale * self.mean(x, steps[-1]), log_variance)


class Condition(eqx.Module):
    """What a residual model draws from a given completion and its visibility; made once, used for every sample."""

    prior: Gaussian
    """p(z | base, visible)."""
    features: tuple[Float[Array, "_ _"], ...]
    """Features of every layer, finest first, that the decoder adds to its own."""
    visible: Bool[Array, " V"]
    """Which vertices are seen, in the hierarchy's order."""
    share: Float[Array, ""]
    """How much of the closed form's own spread a sample keeps, 0 to 1."""


class _Model(eqx.Module):
    """What both kinds have in common."""

    order: Int[np.ndarray, " V"]
    """The caller's index of each vertex of the hierarchy's finest level."""
    rank: Int[np.ndarray, " V"]
    """The inverse of `order`."""
    down: tuple[Step, ...]
    """Steps from fine to coarse."""
    up: tuple[Step, ...]
    """Steps from coarse to fine, numbered as the steps down."""
    encoder: Encoder | None
    """q(z | …); None for a model that never sees residuals (`objective` energy)."""
    decoder: tuple[Block, ...]
    """Blocks of the steps up, in the order of the steps down."""
    config: ModelConfig = eqx.field(static=True)
    """What it was made from."""
    fingerprint: str = eqx.field(static=True)
    """The topology it belongs to."""

    @property
    def n_vertices(self) -> int:
        """Vertices of the mesh."""
        return self.order.size

    @property
    def latent_shape(self) -> tuple[int, int]:
        """Vertices of the coarsest level, channels at each."""
        return self.down[-1].n_out, self.config.latent_channels

    def _ordered(self, *arrays: Shaped[Array, "V ..."]) -> tuple[Array, ...]:
        """The caller's arrays in the hierarchy's order; out of range, jax would repeat the last row unseen."""
        for array in arrays:
            if array.shape[0] != self.n_vertices:
                raise InputError(
                    f"The model belongs to a mesh of {self.n_vertices} vertices and was given {array.shape[0]}."
                )
        return tuple(array[self.order] for array in arrays)

    def _decode(self, z: Float[Array, "v c"], features: tuple[Float[Array, "_ _"], ...] = ()) -> Float[Array, "V 3"]:
        if z.shape != self.latent_shape:
            raise InputError(f"The model's latent has shape {self.latent_shape}, not {z.shape}.")
        x = z
        for k in reversed(range(len(self.up))):
            x = self.decoder[k](x, self.up[k])
            if features and k > 0:
                x = (x + features[k - 1]) * 0.5**0.5
        return x


class MaskedVAE(_Model):
    """The mesh VAE of Dey and Boddeti 2022, supplement §2.2: masked offsets in, the whole mesh out.

    Offsets are (vertices - template) / scale, with one scale for the whole population; vertices in the caller's order.
    """

    def encode(self, offsets: Float[Array, "V 3"], visible: Bool[Array, " V"]) -> Gaussian:
        """q(z | visible offsets); what `offsets` holds at hidden vertices is not looked at."""
        offsets, visible = self._ordered(offsets, visible)
        channels = [jnp.where(visible[:, None], offsets, jnp.zeros((), offsets.dtype))]
        if self.config.mask_channel:
            channels.append(visible[:, None].astype(offsets.dtype))
        assert self.encoder is not None, "a masked model has an encoder"
        return self.encoder(jnp.concatenate(channels, axis=1), self.down, self.config)[1]

    def decode(self, z: Float[Array, "v c"]) -> Float[Array, "V 3"]:
        """Offsets of the whole mesh."""
        return self._decode(z)[self.rank]


class ResidualVAE(_Model):
    """What a completion in closed form cannot model: p(residual | base, visible) = ∫ p(residual | z, …) p(z | …) dz.

    `base` holds the offsets of the given completion, `residual` what the truth has beyond it, both in the normalised
    frame of `MaskedVAE`. A model of objective `energy` gives what is added to a draw of the closed form's own spread,
    of which it keeps a learned share; one of objective `evidence` gives all of the residual, and keeps none.
    """

    conditioner: Encoder
    """p(z | base, visible), and the features that the decoder sees."""
    gate: Float[Array, " V"]
    """How much of the residual passes at each vertex when it is visible, as a logit."""
    share: tuple[Float[Array, " c"], Float[Array, ""]] | None
    """From the mean of the conditioner's coarsest features to the logit of the share of the closed form's spread that
    a sample keeps: weights and bias. None where none is kept."""

    def condition(self, base: Float[Array, "V 3"], visible: Bool[Array, " V"]) -> Condition:
        """The learned prior and the features for the decoder: shared by every sample of one completion."""
        base, visible = self._ordered(base, visible)
        features, prior = self.conditioner(self._seen(base, visible), self.down, self.config)
        share = jnp.zeros((), base.dtype)
        if self.share is not None:
            weights, bias = self.share
            share = jax.nn.sigmoid(jnp.mean(features[-1], axis=0) @ weights + bias)
        return Condition(prior, features, visible, share)

    def prior(self, base: Float[Array, "V 3"], visible: Bool[Array, " V"]) -> Gaussian:
        """p(z | base, visible)."""
        return self.condition(base, visible).prior

    def encode(self, residual: Float[Array, "V 3"], base: Float[Array, "V 3"], visible: Bool[Array, " V"]) -> Gaussian:
        """q(z | residual, base, visible); raises `InputError` for a model of objective `energy`, which has none."""
        if self.encoder is None:
            raise InputError("A model that was trained on the energy score has no encoder of residuals.")
        residual, base, visible = self._ordered(residual, base, visible)
        x = jnp.concatenate([residual, self._seen(base, visible)], axis=1)
        return self.encoder(x, self.down, self.config)[1]

    def decode(
        self, z: Float[Array, "v c"], base: Float[Array, "V 3"], visible: Bool[Array, " V"]
    ) -> Float[Array, "V 3"]:
        """The residual."""
        return self.decode_conditioned(z, self.condition(base, visible))

    def decode_conditioned(self, z: Float[Array, "v c"], condition: Condition) -> Float[Array, "V 3"]:
        """The residual, from what `condition` made: many samples of one completion share it."""
        x = self._decode(z, condition.features)
        passing = jnp.where(condition.visible, jax.nn.sigmoid(self.gate), jnp.ones((), x.dtype))
        return (x * passing[:, None])[self.rank]

    def _seen(self, base: Float[Array, "V 3"], visible: Bool[Array, " V"]) -> Float[Array, "V C"]:
        if not self.config.mask_channel:
            return base
        return jnp.concatenate([base, visible[:, None].astype(base.dtype)], axis=1)


def make_model(
    config: ModelConfig, hierarchy: Hierarchy, *, key: PRNGKeyArray, form: str = "auto"
) -> MaskedVAE | ResidualVAE:
    """A model with random weights in jax's default floating-point type.

    `form` forces how spatially varying convolutions are evaluated: `dense`, `block`, the slow `reference`, or `auto`
    for the cheapest of the first two at each step. Raises `InputError` when the hierarchy was built for other strides.
    """
    if form not in FORMS:
        raise InputError(f"There is no form of evaluation '{form}'; use {', '.join(FORMS)}.")
    if hierarchy.strides != config.strides:
        raise InputError(
            f"The hierarchy has strides {hierarchy.strides}, the configuration {config.strides}; build it anew."
        )
    down, up = make_steps(config, hierarchy, form=form)
    # Numpy's generator: jax would compile one for each of the hundred shapes.
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
    seen = 3 + int(config.mask_channel)
    decoder = tuple(
        init_block(step, config.width(k), config.width(k - 1) if k else 3, config, rng=rng, activated=k > 0)
        for k, step in enumerate(up)
    )
    order = hierarchy.levels[0].vertices
    shared: dict[str, Any] = {
        "order": order,
        "rank": np.argsort(order).astype(np.int32),
        "down": down,
        "up": up,
        "decoder": decoder,
        "config": config,
        "fingerprint": hierarchy.fingerprint,
    }
    if config.kind == "masked":
        return MaskedVAE(encoder=_init_encoder(seen, down, config, rng=rng), **shared)
    dtype = jnp.result_type(float)
    encodes = config.objective == "evidence"
    return ResidualVAE(
        encoder=_init_encoder(seen + 3, down, config, rng=rng) if encodes else None,
        conditioner=_init_encoder(seen, down, config, rng=rng),
        gate=jnp.zeros(order.size, dtype),
        share=None if encodes else (jnp.zeros(config.channels[-1], dtype), jnp.asarray(SHARE_START, dtype)),
        **shared,
    )


def _init_encoder(c_in: int, down: tuple[Step, ...], config: ModelConfig, *, rng: np.random.Generator) -> Encoder:
    widths = (c_in, *config.channels)
    blocks = tuple(init_block(step, widths[k], widths[k + 1], config, rng=rng) for k, step in enumerate(down[:-1]))
    mean, log_variance = (
        init_block(down[-1], widths[-1], config.latent_channels, config, rng=rng, activated=False) for _ in range(2)
    )
    return Encoder(blocks, mean, log_variance)


def count_parameters(tree: eqx.Module) -> int:
    """Learned numbers of a model or of a part of it."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array)))

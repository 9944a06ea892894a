"""The residual model on the head's coefficients: what the closed-form posterior leaves over, by a small network."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from meshvae import Gaussian

from .._errors import InputError
from ..files import parse_json, read_safetensors, write_safetensors
from ..head import HeadModel
from ..surface import farthest_points
from ._posterior import N_RIGID

FORMAT = "diverse3d components 2"
_LOG_VARIANCE_BOUND = 6.0
_SHARE_START = 3.0


@dataclasses.dataclass(frozen=True)
class ComponentConfig:
    """Sizes of the network."""

    hidden: int = 512
    """Width of every hidden layer."""
    latent: int = 64
    """Latent variables."""
    clusters: int = 128
    """Patches of the surface whose visible shares tell the network what is seen."""

    def to_json(self) -> str:
        """As one line of JSON."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    def __post_init__(self) -> None:
        if not all(type(size) is int and 1 <= size <= 4096 for size in dataclasses.astuple(self)):
            raise InputError("Every size of a component model must be a whole number between 1 and 4096.")


class ComponentCondition(eqx.Module):
    """What the network draws from a posterior mean and the visible part; shared by every sample."""

    prior: Gaussian
    """p(z | mean, visible)."""
    features: Float[Array, " H"]
    """What the decoder adds to z's part in its first layer."""
    share: Float[Array, ""]
    """How much of the posterior's own spread a sample keeps."""


class ComponentModel(eqx.Module):
    """p(truth - posterior mean | mean, visible) in the head's coefficients: a conditional generator.

    A sample adds the kriging-corrected coefficients that are decoded from z to a share of the posterior's own spread.
    Trained on the energy score (Gneiting & Raftery 2007), it starts as the posterior and can only gain.
    """

    trunk: eqx.nn.MLP
    """From the posterior mean (unknowns of the head) and the visible share of each patch to features."""
    moments: eqx.nn.Linear
    """From features to the mean and log σ² of the learned prior."""
    gate: eqx.nn.Linear
    """From features to the logit of the share."""
    from_features: eqx.nn.Linear
    """The decoder's first layer, of the features: once for all samples."""
    from_latent: eqx.nn.Linear
    """The same, of z."""
    decoder: eqx.nn.MLP
    """Its other layers, to coefficients."""
    cluster: Int[np.ndarray, " V"]
    """The patch of each vertex."""
    config: ComponentConfig = eqx.field(static=True)
    """Its sizes."""
    fingerprint: str = eqx.field(static=True)
    """Hash of the head it belongs to."""

    @property
    def unknowns(self) -> int:
        """Entries of a posterior mean that it sees: those that move the head."""
        return self.trunk.layers[0].weight.shape[1] - self.config.clusters

    @property
    def latent_shape(self) -> tuple[int, int]:
        """As of the mesh models: vertices of the coarsest level, channels; here all in one."""
        return 1, self.config.latent

    def condition(self, mean: Float[Array, " R"], visible: Bool[Array, " V"]) -> ComponentCondition:
        """The learned prior and the features for the decoder; `mean` holds the head's own unknowns.

        The rigid motion is not looked at. Heads to train on lie where the population has them, so how far a posterior
        has moved them tells its error; a user's head lies anywhere.
        """
        mean = mean.at[-N_RIGID:].set(0.0)
        nothing = jnp.zeros(self.config.clusters, mean.dtype)
        seen = nothing.at[self.cluster].add(visible.astype(mean.dtype))
        size = nothing.at[self.cluster].add(jnp.ones(visible.shape, mean.dtype))
        share_seen = seen / jnp.maximum(size, 1.0)
        features = self.trunk(jnp.concatenate([mean, share_seen]))
        features = jax.nn.silu(features)
        at, log_variance = jnp.split(self.moments(features), 2)
        log_variance = _LOG_VARIANCE_BOUND * jnp.tanh(log_variance / _LOG_VARIANCE_BOUND)
        share = jax.nn.sigmoid(self.gate(features)[0] + _SHARE_START)
        return ComponentCondition(Gaussian(at[None], log_variance[None]), self.from_features(features), share)

    def decode_conditioned(self, z: Float[Array, "1 L"], condition: ComponentCondition) -> Float[Array, " K"]:
        """Coefficients that are to be added to the mean, before the kriging correction."""
        return self.decoder(jax.nn.silu(condition.features + self.from_latent(z[0])))


def make_component_model(
    head: HeadModel, unknowns: int, config: ComponentConfig, *, key: PRNGKeyArray
) -> ComponentModel:
    """A network with random weights whose decoded part starts small; `unknowns` are those that move the head."""
    trunk_key, moments_key, gate_key, features_key, latent_key, decoder_key = jax.random.split(key, 6)
    wide, latent = config.hidden, config.latent
    decoder = eqx.nn.MLP(wide, head.n_components, wide, 1, activation=jax.nn.silu, key=decoder_key)
    last = decoder.layers[-1]
    decoder = eqx.tree_at(lambda m: m.layers[-1], decoder, jax.tree.map(lambda leaf: 0.1 * leaf, last))
    model = ComponentModel(
        trunk=eqx.nn.MLP(unknowns + config.clusters, wide, wide, 2, activation=jax.nn.silu, key=trunk_key),
        moments=eqx.nn.Linear(wide, 2 * latent, key=moments_key),
        gate=eqx.nn.Linear(wide, 1, key=gate_key),
        from_features=eqx.nn.Linear(wide, wide, key=features_key),
        from_latent=eqx.nn.Linear(latent, wide, use_bias=False, key=latent_key),
        decoder=decoder,
        cluster=patches(np.asarray(head.template_m, np.float64), config.clusters),
        config=config,
        fingerprint=head.sha256,
    )
    learned, rest = eqx.partition(model, eqx.is_inexact_array)
    return eqx.combine(jax.tree.map(lambda leaf: leaf.astype(head.dtype), learned), rest)


def patches(vertices: Float[np.ndarray, "V 3"], count: int) -> Int[np.ndarray, " V"]:
    """The nearest of `count` vertices that lie farthest from one another, for each vertex."""
    centres = vertices[farthest_points(vertices, count)]
    return ((vertices[:, None] - centres) ** 2).sum(-1).argmin(1).astype(np.int32)


def save_components(model: ComponentModel, path: Path, *, card: dict[str, Any], half: bool = False) -> str:
    """Write a model, whole or not at all; returns its hash."""
    learned = eqx.filter(model, eqx.is_inexact_array)
    kind = np.float16 if half else np.float32
    arrays = {name: np.ascontiguousarray(np.asarray(leaf, kind)) for name, leaf in _named(learned)}
    arrays["cluster"] = np.ascontiguousarray(model.cluster.astype(np.int32))
    sizes = {"unknowns": model.unknowns, **dataclasses.asdict(model.config)}
    text = json.dumps({"format": FORMAT, "sizes": sizes, "card": card}, sort_keys=True)
    return write_safetensors(path, arrays, {"components": text})


def load_components(head: HeadModel, path: Path) -> tuple[ComponentModel, dict[str, Any], str]:
    """A model, its card and its hash; raises `InputError` for a file that is damaged or belongs to another head."""
    arrays, texts, digest = read_safetensors(path, limit="result_bytes", what="file of weights")
    try:
        description = parse_json(texts["components"].encode(), f"{path} (its description)")
        if description["format"] != FORMAT:
            raise ValueError(description["format"])
        sizes, card = dict(description["sizes"]), dict(description["card"])
        unknowns = sizes.pop("unknowns")
        config = ComponentConfig(**sizes)
        if type(unknowns) is not int or not head.n_components <= unknowns <= head.n_components + 64:
            raise ValueError("unknowns")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} holds no component weights of this version; train them again.") from error
    if card.get("head_sha256") != head.sha256:
        raise InputError(f"{path} was trained for the head '{card.get('head')}', not for '{head.name}'; train anew.")
    # Shapes alone: nothing is drawn or compiled.
    model = eqx.filter_eval_shape(lambda: make_component_model(head, unknowns, config, key=jax.random.key(0)))
    learned, rest = eqx.partition(model, lambda leaf: jnp.issubdtype(getattr(leaf, "dtype", int), jnp.inexact))
    leaves = []
    for name, shape in _named(learned):
        array = arrays.get(name)
        if array is None or array.shape != shape.shape or array.dtype.kind != "f" or not np.isfinite(array).all():
            raise InputError(f"{path}: the array '{name}' is missing, damaged or of another size than it says.")
        leaves.append(jnp.asarray(array, head.dtype))
    cluster = arrays.get("cluster")
    if cluster is None or cluster.shape != (head.n_vertices,) or cluster.dtype != np.int32:
        raise InputError(f"{path}: its patches are missing or damaged.")
    if cluster.min() < 0 or cluster.max() >= config.clusters:
        raise InputError(f"{path}: its patches are damaged.")
    model = eqx.combine(jax.tree.unflatten(jax.tree.structure(learned), leaves), rest)
    model = dataclasses.replace(model, cluster=cluster)
    return model, card, digest


def count_components(model: ComponentModel) -> int:
    """Learned numbers of a model."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)))


def _named(tree: Any) -> list[tuple[str, Any]]:
    return [(jax.tree_util.keystr(way), leaf) for way, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]]

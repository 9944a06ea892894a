"""Trained models as the methods use them: the shipped weights of the embedded head, or a user's own."""

import abc
import math
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, overload

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

import meshvae
from meshvae import Condition, Gaussian, MaskedVAE, ResidualVAE

from .._errors import InputError
from .._methods import DEFAULT_METHOD, METHODS, WITHOUT_WEIGHTS, Kind
from ..files import parse_json, read_safetensors_texts
from ..head import HeadModel
from ._components import ComponentCondition, ComponentModel, load_components
from ._posterior import head_vertices

SHIPPED = {kind: Path(__file__).parents[1] / "assets" / f"{kind}.safetensors" for kind in ("masked", "residual")}
"""The weights in the package, both of the embedded head."""


class Learned(eqx.Module):
    """A trained model and the frame that it works in."""

    sha256: str = eqx.field(static=True)
    """Hash of the weights file."""


class MaskedModel(Learned):
    """The published method's masked VAE, of heads as offsets (vertices - template) / scale."""

    model: MaskedVAE
    """The network."""
    template_m: Float[Array, "V 3"]
    """What offsets are measured from."""
    scale_m: Float[Array, ""]
    """Their unit."""
    latent_norm: tuple[float, float] = eqx.field(static=True)
    """Mean and standard deviation of ‖z‖^⅔ over training heads, near normal as cube roots of ‖z‖² are."""

    @property
    def latent_size(self) -> int:
        """Numbers in a latent."""
        return math.prod(self.model.latent_shape)

    def encode(self, vertices_m: Float[Array, "V 3"], visible: Bool[Array, " V"]) -> Gaussian:
        """q(z | visible part)."""
        return self.model.encode((vertices_m - self.template_m) / self.scale_m, visible)

    def decode(self, latent: Float[Array, "v c"]) -> Float[Array, "V 3"]:
        """Vertices in metres."""
        return self.template_m + self.scale_m * self.model.decode(latent)

    def threshold(self, n_sigma: float, *, literal: bool = False) -> float:
        """Where the quality of a latent starts to fall: the quantile of ‖z‖² `n_sigma` deviations up a normal.

        `literal` is the paper's n_σ√d, which ordinary latents exceed (Dey and Boddeti, 2022).
        """
        if literal:
            return n_sigma * float(self.latent_size) ** 0.5
        mean, deviation = self.latent_norm
        return (mean + n_sigma * deviation) ** 3


class ResidualModel(Learned):
    """What a trained model knows beside the closed form: p(truth - posterior mean | mean, visible)."""

    model: ComponentModel | ResidualVAE
    """The network."""

    @abc.abstractmethod
    def condition(
        self, head: HeadModel, mean: Float[Array, " D"], visible: Bool[Array, " V"]
    ) -> Condition | ComponentCondition:
        """What it draws from a posterior mean (a posterior's vector) and the visible part."""

    @abc.abstractmethod
    def coefficients(self, z: Float[Array, "v c"], condition: Any) -> Float[Array, " K"]:
        """What a latent decodes to under such a condition, as coefficients to be added to the posterior mean."""


class ComponentResidual(ResidualModel):
    """A residual model on the head's coefficients."""

    model: ComponentModel

    def condition(self, head: HeadModel, mean: Float[Array, " D"], visible: Bool[Array, " V"]) -> ComponentCondition:
        """Of the unknowns that move the head."""
        return self.model.condition(mean[: self.model.unknowns], visible)

    def coefficients(self, z: Float[Array, "v c"], condition: ComponentCondition) -> Float[Array, " K"]:
        """As the network decodes them."""
        return self.model.decode_conditioned(z, condition)


class MeshResidual(ResidualModel):
    """A residual model on meshes."""

    model: ResidualVAE
    template_m: Float[Array, "V 3"]
    """What offsets are measured from."""
    scale_m: Float[Array, ""]
    """Unit of offsets."""
    residual_scale_m: Float[Array, ""]
    """Unit of residuals."""
    dual: Float[Array, "C K"]
    """From offsets in metres to the head's coefficients nearest in least squares."""

    def condition(self, head: HeadModel, mean: Float[Array, " D"], visible: Bool[Array, " V"]) -> Condition:
        """Of the mean's mesh."""
        return self.model.condition((head_vertices(head, mean) - self.template_m) / self.scale_m, visible)

    def coefficients(self, z: Float[Array, "v c"], condition: Condition) -> Float[Array, " K"]:
        """The coefficients nearest to the decoded residual."""
        return (self.residual_scale_m * self.model.decode_conditioned(z, condition)).reshape(-1) @ self.dual


def default_method(head: HeadModel) -> str:
    """The default method of a head: the best of the closed form where the package has no weights for it."""
    weights = METHODS[DEFAULT_METHOD].weights
    return DEFAULT_METHOD if weights is None or has_weights(head, weights) else WITHOUT_WEIGHTS


def has_weights(head: HeadModel, kind: Kind) -> bool:
    """Whether the package carries weights for this very head."""
    return SHIPPED[kind].is_file() and _card_head(SHIPPED[kind]) == head.sha256


def check_weights(head: HeadModel, kind: Kind, path: Path | None) -> None:
    """Raise `InputError` when neither the package nor the user has weights for a head."""
    if path is None and not has_weights(head, kind):
        raise InputError(
            f"There are no {kind} weights for the head '{head.name}': train them by 'diverse3d train --model {kind} "
            "--head HEAD --out DIR' and name them with --weights DIR/weights.safetensors, or choose another method."
        )


@overload
def load_learned(head: HeadModel, kind: Literal["masked"], path: Path | None = None) -> MaskedModel: ...
@overload
def load_learned(head: HeadModel, kind: Literal["residual"], path: Path | None = None) -> ResidualModel: ...
@overload
def load_learned(head: HeadModel, kind: Kind, path: Path | None = None) -> Learned: ...
def load_learned(head: HeadModel, kind: Kind, path: Path | None = None) -> Learned:
    """The trained model of a head: the shipped one, or a user's own file (see `diverse3d train`).

    Raises `InputError` when there is none for this head, or the file holds another kind of model, belongs to another
    head, or is damaged.
    """
    check_weights(head, kind, path)
    return _load(head, kind, path or SHIPPED[kind])


def _load(head: HeadModel, kind: Kind, path: Path) -> Learned:
    if kind == "residual" and path.is_file() and "components" in _texts(path):
        components, _, digest = load_components(head, path)
        return ComponentResidual(digest, components)
    faces = np.asarray(head.faces)
    fingerprint = meshvae.topology_fingerprint(faces, head.n_vertices)
    trained = meshvae.load_model(path, fingerprint=fingerprint, dtype=head.dtype)
    card = trained.card
    if trained.model.config.kind != kind:
        raise InputError(f"{path} holds a {trained.model.config.kind} model and the method needs a {kind} one.")
    if card.get("head_sha256", head.sha256) != head.sha256:
        raise InputError(f"{path} was trained for the head '{card.get('head')}', not for '{head.name}'; train anew.")
    model, template = trained.model, jnp.asarray(trained.template, head.dtype)
    scale = jnp.asarray(trained.scale, head.dtype)
    if isinstance(model, MaskedVAE):
        return MaskedModel(trained.sha256, model, template, scale, _latent_norm(card, path))
    residual_scale = jnp.asarray(trained.residual_scale, head.dtype)
    return MeshResidual(trained.sha256, model, template, scale, residual_scale, coefficient_dual(head))


def coefficient_dual(head: HeadModel) -> Float[Array, "C K"]:
    """The map from flattened offsets in metres to the coefficients nearest in least squares."""
    components = np.asarray(head.components_m, np.float64)
    return jnp.asarray(np.linalg.solve(components @ components.T, components).T, head.dtype)


def _latent_norm(card: Any, path: Path) -> tuple[float, float]:
    try:
        mean, deviation = (float(card["latent_norm"][name]) for name in ("cube_root_mean", "cube_root_deviation"))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} does not say how large its latents are; train it again with this version.") from error
    if not (np.isfinite([mean, deviation]).all() and mean > 0 and deviation >= 0):
        raise InputError(f"{path}: what it says of its latents' size is damaged.")
    return mean, deviation


@lru_cache(maxsize=4)
def _card_head(path: Path) -> str | None:
    """The hash of the head that a weights file names; None where it can't be read."""
    texts = _texts(path)
    try:
        text = texts.get("meshvae") or texts["components"]
        return parse_json(text.encode(), str(path))["card"].get("head_sha256")
    except (KeyError, TypeError, AttributeError, ValueError):
        return None


def _texts(path: Path) -> dict[str, str]:
    try:
        return read_safetensors_texts(path)
    except InputError:
        return {}


def check_visible(visible: Bool[np.ndarray, " V"], method: str) -> None:
    """Raise `InputError` where a model that encodes the visible part has nothing to encode."""
    if not visible.any():
        raise InputError(f"Nothing is visible, which '{method}' starts from; use 'posterior'.")

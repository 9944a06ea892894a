"""Trained models as the methods use them: the shipped weights of the embedded head, or a user's own."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from safetensors import SafetensorError, safe_open

import meshvae
from meshvae import Condition, MaskedVAE, ResidualVAE

from .._errors import InputError
from ..head import HeadModel
from ._components import ComponentCondition, ComponentModel, load_components
from ._gaussian import head_vertices

Kind = Literal["masked", "residual"]
SHIPPED = {kind: Path(__file__).parents[1] / "assets" / f"{kind}.safetensors" for kind in ("masked", "residual")}
"""The weights in the package, both of the embedded head."""


class Learned(eqx.Module):
    """A trained model and the frame that it works in."""

    model: MaskedVAE | ResidualVAE | ComponentModel
    """The network; the offsets of mesh models are (vertices - template) / scale."""
    template_m: Float[Array, "V 3"]
    """What offsets are measured from."""
    scale_m: Float[Array, ""]
    """Unit of offsets."""
    residual_scale_m: Float[Array, ""]
    """Unit of a residual mesh model's residuals."""
    dual: Float[Array, "C K"]
    """From offsets in metres to the head's coefficients nearest in least squares."""
    latent_norm: tuple[float, float] = eqx.field(static=True)
    """Masked model: mean and standard deviation of ‖z‖^⅔ over training heads, near normal as cube roots of ‖z‖² are."""
    sha256: str = eqx.field(static=True)
    """Hash of the weights file."""

    @property
    def is_masked(self) -> bool:
        """Whether it is the published method's model, and not a residual one."""
        return isinstance(self.model, MaskedVAE)

    @property
    def masked(self) -> MaskedVAE:
        """The masked model."""
        assert isinstance(self.model, MaskedVAE), "the method needs a masked model"
        return self.model

    def offsets(self, vertices_m: Float[Array, "V 3"]) -> Float[Array, "V 3"]:
        """Vertices in a mesh model's frame."""
        return (vertices_m - self.template_m) / self.scale_m

    def vertices(self, offsets: Float[Array, "V 3"]) -> Float[Array, "V 3"]:
        """Offsets as vertices in metres."""
        return self.template_m + self.scale_m * offsets

    def condition(
        self, head: HeadModel, mean: Float[Array, " D"], visible: Bool[Array, " V"]
    ) -> Condition | ComponentCondition:
        """What a residual model draws from a posterior mean (a posterior's vector) and the visible part."""
        if isinstance(self.model, ComponentModel):
            return self.model.condition(mean[: self.model.unknowns], visible)
        assert isinstance(self.model, ResidualVAE), "the method needs a residual model"
        return self.model.condition(self.offsets(head_vertices(head, mean)), visible)

    def coefficients(self, z: Float[Array, "v c"], condition: Condition | ComponentCondition) -> Float[Array, " K"]:
        """What a residual model decodes, as coefficients to be added to the posterior mean."""
        if isinstance(self.model, ComponentModel):
            assert isinstance(condition, ComponentCondition)
            return self.model.decode_conditioned(z, condition)
        assert isinstance(self.model, ResidualVAE) and isinstance(condition, Condition)
        return (self.residual_scale_m * self.model.decode_conditioned(z, condition)).reshape(-1) @ self.dual

    def threshold(self, n_sigma: float, *, literal: bool = False) -> float:
        """Where the quality of a latent starts to fall: the quantile of ‖z‖² `n_sigma` deviations up a normal.

        `literal` is the paper's n_σ√d, which ordinary latents exceed (papers/004 §1.3).
        """
        if literal:
            return n_sigma * float(np.prod(self.model.latent_shape)) ** 0.5
        mean, deviation = self.latent_norm
        return (mean + n_sigma * deviation) ** 3


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
        one = jnp.ones((), head.dtype)
        # The network works on coefficients: no frame, no map from offsets.
        nothing = jnp.zeros((0, 0), head.dtype)
        return Learned(components, head.template_m, one, one, nothing, (0.0, 0.0), digest)
    faces = np.asarray(head.faces)
    fingerprint = meshvae.topology_fingerprint(faces, head.n_vertices)
    trained = meshvae.load_model(path, fingerprint=fingerprint, dtype=head.dtype)
    card = trained.card
    if trained.model.config.kind != kind:
        raise InputError(f"{path} holds a {trained.model.config.kind} model and the method needs a {kind} one.")
    if card.get("head_sha256", head.sha256) != head.sha256:
        raise InputError(f"{path} was trained for the head '{card.get('head')}', not for '{head.name}'; train anew.")
    return Learned(
        model=trained.model,
        template_m=jnp.asarray(trained.template, head.dtype),
        scale_m=jnp.asarray(trained.scale, head.dtype),
        residual_scale_m=jnp.asarray(trained.residual_scale, head.dtype),
        dual=coefficient_dual(head),
        latent_norm=_latent_norm(card, path) if kind == "masked" else (0.0, 0.0),
        sha256=trained.sha256,
    )


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
        return json.loads(texts.get("meshvae") or texts["components"])["card"].get("head_sha256")
    except (KeyError, ValueError):
        return None


def _texts(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError):
        return {}


def check_visible(visible: Bool[np.ndarray, " V"], method: str) -> None:
    """Raise `InputError` where a model that encodes the visible part has nothing to encode."""
    if not visible.any():
        raise InputError(f"Nothing is visible, which '{method}' starts from; use 'posterior'.")

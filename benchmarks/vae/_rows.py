"""What the suite `vae` compares: ways to make a whole head of a masked one, all behind one interface."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Bool, Float

import meshvae
from diverse3d import InputError
from diverse3d.diversify import SHIPPED
from diverse3d.head import HeadModel
from meshvae import MaskedVAE, Trained

SIGMAS_MM = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Noise of the visible vertices, among which each PCA's is chosen on validation heads."""
NOTHING = 1e-10
"""Components of less variance than this share of the first's are rounding."""


class Row(Protocol):
    """A model of heads; vertices in metres."""

    @property
    def latents(self) -> int:
        """Numbers that describe a head."""
        ...

    @property
    def parameters(self) -> int:
        """Learned numbers."""
        ...

    def reconstruct(
        self, vertices_m: Float[np.ndarray, "V 3"], visible: Bool[np.ndarray, " V"]
    ) -> Float[np.ndarray, "V 3"]:
        """The whole head; what hidden vertices hold is not looked at."""
        ...

    def sample(self, count: int) -> Float[np.ndarray, "count V 3"]:
        """Heads from the model's prior, always the same."""
        ...


class Network:
    """A masked VAE: the mean of its latent, decoded."""

    def __init__(self, trained: Trained) -> None:
        assert isinstance(trained.model, MaskedVAE)
        self.model, self.trained = trained.model, trained
        self.latents = int(np.prod(trained.model.latent_shape))
        self.parameters = meshvae.count_parameters(trained.model)

    def reconstruct(
        self, vertices_m: Float[np.ndarray, "V 3"], visible: Bool[np.ndarray, " V"]
    ) -> Float[np.ndarray, "V 3"]:
        """See `Row`."""
        offsets = (vertices_m - self.trained.template) / self.trained.scale
        return self._metres(_reconstructed(self.model, jnp.asarray(offsets, jnp.float32), jnp.asarray(visible)))

    def sample(self, count: int) -> Float[np.ndarray, "count V 3"]:
        """See `Row`; latents are standard normal."""
        shape = (count, *self.model.latent_shape)
        return self._metres(_decoded(self.model, jax.random.normal(jax.random.key(5), shape, jnp.float32)))

    def _metres(self, offsets: jax.Array) -> np.ndarray:
        return self.trained.template + self.trained.scale * np.asarray(offsets, np.float64)


@eqx.filter_jit
def _reconstructed(model: MaskedVAE, offsets: jax.Array, visible: jax.Array) -> jax.Array:
    return model.decode(model.encode(offsets, visible).mean)


@eqx.filter_jit
def _decoded(model: MaskedVAE, z: jax.Array) -> jax.Array:
    return jax.lax.map(model.decode, z)


@dataclass(frozen=True)
class Pca:
    """Principal components: the projection of a whole head, the most likely head where a part is hidden."""

    mean_m: Float[np.ndarray, " C"]
    """Mean head, flattened, metres; C = 3V."""
    components_m: Float[np.ndarray, "K C"]
    """Components in metres a standard deviation, orthogonal to each other, largest first."""
    sigma_m: float = 1e-4
    """Noise of visible vertices, metres a coordinate."""

    @property
    def latents(self) -> int:
        """Components."""
        return len(self.components_m)

    @property
    def parameters(self) -> int:
        """Mean and components."""
        return self.mean_m.size + self.components_m.size

    def truncated(self, count: int) -> "Pca":
        """The first `count` components."""
        return replace(self, components_m=self.components_m[:count])

    def reconstruct(
        self, vertices_m: Float[np.ndarray, "V 3"], visible: Bool[np.ndarray, " V"]
    ) -> Float[np.ndarray, "V 3"]:
        """See `Row`: the mean of p(z | visible vertices) for z ~ N(0, I) and noise `sigma_m`."""
        return self.completions(vertices_m, visible, (self.sigma_m,))[0]

    def completions(
        self, vertices_m: Float[np.ndarray, "V 3"], visible: Bool[np.ndarray, " V"], sigmas_m: tuple[float, ...]
    ) -> list[Float[np.ndarray, "V 3"]]:
        """The same for several noises, which share most of the work."""
        variances = (self.components_m**2).sum(1)
        seen = np.repeat(visible, 3)
        projected = self.components_m @ np.where(seen, vertices_m.reshape(-1) - self.mean_m, 0.0)
        if seen.all():
            found = [projected / variances] * len(sigmas_m)
        else:
            # Orthogonal components: the products over what is seen are those over all less those over what is hidden.
            hidden = self.components_m[:, ~seen]
            gram = np.diag(variances) - hidden @ hidden.T
            identity = np.eye(len(gram))
            found = [scipy.linalg.solve(gram + s**2 * identity, projected, assume_a="pos") for s in sigmas_m]
        return [(self.mean_m + z @ self.components_m).reshape(-1, 3) for z in found]

    def sample(self, count: int) -> Float[np.ndarray, "count V 3"]:
        """See `Row`; coefficients are standard normal."""
        z = np.random.default_rng(5).standard_normal((count, self.latents))
        return (self.mean_m + z @ self.components_m).reshape(count, -1, 3)


def fit_pca(heads_m: Float[np.ndarray, "S V 3"], count: int) -> Pca:
    """The first `count` components of heads, or as many as there are."""
    flat = heads_m.reshape(len(heads_m), -1).astype(np.float64)
    mean = flat.mean(0)
    flat -= mean
    # Fewer heads than coordinates: their products with each other hold the same spectrum.
    spectrum, vectors = scipy.linalg.eigh(flat @ flat.T)
    kept = np.flatnonzero(spectrum > NOTHING * spectrum[-1])[::-1][:count]
    return Pca(mean, (vectors[:, kept].T @ flat) / np.sqrt(len(heads_m) - 1))


def tuned(pca: Pca, heads_m: Float[np.ndarray, "H V 3"], masks: dict[str, Bool[np.ndarray, "H V"]]) -> Pca:
    """The PCA with the noise under which the hidden part of validation heads is nearest to the truth."""
    sigmas_m = tuple(1e-3 * sigma for sigma in SIGMAS_MM)
    errors = np.zeros(len(sigmas_m))
    for visible in masks.values():
        for truth, seen in zip(heads_m, visible, strict=True):
            guesses = pca.completions(truth, seen, sigmas_m)
            errors += [np.linalg.norm((guess - truth)[~seen], axis=1).mean() for guess in guesses]
    return replace(pca, sigma_m=sigmas_m[int(errors.argmin())])


def load_masked(path: Path | None, head: HeadModel) -> Trained | None:
    """Weights of a masked model for the head; those of the package if no file is named, None if it has none.

    Raises `InputError` when a named file is missing, or when the weights are of another head or kind.
    """
    if path is None and not SHIPPED["masked"].is_file():
        return None
    chosen = SHIPPED["masked"] if path is None else path
    fingerprint = meshvae.topology_fingerprint(np.asarray(head.faces), head.n_vertices)
    trained = meshvae.load_model(chosen, fingerprint=fingerprint)
    if not isinstance(trained.model, MaskedVAE):
        raise InputError(f"{chosen} holds a residual model; name weights of a masked one.")
    return trained

"""N completions of one face: the last station before files."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..fit import Fit
from ..observe import Observation
from ._pin import Pin

SAMPLE_OK, SAMPLE_OFF_VISIBLE, SAMPLE_NOT_FINITE, SAMPLE_REPAIRED, SAMPLE_IMPOSSIBLE = 0, 1, 2, 3, 4
SAMPLE_TEXT = {
    SAMPLE_OK: "ok",
    SAMPLE_OFF_VISIBLE: "leaves the visible part by more than the tolerance",
    SAMPLE_NOT_FINITE: "was not finite; the fit stands in its place",
    SAMPLE_REPAIRED: "left the visible part by more than the tolerance; the kriging correction brought it back",
    SAMPLE_IMPOSSIBLE: "was no head that can be; the fit stands in its place",
}
"""What a sample's result code means."""


class Completions(eqx.Module):
    """N plausible heads for one occluded face, in the world frame (a photo's posed head; a mesh's own frame)."""

    vertices: Float[Array, "N V 3"]
    """Completed heads, metres."""
    faces: Int[Array, "F 3"]
    """Triangles of every head."""
    visible: Bool[Array, " V"]
    """Vertices that are seen."""
    fit_vertices: Float[Array, "V 3"]
    """The single best fit, metres."""
    map_vertices: Float[Array, "V 3"]
    """The most likely head under the closed-form posterior, metres; the fit again where the method has none."""
    held: Float[Array, "V 3"]
    """What the heads are held to where visible, metres: a mesh's own vertices or a photo's fitted ones."""
    latents: Float[Array, "N K"] | None
    """Each head's latent vector, as the method has it (coefficients less their mean for the linear ones); of a repaired
    sample, that before the repair."""
    results: Int[Array, " N"]
    """A result code a sample (`SAMPLE_TEXT`)."""
    fit: Fit
    """Stage 1's result: parameters, camera, residuals."""
    seen: Observation
    """What was given."""
    method: str = eqx.field(static=True)
    """Name of the method in the table of methods."""
    noise: str = eqx.field(static=True)
    """Name of the noise setting that the visible part was held to."""
    prior_widening: float = eqx.field(static=True)
    """How much wider than the head says identity was taken to be (`Posterior.prior_widening`); 1 for usual faces, and
    for methods without the closed form."""
    noise_widening: float = eqx.field(static=True)
    """How much larger than the noise says the visible part's errors were taken to be; 1 likewise."""
    weights_sha256: str | None = eqx.field(static=True)
    """Hash of the trained weights; None for methods without."""
    pin: Pin | None
    """What of an earlier completion is kept in all of them; None where nothing is."""

    @property
    def uncertainty(self) -> Float[np.ndarray, " V"]:
        """RMS spread over the samples of each vertex about its mean, in millimetres."""
        vertices = np.asarray(self.vertices, np.float64)
        return 1e3 * np.sqrt(((vertices - vertices.mean(0)) ** 2).sum(2).mean(0))

    @property
    def order(self) -> Int[np.ndarray, " N"]:
        """Samples from the most central (smallest mean distance to the others) to the least."""
        vertices = np.asarray(self.vertices, np.float64).reshape(len(self.vertices), -1)
        centred = vertices - vertices.mean(0)
        gram = centred @ centred.T
        norm = np.diag(gram)
        distance = np.sqrt(np.clip(norm[:, None] + norm[None, :] - 2 * gram, 0, None))
        return np.argsort(distance.mean(1), kind="stable").astype(np.int32)


def sample_results(
    vertices: Float[Array, "N V 3"], fit: Fit, tolerance_m: float
) -> tuple[Float[Array, "N V 3"], Int[Array, " N"]]:
    """Result codes of samples in the head frame; a sample that is not finite is replaced by the fit."""
    finite = jnp.all(jnp.isfinite(vertices), axis=(1, 2))
    vertices = jnp.where(finite[:, None, None], vertices, fit.vertices_m[None])
    weight = fit.visible.astype(vertices.dtype)
    square = jnp.sum((vertices - fit.held_m[None]) ** 2, axis=2) * weight[None, :]
    rms = jnp.sqrt(jnp.sum(square, axis=1) / jnp.maximum(jnp.sum(weight), 1.0))
    off = jnp.where(rms > tolerance_m, SAMPLE_OFF_VISIBLE, SAMPLE_OK)
    return vertices, jnp.where(finite, off, SAMPLE_NOT_FINITE).astype(jnp.int32)

"""How wrong the visible vertices are: a noise model a setting, learnt from fits of validation heads."""

from pathlib import Path

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._arrays import on_device
from .._errors import InputError
from .._names import NOISE_SIGMA_MM
from .._suggest import nearest
from ..files import read_safetensors
from ..head import HeadModel
from ..observe import PartialMesh
from ..surface import host_normals
from ._types import Fit

LEARNT_NOISE = Path(__file__).parents[1] / "assets" / "noise.safetensors"

_FLOOR_M = 3e-5


SCAN_NOISE = "scan"
"""Name of the noise that a registered scan brings with it."""

REGISTERED_NOISE = "registered"
"""Name of the noise of a person's mesh that was brought into the head's order of vertices: what no component of the
head says of a face, and vertices that slid along the surface."""
_ALONG_M, _ACROSS_M = 1e-3, 2e-3
"""Its size along the normal and along the surface. Of six sizes tried on people of two scan models, those under which
what is hidden is told best, and intervals hold it (docs/people.md); the likeliest for what is seen are smaller."""

PICTURE_NOISE = "photo"
"""Name of the noise of a photo's landmarks, by which the picture itself is what completions are held to."""


class Facing(eqx.Module):
    """Independent noise that differs along the surface and along its normal."""

    normals: Float[Array, "V 3"]
    """Unit normals in the fit's head frame; `NoiseModel.sigma_m` holds along them."""
    across_m: Float[Array, " V"]
    """Independent noise along the surface, metres a coordinate."""


class NoiseModel(eqx.Module):
    """Gaussian noise of visible vertices: covariance diag(σ²) + Σ_r u_r u_rᵀ."""

    sigma_m: Float[Array, " V"]
    """Independent noise of each vertex, metres a coordinate."""
    factors_m: Float[Array, "r V 3"]
    """Patterns of error shared by many vertices, metres a standard deviation."""
    name: str = eqx.field(static=True)
    """Name of the setting."""
    facing: Facing | None = None
    """Where noise along the surface differs from `sigma_m`, which then is that along the normal."""


def check_noise(name: str) -> None:
    """Raise `InputError` unless `name` is a noise setting."""
    if name not in NOISE_SIGMA_MM:
        raise InputError(f"There is no noise setting '{name}'{nearest(name, NOISE_SIGMA_MM)}.")


def load_noise(head: HeadModel, name: str) -> NoiseModel:
    """The noise model `name` for a head: the learnt one for the embedded head, else an isotropic one.

    Raises `InputError` for an unknown name, and where the learnt ones are damaged.
    """
    check_noise(name)
    if LEARNT_NOISE.is_file():
        stored = read_safetensors(LEARNT_NOISE).arrays
        parts = [stored.get(f"{head.sha256}/{name}/{part}") for part in ("sigma", "factors", "factor_scale")]
        sigma, factors, scale = parts
        if sigma is not None and factors is not None and scale is not None and sigma.shape == (head.n_vertices,):
            return NoiseModel(
                sigma_m=on_device(sigma, head.dtype),
                factors_m=on_device(factors.astype(np.float32) * scale[:, None, None], head.dtype),
                name=name,
            )
    return isotropic_noise(head, 1e-3 * NOISE_SIGMA_MM[name], name)


def isotropic_noise(head: HeadModel, sigma_m: float, name: str) -> NoiseModel:
    """The same independent noise on every vertex."""
    return NoiseModel(
        sigma_m=on_device(np.full(head.n_vertices, sigma_m), head.dtype),
        factors_m=on_device(np.zeros((0, head.n_vertices, 3)), head.dtype),
        name=name,
    )


def registered_noise(fit: Fit, faces: Int[np.ndarray, "F 3"]) -> NoiseModel:
    """The noise of a person's registered mesh, in the frame of its fit."""
    vertices = np.asarray(fit.vertices_m, np.float64)
    dtype, count = fit.vertices_m.dtype, len(vertices)
    return NoiseModel(
        sigma_m=on_device(np.full(count, _ALONG_M), dtype),
        factors_m=on_device(np.zeros((0, count, 3)), dtype),
        name=REGISTERED_NOISE,
        facing=Facing(on_device(host_normals(vertices, faces), dtype), on_device(np.full(count, _ACROSS_M), dtype)),
    )


def scan_noise(mesh: PartialMesh, fit: Fit) -> NoiseModel | None:
    """The noise that a mesh brings with it, in the frame of its fit; None where it brings none."""
    if mesh.noise is None:
        return None
    dtype, count = fit.vertices_m.dtype, len(mesh.noise.along_m)
    turned = mesh.noise.normals @ np.asarray(fit.turn, np.float64)
    return NoiseModel(
        sigma_m=on_device(np.maximum(mesh.noise.along_m, _FLOOR_M), dtype),
        factors_m=on_device(np.zeros((0, count, 3)), dtype),
        name=SCAN_NOISE,
        facing=Facing(on_device(turned, dtype), on_device(np.maximum(mesh.noise.across_m, _FLOOR_M), dtype)),
    )


def learn_noise(errors_m: Float[np.ndarray, "S V 3"], *, rank: int, name: str, dtype: jnp.dtype) -> NoiseModel:
    """Noise model from error fields of validation fits: their leading patterns, and what is left a vertex.

    The errors are those of the observed vertices against the model's own best approximation of the true head, so that
    what the components can't express counts as noise too. The mean is not taken out: a bias is an error.
    """
    count = len(errors_m)
    flat = errors_m.reshape(count, -1).astype(np.float64)
    _, values, patterns = np.linalg.svd(flat, full_matrices=False)
    factors = patterns[:rank] * (values[:rank] / np.sqrt(count))[:, None]
    left = flat - (flat @ patterns[:rank].T) @ patterns[:rank]
    # The patterns were chosen on these very errors: undo the optimism of `rank` fitted directions in `count` samples.
    square = (left**2).sum(0) / max(count - rank, 1)
    sigma = np.sqrt(square.reshape(-1, 3).mean(1) + _FLOOR_M**2)
    return NoiseModel(
        sigma_m=on_device(sigma, dtype),
        factors_m=on_device(factors.reshape(-1, *errors_m.shape[1:]), dtype),
        name=name,
    )


def noise_arrays(noise: NoiseModel, head_sha256: str) -> dict[str, np.ndarray]:
    """The arrays of a noise model as stored beside the embedded head."""
    factors = np.asarray(noise.factors_m, np.float32)
    scale = np.abs(factors).max(axis=(1, 2))
    return {
        f"{head_sha256}/{noise.name}/sigma": np.asarray(noise.sigma_m, np.float32),
        f"{head_sha256}/{noise.name}/factors": (factors / scale[:, None, None]).astype(np.float16),
        f"{head_sha256}/{noise.name}/factor_scale": scale,
    }

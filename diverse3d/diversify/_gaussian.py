"""The closed-form posterior: Laplace around the fit, noise = diagonal + low rank, by one QR."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..fit import Fit, NoiseModel, Unknowns, canonical
from ..fit import rigid as rigid_motion
from ..head import HeadModel

N_RIGID = 6
"""Unknowns of the rigid motion: the last of those that move the head."""

RIGID_ROOT = 1e-2
"""Prior precision (square root) of the rigid unknowns: flat, but never singular."""

_PINNED_ROOT = 1e6
"""The same where fewer than three vertices are seen: they say nothing of the pose, so the fit's is kept."""


class Posterior(eqx.Module):
    """A Gaussian over coefficients, joints, rigid motion and the noise's low-rank part, given the visible vertices."""

    mean: Float[Array, " D"]
    """Posterior mean: the maximum a posteriori point of the linearised head."""
    factor: Float[Array, "D D"]
    """Upper triangle R with RᵀR = posterior precision."""
    root: Float[Array, " D"]
    """Square root of each unknown's prior precision."""
    log_evidence: Float[Array, ""]
    """Log density of the visible vertices under the head and the noise (up to no constant)."""
    noise: str = eqx.field(static=True)
    """Name of the noise setting."""

    def samples(self, count: int, *, key: PRNGKeyArray) -> Float[Array, "count D"]:
        """Independent draws: mean + R⁻¹ε."""
        noise = jax.random.normal(key, (self.mean.size, count), self.mean.dtype)
        return self.mean[None, :] + jax.scipy.linalg.solve_triangular(self.factor, noise, lower=False).T


def split(head: HeadModel, point: Float[Array, " D"]) -> tuple[Unknowns, Float[Array, " r"]]:
    """The unknowns and the noise coefficients in a posterior's vector."""
    sizes = [head.n_components, head.n_joints * 3, 3, 3]
    z, joints, rotation, translation, noise = jnp.split(point, [sum(sizes[: i + 1]) for i in range(4)])
    unknowns = Unknowns(
        z=z,
        joints=joints.reshape(-1, 3),
        rotation=rotation,
        translation=translation,
        camera=jnp.zeros(3, head.dtype),
    )
    return unknowns, noise


def head_vertices(head: HeadModel, point: Float[Array, " D"]) -> Float[Array, "V 3"]:
    """Vertices in metres of a posterior's point, in the fit's head frame (noise left out)."""
    unknowns, _ = split(head, point)
    return rigid_motion(unknowns, canonical(head, unknowns))


def observed_vertices(head: HeadModel, noise: NoiseModel, point: Float[Array, " D"]) -> Float[Array, " C"]:
    """What is seen at a posterior's point, flattened metres: the head, and the noise's patterns on top."""
    _, eta = split(head, point)
    patterns = noise.factors_m.reshape(noise.factors_m.shape[0], head.n_vertices * 3)
    return head_vertices(head, point).reshape(-1) + eta @ patterns


def prior_root(head: HeadModel, noise: NoiseModel, rigid: float | Float[Array, ""] = RIGID_ROOT) -> Float[Array, " D"]:
    """Square root of the prior precision of each entry of a posterior's vector."""
    count, rank = head.n_components + head.n_joints * 3, noise.factors_m.shape[0]
    flat = jnp.full(N_RIGID, rigid, head.dtype)
    return jnp.concatenate([jnp.ones(count, head.dtype), flat, jnp.ones(rank, head.dtype)])


class Expansion(eqx.Module):
    """The head and its noise linearised at a fit."""

    point: Float[Array, " D"]
    """The fit as a posterior's vector."""
    observed_m: Float[Array, " C"]
    """What is seen there, flattened metres."""
    jacobian_m: Float[Array, "C D"]
    """Metres a unit of each unknown."""
    weight: Float[Array, " C"]
    """One over the noise where visible, zero where hidden."""
    root: Float[Array, " D"]
    """Square root of each unknown's prior precision."""


def expand(head: HeadModel, fit: Fit, noise: NoiseModel) -> Expansion:
    """The expansion that the posterior and the kriging correction share."""
    others = jnp.zeros(N_RIGID + noise.factors_m.shape[0], head.dtype)
    point = jnp.concatenate([fit.unknowns.z, fit.unknowns.joints.reshape(-1), others])

    def observed(point: Float[Array, " D"]) -> Float[Array, " C"]:
        return observed_vertices(head, noise, point)

    seen = jnp.sum(fit.visible.astype(head.dtype))
    rigid_root = jnp.where(seen < 3, _PINNED_ROOT, RIGID_ROOT).astype(head.dtype)
    return Expansion(
        point=point,
        observed_m=observed(point),
        jacobian_m=jax.jacfwd(observed)(point),
        weight=jnp.repeat(fit.visible.astype(head.dtype) / noise.sigma_m, 3),
        root=prior_root(head, noise, rigid_root),
    )


@eqx.filter_jit
def posterior(head: HeadModel, fit: Fit, noise: NoiseModel) -> Posterior:
    """p(head | visible vertices) around the fit.

    With J the Jacobian of the vertices at the fit, the rows of visible vertices over their noise and the prior's
    identity are stacked and factored by QR: [W J; P½] = QR. That is M = P + JᵀR⁻¹J without forming it, whose condition
    number single precision could not bear. The noise's low-rank factors join as unknowns of unit variance, which is
    the same as a noise covariance diag(σ²) + UUᵀ. Fixed shapes: hidden rows have weight zero.
    """
    at = expand(head, fit, noise)
    start, weight, root = at.point, at.weight, at.root
    jacobian = at.jacobian_m * weight[:, None]
    innovation = weight * (fit.held_m.reshape(-1) - at.observed_m)
    stacked = jnp.concatenate([jacobian, jnp.diag(root)])
    target = jnp.concatenate([innovation, -root * start])
    # One QR of the stacked system with its right-hand side attached gives factor, solution and residual at once.
    triangle = jnp.linalg.qr(jnp.concatenate([stacked, target[:, None]], axis=1), mode="r")
    factor, projected, residual = triangle[:-1, :-1], triangle[:-1, -1], triangle[-1, -1]
    step = jax.scipy.linalg.solve_triangular(factor, projected, lower=False)
    log_noise = 3.0 * jnp.sum(jnp.where(fit.visible, jnp.log(noise.sigma_m), jnp.zeros_like(noise.sigma_m)))
    log_evidence = (
        -0.5 * residual**2
        - jnp.sum(jnp.log(jnp.abs(jnp.diagonal(factor))))
        + jnp.sum(jnp.log(root))
        - log_noise
        - 1.5 * jnp.sum(fit.visible.astype(head.dtype)) * jnp.log(2 * jnp.pi)
    )
    return Posterior(mean=start + step, factor=factor, root=root, log_evidence=log_evidence, noise=noise.name)

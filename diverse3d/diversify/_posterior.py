"""The closed form around a fit (Laplace; noise = diagonal + low rank; one QR)."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ..fit import PICTURE_NOISE, RIGID_ROOT, Fit, NoiseModel, PhotoFit, Unknowns, canonical, identity_index
from ..fit import rigid as rigid_motion
from ..fit._order import FLAT_M
from ..head import HeadModel

N_RIGID = 6
"""Unknowns of the rigid motion: the last of those that move the head."""

_USUAL = 3.1
"""Standard deviations above its mean that one in 1,000 of a normal variable's draws reach."""

_PINNED_ROOT = 1e6
"""The same where what is seen says nothing of the pose, so that the fit's is kept: see `_tells_pose`."""


_TELLS_POSE = 10.0
"""Numbers of a picture from which on it tells how the head is turned: six landmarks, less the shift."""


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
    prior_widening: Float[Array, ""]
    """How much wider than the head says identity was taken to be, because the visible part is unlikely under it; 1 for
    what the head calls likely."""
    noise_widening: Float[Array, ""]
    """How much larger than the noise model says the visible part's errors were taken to be; 1 or more likewise."""
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


class Trust(eqx.Module):
    """One over the noise of each coordinate seen, zero where hidden: a symmetric root of the noise's precision."""

    along: Float[Array, " C"]
    """Of each coordinate; of the part along the normals where there are any."""
    normals: Float[Array, "V 3"] | None
    """Unit normals."""
    across: Float[Array, " C"] | None
    """Of what is along the surface."""

    def __call__(self, rows: Float[Array, "C *k"]) -> Float[Array, "C *k"]:
        """Metres over their noise."""
        shape = (-1,) + (1,) * (rows.ndim - 1)
        if self.normals is None or self.across is None:
            return rows * self.along.reshape(shape)
        normal = self.normals.reshape((-1, 3) + (1,) * (rows.ndim - 1))
        single = rows.reshape((-1, 3, *rows.shape[1:]))
        upright = (normal * jnp.sum(normal * single, axis=1, keepdims=True)).reshape(rows.shape)
        return rows * self.across.reshape(shape) + upright * (self.along - self.across).reshape(shape)

    def __truediv__(self, factor: Float[Array, ""]) -> "Trust":
        """The same for noise so many times as large."""
        across = None if self.across is None else self.across / factor
        return Trust(self.along / factor, self.normals, across)


def trust_in(visible: Bool[Array, " V"], noise: NoiseModel) -> Trust:
    """One over the noise of visible vertices."""
    seen = visible.astype(noise.sigma_m.dtype)
    along = jnp.repeat(seen / noise.sigma_m, 3)
    if noise.facing is None:
        return Trust(along, None, None)
    return Trust(along, noise.facing.normals, jnp.repeat(seen / noise.facing.across_m, 3))


def _tells_pose(fit: Fit) -> Bool[Array, ""]:
    """Whether three vertices or more are seen that lie neither near a line nor in one spot: as of a mesh's fit."""
    seen = fit.visible.astype(fit.vertices_m.dtype)
    count = jnp.sum(seen)
    share = (seen / jnp.maximum(count, 1.0))[:, None]
    off = fit.vertices_m - jnp.sum(share * fit.vertices_m, axis=0)[None, :]
    square = jnp.linalg.eigvalsh(off.T @ (share * off))
    return (count >= 3) & (square[1] > FLAT_M**2)


class Expansion(eqx.Module):
    """The head and its noise linearised at a fit."""

    point: Float[Array, " D"]
    """The fit as a posterior's vector."""
    observed_m: Float[Array, " C"]
    """What is seen there, flattened metres."""
    target_m: Float[Array, " C"]
    """What the fit is held to, flattened metres."""
    jacobian_m: Float[Array, "C D"]
    """Metres a unit of each unknown."""
    weight: Trust
    """One over the noise where visible, zero where hidden."""
    root: Float[Array, " D"]
    """Square root of each unknown's prior precision."""


def expand(head: HeadModel, fit: Fit, noise: NoiseModel) -> Expansion:
    """The expansion that the posterior and the kriging correction share."""
    others = jnp.zeros(N_RIGID + noise.factors_m.shape[0], head.dtype)
    point = jnp.concatenate([fit.unknowns.z, fit.unknowns.joints.reshape(-1), others])

    def observed(point: Float[Array, " D"]) -> Float[Array, " C"]:
        return observed_vertices(head, noise, point)

    rigid_root = jnp.where(_tells_pose(fit), RIGID_ROOT, _PINNED_ROOT).astype(head.dtype)
    return Expansion(
        point=point,
        observed_m=observed(point),
        target_m=fit.held_m.reshape(-1),
        jacobian_m=jax.jacfwd(observed)(point),
        weight=trust_in(fit.visible, noise),
        root=prior_root(head, noise, rigid_root),
    )


def _picture(head: HeadModel, fit: PhotoFit) -> Expansion:
    """What the picture itself says, in place of the fit's vertices."""
    evidence = fit.evidence
    others = jnp.zeros(N_RIGID, head.dtype)
    shape = jnp.ones(head.n_components + head.n_joints * 3, head.dtype)
    # A handful of landmarks tells no pose: then the fit's is kept.
    rigid = jnp.where(evidence.count > _TELLS_POSE, RIGID_ROOT, _PINNED_ROOT).astype(head.dtype)
    return Expansion(
        point=jnp.concatenate([fit.unknowns.z, fit.unknowns.joints.reshape(-1), others]),
        observed_m=jnp.zeros_like(evidence.left),
        target_m=evidence.left,
        jacobian_m=evidence.jacobian,
        weight=Trust(jnp.ones_like(evidence.left), None, None),
        root=jnp.concatenate([shape, jnp.full(N_RIGID, rigid, head.dtype)]),
    )


@eqx.filter_jit
def picture_posterior(head: HeadModel, fit: PhotoFit) -> Posterior:
    """p(head | what the photo shows) around the fit: its landmarks with errors as the detector makes them.

    Where vertices that are seen are held to the fit (`posterior`), the fit's own errors in depth, turn and shape are
    not in the spread; here they are. Widened where the face is unlikely, as there. The camera is the fit's but for its
    shift: size and place, which no picture tells, are the same for all heads.
    """
    expansion = _picture(head, fit)
    log_unit = jnp.asarray(0.5 * np.log(2.0 * np.pi), head.dtype) * fit.evidence.count
    return _widened(head, expansion, fit.evidence.count, log_unit, PICTURE_NOISE)


@eqx.filter_jit
def posterior(head: HeadModel, fit: Fit, noise: NoiseModel) -> Posterior:
    """p(head | visible vertices) around the fit.

    With J the Jacobian of the vertices at the fit, the rows of visible vertices over their noise and the prior's
    identity are stacked and factored by QR: [W J; P½] = QR. That is M = P + JᵀR⁻¹J without forming it, whose condition
    number single precision could not bear. The noise's low-rank factors join as unknowns of unit variance, which is
    the same as a noise covariance diag(σ²) + UUᵀ. Fixed shapes: hidden rows have weight zero.

    Where the visible part is unlikely under head and noise, both are widened by what it says of their size, by one step
    of the evidence approximation (MacKay 1992, eqs. 2.20 and 2.21), and the system is solved again: an unusual face is
    met by more spread, not by an extreme head. `log_evidence` is that of head and noise as they are.
    """
    expansion = expand(head, fit, noise)
    seen = jnp.sum(fit.visible.astype(head.dtype))
    log_sigma = 3.0 * jnp.log(noise.sigma_m)
    if noise.facing is not None:
        log_sigma = jnp.log(noise.sigma_m) + 2.0 * jnp.log(noise.facing.across_m)
    log_noise = jnp.sum(jnp.where(fit.visible, log_sigma, jnp.zeros_like(log_sigma)))
    return _widened(head, expansion, 3.0 * seen, log_noise + 1.5 * seen * jnp.log(2 * jnp.pi), noise.name)


def _widened(
    head: HeadModel, expansion: Expansion, data: Float[Array, ""], log_unit: Float[Array, ""], noise: str
) -> Posterior:
    """The posterior of `data` numbers, head and noise widened where they make these unlikely; `log_unit` is minus the
    log density of no error at all."""
    first = _solve(expansion, expansion.weight, expansion.root)
    log_evidence = (
        -0.5 * first.left**2
        - jnp.sum(jnp.log(jnp.abs(jnp.diagonal(first.factor))))
        + jnp.sum(jnp.log(expansion.root))
        - log_unit
    )
    identity = identity_index(head)
    prior, errors = _widening(first, expansion.root, identity, data)
    root = expansion.root.at[identity].divide(prior)
    needed = (prior > 1.0) | (errors > 1.0)
    final = jax.lax.cond(needed, lambda: _solve(expansion, expansion.weight / errors, root), lambda: first)
    return Posterior(
        mean=final.point,
        factor=final.factor,
        root=root,
        log_evidence=log_evidence,
        prior_widening=prior,
        noise_widening=errors,
        noise=noise,
    )


class _Solved(eqx.Module):
    """A linear system's answer."""

    point: Float[Array, " D"]
    factor: Float[Array, "D D"]
    left: Float[Array, ""]


def _solve(expansion: Expansion, weight: Trust, root: Float[Array, " D"]) -> _Solved:
    """Most likely point, factor R, and root of the least sum of squares, of data and prior."""
    innovation = weight(expansion.target_m - expansion.observed_m)
    stacked = jnp.concatenate([weight(expansion.jacobian_m), jnp.diag(root)])
    target = jnp.concatenate([innovation, -root * expansion.point])
    # One QR of the stacked system with its right-hand side attached gives factor, solution and residual at once.
    triangle = jnp.linalg.qr(jnp.concatenate([stacked, target[:, None]], axis=1), mode="r")
    factor, projected = triangle[:-1, :-1], triangle[:-1, -1]
    step = jax.scipy.linalg.solve_triangular(factor, projected, lower=False)
    return _Solved(expansion.point + step, factor, triangle[-1, -1])


def _widening(
    solved: _Solved, root: Float[Array, " D"], identity: Int[np.ndarray, " I"], data: Float[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Factors ≥ 1 on the standard deviations of identity and of the noise, by what the visible part says of them.

    Mean squares are set against their expectations: of the prior's unknowns, as many as the data determine, γ = Σ(1 -
    P A⁻¹); of the data, what those leave. What 999 of 1,000 people would reach is no surprise.
    """
    inverse = jax.scipy.linalg.solve_triangular(solved.factor, jnp.eye(root.size, dtype=root.dtype), lower=False)
    told = 1.0 - root**2 * jnp.sum(inverse**2, axis=1)
    square = (root * solved.point) ** 2
    known = jnp.maximum(jnp.sum(told[identity]), 1.0)
    prior = jnp.sum(square[identity]) / (known * (1.0 + _USUAL * jnp.sqrt(2.0 / known)))
    free = jnp.maximum(data - jnp.sum(told), 1.0)
    errors = (solved.left**2 - jnp.sum(square)) / (free * (1.0 + _USUAL * jnp.sqrt(2.0 / free)))
    return jnp.sqrt(jnp.maximum(prior, 1.0)), jnp.sqrt(jnp.maximum(errors, 1.0))

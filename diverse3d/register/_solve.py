"""The head linearised, and its most likely unknowns under rows of evidence: a Gauss–Newton step in double precision.

The step is made on the host: rows change in number from round to round, they weigh up to 10⁸ times what the prior does,
and what they are found by, nearest neighbours, is there too.
"""

from functools import cached_property
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sparse
from jaxtyping import Array, Float, Int
from scipy.linalg import cho_solve, solve_triangular

from .._arrays import on_device
from ..fit import Unknowns, canonical
from ..fit import rigid as rigid_motion
from ..head import HeadModel

_N_RIGID = 6
_DRAWS = 64
_RIGID_ROOT = 0.1
"""Prior precision (square root) of the rigid unknowns: flat, but never singular."""


class Rows(NamedTuple):
    """Linear evidence, a row each: direction · Σ over corners of share · vertex should be larger by `off`."""

    corners: Int[np.ndarray, "R c"]
    """Vertices."""
    shares: Float[np.ndarray, "R c"]
    """Their weights, which sum to one."""
    direction: Float[np.ndarray, "R 3"]
    """Unit vectors."""
    off_m: Float[np.ndarray, " R"]
    """What is still missing."""
    root: Float[np.ndarray, " R"]
    """One over its noise in metres; zero where the row says nothing."""


class Step:
    """The most likely unknowns under some evidence; what it leaves open is worked out when it is asked for."""

    def __init__(
        self,
        point: Float[np.ndarray, " D"],
        precision: Float[np.ndarray, "D D"],
        root: Float[np.ndarray, " D"],
        identity: Int[np.ndarray, " I"],
    ) -> None:
        """`precision` is that of prior and evidence, `root` the prior's root; `identity` are the unknowns that say who
        somebody is: components and smooth residual, no expression."""
        self.point, self._precision, self._root, self._identity = point, precision, root, identity

    @cached_property
    def covariance(self) -> Float[np.ndarray, "D D"]:
        """What the evidence leaves open."""
        return np.linalg.inv(self._precision)

    @cached_property
    def surprise(self) -> float:
        """Mean square of identity and residual against what the prior expects of as many as the evidence determines."""
        told = (1.0 - self._root**2 * np.diag(self.covariance))[self._identity]
        return float((self.point[self._identity] ** 2).sum() / max(told.sum(), 1.0))


class Bending(NamedTuple):
    """How a head's surface is bent along its normals by what no head of the model has."""

    normals: Float[np.ndarray, "V 3"]
    """Unit normals of the bent bending."""
    fields: Float[np.ndarray, "V r"]
    """Ways to bend it …"""
    bent_m: Float[np.ndarray, " V"]
    """How far it is bent already."""


class Evidence:
    """All that is known of the unknowns but the prior: exp(pullᵀx − xᵀ normal x / 2), x the head's unknowns and the
    bending's weights."""

    def __init__(
        self,
        normal: Float[np.ndarray, "E E"],
        pull: Float[np.ndarray, " E"],
        root: Float[np.ndarray, " D"],
        identity: Int[np.ndarray, " I"],
    ) -> None:
        """`root` is the root of the head's prior."""
        self._normal, self._pull, self._root, self._identity = normal, pull, root, identity

    def likelihood(self, size_m: float) -> float:
        """How likely it is where the surface bends by `size_m`, a standard deviation: the logarithm, but for a constant
        (MacKay 1992, eq. 4.10)."""
        lower, prior = self._lower(size_m)
        half = solve_triangular(lower, self._pull, lower=True)
        return float(0.5 * half @ half - np.log(np.diag(lower)).sum() + 0.5 * np.log(prior).sum())

    def likely(self, size_m: float) -> tuple[Step, Float[np.ndarray, " r"]]:
        """The most likely unknowns of the head, what of them is open being that with the bending integrated out; and
        the most likely weights of the bending."""
        lower, prior = self._lower(size_m)
        found = cho_solve((lower, True), self._pull)
        count = len(self._root)
        cross, bent = self._normal[:count, count:], self._normal[count:, count:] + np.diag(prior[count:])
        alone = self._normal[:count, :count] + np.diag(prior[:count]) - cross @ np.linalg.solve(bent, cross.T)
        return Step(found[:count], alone, self._root, self._identity), found[count:]

    def _lower(self, size_m: float) -> tuple[Float[np.ndarray, "E E"], Float[np.ndarray, " E"]]:
        """The precision's Cholesky factor, and the prior's precision."""
        prior = np.concatenate([self._root**2, np.full(len(self._pull) - len(self._root), size_m**-2)])
        return np.linalg.cholesky(self._normal + np.diag(prior)), prior


class Linear:
    """A head whose unknowns are one vector: coefficients and joints in units of their prior, then the rigid motion."""

    def __init__(self, head: HeadModel) -> None:
        self._head = head
        self._components = np.asarray(head.components_m, np.float64).reshape(head.n_components, -1, 3)
        expression = np.arange(head.n_identity, head.n_identity + head.n_expression)
        self._identity = np.setdiff1d(np.arange(head.n_components), expression)

    def start(self) -> Float[np.ndarray, " D"]:
        """All unknowns at their most likely value."""
        return np.zeros(len(self._components) + 3 * self._head.n_joints + _N_RIGID)

    def unknowns(self, point: Float[np.ndarray, " D"]) -> Unknowns:
        """The vector as the unknowns of a fit."""
        return _unknowns(self._head, self._on(point))

    def vertices_m(self, point: Float[np.ndarray, " D"]) -> Float[np.ndarray, "V 3"]:
        """Where the vertices are."""
        return np.asarray(_vertices(self._head, self._on(point)), np.float64)

    def step(self, point: Float[np.ndarray, " D"], groups: list[Rows]) -> Step:
        """The most likely unknowns, all evidence linearised at a point."""
        parts = _linearised(self._head, self._on(point))
        turns, others = (np.asarray(part, np.float64) for part in parts)
        used, groups = _restricted(groups)
        columns = np.einsum("vxy,kvy->vxk", turns[used], self._components[:, used], optimize=True)
        jacobian = np.concatenate([columns, others[used]], axis=2).reshape(3 * len(used), -1)
        root = self._root(point)
        normal, pull = np.diag(root**2), -(root**2) * point
        for rows in groups:
            matrix = _matrix(rows, len(used))
            pull += jacobian.T @ (matrix.T @ (rows.root * rows.off_m))
            if len(rows.root) < len(jacobian):
                known = matrix @ jacobian
                normal += known.T @ known
            else:
                normal += jacobian.T @ ((matrix.T @ matrix) @ jacobian)
        return Step(point + np.linalg.solve(normal, pull), normal, root, self._identity)

    def evidence(
        self,
        point: Float[np.ndarray, " D"],
        rows: Rows,
        marks: Rows,
        bending: Bending,
    ) -> Evidence:
        """What rows on a bent surface and landmarks say of the head's unknowns and of how it is bent, linearised at
        `point` and `bending`; rows count along the surface's normals there."""
        parts = _linearised(self._head, self._on(point))
        turns, others = (np.asarray(part, np.float64) for part in parts)
        used, (rows, marks) = _restricted([rows, marks])
        columns = np.einsum("vxy,kvy->vxk", turns[used], self._components[:, used], optimize=True)
        moved = np.concatenate([columns, others[used]], axis=2)
        own = np.einsum("vx,vxd->vd", bending.normals[used], moved)
        known = np.concatenate([own, bending.fields[used]], axis=1)
        row = np.broadcast_to(np.arange(len(rows.root))[:, None], rows.corners.shape)
        weighed = rows.shares * rows.root[:, None]
        matrix = sparse.csr_matrix((weighed.ravel(), (row.ravel(), rows.corners.ravel())), (len(row), len(used)))
        now = own @ point + bending.bent_m[used]
        normal = known.T @ ((matrix.T @ matrix) @ known)
        pull = known.T @ (matrix.T @ (rows.root * rows.off_m + matrix @ now))
        placed = _matrix(marks, len(used)) @ moved.reshape(-1, len(point))
        normal[: len(point), : len(point)] += placed.T @ placed
        pull[: len(point)] += placed.T @ (marks.root * marks.off_m + placed @ point)
        return Evidence(normal, pull, self._root(point), self._identity)

    def spread_across_m(self, step: Step, normals: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, " V"]:
        """How far each vertex may still slide along the surface, a standard deviation a coordinate: that of a few dozen
        draws (always the same), which is as good as 6 % of itself."""
        turns, others = (np.asarray(part, np.float64) for part in _linearised(self._head, self._on(step.point)))
        random = np.random.default_rng(0).standard_normal((len(step.point), _DRAWS))
        drawn, count = np.linalg.cholesky(step.covariance) @ random, len(self._components)
        shape = (self._components.reshape(count, -1).T @ drawn[:count]).reshape(len(turns), 3, -1)
        moved = np.matmul(turns, shape) + others @ drawn[count:]
        upright = np.einsum("vxk,vx->vk", moved, normals)
        return np.sqrt(((moved**2).sum(axis=(1, 2)) - (upright**2).sum(axis=1)).clip(0) / (2 * _DRAWS))

    @staticmethod
    def _root(point: Float[np.ndarray, " D"]) -> Float[np.ndarray, " D"]:
        root = np.ones(len(point))
        root[-_N_RIGID:] = _RIGID_ROOT
        return root

    def _on(self, point: np.ndarray) -> Array:
        return on_device(point, self._head.dtype)


def _restricted(groups: list[Rows]) -> tuple[Int[np.ndarray, " U"], list[Rows]]:
    """The vertices that rows speak of, and the rows with those counted from zero."""
    groups = [Rows(*(part[rows.root > 0] for part in rows)) for rows in groups]
    used, place = np.unique(np.concatenate([rows.corners.ravel() for rows in groups]), return_inverse=True)
    ends = np.cumsum([rows.corners.size for rows in groups])[:-1]
    places = np.split(place.ravel(), ends)
    return used, [
        rows._replace(corners=own.reshape(rows.corners.shape)) for rows, own in zip(groups, places, strict=True)
    ]


def _matrix(rows: Rows, count: int) -> sparse.csr_matrix:
    """Weighted rows over the coordinates of `count` vertices."""
    values = rows.direction[:, None, :] * (rows.shares * rows.root[:, None])[:, :, None]
    column = 3 * rows.corners[:, :, None] + np.arange(3)
    row = np.broadcast_to(np.arange(len(values))[:, None, None], column.shape)
    return sparse.csr_matrix((values.ravel(), (row.ravel(), column.ravel())), (len(values), 3 * count))


def _unknowns(head: HeadModel, point: Float[Array, " D"]) -> Unknowns:
    ends = [head.n_components, head.n_components + 3 * head.n_joints, point.size - 3]
    z, joints, rotation, translation = jnp.split(point, ends)
    return Unknowns(z, joints.reshape(-1, 3), rotation, translation, jnp.zeros(3, head.dtype))


@eqx.filter_jit
def _vertices(head: HeadModel, point: Float[Array, " D"]) -> Float[Array, "V 3"]:
    unknowns = _unknowns(head, point)
    return rigid_motion(unknowns, canonical(head, unknowns))


@eqx.filter_jit
def _linearised(head: HeadModel, point: Float[Array, " D"]) -> tuple[Float[Array, "V 3 3"], Float[Array, "V 3 R"]]:
    """What turns the components' offsets at each vertex, and what all other unknowns move it by.

    That coefficients move joints too is left out of the step, not of the vertices.
    """
    shape, rest = point[: head.n_components], point[head.n_components :]

    def of_rest(rest: Float[Array, " R"]) -> Float[Array, "V 3"]:
        return _vertices(head, jnp.concatenate([shape, rest]))

    def of_offset(offset: Float[Array, "3"]) -> Float[Array, "V 3"]:
        moved = eqx.tree_at(lambda h: h.template_m, head, head.template_m + offset[None, :])
        return _vertices(moved, point)

    return jax.jacfwd(of_offset)(jnp.zeros(3, head.dtype)), jax.jacfwd(of_rest)(rest)

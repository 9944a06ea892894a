"""The unknowns of stage 1 in units of their prior, and the head they describe."""

from typing import TypeVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._arrays import on_device
from ..head import Albedo, HeadModel, HeadParameters
from ..surface import WeakPerspective, rotation_matrix

Part = TypeVar("Part", HeadModel, Albedo)

RIGID_UNIT = 0.1
"""One unit of the rigid unknowns: 0.1 rad, and 0.1 inter-ocular distances."""

INTEROCULAR_M = 0.09
"""Typical distance between the outer eye corners, used as the unit of length of losses without a picture."""


class Unknowns(eqx.Module):
    """What a fit solves for. Everything is of order one, and zero is the most likely value."""

    z: Float[Array, " K"]
    """Coefficients less their population mean: unit variance a priori."""
    joints: Float[Array, "J 3"]
    """Joint rotations in units of the head's `joint_std_rad`; without effect where the head has none."""
    rotation: Float[Array, "3"]
    """Axis-angle rotation of the whole head, in units of `RIGID_UNIT` radians, after the starting pose."""
    translation: Float[Array, "3"]
    """Translation of the whole head, in units of `RIGID_UNIT` · `INTEROCULAR_M` metres."""
    camera: Float[Array, "3"]
    """Change of log scale and centre of a photo's camera, in units of `RIGID_UNIT` (and inter-ocular distances)."""


def start(head: HeadModel) -> Unknowns:
    """All unknowns at their most likely value."""
    zero = jnp.zeros(3, head.dtype)
    return Unknowns(
        z=jnp.zeros(head.n_components, head.dtype),
        joints=jnp.zeros((head.n_joints, 3), head.dtype),
        rotation=zero,
        translation=zero,
        camera=zero,
    )


def joint_rotations(head: HeadModel, joints: Float[Array, "J 3"]) -> Float[Array, "J 3"]:
    """Axis-angle rotations of the joints in radians; the root's is always zero (the rigid motion carries it)."""
    if head.joint_std_rad is None:
        return jnp.zeros((head.n_joints, 3), head.dtype)
    return (joints * head.joint_std_rad).at[0].set(0.0)


def canonical(head: HeadModel, unknowns: Unknowns) -> Float[Array, "V 3"]:
    """Vertices in metres in the head frame: shape, expression and joints, without the rigid motion."""
    coefficients = unknowns.z + head.prior_mean
    if head.joint_std_rad is None:
        return head.shaped(coefficients)
    pose = joint_rotations(head, unknowns.joints)
    return head(HeadParameters(coefficients, pose, jnp.zeros(3, head.dtype)))


@eqx.filter_jit
def mean_head(head: HeadModel) -> Float[Array, "V 3"]:
    """Vertices of the population's mean in metres, head frame."""
    return head.shaped(head.prior_mean)


def rigid(unknowns: Unknowns, points_m: Float[Array, "n 3"]) -> Float[Array, "n 3"]:
    """The unknown rigid motion applied to points in metres."""
    return points_m @ rotation_of(unknowns).T + (RIGID_UNIT * INTEROCULAR_M * unknowns.translation)[None, :]


def camera_at(unknowns: Unknowns, base: WeakPerspective, interocular_px: Float[Array, ""]) -> WeakPerspective:
    """The photo's camera: the starting one, changed by the unknowns."""
    return WeakPerspective(
        scale_px_per_m=base.scale_px_per_m * jnp.exp(RIGID_UNIT * unknowns.camera[0]),
        centre_px=base.centre_px + RIGID_UNIT * interocular_px * unknowns.camera[1:],
    )


def rotation_of(unknowns: Unknowns) -> Float[Array, "3 3"]:
    """Rotation matrix of the unknown rigid motion."""
    return rotation_matrix(RIGID_UNIT * unknowns.rotation)


def subset(model: Part, vertices: Int[np.ndarray, " n"]) -> Part:
    """A head or an albedo restricted to some vertices, by one compiled program."""
    return _subset(model, on_device(vertices, jnp.int32))


@eqx.filter_jit
def _subset(model: Part, vertices: Int[Array, " n"]) -> Part:
    return model.subset(vertices)


def at_rest(unknowns: Unknowns) -> Unknowns:
    """The same shape and joints with the rigid and camera unknowns at zero."""
    zero = jnp.zeros_like(unknowns.rotation)
    return Unknowns(z=unknowns.z, joints=unknowns.joints, rotation=zero, translation=zero, camera=zero)


def residual_rms(
    head: HeadModel, z: Float[Array, " K"], visible: Bool[Array, " V"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """What the smooth residual adds to visible vertices: RMS in mm, and its share of their squared offsets."""
    seen = visible.astype(head.dtype)
    beyond = jnp.sum(jnp.sum(head.residual_part(z) ** 2, axis=1) * seen)
    whole = jnp.sum(jnp.sum((z @ head.components_m).reshape(-1, 3) ** 2, axis=1) * seen)
    return 1e3 * jnp.sqrt(beyond / jnp.maximum(jnp.sum(seen), 1.0)), beyond / jnp.maximum(beyond, whole + 1e-12)

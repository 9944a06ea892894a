"""The parametric head: linear components, then skinning, as FLAME's (Li et al. 2017)."""

import dataclasses
from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from ..surface import rotation_matrix
from ._albedo import Albedo


class HeadParameters(eqx.Module):
    """One head's parameters; batch by `jax.vmap`."""

    coefficients: Float[Array, " K"]
    """Identity, then expression, then the smooth residual's or region coefficients; unit variance in the population."""
    pose: Float[Array, "J 3"]
    """Axis-angle rotation of each joint in radians: global, neck, jaw, left eye, right eye."""
    translation_m: Float[Array, "3"]
    """Translation of the posed head in metres."""


class SurfacePoints(eqx.Module):
    """Points fixed on the surface: a triangle's corners and barycentric weights each."""

    corners: Int[Array, "L 3"]
    """Vertex indices of the triangle that carries the point."""
    barycentric: Float[Array, "L 3"]
    """Weights of the three corners; rows sum to one."""

    def __call__(self, vertices: Float[Array, "V D"]) -> Float[Array, "L D"]:
        """Position (or any attribute) of the points, interpolated from the vertices."""
        return jnp.sum(vertices[self.corners] * self.barycentric[:, :, None], axis=1)


class LocalModel(eqx.Module):
    """PCA of one region: what the first few global components leave over."""

    vertices: Int[Array, " n"]
    """Indices of the region's vertices."""
    mean_m: Float[Array, "n 3"]
    """Mean residual in metres, always on (the public release switches it by the coefficients' sign)."""
    components_m: Float[Array, "k n 3"]
    """Components in metres a standard deviation."""


def _planes(stacked: Float[Array, "n V"]) -> list[Float[Array, " V"]]:
    """The rows, by a split: its gradient is one concatenation, where that of n indexings is n scatters and sums."""
    return [row.reshape(-1) for row in jax.lax.split(stacked, (1,) * stacked.shape[0], axis=0)]


class HeadModel(eqx.Module):
    """A FLAME-like head as frozen arrays: coefficients and pose in, vertices out.

    Every linear part lives in one matrix, so a forward pass is a single product followed by 3×4 transforms.
    """

    template_m: Float[Array, "V 3"]
    """Vertices in metres when every coefficient and rotation is zero."""
    components_m: Float[Array, "K V*3"]
    """Offsets in metres a standard deviation: identity rows, expression rows, rows of the smooth residual (what the
    head's own components can't express, see `residual`) or of regions."""
    prior_mean: Float[Array, " K"]
    """Mean of the coefficients in the population; zero where the template is the mean."""
    joint_template_m: Float[Array, "J 3"]
    """Joint positions of the template in metres."""
    joint_components_m: Float[Array, "K J*3"]
    """Joint offsets in metres a standard deviation (the regressor applied to the components)."""
    skinning_weights: Float[Array, "V J"]
    """How much each joint moves each vertex; rows sum to one."""
    pose_basis_m: Float[Array, "P V*3"] | None
    """Pose correctives: offsets in metres for each entry of (R_j - I), joints 1…; None where a head has none."""
    joint_std_rad: Float[Array, "J 3"] | None
    """How far the population turns each joint about x, y, z (standard deviation in radians, root row zero). None where
    joints stay at rest in the population, as in the embedded head, whose expressions open the jaw linearly."""
    faces: Int[Array, "F 3"]
    """Triangles, counter-clockwise seen from outside."""
    landmarks68: SurfacePoints | None
    """The 68 iBUG landmarks."""
    landmarks_dense: SurfacePoints | None
    """Points of mediapipe's 468 that the head carries."""
    landmarks_dense_index: Int[Array, " L"] | None
    """Which of mediapipe's 468 points `landmarks_dense` are."""
    regions: Mapping[str, Int[Array, " n"]]
    """Vertex indices of FLAME's named regions."""
    local_models: Mapping[str, LocalModel]
    """Local PCA of a region after ten identity and ten expression components."""
    colours: UInt8[Array, "V 3"] | None
    """A plausible sRGB colour a vertex, for pictures only."""
    joint_parents: tuple[int, ...] = eqx.field(static=True)
    """Parent of each joint, -1 for the root; parents come before children."""
    n_identity: int = eqx.field(static=True)
    """Number of identity components."""
    n_expression: int = eqx.field(static=True)
    """Number of expression components."""
    name: str = eqx.field(static=True, default="head")
    """What the file calls itself."""
    sha256: str = eqx.field(static=True, default="")
    """Hash of the file it was read from."""
    albedo: Albedo | None = None
    """How the surface's colour varies from person to person; None where a head has no such model."""
    n_residual: int = eqx.field(static=True, default=0)
    """Number of components of the smooth residual; none where a head file has no residual."""

    @property
    def n_vertices(self) -> int:
        """Number of vertices V."""
        return self.template_m.shape[0]

    @property
    def n_components(self) -> int:
        """Number of coefficients K."""
        return self.components_m.shape[0]

    @property
    def n_joints(self) -> int:
        """Number of joints J."""
        return self.joint_template_m.shape[0]

    def residual_part(self, coefficients: Float[Array, " K"]) -> Float[Array, "V 3"]:
        """The offsets in metres that the smooth residual gives: what the head's own components don't say."""
        first = self.n_identity + self.n_expression
        rows = slice(first, first + self.n_residual)
        return (coefficients[rows] @ self.components_m[rows]).reshape(-1, 3)

    @property
    def dtype(self) -> jnp.dtype:
        """Floating-point type of the arrays."""
        return self.template_m.dtype

    def neutral(self) -> HeadParameters:
        """Parameters that give the template."""
        return HeadParameters(
            coefficients=jnp.zeros(self.n_components, self.dtype),
            pose=jnp.zeros((self.n_joints, 3), self.dtype),
            translation_m=jnp.zeros(3, self.dtype),
        )

    def shaped(self, coefficients: Float[Array, " K"]) -> Float[Array, "V 3"]:
        """Vertices in metres before any joint turns: T + B·coefficients."""
        return self.template_m + (coefficients @ self.components_m).reshape(-1, 3)

    def joints(self, coefficients: Float[Array, " K"]) -> Float[Array, "J 3"]:
        """Joint positions in metres before any joint turns."""
        return self.joint_template_m + (coefficients @ self.joint_components_m).reshape(-1, 3)

    def __call__(self, parameters: HeadParameters) -> Float[Array, "V 3"]:
        """Vertices in metres: components, pose correctives, linear blend skinning, translation."""
        rotations = jax.vmap(rotation_matrix)(parameters.pose)
        offsets = parameters.coefficients @ self.components_m
        if self.pose_basis_m is not None:
            feature = (rotations[1:] - jnp.eye(3, dtype=self.dtype)[None]).reshape(-1)
            offsets = offsets + feature @ self.pose_basis_m
        rest = self.template_m + offsets.reshape(-1, 3)
        transforms = self._joint_transforms(rotations, self.joints(parameters.coefficients))
        # Weights sum to one, so moving every joint moves every vertex.
        return self._skin(rest, transforms.at[:, :, 3].add(parameters.translation_m[None, :]))

    def _skin(self, rest: Float[Array, "V 3"], transforms: Float[Array, "J 3 4"]) -> Float[Array, "V 3"]:
        """Linear blend skinning: one 3×4 transform a vertex, blended from the joints'.

        The transforms are twelve planes of V numbers and their application is written out: on a CPU, XLA's sums over
        an axis of three cost an order of magnitude more, forward and backward.
        """
        m = _planes(transforms.reshape(self.n_joints, 12).T @ self.skinning_weights.T)
        x, y, z = _planes(rest.T)
        return jnp.stack([m[i] * x + m[i + 1] * y + m[i + 2] * z + m[i + 3] for i in (0, 4, 8)], axis=1)

    def _joint_transforms(self, rotations: Float[Array, "J 3 3"], joints: Float[Array, "J 3"]) -> Float[Array, "J 3 4"]:
        """World transform of each joint's bone, [turn | shift] with x ↦ turn·x + shift, along the joint tree."""
        shifts = joints - jnp.sum(rotations * joints[:, None, :], axis=2)
        local = jnp.unstack(jnp.concatenate([rotations, shifts[:, :, None]], axis=2))
        world: list[Array] = []
        for joint, parent in enumerate(self.joint_parents):
            if parent < 0:
                world.append(local[joint])
            else:
                turn, shift = world[parent][:, :3], world[parent][:, 3:]
                world.append(turn @ local[joint] + jnp.pad(shift, ((0, 0), (3, 0))))
        return jnp.stack(world)

    def subset(self, vertices: Int[Array | np.ndarray, " n"]) -> "HeadModel":
        """The same head restricted to some vertices, in the order given: landmark-only steps need a few hundred rows.

        Faces, landmarks and regions, which index the whole mesh, are dropped, and so are colours and albedo.
        """
        columns = (3 * vertices[:, None] + np.arange(3, dtype=vertices.dtype)[None, :]).reshape(-1)
        return HeadModel(
            template_m=self.template_m[vertices],
            components_m=self.components_m[:, columns],
            prior_mean=self.prior_mean,
            joint_template_m=self.joint_template_m,
            joint_components_m=self.joint_components_m,
            skinning_weights=self.skinning_weights[vertices],
            pose_basis_m=None if self.pose_basis_m is None else self.pose_basis_m[:, columns],
            joint_std_rad=self.joint_std_rad,
            faces=self.faces[:0],
            landmarks68=None,
            landmarks_dense=None,
            landmarks_dense_index=None,
            regions={},
            local_models={},
            colours=None,
            joint_parents=self.joint_parents,
            n_identity=self.n_identity,
            n_expression=self.n_expression,
            name=self.name,
            sha256=self.sha256,
            n_residual=self.n_residual,
        )

    def global_local(self, n_identity: int = 10, n_expression: int = 10) -> "HeadModel":
        """Dey and Boddeti's (2022) head: a few global components, then a local PCA of each region's residual.

        A head with fewer components gives all it has, and regions take the place of its smooth residual. Region means
        are part of the template, and regions that overlap add. Region coefficients follow the global ones in the order
        of `local_models`.
        """
        n_identity, n_expression = min(n_identity, self.n_identity), min(n_expression, self.n_expression)
        rows = np.concatenate([np.arange(n_identity), self.n_identity + np.arange(n_expression)])
        template = self.template_m
        blocks = [self.components_m[rows]]
        for local in self.local_models.values():
            template = template.at[local.vertices].add(local.mean_m)
            block = jnp.zeros((local.components_m.shape[0], self.n_vertices, 3), self.dtype)
            blocks.append(block.at[:, local.vertices].set(local.components_m).reshape(block.shape[0], -1))
        components = jnp.concatenate(blocks)
        n_region = components.shape[0] - rows.size
        prior_mean = jnp.concatenate([self.prior_mean[rows], jnp.zeros(n_region, self.dtype)])
        # Joints follow the global components; a region's residual moves skin, not bones.
        joint_components = jnp.concatenate(
            [self.joint_components_m[rows], jnp.zeros((n_region, self.n_joints * 3), self.dtype)]
        )
        # Not `eqx.tree_at`: the two counts are static fields, not leaves.
        return dataclasses.replace(
            self,
            template_m=template,
            components_m=components,
            prior_mean=prior_mean,
            joint_components_m=joint_components,
            n_identity=n_identity,
            n_expression=n_expression,
            n_residual=0,
        )

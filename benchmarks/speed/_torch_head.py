"""The head model in PyTorch, twice: as it is usually written, and with the same algebra as `HeadModel`.

Both are here to be timed against. Reporting the first alone would credit the framework for the algebra.
"""

import numpy as np
import torch

from diverse3d.head import HeadModel


def tensor(array: object) -> torch.Tensor:
    return torch.from_numpy(np.array(array, np.float32))


def rodrigues(axis_angle: torch.Tensor) -> torch.Tensor:
    """Rotation matrices [n,3,3] of axis-angle vectors [n,3]; a small constant keeps zero differentiable."""
    angle = torch.norm(axis_angle + 1e-8, dim=1, keepdim=True)
    x, y, z = torch.split(axis_angle / angle, 1, dim=1)
    zero = torch.zeros_like(x)
    cross = torch.cat([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).view(-1, 3, 3)
    sin, cos = torch.sin(angle)[:, :, None], torch.cos(angle)[:, :, None]
    identity = torch.eye(3, dtype=axis_angle.dtype)[None]
    return identity + sin * cross + (1 - cos) * torch.bmm(cross, cross)


class UsualHead:
    """Linear blend skinning as most public code writes it.

    Components [V,3,K] by einsum, the joint regressor applied to the shaped vertices of every call, pose correctives
    as a second product, 4×4 transforms along the joint tree, one 4×4 matrix a vertex times homogeneous vertices.
    """

    def __init__(self, head: HeadModel, regressor: np.ndarray) -> None:
        count = head.n_vertices
        self.template = tensor(head.template_m)
        self.components = tensor(np.asarray(head.components_m).reshape(-1, count, 3).transpose(1, 2, 0))
        self.regressor = tensor(regressor)
        self.pose_basis = None if head.pose_basis_m is None else tensor(head.pose_basis_m)
        self.weights = tensor(head.skinning_weights)
        self.parents = head.joint_parents

    def __call__(self, coefficients: torch.Tensor, pose: torch.Tensor, translation: torch.Tensor) -> torch.Tensor:
        """Vertices [B,V,3] of coefficients [B,K], pose [B,J,3] and translation [B,3]."""
        batch, joints = pose.shape[:2]
        shaped = self.template + torch.einsum("bk,vck->bvc", coefficients, self.components)
        places = torch.einsum("bvc,jv->bjc", shaped, self.regressor)
        turns = rodrigues(pose.reshape(-1, 3)).view(batch, joints, 3, 3)
        posed = shaped
        if self.pose_basis is not None:
            feature = (turns[:, 1:] - torch.eye(3)).reshape(batch, -1)
            posed = shaped + torch.matmul(feature, self.pose_basis).view(batch, -1, 3)
        relative = self._relative_transforms(turns, places)
        blended = torch.matmul(self.weights.expand(batch, -1, -1), relative.view(batch, joints, 16))
        ones = torch.ones(batch, posed.shape[1], 1)
        homogeneous = torch.cat([posed, ones], dim=2)
        moved = torch.matmul(blended.view(batch, -1, 4, 4), homogeneous[..., None])
        return moved[:, :, :3, 0] + translation[:, None]

    def _relative_transforms(self, turns: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """World transforms [B,J,4,4] of the joints, relative to where the joints rest."""
        offset = places.clone()
        offset[:, 1:] -= places[:, list(self.parents[1:])]
        local = torch.cat(
            [
                torch.nn.functional.pad(turns, [0, 0, 0, 1]),
                torch.nn.functional.pad(offset[..., None], [0, 0, 0, 1], value=1.0),
            ],
            dim=3,
        )
        chain = [local[:, 0]]
        for joint, parent in enumerate(self.parents[1:], start=1):
            chain.append(torch.matmul(chain[parent], local[:, joint]))
        world = torch.stack(chain, dim=1)
        rest = torch.nn.functional.pad(places[..., None], [0, 0, 0, 1])
        return world - torch.nn.functional.pad(torch.matmul(world, rest), [3, 0])


class MatchedHead:
    """The same algebra as `HeadModel`: one product for all offsets, precomputed joints, 3×4 transforms."""

    def __init__(self, head: HeadModel) -> None:
        self.template = tensor(head.template_m).reshape(-1)
        rows = [tensor(head.components_m)] + ([] if head.pose_basis_m is None else [tensor(head.pose_basis_m)])
        self.matrix = torch.cat(rows).contiguous()
        self.has_pose_basis = head.pose_basis_m is not None
        self.joint_template = tensor(head.joint_template_m).reshape(-1)
        self.joint_matrix = tensor(head.joint_components_m)
        self.weights = tensor(head.skinning_weights)
        self.parents = head.joint_parents

    def __call__(self, coefficients: torch.Tensor, pose: torch.Tensor, translation: torch.Tensor) -> torch.Tensor:
        """Vertices [B,V,3] of coefficients [B,K], pose [B,J,3] and translation [B,3]."""
        batch, joints = pose.shape[:2]
        turns = rodrigues(pose.reshape(-1, 3)).view(batch, joints, 3, 3)
        feature = coefficients
        if self.has_pose_basis:
            feature = torch.cat([coefficients, (turns[:, 1:] - torch.eye(3)).reshape(batch, -1)], dim=1)
        rest = torch.addmm(self.template, feature, self.matrix).view(batch, -1, 3)
        places = torch.addmm(self.joint_template, coefficients, self.joint_matrix).view(batch, joints, 3, 1)
        shifts = places - torch.matmul(turns, places)
        turn, shift = [turns[:, 0]], [shifts[:, 0]]
        for joint, parent in enumerate(self.parents[1:], start=1):
            turn.append(torch.bmm(turn[parent], turns[:, joint]))
            shift.append(torch.bmm(turn[parent], shifts[:, joint]) + shift[parent])
        transforms = torch.cat([torch.stack(turn, 1), torch.stack(shift, 1)], dim=3).view(batch, joints, 12)
        blended = torch.matmul(self.weights, transforms).view(batch, -1, 3, 4)
        posed = (blended[..., :3] * rest[:, :, None]).sum(3) + blended[..., 3]
        return posed + translation[:, None]

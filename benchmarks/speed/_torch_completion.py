"""Stage 2's two costly parts in PyTorch: an iteration of Algorithm 2, and the closed form's linear algebra."""

from collections.abc import Callable

import numpy as np
import torch

from diverse3d.diversify import DiversifyConfig
from diverse3d.diversify.dpp import quality_threshold
from diverse3d.fit import Fit
from diverse3d.head import HeadModel

from ._torch_head import tensor

Loss = Callable[[torch.Tensor], torch.Tensor]
Solver = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


class Algorithm2:
    """Algorithm 2's loss of heads and their latents, held to a fit's visible vertices."""

    def __init__(self, fitted: Fit, threshold: float, config: DiversifyConfig) -> None:
        self.target = tensor(fitted.held_m)
        self.visible = torch.from_numpy(np.array(fitted.visible))
        self.threshold, self.config, self.k = threshold, config.algorithm2, config.kernel.k

    def usual(self, vertices: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Of heads [N,V,3]: indexed vertices, all pairwise differences written out, an inverse."""
        off = (vertices[:, self.visible] - self.target[self.visible]).abs().mean()
        hidden = vertices[:, ~self.visible]
        square = ((hidden[:, None] - hidden[None]) ** 2).sum((2, 3)) / hidden.shape[1]
        apart = ~torch.eye(len(z), dtype=torch.bool)
        distance = torch.zeros_like(square).masked_scatter(apart, torch.sqrt(square[apart]))
        kernel = self._kernel(distance, z)
        identity = torch.eye(len(z))
        spread = -torch.trace(identity - torch.linalg.inv(kernel + identity))
        return self.config.visible_weight * off + self.config.dpp_weight * spread

    def matched(self, points: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Of heads [N,3V]: masks as weights, distances through the Gram matrix, a Cholesky factor."""
        visible = self.visible.repeat_interleave(3).float()
        off = ((points - self.target.view(-1)).abs() * visible).sum() / (len(z) * visible.sum())
        hidden = 1 - visible
        centred = (points - points.mean(0)) * hidden
        gram = centred @ centred.T
        norm = torch.diagonal(gram)
        square = 3 * (norm[:, None] + norm[None] - 2 * gram) / hidden.sum()
        apart = ~torch.eye(len(z), dtype=torch.bool)
        distance = torch.where(apart, torch.sqrt(torch.where(apart, square, 1.0)), 0.0)
        kernel = self._kernel(distance, z)
        identity = torch.eye(len(z))
        factor = torch.linalg.cholesky(kernel + identity)
        inverse = torch.linalg.solve_triangular(factor, identity, upper=False)
        spread = (inverse**2).sum() - len(z)
        return self.config.visible_weight * off + self.config.dpp_weight * spread

    def _kernel(self, distance: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        upper = distance[torch.triu(torch.ones_like(distance), 1) > 0].detach()
        # numpy's median of an even count is the mean of the middle two; torch's own takes the lower.
        median = torch.quantile(upper, 0.5)
        quality = torch.exp(-torch.clamp((z**2).sum(1) - self.threshold, min=0))
        return quality[:, None] * torch.exp(-self.k / median * distance) * quality[None]


class Problem:
    """A linear head held to visible vertices: what 'global-dpp' works on, as tensors."""

    def __init__(self, head: HeadModel, fitted: Fit, config: DiversifyConfig) -> None:
        count = head.n_vertices
        self.matrix = tensor(head.components_m)
        self.directions = tensor(np.asarray(head.components_m).reshape(-1, count, 3).transpose(1, 2, 0))
        self.template = tensor(head.template_m)
        self.base = (self.template + (tensor(head.prior_mean) @ self.matrix).view(-1, 3)).reshape(-1)
        self.prior_mean = tensor(head.prior_mean)
        threshold = quality_threshold(head.n_components, config.kernel.n_sigma, literal=config.kernel.literal_quality)
        self.loss = Algorithm2(fitted, threshold, config)

    def usual_loss(self, z: torch.Tensor) -> torch.Tensor:
        """Components by einsum, then Algorithm 2's usual form."""
        vertices = self.template + torch.einsum("nk,vck->nvc", z + self.prior_mean, self.directions)
        return self.loss.usual(vertices, z)

    def matched_loss(self, z: torch.Tensor) -> torch.Tensor:
        """One product, then the same algebra as ours."""
        return self.loss.matched(torch.addmm(self.base, z, self.matrix), z)


def adam_path(loss: Loss, start: np.ndarray, steps: int, rate: float) -> list[np.ndarray]:
    """Every point that Adam visits, the start first."""
    z = torch.from_numpy(start.copy()).requires_grad_()
    optimiser = torch.optim.Adam([z], lr=rate)
    path = [start]
    for _ in range(steps):
        optimiser.zero_grad()
        loss(z).backward()
        optimiser.step()
        path.append(z.detach().numpy().copy())
    return path


def qr_posterior(jacobian: torch.Tensor, root: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Posterior step and triangular factor by QR of [weighted Jacobian; prior], right-hand side attached."""
    stacked = torch.cat([jacobian, torch.diag(root)])
    right = torch.cat([target, torch.zeros(len(root))])
    _, triangle = torch.linalg.qr(torch.cat([stacked, right[:, None]], dim=1), mode="r")
    factor = triangle[:-1, :-1]
    return torch.linalg.solve_triangular(factor, triangle[:-1, -1:], upper=True)[:, 0], factor


def normal_posterior(
    jacobian: torch.Tensor, root: torch.Tensor, target: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same by the normal equations, as usually written; it squares the condition number."""
    precision = jacobian.T @ jacobian + torch.diag(root**2)
    factor = torch.linalg.cholesky(precision, upper=True)
    return torch.cholesky_solve((jacobian.T @ target)[:, None], factor, upper=True)[:, 0], factor

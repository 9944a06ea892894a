"""The masked VAE and its training step in PyTorch, twice: as public code writes it, and with the algebra of `meshvae`.

Both are here to be timed against. Reporting the first alone would credit the framework for the algebra.
"""

from collections.abc import Iterator
from typing import Any

import equinox as eqx
import numpy as np
import torch

from meshvae import (
    LEAST_SHARE,
    LOG_VARIANCE_BOUND,
    Block,
    LossConfig,
    MaskedVAE,
    Step,
    Surface,
    TrainConfig,
    VcConv,
)

from ._torch_head import tensor


def _parameter(array: object) -> torch.nn.Parameter:
    return torch.nn.Parameter(tensor(array))


def _index(array: object) -> torch.Tensor:
    return torch.from_numpy(np.array(array, np.int64))


class _Block(torch.nn.Module):
    """√(1-r)·ELU(conv) + √r·res with the parameters of one of ours."""

    def __init__(self, block: Block, step: Step) -> None:
        super().__init__()
        assert isinstance(block.conv, VcConv) and step.pattern is not None and block.residual is not None, "no spirals"
        self.convolution, self.pattern, self.pooling = block.conv, step.pattern, block.residual.pool
        self.basis, self.bias = _parameter(block.conv.basis), _parameter(block.conv.bias)
        channel = block.residual.channel
        self.channel = None if channel is None else _parameter(channel)
        self.activated = block.activated
        self.shares = (1.0 - block.share) ** 0.5, block.share**0.5
        self.n_out = step.n_out

    def _mixed(self, y: torch.Tensor, carried: torch.Tensor) -> torch.Tensor:
        y = torch.nn.functional.elu(y) if self.activated else y
        return self.shares[0] * y + self.shares[1] * carried

    def ordered(self) -> Iterator[tuple[torch.nn.Parameter, torch.Tensor | None]]:
        """Parameters in the order of our leaves, each with the mask of the entries that ours has, or None for all."""
        kept = getattr(self, "kept", None)
        yield self.alpha, kept
        yield from ((self.basis, None), (self.bias, None))
        if self.pool is not None:
            yield self.pool, kept
        if self.channel is not None:
            yield self.channel, None


class UsualBlock(_Block):
    """As the public code of Zhou et al. (2020): padded lists of neighbours, a weight matrix and a product an edge.

    Activations are (batch, vertices, channels).
    """

    batch_axis = 0

    def __init__(self, block: Block, step: Step) -> None:
        super().__init__(block, step)
        rows, columns = (np.asarray(part) for part in (self.pattern.edges.rows, self.pattern.edges.columns))
        count = np.bincount(rows, minlength=step.n_out)
        place = np.arange(rows.size) - np.repeat(np.cumsum(count) - count, count)
        near = np.full((step.n_out, count.max()), step.n_in)  # the row of zeros that inputs are padded with
        near[rows, place] = columns
        alpha = np.zeros((*near.shape, self.convolution.alpha.shape[1]))
        alpha[rows, place] = self.convolution.alpha
        self.near, self.kept = _index(near), torch.from_numpy(near < step.n_in)
        self.alpha, self.pool = _parameter(alpha), None
        if self.pooling is not None:
            weights = np.zeros(near.shape)
            weights[rows, place] = self.pooling.weights
            self.pool = _parameter(weights)
        self.frozen: torch.Tensor | None = None

    def freeze(self) -> None:
        """Make the weight of every edge once and for all, as the public code does for tests."""
        self.frozen = self._weights().detach()

    def _weights(self) -> torch.Tensor:
        return torch.einsum("omk,kcd->omcd", self.alpha * self.kept[:, :, None], self.basis)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B,I,C] → [B,O,D]."""
        padded = torch.nn.functional.pad(x, (0, 0, 0, 1))
        weights = self._weights() if self.frozen is None else self.frozen
        y = torch.einsum("omcd,bomc->bomd", weights, padded[:, self.near]).sum(2) + self.bias
        if self.channel is not None:
            padded = padded @ self.channel
        if self.pool is None:
            return self._mixed(y, padded[:, :-1])
        share = (self.pool.abs() + LEAST_SHARE) * self.kept
        share = share / share.sum(1, keepdim=True)
        return self._mixed(y, torch.einsum("om,bomd->bod", share, padded[:, self.near]))


class _Place(torch.autograd.Function):
    """Values of the edges in their places of each block's matrix; every edge has one, so the gradient is a gather."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, slots: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        ctx.places = places
        padded = torch.cat([values, values.new_zeros(1, values.shape[1])])
        return padded.index_select(0, slots.view(-1)).view(*slots.shape, -1)

    @staticmethod
    def backward(ctx: Any, cotangent: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return cotangent.reshape(-1, cotangent.shape[-1]).index_select(0, ctx.places), None, None


class MatchedBlock(_Block):
    """The same algebra as `meshvae`: small dense matrices over blocks of outputs, before or after the basis.

    Activations are (vertices, batch, channels), so that no product has to turn them round.
    """

    batch_axis = 1

    def __init__(self, block: Block, step: Step) -> None:
        super().__init__(block, step)
        pattern = self.pattern
        self.slots, self.places = _index(pattern.slots), _index(pattern.places)
        self.union = None if pattern.union is None else _index(pattern.union)
        self.basis_first = pattern.basis_first
        self.alpha = _parameter(self.convolution.alpha)
        self.pool = None if self.pooling is None else _parameter(self.pooling.weights)

    def _gather(self, x: torch.Tensor) -> torch.Tensor:
        if self.union is None:
            return x[None]
        return x.index_select(0, self.union.view(-1)).view(*self.union.shape, *x.shape[1:])

    def _rows(self, y: torch.Tensor) -> torch.Tensor:
        return y.reshape(-1, *y.shape[2:])[: self.n_out]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[I,B,C] → [O,B,D]."""
        matrices = _Place.apply(self.alpha, self.slots, self.places)
        if self.basis_first:
            y = self._gather(torch.einsum("ibc,mcd->imbd", x, self.basis))
            y = torch.einsum("nrum,numbd->nrbd", matrices, y)
        else:
            y = torch.einsum("nrum,nubc->nrbmc", matrices, self._gather(x))
            y = torch.einsum("nrbmc,mcd->nrbd", y, self.basis)
        return self._mixed(self._rows(y) + self.bias[:, None], self._carried(x))

    def _carried(self, x: torch.Tensor) -> torch.Tensor:
        channel = self.channel
        if channel is not None and channel.shape[1] < channel.shape[0]:
            x, channel = x @ channel, None
        if self.pool is not None:
            share = _Place.apply(self.pool.abs()[:, None] + LEAST_SHARE, self.slots, self.places)[..., 0]
            share = share / share.sum(2, keepdim=True).clamp_min(LEAST_SHARE)
            x = self._rows(torch.einsum("nru,nubc->nrbc", share, self._gather(x)))
        return x if channel is None else x @ channel


class TorchVAE(torch.nn.Module):
    """`MaskedVAE` with the same weights; vertices in the caller's order, batches first."""

    def __init__(self, model: MaskedVAE, form: type[UsualBlock] | type[MatchedBlock]) -> None:
        super().__init__()
        self.config, self.batch_axis = model.config, form.batch_axis
        self.order, self.rank = _index(model.order), _index(model.rank)
        encoder, down = model.encoder, model.down
        assert encoder is not None, "a whole model is compared"
        self.down = torch.nn.ModuleList(form(b, s) for b, s in zip(encoder.blocks, down, strict=False))
        self.mean, self.log_variance = form(encoder.mean, down[-1]), form(encoder.log_variance, down[-1])
        self.up = torch.nn.ModuleList(form(block, step) for block, step in zip(model.decoder, model.up, strict=True))

    def encode(self, offsets: torch.Tensor, visible: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log σ² of the latent [B,v,c]."""
        seen = visible[:, self.order, None].float()
        channels = [offsets[:, self.order] * seen] + [seen] * self.config.mask_channel
        x = self._turned(torch.cat(channels, 2))
        for block in self.down:
            x = block(x)
        raw = self.config.log_variance_start + self.config.log_variance_scale * self.log_variance(x)
        log_variance = LOG_VARIANCE_BOUND * torch.tanh(raw / LOG_VARIANCE_BOUND)
        return self._turned(self.config.mean_scale * self.mean(x)), self._turned(log_variance)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Offsets [B,V,3] of latents [B,v,c]."""
        x = self._turned(z)
        for block in reversed(self.up):
            x = block(x)
        return self._turned(x).index_select(1, self.rank)

    def ordered(self) -> list[tuple[torch.nn.Parameter, torch.Tensor | None]]:
        """Parameters in the order of our model's leaves; see `_Block.ordered`."""
        blocks = (*self.down, self.mean, self.log_variance, *self.up)
        return [pair for block in blocks for pair in block.ordered()]

    def freeze(self, *, ready: bool = True) -> "TorchVAE":
        """Only latents are differentiated from now on; `ready`: the usual form makes its weights now, once."""
        for block in self.up:
            if ready and isinstance(block, UsualBlock):
                block.freeze()
        return self.requires_grad_(False)

    def _turned(self, x: torch.Tensor) -> torch.Tensor:
        return x if self.batch_axis == 0 else x.transpose(0, 1)


class TorchTraining:
    """A training step: loss, gradient, clipping, AdamW and the running average of the weights."""

    def __init__(self, network: TorchVAE, surface: Surface, config: TrainConfig) -> None:
        self.network, self.config = network, config
        self.template, self.faces = tensor(surface.template), _index(surface.faces)
        self.neighbours, self.neighbour_weights = _index(surface.neighbours), tensor(surface.neighbour_weights)
        self.parameters: list[torch.Tensor] = list(network.parameters())
        self.averaged = [parameter.detach().clone() for parameter in self.parameters]
        self.optimiser = torch.optim.AdamW(
            self.parameters, lr=config.learning_rate, weight_decay=config.weight_decay, foreach=True
        )

    def __call__(self, offsets: torch.Tensor, visible: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """One step; its loss before the step."""
        self.optimiser.zero_grad()
        loss = self.loss(offsets, visible, noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.config.clip, foreach=True)
        self.optimiser.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.averaged, self.parameters, 1.0 - self.config.average)
        return loss.detach()

    def loss(self, offsets: torch.Tensor, visible: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """The mean of `meshvae`'s masked loss over a batch, with the divergence at its full weight."""
        weights: LossConfig = self.config.loss
        mean, log_variance = self.network.encode(offsets, visible)
        decoded = self.network.decode(mean + torch.exp(0.5 * log_variance) * noise)
        difference = decoded - offsets
        seen = visible.float()
        weight = seen + weights.hidden * (1.0 - seen)
        l1 = ((weight[:, :, None] * difference.abs()).sum((1, 2)) / (3.0 * weight.sum(1))).mean()
        near = difference.index_select(1, self.neighbours.view(-1)).view(len(offsets), *self.neighbours.shape, 3)
        laplacian = (torch.einsum("vd,bvdc->bvc", self.neighbour_weights, near) - difference).square().mean()
        normal = 1.0 - (self._normals(decoded) * self._normals(offsets)).sum(2).mean()
        kl = 0.5 * (torch.expm1(log_variance) - log_variance + mean.square())
        total = weights.vertex * l1 + weights.laplacian * laplacian + weights.normal * normal
        return total + weights.kl * kl.clamp_min(weights.free_bits).sum((1, 2)).mean()

    def _normals(self, offsets: torch.Tensor) -> torch.Tensor:
        corners = (self.template + offsets).index_select(1, self.faces.view(-1)).view(len(offsets), -1, 3, 3)
        sides = corners[:, :, 1:] - corners[:, :, :1]
        normal = torch.linalg.cross(sides[:, :, 0], sides[:, :, 1])
        return normal * torch.rsqrt(normal.square().sum(2, keepdim=True) + 1e-12)

    def moments(self) -> list[np.ndarray]:
        """First moments of AdamW in the order and shape of our leaves: after one step a tenth of the gradient."""
        moments = []
        for parameter, kept in self.network.ordered():
            moment = self.optimiser.state[parameter]["exp_avg"]
            moments.append((moment if kept is None else moment[kept]).numpy())
        return moments


def our_moments(optimiser_state: object) -> list[np.ndarray]:
    """First moments of optax's AdamW behind a clipping, flattened."""
    import jax
    import optax

    states = jax.tree.leaves(optimiser_state, is_leaf=lambda part: isinstance(part, optax.ScaleByAdamState))
    (adam,) = [state for state in states if isinstance(state, optax.ScaleByAdamState)]
    return [np.asarray(leaf) for leaf in jax.tree.leaves(eqx.filter(adam.mu, eqx.is_array))]

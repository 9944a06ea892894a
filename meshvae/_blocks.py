"""Steps between levels and the residual blocks that take them, one interface for both families of convolution."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ._config import ModelConfig
from ._hierarchy import Edges, Hierarchy
from ._pattern import Pattern, make_pattern
from ._spiral import SpiralConv, fixed_point, init_spiral, transfer
from ._vcconv import VcConv, VdPool, init_vcconv, init_vdpool


class Step(eqx.Module):
    """One stride of the hierarchy in one direction: what a layer must know of the topology."""

    pattern: Pattern | None
    """Which inputs each output sees (vcConv)."""
    spiral: Int[np.ndarray, "O S"] | None
    """The inputs around each output, in order (spiral convolution)."""
    centres: Int[np.ndarray, " O"] | None
    """The inputs that stay, for a step down of fixed pooling; None where there is none."""
    transfer: tuple[Int[np.ndarray, "V 3"], Int[np.ndarray, "V 3"]] | None
    """Indices and fixed-point weights that carry features up before a spiral convolution; None where there is none."""
    n_in: int = eqx.field(static=True)
    """Number of inputs."""
    n_out: int = eqx.field(static=True)
    """Number of outputs."""
    resamples: bool = eqx.field(static=True)
    """Whether outputs and inputs are different vertices."""


class Residual(eqx.Module):
    """vdDownRes and vdUpRes: the pool, and one shared linear map where channels change."""

    pool: VdPool | None
    """Learned pooling; None for the spiral family and on steps that stay on their level."""
    channel: Float[Array, "C D"] | None
    """The map from channels in to channels out; None where they are the same."""

    def __call__(self, x: Float[Array, "I C"], step: Step) -> Float[Array, "O D"]:
        """The inputs carried to the outputs' vertices and channels."""
        shrinks = self.channel is not None and self.channel.shape[1] < self.channel.shape[0]
        if self.channel is not None and shrinks:  # fewer channels are cheaper to carry
            x = x @ self.channel
        if self.pool is not None and step.pattern is not None:
            x = self.pool(x, step.pattern)
        elif step.transfer is not None:
            x = transfer(x, *step.transfer)
        elif step.centres is not None:
            x = x[step.centres]
        return x if self.channel is None or shrinks else x @ self.channel


class Block(eqx.Module):
    """√(1-r)·ELU(conv) + √r·res (Zhou et al. 2020); the last layer of a network has no ELU."""

    conv: VcConv | SpiralConv
    """The convolution."""
    residual: Residual | None
    """The linear way past it; None when the residual share r is 0."""
    share: float = eqx.field(static=True)
    """r."""
    activated: bool = eqx.field(static=True)
    """Whether ELU follows the convolution."""

    def __call__(self, x: Float[Array, "I C"], step: Step) -> Float[Array, "O D"]:
        """Features after the step."""
        if isinstance(self.conv, SpiralConv):
            assert step.spiral is not None
            y = self.conv(x if step.transfer is None else transfer(x, *step.transfer), step.spiral)
        else:
            assert step.pattern is not None
            y = self.conv(x, step.pattern)
        y = jax.nn.elu(y) if self.activated else y
        if self.residual is None:
            return y
        return (1.0 - self.share) ** 0.5 * y + self.share**0.5 * self.residual(x, step)


def init_block(
    step: Step, c_in: int, c_out: int, config: ModelConfig, *, rng: np.random.Generator, activated: bool = True
) -> Block:
    """A block with random weights for a step."""
    pool = None
    conv: VcConv | SpiralConv
    if step.pattern is not None:
        conv = init_vcconv(step.pattern, c_in, c_out, config.basis, rng=rng)
        pool = init_vdpool(step.pattern) if step.resamples else None
    else:
        conv = init_spiral(config.spiral_length, c_in, c_out, rng=rng)
    residual = None
    if config.residual_share > 0:
        channel = None
        if c_in != c_out:
            channel = jnp.asarray(rng.standard_normal((c_in, c_out)) / c_in**0.5, jnp.result_type(float))
        residual = Residual(pool, channel)
    return Block(conv, residual, config.residual_share, activated)


def make_steps(
    config: ModelConfig, hierarchy: Hierarchy, *, form: str = "auto"
) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """The steps down, finest first, and the steps up, in the same numbering: step k up undoes step k down."""
    down, up = [], []
    level = 0
    for k, stride in enumerate(hierarchy.strides):
        c_down = (config.input_channels if k == 0 else config.channels[k - 1], config.width(k), config.basis)
        c_up = (config.width(k), 3 if k == 0 else config.channels[k - 1], config.basis)
        fine = hierarchy.levels[level]
        n_fine = fine.vertices.size
        if config.family == "spiral":
            spiral = fine.spiral[:, : config.spiral_length * config.spiral_dilation : config.spiral_dilation]
        if stride == 1:
            edges = edges_up = fine.ring
            n_coarse, centres, carried = n_fine, None, None
        else:
            transition = hierarchy.transitions[level]
            edges, centres = transition.pool, transition.centres
            edges_up = _transposed(edges)
            carried = (transition.transfer, fixed_point(transition.transfer_weights))
            n_coarse, level = centres.size, level + 1
        if config.family == "spiral":
            at_centres = spiral if centres is None else spiral[centres]
            down.append(Step(None, at_centres, centres, None, n_fine, n_coarse, stride > 1))
            up.append(Step(None, spiral, None, carried, n_coarse, n_fine, stride > 1))
        else:
            there = make_pattern(edges, n_coarse, n_fine, channels=c_down, form=form)
            back = make_pattern(edges_up, n_fine, n_coarse, channels=c_up, form=form)
            down.append(Step(there, None, None, None, n_fine, n_coarse, stride > 1))
            up.append(Step(back, None, None, None, n_coarse, n_fine, stride > 1))
    return tuple(down), tuple(up)


def _transposed(edges: Edges) -> Edges:
    order = np.lexsort((edges.rows, edges.columns))
    return Edges(edges.columns[order], edges.rows[order])

"""The network that sees a photo beside the intact head expected in it."""

import functools
import itertools
from importlib import resources
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._arrays import on_device
from .._errors import InputError
from ..files import one_line, read_safetensors
from ._features import CHANNELS

ASSET = "segment.safetensors"
"""The trained weights in the package."""

_WIDTHS = (16, 32, 48, 64, 64)
_LARGEST_BYTES = 4_000_000


Layer = tuple[Float[Array, "_ _ _ _"], Float[Array, " _"]]


class Segmenter(eqx.Module):
    """A small U-Net (Ronneberger et al. 2015) whose halves are added rather than stacked; batch by `jax.vmap`."""

    down: tuple[Layer, ...]
    """Convolutions on the way to coarser grids, kernel [h, w, in, out] and bias: one on the finest, two on others."""
    up: tuple[Layer, ...]
    """On the way back: a coarser grid's channels mixed, then what was added convolved; last, the log odds."""

    def __call__(self, planes: Float[Array, "S S C"]) -> Float[Array, "S S"]:
        """Log odds of each pixel's not showing the head's own surface."""
        first, *pairs = self.down[0], *zip(self.down[1::2], self.down[2::2], strict=True)
        levels = [jax.nn.relu(_convolved(planes, *first))]
        for one, two in pairs:
            coarse = jax.nn.relu(_convolved(_pooled(levels[-1]), *one))
            levels.append(jax.nn.relu(_convolved(coarse, *two)))
        value = levels.pop()
        for mix, smooth in zip(self.up[:-1:2], self.up[1:-1:2], strict=True):
            finer = jnp.repeat(jnp.repeat(_convolved(value, *mix), 2, axis=0), 2, axis=1)
            value = jax.nn.relu(_convolved(finer + levels.pop(), *smooth))
        return _convolved(value, *self.up[-1])[..., 0]


def _convolved(
    planes: Float[Array, "h w c"], kernel: Float[Array, "_ _ c d"], bias: Float[Array, " d"]
) -> Float[Array, "h w d"]:
    """Zeros beyond the border."""
    layout = ("NHWC", "HWIO", "NHWC")
    made = jax.lax.conv_general_dilated(planes[None], kernel, (1, 1), "SAME", dimension_numbers=layout)
    return made[0] + bias[None, None]


def _pooled(planes: Float[Array, "h w c"]) -> Float[Array, "_ _ c"]:
    height, width, count = planes.shape
    return planes.reshape(height // 2, 2, width // 2, 2, count).mean((1, 3))


def _plan() -> dict[str, list[tuple[int, int, int]]]:
    """Side, channels in and out of each layer's kernel."""
    down, up = [(1, CHANNELS, _WIDTHS[0])], [(1, _WIDTHS[0], 1)]
    for fine, coarse in itertools.pairwise(_WIDTHS):
        down += [(3, fine, coarse), (3, coarse, coarse)]
        up = [(1, coarse, fine), (3, fine, fine), *up]
    return {"down": down, "up": up}


def new_segmenter(*, key: Array) -> Segmenter:
    """Untrained weights."""
    plan = _plan()
    keys = iter(jax.random.split(key, sum(map(len, plan.values()))))

    def layer(side: int, fine: int, coarse: int) -> Layer:
        kernel = jax.random.normal(next(keys), (side, side, fine, coarse), jnp.float32)
        return kernel * (2.0 / (side * side * fine)) ** 0.5, jnp.zeros(coarse, jnp.float32)

    return Segmenter(**{name: tuple(layer(*size) for size in sizes) for name, sizes in plan.items()})


def segmenter_arrays(segmenter: Segmenter) -> dict[str, np.ndarray]:
    """The arrays of trained weights as stored, in half precision."""
    return {
        f"{name}{i}/{part}": np.asarray(array, np.float16)
        for name, layers in (("down", segmenter.down), ("up", segmenter.up))
        for i, layer in enumerate(layers)
        for part, array in zip(("kernel", "bias"), layer, strict=True)
    }


@functools.lru_cache(maxsize=2)
def load_segmenter(path: Path | None = None) -> Segmenter:
    """The shipped weights, or those of another file. Raises `InputError` for a file that is not one."""
    if path is None:
        with resources.as_file(resources.files("diverse3d") / "assets" / ASSET) as shipped:
            return load_segmenter(shipped)
    if not path.is_file() or path.stat().st_size > _LARGEST_BYTES:
        raise InputError(f"{path} is missing or no such weights; reinstall the package.")
    try:
        stored = read_safetensors(path).arrays
        layers = {
            name: tuple(
                (_checked(stored[f"{name}{i}/kernel"], (s, s, a, b)), _checked(stored[f"{name}{i}/bias"], (b,)))
                for i, (s, a, b) in enumerate(sizes)
            )
            for name, sizes in _plan().items()
        }
        return Segmenter(**layers)
    except (LookupError, ValueError) as error:
        raise InputError(f"{path} is damaged ({one_line(error)}); reinstall the package.") from error


def _checked(array: np.ndarray, shape: tuple[int, ...]) -> Array:
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"weights of shape {array.shape} instead of {shape}")
    return on_device(array, jnp.float32)

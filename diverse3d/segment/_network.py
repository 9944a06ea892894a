"""The few weights that judge a pixel by its features."""

import functools
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

ASSET = "segment.safetensors"
"""The trained weights in the package."""

_LARGEST_BYTES = 4_000_000


class Segmenter(eqx.Module):
    """A perceptron of one pixel's features; batch by `jax.vmap`, or give it rows."""

    centre: Float[Array, " F"]
    """Mean of each feature in training."""
    scale: Float[Array, " F"]
    """One over its standard deviation."""
    weights: tuple[Float[Array, "_ _"], ...]
    """One matrix a layer."""
    biases: tuple[Float[Array, " _"], ...]
    """One vector a layer."""

    def __call__(self, rows: Float[Array, "n F"]) -> Float[Array, " n"]:
        """Log odds of each pixel's being hidden."""
        value = (rows - self.centre[None, :]) * self.scale[None, :]
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            value = jax.nn.relu(value @ weight + bias[None, :])
        return (value @ self.weights[-1] + self.biases[-1][None, :])[:, 0]


def new_segmenter(rows: Float[np.ndarray, "n F"], widths: tuple[int, ...], *, key: Array) -> Segmenter:
    """Untrained weights for features spread as `rows` are."""
    sizes = (rows.shape[1], *widths, 1)
    keys = jax.random.split(key, len(sizes) - 1)
    return Segmenter(
        centre=jnp.asarray(rows.mean(0), jnp.float32),
        scale=jnp.asarray(1.0 / (rows.std(0) + 1e-4), jnp.float32),
        weights=tuple(
            jax.random.normal(k, (a, b), jnp.float32) * (2.0 / a) ** 0.5
            for k, a, b in zip(keys, sizes[:-1], sizes[1:], strict=True)
        ),
        biases=tuple(jnp.zeros(b, jnp.float32) for b in sizes[1:]),
    )


def segmenter_arrays(segmenter: Segmenter, name: str) -> dict[str, np.ndarray]:
    """The arrays of trained weights as stored."""
    table = {"centre": segmenter.centre, "scale": segmenter.scale}
    table |= {f"weight{i}": w for i, w in enumerate(segmenter.weights)}
    table |= {f"bias{i}": b for i, b in enumerate(segmenter.biases)}
    return {f"{name}/{part}": np.asarray(array, np.float32) for part, array in table.items()}


@functools.lru_cache(maxsize=4)
def load_segmenter(name: str, path: Path | None = None) -> Segmenter:
    """The shipped weights `name`, or those of another file. Raises `InputError` for a file that is not one."""
    if path is None:
        with resources.as_file(resources.files("diverse3d") / "assets" / ASSET) as shipped:
            return load_segmenter(name, shipped)
    if not path.is_file() or path.stat().st_size > _LARGEST_BYTES:
        raise InputError(f"{path} is missing or no such weights; reinstall the package.")
    try:
        own = {key: array for key, array in read_safetensors(path).arrays.items() if key.startswith(f"{name}/")}
        table = {key.split("/")[1]: on_device(array, jnp.float32) for key, array in own.items()}
        layers = range(sum(part.startswith("weight") for part in table))
        return Segmenter(
            centre=table["centre"],
            scale=table["scale"],
            weights=tuple(table[f"weight{i}"] for i in layers),
            biases=tuple(table[f"bias{i}"] for i in layers),
        )
    except (LookupError, ValueError) as error:
        raise InputError(f"{path} is damaged ({one_line(error)}); reinstall the package.") from error

"""sRGB ↔ linear light (IEC 61966-2-1): bytes on the host, values from 0 to 1 on the device."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from ..files import srgb_from_linear as srgb_from_linear


def linear_from_srgb(colour: UInt8[np.ndarray, "*n 3"] | Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """Linear light from 0 to 1 of sRGB values from 0 to 255."""
    value = np.asarray(colour, np.float64) / 255.0
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def texture_colours(texture: UInt8[np.ndarray, "h w 3"], uv: Float[np.ndarray, "V 2"]) -> UInt8[np.ndarray, "V 3"]:
    """A texture's sRGB (the uppermost row first) at places u to the right and v upwards, bilinear, repeated outside."""
    size = np.array(texture.shape[1::-1])
    share = np.asarray(uv, np.float64) % 1.0
    at = np.stack([share[:, 0], 1.0 - share[:, 1]], axis=1) * size[None] - 0.5
    low = np.floor(at).astype(np.int64)
    part, total = at - low, np.zeros((len(at), 3))
    for step in ((0, 0), (1, 0), (0, 1), (1, 1)):
        weight = np.abs(1.0 - np.array([step]) - part).prod(axis=1)
        column, row = ((low + np.array([step])) % size[None]).T
        total += weight[:, None] * texture[row, column]
    return np.round(total).astype(np.uint8)


def decode_srgb(value: Float[Array, "*n 3"]) -> Float[Array, "*n 3"]:
    """Linear light of sRGB values from 0 to 1; the power is kept from small ones, where it isn't used."""
    small = value <= 0.04045
    curved = ((jnp.where(small, jnp.ones_like(value), value) + 0.055) / 1.055) ** 2.4
    return jnp.where(small, value / 12.92, curved)

"""sRGB ↔ linear light (IEC 61966-2-1): bytes on the host, values from 0 to 1 on the device."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8


def linear_from_srgb(colour: UInt8[np.ndarray, "*n 3"] | Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """Linear light from 0 to 1 of sRGB values from 0 to 255."""
    value = np.asarray(colour, np.float64) / 255.0
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def srgb_from_linear(light: Float[np.ndarray, "*n 3"]) -> UInt8[np.ndarray, "*n 3"]:
    """sRGB bytes of linear light; what is out of range is clipped."""
    light = np.clip(np.asarray(light, np.float64), 0.0, 1.0)
    value = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(255.0 * value).astype(np.uint8)


def decode_srgb(value: Float[Array, "*n 3"]) -> Float[Array, "*n 3"]:
    """Linear light of sRGB values from 0 to 1; the power is kept from small ones, where it isn't used."""
    small = value <= 0.04045
    curved = ((jnp.where(small, jnp.ones_like(value), value) + 0.055) / 1.055) ** 2.4
    return jnp.where(small, value / 12.92, curved)

"""The colours of files: sRGB bytes of linear light (IEC 61966-2-1), which glTF stores at its vertices."""

import numpy as np
from jaxtyping import Float, UInt8


def srgb_from_linear(light: Float[np.ndarray, "*n 3"]) -> UInt8[np.ndarray, "*n 3"]:
    """sRGB bytes of linear light; what is out of range is clipped."""
    light = np.clip(np.asarray(light, np.float64), 0.0, 1.0)
    value = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(255.0 * value).astype(np.uint8)

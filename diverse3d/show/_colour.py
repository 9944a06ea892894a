"""Colours: OKLab, and the one colour map, from certain to uncertain."""

import functools

import numpy as np
from jaxtyping import Float, UInt8

from ..surface import linear_from_srgb, srgb_from_linear

UNCERTAINTY_FULL_MM = 6.0
"""Spread at which the colour map ends; the same for every result, so that pictures can be compared."""

CLAY = np.array([200, 193, 187], np.uint8)
"""Colour of a surface that is certain (sRGB), and where the colour map begins."""

_STOPS = np.array([CLAY, [232, 180, 128], [226, 122, 84], [182, 62, 84]], np.float64)
_LEVELS = 256

# Björn Ottosson's OKLab, 2020: a space in which equal distances look equal.
_TO_LMS = np.array(
    [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
     [0.0883024619, 0.2817188376, 0.6299787005]]
)  # fmt: skip
_TO_LAB = np.array(
    [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
     [0.0259040371, 0.7827717662, -0.8086757660]]
)  # fmt: skip


def oklab_from_srgb(colour: UInt8[np.ndarray, "*n 3"] | Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """OKLab coordinates (lightness, green–red, blue–yellow) of sRGB values from 0 to 255."""
    return np.cbrt(linear_from_srgb(colour) @ _TO_LMS.T) @ _TO_LAB.T


def uncertainty_colours(uncertainty_mm: Float[np.ndarray, " V"]) -> UInt8[np.ndarray, "V 3"]:
    """sRGB colours of spreads in millimetres: clay where certain, warm and dark at `UNCERTAINTY_FULL_MM` and above.

    Equal differences in spread look equally different. What is not finite takes the last colour.
    """
    share = np.nan_to_num(np.asarray(uncertainty_mm, np.float64) / UNCERTAINTY_FULL_MM, nan=1.0, posinf=1.0, neginf=0.0)
    return _colour_map()[np.round(np.clip(share, 0.0, 1.0) * (_LEVELS - 1)).astype(int)]


@functools.cache
def _colour_map() -> UInt8[np.ndarray, "levels 3"]:
    """The stops joined by straight lines in OKLab and walked at constant speed."""
    stops = oklab_from_srgb(_STOPS)
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(stops, axis=0), axis=1))])
    at = np.linspace(0.0, length[-1], _LEVELS)
    lab = np.stack([np.interp(at, length, stops[:, axis]) for axis in range(3)], axis=1)
    lms = (lab @ np.linalg.inv(_TO_LAB).T) ** 3
    return srgb_from_linear(lms @ np.linalg.inv(_TO_LMS).T)

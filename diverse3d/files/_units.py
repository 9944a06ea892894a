"""Which unit a file's lengths are in, by the size of what they show."""

import math

UNITS_M = {"metres": 1.0, "decimetres": 0.1, "centimetres": 0.01, "millimetres": 0.001}
"""Units that are recognised, in metres."""


def unit_by_size(size: float, size_m: float, *, within: float = 2.0) -> tuple[str, float] | None:
    """Name, and metres, of the unit in which something that is `size_m` metres large has the `size`.

    None where that is so of no unit, up to a factor `within`.
    """
    if not 0 < size < math.inf:
        return None
    name = min(UNITS_M, key=lambda name: abs(math.log(size_m / size / UNITS_M[name])))
    return (name, UNITS_M[name]) if 1 / within < size_m / size / UNITS_M[name] < within else None

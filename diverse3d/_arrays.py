"""Arrays from the host to the device."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


def on_device(values: Any, dtype: Any) -> Array:
    """Values of the host as an array of `dtype`, without a compiled program.

    `jnp.asarray` alone compiles one for every shape: to cast, and, when no type is named, even to copy.
    """
    return jnp.asarray(np.asarray(values, dtype), dtype)

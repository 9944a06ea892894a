"""How much memory a training step will want, before it is asked for."""

import math
import os
from collections.abc import Iterator

from ._blocks import Step, make_steps
from ._config import ModelConfig
from ._errors import InputError
from ._hierarchy import Hierarchy
from ._pattern import floats_written

_COPIES = 6
"""Arrays the size of the parameters in a step: themselves, gradient, two moments, update, running average."""
_KEPT = 1.5
"""Numbers held at the peak for each that the forward pass writes."""


def estimate_bytes(
    config: ModelConfig, hierarchy: Hierarchy, *, batch: int, samples: int = 1, bytes_per_number: int = 4
) -> int:
    """An upper estimate of the peak memory in bytes of one training step with AdamW and averaged weights.

    `samples` is how often an example is decoded: what a model of objective `energy` is trained with.
    """
    parameters, per_sample, shared = 0, 0, 0
    layers = list(_layers(config, hierarchy))
    for number, (step, c_in, c_out, heads) in enumerate(layers):
        parameters += heads * _parameters(step, c_in, c_out, config)
        times = samples if number >= len(layers) - len(config.strides) and config.objective == "energy" else 1
        written = _written(step, c_in, c_out, config) + step.n_in * c_in + 3 * step.n_out * c_out
        per_sample += heads * times * written
        if step.pattern is not None and step.pattern.slots is not None:
            shared += heads * 2 * step.pattern.slots.size * (config.basis + 1)
    return int(bytes_per_number * (_COPIES * parameters + _KEPT * batch * per_sample + shared))


def check_memory(config: ModelConfig, hierarchy: Hierarchy, *, batch: int, samples: int = 1) -> None:
    """Raise `InputError` when training would take more than four fifths of the memory that is free now."""
    needed = estimate_bytes(config, hierarchy, batch=batch, samples=samples)
    free = free_memory_bytes()
    if needed > 0.8 * free:
        raise InputError(
            f"Training would take about {needed / 2**30:.1f} of the {free / 2**30:.1f} GiB of memory that are free; "
            "use a smaller batch or preset."
        )


def free_memory_bytes() -> int:
    """Memory that is free now, or all there is where the system doesn't tell."""
    pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
    return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")


def expected_parameters(config: ModelConfig, hierarchy: Hierarchy) -> int:
    """Learned numbers of a model of this configuration, which need not be made for it."""
    count = sum(heads * _parameters(step, a, b, config) for step, a, b, heads in _layers(config, hierarchy))
    if config.kind == "residual":
        count += hierarchy.sizes[0]
    return count + (config.channels[-1] + 1 if config.objective == "energy" else 0)


def _layers(config: ModelConfig, hierarchy: Hierarchy) -> Iterator[tuple[Step, int, int, int]]:
    """Every block of a model: its step, channels in and out, and how often it is there."""
    down, up = make_steps(config, hierarchy)
    seen = 3 + int(config.mask_channel)
    for c_in in (seen,) if config.kind == "masked" or config.objective == "energy" else (seen, seen + 3):
        widths = (c_in, *config.channels, config.latent_channels)
        for k, step in enumerate(down):
            yield step, widths[k], widths[k + 1], 1 if k + 1 < len(down) else 2
    for k, step in enumerate(up):
        yield step, config.width(k), config.width(k - 1) if k else 3, 1


def _parameters(step: Step, c_in: int, c_out: int, config: ModelConfig) -> int:
    channel = c_in * c_out if config.residual_share > 0 and c_in != c_out else 0
    if step.pattern is None:
        return config.spiral_length * c_in * c_out + c_out + channel
    edges = step.pattern.edges.rows.size
    pool = edges if config.residual_share > 0 and step.resamples else 0
    return edges * config.basis + config.basis * c_in * c_out + step.n_out * c_out + pool + channel


def _written(step: Step, c_in: int, c_out: int, config: ModelConfig) -> int:
    pattern = step.pattern
    if pattern is None:
        carried = step.n_out if step.transfer is not None else step.n_in
        length = config.spiral_length
        if c_out * (carried + step.n_out) < c_in * step.n_out:
            return length * c_out * (carried + step.n_out)
        return length * c_in * step.n_out + 4 * carried * c_in
    if pattern.slots is None:
        return math.prod((pattern.edges.rows.size, c_in + c_out))
    blocks, rows, union = pattern.slots.shape
    return floats_written(blocks, rows, union, step.n_in, (c_in, c_out, config.basis), pattern.basis_first)

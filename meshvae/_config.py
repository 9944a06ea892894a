"""What a model is made of, as data."""

import dataclasses
import json
from typing import Any

from ._errors import InputError


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Sizes and options of a model; the same for both families of convolution and both kinds of model."""

    kind: str = "masked"
    """`masked`: masked offsets in, whole mesh out. `residual`: what a given completion leaves over."""
    objective: str = "evidence"
    """Residual model: `evidence` learns an encoder of residuals along with the decoder; `energy` scores samples of the
    learned prior, on top of a learned share of the closed form's own spread, and has no encoder."""
    family: str = "vcconv"
    """`vcconv`: kernels that vary from vertex to vertex. `spiral`: the same kernel everywhere, along a spiral."""
    hierarchy: str = "sampling"
    """How the levels are made: `sampling` of the graph or `quadric` decimation."""
    strides: tuple[int, ...] = (2, 1, 2, 1, 2, 1, 2)
    """One for each layer of the encoder; the decoder mirrors them."""
    channels: tuple[int, ...] = (32, 64, 128, 256, 512, 1024)
    """Width after each layer of the encoder but the last, which gives the latent."""
    basis: int = 17
    """Kernels in the basis of a spatially varying convolution (M)."""
    latent_channels: int = 64
    """Width of the latent at each vertex of the coarsest level."""
    residual_share: float = 0.9
    """How much of a block's output is the linear way past the convolution (r)."""
    mask_channel: bool = True
    """Whether visibility is an input channel beside the offsets."""
    mean_scale: float = 1.0
    """What the head of the latent mean is multiplied by (0.1 in the public release of Dey and Boddeti 2022)."""
    log_variance_scale: float = 0.1
    """What the head of the latent log σ² is multiplied by (0.02 in the public release of Dey and Boddeti 2022)."""
    log_variance_start: float = -3.0
    """Latent log σ² of the untrained encoder: below 0 the first steps see the signal and not the noise."""
    spiral_length: int = 9
    """Vertices on a spiral."""
    spiral_dilation: int = 1
    """Every how many-th vertex of the spiral is taken."""

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError(f"There is no {name} '{getattr(self, name)}'; use {' or '.join(choices)}.")
        if len(self.strides) < 2 or len(self.channels) != len(self.strides) - 1:
            raise InputError(
                f"{len(self.strides)} strides (of at least 2) need one channel width less, not {len(self.channels)}."
            )
        if self.kind == "masked" and self.objective != "evidence":
            raise InputError("A masked model is trained on the evidence bound; only a residual one can take 'energy'.")
        sizes = (
            *self.strides,
            *self.channels,
            self.basis,
            self.latent_channels,
            self.spiral_length,
            self.spiral_dilation,
        )
        if min(sizes) < 1 or max(sizes) > 1 << 14:
            raise InputError("Every size of a model must lie between 1 and 16384.")
        if self.spiral_length * self.spiral_dilation > 36:
            raise InputError("The length times the dilation of a spiral must not exceed 36.")
        scales = (self.mean_scale, self.log_variance_scale, self.log_variance_start)
        if not all(abs(scale) <= 100.0 for scale in scales):
            raise InputError("Every scale of a model must be finite, and at most 100.")
        if not 0.0 <= self.residual_share < 1.0:
            raise InputError(f"The residual share {self.residual_share} must be at least 0 and below 1.")

    @property
    def input_channels(self) -> int:
        """Channels into the widest encoder of the model."""
        encodes_residuals = self.kind == "residual" and self.objective == "evidence"
        return (6 if encodes_residuals else 3) + int(self.mask_channel)

    def width(self, layer: int) -> int:
        """Channels after a layer of the encoder."""
        return self.channels[layer] if layer < len(self.channels) else self.latent_channels

    def to_json(self) -> str:
        """As one line of JSON."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "ModelConfig":
        """The configuration that `to_json` wrote; raises `InputError` for anything else."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(f"The model's configuration is not JSON ({error}).") from None
        if not isinstance(values, dict):
            raise InputError("The model's configuration must be a JSON object.")
        return ModelConfig(**{name: _field(name, value) for name, value in values.items()})


_CHOICES = {
    "kind": ("masked", "residual"),
    "objective": ("evidence", "energy"),
    "family": ("vcconv", "spiral"),
    "hierarchy": ("sampling", "quadric"),
}
_DEFAULTS = {field.name: field.default for field in dataclasses.fields(ModelConfig)}


def _field(name: str, value: Any) -> Any:
    if name not in _DEFAULTS:
        raise InputError(f"The model's configuration has an unknown field '{name}'.")
    default = _DEFAULTS[name]
    if isinstance(default, tuple) and isinstance(value, list) and all(type(item) is int for item in value):
        return tuple(value)
    if isinstance(default, float) and (type(value) is float or (type(value) is int and abs(value) < 1 << 53)):
        return float(value)
    if not isinstance(default, tuple) and type(value) is type(default):
        return value
    raise InputError(f"Field '{name}' of the model's configuration cannot be {value!r:.60}.")


_SMALL = ModelConfig(strides=(3, 1, 2, 1, 2), channels=(16, 32, 96, 192), basis=8, latent_channels=32)
_FULL = ModelConfig(mean_scale=0.1, log_variance_scale=0.02, log_variance_start=0.0)
_SPIRAL = dataclasses.replace(_SMALL, family="spiral", hierarchy="quadric", residual_share=0.0)


def _residual(config: ModelConfig, **changes: Any) -> ModelConfig:
    """A model of the same sizes for what the closed form leaves over; its prior starts at unit variance."""
    return dataclasses.replace(config, kind="residual", objective="energy", log_variance_start=0.0, **changes)


# Many samples are decoded a step: one layer less at the fine levels, where most of the time goes.
_SHALLOW: dict[str, Any] = {"strides": (3, 2, 1, 2), "channels": (16, 64, 128)}

PRESETS: dict[str, ModelConfig] = {
    "full": _FULL,
    "full-residual": _residual(_FULL),
    "small": _SMALL,
    "small-residual": _residual(_SMALL, **_SHALLOW),
    "small-spiral": _SPIRAL,
    "small-spiral-residual": _residual(_SPIRAL, **_SHALLOW),
}
"""`full` is tables 3 and 4 of Dey and Boddeti 2022; `small` trains on two CPU cores."""

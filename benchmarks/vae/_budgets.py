"""Rows that the suite `vae` trains itself, each at several budgets; a run that was stopped goes on."""

import dataclasses
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

from rich.console import Console

import diverse3d
import meshvae
from diverse3d.diversify import ComponentConfig
from diverse3d.head import HeadModel
from diverse3d.learn import Data, train_components, train_head
from meshvae import PRESETS, ModelConfig, Progress, TrainConfig

VARIANTS: dict[str, ModelConfig] = {
    "vcconv": PRESETS["small"],
    "vcconv-without-mask": dataclasses.replace(PRESETS["small"], mask_channel=False),
    "spiral": PRESETS["small-spiral"],
    "spiral-without-mask": dataclasses.replace(PRESETS["small-spiral"], mask_channel=False),
}
"""Both families of convolution, with visibility as an input channel and without it."""
RESIDUALS: dict[str, ModelConfig | ComponentConfig] = {
    "vcconv-residual": PRESETS["small-residual"],
    "spiral-residual": PRESETS["small-spiral-residual"],
    "components-residual": ComponentConfig(),
}
"""Both families for what the closed form leaves over, and the control: a network on the head's components."""
SEED = 0
VIEWS = 256
"""Occluder masks to train with, a setting."""


def training(steps: int) -> TrainConfig:
    """How a row of this budget is trained: with the shipped models' settings, warm-ups shortened to fit."""
    return TrainConfig(
        steps=steps,
        warmup=min(200, steps // 10),
        kl_warmup=min(1000, steps // 2),
        validate_every=min(250, steps),
        seed=SEED,
    )


def trained_weights(
    name: str,
    config: ModelConfig | ComponentConfig,
    head: HeadModel,
    data: Data,
    steps: int,
    out: Path,
    console: Console,
    *,
    views: int = VIEWS,
) -> Path:
    """Weights trained for `steps` steps, or those that an earlier run of the same code has left in `out`.

    Every budget is a training of its own: a learning rate that has come down its whole cosine is part of a budget.
    """
    folder = out / f"{name}-{steps}-{_identity(head, config, steps, views)}"
    weights = folder / "weights.safetensors"
    if not weights.is_file():

        def say(text: str) -> None:
            console.print(f"vae: {name}, {steps} steps: {text}", markup=False, highlight=False)

        def progress(at: Progress) -> None:
            say(f"step {at.step} of {at.steps}, loss {at.figures['loss']:.4g}; {at.seconds_left:.0f} s left")

        how: dict[str, Any] = {
            "out": folder, "views": views, "resume": True, "report": say, "progress": progress,
        }  # fmt: skip
        if isinstance(config, ComponentConfig):
            train_components(head, data, config, training(steps), **how)
        else:
            train_head(head, data, config, training(steps), **how)
    return weights


def _identity(head: HeadModel, config: ModelConfig | ComponentConfig, steps: int, views: int) -> str:
    """Short hash of all that weights come from: other code, another head or other settings train anew."""
    masked = isinstance(config, ModelConfig) and config.kind == "masked"
    code = _sources("surface", "head", "learn", "observe", *(() if masked else ("diversify", "fit")))
    record = meshvae.training_record(training(steps))
    settings = json.dumps([head.sha256, config.to_json(), record, views, code], sort_keys=True)
    return hashlib.sha256(settings.encode()).hexdigest()[:12]


@functools.cache
def _sources(*rooms: str) -> str:
    """Hash of the code that trains, as it was when first asked for: a file that changes later is not what runs."""
    digest, package = hashlib.sha256(), Path(diverse3d.__file__).parent
    folders = (Path(meshvae.__file__).parent, *(package / room for room in rooms))
    for path in sorted(path for folder in folders for path in folder.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()

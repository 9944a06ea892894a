"""Samples of scan models on the head's vertices: people whom the head was not drawn from."""

from pathlib import Path

import numpy as np

from diverse3d import InputError
from diverse3d.surface import kabsch

_SEED = 20


def covered(folder: Path, name: str) -> np.ndarray:
    """bool [V]: vertices that the scan model's registration reached; the others are filled in."""
    with np.load(_file(folder, name)) as file:
        reached: np.ndarray = file["covered"]
        return reached


def scan_model_heads(folder: Path, name: str, count: int, template_m: np.ndarray | None = None) -> np.ndarray:
    """Samples [count, V, 3] of `ict` or `flame`, metres; laid rigidly on a template [V, 3] where one is given."""
    with np.load(_file(folder, name)) as file:
        mean, modes = file["mean_mm"].astype(np.float64), file["modes_mm"].astype(np.float64)
    if template_m is not None:
        turn, shift = kabsch(mean, 1e3 * template_m, covered(folder, name))
        mean, modes = mean @ turn.T + shift, modes @ turn.T
    drawn = np.random.default_rng(_SEED).standard_normal((count, len(modes)))
    return 1e-3 * (mean[None] + np.einsum("nk,kvx->nvx", drawn, modes))


def _file(folder: Path, name: str) -> Path:
    path = folder / f"{name}_on_head.npz"
    if not path.is_file():
        raise InputError(f"{folder} holds no {path.name}; give a folder of scan models on the head's vertices.")
    return path

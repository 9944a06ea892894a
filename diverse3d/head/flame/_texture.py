"""FLAME's texture space, taken at the vertices."""

from pathlib import Path

import numpy as np

from ..._errors import InputError
from ._read import ImportLimits, open_arrays

MAX_ALBEDO = 100
"""Texture components that a head keeps."""

_NAMES = ("mean", "tex_dir", "vt", "ft")


def read_texture(
    path: Path, faces: np.ndarray, vertices: int, limits: ImportLimits | None = None
) -> tuple[dict[str, np.ndarray], str]:
    """Vertex colours and albedo components from a FLAME texture file; and its hash.

    `mean` [H,W,3] and `tex_dir` [H,W,3,K] hold blue, green, red from 0 to 255; `vt` [T,2] and `ft` [F,3] say where each
    triangle's corners lie in them (u to the right, v upwards). A vertex on a seam takes the first of its places.
    Returns `colours` uint8 [V,3] and `albedo_mean` [V,3], `albedo_basis` [k,V,3], `albedo_scale` [k] (red, green, blue,
    0 to 1; a standard deviation a component).
    """
    with open_arrays(path, wanted=_NAMES, limits=limits) as content:
        arrays = content.arrays
        for name in ("mean", "vt", "ft"):
            if name not in arrays:
                raise InputError(f"{path} holds no array '{name}', which says where vertices lie in the texture.")
        mean, places, corners = arrays["mean"], np.asarray(arrays["vt"], np.float64), arrays["ft"]
        if mean.ndim != 3 or mean.shape[2] != 3 or mean.dtype.kind not in "fiu":
            raise InputError(f"{path}: array 'mean' has shape {list(mean.shape)}; [height, width, 3] is needed.")
        if corners.shape != faces.shape or corners.dtype.kind not in "iu":
            raise InputError(f"{path}: array 'ft' has shape {list(corners.shape)}; {list(faces.shape)} is needed.")
        if places.ndim != 2 or places.shape[1] != 2 or corners.min() < 0 or corners.max() >= len(places):
            raise InputError(f"{path}: array 'ft' must hold indices of 'vt' [places, 2].")
        if not np.isfinite(places).all():
            raise InputError(f"{path}: array 'vt' holds values that are not finite.")
        place = np.zeros(vertices, np.int64)
        # Backwards, so that the first triangle with a vertex decides.
        place[faces.reshape(-1)[::-1]] = corners.astype(np.int64).reshape(-1)[::-1]
        height, width = mean.shape[:2]
        column = np.floor(places[place, 0] * width).clip(0, width - 1).astype(int)
        row = np.floor((1 - places[place, 1]) * height).clip(0, height - 1).astype(int)
        albedo = _finite(mean[row, column][:, ::-1], path, "mean") / 255
        result: dict[str, np.ndarray] = {
            "colours": (255 * albedo.clip(0, 1) + 0.5).astype(np.uint8),
            "albedo_mean": albedo.astype(np.float32),
        }
        basis = arrays.get("tex_dir")
        if basis is not None:
            if basis.ndim != 4 or basis.shape[:3] != mean.shape or basis.dtype.kind not in "fiu":
                raise InputError(
                    f"{path}: array 'tex_dir' has shape {list(basis.shape)}; {[*mean.shape, 'K']} is needed."
                )
            kept = basis[row, column, :, :MAX_ALBEDO][:, ::-1].transpose(2, 0, 1)
            components = _finite(kept, path, "tex_dir") / 255
            scale = np.abs(components).max(axis=(1, 2)).clip(1e-12)
            result["albedo_basis"] = (components / scale[:, None, None]).astype(np.float16)
            result["albedo_scale"] = scale.astype(np.float32)
        return result, content.sha256


def _finite(values: np.ndarray, path: Path, name: str) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"{path}: array '{name}' holds values that are not finite.")
    return values

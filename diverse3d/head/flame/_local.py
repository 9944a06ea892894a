"""Local models of an imported head: a PCA of each region's residual after ten and ten global components."""

from collections.abc import Mapping

import numpy as np

from ..._errors import InputError
from ...surface import kabsch
from .._bases import GLOBAL_BEFORE_LOCAL, LOCAL_ORDER, halved, local_bases

MIN_MESHES = 10
"""Fewer registered meshes than these make no local models."""


def higher_components(identity: np.ndarray, expression: np.ndarray) -> np.ndarray:
    """Residual heads [N, V, 3] whose second moment is that of the head's own higher components.

    With unit-variance coefficients, what the components after the first ten of each kind add has the covariance
    Σ b bᵀ; so have N = 2n heads ±√n·b, whose mean is zero.
    """
    rest = np.concatenate([identity[GLOBAL_BEFORE_LOCAL:], expression[GLOBAL_BEFORE_LOCAL:]])
    rest = rest[np.abs(rest).max(axis=(1, 2), initial=0.0) > 0].astype(np.float32)
    return np.sqrt(len(rest)).astype(np.float32) * np.concatenate([rest, -rest])


def higher_local_arrays(
    identity: np.ndarray, expression: np.ndarray, regions: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], str]:
    """Head-file arrays of local models of a head's own higher components, and where they come from.

    Only the vertices of regions that have models are looked at: a head may have many more, and hundreds of components.
    """
    names = [name for name in LOCAL_ORDER if name in regions]
    rest = len(identity[GLOBAL_BEFORE_LOCAL:]) + len(expression[GLOBAL_BEFORE_LOCAL:])
    if not names or not rest:
        return {}, "none (the head has no more than ten identity and ten expression components)"
    union = np.unique(np.concatenate([regions[name] for name in names]))
    residual = higher_components(identity[:, union], expression[:, union])
    if not len(residual):
        return {}, "none (the head's higher components don't move its regions)"
    origin = f"the head's own {len(residual) // 2} components after ten identity and ten expression components"
    return local_arrays(residual, {name: np.searchsorted(union, regions[name]) for name in names}), origin


def mesh_residuals(
    meshes: np.ndarray, template: np.ndarray, identity: np.ndarray, expression: np.ndarray, anchor: np.ndarray | None
) -> np.ndarray:
    """What the template and the first ten and ten components leave of registered meshes [N, V, 3] in metres.

    Each mesh is first laid on the template by the rigid motion that fits the vertices `anchor` (all if None) best.
    """
    if len(meshes) < MIN_MESHES:
        raise InputError(f"{len(meshes)} registered meshes are too few for local models; give at least {MIN_MESHES}.")
    few = np.concatenate([identity[:GLOBAL_BEFORE_LOCAL], expression[:GLOBAL_BEFORE_LOCAL]]).reshape(-1, template.size)
    few = few[np.abs(few).max(axis=1) > 0].astype(np.float64)
    directions = np.linalg.qr(few.T)[0]
    index = slice(None) if anchor is None else anchor
    residual = np.empty(meshes.shape, np.float32)
    for number, mesh in enumerate(meshes):
        offset = (_laid_on(mesh.astype(np.float64), template, index) - template).reshape(-1)
        residual[number] = (offset - directions @ (directions.T @ offset)).reshape(-1, 3)
    return residual


def _laid_on(mesh: np.ndarray, template: np.ndarray, index: slice | np.ndarray) -> np.ndarray:
    """A mesh moved rigidly on to the template."""
    turn, shift = kabsch(mesh[index], template[index])
    return mesh @ turn.T + shift


def local_arrays(residual: np.ndarray, regions: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Head-file arrays of the regions' local models; `residual` [N, V, 3] is used up.

    The neck and the boundary have none, as in Dey and Boddeti 2022.
    """
    names = [name for name in LOCAL_ORDER if name in regions]
    arrays: dict[str, np.ndarray] = {}
    for name, local in local_bases(residual, regions, names).items():
        if not len(local.basis.deviations) or local.basis.deviations[0] <= 0:
            continue
        components = local.basis.components.reshape(-1, len(regions[name]), 3)
        arrays[f"region/{name}/mean"] = local.mean
        arrays[f"region/{name}/basis"], arrays[f"region/{name}/scale"] = halved(components)
    return arrays

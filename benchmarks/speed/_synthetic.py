"""A head of FLAME's size whose numbers are random: speed depends on shapes alone, and FLAME itself isn't shipped."""

import numpy as np
from jax.typing import DTypeLike

from diverse3d.head import HeadModel, head_arrays, head_from_arrays

VERTICES, IDENTITY, EXPRESSION = 5023, 300, 100
PARENTS = (-1, 0, 1, 1, 1)
JOINTS_M = np.array([[0, -0.16, 0], [0, -0.10, 0], [0, -0.03, 0.02], [0.03, 0.04, 0.06], [-0.03, 0.04, 0.06]])


def synthetic_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays of a head file: an egg of points with 400 components, 36 pose correctives and smooth skinning weights."""
    rng = np.random.default_rng(seed)
    direction = rng.standard_normal((VERTICES, 3))
    template = direction / np.linalg.norm(direction, axis=1, keepdims=True) * np.array([0.085, 0.12, 0.105])
    to_joint = np.linalg.norm(template[:, None] - JOINTS_M[None], axis=2)
    weights, near = np.exp(-to_joint / 0.03), np.exp(-to_joint / 0.02)
    corrective_rows = 9 * (len(PARENTS) - 1)
    return {
        "template": template,
        "faces": np.stack([np.arange(VERTICES - 2) + i for i in range(3)], axis=1),
        "identity_basis": 1e-3 * rng.standard_normal((IDENTITY, VERTICES, 3)),
        "expression_basis": 1e-3 * rng.standard_normal((EXPRESSION, VERTICES, 3)),
        "pose_basis": 1e-3 * rng.standard_normal((corrective_rows, VERTICES, 3)),
        "joint_parents": np.array(PARENTS),
        "joint_regressor": (near / near.sum(0)).T,
        "skinning_weights": weights / weights.sum(1, keepdims=True),
    }


def synthetic_head(dtype: DTypeLike | None = None) -> tuple[HeadModel, np.ndarray]:
    """The head, and its joint regressor [J,V], which PyTorch's usual form needs at run time."""
    arrays = synthetic_arrays()
    return head_from_arrays(arrays, dtype=dtype, name="synthetic FLAME-sized"), arrays["joint_regressor"]


def embedded_regressor() -> np.ndarray:
    """The embedded head's joint regressor [J,V], which `HeadModel` has already applied to its components."""
    return head_arrays()["joint_regressor"].astype(np.float64)

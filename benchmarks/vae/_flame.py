"""FLAME's topology, from reference files that lie beside the checkout: a second mesh, to train the same code on."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np

from diverse3d.head import HeadModel, head_from_arrays

FLAME = Path(__file__).resolve().parents[3] / "shared" / "flame"
"""FLAME 2023 Open's template and first 60 shape components, with landmarks; no part of this repository."""
FILES = ("flame2023_60.npz", "landmarks68.npz", "joint_regressor.npz")


def flame_head(folder: Path = FLAME) -> HeadModel | None:
    """A head of 5,023 vertices and 60 components whose joints rest; None where its files are not."""
    if not all((folder / name).is_file() for name in FILES):
        return None
    shape, marks, joints = (np.load(folder / name) for name in FILES)
    arrays = {
        "template": shape["v_template"],
        "faces": shape["faces"],
        "identity_basis": shape["shapedirs"].transpose(2, 0, 1),
        "joint_regressor": joints["joint_regressor"],
        "joint_parents": np.array([-1, 0, 1, 1, 1]),
        "landmarks68_face": marks["face_index"],
        "landmarks68_barycentric": marks["barycentric"],
    }
    return head_from_arrays(arrays, dtype=jnp.float32, name="FLAME 2023 Open, 60 components")

"""Five joints as FLAME's (global, neck, jaw, left eye, right eye) out of MakeHuman's rig of the body."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from ._mesh import METRES_PER_DECIMETRE, HeadMesh
from ._source import Source

JOINTS = ("global", "neck", "jaw", "left eye", "right eye")
PARENTS = np.array([-1, 0, 1, 1, 1], np.int32)

# Bones that go with the shoulders, and how much of the head's motion each bone of the neck takes.
_TRUNK = ("spine", "clavicle", "shoulder", "upperarm", "breast")
_NECK_SHARE = {"neck01": 0.2, "neck02": 0.5, "neck03": 0.8}
_JAW = ("jaw", "oris01", "oris06.", "oris07", "tongue", "special04")  # bones below the jaw in the rig

# The cubes of the rig that mark the joints.
_CUBES = {"global": "joint-neck", "neck": "joint-head", "jaw": "joint-mouth"}


class Rig(NamedTuple):
    """What skinning needs."""

    regressor: np.ndarray  # float32 [5, V]
    weights: np.ndarray  # float32 [V, 5]


def build_rig(source: Source, mesh: HeadMesh) -> Rig:
    """Merge the bones' weights into five joints, and express the joints by vertices around them."""
    return Rig(_regressor(source, mesh), _weights(source, mesh))


def _weights(source: Source, mesh: HeadMesh) -> np.ndarray:
    weights = np.zeros((mesh.source_index.max() + 1, len(JOINTS)))
    for bone, rows in sorted(source.rig_weights().items()):
        rows = rows[rows[:, 0] < len(weights)]
        vertex, weight = rows[:, 0].astype(np.int64), rows[:, 1]
        share = _NECK_SHARE.get(bone, 0.0 if bone.startswith(_TRUNK) else 1.0)
        joint = {"eye.L": 3, "eye.R": 4}.get(bone, 2 if bone.startswith(_JAW) else 1)
        np.add.at(weights[:, joint], vertex, share * weight)
        np.add.at(weights[:, 0], vertex, (1.0 - share) * weight)
    weights = mesh.cut(weights)
    mirrored = weights[mesh.mirror][:, [0, 1, 2, 4, 3]]
    weights = (weights + mirrored) / 2
    for joint, eye in ((3, mesh.left_eye), (4, mesh.right_eye)):
        weights[eye] = np.eye(len(JOINTS))[joint]
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _regressor(source: Source, mesh: HeadMesh) -> np.ndarray:
    vertices, groups = source.base_mesh()
    base = mesh.vertices_dm * METRES_PER_DECIMETRE
    regressor = np.zeros((len(JOINTS), len(base)))
    for row, joint in enumerate(JOINTS[:3]):
        cube = vertices[np.unique(groups[_CUBES[joint]])].mean(axis=0) * METRES_PER_DECIMETRE
        regressor[row] = _around(base, cube * [0.0, 1.0, 1.0], mesh)
    for row, eye in ((3, mesh.left_eye), (4, mesh.right_eye)):
        regressor[row, eye] = 1.0 / len(eye)
    return regressor.astype(np.float32)


def _around(base: np.ndarray, joint: np.ndarray, mesh: HeadMesh) -> np.ndarray:
    """Convex, symmetric weights of surrounding vertices whose mean is the joint, as even as can be."""
    body = np.setdiff1d(np.arange(len(base)), np.concatenate([mesh.left_eye, mesh.right_eye]))
    near = body[np.abs(base[body, 1] - joint[1]) < 0.02]  # a slice of the head or neck at the joint's height
    rows = np.concatenate([(base[near] - joint).T * 1e3, np.ones((1, len(near))) * 1e3, np.eye(len(near))])
    goal = np.concatenate([np.zeros(3), [1e3], np.full(len(near), 1.0 / len(near))])
    weights = np.zeros(len(base))
    weights[near] = nnls(rows, goal)[0]
    weights = (weights + weights[mesh.mirror]) / 2
    return weights / weights.sum()

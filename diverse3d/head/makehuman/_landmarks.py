"""Where landmarks lie on the mesh: a table made by `tools/embed_landmarks.py`, with a detector's help."""

import json
from importlib import resources

import numpy as np

from ._mesh import HeadMesh

TABLE_NAME = "head-landmarks.json"


def landmark_arrays(mesh: HeadMesh) -> dict[str, np.ndarray]:
    """The head file's landmark arrays: iBUG 68, and those of mediapipe's 468 points that could be placed."""
    table = json.loads((resources.files("diverse3d") / "assets" / TABLE_NAME).read_text(encoding="utf-8"))
    face68, weights68 = _on_faces(np.array(table["ibug68"]), mesh)
    dense = np.array(table["dense"])
    face, weights = _on_faces(dense[:, 1:], mesh)
    return {
        "landmarks68_face": face68,
        "landmarks68_barycentric": weights68,
        "landmarks_dense_index": dense[:, 0].astype(np.int32),
        "landmarks_dense_face": face,
        "landmarks_dense_barycentric": weights,
    }


def _on_faces(rows: np.ndarray, mesh: HeadMesh) -> tuple[np.ndarray, np.ndarray]:
    """Rows (three vertices, their weights) → face index, and weights in that face's order."""
    corners, weights = rows[:, :3].astype(np.int64), rows[:, 3:]
    index = {tuple(sorted(face)): i for i, face in enumerate(mesh.faces.tolist())}
    face = np.array([index[tuple(sorted(row))] for row in corners.tolist()])
    position = (mesh.faces[face][:, :, None] == corners[:, None, :]).argmax(axis=2)
    ordered = np.take_along_axis(weights, position, axis=1)
    ordered /= ordered.sum(axis=1, keepdims=True)
    return face.astype(np.int32), ordered.astype(np.float32)

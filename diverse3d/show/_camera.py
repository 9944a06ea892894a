"""The camera of a fitted photo, for other programs: OpenCV's convention as JSON, and glTF's orthographic camera."""

from typing import Any

import numpy as np

from ..fit import PhotoFit
from ..observe import Photo

CAMERA_NAME = "camera.json"
"""The file's name in a result's folder."""

_PINHOLE_M = 100.0
"""How far away the pinhole stands that comes near to weak perspective."""

_BEFORE_M = 1.0
"""How far before the head's origin a viewer's camera stands; where exactly does not matter without perspective."""


def opencv_camera(fit: PhotoFit, photo: Photo) -> dict[str, Any]:
    """The camera from the world of a result (metres, y up, z towards the camera) to the pixels of `input.png`.

    As OpenCV has it: x right, y down, z forward, pixel centres at whole numbers. `projection_px` [2, 4] is the fitted
    weak perspective itself; matrix, rotation and translation are a pinhole so far away that it differs by `off_px` at
    most anywhere on the fit.
    """
    height, width = photo.hidden.shape
    scale = float(fit.camera.scale_px_per_m)
    column, row = (np.asarray(fit.camera.centre_px, np.float64) - 0.5).tolist()
    world = np.asarray(fit.to_world(fit.vertices_m), np.float64)
    stretch = _PINHOLE_M / (_PINHOLE_M - world[:, 2]) - 1.0
    off = scale * np.linalg.norm(world[:, :2], axis=1) * np.abs(stretch)
    return {
        "convention": "OpenCV: x right, y down, z forward, pixel centres at whole numbers",
        "picture": "input.png",
        "width_px": width,
        "height_px": height,
        "projection_px": [[scale, 0.0, 0.0, column], [0.0, -scale, 0.0, row]],
        "camera_matrix": [[scale * _PINHOLE_M, 0.0, column], [0.0, scale * _PINHOLE_M, row], [0.0, 0.0, 1.0]],
        "distortion": [0.0] * 5,
        "rotation_camera_world": [[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]],
        "translation_m": [0.0, 0.0, _PINHOLE_M],
        "off_px": float(off.max()),
    }


def gltf_camera(fit: PhotoFit, photo: Photo) -> dict[str, Any]:
    """The same camera for a GLB whose mesh is in the world: `camera`, and the `node` that holds it.

    Through it a viewer sees the head as the photo does.
    """
    height, width = photo.hidden.shape
    scale = float(fit.camera.scale_px_per_m)
    column, row = np.asarray(fit.camera.centre_px, np.float64).tolist()
    front = float(np.asarray(fit.to_world(fit.vertices_m))[:, 2].max()) + _BEFORE_M
    half = {"xmag": width / (2 * scale), "ymag": height / (2 * scale)}
    return {
        "camera": {"type": "orthographic", "orthographic": {**half, "znear": 0.01, "zfar": 2.0 * _BEFORE_M}},
        "node": {
            "camera": 0,
            "name": "photo",
            "translation": [(width / 2 - column) / scale, (row - height / 2) / scale, front],
        },
    }

"""The head's outline in cylindrical coordinates: what masks, scarves, hands and hair lie on."""

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter, grey_dilation, map_coordinates
from scipy.spatial import cKDTree

_COLUMNS, _ROWS = 120, 64
_LOW_M, _HIGH_M = -0.17, 0.125
_AXIS_Z_M = -0.03


class Envelope:
    """Radius about a vertical axis through the head, by angle (0 in front, positive to the person's left) and height.

    Hollows are bridged as cloth bridges them.
    """

    def __init__(self, vertices: Float[np.ndarray, "V 3"], *, bridging: float = 2.0) -> None:
        x, y, z = vertices[:, 0], vertices[:, 1], vertices[:, 2] - _AXIS_Z_M
        angle, radius = np.arctan2(x, z), np.hypot(x, z)
        self._angle = -np.pi + 2 * np.pi * np.arange(_COLUMNS) / _COLUMNS
        self._height = np.linspace(_LOW_M, _HIGH_M, _ROWS)
        places = np.stack([0.08 * np.cos(angle), 0.08 * np.sin(angle), y], 1)
        height, around = np.meshgrid(self._height, self._angle, indexing="ij")
        cells = np.stack([0.08 * np.cos(around), 0.08 * np.sin(around), height], -1)
        _, nearest = cKDTree(places).query(cells.reshape(-1, 3), k=6)
        raw = radius[nearest].max(1).reshape(_ROWS, _COLUMNS)
        mode = ("nearest", "wrap")
        wide = gaussian_filter(grey_dilation(raw, (3, 3), mode="wrap"), bridging, mode=mode)
        self._radius = gaussian_filter(np.maximum(raw, wide), 0.7, mode=mode)

    def radius(self, angle: Float[np.ndarray, "*#n"], height: Float[np.ndarray, "*#n"]) -> Float[np.ndarray, "..."]:
        """Metres from the axis."""
        row = (height - _LOW_M) / (_HIGH_M - _LOW_M) * (_ROWS - 1)
        column = (angle + np.pi) / (2 * np.pi) * _COLUMNS
        row, column = np.broadcast_arrays(row.clip(0, _ROWS - 1), column % _COLUMNS)
        wrapped = np.concatenate([self._radius, self._radius[:, :1]], 1)
        flat = map_coordinates(wrapped, np.stack([row.ravel(), column.ravel()]), order=1, mode="nearest")
        return np.asarray(flat.reshape(row.shape))

    def at(
        self, angle: Float[np.ndarray, "*#n"], height: Float[np.ndarray, "*#n"], lift: Float[np.ndarray, "*#n"] | float
    ) -> Float[np.ndarray, "... 3"]:
        """Points `lift` metres above the envelope."""
        return place(angle, height, np.asarray(self.radius(angle, height) + lift))

    def chart(self, point: Float[np.ndarray, " 3"]) -> tuple[float, float]:
        """Angle and height of a point."""
        return float(np.arctan2(point[0], point[2] - _AXIS_Z_M)), float(point[1])


def place(
    angle: Float[np.ndarray, "*#n"], height: Float[np.ndarray, "*#n"], radius: Float[np.ndarray, "*#n"]
) -> Float[np.ndarray, "... 3"]:
    """Points from cylindrical coordinates."""
    angle, height, radius = np.broadcast_arrays(angle, height, radius)
    return np.stack([radius * np.sin(angle), height, radius * np.cos(angle) + _AXIS_Z_M], -1)

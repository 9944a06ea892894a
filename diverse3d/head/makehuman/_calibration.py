"""What measured statistics of people's shapes say of the head: its mean, its widest variation, how much of the artist's
morphs to believe, and what is left over. The numbers are those of `tools/calibrate_head.py`."""

import json
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from .._residual import Residual, carried
from ._mesh import HeadMesh
from ._morphs import Morphs, rigid_part

TABLE_NAME = "head-calibration.json"
_RING_M = (0.010, 0.025)  # distance from an eyeball within which the mean's local scale is read
_SOCKETS = {"reach_m": 0.010, "forward": 0.0}  # how far skin goes with an eyeball that follows its centre
_PER_MM = 1e-3


class Field(NamedTuple):
    """Displacement fields given at a few vertices of the half x ≥ 0, each mirror-symmetric or antisymmetric."""

    vertices: np.ndarray  # int [C]
    parity: np.ndarray  # [n], +1 or -1
    displacement_m: np.ndarray  # [n, C, 3]

    def spread(self, vertices_m: np.ndarray, places_m: np.ndarray, mirror: np.ndarray) -> np.ndarray:
        """The fields [n, P, 3] at places, by a biharmonic spline through the vertices and their mirror images."""
        twin = mirror[self.vertices]
        aside = twin != self.vertices
        control = np.concatenate([self.vertices, twin[aside]])
        other = self.parity[:, None, None] * self.displacement_m[:, aside] * [-1.0, 1.0, 1.0]
        weights = spline(vertices_m[control], places_m)
        return np.einsum("pc,ncd->npd", weights, np.concatenate([self.displacement_m, other], axis=1))


class Calibration(NamedTuple):
    """The table's content."""

    mean: Field  # one symmetric field
    modes: Field  # metres a standard deviation
    weights: dict[str, float]  # of the morphs' standard deviations, by group
    residual: Residual


def read_calibration() -> Calibration:
    """The table that comes with the package."""
    text = (resources.files("diverse3d") / "assets" / TABLE_NAME).read_text(encoding="utf-8")
    return from_table(json.loads(text))


def from_table(table: dict[str, Any]) -> Calibration:
    """A calibration from the JSON table's dictionary (lengths in millimetres)."""

    def field(part: dict[str, Any]) -> Field:
        values = np.array(part["displacement_mm"], np.float64) * _PER_MM
        return Field(np.array(part["vertices"], np.int64), np.array(part["parity"], np.float64), values)

    residual = {name: np.array(value, np.float64) for name, value in table["residual"].items()}
    return Calibration(
        mean=field(table["mean"]),
        modes=field(table["modes"]),
        weights={name: float(value) for name, value in table["weights"].items()},
        residual=Residual(
            length_m=residual["length_mm"] * _PER_MM,
            deviation_m=residual["deviation_mm"] * _PER_MM,
            anchor_m=residual["anchor_mm"] * _PER_MM,
            log_amplitude=residual["log_amplitude"],
            anchor_width_m=float(residual["anchor_width_mm"]) * _PER_MM,
            symmetry=float(residual["symmetry"]),
        ),
    )


def spline(control_m: np.ndarray, places_m: np.ndarray) -> np.ndarray:
    """Weights [P, C] of the biharmonic spline in space (kernel -r, plus affine) through values at control points."""
    count, unit = len(control_m), 0.1
    affine = np.concatenate([np.ones((count, 1)), control_m / unit], axis=1)
    apart = np.linalg.norm(control_m[:, None] - control_m[None], axis=2) / unit
    system = np.block([[-apart + 1e-9 * np.eye(count), affine], [affine.T, np.zeros((4, 4))]])
    away = np.linalg.norm(places_m[:, None] - control_m[None], axis=2) / unit
    rows = np.concatenate([-away, np.ones((len(places_m), 1)), places_m / unit], axis=1)
    return np.linalg.solve(system.T, rows.T).T[:, :count]


def calibrated_mean(morphs: Morphs, calibration: Calibration, mesh: HeadMesh) -> np.ndarray:
    """The mean head [V, 3] in metres: the morphs' mean moved by the mean field; eyeballs move and grow with their
    sockets."""
    mean, eyes = morphs.mean_m, [mesh.left_eye, mesh.right_eye]
    places = carried(mean, eyes, **_SOCKETS)
    moved = mean + calibration.mean.spread(mean, places, mesh.mirror)[0]
    free = mean + calibration.mean.spread(mean, mean, mesh.mirror)[0]
    for eye in eyes:
        centre = mean[eye].mean(axis=0)
        away = np.linalg.norm(mean - centre, axis=1) - np.linalg.norm(mean[eye] - centre, axis=1).max()
        ring = (away > _RING_M[0]) & (away < _RING_M[1])
        before, after = mean[ring] - mean[ring].mean(axis=0), free[ring] - free[ring].mean(axis=0)
        growth = (before * after).sum() / (before**2).sum() - 1.0
        near = np.abs(places - mean).max(axis=1) > 0
        near &= np.linalg.norm(mean - centre, axis=1) < 0.04
        moved[near] += growth * (mean - places)[near]
    return moved


def identity_rows(morphs: Morphs, calibration: Calibration, mesh: HeadMesh, mean_m: np.ndarray) -> np.ndarray:
    """Rows [n, V, 3], metres a standard deviation, whose squares add up to the covariance of identity; rigid motions
    are taken out."""
    eyes = [mesh.left_eye, mesh.right_eye]
    modes = calibration.modes.spread(morphs.mean_m, carried(morphs.mean_m, eyes, **_SOCKETS), mesh.mirror)
    rows = [modes] + [calibration.weights[name] * group for name, group in sorted(morphs.groups_m.items())]
    stacked = np.concatenate([np.asarray(part, np.float64) for part in rows])
    neck = mean_m[:, 1] < mean_m[mesh.boundary, 1].max() + 0.03
    return stacked - rigid_part(stacked, mean_m, np.flatnonzero(~neck))

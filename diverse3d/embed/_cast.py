"""One picture of a head, shown to the detector; each point it sees is cast back on to the mesh."""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt

from .._errors import InputError
from ..observe import observe_face
from ..surface import Portrait, host_normals

UPPER_INNER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
"""The points of the upper lip's inner line."""

LOWER_INNER = (95, 88, 178, 87, 14, 317, 402, 318, 324)
"""The points of the lower lip's inner line."""

LARGEST_STRAY = 9.0 / 512
"""Share of the picture's side: a point off the skin (on an eyeball, beside the head …) goes to the nearest skin, if it
is no farther."""

LEAST_FACING = 0.2
"""Cosine between normal and view; surfaces seen at a flatter angle place a point badly."""


class Surface(NamedTuple):
    """A mesh that landmarks shall be found on, at rest; the face looks along +z, y is up, metres."""

    template: np.ndarray
    """float64 [V, 3]"""
    faces: np.ndarray
    """int32 [F, 3], counter-clockwise from outside"""
    colours: np.ndarray
    """uint8 [V, 3], sRGB: plausible enough for a face detector"""
    skin: np.ndarray
    """bool [F]: faces on which points may lie"""
    upper: np.ndarray
    """bool [F]: of the upper lip; all false where that isn't known"""
    lower: np.ndarray
    """bool [F]: of the lower lip; likewise"""


def cast(mesh: Surface, vertices: np.ndarray, colours: np.ndarray, view: Portrait, inner: bool) -> np.ndarray:
    """Places [468, 3] on the template, NaN where this picture places no point.

    `vertices` [V, 3] are the head as it is shown. With `inner` only the inner lines of the lips are placed, each on
    its own lip: the picture should show an open mouth.
    """
    places = np.full((468, 3), np.nan)
    hits = view.look(vertices, mesh.faces)
    try:
        points = observe_face(view.paint(hits, vertices, mesh.faces, colours)).landmarks.points_px
    except InputError:
        return places
    normal = host_normals(vertices, mesh.faces)[mesh.faces].mean(axis=1) @ view.rotation[2]
    outer = np.arange(468)
    if mesh.upper.any() or mesh.lower.any():
        outer = np.setdiff1d(outer, UPPER_INNER + LOWER_INNER)
    groups = [(outer, np.append(mesh.skin, False)[hits.face])]
    if inner:
        groups = [
            (np.array(UPPER_INNER), np.append(mesh.upper, False)[hits.face]),
            (np.array(LOWER_INNER), np.append(mesh.lower, False)[hits.face]),
        ]
    for index, allowed in groups:
        if not allowed.any():
            continue
        stray, nearest = distance_transform_edt(~allowed, return_indices=True)
        pixel = np.clip(np.floor(points[index] * 2), 0, 2 * view.size_px - 1).astype(int)
        x, y = pixel.T
        row, column = nearest[:, y, x]
        face, weight = hits.face[row, column], hits.barycentric[row, column]
        place = (mesh.template[mesh.faces[face]] * weight[:, :, None]).sum(axis=1)
        ok = (stray[y, x] <= 2 * LARGEST_STRAY * view.size_px) & ((normal[face] > LEAST_FACING) | inner)
        places[index[ok]] = place[ok]
    return places

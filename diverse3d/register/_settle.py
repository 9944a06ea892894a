"""Vertices on the surface that a scan's points mark out, rather than on flat triangles through them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from ._cloud import Cloud
from ._icp import Matcher

_NEIGHBOURS = 30
_REACHES_M = (1.5e-3, 4e-3)
_SPACINGS = 3.3
"""Deviation of the Gaussian by which points count, in spacings of the scan, within the reaches."""
_FARTHEST_M = 1e-3
_LEAST_KNOWN = 0.5
"""Variance, in that of one point, above which the points tell no height: at borders, and over holes."""
_FLAT = 1e-3


class Settled(NamedTuple):
    """Vertices on the scan's surface."""

    vertices_m: Float[np.ndarray, "V 3"]
    """Moved along their normals where held, else as they were."""
    held: Bool[np.ndarray, " V"]
    """Vertices whose height enough points about them tell."""
    variance: Float[np.ndarray, " V"]
    """Variance of the height in that of one point."""
    bend: Float[np.ndarray, " V"]
    """How far the surface leaves its tangent, per metre: a deviation of s along it is one of s² · bend off it."""


def settle(
    match: Matcher, vertices_m: Float[np.ndarray, "V 3"], normals: Float[np.ndarray, "V 3"], *, moving: bool
) -> Settled:
    """Each vertex at the height, along its normal, of the paraboloid through the points about it (moving least squares,
    Levin 1998). Not `moving`, they stay: where the head itself explains the scan it is nearer than any few points."""
    cloud: Cloud = match.cloud
    count = min(_NEIGHBOURS, len(cloud.points))
    reach = float(np.clip(_SPACINGS * match.spacing_m, *_REACHES_M))
    away, index = match.nearest(vertices_m, count)
    axis = np.where(np.abs(normals[:, :1]) < 0.7, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
    first = np.cross(normals, axis)
    first /= np.linalg.norm(first, axis=1, keepdims=True).clip(1e-12)
    frame = np.stack([first, np.cross(normals, first), normals], axis=1)
    x, y, height = np.moveaxis(np.einsum("vab,vkb->vka", frame, cloud.points[index] - vertices_m[:, None]), 2, 0)
    x, y = x / reach, y / reach
    alike = np.einsum("vka,va->vk", cloud.normals[index], normals) > 0.5
    weight = np.exp(-0.5 * (away / reach) ** 2) * alike
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=2)
    weighed = weight[:, :, None] * terms
    known = weighed.transpose(0, 2, 1) @ terms + np.diag([1e-9, 1e-9, 1e-9, _FLAT, _FLAT, _FLAT])
    found = np.linalg.solve(known, np.einsum("vka,vk->va", weighed, height)[:, :, None])[:, :, 0]
    start = np.broadcast_to(np.eye(6)[0], (len(known), 6))[:, :, None]
    gain = np.linalg.solve(known, start)[:, :, 0]
    variance = np.einsum("vka,va->vk", weighed, gain)
    variance = (variance**2).sum(axis=1)
    held = (gain[:, 0] < _LEAST_KNOWN) & (np.abs(found[:, 0]) < _FARTHEST_M)
    a, b, c = found[:, 3:].T / reach**2
    moved = vertices_m + np.where(held & moving, found[:, 0], 0.0)[:, None] * normals
    return Settled(moved, held, variance, np.sqrt((3 * a**2 + 3 * c**2 + b**2 + 2 * a * c).clip(0)))

"""A scene's occluder put on a real photo, over the head that was fitted to it."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, PRNGKeyArray, UInt8

from diverse3d import InputError
from diverse3d._suggest import nearest
from diverse3d.fit import Fit, PhotoFit
from diverse3d.head import HeadModel
from diverse3d.surface import STUDIO_LIGHT, Perspective, host_normals, linear_from_srgb, shade, srgb_from_linear

from ._buffers import covered, interpolated, look
from ._draw import FINER, occluder_parts
from ._mesh import merged
from ._noise import stream
from ._person import draw_person

WORN = ("clear-glasses", "dark-glasses", "surgical-mask", "scarf", "hand", "microphone")
"""What can be put on a photo."""

_FAR_M = 1e3
"""Distance from which a perspective camera is the fit's weak perspective one."""


def put_on(
    rgb: UInt8[np.ndarray, "H W 3"], fitted: Fit, head: HeadModel, occluder: str, *, key: PRNGKeyArray
) -> tuple[UInt8[np.ndarray, "H W 3"], Bool[np.ndarray, "H W"]]:
    """A photo with one of `WORN` over its fitted face, lit as the face is, and where it covers half of a pixel.

    Lenses that only mirror are left out. Raises `InputError` for an unknown occluder, a fit that is not a photo's, or
    a head without landmarks.
    """
    if occluder not in WORN:
        raise InputError(f"There is no occluder '{occluder}'{nearest(occluder, WORN)}.")
    if not isinstance(fitted, PhotoFit) or head.landmarks68 is None:
        raise InputError("Something can be put on only over a head with landmarks that was fitted to a photo.")
    vertices = np.asarray(fitted.vertices_m, np.float64)
    marks = np.asarray(head.landmarks68(fitted.vertices_m), np.float64)
    person = draw_person(head, stream(key, "person"))
    parts, _ = occluder_parts(head, vertices, marks, person, occluder, stream(key, "occluder"))
    mesh = merged(parts)
    turn, shift = np.asarray(fitted.turn, np.float64), np.asarray(fitted.shift_m, np.float64)
    height, width = rgb.shape[:2]
    side = max(height, width)
    fine = round(side * FINER)
    camera = Perspective(
        jnp.asarray(fitted.camera.scale_px_per_m * fine / side, jnp.float32),
        jnp.asarray(fitted.camera.centre_px * fine / side, jnp.float32),
        jnp.asarray(_FAR_M, jnp.float32),
    )
    # The head goes first, so that what lies behind it stays hidden; only pixels of the occluder are painted.
    points = np.concatenate([vertices, mesh.points_m]) @ turn.T + shift
    faces = np.concatenate([np.asarray(head.faces), mesh.faces + len(vertices)])
    hits = look(points, faces, camera, fine)
    owner = hits.face.reshape(-1) - len(head.faces)
    pixels = np.flatnonzero(owner >= 0)
    normals = host_normals(points, faces).astype(np.float32)
    normals *= np.where(normals[:, 2:] < 0, -1, 1)  # sheets are seen from both sides
    coordinates = np.concatenate([np.zeros((len(vertices), 3), np.float32), mesh.coordinates])
    at = interpolated(np.concatenate([coordinates, normals], 1), faces, hits, pixels)
    layer = np.zeros((fine * fine, 4), np.float32)
    part = mesh.part[owner[pixels]]
    for number, one in enumerate(parts):
        mine = part == number
        if one.keep is not None:
            mine[mine] = one.keep(at[mine, :3])
        layer[pixels[mine], :3], layer[pixels[mine], 3] = one.paint(at[mine, :3]), 1.0
    layer[pixels, :3] *= np.maximum(_arriving(at[:, 3:], fitted), 0.02)
    picture = layer.reshape(fine, fine, 4)
    share = covered(np.ascontiguousarray(picture[..., 3]), side)[:height, :width]
    painted = np.stack([covered(np.ascontiguousarray(picture[..., k]), side) for k in range(3)], -1)[:height, :width]
    mixed = linear_from_srgb(rgb) * (1.0 - share[..., None]) + painted
    # Untouched pixels keep their very bytes.
    return np.where(share[..., None] > 0, srgb_from_linear(mixed), rgb), share >= 0.5


def _arriving(normals: Float[np.ndarray, "p 3"], fitted: PhotoFit) -> Float[np.ndarray, "p 3"]:
    """Light on the occluder: the photo's own where it is known."""
    unit = normals / np.sqrt((normals**2).sum(1, keepdims=True)).clip(1e-6)
    studio = np.repeat(STUDIO_LIGHT[:, None], 3, axis=1)
    light = studio if fitted.appearance is None else np.asarray(fitted.appearance.light)
    dtype = jnp.float32
    return np.asarray(jax.jit(shade)(jnp.ones(unit.shape, dtype), jnp.asarray(unit, dtype), jnp.asarray(light, dtype)))

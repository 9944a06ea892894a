"""All of a scene, from a key to a picture and its masks."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Float32, Int, PRNGKeyArray, UInt8

from diverse3d.head import HeadModel
from diverse3d.surface import Hits, Perspective, boundary_loops, facing_camera, host_normals

from ._buffers import Light, covered, interpolated, irradiance, lit_share, look, openness
from ._envelope import Envelope
from ._hair import draw_body, draw_hair
from ._held import draw_hand, draw_microphone, draw_strands
from ._mesh import Mesh, Part, merged
from ._noise import stream
from ._patch import draw_backdrop, draw_patch
from ._person import Person, SkinPaint, draw_person
from ._sensor import develop
from ._setting import Pose, draw_camera, draw_light, draw_pose
from ._wear import draw_glasses, draw_scarf, draw_surgical_mask

FINER = 1.5
"""Pixels are drawn this much finer than the picture and averaged."""
_CLEAR, _MIRRORED = 0.06, 0.14  # of the light that clear lenses swallow, and throw back against dark ones


class Drawing(NamedTuple):
    """What was drawn; see `Scene`."""

    rgb: UInt8[np.ndarray, "s s 3"]
    face: Bool[np.ndarray, "s s"]
    skin: Bool[np.ndarray, "s s"]
    hidden: Bool[np.ndarray, "s s"]
    landmarks68_px: Float[np.ndarray, "68 2"]
    vertices_m: Float[np.ndarray, "V 3"]
    camera: Perspective
    visible: Bool[np.ndarray, " V"]
    melanin: float
    pose: Pose


class _Layer(NamedTuple):
    """A mesh, what each pixel sees of it, and where that is nearest of all."""

    mesh: Mesh
    parts: Sequence[Part]
    hits: Hits
    wins: Int[np.ndarray, " p"]


def draw(
    head: HeadModel,
    truth: Float[np.ndarray, "V 3"],
    key: PRNGKeyArray,
    occluder: str,
    backgrounds: Sequence[np.ndarray],
    side: int,
) -> Drawing:
    """The scene of one head, key and occluder."""
    fine = round(side * FINER)
    setting, lighting = stream(key, "setting"), stream(key, "light")
    pose, light = draw_pose(setting), draw_light(lighting)
    person, skin_rng = draw_person(head, stream(key, "person")), stream(key, "person").spawn(1)[0]
    marks = np.asarray(head.landmarks68(jnp.asarray(truth, head.dtype)), np.float64)
    camera = draw_camera(pose(marks), side, setting)
    fine_camera = Perspective(camera.scale_px_per_m * FINER, camera.centre_px * FINER, camera.distance_m)
    things = stream(key, "occluder")
    occluding, clear = occluder_parts(head, truth, marks, person, occluder, things)
    hair_rng, faces = stream(key, "hair"), np.asarray(head.faces)
    hair = draw_hair(head, truth, person.hair, person.hairline, hair_rng)
    ends = max(boundary_loops(faces), key=len)
    body = draw_body(pose(truth[ends]), person.reflectance[ends].mean(0), hair_rng)

    # Layer by layer, nearest wins.
    head_part = Part(truth, faces, np.asarray(head.template_m), lambda at: at)
    bodies = merged([head_part, *body])
    turned = np.concatenate([pose(truth), bodies.points_m[len(truth) :]])
    seen = _looked(turned, bodies, fine_camera, fine, len(faces))
    layers = [_Layer(bodies._replace(points_m=turned), [head_part, *body], *seen)]
    for parts in (hair, occluding):
        mesh = merged(parts) if parts else None
        if mesh is None:
            layers.append(layers[-1]._replace(parts=(), wins=np.zeros(0, np.int64)))
            continue
        mesh = mesh._replace(points_m=pose(mesh.points_m))
        hits, wins = _looked(mesh.points_m, mesh, fine_camera, fine)
        wins = wins[_kept(mesh, parts, hits, wins)]
        layers.append(_Layer(mesh, parts, hits, wins))
    owner = np.full(fine * fine, -1, np.int8)
    nearest = np.full(fine * fine, -np.inf, np.float32)
    before = owner
    for number, layer in enumerate(layers):
        before = owner.copy()
        near = layer.hits.nearness.reshape(-1)[layer.wins]
        won = near > nearest[layer.wins]
        owner[layer.wins[won]], nearest[layer.wins[won]] = number, near[won]
    face_triangle = np.zeros(len(bodies.faces), bool)
    face_triangle[: len(faces)] = _face_triangles(head)
    face = ((before == 0) & face_triangle[layers[0].hits.face.reshape(-1)]).reshape(fine, fine)
    own = layers[0].hits.face.reshape(-1) < len(faces)
    hidden = (owner == 2).reshape(fine, fine)
    patch = None
    if occluder == "random-shape":
        where, patch = draw_patch(face, backgrounds, things)
        hidden = where
        owner[where.reshape(-1)] = 3

    shadows = things.uniform() < 0.75
    colours = draw_backdrop((fine, fine), backgrounds, stream(key, "backdrop")).reshape(-1, 3)
    colours = colours * np.float32(0.5 + 0.5 * float(np.linalg.norm(light.colour)))
    skin = SkinPaint(head, person, skin_rng)
    _shade_all(colours, layers, owner, light, skin, person, head, shadows=shadows)
    if patch is not None:
        colours[owner == 3] = patch.reshape(-1, 3)[owner == 3] * np.float32(light.soft[0].mean() * 0.282 + 0.3)
    if clear:
        _lay_glass(colours, clear, pose, fine_camera, nearest, fine)
    bare = colours[face.reshape(-1) & (owner == 0)]
    exposure = _exposure(bare, person, stream(key, "sensor"))
    picture = _averaged(colours.reshape(fine, fine, 3) * np.float32(exposure), side)
    rgb = develop(picture, stream(key, "sensor").spawn(1)[0])

    posed = pose(truth)
    hidden = covered(hidden, side) >= 0.5
    return Drawing(
        rgb=rgb,
        face=covered(face, side) >= 0.5,
        skin=covered(((owner == 0) & own).reshape(fine, fine), side) >= 0.5,
        hidden=hidden,
        landmarks68_px=np.asarray(camera.project(jnp.asarray(pose(marks), jnp.float32)), np.float64),
        vertices_m=posed,
        camera=camera,
        visible=_visible(posed, head, camera, hidden, owner.reshape(fine, fine)),
        melanin=person.melanin,
        pose=pose,
    )


def occluder_parts(
    head: HeadModel, truth: np.ndarray, marks: np.ndarray, person: Person, occluder: str, rng: np.random.Generator
) -> tuple[list[Part], list[Part]]:
    """(what hides, what only mirrors), in the head's frame."""
    if occluder in ("clear-glasses", "dark-glasses"):
        return draw_glasses(truth, marks, rng, dark=occluder == "dark-glasses")
    if occluder in ("none", "random-shape"):
        return [], []
    ears = [np.asarray(head.regions[name]) for name in ("left_ear", "right_ear") if name in head.regions]
    envelope = Envelope(np.delete(truth, np.concatenate(ears), 0) if ears else truth)
    if occluder == "surgical-mask":
        return draw_surgical_mask(truth, marks, envelope, rng), []
    if occluder == "scarf":
        return draw_scarf(marks, envelope, rng), []
    if occluder == "hand":
        own, other = rng.uniform() < 0.6, draw_person(head, rng.spawn(1)[0])
        return draw_hand(marks, envelope, person.skin if own else other.skin, rng), []
    if occluder == "hair":
        return draw_strands(marks, envelope, person.hair, rng), []
    return draw_microphone(marks, envelope, rng), []


def _looked(
    points: np.ndarray, mesh: Mesh, camera: Perspective, fine: int, solid: int = 0
) -> tuple[Hits, Int[np.ndarray, " p"]]:
    hits = look(points, mesh.faces, camera, fine, solid)
    return hits, np.flatnonzero(hits.face.reshape(-1) >= 0)


def _kept(mesh: Mesh, parts: Sequence[Part], hits: Hits, pixels: np.ndarray) -> Bool[np.ndarray, " p"]:
    """Which pixels see something where there are gaps between strands."""
    kept, part = np.ones(len(pixels), bool), mesh.part[hits.face.reshape(-1)[pixels]]
    for number, one in enumerate(parts):
        if one.keep is not None:
            mine = part == number
            kept[mine] = one.keep(interpolated(mesh.coordinates, mesh.faces, hits, pixels[mine]))
    return kept


def _face_triangles(head: HeadModel) -> Bool[np.ndarray, " F"]:
    inside = np.zeros(head.n_vertices, bool)
    for name in ("face", "left_eyeball", "right_eyeball"):
        if name in head.regions:
            inside[np.asarray(head.regions[name])] = True
    return inside[np.asarray(head.faces)].all(1)


def _shade_all(
    colours: Float32[np.ndarray, "p 3"],
    layers: Sequence[_Layer],
    owner: Int[np.ndarray, " p"],
    light: Light,
    skin: SkinPaint,
    person: Person,
    head: HeadModel,
    *,
    shadows: bool,
) -> None:
    """Write every layer's colours where it is nearest."""
    used = [layer for layer in layers if layer.parts]
    start = np.cumsum([0, *(len(layer.mesh.points_m) for layer in used)])
    everything = Mesh(
        np.concatenate([layer.mesh.points_m for layer in used]),
        np.concatenate([layer.mesh.faces + first for layer, first in zip(used, start, strict=False)]),
        np.zeros((start[-1], 3), np.float32),
        np.concatenate([np.full(len(layer.mesh.faces), k) for k, layer in enumerate(layers) if layer.parts]),
    )
    normals = host_normals(everything.points_m, everything.faces).astype(np.float32)
    count = head.n_vertices
    # Sheets are seen from both sides.
    normals[count:] *= np.where(normals[count:, 2:] < 0, -1, 1)
    casts = (everything.part < 2) | shadows
    lit = lit_share(everything, light, casts=casts, normals=normals)
    open_share = np.ones(len(normals), np.float32)
    open_share[:count] = 0.25 + 0.75 * openness(np.asarray(head.template_m), np.asarray(head.faces))
    arriving = irradiance(normals, light, lit, open_share)
    for number, layer in enumerate(layers):
        pixels = np.flatnonzero(owner == number)
        if not layer.parts or not len(pixels):
            continue
        first = int(start[[one is layer for one in used].index(True)])
        rows = slice(first, first + len(layer.mesh.points_m))
        attributes = np.concatenate([layer.mesh.coordinates, arriving[rows], normals[rows], lit[rows, None]], 1)
        if number == 0:
            extra = np.zeros((len(attributes), 4), np.float32)
            extra[:count, :3], extra[:count, 3] = person.reflectance, skin.eyeball
            attributes = np.concatenate([attributes, extra], 1)
        at = interpolated(attributes, layer.mesh.faces, layer.hits, pixels)
        part = layer.mesh.part[layer.hits.face.reshape(-1)[pixels]]
        for k, one in enumerate(layer.parts):
            mine = part == k
            if not mine.any():
                continue
            seen = at[mine]
            if number == 0 and k == 0:
                reflectance, gloss = skin(seen[:, :3], seen[:, 10:13], seen[:, 13])
                shininess = np.where(seen[:, 13] > 0.5, 120.0, 16.0).astype(np.float32)
            else:
                reflectance = one.paint(seen[:, :3])
                gloss, shininess = (np.full(len(seen), value, np.float32) for value in (one.gloss, one.shininess))
            highlight = _highlight(seen[:, 6:9], seen[:, 9], light, gloss, shininess)
            colours[pixels[mine]] = reflectance * seen[:, 3:6] + highlight


def _highlight(
    normals: np.ndarray, lit: np.ndarray, light: Light, gloss: np.ndarray, shininess: np.ndarray
) -> Float32[np.ndarray, "p 3"]:
    """Blinn–Phong, seen from far in front."""
    half = light.direction + np.array([0.0, 0.0, 1.0])
    half = (half / np.linalg.norm(half)).astype(np.float32)
    length = np.sqrt((normals**2).sum(1)).clip(1e-6)
    facing = ((normals @ half) / length).clip(0)
    strength = 0.05 * gloss * (shininess + 8) / 8 * facing**shininess * lit
    return strength[:, None] * light.colour.astype(np.float32)


def _exposure(bare: Float32[np.ndarray, "p 3"], person: Person, rng: np.random.Generator) -> float:
    """A camera's automatic exposure: the face comes out at a middling brightness, dark skin darker than light skin."""
    off = np.exp(rng.normal(0.0, 0.16))
    wanted = 0.27 * float((person.skin.mean() / 0.25) ** 0.55) * off
    return float(np.clip(wanted / max(float(bare.mean()) if len(bare) else 0.2, 1e-3), 0.3, 3.5))


def _lay_glass(
    colours: np.ndarray, clear: list[Part], pose: Pose, camera: Perspective, nearest: np.ndarray, fine: int
) -> None:
    """Clear lenses swallow a little light and mirror a little."""
    mesh = merged(clear)
    points = pose(mesh.points_m)
    hits, pixels = _looked(points, mesh, camera, fine)
    pixels = pixels[hits.nearness.reshape(-1)[pixels] > nearest[pixels]]
    at = interpolated(mesh.coordinates, mesh.faces, hits, pixels)
    colours[pixels] = colours[pixels] * (1 - _CLEAR) + _MIRRORED * clear[0].paint(at)


def _averaged(fine: Float32[np.ndarray, "f f 3"], side: int) -> Float32[np.ndarray, "s s 3"]:
    return np.stack([covered(np.ascontiguousarray(fine[..., k]), side) for k in range(3)], -1)


def _visible(
    posed: np.ndarray, head: HeadModel, camera: Perspective, hidden: np.ndarray, owner: np.ndarray
) -> Bool[np.ndarray, " V"]:
    """Vertices that the camera sees: the one definition of visibility, in a frame where perspective is parallel."""
    points = jnp.asarray(posed, jnp.float32)
    place, near = np.asarray(camera.project(points), np.float64), np.asarray(camera.nearness(points), np.float64)
    # Straight lines stay straight under (x/d, y/d, 1/d), so what hides what stays too; one metre at z = 0 stays one.
    distance, scale = float(camera.distance_m), float(camera.scale_px_per_m)
    warped = np.stack([place[:, 0] / scale, -place[:, 1] / scale, distance * (distance * near - 1.0)], 1)
    seen = facing_camera(jnp.asarray(warped - warped.mean(0), jnp.float32), head.faces)
    side = len(hidden)
    column, row = np.floor(place).astype(int).T
    inside = (column >= 0) & (column < side) & (row >= 0) & (row < side)
    column, row = column.clip(0, side - 1), row.clip(0, side - 1)
    fine_column, fine_row = (np.floor(place * FINER).astype(int).clip(0, len(owner) - 1)).T
    return seen & inside & ~hidden[row, column] & (owner[fine_row, fine_column] == 0)

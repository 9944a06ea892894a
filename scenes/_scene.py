"""A rendered photo of an occluded face with everything known about it."""

from collections.abc import Iterator, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, PRNGKeyArray, UInt8

from diverse3d import InputError
from diverse3d._suggest import nearest
from diverse3d.head import HeadModel, load_head, population
from diverse3d.surface import Perspective

from ._draw import Drawing, draw

OCCLUDERS = (
    "clear-glasses", "dark-glasses", "surgical-mask", "scarf", "hand", "hair", "microphone", "random-shape", "none",
)  # fmt: skip
"""What may lie before a face."""
SIDE_PX = 384
"""Side of the square pictures."""
_CHUNK = 64
_SEED = 4004


class Scene(eqx.Module):
    """A rendered photo with its truth. Pixels have x right and y down, with centres at +0.5."""

    rgb: UInt8[np.ndarray, "H W 3"]
    """The photo, sRGB."""
    face: Bool[np.ndarray, "H W"]
    """Where the head's face region (eyeballs included) would be seen if no occluder were there. The person's own hair
    and clothes are no occluders: where they lie before the face, it isn't seen."""
    skin: Bool[np.ndarray, "H W"]
    """Where any of the head's own surface is seen: not behind an occluder, nor the person's own hair or clothes."""
    hidden: Bool[np.ndarray, "H W"]
    """Where an occluder covers at least half of the pixel, on the face or beside it."""
    landmarks68_px: Float[np.ndarray, "68 2"]
    """The true landmarks, projected."""
    vertices_m: Float[np.ndarray, "V 3"]
    """The true head in the camera's frame (x right, y up, z to the camera), metres."""
    camera: Perspective
    """The camera: `camera.project(vertices_m)` lands on the picture."""
    visible: Bool[np.ndarray, " V"]
    """Vertices inside the picture that face the camera and that neither the head nor anything else hides."""
    melanin: float = eqx.field(static=True)
    """Skin tone: -2 very light … 2.3 very dark."""
    occluder: str = eqx.field(static=True)
    """One of `OCCLUDERS`."""
    yaw_deg: float = eqx.field(static=True)
    """Turn to the picture's right."""
    pitch_deg: float = eqx.field(static=True)
    """Turn downwards."""
    roll_deg: float = eqx.field(static=True)
    """Turn in the picture, anticlockwise."""


def draw_scene(
    head: HeadModel,
    truth_vertices: Float[np.ndarray, "V 3"],
    *,
    key: PRNGKeyArray,
    occluder: str | None = None,
    backgrounds: Sequence[UInt8[np.ndarray, "_ _ 3"]] = (),
) -> Scene:
    """A photo of a head (metres, in the head model's frame) as one person in one setting, behind one occluder.

    `occluder` is one of `OCCLUDERS`; None draws one. The same key gives the same person, pose, light and camera with
    any occluder. `backgrounds` are photos to stand before; without any, backgrounds are made up. Raises `InputError`
    for an unknown occluder or a head without landmarks.
    """
    if occluder is None:
        occluder = OCCLUDERS[int(jax.random.randint(jax.random.fold_in(key, 9), (), 0, len(OCCLUDERS)))]
    if occluder not in OCCLUDERS:
        raise InputError(f"There is no occluder '{occluder}'{nearest(occluder, OCCLUDERS)}.")
    if head.landmarks68 is None or "face" not in head.regions:
        raise InputError("Scenes need a head with 68 landmarks and a region 'face'; the embedded head has both.")
    made: Drawing = draw(head, np.asarray(truth_vertices, np.float64), key, occluder, backgrounds, SIDE_PX)
    return Scene(
        rgb=made.rgb,
        face=made.face,
        skin=made.skin,
        hidden=made.hidden,
        landmarks68_px=made.landmarks68_px,
        vertices_m=made.vertices_m,
        camera=made.camera,
        visible=made.visible,
        melanin=made.melanin,
        occluder=occluder,
        yaw_deg=made.pose.yaw_deg,
        pitch_deg=made.pose.pitch_deg,
        roll_deg=made.pose.roll_deg,
    )


def scenes(
    split: str,
    count: int,
    start: int = 0,
    *,
    head: HeadModel | None = None,
    occluders: Sequence[str] = OCCLUDERS,
    backgrounds: Sequence[UInt8[np.ndarray, "_ _ 3"]] = (),
) -> Iterator[Scene]:
    """Scenes `start` … `start + count - 1` of a split ("train", "validation", "test"): other heads, other draws.

    Occluders take turns. Scene i depends on the split, i, `occluders` and `backgrounds` alone. Raises `InputError` for
    an unknown split.
    """
    if split not in population.SPLITS:
        raise InputError(f"unknown split {split!r}; choose one of {', '.join(population.SPLITS)}")
    head = load_head() if head is None else head
    seed = jax.random.key(population.SPLITS[split] + _SEED, impl="threefry2x32")
    for first in range(start, start + count, _CHUNK):
        truths = np.asarray(population.split(split, min(_CHUNK, start + count - first), start=first).vertices)
        for i, truth in enumerate(truths, first):
            key = jax.random.fold_in(seed, jnp.uint32(i))
            yield draw_scene(head, truth, key=key, occluder=occluders[i % len(occluders)], backgrounds=backgrounds)

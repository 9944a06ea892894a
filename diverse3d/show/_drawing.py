"""The pictures of a result, drawn once for the contact sheet and for the report."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from ..diversify import Completions
from ..fit import Fit, PhotoFit
from ..observe import Observation, PhotoObservation
from ._colour import uncertainty_colours
from ._panels import head_frame, mesh_panels, photo_panels, visibility_colours
from ._render import Paint, View, frame_of, paint, render_views
from ._texture import Textures

LARGEST_SHEET = 24
"""Completions that a sheet shows at most."""

PANEL = 390
"""Height of the panels of what was given, and width of those of a photo."""

HEAD_WIDTH, HEAD_HEIGHT = 168, 246
_PANEL_HEAD = 286
_FINER = (3, 2)  # how much finer heads are drawn than shown: there are many
_SIDE_YAW, THREE_QUARTER_YAW, _PORTRAIT_YAW = -90.0, -50.0, -35.0


class Panel(NamedTuple):
    """One picture of the upper row."""

    picture: Image.Image
    """The picture."""
    caption: str
    """What it shows."""


class Drawing(NamedTuple):
    """All pictures of a result, or of a fit alone."""

    given: list[Panel]
    """The photo with its mask and landmarks and the fit over it, or the partial mesh from two sides."""
    fitted: list[Panel]
    """The fit; of a fit alone, from two sides."""
    uncertainty: list[Panel]
    """The spread over the completions on the fit, from two sides; nothing of a fit alone."""
    shown: Int[np.ndarray, " n"]
    """Completions that are drawn, the most central one first."""
    heads: UInt8[np.ndarray, "n 2 h w 3"]
    """Each of them from the front and at three quarters, textured or in clay, sRGB on white."""
    textured: bool
    """Whether the heads wear the photo's texture."""


def draw(
    seen: Observation,
    fit: Fit,
    faces: Int[np.ndarray, "F 3"],
    completions: Completions | None = None,
    textures: Textures | None = None,
) -> Drawing:
    """Draw a result, all heads at one scale; of more completions than `LARGEST_SHEET`, the most central ones."""
    fitted = np.asarray(fit.vertices_m, np.float64)
    worn = None if textures is None else paint(textures.uv, textures.fit)
    tinted = visibility_colours(np.asarray(fit.visible))
    yaws = (0.0, _SIDE_YAW)
    frame = frame_of(fitted, aspect=_PANEL_HEAD / PANEL, margin=1.03, yaws=(0.0, _SIDE_YAW))
    views = [View(fitted, yaw, tinted, worn if completions is not None else None) for yaw in yaws]
    captions = ["fit, front", "fit, side"] if worn else ["fit, front (blue: hidden)", "fit, side"]
    uncertainty: list[View] = []
    if completions is not None:
        views = views[:1]
        colours = uncertainty_colours(completions.uncertainty)
        uncertainty = [View(fitted, yaw, colours) for yaw in (0.0, _PORTRAIT_YAW)]
    pictures = render_views([*views, *uncertainty], faces, height=PANEL, width=_PANEL_HEAD, frame=frame)
    panels = [Panel(Image.fromarray(picture), caption) for picture, caption in zip(pictures, captions, strict=False)]
    if isinstance(seen, PhotoObservation) and isinstance(fit, PhotoFit):
        shots = photo_panels(seen.photo, fit, faces, PANEL)
        given = [Panel(shots[0], "given"), Panel(shots[1], "fit in the picture (blue: hidden)")]
    else:
        shots = mesh_panels(fit, faces, frame, height=PANEL, width=_PANEL_HEAD, yaws=yaws)
        given = [Panel(shots[0], "given, front"), Panel(shots[1], "given, side")]
    shown, heads = np.zeros(0, np.int32), np.zeros((0, 2, HEAD_HEIGHT, HEAD_WIDTH, 3), np.uint8)
    if completions is not None:
        shown = completions.order[:LARGEST_SHEET]
        heads = _portraits(completions, fit, faces, shown, textures)
    spread = [Panel(Image.fromarray(picture), "") for picture in pictures[len(views) :]]
    return Drawing(given, panels[: len(views)], spread, shown, heads, textures is not None)


def _portraits(
    completions: Completions,
    fit: Fit,
    faces: Int[np.ndarray, "F 3"],
    shown: Int[np.ndarray, " n"],
    textures: Textures | None,
) -> UInt8[np.ndarray, "n 2 h w 3"]:
    heads, yaws = head_frame(np.asarray(completions.vertices)[shown], fit), (0.0, _PORTRAIT_YAW)
    frame = frame_of(heads.reshape(-1, 3), aspect=HEAD_WIDTH / HEAD_HEIGHT, margin=1.02, yaws=yaws)
    worn: list[Paint | None] = [None] * len(shown)
    if textures is not None:
        worn = [paint(textures.uv, textures.heads[index]) for index in shown]
    views = [View(head, yaw, None, skin) for head, skin in zip(heads, worn, strict=True) for yaw in yaws]
    height, width = (side * _FINER[0] // _FINER[1] for side in (HEAD_HEIGHT, HEAD_WIDTH))
    drawn = render_views(views, faces, height=height, width=width, frame=frame, times=1)
    small = [Image.fromarray(one).resize((HEAD_WIDTH, HEAD_HEIGHT), Image.Resampling.LANCZOS) for one in drawn]
    return np.stack([np.asarray(one) for one in small]).reshape(-1, 2, HEAD_HEIGHT, HEAD_WIDTH, 3)

"""The contact sheet: one picture of what was given, the fit, and every completion from two sides."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..diversify import Completions
from ..fit import Fit, PhotoFit
from ..observe import Observation, PhotoObservation
from ._colour import UNCERTAINTY_FULL_MM, uncertainty_colours
from ._panels import draw_mark, head_frame, mesh_panels, photo_panels, visibility_colours
from ._render import View, frame_of, render_views

LARGEST_SHEET = 24
"""Completions that a sheet shows at most."""

_COLUMNS, _HEAD_WIDTH, _HEAD_HEIGHT = 5, 150, 200
_PANEL, _PANEL_HEAD = 400, 300
_MARGIN, _GAP, _LINE = 32, 14, 26
_WIDTH = 2 * _MARGIN + _COLUMNS * 2 * _HEAD_WIDTH + (_COLUMNS - 1) * _GAP
_SIDE_YAW, THREE_QUARTER_YAW = -90.0, -50.0
INK, GREY = (35, 35, 35), (105, 105, 105)
"""Colours of titles, and of what explains them."""


def contact_sheet(
    seen: Observation, fit: Fit, faces: np.ndarray, completions: Completions | None = None
) -> Image.Image:
    """Contact sheet of a result, or of a fit alone; sRGB on white, about 1600 pixels wide.

    The upper row shows the photo (or the partial mesh) and the fit, hidden surface tinted blue. Below stand the
    completions, coloured by the spread of each vertex over all of them, all at one scale, each from the front and at
    three quarters; of more than `LARGEST_SHEET`, the most central ones.
    """
    faces = np.asarray(faces)
    parts = [_titles(seen, fit, completions), _upper_row(seen, fit, faces)]
    if completions is not None:
        shown = np.arange(len(completions.vertices))
        if len(shown) > LARGEST_SHEET:
            shown = completions.order[:LARGEST_SHEET]
        parts += [_heading(completions, len(shown)), *_grid(completions, fit, faces, shown)]
    height = 2 * _MARGIN + sum(part.height for part in parts) + _GAP * (len(parts) - 1)
    sheet = Image.new("RGB", (_WIDTH, height), "white")
    y = _MARGIN
    for part in parts:
        sheet.paste(part, (_MARGIN, y))
        y += part.height + _GAP
    return sheet


def _titles(seen: Observation, fit: Fit, completions: Completions | None) -> Image.Image:
    report = fit.report
    if isinstance(seen, PhotoObservation):
        count = int(seen.photo.landmark_visible.sum())
        measure = (
            f"visible landmarks of the fit: {float(report.landmark_rms_px):.2f} px RMS, "
            f"{100 * float(report.landmark_rms_interocular):.2f} % of the inter-ocular distance; "
            f"{count} of {len(seen.photo.landmark_visible)} points seen"
        )
    else:
        measure = f"visible vertices of the fit: {float(report.visible_rms_mm):.2f} mm RMS"
    visible = np.asarray(fit.visible)
    what = "fit" if completions is None else f"{len(completions.vertices)} completions by {completions.method}"
    lines = Image.new("RGB", (_WIDTH - 2 * _MARGIN, 2 * _LINE + 6), "white")
    draw = ImageDraw.Draw(lines)
    draw.text((0, 0), f"{seen.source}: {what}", fill=INK, font=font(22))
    text = f"{measure}; {int(visible.sum())} of {visible.size} vertices visible"
    draw.text((0, _LINE + 6), text, fill=GREY, font=font(15))
    return lines


def _upper_row(seen: Observation, fit: Fit, faces: np.ndarray) -> Image.Image:
    fitted = np.asarray(fit.vertices_m, np.float64)
    frame = frame_of(fitted, aspect=_PANEL_HEAD / _PANEL)
    tinted = visibility_colours(np.asarray(fit.visible))
    views = [View(fitted, yaw, tinted) for yaw in (0.0, _SIDE_YAW)]
    pictures = [Image.fromarray(p) for p in render_views(views, faces, height=_PANEL, width=_PANEL_HEAD, frame=frame)]
    captions = ["fit, front (blue: hidden)", "fit, side"]
    if isinstance(seen, PhotoObservation) and isinstance(fit, PhotoFit):
        pictures = photo_panels(seen.photo, fit, faces, _PANEL) + pictures
        captions = ["", "fit in the picture", *captions]
    else:
        yaws = (0.0, _SIDE_YAW)
        pictures = mesh_panels(fit, faces, frame, height=_PANEL, width=_PANEL_HEAD, yaws=yaws) + pictures
        captions = ["given, front", "given, side", *captions]
    row = Image.new("RGB", (_WIDTH - 2 * _MARGIN, _PANEL + _LINE), "white")
    draw = ImageDraw.Draw(row)
    space = (row.width - sum(picture.width for picture in pictures)) // (len(pictures) - 1)
    x = 0
    for picture, caption in zip(pictures, captions, strict=True):
        row.paste(picture, (x, 0))
        draw.text((x, _PANEL + 6), caption, fill=GREY, font=font(15))
        x += picture.width + space
    if isinstance(fit, PhotoFit):
        _legend(draw, [("dot", "detected"), ("ring", "under the mask"), ("cross", "fit")])
    return row


def _legend(draw: ImageDraw.ImageDraw, entries: Sequence[tuple[str, str]]) -> None:
    x = 6.0
    for kind, text in entries:
        draw_mark(draw, np.array([x, _PANEL + 15.0]), kind, 1)
        draw.text((x + 10, _PANEL + 6), text, fill=GREY, font=font(15))
        x += 30 + draw.textlength(text, font=font(15))


def _heading(completions: Completions, shown: int) -> Image.Image:
    """What the heads below are, and the scale of their colours."""
    count = len(completions.vertices)
    text = "Completions, front and three-quarter view"
    if shown < count:
        text += f": the {shown} most central of {count}"
    line = Image.new("RGB", (_WIDTH - 2 * _MARGIN, _LINE + 4), "white")
    draw = ImageDraw.Draw(line)
    draw.text((0, 4), text, fill=INK, font=font(18))
    bar = uncertainty_colours(np.linspace(0.0, UNCERTAINTY_FULL_MM, 160))
    right = line.width - 70
    line.paste(Image.fromarray(np.repeat(bar[None], 14, axis=0)), (right - 160, 8))
    draw.text((right + 8, 6), f"{UNCERTAINTY_FULL_MM:g} mm", fill=GREY, font=font(15))
    label = "spread over the completions: 0"
    draw.text((right - 168 - draw.textlength(label, font=font(15)), 6), label, fill=GREY, font=font(15))
    return line


def _grid(completions: Completions, fit: Fit, faces: np.ndarray, shown: np.ndarray) -> list[Image.Image]:
    """Rows of numbered pairs."""
    colours = uncertainty_colours(completions.uncertainty)
    heads = head_frame(np.asarray(completions.vertices)[shown], fit)
    frame = frame_of(heads.reshape(-1, 3), aspect=_HEAD_WIDTH / _HEAD_HEIGHT)
    views = [View(head, yaw, colours) for head in heads for yaw in (0.0, THREE_QUARTER_YAW)]
    drawn = render_views(views, faces, height=_HEAD_HEIGHT, width=_HEAD_WIDTH, frame=frame)
    rows = []
    for number, (front, side) in enumerate(drawn.reshape(-1, 2, *drawn.shape[1:])):
        column = number % _COLUMNS
        if not column:
            rows.append(Image.new("RGB", (_WIDTH - 2 * _MARGIN, _HEAD_HEIGHT), "white"))
        x = column * (2 * _HEAD_WIDTH + _GAP)
        rows[-1].paste(Image.fromarray(np.concatenate([front, side], axis=1)), (x, 0))
        ImageDraw.Draw(rows[-1]).text((x, 0), f"{shown[number]:02d}", fill=INK, font=font(17))
    return rows


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The typeface of all pictures, size in pixels."""
    return ImageFont.load_default(size)

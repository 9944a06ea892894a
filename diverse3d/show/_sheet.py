"""The contact sheet: one picture of what was given, the fit, how sure it is, and every completion from two sides."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..diversify import Completions
from ..fit import Fit, PhotoFit
from ..observe import Observation, PhotoObservation
from ._colour import UNCERTAINTY_FULL_MM, uncertainty_colours
from ._drawing import HEAD_HEIGHT, HEAD_WIDTH, PANEL, Drawing
from ._panels import draw_mark

_COLUMNS, _MARGIN, _GAP, _LINE = 5, 32, 14, 26
_INNER = _COLUMNS * 2 * HEAD_WIDTH + (_COLUMNS - 1) * _GAP
WIDTH = _INNER + 2 * _MARGIN
"""Of every sheet, in pixels."""

INK, GREY = (35, 35, 35), (105, 105, 105)
"""Colours of titles, and of what explains them."""


def contact_sheet(seen: Observation, fit: Fit, drawing: Drawing, completions: Completions | None = None) -> Image.Image:
    """Contact sheet of a result, or of a fit alone; sRGB on white, `WIDTH` pixels wide.

    The upper row shows the photo (or the partial mesh), the fit, and the spread of each vertex over the completions in
    millimetres. Below stand the completions as they are, the most central one first, all at one scale, each from the
    front and at three quarters.
    """
    parts = [_titles(seen, fit, completions), _upper_row(fit, drawing)]
    if completions is not None:
        parts += [_heading(completions, drawing), *_grid(drawing)]
    height = 2 * _MARGIN + sum(part.height for part in parts) + _GAP * (len(parts) - 1)
    sheet = Image.new("RGB", (WIDTH, height), "white")
    y = _MARGIN
    for part in parts:
        sheet.paste(part, (_MARGIN, y))
        y += part.height + _GAP
    return sheet


def summary_of(seen: Observation, fit: Fit) -> str:
    """How well the fit meets what is seen, in words."""
    report, visible = fit.report, np.asarray(fit.visible)
    if isinstance(seen, PhotoObservation):
        count = int(seen.photo.landmark_visible.sum())
        measure = (
            f"visible landmarks of the fit: {float(report.landmark_rms_px):.2f} px RMS, "
            f"{100 * float(report.landmark_rms_interocular):.2f} % of the inter-ocular distance; "
            f"{count} of {len(seen.photo.landmark_visible)} points seen"
        )
    else:
        measure = f"visible vertices of the fit: {float(report.visible_rms_mm):.2f} mm RMS"
    return f"{measure}; {int(visible.sum())} of {visible.size} vertices visible"


def _titles(seen: Observation, fit: Fit, completions: Completions | None) -> Image.Image:
    what = "fit" if completions is None else f"{len(completions.vertices)} completions by {completions.method}"
    lines = Image.new("RGB", (_INNER, 2 * _LINE + 12), "white")
    draw = ImageDraw.Draw(lines)
    draw.text((0, 0), f"{seen.source}: {what}", fill=INK, font=font(26))
    draw.text((0, _LINE + 12), summary_of(seen, fit), fill=GREY, font=font(16))
    return lines


def _upper_row(fit: Fit, drawing: Drawing) -> Image.Image:
    panels = [*drawing.given, *drawing.fitted, *drawing.uncertainty]
    row = Image.new("RGB", (_INNER, PANEL + _LINE + 6), "white")
    draw, y = ImageDraw.Draw(row), PANEL + 10
    space = (row.width - sum(panel.picture.width for panel in panels)) // (len(panels) - 1)
    x, starts = 0, []
    for panel in panels:
        starts.append(x)
        row.paste(panel.picture, (x, 0))
        x += panel.picture.width + space
    for panel, left in zip(panels, starts, strict=True):
        if isinstance(fit, PhotoFit) and left == 0:
            _marks(draw, y)
        else:
            draw.text((left, y), panel.caption, fill=GREY, font=font(16))
    if drawing.uncertainty:
        _scale(row, draw, starts[len(panels) - len(drawing.uncertainty)], y)
    return row


def _marks(draw: ImageDraw.ImageDraw, y: int) -> None:
    """What the photo's marks mean."""
    x = 6.0
    for kind, text in (("dot", "detected"), ("ring", "under the mask"), ("cross", "fit")):
        draw_mark(draw, np.array([x, y + 10.0]), kind, 1)
        draw.text((x + 10, y), text, fill=GREY, font=font(16))
        x += 32 + draw.textlength(text, font=font(16))


def _scale(row: Image.Image, draw: ImageDraw.ImageDraw, left: int, y: int) -> None:
    """The colours of the spread, with their millimetres, under its panels and as wide as both."""
    text = "spread over the completions, mm:  0"
    draw.text((left, y), text, fill=GREY, font=font(16))
    start = round(left + draw.textlength(text, font=font(16))) + 10
    last = f"{UNCERTAINTY_FULL_MM:g} and more"
    end = round(row.width - draw.textlength(last, font=font(16)) - 10)
    bar = uncertainty_colours(np.linspace(0.0, UNCERTAINTY_FULL_MM, end - start))
    row.paste(Image.fromarray(np.repeat(bar[None], 12, axis=0)), (start, y + 5))
    draw.text((end + 10, y), last, fill=GREY, font=font(16))


def _heading(completions: Completions, drawing: Drawing) -> Image.Image:
    """What the heads below are."""
    count, shown = len(completions.vertices), len(drawing.shown)
    text = f"All {count}" if shown == count else f"The {shown} most central of {count}"
    how = "skin from the photo" if drawing.textured else "as clay"
    line = Image.new("RGB", (_INNER, _LINE + 12), "white")
    draw = ImageDraw.Draw(line)
    draw.line([0, 0, line.width, 0], fill=(226, 222, 218))
    draw.text((0, 14), text, fill=INK, font=font(20))
    right = f"from the most central to the most unusual; front and three-quarter view, {how}"
    draw.text((line.width - draw.textlength(right, font=font(16)), 17), right, fill=GREY, font=font(16))
    return line


def _grid(drawing: Drawing) -> list[Image.Image]:
    """Rows of numbered pairs."""
    rows: list[Image.Image] = []
    for number, (index, (front, side)) in enumerate(zip(drawing.shown, drawing.heads, strict=True)):
        column = number % _COLUMNS
        if not column:
            rows.append(Image.new("RGB", (_INNER, HEAD_HEIGHT), "white"))
        x = column * (2 * HEAD_WIDTH + _GAP)
        rows[-1].paste(Image.fromarray(np.concatenate([front, side], axis=1)), (x, 0))
        ImageDraw.Draw(rows[-1]).text((x, 0), f"{index:02d}", fill=GREY, font=font(17))
    return rows


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The typeface of all pictures, size in pixels."""
    return ImageFont.load_default(size)

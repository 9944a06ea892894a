"""The upper row of a contact sheet: what was given, and the fit."""

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_erosion

from ..fit import Fit, PhotoFit
from ..observe import IBUG68_FROM_MEDIAPIPE, Photo
from ._colour import CLAY
from ._render import Frame, View, render_over, render_views

SEEN, UNSEEN, FITTED = (20, 160, 70), (130, 130, 130), (225, 60, 40)
"""Colours of landmarks: detected and used, detected under the mask, fitted."""

HIDDEN_TINT = np.array([136, 166, 214], np.uint8)
"""Colour of hidden surface and of masked pixels."""

_FACE_SHARE = 0.52
_MARK_PX = 3.2


def head_frame(vertices_m: Float[np.ndarray, "*n V 3"], fit: Fit) -> Float[np.ndarray, "*n V 3"]:
    """World vertices in the head's own frame, where every head looks at the camera."""
    turn, shift = np.asarray(fit.turn, np.float64), np.asarray(fit.shift_m, np.float64)
    return (np.asarray(vertices_m, np.float64) - shift) @ turn


def visibility_colours(visible: Bool[np.ndarray, " V"]) -> UInt8[np.ndarray, "V 3"]:
    """Clay where seen, tinted where hidden."""
    return np.where(visible[:, None], CLAY[None], HIDDEN_TINT[None])


def photo_panels(photo: Photo, fit: PhotoFit, faces: Int[np.ndarray, "F 3"], side: int) -> list[Image.Image]:
    """The face in the photo with its mask and landmarks; the same with the fit drawn over it."""
    zoom, corner = _crop(photo, side)
    picture = np.asarray(_cut(photo.rgb, zoom, corner, side, Image.Resampling.LANCZOS, 255))
    hidden = np.asarray(_cut(photo.hidden.astype(np.uint8) * 255, zoom, corner, side, Image.Resampling.BILINEAR, 0))
    weight = 0.45 * (hidden / 255.0)[..., None]
    tinted = ((1 - weight) * picture + weight * HIDDEN_TINT).round().astype(np.uint8)

    def at(points_px: np.ndarray) -> np.ndarray:
        return (points_px - corner) * zoom

    sparse = list(IBUG68_FROM_MEDIAPIPE)
    detected, used = at(photo.landmarks_px[sparse]), photo.landmark_visible[sparse]
    marked = mark_landmarks(Image.fromarray(tinted), detected, used, at(np.asarray(fit.landmarks68_px, np.float64)))

    posed = np.asarray(fit.to_world(fit.vertices_m))
    pixels = at(np.asarray(fit.camera.project(posed), np.float64))
    nearness = posed[:, 2:].astype(np.float64) * float(fit.camera.scale_px_per_m) * zoom
    points = np.concatenate([pixels, nearness], axis=1)
    over = render_over(picture, points, faces, visibility_colours(np.asarray(fit.visible)))
    return [marked, Image.fromarray(over)]


def occluder_overlay(photo: Photo) -> UInt8[np.ndarray, "H W 3"]:
    """The photo with what hides the face tinted, by its probability where it was found, and the mask outlined."""
    probability = photo.hidden if photo.hidden_probability is None else photo.hidden_probability
    weight = 0.6 * probability[..., None]
    tinted = (1 - weight) * photo.rgb + weight * HIDDEN_TINT
    edge = photo.hidden ^ binary_erosion(photo.hidden, iterations=max(round(max(photo.hidden.shape) / 400), 1))
    return np.where(edge[..., None], FITTED, tinted.round()).astype(np.uint8)


def numbered_faces(photo: Photo) -> UInt8[np.ndarray, "H W 3"]:
    """The photo with its faces framed and numbered from left to right, the one that was taken in another colour."""
    picture = Image.fromarray(photo.rgb)
    draw = ImageDraw.Draw(picture)
    boxes = np.zeros((0, 4)) if photo.boxes_px is None else photo.boxes_px
    for number, (left, top, right, bottom) in enumerate(boxes.tolist(), start=1):
        colour, size = SEEN if number == photo.face else UNSEEN, max((right - left) / 5, 12)
        draw.rectangle([left, top, right, bottom], outline=colour, width=max(round(size / 10), 2))
        draw.rectangle([left, top, left + 1.3 * size, top + 1.3 * size], fill=colour)
        middle = (left + 0.65 * size, top + 0.65 * size)
        draw.text(middle, str(number), fill=(255, 255, 255), font=ImageFont.load_default(size), anchor="mm")
    return np.asarray(picture)


def mesh_panels(
    fit: Fit, faces: Int[np.ndarray, "F 3"], frame: Frame, *, height: int, width: int, yaws: tuple[float, float]
) -> list[Image.Image]:
    """A partial mesh from two sides: the triangles whose corners are all given."""
    visible = np.asarray(fit.visible)
    held = np.nan_to_num(np.asarray(fit.held_m, np.float64))
    # Left out without another shape to compile for: a triangle whose corners are one vertex covers nothing.
    given = np.where(visible[faces].all(axis=1, keepdims=True), faces, 0)
    pictures = render_views([View(held, yaw) for yaw in yaws], given, height=height, width=width, frame=frame)
    return [Image.fromarray(picture) for picture in pictures]


def mark_landmarks(
    picture: Image.Image,
    detected_px: Float[np.ndarray, "68 2"],
    used: Bool[np.ndarray, "68"],
    fitted_px: Float[np.ndarray, "68 2"],
) -> Image.Image:
    """Draw dots (detected and used), rings (detected under the mask) and crosses (fitted), smooth-edged."""
    scale = 3
    canvas = picture.resize((scale * picture.width, scale * picture.height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(canvas)
    for point, is_used in zip(detected_px, used, strict=True):
        draw_mark(draw, scale * point, "dot" if is_used else "ring", scale)
    for point in fitted_px:
        draw_mark(draw, scale * point, "cross", scale)
    return canvas.resize(picture.size, Image.Resampling.LANCZOS)


def draw_mark(draw: ImageDraw.ImageDraw, at: np.ndarray, kind: str, scale: int) -> None:
    """One landmark's mark; the sheet's legend draws the same ones."""
    radius, (x, y) = _MARK_PX * scale, at
    if kind == "cross":
        for sign in (-1, 1):
            line = [x - 0.8 * radius, y - sign * 0.8 * radius, x + 0.8 * radius, y + sign * 0.8 * radius]
            draw.line(line, fill=FITTED, width=round(1.3 * scale))
        return
    box = [x - radius, y - radius, x + radius, y + radius]
    if kind == "dot":
        draw.ellipse(box, fill=SEEN, outline=(255, 255, 255), width=max(scale // 2, 1))
    else:
        draw.ellipse(box, outline=UNSEEN, width=round(1.3 * scale))


def _crop(photo: Photo, side: int) -> tuple[float, np.ndarray]:
    """Panel pixels a photo pixel, and the photo position of the panel's corner: the face with some room around it."""
    low, high = photo.landmarks_px.min(0), photo.landmarks_px.max(0)
    extent = float((high - low).max()) / _FACE_SHARE
    return side / extent, (low + high) / 2 - extent / 2


def _cut(
    pixels: np.ndarray, zoom: float, corner: np.ndarray, side: int, resample: Image.Resampling, fill: int
) -> Image.Image:
    """The square panel's part of a picture, filled up where it reaches beyond."""
    extent = side / zoom
    border = int(np.ceil(extent))
    widths = [(border, border)] * 2 + [(0, 0)] * (pixels.ndim - 2)
    padded = Image.fromarray(np.pad(pixels, widths, constant_values=fill))
    x, y = (corner + border).tolist()
    return padded.resize((side, side), resample, box=(x, y, x + extent, y + extent))

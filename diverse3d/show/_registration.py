"""A registered scan as files: the head, its residual map, a picture and the record."""

import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..files import whole_folder, write_npz, write_png, write_record
from ..head import HeadModel
from ..register import ScanObservation
from ..surface import kabsch
from ._colour import CLAY, uncertainty_colours
from ._glb import write_glb
from ._machine import versions
from ._record import registration_facts
from ._render import View, frame_of, render_views
from ._sheet import font
from ._warnings import scan_notes

RESIDUAL_FULL_MM = 1.0
"""Residual at which the residual map's colours end."""

_HIDDEN = np.array([170, 190, 214], np.uint8)
_SIZE, _LINE, _MARGIN = 420, 30, 16


def save_registration(
    seen: ScanObservation, head: HeadModel, directory: str | os.PathLike[str], *, force: bool = False
) -> Path:
    """Write a registration into a folder, which appears whole or not at all, and return its path.

    `registered.npz` holds `vertices` in metres in the scan's frame and what goes with them, and is read by `complete`
    and by `train --data`; `registered.glb` wears the scan's colours, `residual.glb` how far the scan lies off it.
    Raises `InputError` when the folder can't be written or holds something (`force` replaces an older registration).
    """
    registration, faces = seen.registration, np.asarray(head.faces)
    vertices, visible = registration.vertices_m.astype(np.float32), registration.visible
    colours = np.where(visible[:, None], CLAY, _HIDDEN) if registration.colours is None else registration.colours
    with whole_folder(directory, force=force) as folder:
        arrays = {
            "vertices": registration.vertices_m,
            "faces": faces.astype(np.int32),
            "visible": visible,
            "normals": registration.normals,
            "along_m": registration.along_m,
            "across_m": registration.across_m,
            "residual_mm": (1e3 * registration.residual_m).astype(np.float32),
            "partner": registration.partner,
            "landmarks": registration.landmarks,
        }
        write_npz(folder / "registered.npz", arrays)
        write_glb(folder / "registered.glb", vertices, faces, colours)
        write_glb(folder / "residual.glb", vertices, faces, residual_colours(seen))
        write_png(folder / "registration.png", np.asarray(registration_picture(seen, head)))
        record = {
            "input": {"name": seen.source, "sha256": seen.sha256, "kind": "scan"},
            "head": {"name": head.name, "sha256": head.sha256 or None},
            "registration": registration_facts(registration),
            "residual_colours_end_mm": RESIDUAL_FULL_MM,
            "warnings": scan_notes(registration),
            "versions": versions(),
        }
        write_record(folder, record)
    return Path(directory)


def residual_colours(seen: ScanObservation) -> np.ndarray:
    """uint8 [V, 3]: how far the scan lies off each visible vertex; hidden ones blue."""
    residual = np.abs(1e3 * np.nan_to_num(seen.registration.residual_m))
    colours = uncertainty_colours(6.0 / RESIDUAL_FULL_MM * residual)
    return np.where(seen.registration.visible[:, None], colours, _HIDDEN)


def registration_picture(seen: ScanObservation, head: HeadModel) -> Image.Image:
    """The registered head and its residual map, front and side, with the verdict in words."""
    registration, faces = seen.registration, np.asarray(head.faces)
    turn, shift = kabsch(np.asarray(head.template_m, np.float64), registration.vertices_m)
    upright = (registration.vertices_m - shift) @ turn
    own = np.where(registration.visible[:, None], CLAY, _HIDDEN)
    skin = own if registration.colours is None else registration.colours
    residual = residual_colours(seen)
    views = [View(upright, yaw, colours) for colours in (skin, residual) for yaw in (0.0, 40.0)]
    drawn = render_views(views, faces, height=_SIZE, width=_SIZE, frame=frame_of(upright, aspect=1.0))
    picture = Image.new("RGB", (4 * _SIZE + 2 * _MARGIN, _SIZE + 3 * _LINE + 2 * _MARGIN), "white")
    for number, one in enumerate(drawn):
        picture.paste(Image.fromarray(one), (_MARGIN + number * _SIZE, _MARGIN + 2 * _LINE))
    draw, figures = ImageDraw.Draw(picture), registration.figures
    draw.text((_MARGIN, _MARGIN), f"{seen.source}: {registration.verdict}", fill="black", font=font(22))
    text = (
        f"{figures.points} points, unit {registration.unit}; {figures.residual_mm:.2f} mm off the registered head; "
        f"{figures.face_percent:.0f} % of the face seen"
    )
    draw.text((_MARGIN, _MARGIN + _LINE), text, fill=(110, 110, 110), font=font(15))
    foot = _MARGIN + 2 * _LINE + _SIZE + 4
    draw.text((_MARGIN, foot), "registered head (blue: not seen)", fill=(110, 110, 110), font=font(15))
    left = _MARGIN + 2 * _SIZE
    draw.text((left, foot), "off the scan: 0", fill=(110, 110, 110), font=font(15))
    bar = uncertainty_colours(np.linspace(0.0, 6.0, 160))
    picture.paste(Image.fromarray(np.repeat(bar[None], 14, axis=0)), (left + 110, foot + 2))
    draw.text((left + 278, foot), f"{RESIDUAL_FULL_MM:g} mm", fill=(110, 110, 110), font=font(15))
    return picture

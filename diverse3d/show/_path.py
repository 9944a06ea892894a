"""A path between two completions as files: meshes, one animated mesh, moving and still pictures, figures."""

import hashlib
import os
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from ..diversify import HeadPath
from ..files import npz_bytes, whole_folder, write_npz, write_record
from ..observe import write_png
from ._animation import animated_glb_bytes, gif_bytes
from ._colour import uncertainty_colours
from ._drawing import THREE_QUARTER_YAW
from ._glb import write_glb
from ._machine import versions
from ._panels import head_frame
from ._record import Run, completion_arrays
from ._render import View, frame_of, render_views
from ._sheet import GREY, INK, font
from ._stages import Stages

_WIDTH, _HEIGHT = 240, 326
_STRIP_WIDTH, _STRIP_HEIGHT = 150, 204
_LARGEST_STRIP = 11
_MARGIN, _LINE = 28, 26


PATH_RECORD_NAME = "path.json"
"""The file that marks a folder as a path."""


def save_path(
    path: HeadPath,
    directory: str | os.PathLike[str],
    *,
    force: bool = False,
    run: Run,
    stages: Stages | None = None,
) -> Path:
    """Write a path's heads, animation, pictures and figures into a folder, which appears whole or not at all.

    Raises `InputError` when the folder can't be written or holds something already (an older path is replaced with
    `force`).
    """
    stages = Stages() if stages is None else stages
    vertices, faces = np.asarray(path.vertices, np.float32), np.asarray(path.of.faces)
    colours = uncertainty_colours(path.of.uncertainty)
    with whole_folder(directory, force=force, record=PATH_RECORD_NAME) as folder:
        with stages("render"):
            pictures = _pictures(path)
            strip = _strip(path, pictures)
        with stages("write"):
            (folder / "meshes").mkdir()
            for index, head in enumerate(vertices):
                write_glb(folder / "meshes" / f"{index:02d}.glb", head, faces, colours)
            arrays = {
                "vertices": vertices,
                "alpha": np.asarray(path.alpha, np.float32),
                "visible_deviation_mm": path.visible_deviation_mm.astype(np.float32),
            }
            write_npz(folder / "path.npz", arrays)
            (folder / "path.glb").write_bytes(animated_glb_bytes(vertices, faces, colours))
            (folder / "path.gif").write_bytes(gif_bytes(pictures))
            write_png(folder / "path.png", np.asarray(strip))
        deviation, step = path.visible_deviation_mm, path.step_mm
        write_record(
            folder,
            {
                "from": path.first,
                "to": path.second,
                "frames": len(vertices),
                "plain": path.plain,
                "method": path.of.method,
                "noise": path.of.noise,
                "largest_visible_deviation_mm": deviation.max(),
                "visible_deviation_of_ends_mm": [deviation[0], deviation[-1]],
                "largest_visible_drift_mm": path.visible_drift_mm.max(),
                "largest_step_over_mean": path.largest_step,
                "mean_step_mm": step.mean(),
                "length_mm": step.sum(),
                "alpha": path.alpha,
                "visible_deviation_mm": deviation,
                "visible_drift_mm": path.visible_drift_mm,
                "step_mm": step,
                "completions_sha256": hashlib.sha256(npz_bytes(completion_arrays(path.of))).hexdigest(),
                "input": {"name": path.of.seen.source, "sha256": path.of.seen.sha256},
                "head": {"name": run.head_name, "sha256": run.head_sha256 or None},
                "versions": versions(),
                "seconds": stages.seconds,
            },
            PATH_RECORD_NAME,
        )
    return Path(directory)


def path_caption(path: HeadPath) -> str:
    """How far the visible part strays and how even the steps are, in words."""
    off = path.visible_deviation_mm
    step = f"largest step {path.largest_step:.2f} times the mean of {path.step_mm.mean():.2f} mm"
    if np.isnan(off).any():
        return f"nothing is visible; {step}"
    return f"visible part {off.max():.2f} mm RMS off at most, ends {off[0]:.2f} and {off[-1]:.2f}; {step}"


def _pictures(path: HeadPath) -> list[UInt8[np.ndarray, "H W 3"]]:
    """Each head from the front and at three quarters, side by side, all at one scale."""
    heads, faces = head_frame(np.asarray(path.vertices), path.of.fit), np.asarray(path.of.faces)
    colours = uncertainty_colours(path.of.uncertainty)
    frame = frame_of(heads.reshape(-1, 3), aspect=_WIDTH / _HEIGHT)
    views = [View(head, yaw, colours) for head in heads for yaw in (0.0, THREE_QUARTER_YAW)]
    drawn = render_views(views, faces, height=_HEIGHT, width=_WIDTH, frame=frame)
    return list(np.concatenate([drawn[::2], drawn[1::2]], axis=2))


def _strip(path: HeadPath, pictures: list[UInt8[np.ndarray, "H W 3"]]) -> Image.Image:
    """The heads in a row, front above three-quarter view; of many, some at equal intervals, the ends among them."""
    shown = np.unique(np.linspace(0, len(pictures) - 1, min(len(pictures), _LARGEST_STRIP)).round().astype(int))
    width = 2 * _MARGIN + max(len(shown), 5) * _STRIP_WIDTH
    strip = Image.new("RGB", (width, 2 * _MARGIN + 3 * _LINE + 2 * _STRIP_HEIGHT), "white")
    draw = ImageDraw.Draw(strip)
    title = f"{path.of.seen.source}: from completion {path.first} to {path.second} ({path.of.method})"
    draw.text((_MARGIN, _MARGIN), title, fill=INK, font=font(18))
    draw.text((_MARGIN, _MARGIN + _LINE), path_caption(path), fill=GREY, font=font(14))
    for column, index in enumerate(shown):
        x, y = _MARGIN + column * _STRIP_WIDTH, _MARGIN + 2 * _LINE
        for part in np.split(pictures[index], 2, axis=1):
            small = Image.fromarray(part).resize((_STRIP_WIDTH, _STRIP_HEIGHT), Image.Resampling.LANCZOS)
            strip.paste(small, (x, y))
            y += _STRIP_HEIGHT
        ends = {0: path.first, len(pictures) - 1: path.second}
        label = f"completion {ends[int(index)]}" if int(index) in ends else f"{float(path.alpha[index]):.3f}"
        middle = x + (_STRIP_WIDTH - draw.textlength(label, font=font(14))) / 2
        draw.text((middle, y + 4), label, fill=GREY, font=font(14))
    return strip

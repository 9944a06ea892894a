"""The mask of a photo on the page: painted on the photo itself, by numbers, or a picture that is uploaded."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw

from .._errors import InputError
from ..files import read_mask
from ..observe import Observation, PhotoObservation

Hidden = Bool[np.ndarray, "H W"]

WIDE_M, HIGH_M = 0.4, 0.33
"""Room for the photo in the scene."""

_FINEST = 900
"""Longer side of the photo in the scene, in pixels, at most: it is sent again with every move of the brush."""


class MaskPanel:
    """The photo with what hides the face, and what changes that."""

    def __init__(self, server: Any, run: Callable[[Hidden], None], paint: Callable[[], None]) -> None:
        """`run` completes the photo again behind a mask, `paint` has the photo put into the scene (`place`)."""
        gui, self._scene = server.gui, server.scene
        self._photo: Any = None
        self._last: tuple[float, float] | None = None
        self._seen: PhotoObservation | None = None
        self.hidden: Hidden = np.zeros((1, 1), bool)
        self._picture = gui.add_image(np.full((8, 8, 3), 255, np.uint8), visible=False)
        self.text = gui.add_markdown("Once ready, what hides a photo's face can be changed here.")
        onto = gui.add_button("Paint on the photo", disabled=True)
        self.size = gui.add_slider("Brush, % of the photo", 1, 30, 1, 8)
        self.rub = gui.add_checkbox("Rub out", False)
        self.kind = gui.add_dropdown("Or by numbers", ("rectangle", "round"))
        self.across = gui.add_multi_slider("From left to right, %", 0, 100, 1, (40, 60), disabled=True)
        self.down = gui.add_multi_slider("From top to bottom, %", 0, 100, 1, (40, 60), disabled=True)
        hide = gui.add_button("Hide there", disabled=True)
        show = gui.add_button("Show there", disabled=True)
        clear = gui.add_button("Hide nothing", disabled=True)
        upload = gui.add_upload_button("Upload a mask, white hides", mime_type="image/*", disabled=True)
        again = gui.add_button("Run again with this mask", disabled=True, color="blue")
        self._controls = [onto, self.across, self.down, hide, show, clear, upload, again]
        hide.on_click(lambda _: self._stroke(True))
        show.on_click(lambda _: self._stroke(False))
        clear.on_click(lambda _: self._set(np.zeros_like(self.hidden)))
        upload.on_upload(lambda _: self._upload(upload.value.name, upload.value.content))
        onto.on_click(lambda _: paint())
        again.on_click(lambda _: run(self.hidden.copy()))
        for handle in (self.across, self.down, self.kind):
            handle.on_update(lambda _: self._show())

    def show(self, seen: Observation) -> None:
        """Begin with the mask of an observation; of a mesh there is none."""
        photo = isinstance(seen, PhotoObservation)
        self._seen = seen if isinstance(seen, PhotoObservation) else None
        for control in self._controls:
            control.disabled = not photo
        self._picture.visible = photo
        if isinstance(seen, PhotoObservation):
            self.text.content = "Blue hides. Paint on the photo with the pointer; the outline is what the numbers say."
            self._set(seen.photo.hidden)
        else:
            self.text.content = "The input is no photo: its hidden vertices are marked in its file."

    def place(self, there: bool) -> None:
        """Put the photo into the scene, where a pointer paints on it, or take it away."""
        if self._photo is not None:
            self._photo.remove()
            self._photo = None
        if there and self._seen is not None:
            # Turned about x: pictures run downwards, the scene upwards.
            self._photo = self._scene.add_image("/photo", self._tinted(), *self._size_m(), wxyz=(0.0, 1.0, 0.0, 0.0))

            # On the server's own loop, where one move comes after the other.
            async def moved(event: Any) -> None:
                self.stroke(np.array(event.client.camera.position), np.array(event.end_position), event.phase)

            async def touched(event: Any) -> None:
                origin = np.array(event.ray_origin)
                for phase in ("start", "end"):
                    self.stroke(origin, origin + np.array(event.ray_direction), phase)

            self._photo.on_drag("left")(moved)
            self._photo.on_click(touched)

    def stroke(self, eye_m: Float[np.ndarray, "3"], point_m: Float[np.ndarray, "3"], phase: str) -> None:
        """Move the brush to where the line from an eye through a point of the scene meets the photo.

        A stroke has a `start`, an `end` and any moves between them.
        """
        height, width = self.hidden.shape
        wide, high = self._size_m()
        depth = float(eye_m[2] - point_m[2])
        if abs(depth) < 1e-6:  # seen from its edge
            return
        at = (eye_m + (point_m - eye_m) * eye_m[2] / depth).clip(-1.0, 1.0)
        now = (width * (at[0] / wide + 0.5), height * (0.5 - at[1] / high))
        before = now if phase == "start" or self._last is None else self._last
        self._last = None if phase == "end" else now
        radius = self.size.value / 200 * max(height, width)
        picture = Image.fromarray(self.hidden)
        draw, fill = ImageDraw.Draw(picture), not self.rub.value
        draw.line([before, now], fill=fill, width=max(round(2 * radius), 1))
        for x, y in (before, now):
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=fill)
        self.hidden = np.asarray(picture, bool)
        if phase == "end":
            self._show()
        elif self._photo is not None:
            self._photo.image = self._tinted()

    def _size_m(self) -> tuple[float, float]:
        height, width = self.hidden.shape
        scale = min(WIDE_M / width, HIGH_M / height)
        return scale * width, scale * height

    def brush(self) -> Hidden:
        """Pixels under the brush that the numbers say."""
        height, width = self.hidden.shape
        (left, right), (top, bottom) = self.across.value, self.down.value
        x, y = (100.0 * (np.arange(size) + 0.5) / size for size in (width, height))
        if self.kind.value == "rectangle":
            inside: Hidden = ((y > top) & (y < bottom))[:, None] & ((x > left) & (x < right))[None]
            return inside
        across = (2 * x - left - right) / max(right - left, 1)
        down = (2 * y - top - bottom) / max(bottom - top, 1)
        round_: Hidden = down[:, None] ** 2 + across[None] ** 2 < 1.0
        return round_

    def _stroke(self, hide: bool) -> None:
        self._set(np.where(self.brush(), hide, self.hidden))

    def _set(self, hidden: Hidden) -> None:
        self.hidden = hidden
        self._show()

    def _tinted(self) -> UInt8[np.ndarray, "h w 3"]:
        """The photo with what hides it, no finer than the scene shows it."""
        assert self._seen is not None
        step = -(-max(self.hidden.shape) // _FINEST)
        rgb, hidden = self._seen.photo.rgb[::step, ::step], self.hidden[::step, ::step]
        tint = np.array([60, 110, 220])
        return np.where(hidden[..., None], 0.4 * rgb + 0.6 * tint, rgb).round().astype(np.uint8)

    def _show(self) -> None:
        from scipy.ndimage import binary_erosion

        if self._seen is None:
            return
        picture = self._tinted()
        if self._photo is not None:
            self._photo.image = picture
        step = -(-max(self.hidden.shape) // _FINEST)
        brush = self.brush()[::step, ::step]
        edge = brush ^ binary_erosion(brush, iterations=max(max(brush.shape) // 300, 1))
        self._picture.image = np.where(edge[..., None], [225, 60, 40], picture).astype(np.uint8)

    def _upload(self, name: str, content: bytes) -> None:
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"mask{Path(name).suffix[:8]}"
                path.write_bytes(content)
                self._set(read_mask(path, self.hidden.shape))
        except InputError as error:
            said = str(error).replace(str(path), "The mask")
            self.text.content = f"**Not taken:** {said}"

"""The mask of a photo on the page: rectangles and round strokes by their numbers, or a picture that is uploaded."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from .._errors import InputError
from ..files import read_mask
from ..observe import Observation, PhotoObservation

Hidden = Bool[np.ndarray, "H W"]


class MaskPanel:
    """The photo with what hides the face, and what changes that."""

    def __init__(self, gui: Any, run: Callable[[Hidden], None]) -> None:
        """`run` completes the photo again behind a mask."""
        self._run = run
        self._seen: PhotoObservation | None = None
        self.hidden: Hidden = np.zeros((1, 1), bool)
        self._picture = gui.add_image(np.full((8, 8, 3), 255, np.uint8), visible=False)
        self.text = gui.add_markdown("Once ready, what hides a photo's face can be changed here.")
        self.kind = gui.add_dropdown("Brush", ("rectangle", "round"))
        self.across = gui.add_multi_slider("From left to right, %", 0, 100, 1, (40, 60), disabled=True)
        self.down = gui.add_multi_slider("From top to bottom, %", 0, 100, 1, (40, 60), disabled=True)
        hide = gui.add_button("Hide there", disabled=True)
        show = gui.add_button("Show there", disabled=True)
        clear = gui.add_button("Hide nothing", disabled=True)
        upload = gui.add_upload_button("Upload a mask, white hides", mime_type="image/*", disabled=True)
        again = gui.add_button("Run again with this mask", disabled=True, color="blue")
        self._controls = [self.across, self.down, hide, show, clear, upload, again]
        hide.on_click(lambda _: self._stroke(True))
        show.on_click(lambda _: self._stroke(False))
        clear.on_click(lambda _: self._set(np.zeros_like(self.hidden)))
        upload.on_upload(lambda _: self._upload(upload.value.name, upload.value.content))
        again.on_click(lambda _: self._run(self.hidden.copy()))
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
            self.text.content = "Blue hides; the outline is where the brush is."
            self._set(seen.photo.hidden)
        else:
            self.text.content = "The input is no photo: its hidden vertices are marked in its file."

    def brush(self) -> Hidden:
        """Pixels under the brush."""
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

    def _show(self) -> None:
        from scipy.ndimage import binary_erosion

        if self._seen is None:
            return
        tint = np.array([60, 110, 220])
        picture = np.where(self.hidden[..., None], 0.4 * self._seen.photo.rgb + 0.6 * tint, self._seen.photo.rgb)
        brush = self.brush()
        edge = brush ^ binary_erosion(brush, iterations=max(max(brush.shape) // 300, 1))
        self._picture.image = np.where(edge[..., None], [225, 60, 40], picture).round().astype(np.uint8)

    def _upload(self, name: str, content: bytes) -> None:
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"mask{Path(name).suffix[:8]}"
                path.write_bytes(content)
                self._set(read_mask(path, self.hidden.shape))
        except InputError as error:
            said = str(error).replace(str(path), "The mask")
            self.text.content = f"**Not taken:** {said}"

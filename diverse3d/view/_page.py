"""The page: heads in a grid, one, two side by side or on a path, and what can be asked for."""

import dataclasses
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from .._errors import InputError, spelt_out
from ..observe import Observation, PhotoObservation
from ._masks import MaskPanel
from ._shown import Shown
from ._steer import LARGEST, Jobs, Steer

GRID, ONE, TWO, PATH, PHOTO = "all", "one", "side by side", "path from A to B", "the photo, to paint on"
SKIN, CLAY, SPREAD, SEEN = "skin", "clay", "spread in mm", "seen or hidden"

PAGE = 24
"""Heads of a page; of hundreds, the browser holds no more than this at once."""

_FIRST_LOOK_S = 3.0
"""How long a browser has the machine for itself to draw what it was given."""

_COLUMNS = 6
_WIDE, _HIGH = 0.25, 0.36
_FOV = 0.5
_CLAY = (200, 193, 187)


class Page:
    """What a server shows of a result, the same to everyone who looks."""

    def __init__(self, server: Any, shown: Shown, ready: Callable[[], Steer], *, idle_s: float = 0.0) -> None:
        """`shown` is there at once; `ready` makes what steering needs, which may take its time.

        That begins once somebody looks and has had a moment to see the heads, or after `idle_s` where nobody does.
        """
        self.server, self.shown = server, shown
        self.steer: Steer | None = None
        self.handles: dict[str, Any] = {}
        self._lock, self._wish = threading.RLock(), 0
        self._path: tuple[tuple[int, int], Float[np.ndarray, "F V 3"]] | None = None
        self._before: list[tuple[Shown, Any]] = []
        self._controls: list[Any] = []
        server.gui.configure_theme(show_logo=False, show_share_button=False, control_width="large")
        server.gui.main_panel.dock_right()
        server.scene.set_up_direction("+y")
        server.scene.configure_default_lights(cast_shadow=False)  # heads side by side would darken each other
        self._build()
        self.draw()
        self._looked, self._closed = threading.Event(), threading.Event()
        server.on_client_connect(lambda _: self._looked.set())
        self._jobs = Jobs(self._say)
        self._jobs.ask("Getting ready to steer: the fit is made again", lambda: self._ready(ready, idle_s))

    def stop(self) -> bool:
        """Begin nothing further; whether nothing is going on any more after a moment."""
        self._closed.set()
        self._looked.set()
        return self._jobs.stop()

    # What is on the page.

    def _build(self) -> None:
        gui = self.server.gui
        self.title = gui.add_markdown("")
        self.status = gui.add_markdown("")
        tabs = gui.add_tab_group()
        with tabs.add_tab("Look"):
            self.layout = gui.add_dropdown("Show", (GRID, ONE, TWO, PATH), initial_value=GRID)
            self.sheet = gui.add_slider("Page", 1, 2, 1, 1)
            self.a = gui.add_number("Head A", int(self.shown.order[0]), min=0, step=1)
            self.b = gui.add_number("Head B", int(self.shown.order[-1]), min=0, step=1)
            self.blend = gui.add_slider("From A to B", 0.0, 1.0, 0.05, 0.0, disabled=True)
            self.surface = gui.add_dropdown("Surface", (SKIN, CLAY, SPREAD, SEEN), initial_value=CLAY)
            self.wire = gui.add_checkbox("Wireframe", False)
            self.over = gui.add_checkbox("Fit over it", False)
            self.notes = gui.add_markdown("")
        with tabs.add_tab("Steer"):
            self.choice = gui.add_dropdown("Choose", ("most different",), disabled=True)
            self.count = gui.add_number("How many", len(self.shown.vertices), min=1, max=LARGEST, step=1)
            self.width = gui.add_slider(
                "Less or more diverse", 0.3, 1.7, 0.1, 1.0, hint="1 is the method's own; far above it, heads get odd."
            )
            again = gui.add_button("Draw again", disabled=True)
            gui.add_divider()
            self.region = gui.add_dropdown("Keep of head A its", ("face",), disabled=True)
            pin = gui.add_button("Pin and draw the rest", disabled=True)
            gui.add_divider()
            self.back = gui.add_button("Back to the ones before", disabled=True)
        with tabs.add_tab("Mask"):
            self.masks = MaskPanel(self.server, self._hide, self._paint)
        with tabs.add_tab("Save"):
            self.folder = gui.add_text("Folder", "view-out")
            save = gui.add_button("Save the result", disabled=True)
            one = gui.add_button("Download head A")
        self._controls = [self.choice, again, self.region, pin, save]
        for handle in (self.layout, self.sheet, self.surface, self.wire, self.over, self.a, self.b):
            handle.on_update(lambda _: self.draw())
        self.blend.on_update(lambda _: self._move())
        again.on_click(lambda _: self._ask("Drawing", self._again))
        pin.on_click(lambda _: self._ask("Pinning", self._pin))
        self.back.on_click(lambda _: self._return())
        save.on_click(lambda _: self._ask("Saving", self._save))
        one.on_click(self._download)
        self._describe()

    def _describe(self) -> None:
        """Names and numbers of what is shown."""
        shown = self.shown
        count = len(shown.vertices)
        self.title.content = f"**{count} heads** for {_plain(shown.source)}, by `{shown.method}`"
        self.notes.content = "\n\n".join(_plain(note) for note in shown.notes)
        pages = math.ceil(count / PAGE)
        self.sheet.max, self.sheet.visible = max(pages, 2), pages > 1
        self.sheet.value = min(self.sheet.value, pages)
        for handle in (self.a, self.b):
            handle.max = count - 1
            handle.value = min(handle.value, count - 1)
        if shown.skins(None) is None:
            self.surface.options = (CLAY, SPREAD, SEEN)
        elif SKIN not in self.surface.options or self.surface.value == CLAY:
            self.surface.options = (SKIN, CLAY, SPREAD, SEEN)
            self.surface.value = SKIN

    def _say(self, text: str, busy: bool) -> None:
        self.status.content = f"*{text}*" if busy else text

    # What is in the scene.

    def draw(self) -> None:
        """Put the heads that are asked for into the scene, one after the other in the places of those that were there.

        What is asked for meanwhile ends it.
        """
        self._wish = wish = self._wish + 1
        with self._lock:
            self._numbers()
            layout = self.layout.value
            self.masks.place(layout == PHOTO)
            self.blend.visible = layout == PATH
            self.b.visible = layout in (TWO, PATH)
            self._look()
            asked = self._asked()
            kept = {part for name, _ in asked for part in (name, f"{name}/label", f"{name}/fit")}
            for name in [name for name in self.handles if name not in kept]:
                self.handles.pop(name).remove()
            for place, (name, index) in enumerate(asked):
                if wish != self._wish:
                    return
                with self.server.atomic():
                    self._add(name, index, place)
        if layout == PATH:
            self._walk()

    def _numbers(self) -> None:
        last = len(self.shown.vertices) - 1
        for handle in (self.a, self.b):
            wanted = int(min(max(handle.value, 0), last))
            if handle.value != wanted:
                handle.value = wanted

    def _asked(self) -> list[tuple[str, int]]:
        """Names in the scene, and heads."""
        a, b = int(self.a.value), int(self.b.value)
        if self.layout.value == PHOTO:
            return []
        if self.layout.value == GRID:
            first = PAGE * (int(self.sheet.value) - 1)
            return [(f"/heads/{place}", int(index)) for place, index in enumerate(self.shown.order[first:][:PAGE])]
        if self.layout.value == TWO:
            return [("/a", a), ("/b", b)]
        return [("/path" if self.layout.value == PATH else "/a", a)]

    def _places(self) -> tuple[int, int]:
        """Columns and rows."""
        count = max(len(self._asked()), 1)
        columns = min(count, _COLUMNS)
        return columns, math.ceil(count / columns)

    def _place(self, place: int) -> tuple[np.ndarray, np.ndarray]:
        """Quaternion and position of a cell, which undo the head's own pose."""
        columns, rows = self._places()
        row, column = divmod(place, columns)
        middle = np.array([_WIDE * (column - (columns - 1) / 2), _HIGH * ((rows - 1) / 2 - row), 0.0])
        back = self.shown.turn.T
        return _quaternion(back), middle - back @ self.shown.shift_m

    def _add(self, name: str, index: int, place: int) -> None:
        scene, shown = self.server.scene, self.shown
        wxyz, position = self._place(place)
        at = {"wxyz": wxyz, "position": position}
        plain = name == "/path" or self.wire.value or self.surface.value == CLAY
        skin = None if plain else self._content(index)
        if skin is not None:
            head = scene.add_glb(name, skin, **at)
        else:
            head = scene.add_mesh_simple(
                name, shown.vertices[index], shown.faces, color=_CLAY, wireframe=self.wire.value, **at
            )
        self.handles[name] = head
        head.on_click(lambda _: self._focus(index))
        label = (position + shown.turn.T @ shown.shift_m) + [0.0, -_HIGH / 2 + 0.005, 0.0]
        self.handles[f"{name}/label"] = scene.add_label(f"/labels{name}", str(index), position=label)
        if (before := self.handles.pop(f"{name}/fit", None)) is not None:
            before.remove()
        if self.over.value:
            self.handles[f"{name}/fit"] = scene.add_mesh_simple(
                f"/fit{name}", shown.fit, shown.faces, color=(40, 110, 220), opacity=0.35, **at
            )

    def _content(self, index: int) -> bytes:
        """A head as GLB, with its skin or the colours that are asked for."""
        from ..show import glb_bytes

        skin = self.shown.skins(index) if self.surface.value == SKIN else None
        return skin or glb_bytes(self.shown.vertices[index], self.shown.faces, self._colours())

    def _colours(self) -> np.ndarray:
        from ..show import uncertainty_colours, visibility_colours

        if self.surface.value == SPREAD:
            return uncertainty_colours(self.shown.spread_mm)
        if self.surface.value == SEEN:
            return visibility_colours(self.shown.visible)
        return uncertainty_colours(np.zeros_like(self.shown.spread_mm))

    def _look(self) -> None:
        """The camera before all that is shown."""
        columns, rows = self._places()
        away = max(rows * _HIGH, columns * _WIDE / 1.2) / (2 * math.tan(_FOV / 2)) + 0.1
        cameras = [client.camera for client in self.server.get_clients().values()]
        for camera in (self.server.initial_camera, *cameras):
            camera.fov = _FOV
            camera.position = (0.0, 0.0, away)
            camera.look_at = (0.0, 0.0, 0.0)

    def _focus(self, index: int) -> None:
        self.a.value = index
        self.layout.value = ONE if self.layout.value == GRID else GRID
        self.draw()

    # The path.

    def _walk(self) -> None:
        """Find the path, unless it is there."""
        ends = int(self.a.value), int(self.b.value)
        if self._path is not None and self._path[0] == ends:
            self._move()
            return
        self.blend.disabled = True
        self._ask("Finding the path", lambda steer: self._found(ends, steer))

    def _found(self, ends: tuple[int, int], steer: Steer) -> str:
        self._path = ends, steer.path(*ends)
        self.blend.disabled = False
        self._move()
        return f"The path from {ends[0]} to {ends[1]}: its visible part is held all the way."

    def _move(self) -> None:
        """The head on the path where the slider stands."""
        with self._lock:
            head = self.handles.get("/path")
            if head is None or self._path is None or self._path[0] != (int(self.a.value), int(self.b.value)):
                return
            frames = self._path[1]
            at = self.blend.value * (len(frames) - 1)
            before = min(int(at), len(frames) - 2)
            share = np.float32(at - before)
            head.vertices = (1 - share) * frames[before] + share * frames[before + 1]

    # What is asked for.

    def _ask(self, what: str, job: Callable[[Steer], str]) -> None:
        def run() -> str:
            if self.steer is None:
                raise InputError("It can't be steered; see above.")
            return job(self.steer)

        self._jobs.ask(what, run)

    def _ready(self, ready: Callable[[], Steer], idle_s: float) -> str:
        if idle_s and self._looked.wait(idle_s):
            self._closed.wait(_FIRST_LOOK_S)
        if self._closed.is_set():
            return ""
        self.steer = steer = ready()
        self.choice.options, self.choice.value = steer.choices, steer.choice
        regions = tuple(sorted(steer.head.regions))
        if regions:
            self.region.options = regions
            self.region.value = "lips" if "lips" in regions else regions[0]
        self._mask_of(steer.result.seen)
        for control in self._controls:
            control.disabled = False
        return "Ready."

    def _again(self, steer: Steer) -> str:
        self._change(lambda: steer.draw(int(self.count.value), self.choice.value, float(self.width.value)))
        return f"{len(self.shown.vertices)} heads, {self.choice.value}."

    def _pin(self, steer: Steer) -> str:
        index, region = int(self.a.value), self.region.value
        self._change(
            lambda: steer.pin(index, region, int(self.count.value), self.choice.value, float(self.width.value))
        )
        return f"{len(self.shown.vertices)} heads that keep the {region} of head {index}, within 0.1 mm."

    def _mask_of(self, seen: Observation) -> None:
        self.masks.show(seen)
        layouts = (GRID, ONE, TWO, PATH)
        self.layout.options = (*layouts, PHOTO) if isinstance(seen, PhotoObservation) else layouts

    def _paint(self) -> None:
        self.layout.value = PHOTO

    def _hide(self, hidden: np.ndarray) -> None:
        def run(steer: Steer) -> str:
            self._change(lambda: steer.hide(hidden))
            self.layout.value = GRID
            self._mask_of(steer.result.seen)
            return f"{len(self.shown.vertices)} heads with the new mask."

        self._ask("Completing with the new mask: fit and all", run)

    def _change(self, make: Callable[[], None]) -> None:
        assert self.steer is not None
        before = self.shown, self.steer.result
        make()
        self._before.append(before)
        # What was read from a folder was named by the folder's record.
        self._replace(dataclasses.replace(Shown.of(self.steer.result), source=self.shown.source))

    def _replace(self, shown: Shown) -> None:
        with self._lock:
            self.shown, self._path = shown, None
            self._describe()
            self.back.disabled = not self._before
            if self.layout.value == PATH:
                self.layout.value = GRID
            self.draw()

    def _return(self) -> None:
        def run(steer: Steer) -> str:
            if not self._before:
                raise InputError("There are none before.")
            shown, steer.result = self._before.pop()
            self._replace(shown)
            self._mask_of(steer.result.seen)
            return "The ones before."

        self._ask("Going back", run)

    def _save(self, steer: Steer) -> str:
        return f"Saved to {_plain(str(Path(steer.save(self.folder.value)).resolve()))}."

    def _download(self, event: Any) -> None:
        index = int(self.a.value)
        content = self._content(index)
        if event.client is not None:
            event.client.send_file_download(f"{index:02d}.glb", content)


def _plain(text: str) -> str:
    """A user's text as Markdown shows it letter for letter."""
    return "".join(f"\\{sign}" if sign in "\\`*_{}[]()#+!|<>~-" else sign for sign in spelt_out(text))


def _quaternion(rotation: Float[np.ndarray, "3 3"]) -> np.ndarray:
    """w, x, y, z of a rotation matrix."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(rotation).as_quat()
    return np.array([w, x, y, z])

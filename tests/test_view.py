"""The page of a result: who may ask for it, what it shows, what it can be asked for, and what a browser makes of it."""

import dataclasses
import http.client
import io
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from helpers import draw_nothing, keep_picture, tiny_arrays
from PIL import Image
from safetensors.numpy import save_file

import diverse3d as d3
from diverse3d._errors import InputError
from diverse3d.cli import main
from diverse3d.fit import prepare
from diverse3d.head import load_head
from diverse3d.observe import observe_mesh

viser = pytest.importorskip("viser", reason="'view' needs viser: pip install 'diverse3d[view]'")

from diverse3d.view import Page, Shown, Steer, read_shown, serve  # noqa: E402
from diverse3d.view._masks import MaskPanel  # noqa: E402
from diverse3d.view._serve import choose_port, is_welcome  # noqa: E402
from diverse3d.view._steer import Jobs  # noqa: E402

COUNT = 26
SETTLED = "all done"


@pytest.fixture(scope="module")
def head_file(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("head") / "tiny.safetensors"
    save_file(tiny_arrays(), file, {"name": "tiny"})
    return file


@pytest.fixture(scope="module")
def result(head_file):
    """Completions of a tiny head whose upper third is seen."""
    head = load_head(head_file)
    truth = np.asarray(head.shaped(head.prior_mean + 0.5))
    seen = observe_mesh(truth, head=head, hidden=truth[:, 1] <= 0.06)
    return d3.complete(seen, head=head, n=COUNT, method="posterior", key=jax.random.key(3), noise="realistic")


@pytest.fixture(scope="module")
def folder(result, tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)
        return result.save(tmp_path_factory.mktemp("view") / "out", report=False)


@pytest.fixture(scope="module")
def page(result):
    """A page of it, ready to be steered."""
    steer = Steer(result, problem=prepare(result.head))
    with serve("127.0.0.1", None, "test") as server:
        shown = Page(server, Shown.of(result), lambda: steer)
        tell = shown._jobs._said
        shown.heard = []
        shown._jobs._said = lambda text, busy: (busy or shown.heard.append(text), tell(text, busy))
        settle(shown)
        yield shown
        shown.stop()


def settle(page, says: str = "") -> None:
    """Wait for what was asked for."""
    done = threading.Event()
    page._jobs.ask("Waiting", lambda: done.set() or SETTLED)
    assert done.wait(300)
    said = [text for text in page.heard if text != SETTLED]
    assert not says or says in said[-1], said[-3:]


def apart_mm(first, second):
    return 1e3 * np.linalg.norm(np.asarray(first) - np.asarray(second), axis=-1)


# Who may ask.


@pytest.mark.parametrize(
    ("host", "origin", "asked", "welcome"),
    [
        ("127.0.0.1:8000", None, "127.0.0.1", True),
        ("localhost:8000", "http://localhost:8000", "127.0.0.1", True),
        ("[::1]:8000", None, "::1", True),
        ("evil.example:8000", None, "127.0.0.1", False),
        ("127.0.0.1:8000", "http://evil.example", "127.0.0.1", False),
        ("127.0.0.1:8000", "null", "127.0.0.1", False),
        ("192.168.0.7:8000", None, "127.0.0.1", False),
        ("192.168.0.7:8000", "http://192.168.0.7:8000", "0.0.0.0", True),
        ("evil.example:8000", None, "0.0.0.0", False),
        ("", None, "127.0.0.1", False),
        ("[bad", None, "127.0.0.1", False),
    ],
)
def test_only_its_own_page_is_answered(host, origin, asked, welcome):
    assert is_welcome(host, origin, asked) == welcome


def test_the_server_checks_the_host_and_leaves_nothing_behind():
    with serve("127.0.0.1", None, "test") as server:
        port = server.get_port()
        for host, upgrade, code in (
            ("localhost", False, 200),
            ("evil.example", False, 403),
            ("evil.example", True, 403),
        ):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            headers = {"Host": f"{host}:{port}"}
            if upgrade:
                headers |= {
                    "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
                    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
                }  # fmt: skip
            connection.request("GET", "/", headers=headers)
            assert connection.getresponse().status == code
            connection.close()
        with pytest.raises(InputError, match=f"The port {port} is in use"):
            choose_port("127.0.0.1", port)
    assert choose_port("127.0.0.1", port) == port


def test_what_cannot_be_listened_at(monkeypatch):
    with pytest.raises(InputError, match="port 0 is out of range"):
        choose_port("127.0.0.1", 0)
    with pytest.raises(InputError, match="can't be listened at"):
        choose_port("203.0.113.7", None)
    monkeypatch.setattr("diverse3d.view._serve.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'diverse3d\[view\]'"), serve("127.0.0.1", None, ""):
        pass


# What is read.


def test_a_folder_is_shown_as_it_was_written(result, folder):
    from diverse3d.cli._stored import read_completions, read_record

    shown = read_shown(folder, read_record(folder)[0], read_completions(folder))
    other = Shown.of(result)
    np.testing.assert_array_equal(shown.vertices, other.vertices)
    np.testing.assert_array_equal(shown.order, other.order)
    assert shown.skins(0) is None and shown.source == other.source


def test_folders_that_are_no_result(folder, tmp_path, capsys):
    assert main(["view", str(tmp_path)]) == 2
    assert "holds no run.json" in capsys.readouterr().err
    assert main(["view", str(tmp_path / "none.png")]) == 2
    assert "no file" in capsys.readouterr().err
    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    content = bytearray((damaged / "completions.npz").read_bytes())
    content[5000] ^= 1
    (damaged / "completions.npz").write_bytes(content)
    assert main(["view", str(damaged)]) == 2
    assert "completions.npz" in (said := capsys.readouterr().err) and said.count("\n") == 1
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    record["files"]["completions.npz"] = "0" * 64
    shutil.copytree(folder, tmp_path / "changed")
    (tmp_path / "changed" / "run.json").write_text(json.dumps(record), encoding="utf-8")
    assert main(["view", str(tmp_path / "changed")]) == 2
    assert "it is damaged or was changed" in capsys.readouterr().err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["view", str(folder), "--port", str(taken.getsockname()[1])]) == 2
    assert "is in use" in capsys.readouterr().err


def test_ctrl_c_ends_it(folder, head_file):
    command = [sys.executable, "-c", "import sys; from diverse3d.cli import main; sys.exit(main())"]
    ran = subprocess.Popen(
        [*command, "view", str(folder), "--head", str(head_file)], stderr=subprocess.PIPE, text=True,
        cwd=Path(d3.__file__).parents[1],
    )  # fmt: skip
    try:
        line = ran.stderr.readline()
        assert line.startswith("open http://127.0.0.1:"), line
        port = int(line.split(":")[2].split()[0])
        ran.send_signal(signal.SIGINT)
        assert ran.wait(120) == 0
        assert choose_port("127.0.0.1", port) == port
    finally:
        ran.kill()
        ran.wait()
        ran.stderr.close()


# What can be asked for.


def test_pages_of_many(page):
    assert len([name for name in page.handles if name.count("/") == 2 and "label" not in name]) == 24
    page.sheet.value = 2
    page.draw()
    assert len([name for name in page.handles if name.startswith("/heads/") and "label" not in name]) == COUNT - 24
    page.sheet.value = 1
    many = dataclasses.replace(
        page.shown, vertices=np.resize(page.shown.vertices, (500, *page.shown.fit.shape)), order=np.arange(500)
    )
    before = page.shown
    page._replace(many)
    assert page.sheet.max == 21 and len(page.handles) == 48
    page.a.value = 900
    page.draw()
    assert page.a.value == 499, "there is no head 900"
    page._replace(before)
    assert page.a.max == COUNT - 1


def test_pin_keeps_what_it_should_and_back_goes_back(page, result):
    page.a.value, page.region.value, page.count.value = 4, "neck", 5
    page._ask("Pinning", page._pin)
    settle(page, "keep the neck of head 4")
    neck = np.asarray(result.head.regions["neck"])
    assert page.shown.vertices.shape[0] == 5
    assert apart_mm(page.shown.vertices, result.vertices[4])[:, neck].max() < 0.1
    page.width.value = 0.5
    page._ask("Drawing", page._again)
    settle(page, "5 heads, independent")
    assert apart_mm(page.shown.vertices, result.vertices[4])[:, neck].max() < 0.1, "it stays pinned"
    page.width.value = 1.0
    for _ in range(2):
        page._return()
    settle(page, "The ones before")
    np.testing.assert_array_equal(page.shown.vertices, Shown.of(result).vertices)
    page._return()
    settle(page, "There are none before")


def test_the_slider_changes_the_head(page, result):
    page.a.value, page.b.value, page.layout.value = 0, 7, "path from A to B"
    page.draw()
    settle(page, "path from 0 to 7")
    ends = np.asarray(result.vertices, np.float32)[[0, 7]]
    for value, expected in ((0.0, ends[0]), (1.0, ends[1])):
        page.blend.value = value
        page._move()
        np.testing.assert_allclose(page.handles["/path"].vertices, expected, atol=1e-6)
    page.blend.value = 0.5
    page._move()
    assert min(apart_mm(page.handles["/path"].vertices, end).max() for end in ends) > 0.1
    page.layout.value = "all"
    page.draw()


def test_what_fails_is_a_sentence_and_the_page_goes_on():
    said, done = [], threading.Event()
    jobs = Jobs(lambda text, busy: said.append((text, busy)))

    def wrong():
        raise InputError("Name a folder.")

    def odd():
        raise ZeroDivisionError("\x1b[31m")

    for job in (wrong, odd, lambda: done.set() or "fine"):
        jobs.ask("Trying", job)
    assert done.wait(30) and jobs.stop()
    texts = [text for text, busy in said if not busy]
    assert texts[0] == "**Not done:** Name a folder." and texts[2] == "fine"
    assert texts[1].startswith("**Failed:** ZeroDivisionError") and "\x1b" not in texts[1]


def bare(kind, **fields):
    """An object with these fields alone."""
    made = object.__new__(kind)
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    return made


def grey_photo():
    """An observation with pixels and nothing else."""
    from diverse3d.observe import PhotoObservation

    photo = SimpleNamespace(rgb=np.full((40, 60, 3), 200, np.uint8), hidden=np.zeros((40, 60), bool))
    return bare(PhotoObservation, photo=photo, source="x", sha256="", notes=())


@pytest.fixture
def server():
    with serve("127.0.0.1", None, "test") as started:
        yield started


def test_a_painted_mask_is_what_is_completed_behind(page, server, monkeypatch):
    """Strokes and uploads by their pixels, and the observation that they make."""
    from diverse3d._api import Result

    seen, ran = grey_photo(), []
    panel = MaskPanel(server, ran.append, lambda: None)
    panel.show(seen)
    panel.across.value, panel.down.value = (50, 100), (0, 50)
    panel._stroke(True)
    assert panel.hidden[:20, 30:].all() and panel.hidden.sum() == 20 * 30
    panel.kind.value = "round"
    panel._stroke(False)
    assert not panel.hidden[10, 45] and panel.hidden[0, 59]
    shown = np.asarray(panel._picture.image)
    assert (shown[0, 59] != shown[30, 5]).any()
    panel._set(np.zeros_like(panel.hidden))
    eye, away = np.array([0.0, 0.0, 2.0]), panel._size_m()
    for x, phase in ((-0.25, "start"), (0.0, "update"), (0.25, "end")):
        # The point lies before the photo: what counts is the line through it.
        panel.stroke(eye, (eye + [x * away[0], 0.25 * away[1], 0.0]) / 2, phase)
    rows, columns = np.nonzero(panel.hidden)
    assert (rows.mean() + 0.5, columns.mean() + 0.5) == pytest.approx((10, 30), abs=0.6)
    assert (np.ptp(columns), np.ptp(rows)) == pytest.approx((34, 5), abs=2)
    panel.rub.value = True
    for phase in ("start", "end"):
        panel.stroke(eye, np.array([0.0, 0.25 * away[1], 0.0]), phase)
    assert not panel.hidden[10, 30] and panel.hidden[10, 16]
    before = panel.hidden
    panel.stroke(eye, np.array([0.1, 0.0, 2.0]), "start")
    assert panel.hidden is before, "seen from its edge, nothing is painted"
    picture = io.BytesIO()
    Image.fromarray(np.eye(40, 60, dtype=np.uint8) * 255).save(picture, "PNG")
    panel._upload("m.png", picture.getvalue())
    assert panel.hidden.sum() == 40
    panel._upload("m.png", b"no picture")
    assert "Not taken" in panel.text.content and panel.hidden.sum() == 40
    asked = {}
    monkeypatch.setattr("diverse3d.view._steer.with_mask", lambda seen, hidden: asked.setdefault("hidden", hidden))
    made = bare(Result, seen=seen, run=page.steer.result.run, vertices=[1], method="posterior")
    monkeypatch.setattr("diverse3d._api.complete", lambda seen, **options: made)
    steer = Steer(bare(Result, seen=seen, run=page.steer.result.run, vertices=[1], method="posterior"))
    monkeypatch.setattr(Steer, "problem", lambda self: page.steer._problem)
    steer.hide(panel.hidden)
    assert asked["hidden"] is panel.hidden and steer.result is made
    with pytest.raises(InputError, match="Only a photo has a mask"):
        page.steer.hide(panel.hidden)


# In a browser.


def patient(browser):
    """A context for a browser that draws on a busy machine's processors."""
    context = browser.new_context(viewport={"width": 1000, "height": 650})
    context.set_default_timeout(120_000)
    return context


def scene(tab) -> np.ndarray:
    """The picture left of the panel."""
    with Image.open(io.BytesIO(tab.locator("canvas").first.screenshot())) as shot:
        return np.asarray(shot.convert("RGB")).astype(float)[:, 120:600]


def until(tab, holds, seconds: float = 60.0) -> np.ndarray:
    """The picture, once it is as it should be."""
    end = time.monotonic() + seconds
    while not holds(shown := scene(tab)):
        assert time.monotonic() < end, "the picture never was as it should be"
        tab.wait_for_timeout(200)
    return shown


def test_a_browser_shows_and_steers_it(page, browser, result):
    said, asked = [], []
    context = patient(browser)
    tab = context.new_page()
    # A head that another takes the place of while it loads is a blob that is no longer there.
    tab.on("console", lambda message: said.append(message.text)
           if message.type == "error" and not message.location["url"].startswith("blob:") else None)  # fmt: skip
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("websocket", lambda opened: asked.append(opened.url))
    address = f"127.0.0.1:{page.server.get_port()}"
    tab.goto(f"http://{address}")
    tab.get_by_text(f"{COUNT} heads").wait_for()
    grid = until(tab, lambda shown: shown.std() > 10)
    keep_picture(tab, "view-grid")
    tab.get_by_role("tab", name="Steer").click()
    tab.get_by_role("button", name="Pin and draw the rest").click()
    tab.get_by_text("heads that keep the").wait_for(timeout=120_000)
    neck = np.asarray(result.head.regions[page.region.value])
    assert apart_mm(page.shown.vertices, result.vertices[int(page.a.value)])[:, neck].max() < 0.1
    changed = until(tab, lambda shown: np.abs(shown - grid).max(axis=2).mean() > 1)
    keep_picture(tab, "view-pinned")
    # Closed in mid-run, the page is there again with what was done meanwhile.
    tab.get_by_role("button", name="Back to the ones before").click()
    tab.wait_for_timeout(500)  # for the click to be heard
    tab.close()
    settle(page, "The ones before")
    tab = context.new_page()
    tab.goto(f"http://{address}")
    tab.get_by_text(f"{COUNT} heads").wait_for()
    until(tab, lambda shown: shown.std() > 10 and np.abs(shown - changed).max(axis=2).mean() > 1)
    context.close()
    outside = [url for url in asked if not url.startswith((f"http://{address}", f"ws://{address}", "blob:", "data:"))]
    assert not said and not outside


def test_a_pointer_paints_what_hides_on_the_photo(page, browser):
    page._mask_of(grey_photo())
    page.masks._set(np.zeros((40, 60), bool))
    context = patient(browser)
    tab = context.new_page()
    tab.goto(f"http://127.0.0.1:{page.server.get_port()}")
    tab.get_by_role("tab", name="Mask").click()
    tab.get_by_role("button", name="Paint on the photo").click()
    box = tab.locator("canvas").first.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def centre():
        with Image.open(io.BytesIO(tab.screenshot())) as shot:
            return np.asarray(shot.convert("RGB")).astype(int)[round(middle[1]), round(middle[0])]

    end = time.monotonic() + 60
    while np.ptp(centre()) > 12 or centre().mean() > 240:  # until the grey photo is there
        assert time.monotonic() < end
        tab.wait_for_timeout(200)
    tab.mouse.move(*middle)
    tab.mouse.down()
    for step in range(1, 9):
        tab.mouse.move(middle[0] + 12 * step, middle[1])
        tab.wait_for_timeout(60)
    tab.mouse.up()
    while not page.masks.hidden.any() or centre()[2] < centre()[0] + 60:
        assert time.monotonic() < end, "nothing was painted"
        tab.wait_for_timeout(200)
    keep_picture(tab, "view-painted")
    rows, columns = np.nonzero(page.masks.hidden)
    assert abs(rows.mean() + 0.5 - 20) < 2, "it is where the pointer was"
    assert 24 < columns.min() < 31 and columns.max() > 34
    context.close()
    page._mask_of(page.steer.result.seen)
    assert page.layout.value == "all"


def test_without_webgl_the_page_says_so(page, browser):
    context = patient(browser)
    tab = context.new_page()
    tab.add_init_script("HTMLCanvasElement.prototype.getContext = () => null;")
    tab.goto(f"http://127.0.0.1:{page.server.get_port()}")
    tab.get_by_text("WebGL is unavailable").first.wait_for()
    context.close()


def test_three_plays_the_morphs_of_a_path(browser, result):
    """The page is three's, with its own reader of GLB: of a path to a head half as large, it shows what lies between."""
    from diverse3d.show import animated_glb_bytes, uncertainty_colours

    first = np.asarray(result.vertices[0], np.float32)
    path = np.stack([first, 0.75 * first, 0.5 * first])
    content = animated_glb_bytes(path, np.asarray(result.faces), uncertainty_colours(np.full(len(first), 20.0)))
    context, said = patient(browser), []
    with serve("127.0.0.1", None, "test") as server:
        server.scene.add_glb("/path", content, position=-first.mean(axis=0))
        server.initial_camera.position, server.initial_camera.look_at = (0.0, 0.0, 0.8), (0.0, 0.0, 0.0)
        tab = context.new_page()
        tab.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        tab.goto(f"http://127.0.0.1:{server.get_port()}")
        areas, end = [], time.monotonic() + 90
        while (
            len(areas) < 3
            or max(areas) < 2.5 * min(areas)
            or not any(1.2 * min(areas) < area < max(areas) / 1.2 for area in areas)
        ):
            assert time.monotonic() < end, areas
            with Image.open(io.BytesIO(tab.screenshot())) as shot:
                colours = np.asarray(shot.convert("RGB")).astype(int)[160:490, 330:660]
            if (area := int((np.ptp(colours, axis=2) > 40).sum())) > 500:
                areas.append(area)
        context.close()
    assert not said

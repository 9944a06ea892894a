"""The report: what it holds, and what a browser makes of it."""

import base64
import dataclasses
import html
import html.parser
import io
import itertools
import json
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import keep_picture
from PIL import Image

from diverse3d._api import complete, observe_mesh
from diverse3d.show import draw, report_page, save
from diverse3d.show._panels import head_frame
from diverse3d.show._report import LARGEST_REPORT, _skins
from diverse3d.show._texture import Textures
from diverse3d.show._words import distances_mm, metrics_in_words, verdict
from diverse3d.surface import linear_from_srgb

HOSTILE = '<img src=x onerror=alert(1)>"&.ply'
COUNT = 26


class Made(NamedTuple):
    """A result and its page."""

    result: object
    textures: Textures
    folder: object
    text: str


@pytest.fixture(scope="module")
def made(tiny_head, tmp_path_factory) -> Made:
    """Completions of a tiny head that wears a made-up skin, of an input with a name that means harm."""
    truth = np.asarray(tiny_head.shaped(tiny_head.prior_mean + 0.5))
    seen = observe_mesh(truth, head=tiny_head, hidden=truth[:, 1] <= -0.02)
    seen = dataclasses.replace(seen, source=HOSTILE)
    result = complete(seen, head=tiny_head, n=COUNT, method="posterior", key=jax.random.key(3), noise="exact")
    middle = result.vertices.mean(axis=0, keepdims=True)
    result = dataclasses.replace(result, vertices=middle + 5 * (result.vertices - middle))  # as different as real ones
    picture = np.zeros((32, 32, 3), np.uint8) + np.array([210, 160, 130], np.uint8)
    uv = np.random.default_rng(0).uniform(size=(tiny_head.n_vertices, 2))
    textures = Textures(uv, picture, [picture] * COUNT)
    folder = tmp_path_factory.mktemp("report") / "out"
    save(result, folder, run=result.run, textures=textures)
    return Made(result, textures, folder, (folder / "report.html").read_text(encoding="utf-8"))


def data_of(text: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def whole(text: str, kind: type) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)


class Links(html.parser.HTMLParser):
    """What a page refers to, and the tags that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found, self.tags, self.events = [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.found += [value for name, value in attributes if name in ("src", "href", "action", "data", "poster")]
        self.events += [name for name, _ in attributes if name.startswith("on")]


def test_it_refers_to_nothing_outside_and_escapes_what_users_give(made):
    links = Links(made.text)
    assert links.found and all(value.startswith("data:") for value in links.found)
    assert not links.events and not links.tags & {"iframe", "object", "embed", "form", "base"}
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', made.text)[1]
    assert "default-src 'none'" in policy and "connect-src" not in policy and policy.count("'sha256-") == 2
    assert HOSTILE not in made.text and "26 plausible heads for &lt;img src=x" in made.text
    assert "The MIT License" in made.text, "three's licence goes with every copy"


def test_it_holds_the_heads_to_half_a_step(made):
    result, data = made.result, data_of(made.text)
    assert data["heads"] == result.order.tolist()
    fit = whole(data["fit"], "<i2").reshape(-1, 3)
    heads = fit + whole(data["differences"], "<i2").reshape(COUNT, -1, 3)
    truth = head_frame(np.asarray(result.vertices)[result.order], result.fit)
    off = data["step"] * heads - truth
    assert data["step"] == 1e-5
    assert np.ptp(off, axis=(0, 1)).max() <= data["step"] * 1.001, "they differ by the frame's centre alone"
    np.testing.assert_array_equal(whole(data["faces"], "<u2").reshape(-1, 3), np.asarray(result.faces))
    np.testing.assert_allclose(whole(data["uv"], "<u2").reshape(-1, 2) / 65535, made.textures.uv, atol=1e-5)
    assert len(data["skins"]) == COUNT and len(made.text) < 2_000_000
    record = json.loads((made.folder / "run.json").read_text(encoding="utf-8"))
    for text in (record["head"]["name"], record["input"]["sha256"], str(record["seed"]), record["versions"]["jax"]):
        assert text in made.text


def pages(result, textures, record, times=1):
    faces = np.asarray(result.faces)
    drawing = draw(result.seen, result.fit, faces, result, textures)
    return [report_page(result, drawing, result.metrics(), record, textures) for _ in range(times)]


def test_the_same_result_gives_the_same_page(made):
    record = json.loads((made.folder / "run.json").read_text(encoding="utf-8"))
    first, second = pages(made.result, made.textures, record, 2)
    assert first == second
    assert data_of(first) == data_of(made.text)


def test_a_thousand_completions_stay_a_file_to_send(made):
    record = json.loads((made.folder / "run.json").read_text(encoding="utf-8")) | {"warnings": ["Look <here>."]}
    result = made.result
    many = jnp.concatenate([result.vertices + 1e-6 * k for k in range(39)])[:1000]
    codes = jnp.zeros(1000, jnp.int32).at[int(result.order[0])].set(1)
    more = dataclasses.replace(result, vertices=many, results=codes, latents=None)
    (text,) = pages(more, None, record)
    data = data_of(text)
    assert len(data["heads"]) == LARGEST_REPORT == len(set(data["heads"]))
    assert [data["heads"][0], data["heads"][-1]] == [more.order[0], more.order[-1]]
    assert f"{LARGEST_REPORT} of 1000" in text and "Look &lt;here&gt;." in text and len(text) < 5_000_000
    assert data["skin"] is None and 'value="skin"' not in text, "without a texture, heads are of clay"


@pytest.mark.parametrize("count", [20, LARGEST_REPORT])
def test_skins_of_pure_noise_stay_a_file_to_send(rng, count):
    """What compresses worst of all; a report of 20 heads is to be smaller than 15 MB."""
    picture = rng.integers(0, 256, (512, 512, 3), dtype=np.uint8)
    fit, heads = _skins(Textures(np.zeros((3, 2)), picture, [picture] * count), np.arange(count))
    assert len(heads) == count and 3e6 < len(fit) + sum(map(len, heads)) < 8.1e6


def test_the_record_is_in_the_page(made):
    record = json.loads((made.folder / "run.json").read_text(encoding="utf-8"))
    shown = json.loads(html.unescape(re.search(r'<pre tabindex="0">(.*?)</pre>', made.text, re.DOTALL)[1]))
    assert set(shown.pop("seconds")) == set(record.pop("seconds"))
    files = record.pop("files")  # the page itself among them, so not in it
    assert "report.html" in files and shown == record


def test_words():
    values = {"asd_v": 0.0, "asd_o": 2.26, "ratio": float("nan"), "visible_error": 0.016}
    assert verdict(values, 9).startswith(
        "Where the input shows the face, the heads lie 0.016\N{NO-BREAK SPACE}mm from it."
    )
    assert "0.016\N{NO-BREAK SPACE}mm from the fit: a photo tells little of depth" in verdict(values, 9, True)
    assert "noise alone" in verdict(values | {"asd_o": float("nan")}, 9)
    assert "Nothing of the face is visible" in verdict(values | {"visible_error": float("nan")}, 9)
    assert "One head says nothing" in verdict(values, 1)
    rows = {row.title: row for row in metrics_in_words(values)}
    assert (rows["ASD-O (hidden)"].value, rows["ASD-O (hidden)"].better) == ("2.26", "high is good")
    assert rows["ASD-O / ASD-V"].value == "–" and all(row.meaning for row in rows.values())
    heads = np.array([[[0.0, 0, 0]], [[0.001, 0, 0]], [[0.003, 0, 0]]])
    np.testing.assert_allclose(distances_mm(heads), [2.0, 1.5, 2.5])


def test_a_notebook_shows_the_sheet(made):
    text = made.result._repr_html_()
    assert text.startswith('<img alt="26 completions of &lt;img src=x') and HOSTILE not in text
    content = base64.b64decode(re.search('base64,([^"]*)', text)[1])
    with Image.open(io.BytesIO(content)) as shown:
        assert shown.size == made.result.plot().size


def luminance(colour: str) -> float:
    return float(linear_from_srgb(np.frombuffer(bytes.fromhex(colour), np.uint8)) @ [0.2126, 0.7152, 0.0722])


def test_text_stands_out_in_light_and_dark(made):
    """The contrast that WCAG's level AA wants of text, of every pair of colours that the page sets text in."""
    schemes = re.findall(r":root { color-scheme: (light|dark);(.*?)}", made.text, re.DOTALL)
    assert [name for name, _ in schemes] == ["light", "dark"]
    for _, rules in schemes:
        colours = dict(re.findall(r"--([\w-]+): #(\w{6})", rules))
        pairs = [(text, ground) for text in ("ink", "soft", "clay") for ground in ("paper", "card")]
        for text, ground in [*pairs, ("warm-ink", "warm"), ("paper", "ink"), ("paper", "clay")]:
            low, high = sorted(luminance(colours[name]) for name in (text, ground))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)


# In a browser.


class Open(NamedTuple):
    """An open report, what its console said, and what it asked for."""

    page: object
    said: list[str]
    asked: list[str]


@pytest.fixture
def opened(browser, made):
    """Open the report, by default as it comes; `script` runs before the page's own."""
    contexts = []

    def open_report(script: str | None = None, **options) -> Open:
        context = browser.new_context(viewport={"width": 1100, "height": 800}, **options)
        contexts.append(context)
        context.set_offline(True)
        page, said, asked = context.new_page(), [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith("data:") else asked.append(request.url))
        if script is not None:
            page.add_init_script(script)
        page.goto((made.folder / "report.html").as_uri())
        if script is None:
            page.wait_for_selector("html[data-drawn=yes]")
        return Open(page, said, asked)

    yield open_report
    for context in contexts:
        context.close()


def picture(page, selector: str) -> np.ndarray:
    """What an element looks like once all that was asked for is drawn."""
    page.locator(selector).first.scroll_into_view_if_needed()
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done())))")
    with Image.open(io.BytesIO(page.locator(selector).first.screenshot())) as shot:
        return np.asarray(shot.convert("RGB")).astype(float)


def differ(first: np.ndarray, second: np.ndarray) -> float:
    """Share of pixels that are another colour."""
    return float((np.abs(first - second).max(axis=2) > 8).mean())


def camera(page, selector: str) -> dict[str, str]:
    return page.locator(selector).first.evaluate("element => ({yaw: element.dataset.yaw, zoom: element.dataset.zoom})")


def cell(made: Made, rank: int) -> str:
    return f'#heads .view[data-head="{made.result.order[rank]}"]'


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_draws_and_asks_for_nothing(opened, made, scheme):
    page, said, asked = opened(color_scheme=scheme)
    page.wait_for_timeout(200)
    assert not said and asked == [(made.folder / "report.html").as_uri()]
    for selector in (".given .view", cell(made, 0), "#view-between"):
        shown = picture(page, selector)
        assert shown.std() > 10 and differ(shown, np.broadcast_to(shown[2, 2], shown.shape)) > 0.2, selector
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) > 600) == (scheme == "light")
    keep_picture(page, f"report-{scheme}")
    assert page.title() == f"{COUNT} plausible heads for {HOSTILE}"


def test_linked_cameras_move_together_and_keys_move_them(opened, made):
    page, said, _ = opened()
    first, second = cell(made, 0), cell(made, 1)
    before = [picture(page, at) for at in (first, second)]
    page.locator(first).focus()
    for key in ("ArrowRight", "ArrowRight", "+"):
        page.keyboard.press(key)
    after = [picture(page, at) for at in (first, second)]
    assert min(differ(*pair) for pair in zip(before, after, strict=True)) > 0.02
    assert camera(page, first) == camera(page, second) == {"yaw": "20.0", "zoom": "1.15"}
    page.locator("#linked").uncheck()
    box = page.locator(first).bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 20, box["y"] + 60)
    page.mouse.up()
    alone = [picture(page, at) for at in (first, second)]
    assert differ(after[0], alone[0]) > 0.02 and differ(after[1], alone[1]) == 0
    assert (camera(page, first)["yaw"], camera(page, second)["yaw"]) == ("40.0", "20.0")
    page.get_by_role("button", name="Front").click()
    page.locator(first).focus()
    page.keyboard.press("0")
    assert differ(before[0], picture(page, first)) < 0.01
    assert not said


def test_the_slider_walks_from_one_head_to_the_other(opened, made):
    page, said, _ = opened()
    last = made.result.order[-1]
    page.locator(f'#heads > li[data-index="{made.result.order[5]}"] [data-pick=b]').click()
    assert page.locator("#b").input_value() == str(made.result.order[5])
    page.locator("#b").select_option(str(last))
    page.get_by_text("Clay", exact=True).click()
    ends = [picture(page, at) for at in ("#view-a", "#view-b")]
    assert differ(*ends) > 0.01
    slider = page.locator("#blend")
    shown = {}
    for value in ("0", "0.5", "1"):
        slider.fill(value)
        shown[value] = picture(page, "#view-between")
    assert differ(shown["0"], ends[0]) < 0.01 and differ(shown["1"], ends[1]) < 0.01
    assert min(differ(shown["0.5"], end) for end in ends) > 0.003
    assert page.locator("#share").text_content() == "100 %"
    assert not said


def test_surfaces_wireframe_and_pages(opened, made):
    page, said, _ = opened()
    first = cell(made, 0)
    looks = [picture(page, first)]
    for text in ("Clay", "Spread in mm"):
        page.get_by_text(text, exact=True).click()
        looks.append(picture(page, first))
    page.locator("#wire").check()
    looks.append(picture(page, first))
    assert min(differ(a, b) for a, b in itertools.pairwise(looks)) > 0.02
    assert page.locator("#heads > li:visible").count() == 24
    page.locator("#on").click()
    assert page.locator("#heads > li:visible").count() == COUNT - 24
    assert picture(page, cell(made, 25)).std() > 10
    assert page.locator("#on").is_disabled() and "25 to 26 of 26" in page.locator("#page").text_content()
    assert not said


def test_without_webgl_there_are_pictures(opened, made):
    page, _, asked = opened("HTMLCanvasElement.prototype.getContext = () => null;")
    page.wait_for_timeout(200)
    assert page.locator(f"{cell(made, 0)} img:visible").count() == 2
    assert picture(page, cell(made, 0)).std() > 10
    assert page.locator(".no3d").is_visible() and not page.locator(".tools").is_visible()
    assert len(asked) == 1

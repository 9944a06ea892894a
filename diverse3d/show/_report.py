"""report.html: a result as one page that opens offline and asks no network for anything."""

import base64
import functools
import hashlib
import importlib.resources
import io
from collections.abc import Mapping
from typing import Any

import jinja2
import numpy as np
from jaxtyping import Int, UInt8
from markupsafe import Markup, escape
from PIL import Image

from ..diversify import Completions
from ..files import json_text
from ..fit import PICTURE_NOISE
from ..observe import PhotoObservation
from ..surface import HARMONIC_FACTORS, harmonics
from ._colour import CLAY, UNCERTAINTY_FULL_MM, uncertainty_colours
from ._drawing import Drawing
from ._panels import head_frame
from ._render import BACK, LAMP, RELIEF, frame_of
from ._sheet import summary_of
from ._texture import Textures
from ._words import all_well, facts_of, head_words, metrics_in_words, result_words, seconds_of, verdict

REPORT_NAME = "report.html"
"""The page's name in a result's folder."""

LARGEST_REPORT = 96
"""Completions that a report holds at most, so that it stays a file to send: of more, some at equal steps of the order
from the most central to the most unusual one, both of them among these."""

_SKINS_BYTES = 8_000_000
"""What skins may take together; where a photo is so full of detail that they would take more, they are made coarser."""

_COARSER = ((88, 1), (70, 1), (50, 1), (70, 2), (50, 2), (50, 4))
"""JPEG qualities, and how many texels are made one, in the order in which they are tried."""

_STEP_M = 1e-5
"""Positions are whole multiples of this, or of more where a head is larger than a third of a metre."""


def report_page(
    completions: Completions,
    drawing: Drawing,
    values: Mapping[str, float],
    record: Mapping[str, Any],
    textures: Textures | None,
) -> str:
    """The page of a result; `values` are its metrics, `record` is what `run.json` says."""
    ranks = np.arange(len(completions.vertices))
    if len(ranks) > LARGEST_REPORT:
        ranks = np.linspace(0, len(ranks) - 1, LARGEST_REPORT).round().astype(np.int64)
    shown = completions.order[ranks]
    words, codes = head_words(completions), np.asarray(completions.results)
    thumbs = {
        int(index): [_jpeg(view) for view in pair] for index, pair in zip(drawing.shown, drawing.heads, strict=True)
    }
    heads = [
        {
            "index": int(index),
            "name": f"{index:02d}",
            "words": words[rank],
            "result": result_words(int(codes[index])),
            "srcs": thumbs.get(int(index), []),
        }
        for rank, index in zip(ranks, shown, strict=True)
    ]
    count, source = len(completions.vertices), completions.seen.source
    is_photo = isinstance(completions.seen, PhotoObservation)
    files = {name: Markup(_resource(f"show/report/{name}")) for name in ("style.css", "viewer.js")}
    three = Markup(_resource("assets/three.min.js"))
    hashes = Markup(" ".join(_hash(text) for text in (three, files["viewer.js"])))
    said = summary_of(completions.seen, completions.fit)
    levels = np.linspace(0.0, UNCERTAINTY_FULL_MM, 13)
    ticks = [f"{level:g}" for level in levels[::4]]
    return _page().render(
        title=f"{'One plausible head' if count == 1 else f'{count} plausible heads'} for {source}",
        verdict=verdict(values, count, completions.noise == PICTURE_NOISE),
        all_well=all_well(completions),
        warnings=record["warnings"],
        photo=is_photo,
        panels=[
            {"src": _jpeg(np.asarray(panel.picture)), "caption": panel.caption, "marks": is_photo and not number}
            for number, panel in enumerate(drawing.given)
        ],
        fit_src=_jpeg(np.asarray(drawing.fitted[0].picture)),
        uncertainty_srcs=[_jpeg(np.asarray(panel.picture)) for panel in drawing.uncertainty],
        fit_words=f"{said[0].upper()}{said[1:]}.",
        gradient=", ".join("rgb({}, {}, {})".format(*colour) for colour in uncertainty_colours(levels).tolist()),
        ticks=[*ticks[:-1], f"{ticks[-1]} mm and more"],
        left_out=f"{len(heads)} of {count} at equal steps of that order." if len(heads) < count else "",
        surfaces=[*([("skin", "Skin")] if textures else []), ("clay", "Clay"), ("uncertainty", "Spread in mm")],
        heads=heads,
        metrics=metrics_in_words(values),
        facts=facts_of(record),
        seconds=seconds_of(record["seconds"]),
        record=json_text(record),
        data=_data(completions, shown, textures),
        style=files["style.css"],
        viewer=files["viewer.js"],
        three=three,
        hashes=hashes,
    )


def picture_html(picture: Image.Image, words: str) -> str:
    """A picture as an HTML element that holds it, as wide as there is room; `words` say what it shows."""
    source = _jpeg(np.asarray(picture))
    return f'<img alt="{escape(words)}" src="{source}" style="max-width: 100%">'


def _data(completions: Completions, shown: Int[np.ndarray, " n"], textures: Textures | None) -> dict[str, Any]:
    """What the page's script draws: whole numbers, little-endian, in base64."""
    heads = head_frame(np.asarray(completions.vertices)[shown], completions.fit)
    fit = np.asarray(completions.fit.vertices_m, np.float64)
    frame = frame_of(np.concatenate([fit[None], heads]).reshape(-1, 3), aspect=1.0, margin=1.04)
    fit, heads = fit - frame.centre_m, heads - frame.centre_m
    largest = max(np.abs(fit).max(), np.abs(heads).max(), np.abs(heads - fit).max())
    step = max(_STEP_M, float(largest) / np.iinfo(np.int16).max)
    whole = np.round(fit / step).astype(np.int16)
    width = np.ptp(fit[:, [0, 2]], axis=0).max()
    uv = np.zeros((len(fit), 2)) if textures is None else textures.uv
    wide = len(fit) > np.iinfo(np.uint16).max
    skin, skins = (None, list[str]()) if textures is None else _skins(textures, shown)
    return {
        "heads": shown.tolist(),
        "step": step,
        "radius": frame.height_m / 2,
        "aspect": float(width) / frame.height_m,
        "fit": _base64(whole),
        "differences": _base64((np.round(heads / step) - whole).astype(np.int16)),
        "faces": _base64(np.asarray(completions.faces, np.uint32 if wide else np.uint16)),
        "wide": wide,
        "uv": _base64(np.round(65535 * uv).astype(np.uint16)),
        "spread": _base64(uncertainty_colours(completions.uncertainty)),
        "skin": skin,
        "skins": skins,
        "lamp": (np.array(HARMONIC_FACTORS) * LAMP).tolist(),
        "facing": float(harmonics(np.array([0.0, 0.0, 1.0])) @ LAMP),
        "relief": RELIEF,
        "back": BACK,
        "clay": CLAY.tolist(),
    }


def _skins(textures: Textures, shown: Int[np.ndarray, " n"]) -> tuple[str, list[str]]:
    """The skin of the fit and those of the heads, all as fine as there is room for if they are like the fit's."""
    for quality, block in _COARSER:
        fit = _jpeg(textures.fit, quality, block)
        if (1 + len(shown)) * len(fit) <= _SKINS_BYTES:
            break
    return fit, [_jpeg(textures.heads[index], quality, block) for index in shown.tolist()]


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).tobytes()).decode()


def _jpeg(picture: UInt8[np.ndarray, "H W 3"], quality: int = 88, block: int = 1) -> str:
    """A picture as the address of itself; of `block` by `block` pixels, one is made."""
    content = io.BytesIO()
    Image.fromarray(picture).reduce(block).save(content, "JPEG", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"


def _hash(script: str) -> str:
    """How the page names a script that may run: by its bytes."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


@functools.cache
def _resource(name: str) -> str:
    return importlib.resources.files("diverse3d").joinpath(name).read_text(encoding="utf-8")


@functools.cache
def _page() -> jinja2.Template:
    """The template; whatever is put into it is escaped, but for the package's own script and style."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_resource("show/report/page.html"))

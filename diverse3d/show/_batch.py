"""What became of many faces: a table as CSV and as a page, and one picture of all."""

import csv
import importlib.resources
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image, ImageDraw

from .._errors import InputError, spelt_out
from ..files import RECORD_NAME, read_json, whole_file, write_png
from ..metrics import UNITS
from ._report import REPORT_NAME
from ._sheet import GREY, INK, font

COLUMNS = (
    "name", "state", "folder", "seed", "seconds", "asd_v", "asd_o", "ratio", "visible_error", "warnings", "reason",
)  # fmt: skip
"""Of the table."""

_FIGURES = ("asd_v", "asd_o", "ratio", "visible_error")
_TILES, _ACROSS, _WIDTH, _HEIGHT, _LINE = 40, 4, 480, 210, 26


def write_batch(out: Path, rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], part: str = "") -> Path:
    """Write `table.csv`, `table.html` and `contact-sheet.png` of a batch into its folder, and return the page's path.

    `rows` have name, content (whose result is `results/CONTENT`), state (done, there, again, refused, failed) and
    reason; `facts` are seconds and the device's share; `part` goes into the files' names.
    """
    suffix = f"-{part}" if part else ""
    table = [_row(out, row) for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in table:
        writer.writerow({name: _cell(row[name]) for name in COLUMNS})
    with whole_file(out / f"table{suffix}.csv") as aside:
        aside.write_text(text.getvalue(), encoding="utf-8")
    made = [row for row in table if row["folder"] and row["state"] != "again"]
    sheet = f"contact-sheet{suffix}.png"
    if made:
        write_png(out / sheet, np.asarray(_sheet(out, made)))
    page = out / f"table{suffix}.html"
    counts = {
        state: sum(row["state"] == state for row in table) for state in ("done", "there", "again", "refused", "failed")
    }
    with whole_file(page) as aside:
        aside.write_text(
            _template().render(rows=table, facts=facts, counts=counts, units=UNITS, sheet=sheet if made else None),
            encoding="utf-8",
        )
    return page


def _row(out: Path, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with what its result says."""
    folder = f"results/{row['content']}"
    table: dict[str, Any] = dict.fromkeys(COLUMNS, "")
    table |= {"name": spelt_out(row["name"]), "state": row["state"], "reason": spelt_out(row["reason"])}
    table |= {"look": "", "notes": []}
    if row["state"] in ("refused", "failed") or not (out / folder / RECORD_NAME).is_file():
        return table
    try:
        record, values = read_json(out / folder / RECORD_NAME), read_json(out / folder / "metrics.json")
        notes = [str(note) for note in record["warnings"]]
        table |= {name: round(values[name], 3) for name in _FIGURES if isinstance(values.get(name), int | float)}
        table |= {"seed": record["seed"], "seconds": round(sum(record["seconds"].values()), 1)}
    except (InputError, KeyError, TypeError, AttributeError):
        return table | {"reason": "its record can't be read"}
    look = REPORT_NAME if (out / folder / REPORT_NAME).is_file() else "contact-sheet.png"
    return table | {"folder": folder, "look": f"{folder}/{look}", "warnings": len(notes), "notes": notes}


def _cell(value: Any) -> Any:
    """A value that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value


def _sheet(out: Path, made: Sequence[Mapping[str, Any]]) -> Image.Image:
    """The upper part of up to 40 results' sheets, at equal steps of the table."""
    steps = np.linspace(0, len(made) - 1, min(_TILES, len(made))).round().astype(int)
    across = min(_ACROSS, len(steps))
    down = -(-len(steps) // across)
    sheet = Image.new("RGB", (across * (_WIDTH + 10) + 10, down * (_HEIGHT + _LINE + 10) + 10 + _LINE), "white")
    draw = ImageDraw.Draw(sheet)
    shown = f"all {len(made)}" if len(steps) == len(made) else f"{len(steps)} of {len(made)}"
    draw.text((10, 8), f"{shown} results", fill=INK, font=font(16))
    for number, index in enumerate(steps):
        row = made[index]
        x, y = 10 + number % across * (_WIDTH + 10), 10 + _LINE + number // across * (_HEIGHT + _LINE + 10)
        try:
            with Image.open(out / row["folder"] / "contact-sheet.png", formats=("PNG",)) as picture:
                tile = picture.convert("RGB")
        except (OSError, ValueError, Image.DecompressionBombError):
            draw.text((x, y), "no picture", fill=GREY, font=font(13))
            continue
        upper = (0, 0, tile.width, min(tile.height, round(tile.width * _HEIGHT / _WIDTH)))
        height = max(1, round(_WIDTH * upper[3] / tile.width))
        sheet.paste(tile.resize((_WIDTH, height), Image.Resampling.LANCZOS, box=upper, reducing_gap=2.0), (x, y))
        draw.text((x, y + _HEIGHT + 2), row["name"][-40:], fill=GREY, font=font(13))
    return sheet


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = importlib.resources.files("diverse3d").joinpath("show/report/batch.html").read_text(encoding="utf-8")
    return environment.from_string(text)

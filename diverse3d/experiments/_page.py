"""What an experiment leaves behind: SUITE.csv, SUITE.json and SUITE.html, each whole or not at all."""

import base64
import csv
import html
import io
from pathlib import Path
from typing import Any

from ..files import json_text, whole_file
from ._findings import Findings, Picture, Table

_STYLE = """
:root { color-scheme: light; --ink: #2b2724; --soft: #6f6963; --line: #e4dfda; --paper: #fbfaf8; --clay: #b63e54 }
body { margin: 0 auto; max-width: 76rem; padding: 2rem 1.5rem 4rem; color: var(--ink); background: var(--paper);
  font: 15px/1.5 system-ui, sans-serif }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1rem; margin: 2.2rem 0 .6rem }
p.about { color: var(--soft); max-width: 60rem; margin: .3rem 0 1.2rem }
ul { padding-left: 1.2rem } li.alarm { color: var(--clay) }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line) }
th { color: var(--soft); font-weight: 600; border-bottom-color: var(--soft) }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--paper) }
figure { margin: 0 } img { max-width: 100%; height: auto }
pre { font-size: 12px; overflow-x: auto; border-left: 3px solid var(--line); padding-left: 1rem }
"""


def write(findings: Findings, title: str, about: str, facts: dict[str, Any], out: Path, name: str) -> None:
    """Write the three files; raises `InputError` where they can't be."""
    figures = {"figures": findings.rows, "statements": findings.statements, "claims": findings.claims}
    content = {"suite": name, "title": title, **figures, "alarms": findings.alarms, **facts}
    for ending, text in (
        ("csv", _csv(findings.rows)),
        ("json", json_text(content)),
        ("html", _page(findings, title, about, json_text(facts))),
    ):
        with whole_file(out / f"{name}.{ending}") as aside:
            aside.write_text(text, encoding="utf-8", newline="")


def _csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    # Seven digits are more than any figure has; an undefined one is empty.
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.7g}" if value == value else ""
    return str(value)


def _page(findings: Findings, title: str, about: str, facts: str) -> str:
    said = "".join(f"<li>{html.escape(text)}</li>" for text in findings.statements)
    alarms = "".join(
        f"<li class=alarm>{html.escape(alarm['where'])}: {html.escape(alarm['sentence'])}</li>"
        for alarm in findings.alarms
    )
    parts = "".join(_table(part) if isinstance(part, Table) else _picture(part) for part in findings.parts)
    return (
        f'<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">'
        f"<title>diverse3d: {html.escape(title)}</title><style>{_STYLE}</style>"
        f"<h1>{html.escape(title)}</h1><p class=about>{html.escape(about)}</p>"
        + (f"<h2>What the figures say</h2><ul>{said}</ul>" if said else "")
        + (f"<h2>Gaming alarms</h2><ul>{alarms}</ul>" if alarms else "")
        + parts
        + f"<h2>How it was run</h2><details><summary>Configuration, versions, hashes</summary>"
        f"<pre>{html.escape(facts)}</pre></details></html>\n"
    )


def _table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(text)}</th>" for text in table.head)
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>" for row in table.rows)
    return (
        f"<h2>{html.escape(table.title)}</h2><div class=wide><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _picture(picture: Picture) -> str:
    # As an image: two drawings in one page would share the names of their parts.
    data = base64.b64encode(picture.svg.encode()).decode()
    title = html.escape(picture.title, quote=True)
    return f'<h2>{title}</h2><figure><img alt="{title}" src="data:image/svg+xml;base64,{data}"></figure>'

"""The documentation site builds, with every link and every public name, and asks nothing of other sites."""

import re
from pathlib import Path

import pytest

pytest.importorskip("zensical", reason="the extra [docs] is not installed")
pytest.importorskip("mkdocstrings", reason="the extra [docs] is not installed")

import diverse3d as d3
from diverse3d._methods import METHODS
from tools import site

COMMANDS = {"demo", "complete", "register", "export", "head template", "score", "train", "replay"}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "site"
    site.build(folder)
    return folder


def test_every_page_is_there_and_reached(built):
    pages = {page.stem for page in (site.ROOT / "docs").glob("*.md")} | {Path(name).stem for name in site.made_pages()}
    assert {page.stem for page in built.glob("*.html")} == pages | {"404"}
    shown = (built / "index.html").read_text(encoding="utf-8")
    assert not [page for page in pages if f'href="./{page}.html"' not in shown and page != "index"]


def test_public_names_commands_and_methods_are_documented(built):
    python = (built / "api.html").read_text(encoding="utf-8")
    missing = [name for name, place in site.public_names().items() if f'id="{place}"' not in python]
    assert not missing and "diverse3d._api.complete" in python
    commands = (built / "cli.html").read_text(encoding="utf-8")
    assert set(site.command_names()) >= COMMANDS
    assert all(f"usage: diverse3d {name}" in commands for name in site.command_names())
    assert all(f"<code>{name}</code>" in commands for name in METHODS)
    assert len(site.benchmarks_page(site.ROOT / "benchmarks" / "baseline.json").splitlines()) > 30


def test_a_name_without_a_docstring_ends_the_build(monkeypatch):
    places = {"spelt": "diverse3d.cli._head._imported", "complete": "diverse3d._api.complete"}
    assert site.undocumented(places) == ["spelt"]
    monkeypatch.setattr(site, "public_names", lambda: places)
    with pytest.raises(d3.InputError, match="not documented: spelt"):
        site.python_page()


def test_a_link_that_leads_nowhere_ends_the_build(monkeypatch, tmp_path):
    monkeypatch.setattr(site, "made_pages", lambda: {"cli.md": "# Commands\n\n[nowhere](nothing.md)\n"})
    with pytest.raises(d3.InputError, match=r"nothing\.md"):
        site.build(tmp_path / "site")
    assert not list(tmp_path.iterdir())


def test_nothing_is_asked_of_other_sites(built):
    for page in built.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        asked = re.findall(r'<(?:script|img|iframe|source|video)\b[^>]*\bsrc="([^"]+)"', text)
        asked += re.findall(r'<link\b(?![^>]*rel="(?:canonical|prev|next)")[^>]*\bhref="([^"]+)"', text)
        assert not [address for address in asked if "//" in address], page.name

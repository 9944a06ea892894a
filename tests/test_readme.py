"""What the README and its pages say can be done: commands that parse, Python that compiles, links that lead somewhere."""

import ast
import re
import shlex
from pathlib import Path

import pytest
import tyro

from diverse3d.cli._main import Command

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[list[str]]:
    """Arguments of each `diverse3d` command in a page's shell blocks."""
    lines = [line for block in blocks(page, "sh") for line in block.replace("\\\n", " ").splitlines()]
    parts = [part for line in lines for part in " ".join(shlex.split(line, comments=True)).split(" && ")]
    return [part.split()[1:] for part in parts if part.startswith("diverse3d ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_one(page):
    for arguments in commands(page):
        tyro.cli(Command, args=arguments, config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.FlagCreatePairsOff))


def test_the_readmes_commands_work_one_after_the_other():
    """No two write the same folder, and what they read is in the repository or was written by an earlier one."""
    written = set()
    for command in commands(ROOT / "README.md"):
        inputs = [word for word in command[1:] if "/" in word or word == "demo-out"]
        out = command[command.index("--out") + 1] if "--out" in command else None
        for name in (name for name in inputs if name != out):
            assert (ROOT / name).is_file() or name.split("/")[0] in written, name
        assert out not in written
        written |= {out}
    assert len(written) >= 5


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= 450


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_compiles_and_links_lead_somewhere(page):
    for code in blocks(page, "python"):
        ast.parse(code)
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, part = target.partition("#")
        if "://" in target:
            continue
        place = page if not file else (page.parent / file)
        assert place.exists(), f"{page.name}: {target}"
        if part:
            titles = re.findall(r"^#+ (.*)$", place.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles]
            assert part in slugs, f"{page.name}: {target}"

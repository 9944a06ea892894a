"""Build the documentation site: python -m tools.site OUT (pip install '.[docs]').

The pages of docs/ as they are, and what is made and not written: commands, methods, Python, examples, benchmarks. A
link that leads nowhere, or a public name without a docstring, ends it.
"""

import argparse
import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import typing
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import griffe

from diverse3d import InputError
from diverse3d.files import temporary_folder, whole_folder, write_record

ROOT = Path(__file__).resolve().parents[1]

READINGS = {
    "speed": "Times against PyTorch doing the same work in the same run: `over_usual` against the form people usually "
    "write, `over_matched` against the same algebra; × is how many times as fast, `best` the fastest of the repeats, "
    "`cpu` by processor time. `seconds` are this machine's own, and loose.",
    "quality": "Methods on heads whose truth is known: errors of the hidden part, diversity, energy score, coverage.",
    "fit": "Stage 1 on rendered photos and on meshes: how far the visible part lies off the truth.",
    "photos": "What hides the face, found without a mask on rendered photos, and the fit that follows.",
    "histogram": "How the fit's errors are distributed over rendered photos, as the published supplement has it.",
    "vae": "The masked mesh VAE alone, on heads of the test split.",
    "register": "Raw front scans without landmarks against their true heads, mm.",
}
"""What each suite of benchmarks/baseline.json measures, and how to read it."""

_GROUPS = {
    "Observe": ("observe_photo", "observe_mesh", "observe_scan"),
    "Complete": ("complete", "Result", "interpolate", "Interpolation", "fit", "prepare"),
    "Settings": ("METHODS", "DiversifyConfig", "FitConfig", "NoiseModel", "REGIONS"),
    "Heads": ("load_head", "head_from_arrays", "HeadModel", "HeadParameters", "write_mesh"),
}
"""The names that most people need, in the order of use; all others follow."""

SITE_RECORD = "site.json"
"""The file that marks a folder as a site of ours."""

_WIDTH = 110


def main() -> int:
    """Build the site into a folder that is new, or holds an older site and `--force` is given."""
    parser = argparse.ArgumentParser(prog="python -m tools.site", description=main.__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--force", action="store_true")
    arguments = parser.parse_args()
    try:
        build(arguments.out, force=arguments.force)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


BESIDE_THE_README = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "THREATS.md")
"""Pages that lie there."""


def build(out: Path, *, force: bool = False) -> None:
    """Write the site, whole or not at all; raises `InputError` where a link leads nowhere or a docstring is missing."""
    with temporary_folder() as place:
        shutil.copytree(ROOT / "docs", place / "docs")
        for name, content in made_pages().items():
            (place / "docs" / name).write_text(content, encoding="utf-8")
        for page in (place / "docs").glob("*.md"):  # links out of the folder lead to the page made of what is there
            text = page.read_text(encoding="utf-8").replace("](../examples)", "](examples.md)")
            for name in BESIDE_THE_README:
                text = text.replace(f"](../{name})", f"]({name.lower()})").replace(f"]({name})", f"]({name.lower()})")
            page.write_text(text, encoding="utf-8")
        settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
        (place / "mkdocs.yml").write_text(settings.replace('paths: ["."]', f"paths: [{json.dumps(str(ROOT))}]"))
        command = [sys.executable, "-m", "zensical", "build", "--strict", "-f", str(place / "mkdocs.yml")]
        ran = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        if ran.returncode:
            said = re.sub(r"\x1b\[[0-9;]*m", "", ran.stdout + ran.stderr).strip()
            raise InputError(f"The site can't be built:\n{said}")
        with whole_folder(out, force=force, record=SITE_RECORD) as folder:
            shutil.copytree(place / "site", folder, dirs_exist_ok=True)
            write_record(folder, {"pages": sorted(path.name for path in folder.glob("*.html"))}, SITE_RECORD)


def made_pages() -> dict[str, str]:
    """The pages that are made, by name."""
    return {
        "cli.md": commands_page(),
        "api.md": python_page(),
        "examples.md": examples_page(),
        "benchmarks.md": benchmarks_page(ROOT / "benchmarks" / "baseline.json"),
    } | {name.lower(): from_root(name) for name in BESIDE_THE_README}


def from_root(name: str) -> str:
    """A page that lies beside the README."""
    return (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")


def commands_page() -> str:
    """Every command's help as it prints it, and the table of methods."""
    from diverse3d._methods import DEFAULT_METHOD, METHODS, WITHOUT_WEIGHTS

    parts = [
        "# Commands and methods",
        "",
        "Made from the commands' own help and the table of methods.",
        "",
        "## Methods",
        "",
    ]
    parts += ["| method | what it does | sampler | choice | needs | pool | contraction | hold |", "|---" * 8 + "|"]
    for name, row in METHODS.items():
        needs = {"masked": "masked VAE", "residual": "residual VAE", None: "–"}[row.weights]
        numbers = [f"{value:g}" if value is not None else "–" for value in (row.pool, row.contraction, row.hold)]
        mark = {DEFAULT_METHOD: " (default)", WITHOUT_WEIGHTS: " (default without trained weights)"}.get(name, "")
        cells = [f"`{name}`{mark}", row.summary, row.sampler, row.choice, needs, *numbers]
        parts.append("| " + " | ".join(cells) + " |")
    parts += ["", "`--pool`, `--contraction` and `--hold` replace a method's own.", "", "## Commands", ""]
    for command in command_names():
        parts += [f"### {command}", "", "```text", help_of(command), "```", ""]
    return "\n".join(parts)


def command_names() -> list[str]:
    """All commands, those with several words too."""
    from diverse3d.cli._head import Head
    from diverse3d.cli._main import Command

    names = [_name(part) for part in typing.get_args(Command)]
    inner = [_name(part) for part in typing.get_args(typing.get_type_hints(Head, include_extras=True)["command"])]
    return [whole for name in names for whole in ([f"head {one}" for one in inner] if name == "head" else [name])]


def _name(part: Any) -> str:
    return str(next(extra.name for extra in typing.get_args(part)[1:] if hasattr(extra, "name")))


def help_of(command: str) -> str:
    """A command's help, as plain text of a fixed width."""
    from diverse3d.cli import main

    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(_WIDTH)
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            code = main([*command.split(), "--help"])
    finally:
        os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)
    if code:
        raise InputError(f"diverse3d {command} --help ended with {code}.")
    return re.sub(r"\x1b\[[0-9;]*m", "", said.getvalue()).strip("\n")


def python_page() -> str:
    """Every public name, each from its own docstring; one without ends the build."""
    places = public_names()
    missing = undocumented(places)
    if missing:
        raise InputError("Public, and not documented: " + ", ".join(missing))
    parts = ["# Python", "", "`import diverse3d as d3`; a name is loaded when it is first used.", ""]
    grouped = {name for group in _GROUPS.values() for name in group}
    for title, group in {**_GROUPS, "All others": tuple(name for name in places if name not in grouped)}.items():
        parts += [f"## {title}", ""]
        for name in group:
            parts += [f"::: {places[name]}", "    options:", f"      heading: {name}", f"      toc_label: {name}", ""]
    return "\n".join(parts)


def public_names() -> dict[str, str]:
    """What `import diverse3d` offers, and where each lies."""
    import diverse3d

    return {name: f"diverse3d.{diverse3d._MODULES[name]}.{name}" for name in sorted(diverse3d._MODULES)}


def undocumented(places: Mapping[str, str]) -> list[str]:
    """Public names, and those of public members of their own, that have no docstring."""
    loader = griffe.GriffeLoader(search_paths=[ROOT])
    for package in ("meshvae", "diverse3d"):
        loader.load(package)
    loader.resolve_aliases()
    found = []
    for name, place in places.items():
        thing = loader.modules_collection[place]
        thing = thing.final_target if thing.is_alias else thing
        parts = {name: thing}
        if thing.is_class:
            parts |= {f"{name}.{key}": part for key, part in thing.members.items() if not key.startswith("_")}
        found += [one for one, part in parts.items() if not part.is_alias and not part.has_docstring]
    return found


def examples_page() -> str:
    """The examples, each with its own first line as the title."""
    parts = [
        "# Examples",
        "",
        "Each runs as it is; the notebook `examples/quickstart.ipynb` is the first of them by steps.",
        "",
    ]
    for path in sorted((ROOT / "examples").glob("[0-9]*.py")):
        code = path.read_text(encoding="utf-8")
        title = code.split('"""')[1].split(":")[0]
        parts += [f"## {title}", "", f'```python title="{path.name}"', code.rstrip("\n"), "```", ""]
    return "\n".join(parts)


def benchmarks_page(baseline: Path) -> str:
    """Every number of the committed baseline, a table a suite."""
    stored = json.loads(baseline.read_text(encoding="utf-8"))
    suites: dict[str, list[tuple[list[str], dict[str, Any]]]] = defaultdict(list)
    for key, entry in stored["metrics"].items():
        suite, *rest = key.split("/")
        suites[suite].append((rest, entry))
    parts = [
        "# Benchmarks",
        "",
        "Every number that a change is held to (`python -m benchmarks SUITE --gate`), made from "
        "`benchmarks/baseline.json`: what is not here is held to nothing.",
        "",
    ]
    for suite, rows in sorted(suites.items()):
        kind = suite.partition("[")[0]
        if kind not in READINGS:
            raise InputError(f"benchmarks/baseline.json holds the suite '{kind}', which tools/site.py says nothing of.")
        parts += [f"## {suite}", "", READINGS[kind], "", *_table(rows), ""]
    parts += ["## Measured on", "", "| | processor | cores | Python | jax | others |", "|---" * 6 + "|"]
    for name, where in stored["environments"].items():
        others = ", ".join(f"{key} {value}" for key, value in where.items() if key in ("numpy", "equinox", "torch"))
        cells = [name, where["processor"], where["cores"], where["python"], where["jax"], others]
        parts.append("| " + " | ".join(cells) + " |")
    return "\n".join(parts) + "\n"


def _table(rows: list[tuple[list[str], dict[str, Any]]]) -> list[str]:
    """A suite's numbers: a row for what was measured, a column a metric; rows of the same metrics stand together."""
    cells: dict[str, dict[str, str]] = defaultdict(dict)
    for parts, entry in rows:
        last = 2 if parts[-1] in ("best", "cpu") else 1
        value = "–" if entry["value"] is None else f"{entry['value']:.4g}"
        arrow = {"lower": "↓", "higher": "↑"}[entry["direction"]]
        head = f"{' '.join(parts[-last:]).replace('_', ' ')}, {entry['unit']} {arrow}"
        cells[" / ".join(parts[:-last]) or "all"][head] = value
    tables: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, found in cells.items():
        tables[tuple(found)].append("| " + " | ".join([name, *found.values()]) + " |")
    lines = []
    for heads, body in tables.items():
        lines += ["| measured | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|", *body, ""]
    return lines


if __name__ == "__main__":
    sys.exit(main())

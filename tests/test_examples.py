"""Every example runs as a user would run it, and the notebook cell by cell, with no network to ask."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from helpers import may_unshare

NO_SOCKETS = "import socket; socket.socket.connect = socket.getaddrinfo = lambda *_: 1 / 0\n"
"""Where no namespace without a network is allowed."""

NOTEBOOK = Path(__file__).parents[1] / "examples" / "quickstart.ipynb"
EXECUTOR = """
import ast, sys

def show(value):
    if value is not None:
        print(value._repr_html_()[:60] if hasattr(value, "_repr_html_") else repr(value))

sys.displayhook, scope = show, {{}}
for source in {sources!r}:
    for part in ast.parse(source).body:  # as a notebook does, what an expression gives is shown
        exec(compile(ast.Interactive([part]), "cell", "single"), scope)
"""
EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("[0-9]*.py"))


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(script: Path, tmp_path: Path) -> None:
    run(script, tmp_path)


def test_the_notebook_runs(tmp_path: Path) -> None:
    nbformat.validate(nbformat.read(NOTEBOOK, as_version=4))
    cells = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    script = tmp_path / "notebook.py"
    script.write_text(EXECUTOR.format(sources=["".join(cell["source"]) for cell in cells]), encoding="utf-8")
    run(script, tmp_path)
    assert (tmp_path / "quickstart-heads" / "07.ply").is_file()


def run(script: Path, tmp_path: Path) -> None:
    # A process of its own: an example runs in single precision, unlike this session.
    isolated, code = may_unshare("-rn"), f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')"
    command = [sys.executable, "-c", code if isolated else NO_SOCKETS + code]
    ran = subprocess.run(
        ["unshare", "-rn", *command] if isolated else command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False,
        env={**os.environ, "XDG_CACHE_HOME": os.environ["DIVERSE3D_TEST_CACHE"], "PYTHONPATH": os.pathsep.join(filter(None, [str(NOTEBOOK.parents[1]), os.environ.get("PYTHONPATH")]))},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip()
    assert "nan" not in ran.stdout.lower()

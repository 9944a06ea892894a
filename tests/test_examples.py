"""Every example runs as a user would run it, with no network to ask."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import may_unshare

NO_SOCKETS = "import socket; socket.socket.connect = socket.getaddrinfo = lambda *_: 1 / 0\n"
"""Where no namespace without a network is allowed."""

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("[0-9]*.py"))


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(script: Path, tmp_path: Path) -> None:
    # A process of its own: an example runs in single precision, unlike this session.
    isolated, code = may_unshare("-rn"), f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')"
    command = [sys.executable, "-c", code if isolated else NO_SOCKETS + code]
    ran = subprocess.run(
        ["unshare", "-rn", *command] if isolated else command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False,
        env={**os.environ, "XDG_CACHE_HOME": os.environ["DIVERSE3D_TEST_CACHE"], "PYTHONPATH": os.pathsep.join(filter(None, [str(script.parents[1]), os.environ.get("PYTHONPATH")]))},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip()
    assert "nan" not in ran.stdout.lower()

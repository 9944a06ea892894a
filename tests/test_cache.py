"""The user's cache: code compiled once is found again, nobody else's folder is used, and it stays small."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from diverse3d._cache import _forget_oldest, cache_folder, compiled_folder

COMPILE = (
    "import diverse3d, jax; diverse3d.Fit; jax.jit(lambda x: x + 1)(2.0); print(jax.config.jax_compilation_cache_dir)"
)


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def compiled(home: Path, code: str = COMPILE, **variables: str) -> str:
    environment = {**os.environ, "XDG_CACHE_HOME": str(home), **variables}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_python_users_find_what_was_compiled_before(home):
    folder = home / "diverse3d" / "compiled"
    assert compiled(home).strip() == str(folder)
    first = sorted(path.name for path in folder.glob("*-cache"))
    assert first
    assert compiled(home).strip() == str(folder)
    assert sorted(path.name for path in folder.glob("*-cache")) == first


@pytest.mark.parametrize(
    "code, variables, used",
    [
        (COMPILE, {"DIVERSE3D_NO_CACHE": "1"}, "None"),
        (COMPILE, {"JAX_COMPILATION_CACHE_DIR": "{home}/elsewhere"}, "{home}/elsewhere"),
        (f"import jax; jax.config.update('jax_compilation_cache_dir', '{{home}}/set'); {COMPILE}", {}, "{home}/set"),
    ],
    ids=["opted out", "jax's variable", "jax's setting"],
)
def test_a_wish_is_respected(code, variables, used, home):
    variables = {name: text.format(home=home) for name, text in variables.items()}
    assert compiled(home, code.format(home=home), **variables).strip() == used.format(home=home)
    assert not (home / "diverse3d").exists()


def test_nobody_else_may_look_into_it(home):
    (home / "diverse3d").mkdir(mode=0o755)
    for folder in (compiled_folder(), cache_folder()):
        assert folder is not None and stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_nobody_elses_folder_is_used(home, monkeypatch):
    (home / "diverse3d").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: 1 + (home / "diverse3d").stat().st_uid)
    assert cache_folder() is None and compiled_folder() is None
    assert not list((home / "diverse3d").iterdir())


def test_a_folder_that_can_not_be_made_is_none(home):
    (home / "diverse3d").write_text("")
    assert cache_folder() is None and compiled_folder() is None


def test_what_was_used_longest_ago_goes_first(tmp_path):
    for age in range(10):
        path = tmp_path / str(age)
        path.write_bytes(bytes(100))
        os.utime(path, (1e9 - age, 1e9 - age))
    (tmp_path / "folder").mkdir()
    os.utime(tmp_path / "folder", (1.0, 1.0))  # no file, and no reason to stop
    _forget_oldest(tmp_path, 10_000 + 2**13)
    assert len(list(tmp_path.iterdir())) == 11
    _forget_oldest(tmp_path, (tmp_path / "folder").lstat().st_size + 350)
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"0", "1", "2"}


def test_a_damaged_entry_is_made_anew(home):
    """As a full disk leaves them; jax alone would warn at every later run, and compile each time."""
    code = (
        "import diverse3d, jax; diverse3d.Fit; from diverse3d._cache import quiet_and_healing\n"
        "with quiet_and_healing(quiet=True): print(jax.jit(lambda x: x + 1)(2.0))"
    )
    folder = home / "diverse3d" / "compiled"
    assert compiled(home, code) == "3.0\n"
    sound = {path.name: path.stat().st_size for path in folder.glob("*-cache")}
    for content in (b"", b"damaged"):
        for path in folder.glob("*-cache"):
            path.write_bytes(content)
        assert compiled(home, code) == "3.0\n"
        assert {path.name: path.stat().st_size for path in folder.glob("*-cache")} == sound

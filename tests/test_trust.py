"""What an installation may rely on: its own files, its licences, and the system's whims."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import may_unshare

import diverse3d
from diverse3d import InputError
from diverse3d._assets import ASSETS, TABLE_NAME, _check, check_assets
from tools.hash_assets import table
from tools.kill import inputs, kill
from tools.sbom import bill, licence, needed

ROOT = Path(__file__).parents[1]


def test_the_table_of_the_packages_files_is_true():
    """Where this fails, `python -m tools.hash_assets` makes it anew."""
    assert (ASSETS / TABLE_NAME).read_text(encoding="utf-8") == table()


def test_a_file_of_the_package_that_changed_is_named(tmp_path, monkeypatch):
    names = ["NOTICE-photo.md", "segment.safetensors"]
    for name in names:
        shutil.copy(ASSETS / name, tmp_path / name)
    rows = [row for row in table().splitlines() if row.split("  ")[1] in names]
    (tmp_path / TABLE_NAME).write_text("\n".join(rows) + "\n")
    _check(tmp_path)
    data = bytearray((tmp_path / names[1]).read_bytes())
    data[1000] ^= 1
    (tmp_path / names[1]).write_bytes(data)
    _check.cache_clear()
    monkeypatch.setattr("diverse3d._assets.ASSETS", tmp_path)
    monkeypatch.setenv("DIVERSE3D_OWN_ASSETS", "0")
    with pytest.raises(InputError, match=r"segment\.safetensors is not as it was shipped; reinstall"):
        diverse3d.observe_photo(tmp_path / "photo.png")
    (tmp_path / names[1]).unlink()
    with pytest.raises(InputError, match="missing or damaged"):
        check_assets()
    monkeypatch.setenv("DIVERSE3D_OWN_ASSETS", "1")
    check_assets()
    _check.cache_clear()


def test_every_dependency_is_listed_with_its_licence():
    packages = needed("diverse3d")
    assert {"jax", "numpy", "pillow", "scipy"} <= packages.keys() and "pytest" not in packages
    assert all(licence(package) != "unknown" for package in packages.values())
    listed = json.loads((ROOT / "docs" / "sbom.json").read_text(encoding="utf-8"))
    names = {part["name"] for part in listed["components"]}
    page = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    assert all(f"| {name} |" in page for name in names)
    if sys.version_info[:2] == (3, 11) and sys.platform == "linux":
        assert packages.keys() == names
    assert bill(packages)["bomFormat"] == "CycloneDX" == listed["bomFormat"]


FULL = (
    "import sys; from pathlib import Path; import numpy as np\n"
    "from diverse3d.files import whole_folder, write_npz, write_record\nfrom diverse3d import InputError\n"
    "try:\n"
    "    with whole_folder(Path(sys.argv[1]) / 'out', force=False) as folder:\n"
    "        for i in range(40):\n"
    "            write_npz(folder / f'{i}.npz', {'a': np.random.default_rng(i).normal(size=20_000)})\n"
    "        write_record(folder, {})\n"
    "except InputError as error:\n"
    "    print(error); sys.exit(2)\n"
)


@pytest.mark.skipif(not may_unshare("-rm"), reason="no namespace of one's own is allowed here")
@pytest.mark.parametrize(
    ("options", "says"), [("size=1m", "No space left"), ("ro", "read-only|Read-only|not writable")]
)
def test_a_full_disk_and_a_read_only_one(tmp_path, options, says):
    """One sentence, and nothing is there."""
    shell = f'mount -t tmpfs -o {options} none "$0" && "$1" -c "$2" "$0"; code=$?; ls -A "$0"; exit $code'
    command = ["unshare", "-rm", "sh", "-c", shell, str(tmp_path), sys.executable, FULL]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    (line,) = done.stdout.splitlines()  # the sentence, and no file after it
    assert any(word in line for word in says.split("|")) and "Traceback" not in done.stderr


def test_without_a_home_or_a_place_for_temporary_files(tmp_path):
    """Nothing is kept then, and all else works."""
    gone = str(tmp_path / "gone")
    code = (
        "import os; os.environ.pop('HOME', None); os.environ.pop('XDG_CACHE_HOME', None)\n"
        "import pathlib, pwd; pwd.getpwuid = lambda *_: {}['no such user']\n"
        "from diverse3d._cache import cache_folder, compiled_folder\n"
        "assert cache_folder() is None is compiled_folder()\n"
        "import tempfile; tempfile._candidate_tempdir_list = lambda: [os.environ['TMPDIR']]\n"
        "from diverse3d.cli import main; raise SystemExit(main(['head', 'import', 'x.pkl', '--out', 'y.safetensors']))"
    )
    (tmp_path / "x.pkl").write_bytes(b"\x80\x02}.")
    environment = {**os.environ, "TMPDIR": gone, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    said = [line for line in done.stderr.splitlines() if line.startswith("diverse3d:")]
    assert done.returncode == 2 and len(said) == 1 and "Traceback" not in done.stderr, done.stderr
    assert "No temporary folder can be used" in said[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.pkl"]


def test_killed_imports_leave_a_whole_file_or_none(tmp_path):
    """Three of the many that `python -m tools.kill` makes."""
    inputs(tmp_path)
    found, wrong = kill("head import", 3, 1, tmp_path, warm=1)
    assert not wrong
    assert sum(count for what, count in found.items() if what.split()[-1] in ("absent", "complete")) == 3

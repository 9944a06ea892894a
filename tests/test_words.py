"""Whatever a name, a file or the system does: exit code 2 and one sentence that a terminal can bear."""

import errno
import os
import pickle
import subprocess
import sys
import warnings

import jax
import numpy as np
import pytest

from diverse3d import InputError
from diverse3d._cache import _forget_oldest, quiet_and_healing
from diverse3d.cli import main
from diverse3d.files import read_json, write_json
from diverse3d.head.flame import _read
from diverse3d.head.flame._landmarks import read_masks
from diverse3d.observe import observe_mesh

STEERING = os.fsdecode(b"a\xff\x1b[31mb")


@pytest.mark.parametrize("name", [STEERING, "x" * 300, "zero\0byte", "loop/below"])
@pytest.mark.parametrize("option", ["input", "--mask", "--head", "--weights"])
def test_names_that_are_no_names(tmp_path, capsys, name, option):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "mesh.npz").write_bytes(b"")
    path = str(tmp_path / name)
    given = [path] if option == "input" else [str(tmp_path / "mesh.npz"), option, path]
    assert main(["complete", *given, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("diverse3d: ") and said.count("\n") == 1 and said[:-1].isprintable()
    said.encode()


def test_a_name_of_any_bytes_can_be_recorded(tmp_path, tiny_head):
    path = tmp_path / f"{STEERING}.npz"
    np.savez(path, vertices=np.asarray(tiny_head.template_m))
    source = observe_mesh(path, head=tiny_head).source
    assert source == r"a\udcff\x1b[31mb.npz"
    write_json(tmp_path / "a.json", {"name": source})
    assert read_json(tmp_path / "a.json")["name"] == source


def test_a_missing_file_is_said_before_anything_heavy_is_imported(tmp_path):
    code = (
        "import sys; from diverse3d.cli import main\n"
        "code = main(['complete', 'none.png', '--out', sys.argv[1]]); print(code, 'jax' in sys.modules)"
    )
    run = [sys.executable, "-c", code, str(tmp_path / "out")]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stdout == "2 False\n" and done.stderr == "diverse3d: There is no file none.png.\n"


def test_what_the_system_refuses_is_said_with_its_place(tmp_path, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/some/where")

    monkeypatch.setattr("diverse3d.cli._doctor.Doctor.run", full)
    assert main(["doctor"]) == 2
    assert capsys.readouterr().err == (
        "diverse3d: /some/where can't be used (No space left on device); check path, permissions and disk\n"
    )


def npy(descr: str, shape: str) -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


def test_arrays_without_values_but_of_any_length(tmp_path):
    (tmp_path / "a.npy").write_bytes(npy("<f8", "(0, 4611686018427387904)"))
    with pytest.raises(InputError, match="impossible shape|can't be read|damaged"):
        _read.read_arrays(tmp_path / "a.npy")


def test_sparse_matrices_are_not_written_out_without_bound(tmp_path):
    import scipy.sparse

    table = {name: scipy.sparse.csc_matrix((1 << 11, 1 << 11)) for name in "ab"}
    path = tmp_path / "sparse.pkl"
    path.write_bytes(pickle.dumps(table))
    assert set(_read.read_arrays(path).arrays) == {"a", "b"}  # just within
    path.write_bytes(pickle.dumps(table | {"c": scipy.sparse.csc_matrix((1, 1))}))
    with pytest.raises(InputError, match="sparse matrices of 8,388,609 values"):
        _read.read_arrays(path)


def test_masks_may_unpack_to_less_than_a_head(tmp_path):
    np.savez_compressed(tmp_path / "masks.npz", face=np.zeros(9 << 20))
    with pytest.raises(InputError, match="unpacks to more than 64 MiB; .*DIVERSE3D_MAX_IMPORT_SIDE_BYTES"):
        read_masks(tmp_path / "masks.npz", 5023)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("arr_zero_huge.pkl", "impossible shape"),
        ("npz_zero_huge.npz", "impossible shape"),
        ("st_f8.safetensors", "no array of plain numbers"),
        ("sparse7.pkl", "sparse matrices"),
    ],
)
def test_files_that_were_made_to_do_harm(shared, tmp_path, capsys, name, says):
    if not (shared / "faults").is_dir():
        pytest.skip(f"inputs that were found wrong are not there ({shared / 'faults'})")
    assert main(["head", "import", str(shared / "faults" / name), "--out", str(tmp_path / "head.safetensors")]) == 2
    assert says in capsys.readouterr().err


def test_masks_that_were_made_to_do_harm(shared):
    if not (shared / "faults").is_dir():
        pytest.skip(f"inputs that were found wrong are not there ({shared / 'faults'})")
    with pytest.raises(InputError, match="mask6.pkl (holds sparse|unpacks to|needs more)"):
        read_masks(shared / "faults" / "mask6.pkl", 5023)


def test_a_damaged_entry_of_the_cache_heals(tmp_path, monkeypatch):
    """jax alone would compile it again in every later run."""
    before = jax.config.values["jax_compilation_cache_dir"]

    def run(number: int) -> None:
        jax.clear_caches()
        with quiet_and_healing(quiet=True):
            assert float(jax.jit(lambda x: x * number + 1.25)(2.0)) == 2.0 * number + 1.25

    from jax.experimental.compilation_cache import compilation_cache

    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    compilation_cache.reset_cache()
    try:
        run(3)
        [entry] = tmp_path.glob("*-cache")
        whole = entry.read_bytes()
        entry.write_bytes(whole[: len(whole) // 2])
        run(3)
        assert entry.stat().st_size > 0.9 * len(whole)
        with warnings.catch_warnings(record=True) as heard, quiet_and_healing(quiet=False):
            warnings.simplefilter("always")
            warnings.warn("something else", stacklevel=1)
        assert [str(one.message) for one in heard] == ["something else"]
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
        compilation_cache.reset_cache()


def test_empty_entries_of_the_cache_go(tmp_path):
    (tmp_path / "empty-cache").touch()
    (tmp_path / "whole-cache").write_bytes(b"x")
    _forget_oldest(tmp_path, 100)
    assert [path.name for path in tmp_path.iterdir()] == ["whole-cache"]

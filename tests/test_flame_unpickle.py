"""Downloaded files are read as data: hostile ones are refused in one sentence, and nothing in them runs."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from flame_files import Chumpy, Python2, Selected, Sparse, hostile_files, npy, object_npy, small_flame
from safetensors.numpy import save_file

from diverse3d._errors import InputError
from diverse3d.cli import main
from diverse3d.head.flame import ImportLimits, _read, read_arrays

TIGHT = {"UNPACKED_BYTES": 4 << 20, "MEMORY_BYTES": 256 << 20, "CPU_SECONDS": 10, "SECONDS": 60}
HOSTILE = hostile_files(Path("nowhere"))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_and_nothing_runs(name, tmp_path, capsys, monkeypatch):
    for limit, value in TIGHT.items():
        monkeypatch.setenv(f"DIVERSE3D_MAX_IMPORT_{limit}", str(value))
    witness = tmp_path / "ran"
    data, said = hostile_files(witness)[name]
    file, out = tmp_path / "model.pkl", tmp_path / "head.safetensors"
    file.write_bytes(data)
    assert main(["head", "import", str(file), "--out", str(out), "--quiet"]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and said in errors and str(file) in errors and "Traceback" not in errors
    assert sorted(tmp_path.iterdir()) == [file]  # no head, no witness, nothing left aside


def test_a_live_payload_would_have_run(tmp_path):
    """The hostile files are real: Python's own unpickler does what they ask for."""
    witness = tmp_path / "ran"
    pickle.loads(hostile_files(witness)["os.system"][0])
    assert witness.exists()


@pytest.mark.parametrize("protocol", [0, 2])
def test_python2_files_with_chumpy_and_scipy(protocol, rng, tmp_path):
    dense, matrix = rng.normal(size=(7, 3)), rng.normal(size=(4, 6)) * (rng.random((4, 6)) < 0.4)
    index = np.array([20, 0, 7, 3])
    table = {
        "plain": dense,
        "fortran": np.asfortranarray(dense),
        "chumpy": Chumpy(dense),
        "big": dense.astype(">f8"),
        "whole": np.arange(300, dtype=np.uint32).reshape(3, 100),
        "flags": np.array([True, False]),
        "sparse": Sparse(matrix),
        "selected": Selected(dense, index, (2, 2)),
        "text": "lbs",
        "nothing": None,
        "bytes \\ and 'quotes'": np.frombuffer(bytes(range(256)), np.uint8),
    }
    file = tmp_path / "file.pkl"
    file.write_bytes(Python2(protocol).dumps(table))
    found = read_arrays(file)
    expected = {name: value for name, value in table.items() if isinstance(value, np.ndarray)}
    expected |= {"chumpy": dense, "sparse": matrix, "selected": dense.reshape(-1)[index].reshape(2, 2)}
    assert set(found.arrays) == set(expected) and sorted(found.other) == ["nothing", "text"]
    for name, array in expected.items():
        np.testing.assert_array_equal(found.arrays[name], array, err_msg=name)
        assert found.arrays[name].dtype == array.dtype.newbyteorder("=")


@pytest.mark.parametrize("protocol", range(6))
def test_python3_pickles(protocol, rng, tmp_path):
    import scipy.sparse

    dense = rng.normal(size=(5, 3))
    table = {"a": dense, "f": np.asfortranarray(dense)}
    for kind in (scipy.sparse.csc_matrix, scipy.sparse.csr_matrix, scipy.sparse.coo_matrix):
        table[kind.__name__] = kind(np.where(dense > 0, dense, 0))
    file = tmp_path / "file.pkl"
    file.write_bytes(pickle.dumps(table, protocol))
    for name, array in read_arrays(file).arrays.items():
        np.testing.assert_array_equal(array, table[name].toarray() if "matrix" in name else table[name], err_msg=name)


def test_numpy_and_safetensors_files(rng, tmp_path):
    table = {"a": rng.normal(size=(40, 3)), "b": np.asfortranarray(np.arange(12, dtype=np.int32).reshape(3, 4))}
    for name, save in (("plain.npz", np.savez), ("packed.npz", np.savez_compressed)):
        with (tmp_path / name).open("wb") as file:
            save(file, **table)
    save_file({name: np.ascontiguousarray(array) for name, array in table.items()}, tmp_path / "file.safetensors")
    (tmp_path / "object.npy").write_bytes(object_npy(table))
    for name in ("plain.npz", "packed.npz", "file.safetensors", "object.npy"):
        arrays = read_arrays(tmp_path / name).arrays
        assert set(arrays) == set(table)
        for key in table:
            np.testing.assert_array_equal(arrays[key], table[key], err_msg=f"{name} {key}")
    (tmp_path / "one.npy").write_bytes(npy(table["a"]))
    np.testing.assert_array_equal(read_arrays(tmp_path / "one.npy").arrays[""], table["a"])
    assert set(read_arrays(tmp_path / "plain.npz", wanted=("b", "c")).arrays) == {"b"}


def test_tensors_are_left_out_of_landmark_files_unopened(tmp_path):
    writer = Python2()
    writer.out += b"}U\x04keep"
    writer.put(np.arange(3))
    writer.out += b"sU\x05torchctorch._utils\n_rebuild_tensor_v2\nctorch.storage\n_load_from_bytes\nU\x02hi\x85R\x85Rs"
    file = tmp_path / "file.pkl"
    file.write_bytes(writer.out + b".")
    found = read_arrays(file, tensors=True)
    assert (set(found.arrays), found.other) == ({"keep"}, ("torch",))
    with pytest.raises(InputError, match=r"asks for 'torch\._utils\._rebuild_tensor_v2'"):
        read_arrays(file)


def refused(file, match, **limits):
    with pytest.raises(InputError, match=match) as caught:
        read_arrays(file, limits=ImportLimits(**{f"import_{name}": value for name, value in limits.items()}))
    assert "\n" not in str(caught.value)


def test_limits(tmp_path, rng, monkeypatch):
    file = tmp_path / "file.pkl"
    file.write_bytes(pickle.dumps(small_flame(rng), 2))
    refused(file, r"MiB, more than 1000 bytes; .* raise DIVERSE3D_MAX_IMPORT_BYTES", bytes=1000)
    refused(file, "unpacks to more than 0 MiB; .* raise DIVERSE3D_MAX_IMPORT_UNPACKED_BYTES", unpacked_bytes=1000)
    file.write_bytes(b"]" * 1_500_000 + b".")
    refused(file, "needs more than 40 MiB of memory", memory_bytes=40 << 20)
    file.write_bytes(b"N" * 2_000_100 + b".")
    refused(file, "more than 2000000 steps")
    # A reading process that goes astray: the limits that it set itself end it, and its output is not believed.
    child = Path(_read._CHILD).read_text(encoding="utf-8").split("if __name__")[0]
    child = child.replace("os.path.dirname(os.path.abspath(__file__))", repr(str(Path(_read._CHILD).parent)))
    astray = tmp_path / "child.py"
    monkeypatch.setattr(_read, "_CHILD", astray)
    loop = "job = json.loads(sys.argv[1])\nlimit(job, 0)\n"
    astray.write_text(child + loop + "while True: pass\n", encoding="utf-8")
    refused(file, "took more processor time than 1 seconds", cpu_seconds=1)
    astray.write_text("import time\ntime.sleep(30)\n", encoding="utf-8")
    refused(file, "took more than 1 seconds", seconds=1)
    for table in (
        {"type": "<f8", "shape": [10**9], "fortran": False, "offset": 0},
        {"type": "<f8", "shape": [-1], "fortran": False, "offset": 0},
        {"type": "|O", "shape": [1], "fortran": False, "offset": 0},
    ):
        text = repr({"form": "dense", "parts": {"": table}, "shape": None})
        write = f"text = json.dumps({{'arrays': {{'a': {text}}}, 'other': []}}).encode()\n"
        write += "open(job['out'], 'wb').write(bytes(8) + text + len(text).to_bytes(8, 'little'))\n"
        astray.write_text(child + loop + write, encoding="utf-8")
        refused(file, "'a' came back broken")
    astray.write_text(child + loop + "open(job['out'], 'wb').write(b'\\xff' * 8)\n", encoding="utf-8")
    refused(file, "left no table")


def test_sparse_parts_are_checked(tmp_path):
    for change, match in (
        ({"indices": np.array([9, 1], np.int32)}, "an index is none from 0 to 1"),
        ({"indptr": np.array([0, 2, 1, 2], np.int32)}, "not in order"),
        ({"indptr": np.array([0, 2], np.int32)}, "not in order"),
        ({"_shape": (2, 10**9)}, "sparse matrices of 2,000,000,000 values"),
        ({"data": np.ones(1)}, "an index is none|not in order"),
    ):
        state = {"data": np.ones(2), "indices": np.zeros(2, np.int32), "indptr": np.array([0, 1, 1, 2], np.int32)}
        writer = Python2()
        writer.out += b"}U\x01a"
        writer.object("scipy.sparse.csc", "csc_matrix", state | {"_shape": (2, 3)} | change)
        file = tmp_path / "file.pkl"
        file.write_bytes(writer.out + b"s.")
        refused(file, match)

"""Many faces: each exactly once, as `complete` would do it, through bad inputs, kills, parts and a second process."""

import csv
import io
import os
import shutil
import subprocess
import sys
import tarfile

import jax
import numpy as np
import pytest
from helpers import draw_nothing, tiny_arrays
from safetensors.numpy import save_file

from diverse3d import InputError
from diverse3d.cli import main
from diverse3d.cli._batch import derived_seed
from diverse3d.cli._batch_inputs import entries
from diverse3d.files import LOCK_NAME, locked, read_json, read_npz

OPTIONS = ["--method", "posterior", "-n", "2", "--steps", "6", "--no-report", "--quiet"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Nothing is written into the user's cache, and nothing is drawn."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    draw_nothing(monkeypatch)


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    path = tmp_path_factory.mktemp("head") / "tiny.safetensors"
    save_file(tiny_arrays(), path, {"name": "tiny"})
    return path


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Four faces, one of them under two names; one that is no mesh; one whose mask lies beside it."""
    folder = tmp_path_factory.mktemp("faces")
    rng, arrays = np.random.default_rng(2), tiny_arrays()
    hidden = arrays["template"][:, 1] < 0
    (folder / "deep").mkdir()
    for name in ("a.npz", "b.npz", "deep/c.npz", "masked.npz"):
        coefficients = rng.normal(size=len(arrays["identity_scale"])) * arrays["identity_scale"]
        vertices = arrays["template"] + np.tensordot(coefficients, arrays["identity_basis"], 1)
        marks = {} if name == "masked.npz" else {"visible": ~hidden}
        np.savez(folder / name, vertices=vertices.astype(np.float32), **marks)
    np.save(folder / "masked.mask.npy", hidden)
    (folder / "twin.npz").write_bytes((folder / "a.npz").read_bytes())
    (folder / "bad.npz").write_bytes(b"nothing")
    (folder / "notes.txt").write_text("not a face")
    return folder


def run(head, out, *inputs, more=()):
    return main(["batch", *map(str, inputs), "--out", str(out), "--head", str(head), *OPTIONS, *more])


def table(out, part=""):
    return list(csv.DictReader(io.StringIO((out / f"table{part}.csv").read_text(encoding="utf-8"))))


def states(out, part=""):
    return {row["name"]: row["state"] for row in table(out, part)}


@pytest.fixture(scope="module")
def done(head, faces, tmp_path_factory):
    out = tmp_path_factory.mktemp("done") / "out"
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        assert run(head, out, faces) == 0
    return out


def test_every_input_once_and_the_bad_one_aside(done, faces):
    twins = {"a.npz", "twin.npz"}
    found = states(done)
    assert list(found) == ["a.npz", "b.npz", "bad.npz", "deep/c.npz", "masked.npz", "twin.npz"]
    assert sorted(found.pop(name) for name in twins) == ["again", "done"]
    assert found == {"b.npz": "done", "bad.npz": "refused", "deep/c.npz": "done", "masked.npz": "done"}
    assert sorted(path.name for path in done.iterdir()) == [
        "aside", "batch.json", "contact-sheet.png", "results", "table.csv", "table.html",
    ]  # fmt: skip
    assert len(list((done / "results").iterdir())) == 4
    (aside,) = (done / "aside").iterdir()
    told = read_json(aside)
    assert told["name"] == "bad.npz" and "can't be read" in told["reason"]
    page = (done / "table.html").read_text(encoding="utf-8")
    assert "bad.npz" in page and "set aside" in page and "http:" not in page and "https:" not in page


def test_a_result_is_what_complete_makes_of_the_file(done, head, faces, tmp_path):
    """With the seed that the batch derives from the content, to the byte."""
    content = {entry.name: entry.content() for entry in entries([faces], out=tmp_path / "out")}
    for name, mask in (("deep/c.npz", []), ("masked.npz", ["--mask", str(faces / "masked.mask.npy")])):
        seed = derived_seed(0, content[name])
        arguments = [str(faces / name), "--out", str(tmp_path / name), "--head", str(head), "--seed", str(seed), *mask]
        assert main(["complete", *arguments, *OPTIONS]) == 0
        result = done / "results" / content[name]
        assert (tmp_path / name / "completions.npz").read_bytes() == (result / "completions.npz").read_bytes()
        record = read_json(result / "run.json")
        assert record["seed"] == seed and record["configuration"]["batch"]["name"] == name
        assert record["input"]["name"] == name.split("/")[-1]
    seeds = {read_json(path / "run.json")["seed"] for path in (done / "results").iterdir()}
    assert len(seeds) == 4


def test_the_same_again_does_nothing(done, head, faces, monkeypatch):
    def never(*_):
        raise AssertionError("nothing is to be done")

    before = {path: path.stat().st_mtime_ns for path in (done / "results").rglob("*")}
    monkeypatch.setattr("diverse3d.cli._complete.Complete.complete", never)
    assert run(head, done, faces) == 0
    assert sorted(states(done).values()) == ["again", "refused", "there", "there", "there", "there"]
    assert {path: path.stat().st_mtime_ns for path in (done / "results").rglob("*")} == before


@pytest.mark.parametrize(
    ("more", "says"),
    [(["--seed", "1"], "(seed)"), (["--steps", "7"], "(steps)"), (["--shard", "3/2"], "no part"), (["--readers", "0"], "at least 1")],
)  # fmt: skip
def test_other_settings_go_elsewhere(done, head, faces, capsys, more, says):
    assert run(head, done, faces, more=more) == 2
    assert says in capsys.readouterr().err


def test_parts_do_everything_once_and_lists_and_tars_hold_the_same(done, head, faces, tmp_path):
    """In whatever order and by whatever name: an input's place changes nothing."""
    (tmp_path / "list.txt").write_text(f"# faces\n\n{faces}/deep/c.npz\n{faces}/masked.npz\t{faces}/masked.mask.npy\n")
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        tar.add(faces / "b.npz", "./x/1.npz")
        tar.add(faces / "a.npz", "x/2.npz")
        tar.add(faces / "deep", "x/deep", recursive=False)
        link = tarfile.TarInfo("x/link.npz")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    out, inputs = tmp_path / "out", (tmp_path / "shard.tar", tmp_path / "list.txt")
    for number in (1, 2):
        assert run(head, out, *inputs, more=["--shard", f"{number}/2"]) == 0
    parts = [states(out, f"-{number}-of-2") for number in (1, 2)]
    assert len(parts[0]) + len(parts[1]) == 4 and not parts[0].keys() & parts[1].keys()
    assert {*parts[0].values(), *parts[1].values()} == {"done"}
    for path in (done / "results").iterdir():
        same = (out / "results" / path.name / "completions.npz").read_bytes()
        assert same == (path / "completions.npz").read_bytes()


def test_a_mistake_of_ours_costs_one_input_and_is_tried_again(head, faces, tmp_path, monkeypatch, capsys):
    from diverse3d.cli._complete import Complete

    complete, calls = Complete.complete, []

    def sometimes(self, *arguments):
        calls.append(self)
        if len(calls) == 1:
            raise RuntimeError("out of memory")
        return complete(self, *arguments)

    monkeypatch.setattr(Complete, "complete", sometimes)
    assert run(head, tmp_path / "out", faces / "a.npz", faces / "b.npz") == 1
    assert sorted(states(tmp_path / "out").values()) == ["done", "failed"]
    assert run(head, tmp_path / "out", faces / "a.npz", faces / "b.npz") == 0
    assert sorted(states(tmp_path / "out").values()) == ["done", "there"]
    assert not list((tmp_path / "out" / "aside").iterdir())


def test_what_ends_a_run_leaves_what_is_finished(head, faces, tmp_path, monkeypatch, capsys):
    from diverse3d.show import _record

    write, calls = _record.write_npz, []

    def full(*arguments):
        calls.append(arguments)
        if len(calls) > 1 and len(list((tmp_path / "out" / "results").glob("[!.]*"))) == 1:
            raise OSError(28, "No space left on device", "x")
        write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(_record, "write_npz", full)
        assert run(head, tmp_path / "out", faces) == 2
    assert "No space left" in capsys.readouterr().err
    left = sorted(path.name for path in (tmp_path / "out" / "results").iterdir())
    assert len(left) == 1 and not left[0].startswith(".")
    (tmp_path / "out" / "results" / f".{left[0]}.{2**22 + 1}.part").mkdir()  # as a killed process leaves it
    assert run(head, tmp_path / "out", faces) == 0
    names = sorted(path.name for path in (tmp_path / "out" / "results").iterdir())
    assert len(names) == 4 and not names[0].startswith(".")


def test_a_folder_that_is_taken_away_ends_the_run(head, faces, tmp_path, monkeypatch, capsys):
    from diverse3d.cli._complete import Complete

    complete = Complete.complete

    def away(self, *arguments):
        shutil.rmtree(tmp_path / "out")
        return complete(self, *arguments)

    monkeypatch.setattr(Complete, "complete", away)
    assert run(head, tmp_path / "out", faces / "a.npz") == 2
    assert "was taken away while it was written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_changed_result_is_neither_used_nor_replaced(head, faces, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f".batch.json.{2**22 + 1}.part").write_text("as a killed run leaves it")
    assert run(head, tmp_path / "out", faces / "a.npz") == 0
    (result,) = (tmp_path / "out" / "results").iterdir()
    (result / "completions.npz").unlink()
    assert run(head, tmp_path / "out", faces / "a.npz", faces / "b.npz") == 1
    assert states(tmp_path / "out") == {"a.npz": "failed", "b.npz": "done"}
    assert "move it" in table(tmp_path / "out")[0]["reason"]
    result.rename(tmp_path / "elsewhere")
    assert run(head, tmp_path / "out", faces / "a.npz", faces / "b.npz") == 0
    assert states(tmp_path / "out") == {"a.npz": "done", "b.npz": "there"}


def test_nothing_that_can_be_completed(head, faces, tmp_path, capsys):
    assert run(head, tmp_path / "out", faces / "bad.npz") == 2
    assert "None of the 1 inputs" in capsys.readouterr().err
    for given, says in ((tmp_path / "empty", "holds no photo"), (tmp_path / "none", "There is no file")):
        if given.name == "empty":
            given.mkdir()
        assert run(head, tmp_path / "other", given) == 2
        assert says in capsys.readouterr().err
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.txt").write_text("x")
    assert run(head, tmp_path / "foreign", faces) == 2
    assert "not a batch" in capsys.readouterr().err


def test_one_process_at_a_time(tmp_path):
    """The other one is told at once; parts may share a folder, but not with the whole, nor with themselves."""
    code = (
        "import sys; from pathlib import Path; from diverse3d.files import locked\n"
        "with locked(Path(sys.argv[1]), sys.argv[2]):\n    print('in', flush=True); sys.stdin.read()\n"
    )
    for part, refused, free in (("", ("", "1-of-2"), ()), ("1-of-2", ("", "1-of-2"), ("2-of-2",))):
        arguments = [sys.executable, "-c", code, str(tmp_path), part]
        with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout.readline() == "in\n"
            for mine in refused:
                with pytest.raises(InputError, match="in use by another run"), locked(tmp_path, mine):
                    pass
            for mine in free:
                with locked(tmp_path, mine):
                    pass
            other.kill()
        with locked(tmp_path):
            assert (tmp_path / LOCK_NAME).is_file()
    assert not (tmp_path / LOCK_NAME).exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"x" * 600, "not a tar file"), (b"", "not a tar file"), ("long", "too long"), ("cut", "ends within")],
)
def test_damaged_tar_files(tmp_path, content, says):
    if content == "long":
        member = tarfile.TarInfo("x")
        member.type, member.size = tarfile.XHDTYPE, 1 << 40
        content = member.tobuf(tarfile.GNU_FORMAT) + bytes(1024)
    if content == "cut":
        member = tarfile.TarInfo("x.png")
        member.size = 10_000
        content = member.tobuf() + bytes(1024)
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(InputError, match=says):
        entries([tmp_path / "a.tar"], out=tmp_path / "out")
    with pytest.raises(InputError, match="compressed"):
        (tmp_path / "a.tar.gz").write_bytes(b"")
        entries([tmp_path / "a.tar.gz"], out=tmp_path / "out")


def test_names_that_are_no_text_or_formulas(head, faces, tmp_path):
    inputs = tmp_path / "in"
    inputs.mkdir()
    (inputs / "=1+1.npz").write_bytes((faces / "a.npz").read_bytes())
    (inputs / os.fsdecode(b"\xff\x1b.npz")).write_bytes(b"x")
    assert run(head, tmp_path / "out", inputs) == 0
    assert set(states(tmp_path / "out")) == {"'=1+1.npz", "\\udcff\\x1b.npz"}
    (result,) = (tmp_path / "out" / "results").iterdir()
    assert np.isfinite(read_npz(result / "completions.npz")["vertices"]).all()
    assert jax.config.jax_enable_x64

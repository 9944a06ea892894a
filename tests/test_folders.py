"""Result folders: what is replaced, by whom, and what killed processes leave behind."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import trimesh

import diverse3d
import diverse3d.files._folder as folders
import meshvae
from diverse3d import InputError
from diverse3d.cli import main
from diverse3d.cli._train import Train
from diverse3d.files import (
    check_target,
    read_json,
    temporary_folder,
    whole_file,
    whole_folder,
    write_json,
    write_record,
)
from meshvae._files import lives


def written(target, text="first"):
    """A result of ours: a file, one in a folder, and the record."""
    target.mkdir()
    (target / "a.txt").write_text(text)
    (target / "meshes").mkdir()
    (target / "meshes" / "0.txt").write_text(text)
    write_record(target, {"text": text})
    return target


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_a_record_names_is_replaced(tmp_path):
    out = written(tmp_path / "out")
    assert list(read_json(out / "run.json")["files"]) == ["a.txt", "meshes/0.txt"]
    (out / "a.txt").unlink()  # nothing is lost
    with whole_folder(out, force=True) as folder:
        write_record(folder, {"text": "second"})
    assert list(contents(out)) == ["run.json"] and read_json(out / "run.json")["text"] == "second"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


FOREIGN = {
    "a foreign file": (lambda out: (out / "notes.md").write_text("x"), "notes.md is no part of the result"),
    "one below": (lambda out: (out / "meshes" / "mine.obj").write_text("x"), "mine.obj is no part of the result"),
    "a foreign folder": (lambda out: (out / "empty").mkdir(), "empty is no part of the result"),
    "a link": (lambda out: (out / "link").symlink_to(out / "a.txt"), "link is no part of the result"),
    "a changed file": (lambda out: (out / "a.txt").write_text("mine"), "a.txt was changed since"),
    "a foreign record": (lambda out: write_json(out / "run.json", {}), "does not say which files"),
    "no record of ours": (lambda out: (out / "run.json").write_text("hello"), "not JSON"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_nothing_foreign_is_replaced(tmp_path, case):
    change, says = FOREIGN[case]
    out = written(tmp_path / "out")
    change(out)
    before = contents(out)
    with pytest.raises(InputError, match=says):
        check_target(out, force=True)
    assert contents(out) == before


def test_a_file_that_comes_while_we_write_is_not_lost(tmp_path):
    out = written(tmp_path / "out")
    with pytest.raises(InputError, match=r"thesis\.txt is no part"), whole_folder(out, force=True) as folder:
        write_record(folder, {})
        (out / "thesis.txt").write_text("x")
    assert {"thesis.txt", "a.txt"} <= set(contents(out)) and names(tmp_path) == ["out"]


def test_no_folder_in_use_is_replaced(tmp_path, monkeypatch):
    out = written(tmp_path / "out")
    for needed in (out / "a.txt", out / "meshes" / "0.txt"):
        with pytest.raises(InputError, match="in use"):
            check_target(out, force=True, needed=(None, needed))
    monkeypatch.chdir(out / "meshes")
    for place in ("..", ".", "../../out"):
        with pytest.raises(InputError, match="in use"):
            check_target(place, force=True)


def test_the_command_replaces_nothing_foreign(tmp_path, capsys):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "run.json").write_text("{}")
    (tmp_path / "p" / "thesis.txt").write_text("x")
    np.savez(tmp_path / "mesh.npz", vertices=np.zeros((3, 3)))
    assert main(["complete", str(tmp_path / "mesh.npz"), "--out", str(tmp_path / "p"), "--force"]) == 2
    assert "does not say which files belong to the result" in capsys.readouterr().err
    out = written(tmp_path / "out")
    assert main(["complete", str(out / "a.txt"), "--out", str(out), "--force"]) == 2
    assert "while it is in use" in capsys.readouterr().err


@pytest.mark.parametrize("force", [False, True])
def test_of_two_runs_at_once_the_second_refuses(tmp_path, force):
    out = written(tmp_path / "out") if force else tmp_path / "out"
    check_target(out, force=force)
    first = folders._seen.pop(out)
    check_target(out, force=force)
    with whole_folder(out, force=force) as folder:
        write_record(folder, {"text": "of the other run"})
    folders._seen[out] = first  # as the process that looked first knows it
    says = "written by another run" if force else "already holds a result"
    with pytest.raises(InputError, match=says), whole_folder(out, force=force) as folder:
        write_record(folder, {"text": "of ours"})
    assert read_json(out / "run.json")["text"] == "of the other run" and names(tmp_path) == ["out"]


def test_two_processes_that_write_at_once(tmp_path):
    """The one that comes while the other writes refuses, and the other's result is there."""
    code = (
        "import sys, time; from pathlib import Path; from diverse3d.files import whole_folder, write_record\n"
        "with whole_folder(sys.argv[1], force=False) as folder:\n"
        "    write_record(folder, {'text': 'first'}); print('in', flush=True); sys.stdin.read()\n"
    )
    out = tmp_path / "out"
    run = [sys.executable, "-c", code, str(out)]
    with subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "in\n"
        with pytest.raises(InputError, match="being written by another run"), whole_folder(out, force=False):
            pass
        first.communicate("")
    assert first.returncode == 0
    assert read_json(out / "run.json")["text"] == "first" and names(tmp_path) == ["out"]


@pytest.fixture
def dead():
    """The number of a process that is no more."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_what_a_killed_run_left_goes_with_the_next_one(tmp_path, dead):
    part = tmp_path / f".out.{dead}.part"
    (part / "meshes").mkdir(parents=True)
    (tmp_path / f".other.{dead}.part").mkdir()
    (tmp_path / f".out.{os.getppid()}.old").write_text("of a living process")
    with pytest.raises(InputError, match="another run"), whole_folder(tmp_path / "out", force=False):
        pass
    (tmp_path / f".out.{os.getppid()}.old").unlink()
    with whole_folder(tmp_path / "out", force=False) as folder:
        write_record(folder, {})
    assert names(tmp_path) == [f".other.{dead}.part", "out"]


def test_a_result_that_a_killed_run_had_set_aside_comes_back(tmp_path, dead):
    written(tmp_path / f".out.{dead}.old")
    with pytest.raises(InputError, match="already holds"), whole_folder(tmp_path / "out", force=False) as folder:
        write_record(folder, {})
    assert read_json(tmp_path / "out" / "run.json")["text"] == "first" and names(tmp_path) == ["out"]


def test_files_too(tmp_path, dead):
    (tmp_path / f".a.txt.{dead}.part").write_text("half")
    with whole_file(tmp_path / "a.txt") as aside:
        aside.write_text("whole")
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_that_goes_in_mid_run(tmp_path):
    """Before anything is written it is made again; while it is, one sentence, and nothing is there."""
    (tmp_path / "p").mkdir()
    check_target(tmp_path / "p" / "out", force=False)
    (tmp_path / "p").rmdir()
    with whole_folder(tmp_path / "p" / "out", force=False) as folder:
        write_record(folder, {})
    assert (tmp_path / "p" / "out" / "run.json").is_file()
    with (
        pytest.raises(InputError, match="[Cc]an.t (be written|write)"),
        whole_folder(tmp_path / "q" / "out", force=False) as folder,
    ):
        shutil.rmtree(tmp_path / "q")
        write_record(folder, {})
    assert not (tmp_path / "q").exists()


@pytest.mark.parametrize("name", ["x" * 300, "x" * 247, "loop/below"])
def test_names_that_cannot_be_written_are_refused_at_once(tmp_path, name):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(InputError, match="can't be written"):
        check_target(tmp_path / name, force=False)


def test_temporary_folders_of_killed_processes_go(tmp_path, dead, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for process in (dead, os.getppid()):
        (tmp_path / f"diverse3d-{process}-abc").mkdir()
    (tmp_path / f"other-{dead}-abc").mkdir()
    with temporary_folder() as folder:
        assert folder.parent == tmp_path
        kept = [f"diverse3d-{os.getppid()}-abc", f"other-{dead}-abc"]
        assert names(tmp_path) == sorted([*kept, folder.name])
    assert names(tmp_path) == sorted(kept)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(InputError, match="No temporary folder"), temporary_folder():
        pass


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux alone tells a child of its parent's end")
def test_the_reading_process_ends_with_the_one_that_waits(tmp_path):
    """However the waiting one is killed."""
    fifo, child = tmp_path / "never", Path(diverse3d.__file__).parent / "head" / "flame" / "_child.py"
    os.mkfifo(fifo)
    code = (
        "import json, os, subprocess, sys\n"
        "job = {'parent': os.getpid(), 'path': sys.argv[2], 'kind': 'pickle', 'out': sys.argv[2], 'tensors': False,"
        " 'wanted': None, 'memory_bytes': 1 << 29, 'unpacked_bytes': 1 << 20, 'unpacked_limit': '', 'cpu_seconds': 60}\n"
        "child = subprocess.Popen([sys.executable, '-I', '-S', '-B', sys.argv[1], json.dumps(job)])\n"
        "print(child.pid, flush=True); child.wait()\n"
    )
    run = [sys.executable, "-c", code, str(child), str(fifo)]
    with subprocess.Popen(run, stdout=subprocess.PIPE, text=True) as waiting:
        reading = int(waiting.stdout.readline())
        time.sleep(0.5)  # it has started, and waits for the other end of the pipe
        assert lives(reading)
        waiting.kill()
    deadline = time.monotonic() + 10
    while lives(reading) and _state(reading) != "Z" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not lives(reading) or _state(reading) == "Z"


def _state(process):
    with contextlib.suppress(FileNotFoundError):
        return (Path("/proc") / str(process) / "stat").read_text().rsplit(") ", 1)[1][0]
    return "Z"


def test_train_says_what_an_interruption_leaves(tmp_path):
    train = Train(out=tmp_path / "out")
    assert train.left == "nothing was written"
    (tmp_path / "out" / "checkpoints").mkdir(parents=True)
    assert "--resume" in train.left


def test_weights_are_written_as_any_file(tmp_path):
    old = os.umask(0o022)
    try:
        mesh = trimesh.creation.icosphere(subdivisions=2)
        config = meshvae.ModelConfig(strides=(2, 1), channels=(4,), basis=2, latent_channels=2)
        hierarchy = meshvae.build_hierarchy(mesh.vertices, mesh.faces, strides=config.strides)
        trained = meshvae.Trained(
            model=meshvae.make_model(config, hierarchy, key=jax.random.key(0)), hierarchy=hierarchy,
            template=np.array(mesh.vertices), scale=1.0, residual_scale=1.0, card={},
        )  # fmt: skip
        meshvae.save_model(trained, tmp_path / "weights.safetensors")
    finally:
        os.umask(old)
    assert (tmp_path / "weights.safetensors").stat().st_mode & 0o777 == 0o644

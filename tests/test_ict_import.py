"""Importing ICT-FaceKit: its folder in, a sound head file out; what is wrong is named, what is unusual is said."""

import contextlib
import json
import shutil
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from gnm_files import ball

from diverse3d._errors import InputError
from diverse3d.cli import main
from diverse3d.head import head_from_arrays, head_metadata, load_head
from diverse3d.head._imported import Imported
from diverse3d.head._recognise import recognise
from diverse3d.head.ict import import_ict
from diverse3d.head.ict._import import ACTIVATION_MEAN, ACTIVATION_STD, VEILS
from diverse3d.head.ict._read import ICT_VERTICES
from diverse3d.observe import observe_mesh

INDICES = {"expressions": ["jawOpen", "mouthSmile_L"], "idx_to_landmark_verts": list(range(68))}


def obj(vertices, faces=()):
    lines = [b"# made up", *(b"v %.5f %.5f %.5f" % tuple(row) for row in vertices)]
    return b"\n".join([*lines, *(b"f " + b" ".join(b"%d/1/1" % (i + 1) for i in face) for face in faces)]) + b"\n"


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    """A folder of the right names and counts, whose mesh is a ball with stray points."""
    folder = tmp_path_factory.mktemp("ict") / "FaceXModel"
    folder.mkdir()
    rng = np.random.default_rng(0)
    points, faces = ball(10.0, (0.0, 0.0, 0.0), 12, 24)
    vertices = np.concatenate([points, rng.normal(size=(ICT_VERTICES - len(points), 3))])
    (folder / "generic_neutral_mesh.obj").write_bytes(obj(vertices, faces))
    (folder / "vertex_indices.json").write_text(json.dumps(INDICES))
    for name in ("identity000", "identity001", "jawOpen"):
        (folder / f"{name}.obj").write_bytes(obj(vertices + 0.1 * rng.normal(size=vertices.shape)))
    return folder.parent


def replace(name, change):
    def apply(folder):
        path = folder / "FaceXModel" / name
        path.write_bytes(change(path.read_bytes()))

    return apply


def remove(name):
    return lambda folder: (folder / "FaceXModel" / name).unlink()


def add(name, source):
    return lambda folder: shutil.copy(folder / "FaceXModel" / source, folder / "FaceXModel" / name)


def table(**changes):
    return replace("vertex_indices.json", lambda _: json.dumps(INDICES | changes).encode())


NEUTRAL = "generic_neutral_mesh.obj"
WRONG = {
    "no neutral": (remove(NEUTRAL), f"lacks {NEUTRAL}"),
    "no json": (remove("vertex_indices.json"), "lacks vertex_indices.json"),
    "no identity": (lambda f: [remove(f"identity00{i}.obj")(f) for i in (0, 1)], "holds no identity000.obj"),
    "a gap": (
        lambda f: [add("identity002.obj", "identity001.obj")(f), remove("identity001.obj")(f)],
        "lacks identity001.obj",
    ),
    "another count": (replace(NEUTRAL, lambda d: d.replace(b"\nv ", b"\n# ", 1)), "has 26718 vertices, not the 26719"),
    "a file of another count": (replace("jawOpen.obj", lambda d: d + b"v 0 0 0\n"), "jawOpen.obj has 26720 vertices"),
    "an unknown name": (add("myScan.obj", "jawOpen.obj"), "myScan.obj is neither an identity nor an expression"),
    "no number": (replace("identity000.obj", lambda d: d.replace(b"\nv 0", b"\nv x", 1)), "no row of three numbers"),
    "two numbers": (replace("identity000.obj", lambda d: d + b"v 1 2\n"), "no row of three numbers"),
    "not finite": (replace("identity000.obj", lambda d: d[: d.rindex(b"v ")] + b"v nan 0 0\n"), "not finite"),
    "no faces": (replace(NEUTRAL, lambda d: d.replace(b"\nf ", b"\n# ")), "has no faces"),
    "a pentagon": (replace(NEUTRAL, lambda d: d + b"f 1 2 3 4 5\n"), "more than four corners; triangles and quads"),
    "a line": (replace(NEUTRAL, lambda d: d + b"f 1 2\n"), "has 2 corners"),
    "a corner twice": (replace(NEUTRAL, lambda d: d + b"f 1 2 2\n"), "has a corner twice"),
    "beyond": (replace(NEUTRAL, lambda d: d + b"f 1 2 99999\n"), "names a vertex that isn't one of"),
    "a word": (replace(NEUTRAL, lambda d: d + b"f 1 2 x\n"), "by number"),
    "an edge of three": (replace(NEUTRAL, lambda d: d + b"f 1 2 9\n"), "no surface"),
    "no json at all": (replace("vertex_indices.json", lambda d: b"{"), "is not JSON"),
    "json of something else": (replace("vertex_indices.json", lambda d: b"[1]"), "is no table"),
    "67 landmarks": (table(idx_to_landmark_verts=[1] * 67), "must be 68 vertices"),
    "landmarks beyond": (table(idx_to_landmark_verts=[ICT_VERTICES] * 68), "must be 68 vertices"),
    "no expressions": (table(expressions=None), "must be a list of names"),
    "identity zero": (
        lambda f: [add(f"identity00{i}.obj", NEUTRAL)(f) for i in (0, 1)],
        "identity components are all zero",
    ),
    "too large": (
        replace(NEUTRAL, lambda d: d.replace(b"v 0.00000 10.00000", b"v 0.00000 900000.0")),
        "size of a head in no unit",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_refused_in_one_sentence(case, made_up, tmp_path, capsys):
    change, expected = WRONG[case]
    folder = tmp_path / "ict"
    shutil.copytree(made_up, folder)
    change(folder)
    out = tmp_path / "out.safetensors"
    with pytest.raises(InputError, match=expected) as caught:
        import_ict(folder)
    assert "\n" not in str(caught.value)
    assert main(["head", "import", str(folder), "--out", str(out), "--quiet"]) == 2
    assert not out.exists() and len(capsys.readouterr().err.strip().splitlines()) == 1


def test_what_is_no_head_at_all(tmp_path, capsys):
    out = ["--out", str(tmp_path / "o.safetensors"), "--quiet"]
    mesh = tmp_path / "mesh.obj"
    mesh.write_bytes(obj([(0, 0, 0)]))
    for path, expected in (
        (tmp_path, "a folder without FaceXModel"),
        (mesh, "one mesh"),
        (tmp_path / "no", "no file or"),
    ):
        assert main(["head", "import", str(path), *out]) == 2
        assert expected in capsys.readouterr().err


def test_limits_hold(made_up, monkeypatch):
    monkeypatch.setenv("DIVERSE3D_MAX_TEXT_BYTES", "1000")
    with pytest.raises(InputError, match="DIVERSE3D_MAX_TEXT_BYTES"):
        import_ict(made_up)


class Command(NamedTuple):
    """One run of the command on the real folder."""

    code: int
    out: Path
    printed: str
    said: str
    imported: Imported


@pytest.fixture(scope="module")
def command(shared, tmp_path_factory):
    made, out = [], tmp_path_factory.mktemp("imported") / "ict.safetensors"

    def heard(folder, **options):
        made.append(import_ict(folder, **options))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setattr("diverse3d.head.ict.import_ict", heard)
        printed, said = (
            stack.enter_context(redirect_stdout(StringIO())),
            stack.enter_context(redirect_stderr(StringIO())),
        )
        code = main(["head", "import", str(shared / "ict" / "FaceXModel"), "--out", str(out)])
    return Command(code, out, printed.getvalue(), said.getvalue(), made[0])


@pytest.fixture(scope="module")
def imported(command):
    return command.imported


def test_the_real_folder_is_imported(shared, command):
    out = command.out
    assert recognise(shared / "ict") == recognise(shared / "ict" / "FaceXModel") == "ict"
    assert command.code == 0
    assert "3 of ICT-FaceKit's 100 identity files" in command.said and "no joints" in command.said
    assert "MIT" in command.printed and "photos and meshes" in command.printed
    assert head_metadata(out)["expression_names"] == "eyeBlink_R, jawOpen, mouthSmile_L"
    head = load_head(out, dtype=np.float32)
    assert (head.n_vertices, head.n_identity, head.n_expression, len(head.regions)) == (ICT_VERTICES, 3, 3, 14)
    assert head.joint_std_rad is None and head.landmarks68 is not None and len(head.landmarks_dense_index) > 440


def test_vertices_are_those_of_the_files(shared, imported):
    """Every vertex in its order: neutral + weight × (file − neutral), centimetres to metres."""
    head = head_from_arrays(imported.arrays, residual=0.0)
    folder = shared / "ict" / "FaceXModel"

    def vertices(name):
        text = (folder / f"{name}.obj").read_text().splitlines()
        return np.array([line.split()[1:4] for line in text if line.startswith("v ")], float) / 100

    neutral = vertices("generic_neutral_mesh")
    np.testing.assert_allclose(head.template_m, neutral, atol=1e-7)
    for row, name, amount in ((1, "identity001", 1.0), (4, "jawOpen", ACTIVATION_STD)):
        expected = neutral + amount * (vertices(name) - neutral)
        coefficients = np.zeros(6)
        coefficients[row] = 1.0
        assert np.abs(head.shaped(jnp.asarray(coefficients)) - expected).max() < 1e-5
    np.testing.assert_allclose(head.prior_mean, [0, 0, 0, *[ACTIVATION_MEAN / ACTIVATION_STD] * 3], rtol=1e-6)


def test_landmarks_are_the_folders_and_parts_lie_where_they_should(shared, imported):
    table = json.loads((shared / "ict" / "FaceXModel" / "vertex_indices.json").read_text())
    head = head_from_arrays(imported.arrays)
    np.testing.assert_allclose(
        head.landmarks68(head.template_m), np.asarray(head.template_m)[table["idx_to_landmark_verts"]], atol=1e-9
    )
    assert np.asarray(head.faces).max() < VEILS.start
    dense = np.asarray(head.landmarks_dense(head.template_m))
    both = dict(zip(np.asarray(head.landmarks_dense_index).tolist(), dense, strict=True))
    tip = np.asarray(head.landmarks68(head.template_m))[30]
    assert np.linalg.norm(both[4] - tip) < 0.006  # mediapipe's tip of the nose
    for side in ("left", "right"):
        eye = np.asarray(head.template_m)[np.asarray(head.regions[f"{side}_eyeball"])].mean(axis=0)
        assert (eye[0] > 0.02) == (side == "left") and 0.02 < abs(eye[0]) < 0.045


def test_metres_are_recognised_and_said(shared, imported, tmp_path):
    folder = tmp_path / "metres"
    folder.mkdir()
    source = shared / "ict" / "FaceXModel"
    for name in ("generic_neutral_mesh", "identity000"):
        lines = (source / f"{name}.obj").read_text().splitlines()
        rows = [line.split() for line in lines]
        text = [f"v {' '.join(f'{float(x) / 100:.8f}' for x in row[1:4])}" if row[:1] == ["v"] else line for row, line in zip(rows, lines, strict=True)]  # fmt: skip
        (folder / f"{name}.obj").write_text("\n".join(text) + "\n")
    shutil.copy(source / "vertex_indices.json", folder)
    again = import_ict(folder)
    assert any("unit is metres, not" in note for note in again.notes)
    np.testing.assert_allclose(again.arrays["template"], imported.arrays["template"], atol=1e-7)


def test_a_mesh_in_the_folders_order_is_used_directly(shared, imported):
    head = head_from_arrays(imported.arrays)
    seen = observe_mesh(shared / "ict" / "FaceXModel" / "identity002.obj", head=head)
    assert seen.mesh.vertices_m.shape == (ICT_VERTICES, 3)

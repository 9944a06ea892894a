"""Importing GNM Head: the official layout in, a sound head file out; what is wrong is named, what is unusual is said."""

import hashlib

import jax.numpy as jnp
import numpy as np
import pytest
from gnm_files import full_layout
from scipy.spatial.transform import Rotation

from diverse3d._errors import InputError
from diverse3d.cli import main
from diverse3d.head import HeadParameters, head_from_arrays, head_metadata, load_head, sample_head
from diverse3d.head._points68 import jaw_order
from diverse3d.head._recognise import recognise
from diverse3d.head.gnm import import_gnm
from diverse3d.head.gnm._joints import TOLERANCE_M


@pytest.fixture(scope="module")
def layout():
    return full_layout()


@pytest.fixture
def saved(tmp_path):
    def save(arrays, name="gnm_head.npz"):
        np.savez(tmp_path / name, **arrays)
        return tmp_path / name

    return save


def test_command_line_import(layout, saved, tmp_path, capsys):
    file, out = saved(layout), tmp_path / "gnm.safetensors"
    assert recognise(file) == "gnm"
    assert main(["head", "import", str(file), "--out", str(out)]) == 0
    printed = capsys.readouterr()
    words = " ".join(printed.out.split())
    for text in (
        "GNM Head 3.0",
        "14 identity, 12 expression",
        "Apache-2.0",
        "pose correctives none",
        "meshes; closed-form",
    ):
        assert text in words
    assert "half precision" in printed.err and "not GNM Head 3's 17821" in printed.err
    metadata = head_metadata(out)
    assert metadata["source_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert metadata["joint_names"] == "neck, head, left_eye, right_eye" and "head 0.10" in metadata["prior"]
    first = out.read_bytes()
    assert main(["head", "import", str(file), "--out", str(out), "--quiet"]) == 2
    assert main(["head", "import", str(file), "--out", str(out), "--quiet", "--force"]) == 0
    assert out.read_bytes() == first
    head = load_head(out)
    assert head.joint_parents == (-1, 0, 1, 1) and head.joint_std_rad is not None
    np.testing.assert_array_equal(np.asarray(head.joint_std_rad)[0], 0)


def gnm_vertices(layout, identity, expression, rotations, translation):
    """GNM's own formula, written out from its description."""
    joints = layout["template_joint_positions"] + np.einsum("i,ijc->jc", identity, layout["joint_identity_basis"])
    bind = layout["template_vertex_positions"] + np.einsum("i,ivc->vc", identity, layout["vertex_identity_basis"])
    bind = bind + np.einsum("e,evc->vc", expression, layout["expression_basis"])
    matrices = Rotation.from_rotvec(rotations).as_matrix()
    bind = bind + ((matrices - np.eye(3)).reshape(-1) @ layout["pose_correctives_regressor"]).reshape(-1, 3)
    world = []
    for joint, parent in enumerate(layout["joint_parent_indices"]):
        local = np.eye(4)
        local[:3, :3] = matrices[joint]
        local[:3, 3] = joints[joint] - (joints[parent] if parent >= 0 else 0)
        world.append(local if parent < 0 else world[parent] @ local)
    moved = 0.0
    for joint, weights in enumerate(layout["skinning_weights"]):
        placed = (bind - joints[joint]) @ world[joint][:3, :3].T + world[joint][:3, 3]
        moved = moved + weights[:, None] * placed
    return moved + translation


@pytest.mark.parametrize("correctives", [False, True])
def test_vertices_equal_the_formula(layout, saved, rng, correctives):
    arrays = dict(layout)
    if correctives:
        arrays["pose_correctives_regressor"] = rng.normal(size=layout["pose_correctives_regressor"].shape) * 1e-3
        arrays["pose_correctives_regressor"][:9] = 0
    imported = import_gnm(saved(arrays))
    assert ("pose_basis" in imported.arrays) == correctives
    head = head_from_arrays(imported.arrays, residual=0.0)
    identity, expression = rng.normal(size=14), rng.normal(size=12)
    turns, shift = 0.3 * rng.normal(size=(4, 3)), rng.normal(size=3)
    coefficients = jnp.asarray(np.concatenate([identity, expression]))
    ours = head(HeadParameters(coefficients, jnp.asarray(turns), jnp.asarray(shift)))
    theirs = gnm_vertices(arrays, identity, expression, turns, shift)
    assert np.linalg.norm(ours - theirs, axis=1).max() < 1e-5  # half precision of the bases, a joint regressor


def test_the_roots_correctives_are_left_out_and_it_is_said(layout, saved, rng):
    arrays = dict(layout)
    arrays["pose_correctives_regressor"] = rng.normal(size=layout["pose_correctives_regressor"].shape) * 1e-3
    imported = import_gnm(saved(arrays))
    assert imported.arrays["pose_basis"].shape[0] == 27
    assert any("correctives of the root, 'neck', were left out" in note for note in imported.notes)


def test_a_regressor_that_misses_the_joints_is_mended(layout, saved, rng):
    arrays = dict(layout)
    wrong = np.abs(rng.normal(size=layout["joint_regressor"].shape))
    arrays["joint_regressor"] = wrong / wrong.sum(axis=1, keepdims=True)
    imported = import_gnm(saved(arrays))
    assert any("misses the file's own joints" in note for note in imported.notes)
    head = head_from_arrays(imported.arrays, residual=0.0)
    coefficients = rng.normal(size=26)
    expected = layout["template_joint_positions"] + np.einsum(
        "i,ijc->jc", coefficients[:14], layout["joint_identity_basis"]
    )
    assert np.abs(head.joints(jnp.asarray(coefficients)) - expected).max() < 5 * TOLERANCE_M


def test_older_names_and_millimetres(layout, saved):
    arrays = dict(layout)
    arrays["identity_names"] = np.array([f"eyeballs_{i:03d}" for i in range(14)])
    arrays["expression_names"] = np.array([f"{('left_eye', 'mouth', 'eyeballs')[i % 3]}_{i:03d}" for i in range(12)])
    for name in ("template_vertex_positions", "template_joint_positions", "vertex_identity_basis", "joint_identity_basis", "expression_basis"):  # fmt: skip
        arrays[name] = layout[name] * 1000
    imported = import_gnm(saved(arrays))
    kinds = imported.metadata["components_by_kind"]
    assert kinds == "identity: 14 eyes; expression: 4 left_eye_region, 4 lower_face_region, 4 pupils"
    assert imported.metadata["unit_of_source"] == "millimetres" and any(
        "brought to metres" in n for n in imported.notes
    )
    np.testing.assert_allclose(imported.arrays["template"], layout["template_vertex_positions"], atol=1e-6)


def put(**changes):
    return lambda arrays: arrays | changes


def without(name):
    return lambda arrays: {key: value for key, value in arrays.items() if key != name}


def changed(name, change):
    return lambda arrays: arrays | {name: change(arrays[name].copy())}


def nan(array):
    array.reshape(-1)[5] = np.nan
    return array


WRONG = {
    "another version": (put(version=np.array("2.1")), "it is GNM 2.1 of the variant 'head'; GNM Head 3"),
    "another variant": (put(variant=np.array("body")), "variant 'body'"),
    "no version": (without("version"), "array 'version' is missing"),
    "objects": (put(identity_names=np.array([{}, None], object)), "tells of Python objects|no numbers"),
    "no template": (without("template_vertex_positions"), "'template_vertex_positions' is missing"),
    "no triangles": (without("triangles"), "'triangles' is missing"),
    "quads": (lambda a: a | {"triangles": a["quads"]}, r"'triangles' has shape \[\d+, 4\]; \[triangles, 3\]"),
    "an edge of three": (changed("triangles", lambda t: np.concatenate([t, t[:1]])), "no surface: 3 edges"),
    "a triangle beyond": (changed("triangles", lambda t: t + 100), "must hold indices"),
    "inside out": (changed("triangles", lambda t: t[:, ::-1]), "face inwards"),
    "not finite": (changed("vertex_identity_basis", nan), "'vertex_identity_basis' holds values that are not finite"),
    "identity zero": (changed("vertex_identity_basis", lambda b: 0 * b), "identity components are all zero"),
    "huge": (changed("expression_basis", lambda b: 1e4 * b), "moves a vertex by"),
    "misshapen basis": (changed("expression_basis", lambda b: b[:, :-1]), "'expression_basis' has shape"),
    "fewer names": (changed("identity_names", lambda n: n[:-1]), "'vertex_identity_basis' has shape"),
    "names that are numbers": (put(joint_names=np.arange(4)), "'joint_names' has shape"),
    "a name twice": (changed("joint_names", lambda n: np.where(n == "head", "neck", n)), "names 'neck' twice"),
    "a strange name": (put(joint_names=np.array(["neck", "../x", "a", "b"])), "no name of letters"),
    "no tree": (put(joint_parent_indices=np.array([-1, 2, 1, 1])), "is no tree"),
    "weights": (changed("skinning_weights", lambda w: 2 * w), "shares that sum to 1"),
    "joint regressor": (changed("joint_regressor", lambda w: 0 * w), "'joint_regressor' must sum to 1"),
    "mirror": (changed("mirror_indices", lambda m: m + 9999), "'mirror_indices' must hold"),
    "groups": (changed("vertex_groups", lambda g: g[1:]), "'vertex_groups' has shape"),
    "size of no head": (changed("template_vertex_positions", lambda t: 1e4 * t), "size of a head in no unit"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_refused_in_one_sentence(case, layout, saved, tmp_path, capsys):
    change, expected = WRONG[case]
    file, out = saved(change(layout)), tmp_path / "out.safetensors"
    with pytest.raises(InputError, match=expected) as caught:
        import_gnm(file)
    assert str(caught.value).startswith(str(file)) and "\n" not in str(caught.value)
    assert main(["head", "import", str(file), "--out", str(out), "--quiet"]) == 2
    assert not out.exists() and len(capsys.readouterr().err.strip().splitlines()) == 1


def test_sizes_are_checked_before_anything_is_unpacked(layout, saved, monkeypatch):
    file = saved(layout)
    monkeypatch.setenv("DIVERSE3D_MAX_IMPORT_UNPACKED_BYTES", "50000")
    with pytest.raises(InputError, match="unpacks to more.*DIVERSE3D_MAX_IMPORT_UNPACKED_BYTES"):
        import_gnm(file)


def test_options_of_other_heads_are_refused(layout, saved, tmp_path, capsys):
    file = saved(layout)
    for option, expected in (
        (["--identity", "10"], "--identity is for FLAME's files"),
        (["--landmarks", "none", "x"], "--landmarks none stands alone"),
        (["--landmarks", "a", "b"], "takes one file"),
        (["--landmarks", "find"], "too coarse for landmarks"),
    ):
        assert main(["head", "import", str(file), "--out", str(tmp_path / "o.safetensors"), "--quiet", *option]) == 2
        assert expected in capsys.readouterr().err


def test_landmark_text_is_checked(layout, saved, tmp_path):
    file, text = saved(layout), tmp_path / "points.txt"
    a, b, c = layout["triangles"][0]
    row = f"{a} 0.2 {b} 0.3 {c} 0.5"
    for content, expected in (
        ("\n".join([row] * 67), "no 68 lines"),
        ("\n".join([row] * 67 + ["1 2 3"]), "no 68 lines"),
        ("\n".join([row] * 67 + ["a 0.2 1 0.3 2 0.5"]), "no number"),
        ("\n".join([row] * 67 + ["9999 0.2 1 0.3 2 0.5"]), "vertices from 0"),
        ("\n".join([row] * 67 + ["0 0.2 1 0.3 2 0.9"]), "sum to 1"),
        ("\n".join([row] * 67 + ["0 0.2 83 0.3 100 0.5"]), "not of one triangle"),
    ):
        text.write_text(content)
        with pytest.raises(InputError, match=expected):
            import_gnm(file, landmarks=text)


def test_a_jaw_line_out_of_order_is_sorted():
    angle = np.linspace(-1.5, 1.5, 17)
    points = np.zeros((68, 3))
    points[:17] = np.stack([np.sin(angle), -np.cos(angle), 0 * angle], axis=1)
    shuffled = points.copy()
    shuffled[2:7] = points[6:1:-1]
    np.testing.assert_array_equal(shuffled[jaw_order(shuffled)], points)
    np.testing.assert_array_equal(jaw_order(points), np.arange(68))


def test_joints_drawn_from_the_prior_treat_no_eye_as_a_jaw(layout, saved):
    """Joint 2 is FLAME's jaw, which opens one way only; here it is an eye."""
    import jax

    head = head_from_arrays(import_gnm(saved(layout)).arrays)
    poses = jax.vmap(lambda key: sample_head(head, key=key).pose)(jax.random.split(jax.random.key(0), 64))
    assert (poses[:, 2, 0] < 0).any() and (poses[:, 2, 0] > 0).any()


def test_the_real_geometry_is_imported(shared, saved, monkeypatch):
    """The real template with made-up skinning: regions, landmarks and colours by what comes with the package."""
    arrays = full_layout(np.load(shared / "gnm" / "sample.npz"))
    imported = import_gnm(saved(arrays))
    head = head_from_arrays(imported.arrays, dtype=np.float32)
    assert len(head.regions) == 14 and head.landmarks68 is not None and head.landmarks_dense is not None
    assert len(head.landmarks_dense_index) > 440 and head.colours is not None
    own = np.asarray(head.landmarks68(head.template_m))
    assert "nose" in head.local_models
    monkeypatch.setattr("diverse3d.head.gnm._import.higher_local_arrays", lambda *_: ({}, "none"))  # slow
    given = import_gnm(saved(arrays), landmarks=shared / "gnm" / "head_sparse_68.txt")
    assert any("were sorted" in note for note in given.notes)
    other = head_from_arrays(given.arrays, dtype=np.float32)
    theirs = np.asarray(other.landmarks68(other.template_m))
    apart = 1e3 * np.linalg.norm(own - theirs, axis=1)
    assert apart[36:].mean() < 5 and apart.max() < 30  # mm; brows and jaw lines are drawn by other rules
    right, left = own[36:42].mean(axis=0), own[42:48].mean(axis=0)
    assert right[0] < -0.02 and left[0] > 0.02
    for side, eye in (("left", left), ("right", right)):
        ball = arrays["template_vertex_positions"][imported.arrays[f"region/{side}_eyeball/vertices"]]
        assert np.linalg.norm(ball.mean(axis=0) - eye) < 0.02
    regions = {name: set(np.asarray(index).tolist()) for name, index in head.regions.items()}
    assert not regions["face"] & (regions["neck"] | regions["scalp"]) and regions["lips"] < regions["face"]

"""The embedded head as it is shipped: mesh, bases, joints, regions and landmarks; and the pieces of its builder."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from helpers import rotation_about
from safetensors import safe_open
from safetensors.numpy import load_file
from scipy.spatial import cKDTree

import diverse3d
from diverse3d._errors import InputError
from diverse3d.head import load_head
from diverse3d.head.build import _bases, _expressions, _identities, _mesh, _source, _write, build_head
from diverse3d.head.population import split

ASSETS = Path(diverse3d.__file__).parent / "assets"
HEAD = ASSETS / "head.safetensors"
REGIONS = """face neck scalp boundary right_eyeball left_eyeball right_ear left_ear forehead eye_region nose lips
right_eye_region left_eye_region""".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def table():
    return load_file(HEAD)


@pytest.fixture(scope="module")
def mirror(table):
    distance, index = cKDTree(table["template"]).query(table["template"] * np.array([-1, 1, 1], np.float32))
    assert distance.max() < 1e-6, "the template is symmetric"
    return index


def components(table, name):
    return table[f"{name}_basis"].astype(np.float32) * table[f"{name}_scale"][:, None, None]


def project(flat, basis):
    """Coefficients by scalar products: components are orthogonal up to half precision."""
    return flat @ (basis / np.square(basis).sum(axis=1, keepdims=True)).T


def landmarks(table, vertices, name="landmarks68"):
    corners = vertices[table["faces"][table[f"{name}_face"]]]
    return (corners * table[f"{name}_barycentric"][:, :, None]).sum(axis=1)


def test_the_file_is_small_says_where_it_comes_from_and_loads():
    assert HEAD.stat().st_size < 12e6
    assert (ASSETS / "population.safetensors").stat().st_size < 4e6
    with safe_open(HEAD, framework="numpy") as file:
        metadata = file.metadata()
    assert metadata["licence"] == "CC0-1.0" and metadata["source_sha256"] == _source.WHEEL_SHA256
    notice = (ASSETS / "NOTICE-head.md").read_text(encoding="utf-8")
    for name in ("head.safetensors", "population.safetensors", "albedo.safetensors"):
        assert hashlib.sha256((ASSETS / name).read_bytes()).hexdigest() in notice
    head = load_head()
    assert head.template_m.shape[0] == head.skinning_weights.shape[0]


def test_the_mesh_is_a_skin_open_at_the_neck_and_two_closed_eyeballs(table):
    faces, count = table["faces"], len(table["template"])
    assert 4000 <= count <= 6000
    np.testing.assert_array_equal(np.unique(faces), np.arange(count))
    directed = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    assert len(np.unique(directed, axis=0)) == len(directed), "neighbouring faces agree on what is outside"
    unique, uses = np.unique(np.sort(directed, axis=1), axis=0, return_counts=True)
    loop = unique[uses == 1]
    assert uses.max() == 2 and (np.unique(loop, return_counts=True)[1] == 2).all()
    assert np.isin(loop, table["region/boundary/vertices"]).all()
    eyes = [table[f"region/{side}_eyeball/vertices"] for side in ("left", "right")]
    for part in eyes:
        own = faces[np.isin(faces, part).any(axis=1)]
        assert np.isin(own, part).all()
        assert np.linalg.det(table["template"][own].astype(float) - table["template"][part].mean(0)).sum() > 0
    assert np.linalg.det(table["template"][faces].astype(float)).sum() > 0


def test_axes_origin_and_size_are_those_of_flame(table, shared):
    flame = np.load(shared / "flame" / "flame2023_60.npz")["v_template"]
    masks = np.load(shared / "flame" / "flame_masks.npz")
    for eye in ("left_eyeball", "right_eyeball"):
        ours = table["template"][table[f"region/{eye}/vertices"]].mean(axis=0)
        assert np.linalg.norm(ours - flame[masks[eye]].mean(axis=0)) < 0.005
    extent, goal = np.ptp(table["template"], axis=0), np.ptp(flame, axis=0)
    assert (np.abs(extent / goal - 1) < 0.25).all()
    nose = table["template"][table["region/nose/vertices"]].mean(axis=0)
    assert nose[2] > table["template"][:, 2].mean() + 0.03, "the face looks towards +z"


@pytest.mark.parametrize("kind", ["identity", "expression"])
def test_components_are_stored_at_full_scale_and_in_order(table, kind):
    np.testing.assert_allclose(np.abs(table[f"{kind}_basis"]).max(axis=(1, 2)), 1.0)
    size = np.square(components(table, kind)).sum(axis=(1, 2))
    assert (np.diff(size) <= 1e-3 * size[:-1]).all()


def test_held_back_heads_are_within_the_bases_and_coefficients_have_unit_variance(table):
    heads = split("test", 128)
    neutral, expressed = np.asarray(heads.neutral), np.asarray(heads.vertices)
    means = table["prior_mean"]
    start = 0
    for kind, offsets in (("identity", neutral - table["template"]), ("expression", expressed - neutral)):
        basis = components(table, kind).reshape(len(table[f"{kind}_scale"]), -1)
        flat = offsets.reshape(len(offsets), -1)
        coefficients = project(flat, basis)
        left = flat - coefficients @ basis
        assert 1e3 * np.sqrt(3 * np.square(left).mean()) < 0.15, f"{kind}: millimetres left over"
        spread = coefficients.std(axis=0)
        assert 0.7 < np.sqrt(np.mean(spread[:20] ** 2)) < 1.3
        centre = coefficients[:, :20].mean(axis=0) - means[start : start + 20]
        assert np.abs(centre).max() < 5 / np.sqrt(len(flat))
        start += len(basis)
    assert len(means) == start and (means[: len(table["identity_scale"])] == 0).all()


def test_joints_lie_where_they_should(table):
    regressor, weights = table["joint_regressor"], table["skinning_weights"]
    np.testing.assert_allclose(regressor.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-5)
    assert regressor.min() >= 0 and weights.min() >= 0
    np.testing.assert_array_equal(table["joint_parents"], [-1, 0, 1, 1, 1])
    joints = regressor @ table["template"]
    np.testing.assert_allclose(joints[:3, 0], 0.0, atol=1e-5)
    for joint, side in ((3, "left"), (4, "right")):
        eye = table[f"region/{side}_eyeball/vertices"]
        np.testing.assert_allclose(joints[joint], table["template"][eye].mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(weights[eye, joint], 1.0)
    assert joints[3, 0] > 0.02, "the left eye is the person's"
    assert joints[0, 1] < joints[1, 1] < joints[3, 1] and joints[2, 2] < joints[3, 2]


def test_the_jaw_opens_the_mouth(table):
    joint, template = (table["joint_regressor"] @ table["template"])[2], table["template"].astype(float)
    turned = (template - joint) @ rotation_about(np.array([1.0, 0.0, 0.0]), np.radians(20)).T + joint
    jaw = table["skinning_weights"][:, 2:3]
    opened = template + jaw * (turned - template)
    shut, open_ = landmarks(table, template), landmarks(table, opened)
    gap = lambda points: points[61:64, 1].mean() - points[65:68, 1].mean()  # noqa: E731
    assert abs(gap(shut)) < 0.006 and gap(open_) > 0.015
    assert np.linalg.norm(open_[51] - shut[51]) < 0.004, "the upper lip stays"
    assert np.linalg.norm(open_[8] - shut[8]) > 0.02, "the chin drops"
    assert np.linalg.norm(open_[36:48] - shut[36:48], axis=1).max() < 1e-3, "the eyes stay"


def test_there_are_flames_fourteen_regions_and_they_cover_the_head(table, mirror):
    found = {name.split("/")[1]: table[name] for name in table if name.endswith("/vertices")}
    assert sorted(found) == sorted(REGIONS)
    np.testing.assert_array_equal(np.unique(np.concatenate(list(found.values()))), np.arange(len(table["template"])))
    for name, vertices in found.items():
        side, _, rest = name.partition("_")
        twin = {"left": f"right_{rest}", "right": f"left_{rest}"}.get(side, name)
        np.testing.assert_array_equal(np.sort(mirror[vertices]), found[twin])
        if side in ("left", "right"):
            assert (np.sign(table["template"][vertices, 0]) == (1 if side == "left" else -1)).all()
    for part in ("nose", "lips", "eye_region", "forehead", "left_eye_region"):
        assert np.isin(found[part], found["face"]).all()


def test_regions_explain_what_the_global_components_leave(table):
    """Sequentially fitted, their sum must reduce the residual of held-back heads, not double it."""
    heads = split("test", 64)
    offsets = {"identity": np.asarray(heads.neutral) - table["template"]}
    offsets["expression"] = np.asarray(heads.vertices - heads.neutral)
    residual = np.zeros_like(offsets["identity"])
    for kind, offset in offsets.items():
        basis = components(table, kind)[:10].reshape(10, -1)
        flat = offset.reshape(len(offset), -1)
        few = project(flat, basis) @ basis
        residual += (flat - few).reshape(offset.shape)
    before = np.square(residual).sum(axis=2)
    for name in _bases.LOCAL_ORDER:
        index = table[f"region/{name}/vertices"]
        basis = table[f"region/{name}/basis"].astype(np.float32) * table[f"region/{name}/scale"][:, None, None]
        basis = basis.reshape(len(basis), -1)
        part = (residual[:, index] - table[f"region/{name}/mean"]).reshape(len(residual), -1)
        part -= project(part, basis) @ basis
        residual[:, index] = part.reshape(len(residual), -1, 3)
    after = np.square(residual).sum(axis=2)
    face = table["region/face/vertices"]
    assert after[:, face].mean() < 0.1 * before[:, face].mean()
    assert not any(f"region/{name}/basis" in table for name in ("boundary", "neck"))


def test_landmarks_lie_where_their_names_say(table):
    points = landmarks(table, table["template"].astype(float))
    assert table["landmarks68_barycentric"].min() >= 0
    np.testing.assert_allclose(table["landmarks68_barycentric"].sum(axis=1), 1.0, atol=1e-5)
    x, y, z = points.T
    right_eye, left_eye = points[36:42], points[42:48]
    assert (right_eye[:, 0] < 0).all() and (left_eye[:, 0] > 0).all()
    assert x[36] < x[39] < 0 < x[42] < x[45], "outer and inner corners of the eyes"
    for upper, lower in ((37, 41), (38, 40), (43, 47), (44, 46)):
        assert 0.003 < y[upper] - y[lower] < 0.015
    assert x[48] < x[60] < 0 < x[64] < x[54], "corners of the mouth: outer ones outside the inner ones"
    for upper, lower in ((61, 67), (62, 66), (63, 65)):
        assert abs(x[upper] - x[lower]) < 0.004 and -0.001 < y[upper] - y[lower] < 0.006
    assert (z[27:31] > z[[36, 45]].max()).all() and z.argmax() in (30, 33), "the nose is foremost"
    assert y.argmin() == 8 and abs(x[8]) < 1e-3, "the chin is lowest"
    assert (np.diff(x[:17]) > 0).all() and (np.diff(x[17:27]) > 0).all(), "jaw and brows run from right to left"
    assert (y[17:27] > y[36:48].max()).all(), "brows above eyes"


def test_landmarks_are_symmetric_and_the_lips_on_the_right_lip(table):
    from diverse3d.observe._landmarks68 import IBUG68_MIRRORED

    points = landmarks(table, table["template"].astype(float))
    twins = points[list(IBUG68_MIRRORED)] * [-1.0, 1.0, 1.0]
    assert np.linalg.norm(points - twins, axis=1).max() < 1.5e-3
    jaw = (table["skinning_weights"][table["faces"][table["landmarks68_face"]], 2]).mean(axis=1)
    assert jaw[61:64].max() < jaw[65:68].min(), "inner points of the upper and the lower lip"


def test_dense_landmarks_agree_with_the_sixty_eight(table):
    from diverse3d.observe._landmarks68 import IBUG68_FROM_MEDIAPIPE

    index = table["landmarks_dense_index"]
    assert (np.diff(index) > 0).all() and index[0] >= 0 and index[-1] < 468 and len(index) >= 400
    dense = landmarks(table, table["template"].astype(float), "landmarks_dense")
    at = {int(i): p for i, p in zip(index, dense, strict=True)}
    points = landmarks(table, table["template"].astype(float))
    gap = [np.linalg.norm(points[k] - at[i]) for k, i in enumerate(IBUG68_FROM_MEDIAPIPE)]
    assert max(gap) < 4e-3


def test_writing_is_reproducible_and_reads_back(tmp_path, rng):
    tensors = {
        "b": rng.standard_normal((3, 2)).astype(np.float16),
        "a/x": np.arange(5, dtype=np.int32),
        "c": np.zeros((0, 3), np.float32),
        "d": np.arange(3, dtype=np.uint8),
    }
    for name, order in (("one", list(tensors)), ("two", list(tensors)[::-1])):
        _write.write_tensors(tmp_path / name, {k: tensors[k] for k in order}, {"z": "1", "y": "é"})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    for key, value in load_file(tmp_path / "one").items():
        np.testing.assert_array_equal(value, tensors[key])
    with safe_open(tmp_path / "one", framework="numpy") as file:
        assert file.metadata() == {"z": "1", "y": "é"}


def test_only_the_pinned_wheel_is_accepted(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        build_head(tmp_path / "absent.whl", tmp_path / "h", population_out=tmp_path / "p")
    (tmp_path / _source.WHEEL_NAME).write_bytes(b"something else")
    for call in (
        lambda: build_head(tmp_path / _source.WHEEL_NAME, tmp_path / "h", population_out=tmp_path / "p"),
        lambda: _source.fetch_wheel(tmp_path),
    ):
        with pytest.raises(InputError, match="not the pinned"):
            call()
    assert not (tmp_path / "h").exists() and not (tmp_path / "p").exists()


def test_targets_are_paired_into_signed_channels():
    names = ["nose-hump-decr", "nose-hump-incr", "l-eye-trans-in", "l-eye-trans-out", "r-eye-trans-in"]
    names += ["l-eye-trans-up", "head-trans-up", "head-oval", "asym-nose-1-l", "asym-nose-1-r"]
    paired = _identities.pair_targets(names)
    assert paired.name == [name for name in names if name != "head-trans-up"], "what moves the head is left out"
    np.testing.assert_array_equal(paired.channel, [0, 0, 1, 1, 1, 2, 3, 4, 4])
    np.testing.assert_array_equal(paired.direction, [-1, 1, -1, 1, -1, 1, 1, 1, -1])
    np.testing.assert_array_equal(paired.side, [0, 0, 1, 1, -1, 1, 0, 0, 0])


def test_units_are_grouped_and_expressions_spelt_out():
    recipes = {
        name.replace("*", side) for r in _expressions.PROTOTYPES.values() for name in r for side in ("Left", "Right")
    }
    motions = {u for pair in _expressions._MOTIONS.values() for units in pair for u in units}
    names = sorted(recipes | motions | set(_expressions.COUPLED))
    units = _expressions.group_units(names)
    at = {name: i for i, name in enumerate(names)}
    assert units.group[at["mouthSmileLeft"]] == units.group[at["mouthSmileRight"]]
    assert units.side[at["mouthSmileLeft"]] == 1 == -units.side[at["mouthSmileRight"]]
    assert units.direction[at["jawLeft"]] == 1 == -units.direction[at["jawRight"]]
    assert units.group[at["eyeLookOutLeft"]] == units.group[at["eyeLookInRight"]]
    smile = units.prototypes[list(_expressions.PROTOTYPES).index("smile")]
    assert smile[at["mouthSmileLeft"]] == smile[at["mouthSmileRight"]] == np.float32(0.8)


def test_principal_components_equal_the_full_decomposition(rng):
    offsets = (rng.standard_normal((300, 6)) * [9, 7, 5, 3, 2, 1]) @ np.linalg.qr(rng.standard_normal((60, 6)))[0].T
    offsets = (offsets - offsets.mean(axis=0)).astype(np.float32)
    basis = _bases.principal_components(offsets, largest=20, share=0.98)
    values = np.linalg.svd(offsets.astype(float), compute_uv=False) / np.sqrt(len(offsets))
    np.testing.assert_allclose(basis.deviations, values[: len(basis.deviations)], rtol=1e-4)
    assert basis.kept()[-1] >= 0.98 > basis.kept()[-2]
    np.testing.assert_allclose(basis.directions @ basis.directions.T, np.eye(len(basis.directions)), atol=1e-6)


def test_subdividing_a_quad_gives_four_that_keep_its_turn():
    parents, quads = _mesh._subdivide(np.array([[5, 6, 7, 8]]))
    assert parents.shape == (9, 4) and quads.shape == (4, 4)
    square = np.zeros((9, 2))
    square[5:9] = [[0, 0], [1, 0], [1, 1], [0, 1]]
    places = square[parents].mean(axis=1)[quads]
    area = sum(np.linalg.det(np.stack([places[:, k], places[:, (k + 1) % 4]], axis=1)) for k in range(4)) / 2
    np.testing.assert_allclose(area, 0.25)


def test_edges_that_stick_out_are_trimmed():
    tube = _tube(8, 4)
    trimmed = _mesh._smooth_edge(np.concatenate([tube, [[24, 25, 325, 324]]]))
    np.testing.assert_array_equal(trimmed, tube)


def _tube(around, rows):
    index = np.arange(around * rows).reshape(rows, around)
    nxt = np.roll(index, -1, axis=1)
    return np.stack([index[:-1], nxt[:-1], nxt[1:], index[1:]], axis=-1).reshape(-1, 4)

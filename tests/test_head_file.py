"""Head files: what is written is read, and every kind of damage is named."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tiny_arrays
from safetensors.numpy import save, save_file

from diverse3d._errors import InputError
from diverse3d.head import head_from_arrays, head_metadata, load_head


@pytest.fixture
def head_file(tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_file(tiny_arrays(), path, metadata={"name": "tiny", "licence": "CC0"})
    return path


def test_round_trip(head_file, tiny_head):
    head = load_head(head_file)
    assert head.name == "tiny" and len(head.sha256) == 64
    assert head_metadata(head_file) == {"name": "tiny", "licence": "CC0"}
    assert load_head(str(head_file)).sha256 == head.sha256
    for name in (
        "template_m",
        "components_m",
        "prior_mean",
        "skinning_weights",
        "pose_basis_m",
        "joint_std_rad",
        "colours",
    ):
        np.testing.assert_array_equal(getattr(head, name), getattr(tiny_head, name), err_msg=name)
    arrays = tiny_arrays()
    np.testing.assert_array_equal(head.faces, arrays["faces"])
    basis = arrays["expression_basis"].astype(float) * arrays["expression_scale"].astype(float)[:, None, None]
    np.testing.assert_allclose(head.components_m[6:].reshape(4, -1, 3), basis, atol=1e-9)
    assert sorted(head.regions) == ["face", "left_eyeball", "neck", "nose", "right_eyeball"]
    assert sorted(head.local_models) == ["face", "left_eyeball", "nose", "right_eyeball"]


def test_a_changed_file_is_read_anew(head_file):
    load_head(head_file)
    save_file(tiny_arrays() | {"prior_mean": np.ones(10, np.float32)}, head_file)
    head = load_head(head_file)
    assert head.name == "tiny"  # without metadata: the file's own name
    np.testing.assert_array_equal(head.prior_mean, np.ones(10))


def test_type_asked_for(head_file):
    head = load_head(head_file, dtype=jnp.float32)
    assert head.dtype == jnp.float32 and head.joint_components_m.dtype == jnp.float32
    assert load_head(head_file).dtype == jnp.float64


def test_the_three_required_arrays_are_enough():
    arrays = {name: tiny_arrays()[name] for name in ("template", "faces", "identity_basis")}
    head = head_from_arrays(arrays)
    assert (head.n_components, head.n_expression, head.n_joints) == (6, 0, 1)
    assert head.landmarks68 is None and head.pose_basis_m is None and head.joint_std_rad is None
    np.testing.assert_allclose(head(head.neutral()), head.template_m, atol=1e-15)


def changed(name, change):
    """`tiny_arrays` with one array changed (or, where the change gives None, without it)."""
    arrays = tiny_arrays()
    value = change(arrays[name])
    return {key: a for key, a in arrays.items() if key != name} | ({} if value is None else {name: value})


def with_nan(array):
    array = array.copy()
    array.flat[0] = np.nan
    return array


def beyond(array):
    array = array.copy()
    array.flat[0] = 10_000
    return array


DAMAGE = [
    *[(name, "missing", lambda a: None) for name in ("template", "faces", "identity_basis", "landmarks68_barycentric",
                                                   "landmarks_dense_barycentric", "landmarks_dense_index")],
    *[(name, "not finite", with_nan) for name in ("template", "identity_basis", "expression_scale", "region/nose/mean")],
    *[(name, "indices", beyond) for name in ("faces", "landmarks68_face", "landmarks_dense_index", "region/nose/vertices")],
    *[(name, "indices", lambda a: -1 - a) for name in ("faces", "region/face/vertices")],
    *[(name, "indices", lambda a: a.astype(np.float32)) for name in ("faces", "landmarks68_face", "landmarks_dense_index")],
    *[
        (name, "shape", lambda a: a[:-1])
        for name in ("identity_scale", "prior_mean", "joint_regressor", "skinning_weights", "joint_std", "pose_basis",
                     "landmarks68_barycentric", "landmarks_dense_index", "colours", "region/nose/mean", "region/nose/scale")
    ],
    *[
        (name, "shape", lambda a: a[..., :-1])
        for name in ("template", "faces", "identity_basis", "expression_basis", "region/nose/basis")
    ],
    *[(name, "sum to 1", lambda a: 1.1 * a) for name in ("joint_regressor", "skinning_weights")],
    ("joint_parents", "tree", lambda a: a[::-1].copy()),
    ("joint_parents", "tree", lambda a: np.array([-1, 0, 4, 1, 1])),
    ("joint_parents", "tree", lambda a: a[:, None]),
    ("joint_parents", "tree", lambda a: a[:0]),
    ("joint_parents", "tree", lambda a: a + 0.5),
    ("colours", "type", lambda a: a.astype(np.float32)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "says", "change"), DAMAGE, ids=[f"{i}-{name}-{says}" for i, (name, says, _) in enumerate(DAMAGE)]
)
def test_damage_is_named(name, says, change):
    with pytest.raises(InputError, match=name.split("/")[-1]) as caught:
        head_from_arrays(changed(name, change))
    assert name in str(caught.value) and says in str(caught.value)
    assert str(caught.value).endswith(".") or str(caught.value).endswith(")")


def test_another_number_of_landmarks_is_refused():
    arrays = tiny_arrays()
    fewer = {f"landmarks68_{part}": arrays[f"landmarks68_{part}"][:-1] for part in ("face", "barycentric")}
    with pytest.raises(InputError, match="landmarks68_face.*68 landmarks"):
        head_from_arrays(arrays | fewer)


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", bytes(8), b"\xff" * 64, save({"a": np.zeros(4)})[:-3], np.random.default_rng(0).bytes(300)],
    ids=["empty", "text", "zeros", "huge header", "truncated", "noise"],
)
def test_files_that_are_no_head_files(tmp_path, content):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    for read in (load_head, head_metadata):
        with pytest.raises(InputError, match="bad.safetensors"):
            read(path)


def test_a_sound_file_without_a_head_names_file_and_array(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"weights": np.zeros(3)}, path)
    with pytest.raises(InputError, match=r"other\.safetensors.*template"):
        load_head(path)


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(InputError, match="no head file"):
            load_head(path)


def test_too_large_a_file_is_refused_unread(tmp_path):
    path = tmp_path / "sparse.safetensors"
    with path.open("wb") as file:
        file.truncate((1 << 30) + 1)
    with pytest.raises(InputError, match="refused"):
        load_head(path)

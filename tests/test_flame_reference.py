"""An imported head is FLAME to the last digit: against a reference written out in numpy, vertex by vertex."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flame_files import official_pickle, shared_flame, small_flame
from helpers import check_derivatives

from diverse3d._errors import InputError
from diverse3d.head import HeadParameters, head_from_arrays, load_head
from diverse3d.head.flame import (
    flame_parameters,
    import_flame,
    read_flame_parameters,
    write_flame_parameters,
    write_head,
)


def rodrigues(vector: np.ndarray) -> np.ndarray:
    """Rotation matrix of an axis-angle vector."""
    angle = np.linalg.norm(vector)
    if angle == 0:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def reference(model, shape, expression, pose, translation) -> np.ndarray:
    """FLAME (Li et al. 2017, section 3): shape and expression, pose correctives, joints, linear blend skinning."""
    betas = np.concatenate([shape, expression])
    shaped = model["v_template"] + model["shapedirs"] @ betas
    joints = model["J_regressor"] @ shaped
    turns = [rodrigues(rotation) for rotation in pose]
    feature = np.concatenate([(turn - np.eye(3)).ravel() for turn in turns[1:]])
    posed = shaped + model["posedirs"] @ feature
    world = []
    for joint, turn in enumerate(turns):
        parent = int(np.int32(model["kintree_table"][0][joint].astype(np.int64) - (joint == 0) * 2**32))
        local = np.eye(4)
        local[:3, :3], local[:3, 3] = turn, joints[joint] - (joints[parent] if joint else 0)
        world.append(local if joint == 0 else world[parent] @ local)
    vertices = np.empty_like(posed)
    for index, vertex in enumerate(posed):
        blended = np.zeros(3)
        for joint in range(len(turns)):
            at_rest = np.append(vertex - joints[joint], 1)
            blended += model["weights"][index, joint] * (world[joint] @ at_rest)[:3]
        vertices[index] = blended + translation
    return vertices


def imported(model, tmp_path, protocol=2, **options):
    """The model through an official pickle, the importer and the head file."""
    file, out = tmp_path / "generic_model.pkl", tmp_path / "head.safetensors"
    file.write_bytes(official_pickle(model, protocol))
    write_head(import_flame(file, **options), out)
    return load_head(out, residual=0.0)  # the model alone, without what every imported head gets


def random_parameters(rng, head):
    shape, expression = rng.normal(size=head.n_identity), rng.normal(size=head.n_expression)
    pose = rng.normal(0, [[1.0], [0.3], [0.3], [0.4], [0.4]], size=(5, 3))
    return shape, expression, pose, rng.normal(size=3)


def run(head, shape, expression, pose, translation):
    parameters = HeadParameters(jnp.asarray(np.r_[shape, expression]), jnp.asarray(pose), jnp.asarray(translation))
    return np.asarray(_RUN(head, parameters))


_RUN = jax.jit(lambda head, parameters: head(parameters))


@pytest.mark.parametrize("protocol", [0, 2])
def test_vertices_equal_the_reference(protocol, rng, tmp_path):
    model = small_flame(rng)
    head = imported(model, tmp_path, protocol, identity=24)
    assert (head.n_identity, head.n_expression, head.joint_parents) == (24, 13, (-1, 0, 1, 1, 1))
    for _ in range(20):
        values = random_parameters(rng, head)
        np.testing.assert_allclose(run(head, *values), reference(model, *values), rtol=0, atol=1e-12)
    rest = run(head, np.zeros(24), np.zeros(13), np.zeros((5, 3)), np.zeros(3))
    np.testing.assert_allclose(rest, model["v_template"], rtol=0, atol=1e-15)


def test_vertices_equal_the_reference_on_the_real_template(shared, rng, tmp_path):
    model = shared_flame(shared / "flame")
    head = imported(model, tmp_path, identity=60)
    assert head.template_m.shape == (5023, 3) and head.components_m.dtype == jnp.float64
    for _ in range(2):
        values = random_parameters(rng, head)
        np.testing.assert_allclose(run(head, *values), reference(model, *values), rtol=0, atol=1e-12)
    # Each joint on its own: neck, jaw and eyes are where FLAME has them.
    for joint in range(5):
        pose = np.zeros((5, 3))
        pose[joint] = [0.3, -0.2, 0.1]
        values = (np.zeros(60), np.zeros(4), pose, np.zeros(3))
        np.testing.assert_allclose(run(head, *values), reference(model, *values), rtol=0, atol=1e-12)


def test_gradients(rng, tmp_path):
    model = small_flame(rng, identity=3, expression=2)
    head = imported(model, tmp_path, identity=3)
    shape, expression, pose, translation = random_parameters(rng, head)
    some = np.array([0, 40, 93, 99, 103])

    def corner(coefficients, pose, translation):
        return head(HeadParameters(coefficients, pose, translation))[some]

    check_derivatives(corner, np.r_[shape, expression], pose, translation)


def test_parameters_round_trip_under_vhaps_names(rng, tmp_path):
    model = small_flame(rng)
    head = imported(model, tmp_path, identity=24)
    shape, *_ = random_parameters(rng, head)
    frames = []
    for _ in range(3):
        _, expression, pose, translation = random_parameters(rng, head)
        frames.append(
            HeadParameters(jnp.asarray(np.r_[shape, expression]), jnp.asarray(pose), jnp.asarray(translation))
        )
    file = tmp_path / "parameters.npz"
    write_flame_parameters(file, flame_parameters(head, frames))
    with np.load(file, allow_pickle=False) as written:
        assert {name: written[name].shape for name in written.files} == {
            "shape": (24,),
            "expr": (3, 13),
            "rotation": (3, 3),
            "neck_pose": (3, 3),
            "jaw_pose": (3, 3),
            "eyes_pose": (3, 6),
            "translation": (3, 3),
        }
        np.testing.assert_array_equal(written["eyes_pose"][1], np.asarray(frames[1].pose)[3:].reshape(-1))
    read = read_flame_parameters(file)
    assert read.frames == 3
    for index, frame in enumerate(frames):
        again = read.head_parameters(head, index)
        for name in ("coefficients", "pose", "translation_m"):
            np.testing.assert_array_equal(getattr(again, name), getattr(frame, name), err_msg=name)


def test_vhaps_own_files(rng, tmp_path):
    """As VHAP exports a frame: float32, 300 and 100 coefficients, static and dynamic offsets."""
    head = imported(small_flame(rng), tmp_path, identity=24)
    shape, expr = np.zeros(300, np.float32), np.zeros((1, 100), np.float32)
    shape[:24], expr[0, :13] = rng.normal(size=24), rng.normal(size=13)
    zeros = {name: np.zeros((1, 3), np.float32) for name in ("translation", "rotation", "neck_pose", "jaw_pose")}
    arrays = zeros | {
        "shape": shape,
        "expr": expr,
        "eyes_pose": np.full((1, 6), 0.1, np.float32),
        "static_offset": np.zeros((1, 104, 3), np.float32),
        "dynamic_offset": np.zeros((1, 104, 3), np.float32),
    }
    file = tmp_path / "00000.npz"
    np.savez(file, **arrays)
    read = read_flame_parameters(file)
    assert read.static_offset.shape == (1, 104, 3)
    parameters = read.head_parameters(head)
    np.testing.assert_array_equal(parameters.coefficients, np.r_[shape[:24], expr[0, :13]].astype(float))
    np.testing.assert_array_equal(parameters.pose[3:], np.full((2, 3), np.float32(0.1)))
    again = tmp_path / "again.npz"
    write_flame_parameters(again, read)
    with np.load(again, allow_pickle=False) as written:
        assert set(written.files) == set(arrays)
    for change, match in (
        ({"shape": np.ones(300, np.float32)}, "'shape' has 300 coefficients that are not zero; the head has 24"),
        ({"jaw_pose": np.zeros((2, 3), np.float32)}, r"array '\w+' has shape \[1"),
        ({"eyes_pose": np.zeros((1, 3), np.float32)}, r"'eyes_pose' has shape \[1, 3\]"),
        ({"expr": np.full((1, 100), np.nan, np.float32)}, "'expr' holds values that are no finite numbers"),
        ({"static_offset": np.zeros((104, 3), np.float32)}, "'static_offset' has shape"),
    ):
        np.savez(file, **(arrays | change))
        with pytest.raises(InputError, match=match):
            read_flame_parameters(file).head_parameters(head)
    np.savez(file, other=np.zeros(3))
    with pytest.raises(InputError, match="none of FLAME's parameters"):
        read_flame_parameters(file)


def test_parameters_need_flames_joints_and_one_identity(tiny_head, rng):
    from helpers import tiny_arrays

    arrays = {name: tiny_arrays()[name] for name in ("template", "faces", "identity_basis")}
    rigid = head_from_arrays(arrays, name="rigid")
    with pytest.raises(InputError, match="'rigid' has not FLAME's joints"):
        flame_parameters(rigid, [rigid.neutral()])
    first = tiny_head.neutral()
    other = HeadParameters(first.coefficients.at[0].set(1.0), first.pose, first.translation_m)
    with pytest.raises(InputError, match="different identities"):
        flame_parameters(tiny_head, [first, other])
    with pytest.raises(InputError, match="no parameters"):
        flame_parameters(tiny_head, [])
    with pytest.raises(InputError, match="no frame 1; the parameters have 1"):
        flame_parameters(tiny_head, [first]).head_parameters(tiny_head, 1)

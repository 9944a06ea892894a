"""The parametric head against its laws and against a slow, independent implementation of FLAME's skinning."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import as_float32, check_derivatives, rotation_about, tiny_arrays
from scipy.spatial.transform import Rotation

from diverse3d.head import HeadParameters, head_from_arrays

# Compiled once a head: op by op would compile every operation on its own.
vertices_of = eqx.filter_jit(lambda head, parameters: head(parameters))


def random_parameters(head, rng, *, turn=0.6, shift=0.1) -> HeadParameters:
    return HeadParameters(
        coefficients=jnp.asarray(rng.normal(size=head.n_components)),
        pose=jnp.asarray(turn * rng.normal(size=(head.n_joints, 3))),
        translation_m=jnp.asarray(shift * rng.normal(size=3)),
    )


def slow_flame(arrays, parameters) -> np.ndarray:
    """Li et al. 2017 step by step: shape, joints, pose correctives, 4×4 chain, blending. From the file's arrays."""
    identity = arrays["identity_basis"].astype(float) * arrays["identity_scale"][:, None, None]
    expression = arrays["expression_basis"].astype(float) * arrays["expression_scale"][:, None, None]
    shaped = arrays["template"].astype(float).copy()
    for coefficient, component in zip(parameters.coefficients, [*identity, *expression], strict=True):
        shaped += float(coefficient) * component
    joints = arrays["joint_regressor"] @ shaped
    turns = [Rotation.from_rotvec(row).as_matrix() for row in np.array(parameters.pose)]
    feature = np.concatenate([(turn - np.eye(3)).ravel() for turn in turns[1:]])
    posed = shaped + np.einsum("p,pvc->vc", feature, arrays["pose_basis"].astype(float))
    chain = []
    for j, parent in enumerate(arrays["joint_parents"]):
        local = np.eye(4)
        local[:3, :3] = turns[j]
        local[:3, 3] = joints[j] - (joints[parent] if parent >= 0 else 0)
        chain.append(chain[parent] @ local if parent >= 0 else local)
    result = np.zeros_like(shaped)
    for v, point in enumerate(posed):
        for j, transform in enumerate(chain):
            moved = transform @ np.append(point - joints[j], 1.0)
            result[v] += arrays["skinning_weights"][v, j] * moved[:3]
    return result + np.asarray(parameters.translation_m)


def test_zero_gives_the_template(tiny_head):
    np.testing.assert_allclose(vertices_of(tiny_head, tiny_head.neutral()), tiny_head.template_m, atol=1e-15)
    np.testing.assert_array_equal(tiny_head.shaped(jnp.zeros(tiny_head.n_components)), tiny_head.template_m)


def test_linear_in_coefficients_without_pose(tiny_head, rng):
    first, second = rng.normal(size=(2, tiny_head.n_components))
    at = lambda c: np.asarray(tiny_head.shaped(jnp.asarray(c)) - tiny_head.template_m)  # noqa: E731
    np.testing.assert_allclose(at(2 * first - 3 * second), 2 * at(first) - 3 * at(second), atol=1e-15)
    unposed = HeadParameters(jnp.asarray(first), jnp.zeros((5, 3)), jnp.zeros(3))
    np.testing.assert_allclose(vertices_of(tiny_head, unposed), tiny_head.shaped(jnp.asarray(first)), atol=1e-15)


def test_equals_a_slow_independent_implementation(tiny_head, rng):
    for _ in range(3):
        parameters = random_parameters(tiny_head, rng)
        np.testing.assert_allclose(vertices_of(tiny_head, parameters), slow_flame(tiny_arrays(), parameters), atol=2e-9)


@pytest.mark.parametrize("turn", [0.0, 1e-3, 0.7], ids=["zero rotation", "near the series switch", "ordinary"])
def test_forward_reverse_and_finite_differences_agree(tiny_head, rng, turn):
    parameters = random_parameters(tiny_head, rng, turn=turn)
    check_derivatives(lambda p: 10 * tiny_head(p), parameters)


def test_global_rotation_and_translation_move_all_vertices_alike(tiny_head, rng):
    parameters = random_parameters(tiny_head, rng)
    still = HeadParameters(parameters.coefficients, parameters.pose.at[0].set(0.0), jnp.zeros(3))
    turn = rotation_about([0.3, 1, -0.2], 0.9)
    moved = HeadParameters(
        parameters.coefficients,
        parameters.pose.at[0].set(jnp.asarray(Rotation.from_matrix(turn).as_rotvec())),
        jnp.asarray([0.1, -0.2, 0.3]),
    )
    root = np.asarray(tiny_head.joints(parameters.coefficients)[0])
    expected = (np.asarray(vertices_of(tiny_head, still)) - root) @ turn.T + root + [0.1, -0.2, 0.3]
    np.testing.assert_allclose(vertices_of(tiny_head, moved), expected, atol=1e-14)


def test_eyes_turn_about_their_own_joint_and_nothing_else_moves(tiny_head):
    neutral = tiny_head.neutral()
    turned = HeadParameters(neutral.coefficients, neutral.pose.at[3, 1].set(0.3), neutral.translation_m)
    plain = tiny_arrays() | {"pose_basis": np.zeros((36, tiny_head.n_vertices, 3), np.float32)}
    head = head_from_arrays(plain)
    moved = np.linalg.norm(np.asarray(vertices_of(head, turned) - head.template_m), axis=1)
    pinned = np.asarray(head.skinning_weights[:, 3]) == 0
    np.testing.assert_allclose(moved[pinned], 0, atol=1e-15)
    eye = np.asarray(head.regions["left_eyeball"])
    centre = np.asarray(head.joint_template_m[3])
    expected = (np.asarray(head.template_m[eye]) - centre) @ rotation_about([0, 1, 0], 0.3).T + centre
    np.testing.assert_allclose(vertices_of(head, turned)[eye], expected, atol=1e-14)


def test_subset_is_rows_of_the_whole(tiny_head, rng):
    chosen = rng.permutation(tiny_head.n_vertices)[:17]
    parameters = random_parameters(tiny_head, rng)
    np.testing.assert_allclose(
        vertices_of(tiny_head.subset(chosen), parameters), vertices_of(tiny_head, parameters)[chosen], atol=1e-15
    )


def test_batches_by_vmap_and_compiles_once(tiny_head, rng):
    many = [random_parameters(tiny_head, rng) for _ in range(3)]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *many)
    together = jax.jit(jax.vmap(tiny_head))(batch)
    for alone, row in zip(many, together, strict=True):
        np.testing.assert_allclose(row, vertices_of(tiny_head, alone), atol=1e-15)


def test_global_local_head_adds_region_means_and_components(tiny_head, rng):
    head = tiny_head.global_local(n_identity=3, n_expression=2)
    assert (head.n_identity, head.n_expression) == (3, 2)
    assert head.n_components == 5 + 3 * len(tiny_head.local_models)
    coefficients = rng.normal(size=head.n_components)
    used = np.zeros(tiny_head.n_components)
    used[[0, 1, 2, 6, 7]] = coefficients[:5]
    expected = np.array(tiny_head.shaped(jnp.asarray(used)))
    row = 5
    for local in tiny_head.local_models.values():  # the mean is on whatever the coefficients' sign; overlaps add
        offset = np.einsum("k,knc->nc", coefficients[row : row + 3], local.components_m)
        np.add.at(expected, np.asarray(local.vertices), np.asarray(local.mean_m) + offset)
        row += 3
    np.testing.assert_allclose(head.shaped(jnp.asarray(coefficients)), expected, atol=1e-14)
    np.testing.assert_array_equal(head.prior_mean[:5], tiny_head.prior_mean[jnp.array([0, 1, 2, 6, 7])])
    np.testing.assert_array_equal(head.prior_mean[5:], 0)
    np.testing.assert_allclose(head.joints(jnp.asarray(coefficients)), tiny_head.joints(jnp.asarray(used)), atol=1e-15)


def test_global_local_head_of_a_short_head_takes_all_there_is(tiny_head):
    head = tiny_head.global_local()
    assert (head.n_identity, head.n_expression) == (6, 4)
    np.testing.assert_array_equal(head.components_m[:10], tiny_head.components_m)


def test_single_precision_stays_single_and_close(tiny_head, rng):
    parameters = random_parameters(tiny_head, rng, turn=0.3)
    near = vertices_of(as_float32(tiny_head), as_float32(parameters))
    assert near.dtype == jnp.float32
    np.testing.assert_allclose(near, vertices_of(tiny_head, parameters), atol=1e-6)
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(as_float32(tiny_head)(p) ** 2)))(as_float32(parameters))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(gradient))


def test_flame_arrays_run_in_the_same_code(flame_head, rng):
    assert (flame_head.n_vertices, flame_head.n_components, flame_head.n_joints) == (5023, 60, 5)
    assert len(flame_head.regions) == 14
    assert all(int(region.max()) < 5023 and int(region.min()) >= 0 for region in flame_head.regions.values())
    vertices = np.asarray(flame_head.template_m)
    # Landmarks lie on the surface: convex combinations of one triangle's corners, the outer lid on its own side.
    for points in (flame_head.landmarks68, flame_head.landmarks_dense):
        weights = np.asarray(points.barycentric)
        np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)
        assert weights.min() > -1e-5
        placed = np.asarray(points(flame_head.template_m))
        corners = vertices[np.asarray(points.corners)]
        assert (placed >= corners.min(1) - 1e-6).all() and (placed <= corners.max(1) + 1e-6).all()
    marks = np.asarray(flame_head.landmarks68(flame_head.template_m))
    assert marks[45, 0] > 0.03 > -0.03 > marks[36, 0]
    assert marks[30, 2] > marks[[36, 45, 8], 2].max()
    # The regressor puts the eye joints inside the eyeballs.
    for joint, name in ((3, "left_eyeball"), (4, "right_eyeball")):
        ball = vertices[np.asarray(flame_head.regions[name])]
        np.testing.assert_allclose(flame_head.joint_template_m[joint], ball.mean(0), atol=8e-3)
    # Without skinning weights the whole head turns rigidly about the root.
    parameters = random_parameters(flame_head, rng)
    shaped = np.asarray(flame_head.shaped(parameters.coefficients))
    root = np.asarray(flame_head.joints(parameters.coefficients)[0])
    turn = Rotation.from_rotvec(np.array(parameters.pose[0])).as_matrix()
    expected = (shaped - root) @ turn.T + root + np.asarray(parameters.translation_m)
    np.testing.assert_allclose(vertices_of(flame_head, parameters), expected, atol=1e-12)
    near = vertices_of(as_float32(flame_head), as_float32(parameters))
    assert near.dtype == jnp.float32
    np.testing.assert_allclose(near, vertices_of(flame_head, parameters), atol=1e-5)

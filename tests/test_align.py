"""Closed-form poses recover the motion that was applied."""

import numpy as np
import pytest
from helpers import rotation_about
from scipy.spatial.transform import Rotation

from diverse3d.fit._align import pose_from_landmarks, rotation_vector
from diverse3d.surface import kabsch

ANGLES = [0.0, 1e-9, 0.7, np.pi - 1e-6, np.pi]


def is_rotation(turn):
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-10)
    np.testing.assert_allclose(np.linalg.det(turn), 1, atol=1e-10)


@pytest.mark.parametrize("angle", ANGLES)
def test_kabsch_recovers_a_rigid_motion(rng, angle):
    points, turn, shift = rng.normal(size=(20, 3)), rotation_about([1, -2, 2], angle), np.array([100.0, -3.0, 0.2])
    chosen = np.arange(20) < 12
    target = points @ turn.T + shift
    target[~chosen] = np.nan
    got_turn, got_shift = kabsch(points, target, chosen)
    np.testing.assert_allclose(got_turn, turn, atol=1e-10)
    np.testing.assert_allclose(got_shift, shift, atol=1e-9)


@pytest.mark.parametrize("kind", ["mirrored", "flat", "in a line", "in one point"])
def test_kabsch_gives_a_rotation_whatever_it_sees(rng, kind):
    points = rng.normal(size=(9, 3))
    points *= {"mirrored": [1, 1, 1], "flat": [1, 1, 0], "in a line": [1, 0, 0], "in one point": [0, 0, 0]}[kind]
    turn = rotation_about([1, 1, 0], 0.4)
    target = points @ turn.T * ([-1, 1, 1] if kind == "mirrored" else 1)
    got_turn, got_shift = kabsch(points, target, np.ones(9, bool))
    is_rotation(got_turn)
    if kind != "mirrored":
        np.testing.assert_allclose(points @ got_turn.T + got_shift, target, atol=1e-10)


def test_kabsch_is_least_squares(rng):
    points = rng.normal(size=(15, 3))
    target = points @ rotation_about([0, 1, 0], 0.5).T + 0.1 * rng.normal(size=(15, 3))
    turn, shift = kabsch(points, target, np.ones(15, bool))
    cost = lambda r, t: ((points @ r.T + t - target) ** 2).sum()  # noqa: E731
    for axis in np.eye(3):
        for step in (-1e-3, 1e-3):
            assert cost(rotation_about(axis, step) @ turn, shift) > cost(turn, shift)
            assert cost(turn, shift + step * axis) > cost(turn, shift)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_kabsch_of_too_few_points_turns_nothing(rng, count):
    turn, shift = kabsch(rng.normal(size=(5, 3)), rng.normal(size=(5, 3)), np.arange(5) < count)
    np.testing.assert_array_equal(turn, np.eye(3))
    assert np.isfinite(shift).all()


def weak_perspective(points, turn, scale, centre):
    posed = points @ turn.T
    return scale * posed[:, :2] * [1, -1] + centre


@pytest.mark.parametrize("angle", [0.0, 0.3, -0.9, 2.5])
def test_pose_from_landmarks_is_exact_for_its_own_camera(rng, angle):
    points, turn = 0.1 * rng.normal(size=(30, 3)), rotation_about([0.3, 1, 0.1], angle)
    pixels = weak_perspective(points, turn, 900.0, [320.0, 240.0])
    weight = (np.arange(30) < 20).astype(float)
    pixels[20:] += 500  # weightless points may be anywhere
    got_turn, scale, centre = pose_from_landmarks(points, pixels, weight)
    np.testing.assert_allclose(got_turn, turn, atol=1e-3)
    np.testing.assert_allclose(scale, 900, rtol=1e-3)
    np.testing.assert_allclose(centre, [320, 240], atol=0.1)


@pytest.mark.parametrize("keep", [slice(0, 68), slice(36, 48), slice(60, 68), slice(27, 36)], ids=str)
def test_pose_from_few_or_flat_landmarks_stays_a_rotation_near_the_truth(tiny_head, keep):
    points = np.asarray(tiny_head.landmarks68(tiny_head.template_m))
    turn = rotation_about([0.2, 1, 0], 0.2)
    pixels = weak_perspective(points, turn, 900.0, [320.0, 240.0])
    weight = np.zeros(68)
    weight[keep] = 1
    got_turn, scale, centre = pose_from_landmarks(points, pixels, weight)
    is_rotation(got_turn)
    assert np.isfinite([scale, *centre]).all() and scale > 0
    off = np.abs(weak_perspective(points, got_turn, scale, centre) - pixels)[keep]
    assert off.max() < 5


@pytest.mark.parametrize("angle", ANGLES)
def test_rotation_vector_turns_back_into_its_matrix(angle):
    turn = rotation_about([0.6, -0.8, 0.1], angle)
    turn.flags.writeable = False  # as jax hands its arrays out
    np.testing.assert_allclose(Rotation.from_rotvec(np.array(rotation_vector(turn))).as_matrix(), turn, atol=1e-12)

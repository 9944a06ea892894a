"""The mask from the photo: the cut against brute force, the comparison's features, the weights' file, the real photo."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import diverse3d as d3
from diverse3d.observe import observe_photo, paint_occluder
from diverse3d.observe._landmarks68 import IBUG68_FROM_MEDIAPIPE
from diverse3d.segment._cut import smooth_cut
from diverse3d.segment._features import SIDE, Comparison, colour_odds, features, halved, tolerant_difference
from diverse3d.segment._find import ROUNDS, without_background
from diverse3d.segment._network import load_segmenter, new_segmenter, segmenter_arrays


def energy(hidden, odds, image, face, strength, contrast):
    """What the cut minimises, written out."""
    total = np.where(hidden, -odds, odds)[face].sum() / 2
    for row, column in itertools.product(range(face.shape[0]), range(face.shape[1])):
        for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
            r, c = row + down, column + right
            if r < face.shape[0] and 0 <= c < face.shape[1] and face[row, column] and face[r, c]:
                pull = np.exp(-((image[row, column] - image[r, c]) ** 2).sum() / (2 * contrast**2))
                total += strength * pull / np.hypot(down, right) * (hidden[row, column] != hidden[r, c])
    return total


@pytest.mark.parametrize("seed", range(6))
def test_the_cut_is_the_best_of_all_masks(seed):
    rng = np.random.default_rng(seed)
    odds, image = rng.normal(0, 1.5, (3, 4)), rng.uniform(0, 1, (3, 4, 3)) * 0.4
    face = rng.uniform(size=(3, 4)) > 0.15
    found = smooth_cut(odds, image, face, strength=0.8, contrast=0.3)
    assert not found[~face].any()
    places = np.argwhere(face)
    least = np.inf
    for labels in itertools.product((False, True), repeat=len(places)):
        hidden = np.zeros_like(face)
        hidden[tuple(places.T)] = labels
        least = min(least, energy(hidden, odds, image, face, 0.8, 0.3))
    assert energy(found, odds, image, face, 0.8, 0.3) <= least + 0.05


def test_without_neighbours_the_cut_is_the_sign_and_a_speck_goes_with_them(rng):
    odds, face = rng.normal(size=(20, 30)), np.ones((20, 30), bool)
    np.testing.assert_array_equal(smooth_cut(odds, np.zeros((20, 30, 3)), face, strength=0.0, contrast=1.0), odds > 0)
    odds = np.full((20, 30), -1.0)
    odds[10, 10] = 2.0
    assert not smooth_cut(odds, np.zeros((20, 30, 3)), face, strength=1.0, contrast=1.0).any()
    assert not smooth_cut(odds, np.zeros((20, 30, 3)), np.zeros_like(face), strength=1.0, contrast=1.0).any()


def test_a_little_misplaced_is_not_different(rng):
    picture = rng.uniform(0, 1, (40, 40, 3))
    face = np.zeros((40, 40), bool)
    face[6:34, 6:34] = True
    moved = np.roll(picture, (2, -1), axis=(0, 1))
    inside = np.zeros_like(face)
    inside[9:31, 9:31] = True
    assert tolerant_difference(moved, picture, face)[inside].max() == 0
    assert tolerant_difference(1 - moved, picture, face)[inside].mean() > 0.1
    assert (tolerant_difference(moved, picture, face)[~face] == 0).all()


def test_colours_tell_the_occluder():
    face = np.ones((30, 30), bool)
    seen = np.full((30, 30, 3), 0.7)
    seen[10:, :] = [0.2, 0.3, 0.8]
    share = np.zeros((30, 30))
    share[15:] = 1.0
    odds = colour_odds(seen, share, face)
    # What looks like the known part of the occluder is thought occluder too.
    assert odds[12, 5] > 0.5 and odds[2, 5] < -2


@pytest.fixture
def pair(rng):
    face = np.zeros((SIDE, SIDE), bool)
    face[20:90, 30:80] = True
    inside = face[..., None]
    seen, expected = rng.uniform(0, 1, (2, SIDE, SIDE, 3))
    return Comparison(seen, expected * inside, face, rng.normal(size=(SIDE, SIDE, 3)) * inside, face * 0.5, face * 0.9)


def test_features_are_one_row_a_pixel_and_finite(pair):
    rows = features(pair)
    assert rows.shape[0] == pair.face.sum() and rows.dtype == np.float32 and np.isfinite(rows).all()
    again = features(pair, np.full((SIDE, SIDE), 0.3))
    assert again.shape == rows.shape and np.isfinite(again).all()
    # Nothing outside the face is looked at.
    other = pair._replace(seen=np.where(pair.face[..., None], pair.seen, 0.123))
    np.testing.assert_array_equal(features(other), rows)
    for name in ROUNDS:
        assert load_segmenter(name).centre.shape == (rows.shape[1],)
    empty = pair._replace(face=np.zeros_like(pair.face))
    assert features(empty).shape == (0, rows.shape[1])


def test_halving_takes_means(rng):
    image = rng.uniform(size=(6, 8, 2))
    np.testing.assert_allclose(halved(image)[1, 2], image[2:4, 4:6].mean((0, 1)))


def test_weights_come_back_from_their_file(tmp_path, rng, key):
    rows = rng.normal(2.0, 3.0, (50, 7)).astype(np.float32)
    made = new_segmenter(rows, (5, 3), key=key)
    save_file(segmenter_arrays(made, "first"), tmp_path / "w.safetensors")
    back = load_segmenter("first", tmp_path / "w.safetensors")
    np.testing.assert_array_equal(back(jnp.asarray(rows)), made(jnp.asarray(rows)))
    with pytest.raises(d3.InputError, match="damaged"):
        load_segmenter("second", tmp_path / "w.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:-9])
    with pytest.raises(d3.InputError, match="damaged"):
        load_segmenter("first", tmp_path / "cut.safetensors")
    with pytest.raises(d3.InputError, match="missing"):
        load_segmenter("first", tmp_path / "none.safetensors")
    assert {name.split("/")[0] for name in load_file(tmp_path / "w.safetensors")} == {"first"}


@pytest.mark.usefixtures("single_precision")
def test_finds_what_was_painted_over_the_real_photo():
    clean = observe_photo(d3.DEMO_PHOTO)
    points = clean.photo.landmarks_px[list(IBUG68_FROM_MEDIAPIPE)]
    problem = d3.prepare(d3.load_head())
    for region, hidden, seen in (("face-mask", (51, 57, 33), (37, 43, 27)), ("glasses", (37, 43), (51, 57, 33))):
        rgb, painted = paint_occluder(clean.photo.rgb, points, region, key=jax.random.key(1))
        photo = d3.observe_photo(rgb, head=problem).photo
        assert photo.hidden.shape == photo.hidden_probability.shape == painted.shape
        assert 0.5 <= photo.certainty <= 1 and (photo.hidden_probability <= 1).all()
        at = points.astype(int)
        assert photo.hidden[at[list(hidden), 1], at[list(hidden), 0]].all(), region
        assert not photo.hidden[at[list(seen), 1], at[list(seen), 0]].any(), region
        inside = photo.hidden_probability > 0
        assert (photo.hidden == painted)[inside].mean() > 0.75, region
        assert photo.landmark_visible.any() and not photo.landmark_visible.all()


def test_a_mask_and_looking_for_one_exclude_each_other():
    with pytest.raises(d3.InputError, match="choose either"):
        d3.observe_photo(d3.DEMO_PHOTO, mask=np.zeros((512, 512), bool), occlude="auto")


def test_a_head_without_colours_says_so(tiny_head):
    with pytest.raises(d3.InputError, match="no albedo"):
        d3.observe_photo(d3.DEMO_PHOTO, occlude="auto", head=tiny_head)
    assert not d3.observe_photo(d3.DEMO_PHOTO, head=tiny_head).photo.hidden.any()


def test_background_is_not_face_unless_the_person_network_misses_the_face(rng):
    odds, person = rng.normal(size=50), np.ones(50)
    np.testing.assert_allclose(without_background(odds, person), odds, atol=1e-9)
    person[:10] = 0.0
    told = without_background(odds, person)
    assert (told[:10] > odds[:10] + 1).all() and (told[:10] > 2).all()
    np.testing.assert_allclose(told[10:], odds[10:], atol=1e-9)
    # Where it sees no person on most of a detected face it is wrong.
    np.testing.assert_array_equal(without_background(odds, 1 - person), odds)
    assert np.isfinite(without_background(np.array([-1e4, 1e4, 0.0]), np.array([1.0, 1.0, 0.6]))).all()

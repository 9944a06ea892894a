"""The mask from the photo: what the network sees, its weights' file, the real photo, bare, covered and grey."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

import diverse3d as d3
from diverse3d.fit import FitConfig
from diverse3d.observe import observe_photo, paint_occluder
from diverse3d.observe._landmarks68 import IBUG68_FROM_MEDIAPIPE
from diverse3d.segment import begin, channels, compare, halved, recolour
from diverse3d.segment._features import CHANNELS, SIDE, Comparison, colourless, grey
from diverse3d.segment._network import load_segmenter, new_segmenter, segmenter_arrays


@pytest.fixture
def pair(rng):
    head = np.zeros((SIDE, SIDE), bool)
    head[20:120, 30:110] = True
    face = head & (np.arange(SIDE)[:, None] > 60)
    inside = head[..., None]
    seen, expected = rng.uniform(0, 1, (2, SIDE, SIDE, 3))
    place = rng.normal(size=(SIDE, SIDE, 3)) * inside
    return Comparison(seen, expected * inside, head, face, place, head * 0.5, head * 0.9)


def test_the_network_sees_planes_of_every_pixel(pair, key):
    planes = channels(pair)
    assert planes.shape == (SIDE, SIDE, CHANNELS) and planes.dtype == np.float32 and np.isfinite(planes).all()
    np.testing.assert_allclose(planes[..., :3], pair.seen, atol=1e-6)
    odds = new_segmenter(key=key)(jnp.asarray(planes))
    assert odds.shape == (SIDE, SIDE) and np.isfinite(odds).all()


def test_what_has_no_colour_is_compared_without(pair):
    tint = np.array([0.9, 0.7, 0.5])
    sepia = grey(pair.seen) ** (1.0 / tint)
    assert colourless(grey(pair.seen)) and colourless(sepia) and not colourless(pair.seen)
    plain, tinted = (channels(pair._replace(seen=seen)) for seen in (grey(pair.seen), sepia))
    for planes in (plain, tinted):
        np.testing.assert_array_equal(planes[..., 0], planes[..., 2])
        np.testing.assert_array_equal(planes[..., 3], planes[..., 5])
    np.testing.assert_allclose(plain[..., 3], pair.expected @ [0.2126, 0.7152, 0.0722], atol=1e-6)


def test_halving_takes_means(rng):
    image = rng.uniform(size=(6, 8, 2))
    np.testing.assert_allclose(halved(image)[1, 2], image[2:4, 4:6].mean((0, 1)))


def test_weights_come_back_from_their_file(tmp_path, rng, key):
    made = new_segmenter(key=key)
    save_file(segmenter_arrays(made), tmp_path / "w.safetensors")
    back = load_segmenter(tmp_path / "w.safetensors")
    planes = jnp.asarray(rng.uniform(size=(16, 16, CHANNELS)), jnp.float32)
    np.testing.assert_allclose(back(planes), made(planes), atol=0.02)  # stored in half precision
    arrays = load_file(tmp_path / "w.safetensors")
    for name, array in (
        ("down0/kernel", np.zeros((1, 1, 3, 16), np.float16)),
        ("up0/bias", np.full(64, np.nan, np.float16)),
    ):
        save_file(arrays | {name: array}, tmp_path / "other.safetensors")
        load_segmenter.cache_clear()
        with pytest.raises(d3.InputError, match="damaged"):
            load_segmenter(tmp_path / "other.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:-9])
    with pytest.raises(d3.InputError, match="damaged"):
        load_segmenter(tmp_path / "cut.safetensors")
    with pytest.raises(d3.InputError, match="missing"):
        load_segmenter(tmp_path / "none.safetensors")


@pytest.mark.usefixtures("single_precision")
def test_colours_are_told_by_what_is_seen_alone():
    problem, config = d3.prepare(d3.load_head()), FitConfig()
    rgb = np.array(observe_photo(d3.DEMO_PHOTO).photo.rgb)
    photo = observe_photo(rgb).photo
    state = begin(photo, problem, config)
    pair = compare(state)
    assert pair.face.sum() > 1000 and (pair.head & ~pair.face).sum() > 1000 and not (pair.face & ~pair.head).any()
    # Thought hidden, the lower half may be of any colour.
    row = np.nonzero(pair.face)[0].mean()
    seen = np.repeat((np.arange(SIDE) < row)[:, None], SIDE, axis=1).astype(float)
    first = recolour(state, seen, config.weights).unknowns
    green = np.array(state.crop.tone)
    cut = round(2 * row) - 36 + 2  # the crop begins 36 finer pixels below what is around it
    green[cut:] = [0.1, 0.9, 0.1]
    other = state._replace(crop=state.crop.__class__(
        jnp.asarray(green), state.crop.weight, state.crop.scale, state.crop.corner_px
    ))  # fmt: skip
    again = recolour(other, seen, config.weights).unknowns
    whole = recolour(other, np.ones_like(seen), config.weights).unknowns
    assert np.abs(again.light - first.light).max() < 0.5 * np.abs(whole.light - first.light).max()


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
        assert photo.face_hidden > 0.15, region
        assert photo.landmark_visible.any() and not photo.landmark_visible.all()
        if region == "face-mask":  # beyond the face's outline too
            assert photo.hidden[painted].mean() > 0.8


@pytest.mark.usefixtures("single_precision")
def test_a_bare_face_is_seen_and_its_hair_is_not_skin():
    problem = d3.prepare(d3.load_head())
    rgb = observe_photo(d3.DEMO_PHOTO).photo.rgb
    plain = d3.observe_photo(rgb, head=problem).photo
    points = plain.landmarks_px[list(IBUG68_FROM_MEDIAPIPE)]
    assert plain.face_hidden < 0.3
    brow, chin = points[17:27].min(0)[1], points[8, 1]
    x, y = points[27].astype(int)
    assert plain.hidden[int(brow - 0.45 * (chin - brow)), x], "hair above the forehead"
    assert not plain.hidden[y : int(chin), x].any()
    dull = np.asarray(Image.fromarray(rgb).convert("L").convert("RGB"))
    assert abs(d3.observe_photo(dull, head=problem).photo.face_hidden - plain.face_hidden) < 0.05


def test_a_mask_and_looking_for_one_exclude_each_other():
    with pytest.raises(d3.InputError, match="choose either"):
        d3.observe_photo(d3.DEMO_PHOTO, mask=np.zeros((512, 512), bool), occlude="auto")


def test_a_head_without_colours_says_so(tiny_head):
    with pytest.raises(d3.InputError, match="no albedo"):
        d3.observe_photo(d3.DEMO_PHOTO, occlude="auto", head=tiny_head)
    assert not d3.observe_photo(d3.DEMO_PHOTO, head=tiny_head).photo.hidden.any()

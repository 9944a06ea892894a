"""Photos that no one would choose: each gives a result that says its confidence, or one clear sentence."""

import jax
import numpy as np
import pytest
from PIL import Image

import diverse3d as d3
from diverse3d.head.population import split
from diverse3d.observe import read_photo
from diverse3d.show import warnings_of
from scenes import _draw, draw_scene
from scenes._setting import Pose

pytestmark = pytest.mark.usefixtures("single_precision")


@pytest.fixture(scope="module")
def problem():
    with jax.enable_x64(False):
        return d3.prepare(d3.load_head())


@pytest.fixture(scope="module")
def photo():
    return read_photo(d3.DEMO_PHOTO)


@pytest.fixture(scope="module")
def plain(photo, problem):
    """What is seen of the untouched photo, and its fit."""
    with jax.enable_x64(False):
        seen = d3.observe_photo(photo, head=problem)
        return seen, d3.fit(seen, problem)


def scaled(rgb, side):
    return np.asarray(Image.fromarray(rgb).resize((side, side), Image.Resampling.LANCZOS))


def few_colours(rgb):
    return np.asarray(Image.fromarray(rgb).quantize(6, dither=Image.Dither.NONE).convert("RGB"))


CHANGES = {
    "over-exposed": lambda rgb: np.clip(rgb.astype(int) * 2, 0, 255).astype(np.uint8),
    "dark": lambda rgb: rgb // 6,
    "grey": lambda rgb: np.repeat(rgb.mean(2, keepdims=True).astype(np.uint8), 3, axis=2),
    "a face of 64 pixels": lambda rgb: scaled(rgb, 320),
    "two faces": lambda rgb: np.concatenate([rgb, scaled(rgb, 256).repeat(2, 0).repeat(2, 1)], axis=1),
    "like a cartoon": few_colours,
    "turned": lambda rgb: np.asarray(Image.fromarray(rgb).rotate(35)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_poor_photo_is_worked_on_and_judged(name, photo, problem):
    seen = d3.observe_photo(CHANGES[name](photo), head=problem)
    assert 0.5 <= seen.photo.certainty <= 1
    inside = seen.photo.hidden_probability > 0
    # Hair over the forehead aside, the face is bare: most of it must not be taken for hidden.
    assert (seen.photo.hidden & inside).sum() < 0.75 * inside.sum()
    fitted = d3.fit(seen, problem)
    for leaf in jax.tree.leaves((fitted.vertices_m, fitted.appearance, fitted.camera)):
        assert np.isfinite(leaf).all()
    notes = " ".join(warnings_of(seen, fitted))
    assert ("faces" in notes) == (name == "two faces")


@pytest.mark.parametrize("colour", [0, 255, 90])
def test_a_picture_without_a_face_says_so(colour, problem):
    with pytest.raises(d3.InputError, match="No face was found"):
        d3.observe_photo(np.full((300, 300, 3), colour, np.uint8), head=problem)


@pytest.mark.parametrize("yaw_deg", [65.0, 75.0, -85.0])
@pytest.mark.parametrize("index", [0, 1])
def test_a_strong_profile_is_refused_or_warned_of(yaw_deg, index, problem, monkeypatch):
    monkeypatch.setattr(_draw, "draw_pose", lambda rng: Pose(yaw_deg, 3.0, 0.0))
    truth = np.asarray(split("validation", index + 1).vertices[index])
    scene = draw_scene(problem.head, truth, key=jax.random.key(index), occluder="none")
    try:
        seen = d3.observe_photo(scene.rgb, head=problem)
    except d3.InputError as error:
        assert "No face was found" in str(error)
        return
    fitted = d3.fit(seen, problem)
    assert np.isfinite(np.asarray(fitted.vertices_m)).all()
    notes = " ".join(warnings_of(seen, fitted))
    assert "turned by some" in notes or "landmarks were found with little certainty" in notes


def test_a_frontal_photo_has_no_such_warning(plain):
    seen, fitted = plain
    assert seen.photo.landmark_certainty > 0.95
    assert not any("turned" in note or "certainty" in note for note in warnings_of(seen, fitted))


def test_an_uncertain_mask_is_said(plain):
    import dataclasses

    seen, fitted = plain
    doubtful = dataclasses.replace(seen, photo=dataclasses.replace(seen.photo, certainty=0.7))
    assert any("little certainty (70 %)" in note for note in warnings_of(doubtful, fitted))
    whole = dataclasses.replace(
        doubtful.photo,
        hidden=np.ones_like(seen.photo.hidden),
        face_hidden=1.0,
        hidden_probability=np.ones(seen.photo.hidden.shape),
    )
    assert any("seems hidden" in note for note in warnings_of(dataclasses.replace(seen, photo=whole), fitted))

"""Faces and landmarks: against mediapipe itself, and against the picture turned, scaled and mirrored."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import diverse3d
from diverse3d._errors import InputError
from diverse3d.observe import (
    IBUG68_FROM_MEDIAPIPE,
    PERSON_SIDE,
    detect_faces,
    detect_landmarks,
    observe_face,
    person_probability,
    read_photo,
)
from diverse3d.observe._blendshapes import BLENDSHAPES
from diverse3d.observe._detector import _anchors, _view_ladder
from diverse3d.observe._landmarks68 import IBUG68_MIRRORED, LANDMARK_GROUPS

PHOTO = Path(diverse3d.__file__).parent / "assets" / "astronaut.png"
GOLDEN = Path(__file__).parent / "goldens" / "landmarks_mediapipe.npz"


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return read_photo(PHOTO)


@pytest.fixture(scope="module")
def points(photo: np.ndarray) -> np.ndarray:
    """The landmarks of the untouched photo, in pixels; its face is 100 px wide."""
    return observe_face(photo).landmarks.points_px


def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.linalg.norm(a - b, axis=-1)


# Measured: mean / max 0.21 / 0.59 and 0.54 / 1.88 clean, 0.34 / 1.04 and 0.63 / 2.45 lower, 0.45 / 1.00 and
# 1.22 / 4.05 eyes.
@pytest.mark.parametrize(
    ("name", "settled", "static"),
    [("clean", 0.3, 0.7), ("lower_painted", 0.45, 0.8), ("eyes_painted", 0.55, 1.5)],
)
def test_agrees_with_mediapipe(photo, name, settled, static):
    painted = photo.copy()
    if name == "lower_painted":
        painted[150:216, 175:276] = (90, 140, 190)
    if name == "eyes_painted":
        painted[118:147, 180:273] = (20, 20, 20)
    golden = np.load(GOLDEN, allow_pickle=False)
    found = observe_face(painted).landmarks
    points = np.concatenate([found.points_px, found.irises_px])
    for kind, bound in (("settled", settled), ("static", static)):
        error = distance(points, golden[f"{name}_{kind}"].astype(np.float64))
        assert error.mean() < bound, kind
        assert error.max() < 5.0, kind
        shown = np.abs(found.blendshapes - golden[f"{name}_{kind}_blendshapes"])
        assert shown.mean() < 0.04 and shown.max() < 0.3, kind


def test_expressions_are_told(photo):
    shown = dict(zip(BLENDSHAPES, observe_face(photo).landmarks.blendshapes, strict=True))
    assert shown["mouthSmileLeft"] > 0.7 and shown["mouthSmileRight"] > 0.7
    assert shown["eyeBlinkLeft"] < 0.3 and shown["jawOpen"] < 0.3


def test_same_bits_every_time(photo, points):
    again = observe_face(photo.copy()).landmarks
    assert again.points_px.tobytes() == points.tobytes()


def test_the_photo_has_one_face(photo, points):
    found = observe_face(photo)
    assert found.faces_found == 1
    assert found.detection.score > 0.9
    assert found.landmarks.score > 0.999
    left, top, right, bottom = found.detection.box_px
    assert ((points > [left - 20, top - 40]) & (points < [right + 20, bottom + 20])).all()
    nose, ears = found.landmarks.depth[4], found.landmarks.depth[[127, 356]]
    assert (nose < ears - 30).all()


def test_mirrored_photo_has_mirrored_points(photo, points):
    mirrored = observe_face(np.ascontiguousarray(photo[:, ::-1])).landmarks.points_px * [-1.0, 1.0] + [
        512.0,
        0.0,
    ]
    chosen = list(IBUG68_FROM_MEDIAPIPE)
    error = distance(mirrored[chosen][list(IBUG68_MIRRORED)], points[chosen])
    assert error.mean() < 2.0  # the network itself is not symmetric: 4 px at the chin
    assert error.max() < 5.0


@pytest.mark.parametrize("factor", [0.6, 1.7, 3.0])
def test_scale_does_not_matter(photo, points, factor):
    side = round(512 * factor)
    scaled = np.array(Image.fromarray(photo).resize((side, side), Image.Resampling.LANCZOS))
    error = distance(observe_face(scaled).landmarks.points_px * (512 / side), points)
    assert error.mean() < 0.8


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns(photo, points, turns):
    found = observe_face(np.ascontiguousarray(np.rot90(photo, turns))).landmarks.points_px
    for _ in range(turns):
        found = np.stack([512.0 - found[:, 1], found[:, 0]], axis=1)
    assert distance(found, points).mean() < 1.0


@pytest.mark.parametrize("degrees", [-30, 20])
def test_tilted_head(photo, points, degrees):
    tilted = np.array(Image.fromarray(photo).rotate(degrees, Image.Resampling.BICUBIC))
    angle = np.deg2rad(degrees)
    back = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    found = (observe_face(tilted).landmarks.points_px - 256.0) @ back + 256.0
    assert distance(found, points).mean() < 1.0


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_orientation_tag_gives_the_same_points(tmp_path, photo, points, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw = np.ascontiguousarray(np.rot90(photo, {3: 2, 6: 1, 8: -1}[orientation]))
    Image.fromarray(raw).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(observe_face(read_photo(tmp_path / "turned.png")).landmarks.points_px, points)


def test_pixel_type_gives_the_same_points(tmp_path, photo, points):
    Image.fromarray(photo).convert("RGBA").save(tmp_path / "alpha.png")
    assert np.array_equal(observe_face(read_photo(tmp_path / "alpha.png")).landmarks.points_px, points)
    Image.fromarray(photo).convert("L").save(tmp_path / "grey.png")
    assert distance(observe_face(read_photo(tmp_path / "grey.png")).landmarks.points_px, points).mean() < 1.2


def test_small_face_in_a_large_picture(photo, points):
    corner = Image.fromarray(photo[20:220, 125:325]).resize((100, 100), Image.Resampling.LANCZOS)
    large = np.full((900, 1600, 3), 110, dtype=np.uint8)
    large[700:800, 1300:1400] = np.array(corner)
    found = (observe_face(large).landmarks.points_px - [1300, 700]) * 2.0 + [125, 20]
    assert distance(found, points).mean() < 1.0


def test_face_that_fills_the_picture(photo, points):
    tight = np.ascontiguousarray(photo[70:190, 165:285])
    assert distance(observe_face(tight).landmarks.points_px + np.array([165, 70]), points).mean() < 1.0


def test_largest_face_comes_first(photo, points):
    smaller = np.array(Image.fromarray(photo).resize((360, 360), Image.Resampling.LANCZOS))
    both = np.full((512, 872, 3), 128, dtype=np.uint8)
    both[:360, :360], both[:, 360:] = smaller, photo
    found = observe_face(both)
    assert found.faces_found == 2
    assert distance(found.landmarks.points_px - [360, 0], points).mean() < 0.8
    detections = detect_faces(both)
    other = detect_landmarks(both, detections[1]).points_px * (512 / 360)
    assert distance(other, points).mean() < 1.2


def test_no_face(photo, rng):
    for picture in (
        np.full((300, 500, 3), 128, dtype=np.uint8),
        rng.integers(0, 256, (400, 300, 3), dtype=np.uint8),
        np.ascontiguousarray(photo[190:]),
        np.zeros((1, 1, 3), dtype=np.uint8),
    ):
        with pytest.raises(InputError, match="No face was found"):
            observe_face(picture)


def test_face_too_small(photo):
    tiny = np.full((170, 240, 3), 110, dtype=np.uint8)
    tiny[60:110, 90:140] = np.array(Image.fromarray(photo[20:220, 125:325]).resize((50, 50), Image.Resampling.LANCZOS))
    with pytest.raises(InputError, match=r"Face too small: the largest one is \d\d pixels"):
        observe_face(tiny)


def test_anchors_and_views():
    anchors = _anchors()
    assert np.allclose(anchors[:3], [[1 / 32, 1 / 32], [1 / 32, 1 / 32], [3 / 32, 1 / 32]])
    assert np.allclose(anchors[512], [1 / 16, 1 / 16])
    assert np.allclose(anchors.mean(axis=0), 0.5)
    for views in _view_ladder(700, 2000):  # each set of views covers the whole picture
        x = np.arange(0.5, 2000, 7)
        assert all(any(v.left <= at <= v.left + v.side for v in views) for at in x)
        assert min(v.top for v in views) <= 0
        assert max(v.top + v.side for v in views) >= 700


def test_landmark_tables():
    assert len(set(IBUG68_FROM_MEDIAPIPE)) == 68
    assert [IBUG68_MIRRORED[i] for i in IBUG68_MIRRORED] == list(range(68))
    assert sorted(i for group in LANDMARK_GROUPS.values() for i in group) == list(range(68))


def test_a_person_is_told_from_the_background(photo):
    points = observe_face(photo).landmarks.points_px
    centre, side = points.mean(0), 2.5 * float(np.ptp(points, axis=0).max())
    probability = person_probability(photo, centre, side)
    assert probability.shape == (PERSON_SIDE, PERSON_SIDE)
    assert probability.min() >= 0 and probability.max() <= 1
    column, row = np.floor((points - centre) / side * PERSON_SIDE + PERSON_SIDE / 2).astype(int).T
    assert probability[row, column].mean() > 0.98
    # Beside the hair there is nothing but backdrop.
    assert probability[40:80, :20].max() < 0.1
    np.testing.assert_array_equal(probability, person_probability(photo, centre, side))

"""Occluders: one outline for pixels and vertices, opaque, the same for a key, and the face is still found."""

from pathlib import Path

import jax
import numpy as np
import pytest

import diverse3d
from diverse3d._errors import InputError
from diverse3d.observe import (
    IBUG68_FROM_MEDIAPIPE,
    REGIONS,
    inside_outline,
    observe_face,
    occluder_outline,
    paint_occluder,
    read_photo,
)

PHOTO = Path(diverse3d.__file__).parent / "assets" / "astronaut.png"
CHOSEN = list(IBUG68_FROM_MEDIAPIPE)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return read_photo(PHOTO)


@pytest.fixture(scope="module")
def points(photo: np.ndarray) -> np.ndarray:
    return observe_face(photo).landmarks.points_px


@pytest.fixture(scope="module")
def face68(points: np.ndarray) -> np.ndarray:
    return points[CHOSEN]


def pixel_centres(shape: tuple[int, ...]) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5), axis=-1).reshape(-1, 2)


def grown(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask, 1)
    h, w = mask.shape
    return np.any([padded[i : i + h, j : j + w] for i in range(3) for j in range(3)], axis=0)


def test_inside_a_known_polygon():
    square = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]])
    arrow = np.array([[4.0, 0.0], [6.0, 2.0], [4.0, 4.0], [5.0, 2.0]])
    asked = np.array([[1.0, 1.0], [3.0, 1.0], [5.5, 2.0], [4.5, 2.0], [-1.0, 1.0], [1.0, 2.5]])
    assert inside_outline((square, arrow), asked).tolist() == [True, False, True, False, False, False]
    assert not inside_outline((), asked).any()


@pytest.mark.parametrize("region", REGIONS)
def test_mask_is_the_outline(photo, face68, key, region):
    painted, mask = paint_occluder(photo, face68, region, key=key)
    outline = occluder_outline(region, face68, key=key)
    inside = inside_outline(outline, pixel_centres(mask.shape)).reshape(mask.shape)
    assert mask[inside].all()
    assert grown(inside)[mask].mean() > 0.995  # the tips of thin bands may reach a pixel further
    assert np.array_equal(painted[~mask], photo[~mask])


@pytest.mark.parametrize("region", REGIONS)
def test_opaque(photo, face68, key, region):
    """Whatever lies beneath, away from the edge the same colours come out, but for the face's exposure."""
    _, mask = paint_occluder(photo, face68, region, key=key)
    core = ~grown(~mask)
    other = photo.copy()
    other[core] = 255 - other[core]
    first, second = (paint_occluder(p, face68, region, key=key)[0].astype(float) for p in (photo, other))
    assert core.any()
    ratio = (first[core].sum() + 1.0) / (second[core].sum() + 1.0)
    spread = np.abs(first[core] - ratio * second[core])
    assert np.quantile(spread, 0.9) < 30.0
    assert np.corrcoef(first[core].ravel(), second[core].ravel())[0, 1] > 0.7  # 0.76 behind the mask


@pytest.mark.parametrize("region", REGIONS)
def test_same_key_same_pixels(photo, face68, key, region):
    first, second = (paint_occluder(photo, face68, region, key=key) for _ in range(2))
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])


@pytest.mark.parametrize("region", REGIONS)
def test_outline_moves_with_the_face(face68, key, region):
    """Shifting, scaling and turning the landmarks does the same to the outline."""
    angle, scale, shift = 0.4, 2.5, np.array([30.0, -80.0])
    turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    here = occluder_outline(region, face68, key=key)
    there = occluder_outline(region, face68 @ turn + shift, key=key)
    slack = 0.01 * np.ptp(face68) if region == "random" else 1e-6  # its size is found on a grid of points
    for a, b in zip(here, there, strict=True):
        np.testing.assert_allclose(b, a @ turn + shift, rtol=0, atol=slack)


@pytest.mark.parametrize("region", REGIONS)
def test_outline_stays_sound_from_the_side(face68, key, region):
    """A head turned to profile, as the benchmarks project it."""
    middle = face68.mean(axis=0)
    for squeeze in (0.5, 0.1, 0.0):
        for polygon in occluder_outline(region, (face68 - middle) * [squeeze, 1.0] + middle, key=key):
            assert np.isfinite(polygon).all()
            assert np.ptp(polygon, axis=0).max() < 3.0 * np.ptp(face68, axis=0).max()


def test_face_mask_covers_the_lower_face(face68, key):
    hidden = inside_outline(occluder_outline("face-mask", face68, key=key), face68)
    assert hidden[[*range(3, 14), 29, 30, *range(31, 36), *range(48, 68)]].all()
    assert not hidden[[*range(17, 28), *range(36, 48)]].any()


def test_glasses_cover_the_eyes_only(face68, key):
    hidden = inside_outline(occluder_outline("glasses", face68, key=key), face68)
    assert hidden[36:48].all()
    assert not hidden[[*range(2, 15), 30, *range(31, 36), *range(48, 68)]].any()


def test_sides_are_the_persons(face68, key):
    for region, side in (("left-cheek", 1.0), ("right-cheek", -1.0)):
        (outline,) = occluder_outline(region, face68, key=key)
        assert side * (outline.mean(axis=0)[0] - face68[30, 0]) > 10.0


@pytest.mark.parametrize(
    ("region", "covered"), [("mouth", range(48, 68)), ("eyes", range(36, 48)), ("centre", range(29, 36))]
)
def test_what_a_region_covers(face68, key, region, covered):
    assert inside_outline(occluder_outline(region, face68, key=key), face68)[list(covered)].all()


def test_random_covers_a_fifth_to_two_fifths(face68):
    hull = (np.concatenate([face68[:17], face68[[26, 24, 19, 17]]]),)
    grid = pixel_centres((256, 512))
    grid = grid[inside_outline(hull, grid)]
    shares = [
        inside_outline(occluder_outline("random", face68, key=jax.random.key(seed)), grid).mean() for seed in range(30)
    ]
    assert 0.19 < min(shares) < 0.24
    assert 0.35 < max(shares) < 0.41


@pytest.mark.parametrize("region", REGIONS)
def test_face_is_still_found(photo, points, face68, region):
    for seed in range(4):
        key = jax.random.key(seed)
        found = observe_face(paint_occluder(photo, face68, region, key=key)[0])
        visible = ~inside_outline(occluder_outline(region, face68, key=key), points)
        error = np.linalg.norm(found.landmarks.points_px - points, axis=1)[visible]
        assert found.faces_found == 1
        assert error.mean() < 5.0  # of a face 100 px wide


def test_outside_the_picture_nothing_is_painted(photo, face68, key):
    painted, mask = paint_occluder(photo, face68 + 5000.0, "glasses", key=key)
    assert not mask.any()
    assert np.array_equal(painted, photo)


def test_unknown_region(face68, key):
    with pytest.raises(InputError, match=r"did you mean .?glasses"):
        occluder_outline("glases", face68, key=key)

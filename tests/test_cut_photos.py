"""Faces that the picture cuts off: a landmark beyond its border was not seen."""

import numpy as np
import pytest

from diverse3d import DEMO_PHOTO
from diverse3d.files import read_photo
from diverse3d.observe import observe_photo


@pytest.mark.parametrize("cut", ["right", "chin"])
def test_landmarks_outside_the_picture_are_not_seen(cut):
    whole = read_photo(DEMO_PHOTO)
    points = observe_photo(whole).photo.landmarks_px
    middle, low = points[:, 0].mean(), np.quantile(points[:, 1], 0.85)
    part = whole[:, : int(middle + 15)] if cut == "right" else whole[: int(low)]
    seen = observe_photo(np.ascontiguousarray(part)).photo
    height, width = part.shape[:2]
    x, y = seen.landmarks_px.T
    outside = (x < 0) | (x >= width) | (y < 0) | (y >= height)
    assert outside.any()
    np.testing.assert_array_equal(seen.landmark_visible, ~outside)


@pytest.mark.parametrize("name", ["astronaut_cut_right.png", "astronaut_cut_chin.png"])
def test_photos_as_users_cut_them(shared, name):
    if not (shared / "faults").is_dir():
        pytest.skip(f"inputs that were found wrong are not there ({shared / 'faults'})")
    seen = observe_photo(shared / "faults" / name).photo
    x, y = seen.landmarks_px.T
    height, width = seen.hidden.shape
    outside = (x < 0) | (x >= width) | (y < 0) | (y >= height)
    assert outside.any() and not seen.landmark_visible[outside].any()

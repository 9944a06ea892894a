"""Several faces in a picture: which one is meant, and which is which."""

import numpy as np
import pytest
from PIL import Image

from diverse3d import DEMO_PHOTO
from diverse3d._errors import InputError
from diverse3d.cli._fit import Fit
from diverse3d.observe import observe_face, observe_photo
from diverse3d.show._panels import SEEN, UNSEEN, numbered_faces


@pytest.fixture(scope="module")
def both() -> np.ndarray:
    """A smaller face to the left of a larger one."""
    with Image.open(DEMO_PHOTO) as picture:
        photo = picture.convert("RGB")
    two = np.full((512, 872, 3), 128, np.uint8)
    two[:360, :360], two[:, 360:] = np.asarray(photo.resize((360, 360), Image.Resampling.LANCZOS)), np.asarray(photo)
    return two


def middle(found) -> float:
    return float(found.landmarks.points_px[:, 0].mean())


def test_faces_count_from_left_to_right(both):
    largest = observe_face(both)
    assert (largest.number, largest.faces_found) == (2, 2) and middle(largest) > 500
    assert (np.diff(largest.boxes_px[:, [0, 2]].mean(1)) > 0).all()
    first = observe_face(both, 1)
    assert first.number == 1 and middle(first) < 300
    assert middle(observe_face(both, 2)) == middle(largest)
    assert observe_face(both, (100.0, 400.0)).number == 1 and observe_face(both, (800.0, 0.0)).number == 2
    for number in (0, 3, -1):
        with pytest.raises(InputError, match=f"There is no face {number}: the picture shows 2 faces"):
            observe_face(both, number)


def test_a_chosen_face_stays_the_chosen_one_under_an_occluder(both, key):
    seen = observe_photo(both, occlude="mouth", key=key, face=1)
    assert seen.photo.face_chosen and seen.photo.landmarks_px[:, 0].mean() < 300
    assert seen.photo.hidden[:, :360].any() and not seen.photo.hidden[:, 360:].any()
    picture = numbered_faces(seen.photo)
    assert picture.shape == both.shape
    for number, (left, top, *_) in enumerate(seen.photo.boxes_px.round().astype(int), start=1):
        colour = picture[max(top, 0) + 3, max(left, 0) + 3]
        np.testing.assert_array_equal(colour, SEEN if number == seen.photo.face else UNSEEN)


@pytest.mark.parametrize(
    ("text", "meant"), [(None, None), ("2", 2), ("310,200", (310.0, 200.0)), ("1.5", InputError), ("a", InputError),
                        ("1,2,3", InputError), ("nan,1", InputError), ("", InputError)]
)  # fmt: skip
def test_the_option(text, meant, tmp_path):
    command = Fit(input=tmp_path / "a.png", out=tmp_path / "out", face=text)
    if meant is InputError:
        with pytest.raises(InputError, match="give its number from left to right, or X,Y in pixels"):
            command.which_face()
    else:
        assert command.which_face() == meant

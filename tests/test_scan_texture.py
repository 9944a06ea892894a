"""Pictures beside an OBJ file: worn where they lie in its folder, left out and said where not."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diverse3d.files import read_mesh
from diverse3d.register._texture import coloured

QUAD = "mtllib skin.mtl\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 5 5 5\nvt 0.25 0.25\nvt 0.75 0.25\nvt 0.75 0.75\nvt 0.25 0.75\n"
FACES = "usemtl skin\nf 1/1 2/2 3/3 4/4\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    colours = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [90, 80, 70]]], np.uint8)
    (tmp_path / "maps").mkdir()
    Image.fromarray(colours).save(tmp_path / "maps" / "a skin.png")
    (tmp_path / "skin.mtl").write_text("newmtl skin\nKd 1 1 1\nmap_Kd -s 1 1 1 -clamp on maps\\a skin.png\n")
    (tmp_path / "face.obj").write_text(QUAD + FACES)
    return tmp_path


def worn(path: Path) -> tuple[np.ndarray | None, list[str]]:
    notes: list[str] = []
    return coloured(read_mesh(path), notes, path).colours, notes


def test_an_obj_file_wears_its_picture(folder: Path) -> None:
    colours, notes = worn(folder / "face.obj")
    assert notes == [] and colours is not None
    # The picture's lower row first; a vertex of no polygon stays grey.
    np.testing.assert_array_equal(colours[:4], [[0, 0, 255], [90, 80, 70], [0, 255, 0], [255, 0, 0]])
    np.testing.assert_array_equal(colours[4], [200, 200, 200])


def test_corners_counted_backwards_are_the_same(folder: Path) -> None:
    first, _ = worn(folder / "face.obj")
    (folder / "face.obj").write_text(QUAD + "usemtl skin\nf -5/-4/1 -4/-3/1 -3/-2/1 -2/-1/1\n")
    np.testing.assert_array_equal(worn(folder / "face.obj")[0], first)


def test_two_materials_wear_two_pictures(folder: Path) -> None:
    Image.new("RGB", (2, 2), (1, 2, 3)).save(folder / "other.png")
    with (folder / "skin.mtl").open("a") as file:
        file.write("newmtl other\nmap_Kd other.png\n")
    (folder / "face.obj").write_text(QUAD + "usemtl skin\nf 1/1 2/2 3/3\nusemtl other\nf 1/1 3/3 4/4\n")
    colours, _ = worn(folder / "face.obj")
    assert colours is not None
    np.testing.assert_array_equal(colours[[0, 3]], [[0, 0, 255], [1, 2, 3]])


@pytest.mark.parametrize(
    ("material", "words"),
    [
        ("map_Kd ../secret.png", "not in its own folder"),
        ("map_Kd /etc/passwd", "not in its own folder"),
        ("map_Kd C:\\pictures\\a.png", "not in its own folder"),
        ("map_Kd link.png", "not in its own folder"),
        ("map_Kd missing.png", "There is no|is not|missing.png"),
        ("map_Kd skin.mtl", "skin.mtl"),
        ("map_Kd", None),
        ("Kd 1 0 0", None),
    ],
)
def test_what_is_not_worn_is_said(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, material: str, words: str | None
) -> None:
    outside = tmp_path_factory.mktemp("elsewhere") / "secret.png"
    Image.new("RGB", (2, 2)).save(outside)
    (folder / "link.png").symlink_to(outside)
    (folder / "skin.mtl").write_text(f"newmtl skin\n{material}\n")
    colours, notes = worn(folder / "face.obj")
    assert colours is None
    if words is None:
        assert notes == [] or notes[0].startswith("Its texture was left out.")
    else:
        assert len(notes) == 1 and notes[0].startswith("Its texture was left out.")
        assert any(word in notes[0] for word in words.split("|"))


def test_a_library_elsewhere_is_not_opened(folder: Path) -> None:
    (folder / "face.obj").write_text("mtllib ../skin.mtl\n" + QUAD.split("\n", 1)[1] + FACES)
    colours, notes = worn(folder / "face.obj")
    assert colours is None and "not in its own folder" in notes[0]


def test_odd_corners_are_no_traceback(folder: Path) -> None:
    (folder / "face.obj").write_text(QUAD + "vt x y\nvt nan 0\nvt\nusemtl skin\nf 1/9 2/x 3// 4/0\nf 1/5 2/6 3/7\n")
    colours, notes = worn(folder / "face.obj")
    assert notes == [] and colours is not None

"""Landmarks found by showing a head to the detector."""

import numpy as np
import pytest
from gnm_files import small_mesh
from safetensors.numpy import load_file

from diverse3d._errors import InputError
from diverse3d.embed import find_for_import, locate, mirrored_points
from diverse3d.head import head_from_arrays
from diverse3d.head._file import EMBEDDED_HEAD
from diverse3d.head._imported import Imported, on_faces, packed


def test_what_the_head_hides_does_not_move_a_point():
    """A point at the side is seen well from its own side; from the other the detector guesses."""
    yaws = np.radians([0, -20, 20, -40, 40, -55, 55])
    directions = np.stack([np.sin(yaws), 0 * yaws, np.cos(yaws)], axis=1)
    places = np.full((7, 468, 3), np.nan)
    truth = np.array([0.07, 0.0, 0.0])
    guess = np.stack([0.05 - 0.02 * np.arange(7), 0 * yaws, 0 * yaws + 0.08], axis=1)  # which drifts with the view
    places[:, 5] = np.where((directions[:, :1] > 0), truth, guess)
    places[:, 9] = [0.0, 0.01, 0.07]
    places[:3, 11] = [0.0, 0.0, 0.07]
    mean, spread, count = locate(places, directions, np.array([0.0, 0.0, -0.04]))
    np.testing.assert_allclose(mean[5], truth, atol=1e-9)
    np.testing.assert_allclose(mean[9], [0.0, 0.01, 0.07], atol=1e-9)
    assert count[5] == 3 and spread[5] < 1e-9 and not np.isfinite(mean[10]).any()


def test_points_find_their_mirror_images():
    mean = np.full((468, 3), np.nan)
    mean[:3] = [[0.03, 0.0, 0.0], [-0.031, 0.0, 0.0], [0.0, 0.05, 0.0]]
    twin = mirrored_points(mean)
    assert twin[0] == 1 and twin[1] == 0 and twin[2] == 2


def test_points_are_put_on_triangles():
    _, faces = small_mesh()
    corners = faces[[3, 7, 100]][:, [2, 0, 1]].astype(np.int64)
    weights = np.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    face, placed = on_faces(faces, corners, weights)
    points = np.random.default_rng(0).normal(size=(faces.max() + 1, 3))
    given = (points[corners] * weights[:, :, None]).sum(axis=1)
    np.testing.assert_allclose((points[faces[face]] * placed[:, :, None]).sum(axis=1), given, atol=1e-6)
    with pytest.raises(InputError, match="not of one triangle"):
        on_faces(faces, np.array([[0, 83, 100]]), np.array([[0.3, 0.3, 0.4]]))


def test_half_precision_is_as_near_as_it_says(rng):
    components = rng.normal(size=(5, 40, 3)).astype(np.float32)
    components[2] = 0
    arrays, error = packed("identity", components)
    back = arrays["identity_basis"].astype(np.float64) * arrays["identity_scale"][:, None, None]
    assert (np.abs(back - components) <= np.abs(components) / 2048 + 1e-7).all() and not back[2].any()
    np.testing.assert_allclose(np.square(back - components).sum(axis=(0, 2)), error, rtol=1e-3)


def test_a_head_that_shows_no_face_is_refused():
    template, faces = small_mesh()
    with pytest.raises(InputError, match="too coarse"):
        find_for_import(Imported({"template": template, "faces": faces}, {}, ()))


def test_the_embedded_heads_landmarks_are_found_again():
    """Without landmarks, regions or colours: plain skin first, then lips and brows where that says they are."""
    arrays = load_file(EMBEDDED_HEAD)
    bare = {name: arrays[name] for name in ("template", "faces", "identity_basis", "identity_scale")}
    notes = ("Without 68 landmarks it can't be fitted.", "Another note.")
    found = find_for_import(Imported(bare, {}, notes))
    assert found.notes[0] == "Another note." and "were found by showing the head to the detector" in found.notes[1]
    ours, theirs = (head_from_arrays({**bare, **part}, dtype=np.float32) for part in (found.arrays, arrays))
    template = theirs.template_m
    apart = 1e3 * np.linalg.norm(np.asarray(ours.landmarks68(template) - theirs.landmarks68(template)), axis=1)
    assert np.median(apart[27:]) < 3 and np.median(apart) < 5  # mm
    assert len(found.arrays["landmarks_dense_index"]) > 430 and found.arrays["colours"].shape == template.shape


def test_flames_open_pieces_are_imported_as_before(shared, tmp_path):
    """FLAME 2023 Open's template and components with masks and 68 landmarks: nothing is looked for."""
    from diverse3d.cli import main
    from diverse3d.head import load_head

    folder, out = shared / "flame", tmp_path / "flame.safetensors"
    given = ["--masks", str(folder / "flame_masks.npz"), "--landmarks", str(folder / "landmarks68.npz")]
    assert main(["head", "import", str(folder / "flame2023_60.npz"), "--out", str(out), *given, "--quiet"]) == 0
    head = load_head(out, dtype=np.float32)
    assert (head.n_vertices, head.n_identity, len(head.regions)) == (5023, 60, 14) and head.colours is None

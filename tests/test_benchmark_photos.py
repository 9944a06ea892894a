"""The suite of rendered photos: its figures on cases whose answer is known."""

import types

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import rotation_about

from benchmarks.photos import _histogram as histogram
from benchmarks.photos._photos import FIGURES, MASKS, Row, geometry_error_mm, mask_figures, missed_vertices, report
from diverse3d.observe import Photo, PhotoObservation
from diverse3d.segment import FoundOccluder


def scene_of(face, hidden):
    return types.SimpleNamespace(face=face, hidden=hidden)


def found_of(hidden, face):
    return FoundOccluder(hidden=hidden, probability=hidden.astype(float), face=face, face_hidden=0.0, certainty=0.9)


def test_mask_figures_count_the_seen_face_inside_the_rendered_one():
    face = np.zeros((10, 10), bool)
    face[:8] = True
    hidden = np.zeros_like(face)
    hidden[:4] = True
    assert mask_figures(found_of(hidden, face), scene_of(face, hidden)) == (1, 1, 1, 1)
    nothing = np.zeros_like(face)
    accuracy, precision, recall, f1 = mask_figures(found_of(nothing, face), scene_of(face, hidden))
    assert (accuracy, precision, recall) == (0.5, 0.5, 1) and f1 == pytest.approx(2 / 3)
    # What lies outside the rendered face is not judged.
    assert mask_figures(found_of(hidden, face), scene_of(face, hidden | ~face)) == (1, 1, 1, 1)


def test_vertices_are_missed_where_the_mask_leaves_them_in_view():
    # A wall of vertices that face the camera, one a pixel: the upper half is the face.
    size, side = 12, 14
    x, y = (part.reshape(-1) for part in np.meshgrid(np.arange(size), np.arange(size)))
    points = np.stack([x, -y, np.zeros_like(x)], 1).astype(np.float64)
    at = np.arange(size * size).reshape(size, size)
    quads = np.stack([at[1:, :-1], at[1:, 1:], at[:-1, 1:], at[:-1, :-1]], 2).reshape(-1, 4)
    faces = np.concatenate([quads[:, :3], quads[:, [0, 2, 3]]])
    head = types.SimpleNamespace(
        n_vertices=size * size, template_m=points, faces=jnp.asarray(faces, jnp.int32),
        regions={"face": np.flatnonzero(y < 6), "lips": np.flatnonzero(y == 4)},
    )  # fmt: skip
    camera = types.SimpleNamespace(project=lambda p: np.asarray(p)[:, :2] * [1.0, -1.0] + 0.5)
    scene = types.SimpleNamespace(vertices_m=points, visible=x >= 6, camera=camera)
    hidden = np.zeros((side, side), bool)
    hidden[:3, :6] = True  # half of the face's hidden vertices, none of the jaw's
    photo = Photo(np.zeros((side, side, 3), np.uint8), hidden, np.zeros((468, 2)), np.ones(468, bool), 1)
    seen = PhotoObservation(photo=photo, source="", sha256="")
    assert missed_vertices(found_of(hidden, np.ones_like(hidden)), scene, seen, head) == (50, 100)


def test_geometry_is_free_of_place_size_and_turn(tiny_head, rng):
    true = np.asarray(tiny_head.template_m)
    visible = rng.uniform(size=len(true)) < 0.6
    scene = types.SimpleNamespace(visible=visible, vertices_m=true)
    moved = 1.3 * true @ rotation_about([1, 2, 3], 0.7).T + [0.1, -0.2, 3.0]

    def error(vertices):
        return geometry_error_mm(jnp.asarray(vertices), scene, tiny_head)

    assert error(moved) < 1e-9
    assert 0.5 < error(true + 0.001 * rng.normal(size=true.shape)) < 3
    scene.visible[:] = False
    assert np.isnan(error(moved))


def test_the_report_groups_by_occluder_and_tone():
    rows = [
        Row("none", "light", (1, 1, 1, 1), (np.nan, np.nan), 0.99, (2, 2, 2), 9, 1, 2),
        Row("scarf", "dark", (0.8, 0.9, 0.7, 0.79), (10.0, 20.0), 0.8, (np.nan,) * 3, np.nan, 1, np.nan),
        Row("scarf", "medium", (0.9, 0.9, 0.9, 0.9), (20.0, 60.0), 0.9, (3, 3.3, 4), 12, 1, 2),
    ]
    metrics, tables = report(rows, ["hand"], 4)
    values = {metric.key.split("/", 1)[1]: metric.value for metric in metrics}
    assert values["faces_missed"] == 25
    assert (values["scarf/missed/face"], values["scarf/missed/jaw"]) == (15, 40)
    assert values["occluded/f1"] == pytest.approx(0.845) and values["unoccluded/f1"] == 1
    assert values["scarf/geometry/found"] == 3.3 and values["dark skin/recall"] == 0.7
    assert values["certainty_correlation"] > 0.9
    assert all(f"overall/{figure}" in values for figure in FIGURES)
    assert all(f"overall/geometry/{mask}" in values for mask in MASKS)
    assert "| scarf | 2 |" in tables["photos"] and "1 of 4 (hand)" in tables["photos"]


def test_the_histogram_counts_tails_and_draws_every_head():
    errors = {"global": np.array([1.0, 2.0, 30.0, 80.0]), "global + local": np.array([3.0, 3.0, 3.0, 26.0])}
    metrics, tables = histogram.report(errors, 1, 5)
    values = {metric.key: metric.value for metric in metrics}
    assert values["histogram[photos=5]/global/very_bad"] == 50
    assert values["histogram[photos=5]/global + local/very_bad"] == 25
    assert values["histogram[photos=5]/global/median"] == 16
    assert "| global + local | 4 |" in tables["histogram"] and "1 of 5" in tables["histogram"]
    picture = histogram.histogram(errors)
    assert picture.startswith("<?xml") and picture.count("<path") > 10


def test_the_histogram_compares_heads_of_growing_freedom(tiny_head):
    sizes = [head.n_components for head in histogram.heads(tiny_head).values()]
    assert sizes[0] <= sizes[1] and sizes[2] == tiny_head.n_components

"""Rendered scenes: the same bytes from the same key, and masks that say what was drawn."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import check_derivatives

from diverse3d._errors import InputError
from diverse3d.fit import FitConfig, MeshFit, Weights, fit
from diverse3d.head import load_head
from diverse3d.head.population import split
from diverse3d.observe import observe_photo
from diverse3d.surface import (
    Perspective,
    WeakPerspective,
    boundary_loops,
    catmull_rom,
    host_normals,
    rasterise,
    zbuffer,
)
from scenes import OCCLUDERS, SIDE_PX, WORN, draw_scene, put_on, scenes
from scenes._buffers import look, openness
from scenes._mesh import ball, sheet, tube
from scenes._setting import LIMITS_DEG, draw_light

EYES, MOUTH, CHIN = list(range(36, 48)), list(range(48, 68)), 8


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.fixture(scope="module")
def drawn(head):
    """One person behind each occluder: one key, turned little."""
    truth = np.asarray(split("validation", 1).vertices[0])
    key = next(
        k for k in (jax.random.key(i) for i in range(100))
        if all(abs(a) < 0.3 * b for a, b in zip(_turn(k), LIMITS_DEG, strict=True))
    )  # fmt: skip
    return {name: draw_scene(head, truth, key=key, occluder=name) for name in OCCLUDERS}


def _turn(key):
    from scenes._noise import stream
    from scenes._setting import draw_pose

    return tuple(draw_pose(stream(key, "setting")))


def at(mask, points):
    """Whether the mask holds the pixels at points."""
    column, row = np.floor(points).astype(int).T.clip(0, len(mask) - 1)
    return mask[row, column]


def equal(first, second):
    a, b = jax.tree.leaves(first), jax.tree.leaves(second)
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_scene_is_the_same_whatever_else_is_asked_for():
    names = ("hand", "random-shape", "clear-glasses")
    many = list(scenes("train", 3, occluders=names))
    one = next(scenes("train", 1, 2, occluders=names))
    assert equal(many[2], one) and one.occluder == "clear-glasses"
    assert not np.array_equal(many[0].rgb, many[1].rgb)
    other = next(scenes("test", 1, 2, occluders=names))
    assert not np.array_equal(other.rgb, one.rgb)
    photo = np.full((50, 60, 3), 200, np.uint8)
    before = next(scenes("train", 1, 2, occluders=names, backgrounds=[photo]))
    np.testing.assert_array_equal(before.face, one.face)
    np.testing.assert_array_equal(before.hidden, one.hidden)


def test_only_the_occluder_differs_between_occluders(drawn):
    plain = drawn["none"]
    for name, scene in drawn.items():
        assert scene.occluder == name and scene.rgb.shape == (SIDE_PX, SIDE_PX, 3)
        np.testing.assert_array_equal(scene.vertices_m, plain.vertices_m)
        np.testing.assert_array_equal(scene.face, plain.face)
        assert scene.melanin == plain.melanin
        assert scene.rgb.std() > 10
        assert not (scene.visible & ~plain.visible).any()


def test_masks_cover_what_they_are_named_after(drawn):
    share = {name: (s.hidden & s.face).sum() / s.face.sum() for name, s in drawn.items()}
    assert not drawn["none"].hidden.any()
    assert all(0.02 < value < 0.85 for name, value in share.items() if name != "none"), share
    marks = drawn["none"].landmarks68_px
    assert at(drawn["dark-glasses"].hidden, marks[EYES]).all()
    assert not at(drawn["clear-glasses"].hidden, marks[[37, 38, 40, 41, 43, 44, 46, 47]]).any()
    for name in ("surgical-mask", "scarf"):
        assert at(drawn[name].hidden, marks[MOUTH]).all() and at(drawn[name].hidden, marks[[CHIN]]).all()
        assert not at(drawn[name].hidden, marks[EYES]).any()
    assert at(drawn["microphone"].hidden, marks[MOUTH]).mean() > 0.3
    assert 0.2 < drawn["none"].face.mean() / 0.5 < 1.0


def test_landmarks_and_vertices_project_onto_the_face(drawn, head):
    scene = drawn["none"]
    vertices = jnp.asarray(scene.vertices_m, jnp.float32)
    marks = jnp.asarray(head.landmarks68(jnp.asarray(scene.vertices_m, head.dtype)), jnp.float32)
    np.testing.assert_allclose(scene.landmarks68_px, scene.camera.project(marks), atol=0.02)
    inner = scene.landmarks68_px[27:]
    assert at(scene.face, inner).mean() > 0.9
    face = np.isin(np.arange(head.n_vertices), np.asarray(head.regions["face"]))
    place = np.asarray(scene.camera.project(vertices))
    assert at(scene.face, place[face & scene.visible]).mean() > 0.97


def test_visible_vertices_are_those_that_no_triangle_hides(drawn, head, rng):
    scene = drawn["none"]
    faces, vertices = np.asarray(head.faces), scene.vertices_m
    eye = np.array([0.0, 0.0, float(scene.camera.distance_m)])
    corners = vertices[faces]
    normals = host_normals(vertices, faces)
    front = np.flatnonzero(
        (np.arange(len(vertices)) % 7 == 0) & np.isin(np.arange(len(vertices)), head.regions["face"])
    )
    agree = []
    for v in front:
        ray = vertices[v] - eye
        # Möller–Trumbore: what the line from camera to vertex meets before it.
        e1, e2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
        p = np.cross(ray, e2)
        det = (e1 * p).sum(1)
        safe = np.where(np.abs(det) < 1e-15, np.inf, det)
        s = eye - corners[:, 0]
        u, q = (s * p).sum(1) / safe, np.cross(s, e1)
        w, t = (q @ ray) / safe, (e2 * q).sum(1) / safe
        hit = (u >= 0) & (w >= 0) & (u + w <= 1) & (t > 0) & ((1 - t) * np.linalg.norm(ray) > 3e-3)
        clear = not hit.any() and normals[v] @ ray < 0
        agree.append(
            clear == scene.visible[v]
            or at(~scene.face, np.asarray(scene.camera.project(jnp.asarray(vertices[v : v + 1], jnp.float32)))).any()
        )
    assert len(agree) > 200 and np.mean(agree) > 0.95


def test_nothing_visible_lies_under_an_occluder(drawn):
    for scene in drawn.values():
        place = np.asarray(scene.camera.project(jnp.asarray(scene.vertices_m, jnp.float32)))[scene.visible]
        assert (place >= 0).all() and (place < SIDE_PX).all()
        assert not at(scene.hidden, place).any()


def test_worn_things_lie_before_the_head(head, rng):
    from scenes._envelope import Envelope
    from scenes._wear import draw_glasses, draw_surgical_mask

    truth = np.asarray(split("validation", 4).vertices, np.float64)[3]
    marks = np.asarray(head.landmarks68(jnp.asarray(truth, head.dtype)), np.float64)
    ears = np.concatenate([head.regions["left_ear"], head.regions["right_ear"]])
    envelope = Envelope(np.delete(truth, ears, 0))
    camera = Perspective(jnp.float32(700.0), jnp.full(2, 128.0, jnp.float32), jnp.float32(1.0))
    bare = look(truth, np.asarray(head.faces), camera, 256)
    cloth = draw_surgical_mask(truth, marks, envelope, rng)[0]
    lenses = [part for part in draw_glasses(truth, marks, rng, dark=True)[0] if part.shininess == 90.0]
    for part in (cloth, *lenses):
        seen = look(part.points_m, part.faces, camera, 256)
        over = (seen.face >= 0) & (bare.face >= 0)
        assert over.sum() > 100
        assert (seen.nearness > bare.nearness)[over].mean() > 0.97


def test_unknown_names_are_refused(head, tiny_head):
    truth = np.asarray(head.template_m)
    with pytest.raises(InputError, match="no occluder 'glases'"):
        draw_scene(head, truth, key=jax.random.key(0), occluder="glases")
    with pytest.raises(InputError, match="unknown split"):
        next(scenes("tests", 1))


def test_light_is_never_negative_and_varies(rng):
    from diverse3d.surface import harmonics

    direction = rng.normal(size=(500, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    basis = np.asarray(harmonics(jnp.asarray(direction)))
    for _ in range(20):
        light = draw_light(rng)
        assert (basis @ light.soft > 0).all()
        # The lamp's harmonics are a clamped cosine, but for what lies beyond degree two.
        got = basis @ light.direct / light.colour
        np.testing.assert_allclose(got, (direction @ light.direction).clip(0)[:, None] * np.ones(3), atol=0.13)


def test_zbuffer_equals_the_rasteriser(head, rng):
    vertices, faces = np.asarray(head.template_m), np.asarray(head.faces)
    points, near = np.stack([64 + 450 * vertices[:, 0], 64 - 450 * vertices[:, 1]], 1), vertices[:, 2]
    slow = rasterise(
        jnp.asarray(points, jnp.float32), jnp.asarray(near, jnp.float32), head.faces, height=128, width=128
    )  # fmt: skip
    for solid in (0, len(faces)):
        fast = zbuffer(points, near, faces, height=128, width=128, solid=solid)
        same = fast.face == np.asarray(slow.face)
        assert same.mean() > 0.995
        np.testing.assert_allclose(fast.nearness[same], np.asarray(slow.nearness)[same], atol=1e-6)
        np.testing.assert_allclose(fast.barycentric[same], np.asarray(slow.barycentric)[same], atol=1e-3)


def test_meshes_are_closed_and_smooth():
    points, faces, _ = ball(np.array([1.0, 2.0, 3.0]), 0.5, 20, 30)
    np.testing.assert_allclose(np.linalg.norm(points - [1, 2, 3], axis=1), 0.5)
    assert ((points - [1, 2, 3]) * host_normals(points, faces)).sum(1).mean() > 0.45
    path = catmull_rom(np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]]), 40)
    np.testing.assert_allclose(path[[0, -1]], [[0, 0, 0], [1, 1, 1]], atol=1e-12)
    points, faces, uv = tube(path, 0.05, sides=8)
    gap = np.linalg.norm(points[:, None] - catmull_rom(path, 400)[None], axis=2).min(1)
    assert gap.max() < 0.055 and uv.min() >= 0 and uv.max() <= 1
    grid = np.stack([*np.meshgrid(np.arange(3.0), np.arange(4.0)), np.zeros((4, 3))], -1)
    points, faces, _ = sheet(grid)
    assert len(faces) == 12 and len(max(boundary_loops(faces), key=len)) == 10


def test_hollows_see_less_of_the_sky(head):
    share = openness(np.asarray(head.template_m), np.asarray(head.faces))
    assert ((share >= 0) & (share <= 1)).all()
    nose = share[np.asarray(head.regions["nose"])].max()
    assert nose > 0.9 and share.min() < 0.2
    assert share[np.asarray(head.regions["scalp"])].mean() > 0.85


# The camera


def test_perspective_tends_to_weak_perspective(rng):
    points = jnp.asarray(rng.normal(0, 0.1, (20, 3)))
    weak = WeakPerspective(jnp.asarray(1000.0), jnp.asarray([50.0, 60.0]))
    errors = [
        float(
            jnp.abs(
                Perspective(weak.scale_px_per_m, weak.centre_px, jnp.asarray(d)).project(points) - weak.project(points)
            ).max()
        )
        for d in (1.0, 10.0, 1e6)
    ]
    assert errors[0] > 5 > errors[1] > 0.1 and errors[2] < 1e-3


def test_perspective_is_a_pinhole(rng):
    camera = Perspective(jnp.asarray(800.0), jnp.asarray([10.0, 20.0]), jnp.asarray(0.7))
    points = rng.normal(0, 0.1, (20, 3))
    depth = 0.7 - points[:, 2]
    expected = 800 * 0.7 * points[:, :2] * [1, -1] / depth[:, None] + [10, 20]
    np.testing.assert_allclose(camera.project(jnp.asarray(points)), expected)
    np.testing.assert_allclose(camera.nearness(jnp.asarray(points)), 1 / depth)
    # Points of one line of sight share a pixel.
    along = np.array([[0.02, 0.03, -0.7]]) * np.array([[0.5], [1.0], [2.0]]) + [0, 0, 0.7]
    np.testing.assert_allclose(np.ptp(camera.project(jnp.asarray(along)), axis=0), 0, atol=1e-9)


def test_perspective_is_differentiable(rng):
    points = jnp.asarray(rng.normal(0, 0.1, (5, 3)))

    def project(scale, centre, distance, points):
        camera = Perspective(scale, centre, distance)
        return camera.project(points), camera.nearness(points)

    check_derivatives(project, jnp.asarray(800.0), jnp.asarray([1.0, 2.0]), jnp.asarray(0.9), points, tolerance=1e-4)


def test_what_is_put_on_a_photo_covers_the_fitted_face_alone(head, drawn):
    seen = observe_photo(drawn["none"].rgb[:-40])
    fitted = fit(seen, head, FitConfig(weights=Weights(photometric=0.0)))
    scarf, covered = put_on(seen.photo.rgb, fitted, head, "scarf", key=jax.random.key(2))
    assert scarf.shape == seen.photo.rgb.shape and covered.shape == scarf.shape[:2]
    changed = (scarf != seen.photo.rgb).any(axis=2)
    # Covered pixels change, but for a rim the others do not, and a scarf leaves the eyes free.
    assert changed[covered].mean() > 0.9 and 0.02 < covered.mean() < changed.mean() < covered.mean() + 0.05
    points = np.asarray(fitted.landmarks68_px)
    assert at(covered, points[[CHIN]]).all() and not at(covered, points[EYES]).any()
    again, _ = put_on(seen.photo.rgb, fitted, head, "scarf", key=jax.random.key(2))
    np.testing.assert_array_equal(again, scarf)
    for name in WORN:
        assert put_on(seen.photo.rgb, fitted, head, name, key=jax.random.key(3))[1].any()


def test_nothing_is_put_on_without_a_photo_or_by_an_unknown_name(head, drawn):
    seen = observe_photo(drawn["none"].rgb)
    fitted = fit(seen, head, FitConfig(weights=Weights(photometric=0.0)))
    with pytest.raises(InputError, match="no occluder 'scraf'.*scarf"):
        put_on(seen.photo.rgb, fitted, head, "scraf", key=jax.random.key(0))
    with pytest.raises(InputError, match="fitted to a photo"):
        as_mesh = MeshFit(**{field.name: getattr(fitted, field.name) for field in dataclasses.fields(MeshFit)})
        put_on(seen.photo.rgb, as_mesh, head, "scarf", key=jax.random.key(0))

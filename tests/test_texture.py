"""Textures: a layout without folds, the photo's colours where seen, the model's elsewhere, and no seam between."""

import dataclasses
import io

import jax
import jax.numpy as jnp
import numpy as np
import pygltflib
import pytest
from helpers import no_evidence
from PIL import Image
from scipy.ndimage import map_coordinates
from test_show import glb_array

from diverse3d._errors import InputError
from diverse3d.fit import Appearance, FitReport, MeshFit, PhotoFit
from diverse3d.fit._state import start
from diverse3d.head import load_head
from diverse3d.observe import Photo, observe_mesh
from diverse3d.show import _texture as texture
from diverse3d.show._camera import gltf_camera, opencv_camera
from diverse3d.show._colour import linear_from_srgb, srgb_from_linear
from diverse3d.show._glb import Skin, glb_bytes
from diverse3d.surface import STUDIO_LIGHT, WeakPerspective, facing_camera, harmonics, rasterise, unwrap, vertex_normals

SIDE = 480


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.fixture(scope="module")
def atlas(head):
    return texture.prepare_atlas(head, 256)


@pytest.fixture(scope="module")
def appearance(head):
    albedo = jnp.asarray(np.random.default_rng(5).normal(size=head.albedo.n_components)) * 0.8
    light = jnp.asarray(STUDIO_LIGHT[:, None] * np.array([1.0, 0.95, 0.9]) * 0.8)
    return Appearance(albedo, light)


def shaded(head, vertices, appearance):
    """Linear light of each vertex."""
    shading = harmonics(vertex_normals(vertices, head.faces)) @ appearance.light
    return np.asarray(head.albedo(appearance.albedo) * jnp.maximum(shading, 0.0))


@pytest.fixture(scope="module")
def scene(head, appearance):
    """A head turned a little, its photo, a mask over mouth and chin, and the fit that knows it all."""
    angle = np.radians(15)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    posed = head.template_m @ jnp.asarray(turn).T
    camera = WeakPerspective(jnp.asarray(SIDE / 0.32), jnp.array([SIDE / 2, SIDE / 2]))
    points = camera.project(posed)
    seen = rasterise(points, posed[:, 2], head.faces, height=SIDE, width=SIDE)
    face, weights = np.asarray(seen.face), np.asarray(seen.barycentric)
    corners = shaded(head, posed, appearance)[np.asarray(head.faces)[np.maximum(face, 0)]]
    light = np.where(face[..., None] >= 0, (corners * weights[..., None]).sum(2), 0.2)
    hidden = np.zeros((SIDE, SIDE), bool)
    hidden[270:370, 150:330] = True
    rgb = srgb_from_linear(light)
    rgb[hidden] = (20, 80, 200)
    column, row = np.floor(np.asarray(points)).astype(int).T
    visible = facing_camera(posed, head.faces) & ~hidden[row, column]
    zero = jnp.zeros(())
    fit = PhotoFit(
        unknowns=start(head), vertices_m=head.template_m, held_m=head.template_m, visible=jnp.asarray(visible),
        turn=jnp.asarray(turn), shift_m=jnp.zeros(3), camera=camera, landmarks68_px=jnp.zeros((68, 2)), evidence=no_evidence(start(head)),
        report=FitReport(zero, zero, zero, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32), zero, zero),
    )  # fmt: skip
    photo = Photo(rgb, hidden, np.zeros((468, 2)), np.zeros(468, bool), 1)
    return photo, fit


def as_mesh_fit(fit):
    return MeshFit(**{field.name: getattr(fit, field.name) for field in dataclasses.fields(MeshFit)})


@pytest.fixture(scope="module")
def seen(atlas, scene, head):
    photo, fit = scene
    return texture.look(atlas, photo.rgb, photo.hidden, fit, head)


def test_another_face_s_textures_and_meshes_compile_nothing(head, atlas, scene, appearance):
    photo, fit = scene
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: compiled.append(name))

    def programs(moved_m):
        other = dataclasses.replace(fit, vertices_m=fit.vertices_m + moved_m, turn=fit.turn.T)
        compiled.clear()
        given = texture.look(atlas, photo.rgb, photo.hidden, other, head)
        (picture,) = texture.bake(atlas, given, other, head, np.asarray(head.template_m)[None] + moved_m, appearance)
        skin = Skin(atlas.uv, picture, np.zeros(head.n_vertices))
        colours = np.zeros((head.n_vertices, 3), np.uint8)
        glb_bytes(np.asarray(head.template_m, np.float32) + moved_m, np.asarray(head.faces), colours, skin=skin)
        return compiled.count("/jax/core/compile/backend_compile_duration")

    assert programs(0.001) <= 10
    assert programs(0.002) == 0


def signed_areas(uv, faces):
    s, t = uv[faces[:, 1]] - uv[faces[:, 0]], uv[faces[:, 2]] - uv[faces[:, 0]]
    return (s[:, 0] * t[:, 1] - s[:, 1] * t[:, 0]) / 2


def assert_sound(uv, template, faces, regions):
    """Everything inside, and no triangle folds over: the skin's, and those of the eyeballs' fronts."""
    assert (uv >= 0).all() and (uv <= 1).all()
    places = signed_areas(uv, faces)
    for name in ("left_eyeball", "right_eyeball"):
        eye = np.isin(faces, np.asarray(regions[name])).all(axis=1)
        depth = template[faces, 2].min(axis=1)
        front = eye & (depth > template[np.asarray(regions[name]), 2].mean())
        assert front.sum() > 50 and (places[front] > 0).all()
        places = np.where(eye, 1.0, places)
    assert (places > 0).all()


def test_the_layout_has_no_folds(head):
    template, faces = np.asarray(head.template_m), np.asarray(head.faces)
    uv = unwrap(template, faces)
    assert_sound(uv, template, faces, head.regions)
    np.testing.assert_array_equal(uv, unwrap(template, faces))
    # Left is right of right, and brows are above lips.
    face = {
        name: uv[np.asarray(head.regions[name])].mean(axis=0)
        for name in ("left_eye_region", "right_eye_region", "lips")
    }
    assert face["left_eye_region"][0] > face["right_eye_region"][0] + 0.1
    assert face["left_eye_region"][1] > face["lips"][1] + 0.05
    shares = [
        signed_areas(uv, faces)[np.isin(faces, np.asarray(head.regions[n])).all(1)].sum() for n in ("face", "scalp")
    ]
    assert shares[0] > 0.2 > shares[1]


def test_the_layout_of_flames_topology(flame_head):
    template, faces = np.asarray(flame_head.template_m), np.asarray(flame_head.faces)
    assert_sound(unwrap(template, faces), template, faces, flame_head.regions)


def test_the_layout_of_odd_meshes(tiny_head):
    """Two closed parts only, a lone triangle, and vertices without triangles."""
    uv = unwrap(np.asarray(tiny_head.template_m), np.asarray(tiny_head.faces))
    assert np.isfinite(uv).all() and (uv >= 0).all() and (uv <= 1).all()
    points = np.array([[0.0, 0, 0], [0.1, 0, 0], [0, 0.1, 0], [0.2, 0.2, 0.2]])
    uv = unwrap(points, np.array([[0, 1, 2]]))
    assert signed_areas(uv, np.array([[0, 1, 2]]))[0] > 0 and (uv[3] == 0.5).all()


def test_without_its_light_the_photo_gives_back_the_albedo(atlas, scene, seen, head, appearance):
    _, fit = scene
    baked = next(texture.bake(atlas, seen, fit, head, fit.to_world(fit.vertices_m), appearance, "removed"))
    colour = linear_from_srgb(baked.reshape(-1, 3)[atlas.texel])
    truth = atlas.at(np.asarray(head.albedo(appearance.albedo)))
    assert 0.15 < seen.given.mean() < 0.6
    error = np.abs(colour - truth)[seen.given]
    assert np.median(error) < 0.01 and np.quantile(error, 0.95) < 0.05
    # And so does the model where nothing is seen, since here the model is the truth.
    error = np.abs(colour - truth)[~seen.given]
    assert np.median(error) < 0.03


def test_with_its_light_the_texture_is_the_photo(atlas, scene, seen, head, appearance):
    photo, fit = scene
    posed = fit.to_world(fit.vertices_m)
    baked = next(texture.bake(atlas, seen, fit, head, posed, appearance, "kept"))
    pixels = atlas.at(np.asarray(fit.camera.project(posed)))[seen.given]
    expected = [
        map_coordinates(linear_from_srgb(photo.rgb)[..., channel], pixels.T[::-1] - 0.5, order=1)
        for channel in range(3)
    ]
    made = linear_from_srgb(baked.reshape(-1, 3)[atlas.texel][seen.given])
    error = np.abs(made - np.stack(expected, 1))  # a texel is the mean of some pixels
    assert np.median(error) < 2e-3 and np.quantile(error, 0.98) < 0.02


@pytest.mark.parametrize("light", ["kept", "removed"])
def test_no_seam(light, atlas, scene, seen, head, appearance):
    """Across the border of what is seen, colours differ from the model's as steadily as within it.

    Even where the model is quite another one's. The model's own edges, as at the lids, stay.
    """
    photo, fit = scene
    blind = texture.look(atlas, photo.rgb, np.ones_like(photo.hidden), fit, head)
    other = dataclasses.replace(appearance, albedo=appearance.albedo.at[0].add(1.5))
    for known in (appearance, other) if light == "removed" else (appearance, other, None):
        baked, model = (
            next(texture.bake(atlas, what, fit, head, fit.to_world(fit.vertices_m), known, light)).astype(float)
            for what in (seen, blind)
        )
        given = np.zeros(baked[..., 0].size, int)
        given[atlas.texel] = np.where(seen.given, 2, 1)
        given = given.reshape(baked.shape[:2])
        step = np.abs(np.diff(np.log((baked + 20) / (model + 20)), axis=1)).max(axis=2)
        across = (given[:, 1:] != given[:, :-1]) & (given[:, 1:] > 0) & (given[:, :-1] > 0)
        assert across.sum() > 200
        assert np.median(step[across]) < 0.02 and np.quantile(step[across], 0.95) < 0.12
        jump = np.abs(np.log((baked + 20) / (model + 20))).max(axis=2)[across_of(given)]
        assert known is not other or np.median(jump) > 0.2, "there was something to hide"


def across_of(given):
    """Seen texels with an unseen one to the right."""
    flags = np.zeros(given.shape, bool)
    flags[:, :-1] = (given[:, :-1] == 2) & (given[:, 1:] == 1)
    return flags


def test_what_is_seen_is_the_same_in_all_heads(atlas, scene, seen, head, appearance, rng):
    _, fit = scene
    heads = jax.vmap(head.shaped)(jnp.asarray(rng.normal(size=(2, head.n_components))))
    first, second = texture.bake(atlas, seen, fit, head, fit.to_world(heads), appearance)
    flat = [picture.reshape(-1, 3)[atlas.texel] for picture in (first, second)]
    np.testing.assert_array_equal(flat[0][seen.given], flat[1][seen.given])
    assert (flat[0][~seen.given] != flat[1][~seen.given]).any()


def test_pixels_under_the_mask_are_never_read(atlas, scene, head, appearance, rng):
    photo, fit = scene
    posed, changed = fit.to_world(fit.vertices_m), photo.rgb.copy()
    changed[photo.hidden] = rng.integers(0, 256, (photo.hidden.sum(), 3))
    made = [
        next(texture.bake(atlas, texture.look(atlas, rgb, photo.hidden, fit, head), fit, head, posed, appearance))
        for rgb in (photo.rgb, changed)
    ]
    np.testing.assert_array_equal(*made)


def test_a_large_photo_is_averaged(rng):
    """Noise of single pixels is gone where a texel covers many; a block that touches the mask isn't read."""
    rgb = rng.integers(0, 256, (400, 400, 3)).astype(np.uint8)
    hidden = np.zeros((400, 400), bool)
    hidden[200, 200] = True
    pixels = rng.uniform(40, 360, (500, 2))
    fine, _ = texture._sample(rgb, hidden, pixels, 1.0)
    coarse, sound = texture._sample(rgb, hidden, pixels, 8.9)
    assert coarse.std() < 0.2 * fine.std()
    near = np.abs(pixels - 204).max(axis=1)
    assert sound[near > 13].all() and not sound[near < 3].any()


def test_nothing_seen_everything_seen_and_what_is_refused(atlas, scene, seen, head, appearance):
    photo, fit = scene
    posed = fit.to_world(fit.vertices_m)
    blind = texture.look(atlas, photo.rgb, np.ones_like(photo.hidden), fit, head)
    assert not blind.given.any()
    baked = next(texture.bake(atlas, blind, fit, head, posed, appearance, "removed"))
    truth = srgb_from_linear(atlas.at(np.asarray(head.albedo(appearance.albedo))))
    np.testing.assert_array_equal(baked.reshape(-1, 3)[atlas.texel], truth)
    with pytest.raises(InputError, match="Light can only be removed where it was estimated"):
        next(texture.bake(atlas, seen, fit, head, posed, None, "removed"))
    with pytest.raises(InputError, match="has no albedo"):
        next(texture.bake(atlas, seen, fit, dataclasses.replace(head, albedo=None), posed))
    with pytest.raises(InputError, match="A texture needs a photo"):
        texture.look(atlas, photo.rgb, photo.hidden, as_mesh_fit(fit), head)


def test_a_textured_glb(tmp_path, head, atlas, scene, seen, rng):
    _, fit = scene
    posed = fit.to_world(fit.vertices_m)
    picture = next(texture.bake(atlas, seen, fit, head, posed))
    vertices, faces, spread = np.asarray(posed), np.asarray(head.faces), rng.uniform(0, 6, head.n_vertices)
    colours = np.zeros((head.n_vertices, 3), np.uint8)
    skin = Skin(atlas.uv, picture, spread)
    content = glb_bytes(vertices, faces, colours, skin=skin)
    assert content == glb_bytes(vertices.copy(), faces.copy(), colours, skin=Skin(*(part.copy() for part in skin)))
    path = tmp_path / "head.glb"
    path.write_bytes(content)
    file = pygltflib.GLTF2().load(str(path))
    primitive = file.meshes[0].primitives[0]
    assert primitive.attributes.COLOR_0 is None, "it would tint the texture"
    np.testing.assert_array_equal(glb_array(file, primitive.attributes.POSITION), vertices.astype(np.float32))
    np.testing.assert_array_equal(glb_array(file, primitive.indices).reshape(-1, 3), faces)
    uv = glb_array(file, primitive.attributes.TEXCOORD_0)
    np.testing.assert_allclose(uv, np.stack([atlas.uv[:, 0], 1 - atlas.uv[:, 1]], 1), atol=1e-6)  # v downwards
    np.testing.assert_allclose(glb_array(file, primitive.attributes._UNCERTAINTY)[:, 0], spread, rtol=1e-6)
    material = file.materials[primitive.material]
    surface = material.pbrMetallicRoughness
    assert (surface.metallicFactor, surface.roughnessFactor, material.doubleSided) == (0.0, 0.8, True)
    image = file.images[file.textures[surface.baseColorTexture.index].source]
    assert image.mimeType == "image/png"
    view = file.bufferViews[image.bufferView]
    data = file.binary_blob()[view.byteOffset : view.byteOffset + view.byteLength]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), picture)
    # Our own reader takes it, vertex for vertex.
    again = observe_mesh(path, head=head, hidden=np.zeros(head.n_vertices, bool))
    np.testing.assert_allclose(again.mesh.vertices_m, vertices, atol=1e-6)


def test_the_photos_camera_for_other_programs(head, scene):
    """OpenCV's projection, its far pinhole, and a GLB's orthographic camera put every vertex on the pixel of the fit."""
    photo, fit = scene
    posed = fit.to_world(fit.vertices_m)
    world, pixels = np.asarray(posed, np.float64), np.asarray(fit.camera.project(posed), np.float64)
    camera = opencv_camera(fit, photo)
    flat = np.concatenate([world, np.ones((len(world), 1))], 1) @ np.array(camera["projection_px"]).T
    np.testing.assert_allclose(flat + 0.5, pixels, atol=1e-3)
    eye = world @ np.array(camera["rotation_camera_world"]).T + camera["translation_m"]
    image = eye @ np.array(camera["camera_matrix"]).T
    off = np.linalg.norm(image[:, :2] / image[:, 2:] + 0.5 - pixels, axis=1).max()
    assert off == pytest.approx(camera["off_px"], rel=0.01) and off < 0.5
    assert (camera["width_px"], camera["height_px"]) == (SIDE, SIDE)
    given = gltf_camera(fit, photo)
    content = glb_bytes(world, np.asarray(head.faces), np.zeros(world.shape, np.uint8), camera=given)
    file = pygltflib.GLTF2().load_from_bytes(content)
    assert file.scenes[0].nodes == [0, 1] and file.nodes[1].camera == 0 and file.cameras[0].type == "orthographic"
    lens, (x, y, z) = file.cameras[0].orthographic, file.nodes[1].translation
    seen = (world[:, :2] - [x, y]) / [lens.xmag, -lens.ymag]  # the picture from -1 to 1, y down
    np.testing.assert_allclose((seen + 1) / 2 * SIDE, pixels, atol=1e-3)
    depth = z - world[:, 2]
    assert (depth > lens.znear).all() and (depth < lens.zfar).all()

"""Files and pictures: exact bytes, exact vertices, true colours, and folders that appear whole or not at all."""

import io
import json

import jax
import numpy as np
import pygltflib
import pytest
from helpers import ellipsoid
from PIL import Image

from diverse3d._errors import InputError
from diverse3d.files import check_target, npz_bytes, read_json, whole_folder, write_json, write_record
from diverse3d.show import Stages, glb_bytes, render_head, uncertainty_colours
from diverse3d.show._colour import CLAY, UNCERTAINTY_FULL_MM, linear_from_srgb, oklab_from_srgb, srgb_from_linear
from diverse3d.show._render import Frame, View, _nearest, frame_of, paint, render_views
from diverse3d.surface import zbuffer


@pytest.fixture
def ball():
    vertices, faces = ellipsoid(24, 32)
    return 0.1 * vertices, faces.astype(np.int32)


def glb_array(file: pygltflib.GLTF2, accessor: int) -> np.ndarray:
    """An accessor's values, read without the library's own helpers."""
    entry = file.accessors[accessor]
    dtype = {5121: np.uint8, 5125: np.uint32, 5126: np.float32}[entry.componentType]
    width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}[entry.type]
    view = file.bufferViews[entry.bufferView]
    start = (view.byteOffset or 0) + (entry.byteOffset or 0)
    values = np.frombuffer(file.binary_blob(), dtype, entry.count * width, start)
    return values.reshape(entry.count, width)


def test_glb_keeps_every_vertex_in_its_place(tmp_path, ball, rng):
    vertices, faces = ball
    # A vertex without triangles and two that coincide are what careless exporters drop or merge.
    vertices = np.concatenate([vertices, [[0.3, 0.2, 0.1]], vertices[:1]])
    colours = rng.integers(0, 256, vertices.shape).astype(np.uint8)
    content = glb_bytes(vertices, faces, colours)
    assert content == glb_bytes(vertices.copy(), faces.copy(), colours.copy())
    (tmp_path / "ball.glb").write_bytes(content)
    file = pygltflib.GLTF2().load(str(tmp_path / "ball.glb"))
    assert (len(file.meshes), len(file.meshes[0].primitives), file.nodes[0].matrix) == (1, 1, None)
    primitive = file.meshes[0].primitives[0]
    np.testing.assert_array_equal(glb_array(file, primitive.attributes.POSITION), vertices.astype(np.float32))
    np.testing.assert_array_equal(glb_array(file, primitive.indices).reshape(-1, 3), faces)
    normals = glb_array(file, primitive.attributes.NORMAL)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose((normals[:-2] * vertices[:-2]).sum(1), 0.1, rtol=2e-2)
    linear = glb_array(file, primitive.attributes.COLOR_0)
    assert file.accessors[primitive.attributes.COLOR_0].normalized
    np.testing.assert_allclose(linear[:, :3] / 255, linear_from_srgb(colours), atol=0.5 / 255 + 1e-6)
    assert (linear[:, 3] == 255).all()
    matt = file.materials[primitive.material].pbrMetallicRoughness
    assert (matt.metallicFactor, matt.baseColorFactor) == (0.0, [1.0, 1.0, 1.0, 1.0])


def test_srgb_round_trip_and_known_values():
    levels = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    np.testing.assert_array_equal(srgb_from_linear(linear_from_srgb(levels)), levels)
    np.testing.assert_allclose(linear_from_srgb(np.array([[188, 188, 188]], np.uint8)), 0.503, atol=1e-3)
    np.testing.assert_allclose(oklab_from_srgb(np.array([[255, 255, 255], [255, 0, 0]], np.uint8)),
                               [[1, 0, 0], [0.62796, 0.22486, 0.12585]], atol=1e-4)  # fmt: skip


def test_equal_steps_of_uncertainty_look_equal():
    steps = np.linspace(0, UNCERTAINTY_FULL_MM, 31)
    colours = uncertainty_colours(steps)
    np.testing.assert_array_equal(colours[0], CLAY)
    lab = oklab_from_srgb(colours)
    moves = np.linalg.norm(np.diff(lab, axis=0), axis=1)
    assert moves.max() / moves.min() < 1.35  # bytes and the map's 256 levels leave some jitter
    assert (np.diff(lab[:, 0]) < 0).all()  # darker all the way: readable without colour vision
    beyond = uncertainty_colours(np.array([UNCERTAINTY_FULL_MM, 1e9, np.inf, np.nan, -1.0]))
    np.testing.assert_array_equal(beyond[:4], np.repeat(colours[-1:], 4, axis=0))
    np.testing.assert_array_equal(beyond[4], CLAY)


def test_render_is_round_white_outside_and_lit_from_above(ball):
    vertices, faces = ball
    picture = render_head(vertices, faces, height=64, width=48, frame=Frame((0.0, 0.0, 0.0), 0.32))
    assert (picture.shape, picture.dtype) == ((64, 48, 3), np.uint8)
    inside = (picture < 250).any(axis=2)
    y, x = np.indices(inside.shape) + 0.5
    radius = np.hypot(x - 24, y - 32) / (64 * 0.1 / 0.32)
    assert inside[radius < 0.97].all()
    assert (picture[radius > 1.06] == 255).all()
    np.testing.assert_array_equal(inside, inside[:, ::-1])
    assert picture[16, 24].mean() > picture[48, 24].mean() + 20


def test_yaw_turns_to_the_viewers_right_and_colours_stay(ball):
    vertices, faces = ball
    colours = np.tile(CLAY, (len(vertices), 1))
    colours[vertices[:, 2] > 0.08] = (255, 0, 0)
    pictures = {
        yaw: render_head(vertices, faces, height=64, width=64, yaw_degrees=float(yaw), colours=colours)
        for yaw in (0, 60, 180)
    }
    red = {yaw: (p[..., 0].astype(int) - p[..., 1] > 60) & (p[..., 1] < 200) for yaw, p in pictures.items()}
    assert abs(np.nonzero(red[0])[1].mean() + 0.5 - 32) < 1
    assert np.nonzero(red[60])[1].mean() > 40
    assert not red[180].any()


def test_a_row_is_its_pictures_side_by_side(ball):
    vertices, faces = ball
    frame = frame_of(vertices, aspect=1.0)
    views = [View(vertices, 0.0), View(0.5 * vertices, 30.0), View(vertices, 90.0)]
    row = np.concatenate(render_views(views, faces, height=40, width=40, frame=frame), axis=1)
    alone = [
        render_head(v.vertices_m, faces, height=40, width=40, yaw_degrees=v.yaw_degrees, frame=frame) for v in views
    ]
    difference = np.abs(row.astype(int) - np.concatenate(alone, axis=1))
    assert (difference > 2).mean() < 1e-3
    assert (row[:, 40:80] < 250).any(axis=2).sum() < 0.3 * (row[:, :40] < 250).any(axis=2).sum()


def test_open_surfaces_are_dark_inside(ball):
    vertices, faces = ball
    open_ball = faces[vertices[faces].mean(1)[:, 2] < 0]  # the half behind, seen from within
    picture = render_head(vertices, open_ball, height=32, width=32, frame=Frame((0.0, 0.0, 0.0), 0.3))
    assert 0 < picture[16, 16].mean() < 120


def test_a_texture_lies_where_its_places_say_in_its_own_colours(ball):
    vertices, faces = ball
    texture = np.zeros((64, 64, 3), np.uint8)
    texture[:32], texture[32:] = (230, 120, 40), (40, 120, 230)  # the uppermost row first
    uv = np.stack([vertices[:, 0], vertices[:, 1]], axis=1) / 0.2 + 0.5
    frame = frame_of(vertices, aspect=1.0)
    worn = View(vertices, 0.0, None, paint(uv, texture))
    (picture,) = render_views([worn], faces, height=64, width=64, frame=frame)
    np.testing.assert_allclose(picture[24, 32], texture[0, 0], atol=16)
    np.testing.assert_allclose(picture[40, 32], texture[-1, 0], atol=16)
    assert (picture[0] == 255).all(), "and the rest stays white"
    # It is lit, so that its forms show: the lamp hangs above.
    assert picture[10, 32].astype(int).sum() > picture[27, 32].astype(int).sum()


@pytest.mark.parametrize("yaw", [0.0, 70.0, 120.0, 180.0])
def test_what_faces_away_is_drawn_where_it_is_seen(ball, yaw):
    """An open shell with a ball inside: what is left out, as hidden, is hidden."""
    vertices, faces = ball
    shell = faces[vertices[faces].mean(1)[:, 2] < 0.05]
    points = np.concatenate([vertices, 0.5 * vertices])
    both = np.concatenate([shell, faces + len(vertices)])
    turn = np.radians(yaw)
    x, y, z = points.T
    seen = np.stack([np.cos(turn) * x + np.sin(turn) * z, -y, np.cos(turn) * z - np.sin(turn) * x], axis=1)
    placed = (400 * seen + [50, 50, 0]).astype(np.float32)
    (ux, uy), (vx, vy) = ((placed[both[:, k], :2] - placed[both[:, 0], :2]).T for k in (1, 2))
    quick = _nearest(placed, both, ux * vy < uy * vx, 100, 100)
    whole = zbuffer(placed[:, :2], placed[:, 2], both, height=100, width=100)
    assert (quick.nearness != whole.nearness).sum() <= 5, "but for a pixel or two of triangles seen edge-on"
    assert (quick.face != whole.face).sum() <= 15, "and what is equally near"
    if yaw < 90.0:
        assert (ux * vy > uy * vx)[quick.face[quick.face >= 0]].any(), "the shell's inside is seen"


def test_a_frame_for_some_sides_is_the_closer_one(ball):
    vertices, _ = ball
    deep = vertices * [1.0, 1.0, 3.0]
    sides = [frame_of(deep, aspect=1.0, yaws=yaws).height_m for yaws in (None, (0.0, 90.0), (0.0, 20.0), (0.0,))]
    assert sides[0] == pytest.approx(sides[1], rel=0.02) and sides[1] > sides[2] > sides[3]
    assert sides[3] == pytest.approx(1.06 * 0.2, rel=0.01)


def test_npz_bytes_depend_on_content_alone(monkeypatch):
    import io
    import time

    arrays = {"vertices": np.arange(6, dtype=np.float32).reshape(2, 3).T, "flag": np.array(True)}
    first = npz_bytes(arrays)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    assert npz_bytes({name: array.copy() for name, array in arrays.items()}) == first
    with np.load(io.BytesIO(first), allow_pickle=False) as back:
        for name, array in arrays.items():
            np.testing.assert_array_equal(back[name], array)
            assert back[name].dtype == array.dtype


def test_json_has_null_for_what_is_not_finite(tmp_path):
    content = {"a": float("nan"), "b": [np.float32(1.5), np.inf], "c": jax.numpy.arange(2), "d": np.int64(3), "é": None}
    write_json(tmp_path / "x.json", content)
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"a": None, "b": [1.5, None], "c": [0, 1], "d": 3, "é": None}


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


def test_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "made" / "out"
    with whole_folder(target, force=False) as folder:
        write_record(folder, {"a": "first"})
        assert not target.exists()
    assert (entries(target), entries(target.parent)) == (["run.json"], ["out"])
    for failure in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(failure), whole_folder(target, force=True) as folder:
            write_record(folder, {"a": "half"})
            raise failure
        assert (read_json(target / "run.json")["a"], entries(target.parent)) == ("first", ["out"])
    with whole_folder(target, force=True) as folder:
        write_record(folder, {"a": "second"})
    assert (read_json(target / "run.json")["a"], entries(target.parent)) == ("second", ["out"])


def test_old_result_survives_a_failed_rename(tmp_path, monkeypatch):
    target = tmp_path / "out"
    target.mkdir()
    write_record(target, {"a": "first"})
    from pathlib import Path

    rename = Path.rename

    def failing(self, to):
        if self.name.endswith(".part"):
            raise PermissionError(13, "Permission denied")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(InputError, match="can't be written"), whole_folder(target, force=True):
        pass
    assert (read_json(target / "run.json")["a"], entries(tmp_path)) == ("first", ["out"])


def test_only_results_are_replaced(tmp_path, monkeypatch):
    precious = tmp_path / "precious"
    precious.mkdir()
    assert check_target(precious, force=False) == precious  # empty: nothing to lose
    (precious / "thesis.tex").write_text("")
    for force in (False, True):
        with pytest.raises(InputError, match="not a result"):
            check_target(precious, force=force)
    monkeypatch.chdir(tmp_path)
    for place in (".", "/", tmp_path):
        with pytest.raises(InputError, match="in use"):
            check_target(place, force=True)


def test_stages_sum_to_the_whole_and_set_compilation_apart():
    import time

    heard = []
    stages = Stages(heard.append, seconds={"before": 2.0, "compile": 1.0})
    start = time.perf_counter()
    with stages("first"):
        jax.block_until_ready(jax.jit(lambda x: jax.numpy.sin(x) @ x.T)(jax.numpy.ones((5, 7))))
    with stages("second"):
        time.sleep(0.05)
    elapsed = time.perf_counter() - start
    seconds = stages.seconds
    assert heard == ["first", "second"]
    assert list(seconds) == ["before", "first", "second", "compile"]
    assert seconds["before"] == 2.0
    assert seconds["compile"] > 1.0
    assert 0.05 <= seconds["second"] < 2.0
    assert -0.5 < sum(seconds.values()) - 3.0 - elapsed < 0.01


@pytest.fixture
def blank_heads(monkeypatch):
    """Sheets without heads: drawing them is tested elsewhere and takes its time."""

    def blank(views, faces, *, height, width, frame, times=2):
        return np.full((len(views), height, width, 3), 255, np.uint8)

    for room in ("_drawing", "_panels"):
        monkeypatch.setattr(f"diverse3d.show.{room}.render_views", blank)


def test_result_of_the_python_calls_measures_and_saves_itself(tmp_path, tiny_head, key, blank_heads):
    from diverse3d._api import complete, observe_mesh
    from diverse3d.diversify import DiversifyConfig
    from diverse3d.show import contact_sheet, draw

    truth = np.asarray(tiny_head.shaped(tiny_head.prior_mean + 0.5))
    visible = truth[:, 1] > -0.02
    seen = observe_mesh(truth, head=tiny_head, hidden=~visible)
    config = DiversifyConfig().replace(contraction=0.9)
    result = complete(seen, head=tiny_head, n=26, method="posterior", key=key, noise="exact", config=config)
    assert result.vertices.shape == (26, tiny_head.n_vertices, 3)
    numbers = result.metrics(truth)
    assert set(result.metrics()) < set(numbers)
    assert numbers["asd_o"] > numbers["asd_v"] >= 0
    assert result.save(tmp_path / "out") == tmp_path / "out"
    record = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert record["seed"] == 20240229
    assert record["configuration"]["diversify"]["sampling"]["contraction"] == 0.9
    assert record["head"] == {"name": "tiny", "sha256": None}
    assert {"prepare", "fit", "complete", "draw", "write", "compile"} == set(record["seconds"])
    with np.load(tmp_path / "out" / "input.npz", allow_pickle=False) as given:
        np.testing.assert_array_equal(given["visible"], visible)
        np.testing.assert_array_equal(given["vertices"], np.where(visible[:, None], truth, 0))
    with pytest.raises(InputError, match="already holds a result"):
        result.save(tmp_path / "out")
    assert_textured(result, tmp_path / "textured")
    # A sheet shows 24 heads at most: five rows, as many as 24 need.
    drawn = [draw(seen, result.fit, np.asarray(result.faces), *given) for given in ((result,), ())]
    with_all = contact_sheet(seen, result.fit, drawn[0], result)
    alone = contact_sheet(seen, result.fit, drawn[1])
    assert with_all.width == alone.width == 1800
    assert (with_all.height - alone.height) // 246 == 5


def assert_textured(result, folder):
    """Saved with textures, every mesh has its own picture and how uncertain it is, but no vertex colours."""
    from diverse3d.show import save
    from diverse3d.show._texture import Textures

    count = 1 + len(result.vertices)
    pictures = (np.arange(count)[:, None, None, None] + np.zeros((8, 8, 3))).astype(np.uint8)
    uv = np.linspace(0, 1, 2 * result.vertices.shape[1]).reshape(-1, 2)
    save(result, folder, run=result.run, textures=Textures(uv, pictures[0], list(pictures[1:])))
    for number, name in enumerate(("fit", "00", "01")):
        file = pygltflib.GLTF2().load(str(folder / "meshes" / f"{name}.glb"))
        attributes = file.meshes[0].primitives[0].attributes
        assert attributes.COLOR_0 is None
        np.testing.assert_allclose(glb_array(file, attributes._UNCERTAINTY)[:, 0], result.uncertainty, rtol=1e-5)
        view = file.bufferViews[file.images[0].bufferView]
        data = file.binary_blob()[view.byteOffset : view.byteOffset + view.byteLength]
        assert (np.asarray(Image.open(io.BytesIO(data))) == number).all()

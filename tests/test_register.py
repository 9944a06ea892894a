"""Raw scans: what is found of their pose, how near the registered head lies, and what is refused."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from diverse3d import InputError, load_head
from diverse3d.files import Mesh
from diverse3d.head import population
from diverse3d.register import Registration, read_landmarks, register
from diverse3d.register._cloud import Cloud, cloud_of_points, thinned
from diverse3d.register._solve import Linear, Rows, _linearised
from diverse3d.register._surface import ScanSurface
from diverse3d.register._verdict import Figures, judge
from diverse3d.surface import nearest_places
from scenes import RawScan, raw_scan

NO_FACES = np.zeros((0, 3), np.int32)


@pytest.fixture(scope="session")
def faces() -> np.ndarray:
    return np.asarray(load_head().faces)


@pytest.fixture(scope="session")
def scan(faces: np.ndarray) -> RawScan:
    vertices = np.asarray(population.split("test", 3).vertices[2], np.float64)
    return raw_scan(vertices, faces, np.random.default_rng(7), points=16_000)


@pytest.fixture(scope="session")
def registration(scan: RawScan) -> Registration:
    """Of a point cloud in millimetres, turned anyhow."""
    return register(Mesh(1e3 * scan.points_m, NO_FACES), load_head())


@pytest.fixture(scope="session")
def scan_file(scan: RawScan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scan") / "cloud.ply"
    trimesh.PointCloud(1e3 * scan.points_m).export(path)
    return path


def test_a_raw_scan_is_registered(registration: Registration, scan: RawScan, faces: np.ndarray) -> None:
    face = np.isin(np.arange(len(scan.surface_m)), np.asarray(load_head().regions["face"]))
    seen = registration.visible & face
    off = np.linalg.norm(registration.vertices_m - scan.surface_m, axis=1)[seen]
    place = nearest_places(registration.vertices_m[seen], scan.surface_m, faces).place
    away = np.linalg.norm(registration.vertices_m[seen] - place, axis=1)
    assert registration.verdict == "registered"
    assert (registration.unit, registration.unit_m) == ("mm", 0.001)
    assert seen.sum() > 900
    assert 1e3 * off.mean() < 0.6
    assert 1e3 * away.mean() < 0.1
    assert 0.1 < registration.figures.noise_mm < 0.3


def test_noise_is_what_the_errors_are(registration: Registration, scan: RawScan) -> None:
    seen = registration.visible
    error = (registration.vertices_m - scan.surface_m)[seen]
    along = (error * registration.normals[seen]).sum(axis=1)
    across = error - along[:, None] * registration.normals[seen]
    assert np.median(np.abs(along) / registration.along_m[seen]) < 1.5
    assert np.median(np.linalg.norm(across, axis=1) / registration.across_m[seen]) < 1.5


def test_the_file_s_frame_and_unit_come_back(registration: Registration, scan: RawScan) -> None:
    seen = registration.visible
    assert np.isfinite(registration.partner[seen]).all() and np.isnan(registration.partner[~seen]).all()
    away = np.linalg.norm(1e-3 * registration.partner[seen] - registration.vertices_m[seen], axis=1)
    assert np.median(away) < 2e-3


def test_a_scan_far_away_in_inches_with_its_normals_inwards(scan: RawScan, registration: Registration) -> None:
    # As a mesh whose triangles are wound the wrong way round, ten kilometres off.
    head, turn = load_head(), Rotation.from_euler("xyz", [100.0, 200.0, 30.0], degrees=True).as_matrix()
    vertices, faces = scan.surface_m @ turn.T / 0.0254 + 4e5, np.asarray(head.faces)[:, ::-1]
    keep = np.isin(faces, np.flatnonzero((scan.surface_m - scan.shift_m) @ scan.turn[:, 2] > -0.02)).all(axis=1)
    found = register(Mesh(vertices, faces[keep]), head)
    error = np.linalg.norm(found.vertices_m / 0.0254 - vertices, axis=1)[found.visible] * 25.4
    assert found.unit == "inch"
    assert any("inwards" in note for note in found.notes)
    assert error.mean() < 1.0
    assert found.visible.sum() > registration.visible.sum()


def test_a_scan_becomes_completions_that_replay(scan_file: Path, tmp_path: Path) -> None:
    from diverse3d.cli import main

    out = tmp_path / "out"
    assert main(["complete", str(scan_file), "--out", str(out), "-n", "2", "--method", "posterior", "--quiet"]) == 0
    record = json.loads((out / "run.json").read_text())
    assert record["input"]["kind"] == "scan"
    assert record["noise"] == "scan"
    assert record["registration"]["verdict"] == "registered"
    assert main(["replay", str(out), "--quiet"]) == 0


def test_the_command_writes_what_training_reads(scan_file: Path, tmp_path: Path) -> None:
    from diverse3d.cli import main
    from diverse3d.files import read_registered

    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "someone.ply").write_bytes(scan_file.read_bytes())
    (tmp_path / "scans" / "broken.ply").write_bytes(b"ply\n")
    assert main(["register", str(tmp_path / "scans"), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    read = read_registered(tmp_path / "out", load_head().n_vertices)
    assert read.subjects == ["someone"]
    names = {path.name for path in (tmp_path / "out" / "someone").iterdir()}
    assert names == {"registered.npz", "registered.glb", "residual.glb", "registration.png", "run.json"}


def test_no_face_is_refused_with_a_cause() -> None:
    ball = trimesh.creation.icosphere(subdivisions=5, radius=0.1)
    with pytest.raises(InputError, match="No face was found in scan"):
        register(ball, load_head())


def test_the_back_of_a_head_is_refused(faces: np.ndarray) -> None:
    vertices = np.asarray(load_head().template_m, np.float64)
    behind = faces[(vertices[faces][:, :, 2] < -0.03).all(axis=1)]
    with pytest.raises(InputError, match="No face was found"):
        register(Mesh(vertices, behind), load_head())


def test_two_heads_are_refused(faces: np.ndarray) -> None:
    vertices = np.asarray(load_head().template_m, np.float64)
    both = np.concatenate([vertices, vertices + [0.35, 0.0, 0.0]])
    with pytest.raises(InputError, match="faces; cut one out"):
        register(Mesh(both, np.concatenate([faces, faces + len(vertices)]).astype(np.int32)), load_head())


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (np.zeros((0, 3)), "0 usable points"),
        (np.full((1000, 3), np.nan), "0 usable points"),
        (np.zeros((1000, 3)), "all points lie in one place"),
        (np.random.default_rng(0).standard_normal((100, 3)), "100 usable points"),
    ],
)
def test_what_is_no_scan(points: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        register(Mesh(points, NO_FACES), load_head())


def test_an_unknown_unit_and_a_wrong_one(scan: RawScan) -> None:
    marks = _marks(scan)
    with pytest.raises(InputError, match="There is no unit 'furlong'"):
        register(Mesh(scan.points_m, NO_FACES), load_head(), landmarks=marks, unit="furlong")
    with pytest.raises(InputError, match="the size of people's"):
        register(Mesh(scan.points_m, NO_FACES), load_head(), landmarks=marks, unit="mm")


def test_landmarks_that_lie_elsewhere(scan: RawScan) -> None:
    with pytest.raises(InputError, match="hardly any points where its face should be"):
        register(Mesh(scan.points_m, NO_FACES), load_head(), landmarks=_marks(scan) + 3.0)


def test_mirrored_landmarks_are_recognised(scan: RawScan) -> None:
    with pytest.raises(InputError, match="mirrored"):
        register(
            Mesh(scan.points_m * [-1.0, 1.0, 1.0], NO_FACES), load_head(), landmarks=_marks(scan) * [-1.0, 1.0, 1.0]
        )


def _marks(scan: RawScan) -> np.ndarray:
    points = load_head().landmarks68
    assert points is not None
    return np.asarray(points(jnp.asarray(scan.surface_m, load_head().dtype)), np.float64)


def test_landmark_files(tmp_path: Path) -> None:
    places = {
        "nose_tip": [0.0, 1.0, 2.0],
        "36": [-3.0, 2.0, 0.0],
        "left_eye_outer": [3.0, 2.0, 0.5],
        "chin": [0, -4, 1],
    }
    (tmp_path / "a.json").write_text(json.dumps(places))
    (tmp_path / "a.txt").write_text("".join(f"{name} {x} {y} {z}\n" for name, (x, y, z) in places.items()))
    tags = "".join(f'<point x="{x}" y="{y}" z="{z}" active="1" name="{name}"/>' for name, (x, y, z) in places.items())
    (tmp_path / "a.pp").write_text(f"<PickedPoints>{tags}</PickedPoints>")
    wanted = np.full((68, 3), np.nan)
    wanted[[30, 36, 45, 8]] = list(places.values())
    for name in ("a.json", "a.txt", "a.pp"):
        np.testing.assert_array_equal(read_landmarks(tmp_path / name), wanted)
    whole = np.random.default_rng(0).standard_normal((68, 3))
    np.save(tmp_path / "a.npy", whole)
    np.testing.assert_array_equal(read_landmarks(tmp_path / "a.npy"), whole)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tail 0 0 0\n", "names a landmark 'tail'"),
        ("chin 0 0 0\nnose_tip 0 1 0\n", "gives 2 landmarks"),
        ("chin 0 0 0\nnose_tip 0 1 0\n36 0 2 0\n45 0 3 0\n", "lie on one line"),
        ("chin 0 0 x\n", "no number"),
        ("chin 0 0\n", "holds an array|a name and three numbers|no number"),
        ('{"chin": 3}', "no three coordinates"),
    ],
)
def test_wrong_landmark_files(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "marks.txt").write_text(text)
    with pytest.raises(InputError, match=words):
        read_landmarks(tmp_path / "marks.txt")


def test_normals_of_points_face_outwards() -> None:
    random = np.random.default_rng(0)
    points = random.standard_normal((4000, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    cloud = cloud_of_points(points)
    assert ((cloud.normals * points).sum(axis=1) > 0.95).mean() > 0.99


def test_thinning_keeps_the_surface_and_lowers_noise() -> None:
    random = np.random.default_rng(0)
    flat = np.concatenate([random.uniform(0, 1, (20_000, 2)), 0.001 * random.standard_normal((20_000, 1))], axis=1)
    cloud = Cloud(flat, np.tile([0.0, 0.0, 1.0], (len(flat), 1)), None)
    thin = thinned(cloud, 0.05)
    assert 400 <= len(thin.points) <= 900
    assert thin.points[:, 2].std() < 0.6 * flat[:, 2].std()


def test_colours_are_carried(scan: RawScan, faces: np.ndarray) -> None:
    colours = np.tile(np.array([[200, 100, 50]], np.uint8), (len(scan.surface_m), 1))
    surface = ScanSurface(Mesh(scan.surface_m, faces, colours=colours), "scan")
    cloud = surface.cloud(1e6)
    assert cloud.colours is not None and (cloud.colours == [200, 100, 50]).all()


def test_nearest_places_are_the_nearest(faces: np.ndarray) -> None:
    vertices = np.asarray(load_head().template_m, np.float64)
    random = np.random.default_rng(1)
    points = vertices[random.integers(len(vertices), size=40)] + 0.003 * random.standard_normal((40, 3))
    found = nearest_places(points, vertices, faces)
    every, away, _ = trimesh.proximity.closest_point_naive(trimesh.Trimesh(vertices, faces, process=False), points)
    mine = np.linalg.norm(found.place - points, axis=1)
    np.testing.assert_allclose(mine, away, atol=5e-4)
    assert (np.abs(mine - away) < 1e-9).mean() > 0.95
    again = (vertices[faces[found.face]] * found.barycentric[:, :, None]).sum(axis=1)
    np.testing.assert_allclose(again, found.place, atol=1e-9)


def test_a_step_is_the_most_likely_point() -> None:
    """Rows that say where every vertex of a head of the model is give its coefficients back."""
    head = load_head()
    linear, random = Linear(head), np.random.default_rng(0)
    truth = linear.start()
    truth[: head.n_components] = 0.5 * random.standard_normal(head.n_components)
    target, here = linear.vertices_m(truth), linear.vertices_m(linear.start())
    corner = np.repeat(np.arange(head.n_vertices), 3)[:, None]
    axes = np.tile(np.eye(3), (head.n_vertices, 1))
    rows = Rows(corner, np.ones(corner.shape), axes, (target - here).reshape(-1), np.full(len(corner), 1e7))
    step = linear.step(linear.start(), [rows])
    assert np.abs(linear.vertices_m(step.point) - target).max() < 1e-5
    assert 0.15 < step.surprise < 0.4


def test_what_moves_vertices_is_a_derivative() -> None:
    head = load_head()
    linear, random = Linear(head), np.random.default_rng(0)
    point = 0.3 * random.standard_normal(len(linear.start()))
    turns, others = _linearised(head, jnp.asarray(point, head.dtype))
    off = np.zeros_like(point)
    off[-6:] = 0.05 * random.standard_normal(6)
    off[: head.n_components] = 0.05 * random.standard_normal(head.n_components)
    moved = linear.vertices_m(point + off) - linear.vertices_m(point - off)
    shape = (off[: head.n_components] @ np.asarray(head.components_m)).reshape(-1, 3)
    told = np.einsum("vxy,vy->vx", np.asarray(turns), shape) + np.asarray(others) @ off[head.n_components :]
    np.testing.assert_allclose(moved / 2, told, atol=2e-5)


def test_verdicts() -> None:
    good = Figures(20_000, 0.2, 0.2, 99.0, 70.0, 2000, 4.0, 1.0, 0.2, 0.1, 0.99)
    assert judge(good) == ("registered", [])
    import dataclasses

    for name, value, word in (
        ("residual_mm", 1.5, "doubtful"), ("residual_mm", 5.0, "refused"), ("surprise", 4.0, "doubtful"),
        ("surprise", 20.0, "refused"), ("face_percent", 15.0, "doubtful"), ("face_percent", 3.0, "refused"),
        ("starts_mm", 30.0, "refused"), ("explained_percent", 10.0, "refused"), ("landmarks_mm", 30.0, "refused"),
    ):  # fmt: skip
        verdict, reasons = judge(dataclasses.replace(good, **{name: value}))
        assert verdict == word and len(reasons) == 1

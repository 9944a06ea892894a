"""What no head of the model has: its fields, the evidence for its size, vertices on the scan's own surface."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from diverse3d import load_head
from diverse3d.files import Mesh
from diverse3d.head import population
from diverse3d.register import register
from diverse3d.register._cloud import Cloud
from diverse3d.register._icp import Matcher
from diverse3d.register._misfit import fields, likeliest, spread_fields
from diverse3d.register._settle import settle
from diverse3d.register._solve import Evidence
from diverse3d.surface import nearest_places
from scenes import raw_scan


def places(count: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.0, 0.06, (count, 3)) * [1.0, 1.0, 0.1]


def test_fields_make_up_the_kernel() -> None:
    points = places(300)
    found, left = fields(points, 0.012)
    kernel = np.exp(-((points[:, None] - points[None]) ** 2).sum(axis=2) / (2 * 0.012**2))
    lacking = kernel - found @ found.T
    np.testing.assert_allclose(np.diag(lacking), left, atol=1e-9)
    assert left.max() < 0.01
    assert np.abs(lacking).max() < 0.01
    where = np.arange(400) % 4 > 0
    every, lack = spread_fields(np.repeat(points, 2, axis=0)[:400], where, 0.012)
    assert (every[~where] == 0).all() and (lack[~where] == 0).all() and every[where].any(axis=1).all()


@pytest.fixture(scope="module")
def system() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What six unknowns and four fields make of 30 numbers, and numbers that noise 0.1 and fields of 0.3 gave."""
    random = np.random.default_rng(1)
    head, bending = random.standard_normal((30, 6)), random.standard_normal((30, 4))
    seen = head @ random.standard_normal(6) + 0.3 * bending @ random.standard_normal(4)
    return head, bending, seen + 0.1 * random.standard_normal(30)


def evidence_of(system: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Evidence:
    head, bending, seen = system
    known = np.concatenate([head, bending], axis=1)
    return Evidence(known.T @ known / 0.01, known.T @ seen / 0.01, np.ones(6), np.arange(6))


def test_the_evidence_is_the_marginal_likelihood(system: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    head, bending, seen = system
    evidence = evidence_of(system)

    def brute(size: float) -> float:
        covariance = 0.01 * np.eye(30) + head @ head.T + size**2 * bending @ bending.T
        return float(multivariate_normal(np.zeros(30), covariance).logpdf(seen))

    mine = evidence.likelihood(0.4) - evidence.likelihood(0.05)
    assert mine == pytest.approx(brute(0.4) - brute(0.05), rel=1e-9)


def test_what_is_known_of_the_head_has_the_bending_integrated_out(
    system: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    head, bending, seen = system
    step, weights = evidence_of(system).likely(0.3)
    noise = np.linalg.inv(0.01 * np.eye(30) + 0.09 * bending @ bending.T)
    precision = head.T @ noise @ head + np.eye(6)
    np.testing.assert_allclose(step.covariance, np.linalg.inv(precision), rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(step.point, np.linalg.solve(precision, head.T @ noise @ seen), rtol=1e-7)
    left = seen - head @ step.point
    own = np.linalg.solve(bending.T @ bending / 0.01 + np.eye(4) / 0.09, bending.T @ left / 0.01)
    np.testing.assert_allclose(weights, own, rtol=1e-7)


def test_the_likeliest_size_is_looked_for_up_and_down(system: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    evidence = evidence_of(system)
    for start in (1e-4, 2e-3):
        size, value = likeliest(evidence, start)
        assert value == evidence.likelihood(size)
        assert value >= evidence.likelihood(start)
        assert size <= 4e-3


def bowl(count: int, noise: float) -> Cloud:
    """A paraboloid of radius 20 mm, open upwards, seen between -15 and 15 mm."""
    random = np.random.default_rng(2)
    flat = random.uniform(-0.015, 0.015, (count, 2))
    height = (flat**2).sum(axis=1) / 0.04 + noise * random.standard_normal(count)
    normal = np.concatenate([-flat / 0.02, np.ones((count, 1))], axis=1)
    points = np.concatenate([flat, height[:, None]], axis=1)
    return Cloud(points, normal / np.linalg.norm(normal, axis=1, keepdims=True), None)


def test_vertices_settle_on_a_curved_surface_and_not_beyond_its_border() -> None:
    cloud = bowl(900, 3e-5)
    match = Matcher(cloud, np.array([[0, 1, 2]]), np.ones(3, bool))
    vertices = np.array([[0.0, 0.0, 3e-4], [5e-3, 5e-3, 1.25e-3 - 4e-4], [0.021, 0.0, 0.0]])
    normals = np.array([[0.0, 0.0, 1.0], [-0.25, -0.25, 1.0], [0.0, 0.0, 1.0]])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    found = settle(match, vertices, normals, moving=True)
    np.testing.assert_array_equal(found.held, [True, True, False])
    height = (found.vertices_m[:2, :2] ** 2).sum(axis=1) / 0.04
    np.testing.assert_allclose(found.vertices_m[:2, 2], height, atol=8e-5)
    np.testing.assert_array_equal(found.vertices_m[2], vertices[2])
    assert (found.variance[:2] < 0.4).all()
    # Two curvatures of 1 / 20 mm: a step s leaves the tangent by s² / 40 mm.
    assert found.bend[0] == pytest.approx(np.sqrt(8) / 0.04, rel=0.3)
    still = settle(match, vertices, normals, moving=False)
    np.testing.assert_array_equal(still.vertices_m, vertices)


def test_a_misfit_is_taken_for_one_and_vertices_stay_where_they_are() -> None:
    head = load_head()
    faces, points = np.asarray(head.faces), head.landmarks68
    assert points is not None
    vertices = np.asarray(population.split("test", 2).vertices[1], np.float64)
    scan = raw_scan(vertices, faces, np.random.default_rng(21), misfit_m=0.0015)
    marks = (scan.surface_m[np.asarray(points.corners)] * np.asarray(points.barycentric)[:, :, None]).sum(axis=1)
    found = register(Mesh(scan.points_m, np.zeros((0, 3), np.int32)), head, landmarks=marks, unit="m")
    face = np.isin(np.arange(head.n_vertices), np.asarray(head.regions["face"]))
    seen = found.visible & face
    place = nearest_places(found.vertices_m[seen], scan.surface_m, faces).place
    assert 1.0 <= found.figures.misfit_mm <= 2.5
    assert 1e3 * np.linalg.norm(found.vertices_m - scan.surface_m, axis=1)[seen].mean() < 1.45
    assert 1e3 * np.linalg.norm(found.vertices_m[seen] - place, axis=1).mean() < 0.15

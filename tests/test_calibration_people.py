"""The embedded head's Gaussian on samples of scan models: what an occluder hides, told from the rest in closed form.

The head's calibration was measured on these very models, so this is no cross-validation (`tools/calibrate_head.py
--check` is one): it says that mean, modes, morphs and residual came together in the head file as they were measured.
"""

import numpy as np
import pytest

from diverse3d.head._file import head_arrays, load_head
from diverse3d.surface import farthest_points
from tools import _scans

VERTICES = 421
MODELS = ("flame", "ict")
LARGEST_RMS_MM = {"below the nose": 3.4, "nose": 1.5, "glasses": 1.5, "left half": 2.5}
PARTS = tuple(LARGEST_RMS_MM)


@pytest.fixture(scope="module")
def scans(shared):
    """The tool's module of statistics, and the folder of scan models."""
    people = shared / "people"
    if not people.is_dir():
        pytest.skip(f"statistics of scans are not there ({people})")
    return _scans, people


@pytest.fixture(scope="module")
def setting(scans):
    """Where on the head one is; which vertices are compared; the head's covariance of them in mm²."""
    from scipy.spatial import cKDTree

    from diverse3d.head.makehuman import HeadMesh

    tool, people = scans
    table, head = head_arrays(), load_head()
    mean = 1e3 * table["template"].astype(np.float64)
    mirror = cKDTree(mean).query(mean * [-1.0, 1.0, 1.0])[1]
    eyes = [table[f"region/{side}_eyeball/vertices"] for side in ("left", "right")]
    mesh = HeadMesh(
        np.zeros((len(mean), 4), int), table["faces"], mean / 100.0, *eyes, mirror, table["region/boundary/vertices"]
    )
    covered = np.ones(len(mean), bool)
    for name in ("flame", "ict"):
        with np.load(people / f"{name}_on_head.npz") as file:
            covered &= file["covered"]
    covered &= covered[mirror]
    face, nose = np.zeros((2, len(mean)), bool)
    face[table["region/face/vertices"]] = True
    nose[table["region/nose/vertices"]] = True
    landmarks = 1e3 * np.asarray(head.landmarks68(head.template_m))
    places = tool.Places(mesh, mean, covered, covered & face & (mean[:, 2] > -15.0), landmarks, nose)
    front = np.flatnonzero(places.front)
    index = front[farthest_points(mean[front], VERTICES)]
    rows = np.r_[: head.n_identity, head.n_identity + head.n_expression : head.n_components]
    basis = 1e3 * np.asarray(head.components_m, np.float64).reshape(head.n_components, -1, 3)[rows][:, index]
    basis = basis.reshape(len(rows), -1)
    return places, index, basis.T @ basis


@pytest.fixture(scope="module")
def told(scans, setting):
    """By scan model: what the head's Gaussian tells of each hidden part, and what its mean alone."""
    tool, people = scans
    places, index, covariance = setting
    result = {}
    for model in MODELS:
        truth = tool.load_scans(people, model, places)
        nothing = 1e-6 * np.eye(3 * len(index))
        whole = tool.predict(places, index, places.mean, covariance, truth, draws=12)
        result[model] = whole, tool.predict(places, index, places.mean, nothing, truth, draws=2)
    return result


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("model", MODELS)
def test_what_is_hidden_of_sampled_people_is_told_within_millimetres(told, model, part):
    figures, bare = (one[part] for one in told[model])
    print(
        f"{model}, {part}: {figures.rms_mm:.3f} mm RMS, energy {figures.energy_mm:.3f} mm, "
        f"coverage {figures.coverage:.1f} %; the mean alone {bare.rms_mm:.3f} mm"
    )
    assert figures.rms_mm <= LARGEST_RMS_MM[part]
    assert figures.rms_mm < bare.rms_mm and figures.energy_mm < figures.rms_mm


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("model", MODELS)
def test_what_is_said_of_the_error_is_neither_too_sure_nor_too_vague(told, model, part):
    assert 83 <= told[model][0][part].coverage <= 95

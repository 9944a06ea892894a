"""Unusual faces: samples of scan models, and the same scaled up, are met by spread and not by impossible heads."""

import jax
import numpy as np
import pytest

from diverse3d import complete
from diverse3d.fit import prepare
from diverse3d.head import load_head
from diverse3d.head.population import split
from diverse3d.metrics import self_intersections
from diverse3d.observe import observe_mesh

SCALES = (1.0, 2.0)
"""At 4, with every one of 100 modes four times too strong, extents hold but a quarter of the faces cross others."""


@pytest.fixture(scope="module")
def scans(shared):
    if not (shared / "people").is_dir():
        pytest.skip(f"statistics of scan models are not there ({shared / 'people'})")
    with np.load(shared / "people" / "ict_on_head.npz") as file:
        return {name: file[name].astype(np.float64) for name in ("mean_mm", "modes_mm", "covered")}


@pytest.fixture(scope="module")
def problem():
    with jax.enable_x64(False):
        return prepare(load_head())


@pytest.fixture(scope="module")
def extents():
    """Least and largest extents of 1,000 heads of the population: what no completion of a usual face leaves by much."""
    size = np.ptp(np.asarray(split("train", 1000).vertices), axis=1)
    return size.min(axis=0), size.max(axis=0)


def seen_upper_face(scans, problem, scale):
    """The face above the nose of one sample, every mode at `scale` times its drawn weight."""
    head = problem.head
    weights = scale * np.random.default_rng(3).standard_normal(len(scans["modes_mm"]))
    vertices = 1e-3 * (scans["mean_mm"] + np.tensordot(weights, scans["modes_mm"], 1))
    face = np.zeros(head.n_vertices, bool)
    face[np.asarray(head.regions["face"])] = True
    template = np.asarray(head.template_m)
    below = template[:, 1] < float(head.landmarks68(head.template_m)[33, 1]) - 0.003
    visible = face & (scans["covered"] > 0) & (template[:, 2] > -0.015) & ~below
    return observe_mesh(np.where(visible[:, None], vertices, 0.0), head=head, hidden=~visible)


@pytest.mark.parametrize("method", ["posterior", "hybrid"])
def test_no_unusual_face_gets_an_impossible_head(single_precision, scans, problem, extents, method):
    least, largest = extents
    faces = np.asarray(problem.head.faces)
    template = self_intersections(np.asarray(problem.head.template_m, np.float64), faces)
    usual = None
    for scale in SCALES:
        made = complete(seen_upper_face(scans, problem, scale), head=problem, n=6, method=method, key=jax.random.key(1))
        vertices = np.asarray(made.vertices, np.float64)
        size = np.ptp(vertices, axis=1)
        # The visible part itself is scaled: a head may be as much out of the ordinary as it is, and no more.
        slack = 1.0 + 0.05 * scale
        assert (size < slack * largest).all() and (size > least / slack).all(), (scale, size.max(0), size.min(0))
        new = [(self_intersections(one, faces) & ~template).sum() for one in vertices]
        assert max(new) < 0.2 * len(faces), (scale, new)
        usual = made if usual is None else usual
        assert made.prior_widening >= usual.prior_widening
        assert np.median(made.uncertainty[~np.asarray(made.visible)]) >= 0.9 * np.median(
            usual.uncertainty[~np.asarray(usual.visible)]
        )
    assert made.prior_widening > 1.2

"""Heads of the population measure like people, and docs/people.md says what they measure."""

from pathlib import Path

import numpy as np
import pytest

from diverse3d.head import load_head
from diverse3d.head.population import split
from tools import measure_people

ROOT = Path(__file__).parents[1]
COUNT = 256


@pytest.fixture(scope="module")
def tool():
    return measure_people


@pytest.fixture(scope="module")
def head():
    return load_head(dtype=np.float32)


@pytest.fixture(scope="module")
def places(tool, head):
    return tool.find_places(head)


@pytest.fixture(scope="module")
def drawn(tool, places):
    return tool.measure(np.asarray(split("train", COUNT).neutral), places)


def stated(measure):
    """A row of numbers of the table of measures in docs/people.md."""
    text = (ROOT / "docs" / "people.md").read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if line.startswith(f"| {measure} |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")[1:7]]
    return [None if cell == "–" else float(cell) for cell in cells]


def test_template_measures_what_the_table_says(tool, head, places):
    template = tool.measure(np.asarray(head.template_m)[None], places)
    assert set(template) == set(tool.MEASURES)
    for name, value in template.items():
        _, table_template, mean, *_ = stated(name)
        np.testing.assert_allclose(value[0], table_template, rtol=0.03)
        np.testing.assert_allclose(value[0], mean, rtol=0.03)


def test_samples_measure_what_the_table_says(tool, drawn):
    for name, values in drawn.items():
        _, _, mean, deviation, norm, _ = stated(name)
        assert abs(values.mean() - mean) < 4 * deviation / np.sqrt(COUNT) + 0.05, name
        np.testing.assert_allclose(values.std(), deviation, rtol=0.2, err_msg=name)
        assert (norm is None) == (tool.NORMS.get(name, tool.NONE).mean is None)


@pytest.mark.parametrize(
    ("measure", "within"),
    [
        ("interpupillary", 0.06),
        ("sellion–menton", 0.06),
        ("bizygomatic breadth", 0.06),
        ("head length", 0.06),
        ("head breadth", 0.09),  # registration reaches the face: the skull is the spline's guess
        ("nasal protrusion", 0.12),
    ],
)
def test_means_are_near_published_norms(tool, drawn, measure, within):
    np.testing.assert_allclose(drawn[measure].mean(), tool.NORMS[measure].mean, rtol=within)


def test_spreads_are_of_people(tool, drawn):
    for name, norm in tool.NORMS.items():
        if norm.deviation is not None:
            assert 0.7 < drawn[name].std() / norm.deviation < 1.7, name


def test_correlations_are_of_people(tool, drawn):
    for (one, other), norm in tool.NORM_CORRELATIONS.items():
        assert abs(np.corrcoef(drawn[one], drawn[other])[0, 1] - norm) < 0.3, (one, other)


def test_measures_follow_the_geometry(tool, head, places):
    template = np.asarray(head.template_m)[None]
    plain, twice = tool.measure(template, places), tool.measure(2 * template, places)
    wide = tool.measure(template * np.float32([1.1, 1, 1]), places)
    for name, value in plain.items():
        np.testing.assert_allclose(twice[name], 2 * value, rtol=1e-4)
    for name in ("interpupillary", "bizygomatic breadth", "head breadth", "nose breadth", "mouth breadth"):
        np.testing.assert_allclose(wide[name], 1.1 * plain[name], rtol=1e-3)
    np.testing.assert_allclose(wide["sellion–menton"], plain["sellion–menton"], rtol=1e-4)


def test_another_heads_prior_is_drawn_as_the_populations(tool, head, places, drawn):
    own = tool.measure(tool.draw(head, COUNT), places)
    for name, values in own.items():
        error = 5 * np.hypot(values.std(), drawn[name].std()) / np.sqrt(COUNT)
        assert abs(values.mean() - drawn[name].mean()) < error, name
        np.testing.assert_allclose(values.std(), drawn[name].std(), rtol=0.3, err_msg=name)

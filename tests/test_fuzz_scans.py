"""The tool that changes scans: its changes, and that it would notice nonsense. It registers hundreds itself."""

import numpy as np
import pytest

from diverse3d import InputError
from tools import fuzz_scans


def test_every_change_gives_points() -> None:
    points = np.random.default_rng(0).normal(0, 60, (400, 3))
    for name, change in fuzz_scans.CHANGES.items():
        changed = change(points, np.random.default_rng(1))
        assert changed.ndim == 2 and changed.shape[1] == 3, name
        assert name == "as it is" or changed.shape != points.shape or not np.array_equal(changed, points)


def test_a_case_is_the_same_each_time() -> None:
    (name, points), (again, same) = fuzz_scans.case(3, 25), fuzz_scans.case(3, 25)
    assert name == again
    np.testing.assert_array_equal(points, same)


def test_few_points_are_refused() -> None:
    assert fuzz_scans.outcome(fuzz_scans.scan_points(0)[:150]) == "refused"


class Found:
    """A registration with what is looked at."""

    def __init__(self, vertices: np.ndarray) -> None:
        self.vertices_m, self.visible, self.unit_m, self.verdict = (
            vertices,
            np.ones(len(vertices), bool),
            1e-3,
            "doubtful",
        )
        self.along_m = self.across_m = np.ones(len(vertices))


@pytest.mark.parametrize(
    ("moved", "words"), [(0.0, None), (0.05, "off the scan"), (np.nan, "not finite"), ("large", "a head of")]
)
def test_nonsense_is_noticed(monkeypatch: pytest.MonkeyPatch, moved: float | str, words: str | None) -> None:
    points = fuzz_scans.scan_points(0)
    vertices = 4e-3 * points if moved == "large" else 1e-3 * points + np.array([0.0, 0.0, moved])
    monkeypatch.setattr(fuzz_scans, "register", lambda mesh, head: Found(vertices))
    if words is None:
        assert fuzz_scans.outcome(points) == "doubtful"
    else:
        with pytest.raises(AssertionError, match=words):
            fuzz_scans.outcome(points)


@pytest.mark.parametrize("text", ["No full stop", "two\nlines.", "x" * 600 + "."])
def test_a_refusal_is_a_sentence(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    def refuse(mesh: object, head: object) -> None:
        raise InputError(text)

    monkeypatch.setattr(fuzz_scans, "register", refuse)
    with pytest.raises(AssertionError):
        fuzz_scans.outcome(np.zeros((5, 3)))

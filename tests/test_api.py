"""Conventions of the public interface, checked rather than promised."""

import inspect
import subprocess
import sys

import pytest

import diverse3d as d3
from diverse3d.observe import correlated_error, occluded_vertices, occluder_outline, paint_occluder, simulate_mesh

PUBLIC = sorted(name for name in vars(d3) if not name.startswith("_") and not inspect.ismodule(getattr(d3, name)))
RANDOM = [
    d3.complete,
    d3.observe_photo,
    correlated_error,
    occluded_vertices,
    occluder_outline,
    paint_occluder,
    simulate_mesh,
]


def test_contract_names_are_there() -> None:
    assert {"load_head", "observe_photo", "observe_mesh", "complete"} <= set(PUBLIC)
    assert {"vertices", "metrics", "save"} <= set(dir(d3.Result)) | set(d3.Result.__dataclass_fields__)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_symbol_is_documented(name: str) -> None:
    value = getattr(d3, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert inspect.getdoc(value), name


@pytest.mark.parametrize("function", RANDOM, ids=lambda function: function.__name__)
def test_randomness_takes_a_key_by_keyword(function: object) -> None:
    assert inspect.signature(function).parameters["key"].kind is inspect.Parameter.KEYWORD_ONLY


def test_meshvae_knows_nothing_of_faces() -> None:
    code = "import sys, meshvae; sys.exit(any(name.startswith('diverse3d') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

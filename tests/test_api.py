"""Conventions of the public interface, checked rather than promised."""

import inspect
import subprocess
import sys

import pytest

import diverse3d as d3
from diverse3d.observe import correlated_error, occluded_vertices, occluder_outline, paint_occluder, simulate_mesh

PUBLIC = sorted(name for name in dir(d3) if not name.startswith("_") and not inspect.ismodule(getattr(d3, name)))
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


def test_lazy_names_are_those_that_type_checkers_see() -> None:
    code = """
import sys, typing, diverse3d
lazy = {name: getattr(diverse3d, name) for name in diverse3d._MODULES}
typing.TYPE_CHECKING = True
spec = diverse3d.__spec__
seen = type(sys)("diverse3d")
seen.__path__, seen.__package__, seen.__file__ = diverse3d.__path__, "diverse3d", diverse3d.__file__
spec.loader.exec_module(seen)
public = {name: value for name, value in vars(seen).items() if not name.startswith("_") and name != "DEMO_PHOTO"}
assert public == lazy, public.keys() ^ lazy.keys()
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_function_keeps_its_name_where_a_room_has_it_too() -> None:
    code = """
from diverse3d.fit import FitConfig
import diverse3d, diverse3d.observe
assert diverse3d.fit is diverse3d._api.fit and diverse3d.observe.REGIONS is diverse3d.REGIONS
assert not hasattr(diverse3d, "nothing_of_the_kind")
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


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

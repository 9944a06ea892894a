"""The albedo: reflectance from coefficients, its pigments, its file, and FLAME's texture space."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import as_float32, check_derivatives, tiny_arrays
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from scipy.spatial import cKDTree

from diverse3d._errors import InputError
from diverse3d.head import Albedo, head_from_arrays, load_head
from diverse3d.head import _file as head_file
from diverse3d.head.makehuman import build_albedo
from diverse3d.show._colour import linear_from_srgb, srgb_from_linear


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.fixture(scope="module")
def names():
    with safe_open(head_file.EMBEDDED_ALBEDO, framework="numpy") as file:
        return json.loads(file.metadata()["components"])


def unit(names, **amounts):
    return jnp.array([amounts.get(name.replace(", ", "_"), 0.0) for name in names])


@pytest.fixture(params=["logarithmic", "sRGB"])
def small(request, rng):
    """Forty vertices, six components, in each space."""
    logarithmic = request.param == "logarithmic"
    mean = rng.uniform(-3, -0.5, (40, 3)) if logarithmic else rng.uniform(0.1, 0.8, (40, 3))
    return Albedo(jnp.asarray(mean), jnp.asarray(0.05 * rng.normal(size=(6, 40, 3))), logarithmic)


def test_reflectance_is_above_nothing_and_at_most_one(small, key):
    for scale in (0.0, 1.0, 100.0):
        draws = scale * jax.random.normal(key, (20, 6))
        value = np.asarray(jax.vmap(small)(draws))
        assert value.shape == (20, 40, 3) and (value > 0).all() and (value <= 1).all()
    single = as_float32(small)(jnp.zeros(6, jnp.float32))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, small(jnp.zeros(6)), rtol=1e-5)


def test_derivatives(small, rng):
    check_derivatives(lambda coefficients: small(coefficients), jnp.asarray(rng.normal(size=6)))


@pytest.mark.parametrize("logarithmic", [True, False])
def test_derivatives_at_the_limits_are_finite(logarithmic):
    """At and beyond black and white, and where sRGB's curve begins."""
    ends = [-jnp.inf, -80.0, 0.0, 3.0] if logarithmic else [-1.0, 0.0, 0.04045, 1.0, 2.0]
    mean = jnp.tile(jnp.clip(jnp.array(ends), -1e9)[:, None], (1, 3))
    albedo = Albedo(mean, jnp.ones((2, len(ends), 3)), logarithmic)
    jacobian = jax.jacrev(albedo)(jnp.zeros(2))
    assert np.isfinite(np.asarray(jacobian)).all()


def test_the_two_spaces(rng):
    """Zero coefficients give the mean: e to its power, or its linear light."""
    mean = jnp.asarray(rng.uniform(0.01, 1, (30, 3)))
    none, zero = jnp.zeros((0, 30, 3)), jnp.zeros(0)
    np.testing.assert_allclose(Albedo(jnp.log(mean), none, True)(zero), mean, rtol=1e-12)
    expected = linear_from_srgb(255.0 * np.asarray(mean))
    np.testing.assert_allclose(Albedo(mean, none, False)(zero), expected, rtol=1e-12)


def test_a_subset_is_the_same_model_of_fewer_vertices(small, rng):
    chosen, coefficients = np.array([7, 3, 30]), jnp.asarray(rng.normal(size=6))
    np.testing.assert_array_equal(small.subset(chosen)(coefficients), small(coefficients)[chosen])


def test_what_becomes_of_it_in_other_heads(head):
    assert head.subset(np.arange(10)).albedo is None
    assert head.global_local().albedo is head.albedo
    assert head_from_arrays(tiny_arrays()).albedo is None


def test_the_range_of_skin(head, names):
    """From Fitzpatrick's type I to VI within two and a half standard deviations, in the colours of skin."""
    forehead = np.asarray(head.regions["forehead"])

    def skin(amount):
        light = np.asarray(head.albedo(unit(names, melanin=amount)))[forehead]
        return np.median(srgb_from_linear(light).astype(int), axis=0)

    assert (skin(-2.5) >= [240, 210, 190]).all() and (skin(2.5) <= [100, 60, 50]).all()
    for amount in np.linspace(-2.5, 2.5, 11):
        red, green, blue = skin(amount)
        assert red > green > blue and red - blue < 80
    assert all((skin(a) > skin(a + 0.5)).all() for a in np.arange(-2.5, 2.4, 0.5))


def test_the_white_of_the_eyes_stays(head, names):
    eyes = np.concatenate([head.regions["left_eyeball"], head.regions["right_eyeball"]])
    white = eyes[np.asarray(head.colours)[eyes].min(axis=1) > 200]
    for amount in (-3.0, 3.0):
        light = np.asarray(head.albedo(unit(names, melanin=amount, blood=amount)))[white]
        assert (srgb_from_linear(light) > 215).all()


def test_a_component_is_one_standard_deviation(head, names):
    """Of skin, in the logarithm: melanin most, then what colours a whole face; nothing is dead, nothing wild."""
    spread = np.abs(np.asarray(head.albedo.components)).max(axis=(1, 2))
    assert len(names) == head.albedo.n_components and (spread > 0.03).all() and (spread < 0.9).all()
    forehead = np.asarray(head.regions["forehead"])
    size = np.abs(np.asarray(head.albedo.components)[:, forehead, 1]).mean(axis=1)
    assert names[size.argmax()] == "melanin"


def test_faces_are_symmetric_but_where_the_name_says_otherwise(head, names):
    template = np.asarray(head.template_m)
    mirror = cKDTree(template).query(template * [-1, 1, 1])[1]
    components = np.asarray(head.albedo.components)
    np.testing.assert_allclose(head.albedo.mean, np.asarray(head.albedo.mean)[mirror], atol=2e-3)
    for name, component in zip(names, components, strict=True):
        sign = -1 if name.startswith("asymmetry") else 1
        np.testing.assert_allclose(
            component, sign * component[mirror], atol=2e-3 * np.abs(component).max(), err_msg=name
        )


def test_the_file_is_what_its_script_makes(tmp_path):
    build_albedo(head_file.EMBEDDED_HEAD, tmp_path / "albedo.safetensors")
    assert head_file.EMBEDDED_ALBEDO.stat().st_size < 500_000
    shipped, rebuilt = load_file(head_file.EMBEDDED_ALBEDO), load_file(tmp_path / "albedo.safetensors")
    assert shipped.keys() == rebuilt.keys()
    for name in shipped:  # not to the byte: a last digit may depend on the machine's library of functions
        np.testing.assert_allclose(rebuilt[name], shipped[name], rtol=2e-3, atol=2e-3)


def damage(kind, path):
    if kind == "missing":
        return
    if kind == "cut short":
        path.write_bytes(head_file.EMBEDDED_ALBEDO.read_bytes()[:1000])
        return
    arrays = load_file(head_file.EMBEDDED_ALBEDO)
    with safe_open(head_file.EMBEDDED_ALBEDO, framework="numpy") as file:
        metadata = file.metadata()
    if kind == "not finite":
        arrays["mean"][3, 1] = np.nan
    elif kind == "no field":
        del arrays["field"]
    elif kind == "other vertices":
        arrays["field"] = np.ascontiguousarray(arrays["field"][:, 1:])
    elif kind == "other pigments":
        arrays["pigment"] = np.ascontiguousarray(arrays["pigment"][1:])
    save_file(arrays, path, metadata)


KINDS = ("missing", "cut short", "not finite", "no field", "other vertices", "other pigments")


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_named(kind, tmp_path, monkeypatch):
    path = tmp_path / "albedo.safetensors"
    damage(kind, path)
    monkeypatch.setattr(head_file, "EMBEDDED_ALBEDO", path)
    with pytest.raises(InputError, match="reinstall the package") as caught:
        load_head()
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_another_head_has_none_but_its_own(tmp_path, rng):
    arrays = tiny_arrays()
    count, path = len(arrays["template"]), tmp_path / "head.safetensors"
    save_file(arrays, path)
    assert load_head(path).albedo is None
    own = {
        "albedo_mean": rng.uniform(0, 1, (count, 3)).astype(np.float32),
        "albedo_basis": rng.normal(size=(5, count, 3)).astype(np.float16),
        "albedo_scale": np.linspace(0.01, 0.05, 5).astype(np.float32),
    }
    save_file(arrays | own, path)
    albedo = load_head(path).albedo
    assert albedo is not None and not albedo.logarithmic and albedo.n_components == 5
    expected = own["albedo_basis"].astype(float) * own["albedo_scale"].astype(float)[:, None, None]
    np.testing.assert_allclose(albedo.components, expected, rtol=1e-6)
    for change, match in (
        ({"albedo_mean": own["albedo_mean"][1:]}, "'albedo_mean' has shape"),
        ({"albedo_basis": own["albedo_basis"][:, 1:]}, "'albedo_basis' has shape"),
        ({"albedo_scale": own["albedo_scale"][1:]}, "'albedo_scale' has shape"),
        ({"albedo_mean": own["albedo_mean"] * np.inf}, "'albedo_mean' holds values that are not finite"),
    ):
        save_file(arrays | own | change, path)
        with np.errstate(invalid="ignore"), pytest.raises(InputError, match=match):
            load_head(path)


def test_nothing_else_about_the_head_has_changed(head):
    without = dataclasses.replace(head, albedo=None)
    np.testing.assert_array_equal(without(without.neutral()), head(head.neutral()))

"""The smooth residual: its components against its kernel, what it carries with the eyes, and how head files hold it."""

import dataclasses
import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tiny_arrays
from safetensors.numpy import save_file

from diverse3d._errors import InputError
from diverse3d.head import head_from_arrays, load_head
from diverse3d.head._file import head_arrays, residual_of
from diverse3d.head._imported import default_residual, finish
from diverse3d.head._residual import KEPT, Residual, amplitude, carried, face_weight, read_residual, residual_fields

HYPER = Residual(
    length_m=np.array([0.015, 0.05]),
    deviation_m=np.array([[0.8, 0.5, 1.0], [1.5, 2.0, 0.0]]) * 1e-3,
    anchor_m=np.array([[0.0, 0.0, 0.08], [0.05, 0.03, 0.0]]),
    log_amplitude=np.array([0.7, -0.4]),
    anchor_width_m=0.04,
    symmetry=0.9,
)
MIRROR = np.array([-1.0, 1.0, 1.0])
EYES = ("left_eyeball", "right_eyeball")


@pytest.fixture
def places(rng):
    """Points on an ellipsoid: one half, its mirror image, and some of the middle."""
    half = rng.normal(size=(40, 3))
    half = np.abs(half / np.linalg.norm(half, axis=1, keepdims=True) * [0.075, 0.11, 0.09]) * [1, 1, 1]
    half[:, 1:] *= np.sign(rng.normal(size=(40, 2)))
    middle = half[:8] * [0.0, 1.0, 1.0]
    return np.concatenate([half, half * MIRROR, middle])


def kernel(points, axis, residual):
    """The covariance of one coordinate as the formula says it, pair by pair."""
    strength, result = amplitude(points, residual), np.zeros((len(points), len(points)))
    for (i, x), (j, y) in itertools.product(enumerate(points), repeat=2):
        straight, across = ((x - y) ** 2).sum(), ((x - y * MIRROR) ** 2).sum()
        for length, deviation in zip(residual.length_m, residual.deviation_m[:, axis], strict=True):
            k, flipped = np.exp(-straight / (2 * length**2)), np.exp(-across / (2 * length**2))
            even, odd = k + flipped, k - flipped
            symmetric, other = (odd, even) if axis == 0 else (even, odd)
            share = residual.symmetry
            result[i, j] += strength[i] * strength[j] * deviation**2 * (share * symmetric + (1 - share) * other)
    return result


def covariance(fields):
    rows = fields.components_m().astype(np.float64).reshape(len(fields.axis), -1)
    return rows.T @ rows


def whole_kernel(points, residual):
    result = np.zeros((len(points), 3, len(points), 3))
    for axis in range(3):
        result[:, axis, :, axis] = kernel(points, axis, residual)
    return result.reshape(3 * len(points), -1)


def test_all_components_together_have_the_kernels_covariance(places):
    expected = whole_kernel(places, HYPER)
    got = covariance(residual_fields(places, HYPER, kept=1.0 - 1e-9, largest=10_000))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6 * expected.max())


@pytest.mark.parametrize("kept", [0.8, KEPT])
def test_the_first_components_keep_the_share_asked_for_and_are_the_best_of_their_number(places, kept):
    expected = whole_kernel(places, HYPER)
    fields = residual_fields(places, HYPER, kept=kept)
    size = np.square(fields.components_m().astype(np.float64)).sum(axis=(1, 2))
    assert (np.diff(size) <= 1e-5 * size[0]).all(), "the strongest first"
    assert size.sum() >= (kept - 1e-6) * np.trace(expected) > size[:-1].sum()
    values = np.linalg.eigvalsh(expected)[::-1]
    # The factors of each coordinate are themselves cut, at less than half of what may be left out.
    assert size.sum() > values[: len(size)].sum() - 0.5 * (1 - kept) * np.trace(expected)
    assert np.linalg.eigvalsh(expected - covariance(fields)).min() > -1e-6 * expected.max(), "no variance is made up"
    assert len(residual_fields(places, HYPER, kept=kept, largest=5).axis) == 5


def test_every_component_is_symmetric_or_antisymmetric_and_of_full_scale(places):
    fields = residual_fields(places, HYPER)
    np.testing.assert_allclose(np.abs(fields.field).max(axis=1), 1.0, atol=1e-6)
    assert (fields.scale_m > 0).all() and (np.diff(fields.axis) != 0).any()
    rows, twin = fields.components_m(), fields.components_m()[:, np.r_[40:80, 0:40, 80:88]] * MIRROR.astype(np.float32)
    sign = np.sign((rows * twin).sum(axis=(1, 2)))
    np.testing.assert_allclose(twin, sign[:, None, None] * rows, atol=2e-6 * rows.max())
    assert set(sign) == {-1.0, 1.0}


@pytest.mark.parametrize("symmetry", [0.0, 0.6, 1.0])
def test_the_symmetric_share_is_that_of_the_variance(places, symmetry):
    """Where a point and its mirror image are many length scales apart."""
    residual = HYPER._replace(length_m=np.array([0.004, 0.008]), symmetry=symmetry)
    far = places[:80][np.abs(places[:80, 0]) > 0.03]
    number = len(far) // 2
    rows = residual_fields(far, residual, kept=1.0 - 1e-9).components_m().astype(np.float64)
    twin = rows[:, np.r_[number : 2 * number, :number]] * MIRROR
    even, odd = (np.square(rows + sign * twin).sum() / 4 for sign in (1.0, -1.0))
    assert even / (even + odd) == pytest.approx(symmetry, abs=1e-5)


def test_the_amplitude_is_that_of_the_anchors_and_alike_on_both_sides(places):
    residual = HYPER._replace(anchor_width_m=0.005)
    both = np.concatenate([residual.anchor_m, residual.anchor_m * MIRROR])
    np.testing.assert_allclose(np.log(amplitude(both, residual)), np.tile(residual.log_amplitude, 2), atol=1e-3)
    np.testing.assert_array_equal(amplitude(places, HYPER), amplitude(places * MIRROR, HYPER))
    alike = HYPER._replace(log_amplitude=np.array([0.3, 0.3]))
    np.testing.assert_allclose(amplitude(100 * places, alike), np.exp(0.3))


def test_the_components_are_the_same_every_time_and_none_without_variance(places):
    one, other = (residual_fields(places, HYPER) for _ in range(2))
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first, second)
    nothing = residual_fields(places, HYPER._replace(deviation_m=np.zeros((2, 3))))
    assert np.square(nothing.components_m()).sum() == 0.0


def test_an_eyeball_is_read_between_its_lids_and_the_skin_around_it_the_nearer_the_more(rng):
    ball = rng.normal(size=(30, 3))
    centre, radius = np.array([0.03, 0.02, 0.05]), 0.012
    ball = np.concatenate([ball, -ball]) / np.linalg.norm(np.concatenate([ball, -ball]), axis=1, keepdims=True)
    reach = np.array([0.0, 7e-5, 0.0014, 0.0035, 0.0056, 0.0069, 0.0071, 0.03])
    skin = centre + np.array([0.0, 0.6, 0.8]) * (radius + reach)[:, None]
    vertices = np.concatenate([centre + radius * ball, skin])
    read = carried(vertices, [np.arange(60)])
    point = centre + [0.0, 0.0, radius]
    np.testing.assert_allclose(read[:60], np.tile(point, (60, 1)), atol=1e-12)
    share = np.linalg.norm(read[60:] - point, axis=1) / np.linalg.norm(skin - point, axis=1)
    assert share[0] < 1e-9 and share[1] < 1e-3 and (np.diff(share) >= -1e-12).all()
    np.testing.assert_allclose(read[66:], skin[6:], atol=1e-12)
    np.testing.assert_array_equal(carried(vertices, []), vertices)
    centred = carried(vertices, [np.arange(60)], forward=0.0, reach_m=0.01)
    np.testing.assert_allclose(centred[:60], np.tile(centre, (60, 1)), atol=1e-12)
    assert np.abs(centred[66] - skin[6]).max() > 1e-4 and np.abs(centred[67] - skin[7]).max() < 1e-12


def test_eyeballs_move_as_one_and_lids_with_them(rng):
    head = load_head()
    rows = np.asarray(head.components_m)[-head.n_residual :].reshape(head.n_residual, -1, 3)
    template = np.asarray(head.template_m)
    for name in EYES:
        ball = np.asarray(head.regions[name])
        assert np.ptp(rows[:, ball], axis=1).max() == 0.0
        centre = template[ball].mean(axis=0)
        away = np.linalg.norm(template - centre, axis=1) - np.linalg.norm(template[ball] - centre, axis=1).max()
        lids = np.setdiff1d(np.flatnonzero(np.abs(away) < 0.001), ball)
        moved = np.tensordot(rng.normal(size=(20, head.n_residual)), rows, 1)
        apart = np.linalg.norm(moved[:, lids] - moved[:, ball[:1]], axis=2)
        assert len(lids) > 20 and np.sqrt((apart**2).mean()) < 0.1 * np.sqrt((moved[:, ball] ** 2).sum(2).mean())


@pytest.fixture(scope="module")
def computed():
    """Components of the embedded head by its hyper-parameters alone."""
    arrays = head_arrays()
    hyper = read_residual(arrays)
    assert hyper is not None
    weight = face_weight(arrays["template"], arrays["region/face/vertices"])
    return residual_fields(arrays["residual_place"].astype(np.float64), hyper, weight=weight)


def test_the_embedded_heads_stored_components_are_those_of_its_numbers(computed):
    """Half precision keeps 11 bits. Components of nearly equal variance may mix, so that covariances are compared."""
    arrays = head_arrays()
    np.testing.assert_array_equal(computed.axis, arrays["residual_axis"])
    np.testing.assert_allclose(computed.scale_m, arrays["residual_scale"], rtol=1e-4)
    some = np.arange(0, len(arrays["template"]), 61)
    stored = computed._replace(field=arrays["residual_field"][:, some].astype(np.float32))
    got, expected = covariance(stored), covariance(computed._replace(field=computed.field[:, some]))
    deviation = np.sqrt(np.diag(expected))
    np.testing.assert_allclose(
        got / deviation / deviation[:, None], expected / deviation / deviation[:, None], atol=2e-3
    )
    alike = np.abs(computed.field - arrays["residual_field"].astype(np.float32)).max(axis=1) < 1e-3
    assert alike.mean() > 0.95


def test_the_embedded_heads_residual_has_the_kernels_variance():
    arrays, head = head_arrays(), load_head()
    hyper = read_residual(arrays)
    assert hyper is not None
    some = np.arange(0, head.n_vertices, 71)
    places = arrays["residual_place"][some].astype(np.float64)
    rows = np.asarray(head.components_m)[-head.n_residual :].reshape(head.n_residual, -1, 3)[:, some]
    for axis in range(3):
        expected, got = kernel(places, axis, hyper), rows[:, :, axis].T @ rows[:, :, axis]
        assert np.trace(got) > 0.96 * np.trace(expected)  # on the face, by which components are chosen, more
        # What is cut is a covariance itself.
        assert np.linalg.eigvalsh(expected - got).min() > -2e-3 * expected.max()


def tiny_with(**changes):
    return tiny_arrays() | HYPER.arrays() | changes


def test_a_head_with_numbers_alone_gets_components():
    head, without = head_from_arrays(tiny_with()), head_from_arrays(tiny_arrays())
    assert head.n_residual > 10 and without.n_residual == 0
    assert head.n_components == without.n_components + head.n_residual
    np.testing.assert_array_equal(head.components_m[: without.n_components], without.components_m)
    np.testing.assert_array_equal(head.prior_mean[without.n_components :], 0.0)
    eyes = [np.asarray(head.regions[name]) for name in EYES]
    places = carried(np.asarray(tiny_arrays()["template"], np.float64), eyes)
    rows = np.asarray(head.components_m[-head.n_residual :])
    expected = whole_kernel(places, HYPER)
    weight = np.repeat(face_weight(np.asarray(head.template_m), np.asarray(head.regions["face"])), 3)
    assert (np.square(rows) @ weight).sum() == pytest.approx(np.diag(expected) @ weight, rel=1 - KEPT)
    for part in eyes:
        assert np.ptp(rows.reshape(len(rows), -1, 3)[:, part], axis=1).max() < 1e-9


def test_the_residuals_part_of_a_head_is_what_its_coefficients_move(rng):
    head = head_from_arrays(tiny_with())
    z = jnp.asarray(rng.normal(size=head.n_components))
    own = z.at[-head.n_residual :].set(0.0)
    np.testing.assert_allclose(head.residual_part(z), head.shaped(z) - head.shaped(own), atol=1e-9)
    np.testing.assert_array_equal(head.residual_part(own), 0.0)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_scaling_makes_another_head(scale):
    head, other = load_head(), load_head(residual=scale)
    first = head.n_identity + head.n_expression
    assert (other.n_residual, other.n_components) == (head.n_residual, head.n_components)
    np.testing.assert_array_equal(other.components_m[:first], head.components_m[:first])
    np.testing.assert_allclose(other.components_m[first:], scale * head.components_m[first:], rtol=1e-6)
    assert other.sha256.startswith(head.sha256) and other.sha256 != head.sha256
    assert residual_of(other.sha256) == scale and residual_of(head.sha256) == 1.0


def test_zero_leaves_the_residual_out():
    head, bare = load_head(), load_head(residual=0.0)
    first = head.n_identity + head.n_expression
    assert bare.n_residual == 0 and bare.n_components == first
    np.testing.assert_array_equal(bare.components_m, head.components_m[:first])
    assert residual_of(bare.sha256) == 0.0
    np.testing.assert_array_equal(bare.residual_part(jnp.ones(first)), np.zeros((head.n_vertices, 3)))


def test_colours_stay_where_the_residual_is_scaled():
    """They belong to the file's vertices, however these move."""
    head, other = load_head(), load_head(residual=0.5)
    assert head.albedo is not None and other.albedo is not None
    np.testing.assert_array_equal(other.albedo.mean, head.albedo.mean)


@pytest.mark.parametrize("scale", [-0.1, 11.0, float("nan"), float("inf")])
def test_scales_beyond_reason_are_refused(scale):
    with pytest.raises(InputError, match="can be scaled by 0 to 10"):
        head_from_arrays(tiny_with(), residual=scale)


@pytest.mark.parametrize(
    ("text", "scale"),
    [
        ("", 1.0),
        ("abc", 1.0),
        ("abc, residual × 0.25", 0.25),
        ("abc, residual × 0", 0.0),
        ("abc, residual × ", 1.0),
        ("abc, residual × lots", 1.0),
        ("abc, residual × -1", 1.0),
        ("abc, residual × 1e9", 1.0),
        ("abc, residual × nan", 1.0),
        ("abc, residual × inf", 1.0),
    ],
)
def test_scale_by_the_hash(text, scale):
    assert residual_of(text) == scale


def test_numbers_read_back_from_a_file(tmp_path):
    path = tmp_path / "head.safetensors"
    save_file({name: np.asarray(array, order="C") for name, array in tiny_with().items()}, path)
    found = read_residual(head_arrays(path))
    assert found is not None and read_residual(tiny_arrays()) is None
    for name, value in HYPER._asdict().items():
        np.testing.assert_allclose(getattr(found, name), value, rtol=1e-6, atol=1e-9)
    assert load_head(path).n_residual == head_from_arrays(tiny_with()).n_residual
    assert load_head(path, residual=0.0).n_residual == 0


@pytest.mark.parametrize("name", Residual._fields)
def test_an_incomplete_residual_is_refused(name):
    arrays = HYPER.arrays()
    del arrays[f"residual_{name}"]
    with pytest.raises(InputError, match=rf"'residual_{name}' is missing"):
        read_residual(arrays)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("length_m", np.array(0.02)),
        ("length_m", np.zeros(0)),
        ("length_m", np.full(3, 0.02)),
        ("deviation_m", np.full((2, 2), 1e-3)),
        ("anchor_m", np.zeros((3, 3))),
        ("anchor_m", np.zeros((2, 2))),
        ("log_amplitude", np.zeros((2, 1))),
        ("anchor_width_m", np.full(1, 0.04)),
        ("symmetry", np.full(2, 0.9)),
    ],
)
def test_a_misshapen_residual_is_refused(name, value):
    with pytest.raises(InputError, match="don't belong together"):
        read_residual(HYPER.arrays() | {f"residual_{name}": value.astype(np.float32)})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("length_m", [0.02, 0.0]),
        ("length_m", [0.02, 15.0]),
        ("deviation_m", [[1e-3, 1e-3, -1e-3], [0, 0, 0]]),
        ("deviation_m", [[1e-3, 1e-3, 2.0], [0, 0, 0]]),
        ("log_amplitude", [0.0, 12.0]),
        ("log_amplitude", [0.0, np.nan]),
        ("anchor_width_m", 0.0),
        ("symmetry", 1.01),
        ("symmetry", -0.01),
    ],
)
def test_absurd_values_are_refused(name, value):
    with pytest.raises(InputError, match="no smooth residual of a head has"):
        read_residual(HYPER.arrays() | {f"residual_{name}": np.array(value, np.float32)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"residual_field": np.zeros((3, 5), np.float16)}, "residual_field"),
        ({"residual_field": np.float16(0.0)}, "residual_field"),
        ({"residual_field": np.zeros((500, 104), np.float16)}, "at most 480"),
        ({"residual_axis": np.array([0, 1], np.int32)}, "residual_axis"),
        ({"residual_axis": np.array([0, 1, 3], np.int32)}, "residual_axis"),
        ({"residual_scale": np.ones(2, np.float32)}, "residual_scale"),
    ],
)
def test_stored_components_that_do_not_fit_are_refused(changes, message):
    sound = {
        "residual_field": np.ones((3, 104), np.float16),
        "residual_axis": np.arange(3, dtype=np.int32),
        "residual_scale": np.full(3, 1e-3, np.float32),
    }
    assert head_from_arrays(tiny_with(**sound)).n_residual == 3
    with pytest.raises(InputError, match=message):
        head_from_arrays(tiny_with(**(sound | changes)))


def moved_head(size, shift):
    """The embedded head's mesh and landmarks, scaled and shifted."""
    arrays = head_arrays()
    names = ("faces", "landmarks68_face", "landmarks68_barycentric")
    return {name: arrays[name] for name in names} | {"template": size * arrays["template"] + np.float32(shift)}


@pytest.mark.parametrize(("size", "shift"), [(1.0, [0, 0, 0]), (1.2, [0.0, 0.05, -0.03])])
def test_an_imported_heads_residual_follows_its_landmarks(size, shift):
    own, got = read_residual(head_arrays()), read_residual(default_residual(moved_head(size, shift)))
    assert own is not None and got is not None
    np.testing.assert_allclose(got.anchor_m, size * own.anchor_m + shift, atol=2e-4)
    for name in set(Residual._fields) - {"anchor_m"}:
        np.testing.assert_array_equal(getattr(got, name), getattr(own, name))


def test_an_imported_head_without_landmarks_gets_the_mean_amplitude(rng):
    own = read_residual(head_arrays())
    arrays = {name: array for name, array in tiny_arrays().items() if not name.startswith("landmarks")}
    got = read_residual(default_residual(arrays))
    assert own is not None and got is not None
    places = rng.normal(0, 0.1, (50, 3))
    strength = amplitude(places, got)
    everywhere = amplitude(np.asarray(load_head().template_m), own)
    np.testing.assert_allclose(strength, everywhere.mean(), rtol=1e-5)
    np.testing.assert_array_equal(got.deviation_m, own.deviation_m)


@pytest.mark.parametrize("landmarks", [True, False])
def test_every_importer_ends_with_a_residual(landmarks):
    arrays = {name: array for name, array in tiny_arrays().items() if landmarks or not name.startswith("landmarks")}
    imported = finish(arrays, {"name": "tiny"}, [])
    head = head_from_arrays(imported.arrays)
    assert head.n_residual > 10 and "residual_field" not in imported.arrays
    own = HYPER.arrays()
    kept = finish(arrays | own, {"name": "tiny"}, []).arrays
    for name, value in own.items():
        np.testing.assert_array_equal(kept[name], value)


def test_regions_take_the_residuals_place_in_the_releases_head():
    head = head_from_arrays(tiny_with())
    small = head.global_local(4, 2)
    assert small.n_residual == 0
    assert small.n_components == 6 + sum(len(local.components_m) for local in head.local_models.values())
    assert head.subset(np.arange(5)).n_residual == head.n_residual
    assert dataclasses.replace(head, n_residual=0).n_components == head.n_components

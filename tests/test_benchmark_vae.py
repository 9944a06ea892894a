"""The suite `vae`: PCA against the textbook, errors whose size is known, and a small run from end to end."""

import csv
import dataclasses
import io
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import as_float32
from rich.console import Console

import meshvae
from benchmarks.__main__ import run
from benchmarks._options import Options
from benchmarks.vae import _budgets as budgets
from benchmarks.vae import _suite as vae
from benchmarks.vae._curves import Point
from benchmarks.vae._errors import (
    OccludedHeads,
    average_distance,
    behind_occluders,
    errors,
    hidden_error,
    specificity,
)
from benchmarks.vae._flame import flame_head
from benchmarks.vae._residual import CLOSED_FORM, energy_metrics, energy_table, scores, summarise
from benchmarks.vae._rows import Network, Pca, fit_pca, load_masked, tuned
from diverse3d._errors import InputError
from diverse3d.diversify import ComponentConfig, DiversifyConfig, MaskedModel, VaeSampler, load_learned
from diverse3d.experiments import Record
from diverse3d.fit import FitReport, MeshFit
from diverse3d.fit._state import start
from diverse3d.learn import head_data
from diverse3d.observe import SETTINGS, STANDARD_REGIONS
from meshvae import PRESETS, TrainConfig, Trained, build_hierarchy, make_model, make_surface


@pytest.fixture
def heads(tiny_head):
    """Forty heads of ten components, their identity and expression exactly in a linear span."""
    z = np.random.default_rng(3).standard_normal((40, tiny_head.n_components))
    offsets = (z @ np.asarray(tiny_head.components_m)).reshape(40, -1, 3)
    return np.asarray(tiny_head.template_m)[None] + offsets


def scored(row, occluder, head, value):
    return Record(head, occluder, "exact", row, 0, {"energy_score": value})


class Shifted:
    """A row that knows the truth and moves what is hidden, or all where nothing is, by so many millimetres along x."""

    latents, parameters = 1, 2

    def __init__(self, prior=None) -> None:
        self.prior = prior

    def reconstruct(self, vertices_m, visible):
        moved = np.ones(len(visible), bool) if visible.all() else ~visible
        return vertices_m + np.array([3e-3, 0.0, 0.0]) * moved[:, None]

    def sample(self, count):
        return self.prior[:count]


def test_pca_keeps_what_there_is_and_projects_it_whole(heads, tiny_head):
    pca = fit_pca(heads, 640)
    assert pca.latents == tiny_head.n_components
    everything = np.ones(tiny_head.n_vertices, bool)
    np.testing.assert_allclose(pca.reconstruct(heads[0], everything), heads[0], atol=1e-12)
    gram = pca.components_m @ pca.components_m.T
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-9 * gram.max())
    scores = (heads.reshape(len(heads), -1) - pca.mean_m) @ pca.components_m.T / np.diag(gram)
    np.testing.assert_allclose(scores.std(0, ddof=1), 1.0, atol=1e-9)
    assert pca.truncated(3).latents == 3 and pca.parameters == (1 + pca.latents) * pca.mean_m.size


def test_pca_behind_a_mask_is_the_textbook_posterior_mean(heads, rng):
    pca = Pca(*(getattr(fit_pca(heads, 6), name) for name in ("mean_m", "components_m")), sigma_m=2e-3)
    visible = rng.random(heads.shape[1]) < 0.4
    seen = np.repeat(visible, 3)
    basis, y = pca.components_m[:, seen], (heads[1].reshape(-1) - pca.mean_m)[seen]
    z = np.linalg.solve(np.eye(6) + basis @ basis.T / pca.sigma_m**2, basis @ y / pca.sigma_m**2)
    expected = (pca.mean_m + z @ pca.components_m).reshape(-1, 3)
    np.testing.assert_allclose(pca.reconstruct(heads[1], visible), expected, atol=1e-12)
    garbage = np.where(visible[:, None], heads[1], 99.0)
    np.testing.assert_allclose(pca.reconstruct(garbage, visible), expected, atol=1e-12)


def test_pca_of_all_components_trusts_clean_vertices_and_one_of_few_does_not(heads, rng):
    visible = np.isin(np.arange(heads.shape[1]), rng.choice(heads.shape[1], 5, replace=False))
    masks = {"most": np.tile(visible, (8, 1))}  # so little that few components overfit it
    whole, few = (tuned(fit_pca(heads[8:], count), heads[:8], masks) for count in (10, 4))
    assert whole.sigma_m < 1e-4 < few.sigma_m


def test_errors_are_what_was_put_in(tiny_head, heads):
    held = behind_occluders(tiny_head, heads[:3])
    assert set(held.visible) == set(STANDARD_REGIONS) and all(0 < (~v).sum() < v.size for v in held.visible.values())
    figures = errors(Shifted(), held)
    for name in ("unmasked/mean", "unmasked/median", "hidden/mean", "glasses/hidden/median", "random/hidden/mean"):
        assert figures[name] == pytest.approx(3.0)
    assert figures["visible/mean"] == figures["face-mask/visible/median"] == 0.0
    assert 0 < figures["generalisation"] <= 3.0 + 1e-9
    assert hidden_error(Shifted(), held) == pytest.approx(3.0)


def test_the_first_heads_are_masked_alike_however_many_there_are(tiny_head, heads):
    few, more = behind_occluders(tiny_head, heads[:2]), behind_occluders(tiny_head, heads[:4])
    for occluder in STANDARD_REGIONS:
        np.testing.assert_array_equal(few.visible[occluder], more.visible[occluder][:2])


def test_specificity_is_zero_for_training_heads_and_grows_with_the_distance(heads):
    assert specificity(Shifted(heads[5:9]), heads, samples=4) == pytest.approx(0.0, abs=1e-9)
    near, far = (specificity(Shifted(heads[5:9] * (1 + by)), heads, samples=4) for by in (0.01, 0.05))
    assert 0 < near < far
    by_hand = np.mean([min(average_distance(head, s) for head in heads) for s in 1.05 * heads[5:9]])
    assert far == pytest.approx(1e3 * by_hand)  # the shortlist misses none here


def test_a_network_is_a_row_in_metres(tiny_head, heads, single_precision):
    head = as_float32(tiny_head)
    template, preset = np.asarray(head.template_m, np.float64), PRESETS["small"]
    hierarchy = build_hierarchy(template, np.asarray(head.faces), strides=preset.strides)
    model = make_model(preset, hierarchy, key=jax.random.key(0))
    row = Network(Trained(model, hierarchy, template, 0.01, 0.01, {}))
    visible = np.arange(len(template)) % 3 > 0
    offsets = jnp.asarray((heads[0] - template) / 0.01, jnp.float32)
    expected = template + 0.01 * np.asarray(model.decode(model.encode(offsets, jnp.asarray(visible)).mean))
    np.testing.assert_allclose(row.reconstruct(heads[0], visible), expected, atol=1e-6)
    assert row.latents == np.prod(model.latent_shape) and row.parameters == meshvae.count_parameters(model)
    assert row.sample(2).shape == (2, *template.shape) and not np.allclose(*row.sample(2))


def test_weights_that_are_missing_or_of_another_head_are_refused(tiny_head, tmp_path, single_precision):
    with pytest.raises(InputError, match="no such file"):
        load_masked(tmp_path / "none.safetensors", tiny_head)
    head = as_float32(tiny_head)
    template = np.asarray(head.template_m, np.float64)
    for preset, faces, message in (
        ("small-residual", np.asarray(head.faces), "residual model"),
        ("small", np.asarray(head.faces)[:-8], "topology"),
    ):
        config = PRESETS[preset]
        count = int(faces.max()) + 1
        hierarchy = build_hierarchy(template[:count], faces, strides=config.strides)
        model = make_model(config, hierarchy, key=jax.random.key(0))
        path = tmp_path / f"{preset}.safetensors"
        meshvae.save_model(Trained(model, hierarchy, template[:count], 0.01, 1e-3, {}), path)
        with pytest.raises(InputError, match=message):
            load_masked(path, head)


def test_a_budget_is_trained_once(tiny_head, tmp_path, single_precision, optax_promotion):
    head, said = as_float32(tiny_head), io.StringIO()
    console, data = Console(file=said, width=200), head_data(head, validation=16)
    arguments = ("tiny", PRESETS["small"], head, data, 12, tmp_path, console)
    first = budgets.trained_weights(*arguments)
    assert "step 12 of 12" in said.getvalue()
    length, written = len(said.getvalue()), first.stat().st_mtime_ns
    assert budgets.trained_weights(*arguments) == first
    assert len(said.getvalue()) == length and first.stat().st_mtime_ns == written
    recorded = json.loads(json.dumps(meshvae.training_record(budgets.training(12))))
    assert meshvae.load_model(first).card["training"] == recorded


def test_the_whole_suite(tiny_head, heads, tmp_path, monkeypatch, single_precision):
    """Everything but the population and the trainings, which are another head's samples and an untrained model."""
    head = dataclasses.replace(as_float32(tiny_head), sha256="tiny")
    template, config = np.asarray(head.template_m, np.float64), PRESETS["small"]
    hierarchy = build_hierarchy(template, np.asarray(head.faces), strides=config.strides)
    card = {"seconds_of_the_last_run": 1.5}
    model = make_model(config, hierarchy, key=jax.random.key(0))
    weights = tmp_path / "weights.safetensors"
    meshvae.save_model(Trained(model, hierarchy, template, 0.01, 0.01, card), weights)
    asked = []

    def trained(name, config, head, data, steps, out, console, *, views=0):
        asked.append((name, steps))
        return weights

    monkeypatch.setattr(vae, "load_head", lambda: head)
    monkeypatch.setattr(vae, "flame_head", lambda: head)
    monkeypatch.setattr(
        vae, "split", lambda name, count: SimpleNamespace(vertices=jnp.asarray(heads[:count], jnp.float32))
    )
    monkeypatch.setattr(vae, "population_data", head_data)
    monkeypatch.setattr(vae, "trained_weights", trained)
    monkeypatch.setattr(vae, "load_learned", lambda head, kind, path: kind)
    monkeypatch.setattr(
        vae,
        "scores",
        lambda rows, *rest: [scored(r, o, 0, 1.0) for r in (CLOSED_FORM, *rows) for o in STANDARD_REGIONS],
    )
    said = io.StringIO()
    options = Options(out=tmp_path, suite="vae", heads=2, masked=weights, budgets=(20, 10))
    measured, tables = vae.run(options, Console(file=said, width=200))
    values = {metric.key: metric.value for metric in measured}
    assert all(np.isfinite(list(values.values()))) and len(values) == len(measured)
    assert values["vae[heads=2]/masked model/parameters"] == meshvae.count_parameters(model)
    assert values["vae[heads=2]/spiral-without-mask[steps=10]/validation/hidden/mean"] > 0
    assert values["vae[heads=2]/components-residual[steps=20]/glasses/exact/energy_score"] == 1.0
    assert {name for name, steps in asked if steps == 10} == set(budgets.VARIANTS)
    assert {name for name, steps in asked if steps == 20} == {
        *budgets.VARIANTS, *budgets.RESIDUALS, "flame-vcconv",
    }  # fmt: skip
    assert "| PCA 64 |" in tables["vae"] and "| vcconv on FLAME's topology[steps=20] |" in tables["vae"]
    assert {"vae.csv", "vae-curves.csv", "vae-curves.png", "vae-residual.csv"} <= {p.name for p in tmp_path.iterdir()}
    assert "no residual weights" in said.getvalue()

    with pytest.raises(InputError, match="at least 10 steps"):
        vae.run(dataclasses.replace(options, budgets=(3,)), Console(file=said))
    with pytest.raises(InputError, match="for the vae suite"):
        run(Options(out=tmp_path, suite="fit", masked=weights), Console(file=said))


def test_tables_and_metrics(tiny_head, heads, tmp_path):
    held = OccludedHeads(heads[:2], {o: np.tile(np.arange(heads.shape[1]) % 2 > 0, (2, 1)) for o in STANDARD_REGIONS})
    row = Shifted(heads)
    figures = errors(row, held) | {"specificity": 1.0, "parameters": 2.0, "latents": 1.0, "seconds": 0.1}
    every = {"PCA 64": figures, "vcconv[steps=20]": figures}
    points = [Point("vcconv", 10, 4.0, 3.5, 1.0), Point("vcconv", 20, 3.2, 3.0, 2.0)]
    measured = {m.key: m for m in vae.metrics(every, points, "vae[heads=2]")}
    assert measured["vae[heads=2]/PCA 64/hidden/mean"].value == pytest.approx(3.0)
    assert measured["vae[heads=2]/vcconv[steps=10]/validation/hidden/mean"].value == 4.0
    shipped, trained = (measured[f"vae[heads=2]/{name}/hidden/mean"] for name in every)
    assert shipped.rel_tol < trained.rel_tol and len(measured) == 2 * len(figures) + 2
    assert "| vcconv[steps=20] | 3.00 (3.00) |" in vae._table(every, "vae[heads=2]")
    vae._write_csv(every, tmp_path / "vae.csv")
    lines = list(csv.DictReader((tmp_path / "vae.csv").read_text().splitlines()))
    assert len(lines) == 2 * len(figures) and lines[0]["model"] == "PCA 64"
    vae.write_csv(tmp_path / "curves.csv", Point._fields, points)
    assert (tmp_path / "curves.csv").read_text().splitlines()[1] == "vcconv,10,4,3.5,1"
    vae.draw_curves(points, {"PCA 64": 3.0}, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_energy_scores_are_compared_head_by_head(tmp_path):
    found = []
    for head, base in enumerate((1.0, 2.0, 3.0)):
        for occluder in STANDARD_REGIONS:
            found += [
                scored(CLOSED_FORM, occluder, head, base),
                scored("ours", occluder, head, base - 0.2),
            ]
    mean, percent, low, high = summarise(found)["ours", "exact", "glasses"]
    assert mean == pytest.approx(1.8)
    np.testing.assert_allclose([percent, low, high], -10.0)  # heads differ, the difference does not
    measured = {m.key: m.value for m in energy_metrics(found, "vae[heads=3]")}
    assert measured["vae[heads=3]/ours/random/exact/energy_score"] == pytest.approx(1.8)
    assert len(measured) == 2 * len(STANDARD_REGIONS)
    assert "1.800 (-10.0 % [-10.0, -10.0])" in energy_table(found, "vae[heads=3]", tmp_path / "r.csv")
    assert len((tmp_path / "r.csv").read_text().splitlines()) == 1 + 2 * len(STANDARD_REGIONS)


def test_the_control_trains_and_completes(tiny_head, tmp_path, single_precision, optax_promotion):
    head, console = dataclasses.replace(as_float32(tiny_head), sha256="tiny"), Console(file=io.StringIO(), width=200)
    data, small = head_data(head, validation=16), ComponentConfig(hidden=16, latent=4, clusters=8)
    weights = budgets.trained_weights("control", small, head, data, 10, tmp_path, console, views=8)
    rows = {"control": load_learned(head, "residual", weights)}
    found = scores(rows, head, np.asarray(data.held_back_m[:1]), console)
    assert {(s.method, s.setting, s.occluder) for s in found} == {
        (row, setting, occluder)
        for row in ("closed form", "control")
        for setting in SETTINGS
        for occluder in STANDARD_REGIONS
    }
    assert all(score.values["energy_score"] > 0 for score in found)
    shares = [numbers[1] for key, numbers in summarise(found).items() if key[0] == "control"]
    assert (
        max(shares) < 60.0
    )  # hardly trained, it is still near the closed form that it starts as, or held more closely


def test_flames_topology_is_read_where_it_is(shared, tmp_path):
    head = flame_head(shared / "flame")
    assert (head.n_vertices, head.n_components) == (5023, 60) and head.landmarks68 is not None
    assert flame_head(tmp_path) is None


def test_pytorch_computes_the_same(tiny_head, single_precision, optax_promotion):
    pytest.importorskip("torch", reason="PyTorch is only needed by the speed suite")
    from benchmarks.speed._meshvae import Problem, _decoding, check_step, make_step

    head, preset = as_float32(tiny_head), PRESETS["small"]
    template = np.asarray(head.template_m, np.float64)
    hierarchy = build_hierarchy(template, np.asarray(head.faces), strides=preset.strides)
    offsets = jax.random.normal(jax.random.key(2), (3, *template.shape), jnp.float32)
    visible = jax.random.bernoulli(jax.random.key(3), 0.7, offsets.shape[:2])
    model = make_model(preset, hierarchy, key=jax.random.key(0), form="block")
    surface = make_surface(template / 0.01, np.asarray(head.faces), dtype=jnp.float32)
    problem = Problem(model, surface, meshvae.Examples(offsets, visible), jax.random.key(1))
    check_step({form: make_step(form, problem) for form in ("ours", "usual", "matched")})
    for gradient in (False, True):
        _decoding(gradient, problem)


def test_pytorch_iterates_the_published_method_alike(tiny_head, single_precision, optax_promotion, monkeypatch):
    pytest.importorskip("torch", reason="PyTorch is only needed by the speed suite")
    from benchmarks.speed._torch_meshvae import UsualBlock
    from benchmarks.speed._vae_dpp import iteration

    head, config = (
        as_float32(tiny_head),
        DiversifyConfig().replace(visible_weight=10.0, dpp_weight=1.0),
    )  # both terms count
    template, preset = np.asarray(head.template_m, np.float64), PRESETS["small"]
    hierarchy = build_hierarchy(template, np.asarray(head.faces), strides=preset.strides)
    model = make_model(preset, hierarchy, key=jax.random.key(0), form="block")
    learned = MaskedModel("0" * 64, model, head.template_m, jnp.asarray(0.01, jnp.float32), (2.0, 0.1))
    z = jax.random.normal(jax.random.key(1), (4, int(np.prod(model.latent_shape))), jnp.float32)
    size = learned.threshold(config.n_sigma) + jnp.linspace(-1.0, 1.0, len(z))  # some lose quality, others don't
    z = z * jnp.sqrt(size / jnp.sum(z**2, axis=1))[:, None]
    visible = jax.random.bernoulli(jax.random.key(2), 0.6, template.shape[:1])
    zero = jnp.zeros((), jnp.float32)
    seen = MeshFit(
        unknowns=start(head), vertices_m=head.template_m, held_m=head.template_m + 0.003, visible=visible,
        turn=jnp.eye(3, dtype=jnp.float32), shift_m=jnp.zeros(3, jnp.float32),
        report=FitReport(zero, zero, zero, jnp.asarray(0), jnp.asarray(0), zero, zero),
    )  # fmt: skip
    made: list[int] = []
    weights = UsualBlock._weights
    monkeypatch.setattr(UsualBlock, "_weights", lambda block: (made.append(1), weights(block))[1])
    for ready, count in ((False, len(model.decoder)), (True, 0)):
        forms = iteration(VaeSampler(head, seen, learned), config, z, ready=ready)  # stops where they differ
        before = len(made)
        forms["usual"]()
        assert len(made) - before == count
    assert set(forms) == {"ours", "usual", "matched"} and forms["ours"]()[1].all()


def test_short_budgets_have_short_warm_ups():
    assert budgets.training(50).warmup == 5 and budgets.training(50).validate_every == 50
    assert budgets.training(50_000).warmup == TrainConfig().warmup

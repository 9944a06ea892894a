"""Experiments: their figures are the metrics', their files open, an interrupted run goes on, bad input is refused."""

import base64
import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tiny_arrays
from rich.console import Console
from safetensors.numpy import save_file

from diverse3d import DEMO_PHOTO, InputError, complete, metrics
from diverse3d.cli import main
from diverse3d.diversify import METHODS as ALL_METHODS
from diverse3d.diversify import DiversifyConfig, choose_posterior
from diverse3d.experiments import SUITES, Options, Plan, RecordStore, drawn_heads, run
from diverse3d.experiments import _frontier as frontier
from diverse3d.experiments import _table2 as table2
from diverse3d.experiments._cells import Done, Record
from diverse3d.experiments._extras import farthest, spreads
from diverse3d.experiments._findings import Findings, Table
from diverse3d.experiments._page import write
from diverse3d.experiments._plots import style
from diverse3d.experiments._table1 import conclude as conclude_table1
from diverse3d.fit import fit, prepare
from diverse3d.head import load_head
from diverse3d.observe import simulate_mesh

OCCLUDERS = ("face-mask", "glasses")
METHODS = ("posterior-dpp", "hybrid-dpp")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Nothing is written into the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def head_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("head") / "tiny.safetensors"
    save_file(tiny_arrays(), path, {"name": "tiny"})
    return path


@pytest.fixture(scope="module")
def options(head_file, tmp_path_factory) -> Options:
    """A run of seconds; in single precision, as at run time."""
    return Options(
        out=tmp_path_factory.mktemp("experiments"), methods=METHODS, occluders=OCCLUDERS, settings=("realistic",),
        heads=2, seeds=1, samples=10, head=head_file,
    )  # fmt: skip


def rows_of(out: Path, suite: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((out / f"{suite}.csv").read_text())))


@pytest.fixture(scope="module")
def table(options) -> tuple[Findings, str]:
    """table1 of one head, then of two, going on; what was found, and what was said."""
    said = io.StringIO()
    console = Console(file=said, width=200)
    with jax.enable_x64(False):
        run("table1", replace(options, heads=1), console)
        found = run("table1", options, console)
    return found, said.getvalue()


def test_figures_are_the_metrics_of_the_same_runs(options, table):
    with jax.enable_x64(False):
        head = load_head(options.head)
        problem = prepare(head)
        values = []
        for index, truth in enumerate(drawn_heads(head, 2)):
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), index), 1)
            seen_key, run_key = jax.random.split(key)
            seen = simulate_mesh(truth, head, region="glasses", setting="realistic", key=seen_key)
            fitted = fit(seen, problem)
            belief = choose_posterior(seen, head, fitted, "realistic")
            made = complete(
                seen, head=problem, n=10, method="posterior-dpp", key=jax.random.fold_in(run_key, 0), fitted=fitted,
                posterior=belief, config=DiversifyConfig(),
            )  # fmt: skip
            vertices, visible = np.asarray(made.vertices, np.float64), np.asarray(made.visible)
            values.append({
                "asd_v": metrics.asd(vertices, visible),
                "asd_o": metrics.asd(vertices, ~visible),
                "cse_occluded": metrics.closest_sample_error(vertices, truth, ~visible),
                "energy_score": metrics.energy_score(vertices, truth, ~visible),
                "visible_error": metrics.visible_error(vertices, np.asarray(made.held, np.float64), visible),
                "coverage_90": 100 * metrics.coverage(vertices, truth, ~visible),
            })  # fmt: skip
    found = {
        row["figure"]: row["mean"]
        for row in table[0].rows
        if (row["occluder"], row["method"]) == ("glasses", "posterior-dpp")
    }
    for name in values[0]:
        np.testing.assert_allclose(found[name], np.mean([each[name] for each in values]), rtol=1e-9)
    np.testing.assert_allclose(found["ratio"], found["asd_o"] / found["asd_v"])


def test_table1_compares_by_head_and_sums_up_over_occluders(table):
    figures = {(r["occluder"], r["method"], r["figure"]): r for r in table[0].rows}
    for method in ("map", "posterior", "posterior-dpp"):
        parts = [figures[occluder, method, "energy_score"]["mean"] for occluder in OCCLUDERS]
        np.testing.assert_allclose(figures["overall", method, "energy_score"]["mean"], np.mean(parts))
        own, reference = (figures["glasses", m, "energy_score"]["mean"] for m in (method, "posterior"))
        row = figures["glasses", method, "energy_score"]
        np.testing.assert_allclose(row["minus_posterior"], own - reference, atol=1e-12)
        assert row["minus_posterior_low"] <= row["minus_posterior"] <= row["minus_posterior_high"]
    assert figures["glasses", "map", "asd_o"]["mean"] == 0.0
    assert np.isnan(figures["glasses", "map", "coverage_90"]["mean"])  # one guess covers nothing


def test_an_interrupted_run_goes_on_and_writes_the_same_bytes(options, table):
    assert "table1: going on with 1 of 2 heads done" in table[1]
    before = {path.name: path.read_bytes() for path in options.out.glob("table1.*")}
    assert set(before) == {"table1.csv", "table1.json", "table1.html"}
    with jax.enable_x64(False):
        run("table1", options, Console(quiet=True))
    assert {path.name: path.read_bytes() for path in options.out.glob("table1.*")} == before
    assert not list(options.out.glob(".*"))


def test_files_say_what_was_run(options, table):
    stored = json.loads((options.out / "table1.json").read_text())
    rows = rows_of(options.out, "table1")
    assert len(stored["figures"]) == len(rows) == len(table[0].rows)
    assert rows[0]["mean"] == f"{stored['figures'][0]['mean']:.7g}"
    assert stored["plan"]["seeds"] == 1 and stored["plan"]["seed"] == 0 and stored["plan"]["samples"] == 10
    assert stored["plan"]["methods"] == ["map", "posterior", "posterior-dpp"]
    assert (
        stored["configuration"]["diversify"]["posterior-dpp"]["sampling"]["contraction"]
        == ALL_METHODS["posterior-dpp"].contraction
    )
    assert len(stored["hashes"]["head"]) == 64 and {"processor", "jax"} <= set(stored["environment"])
    # Methods without weights are left out, which is said.
    assert set(stored["left_out"]) == {"hybrid-dpp"} and "weights" in stored["left_out"]["hybrid-dpp"]
    assert "hybrid-dpp is left out" in table[1]

    page = (options.out / "table1.html").read_text()
    assert "<td>posterior-dpp</td>" in page
    assert not re.search(r'(src|href)="?(?!data:)[^">]*//', page)  # opens offline
    drawings = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    assert len(drawings) == 2
    for drawing in drawings:
        assert ElementTree.fromstring(base64.b64decode(drawing)).tag.endswith("svg")


def test_alarms_are_stored(tmp_path):
    # Samples that are spread four times too far: more diverse, and worse on every honest measure.
    def record(method: str, asd_o: float, score: float, head: int) -> Record:
        values = {"asd_v": 0.1, "asd_o": asd_o, "ratio": 0.0, "cse_occluded": score, "energy_score": score}
        return Record(head, "mouth", "exact", method, 0, {**values, "visible_error": 0.1})

    records = [
        record(method, asd_o, score + 0.01 * head, head)
        for method, asd_o, score in (("map", 0.0, 1.2), ("posterior", 1.0, 1.0), ("posterior-dpp", 4.0, 2.0))
        for head in range(4)
    ]
    plan = Plan(seeds=1, methods=("map", "posterior", "posterior-dpp"), occluders=("mouth",), settings=("exact",))
    found = conclude_table1(records, plan)
    assert {alarm["method"] for alarm in found.alarms} == {"posterior-dpp"} and len(found.alarms) == 2
    assert any("above it for map, posterior-dpp" in text for text in found.statements)
    write(found, "title", "about", {}, tmp_path, "table1")
    assert "Diversity was bought" in (tmp_path / "table1.html").read_text()


def test_table2_turns_both_settings(options, monkeypatch, tmp_path):
    monkeypatch.setattr(table2, "K", (0.5, 2.0))
    monkeypatch.setattr(table2, "N_SIGMA", (1.0, 5.0))
    with jax.enable_x64(False):
        found = run("table2", replace(options, out=tmp_path, methods=(), heads=1, occluders=("mouth",)))
    assert [(row["method"], row["k"], row["n_sigma"]) for row in found.rows] == [
        ("posterior-dpp", k, n) for k in (0.5, 2.0) for n in (1.0, 5.0)
    ]
    asd_o = np.array([row["asd_o"] for row in found.rows]).reshape(2, 2)
    (claim,) = [claim for claim in found.claims if claim["claim"].startswith("asd_o")]
    assert claim["true"] == bool((asd_o[:, 1] > asd_o[:, 0]).all())
    assert claim["k_of_the_largest"] == (0.5, 2.0)[int(asd_o.mean(1).argmax())]
    assert len(rows_of(tmp_path, "table2")) == 4


def test_fig3_says_whether_the_claim_holds(options, tmp_path):
    choice = replace(options, out=tmp_path, methods=("posterior", "map"), occluders=("mouth", "eyes"))
    with jax.enable_x64(False):
        found = run("fig3", choice)
    expression = {row["occluder"]: row["expression"] for row in found.rows}
    (claim,) = [claim for claim in found.claims if claim["unit"] == "σ"]
    assert claim["true"] == (expression["mouth"] > expression["eyes"])
    assert claim["highest_other"] == {"occluder": "eyes", "value": expression["eyes"]}
    np.testing.assert_allclose(claim["difference"]["mean"], expression["mouth"] - expression["eyes"], atol=1e-12)
    assert all(row["spread/nose"] > 0 for row in found.rows)
    stored = json.loads((tmp_path / "fig3.json").read_text())
    assert "single completion" in stored["left_out"]["map"]


def test_spreads_are_read_off_the_vertices(tiny_head, rng):
    size = tiny_head.n_components
    made = rng.normal(0, 0.05, (40, size))
    made[:, tiny_head.n_identity :] = 0.0
    heads = np.stack([tiny_head.shaped(tiny_head.prior_mean + jnp.asarray(z)) for z in made])
    values = spreads(tiny_head)(Done(None, heads, None, tiny_head))
    expected = np.sqrt((made - made.mean(0))[:, : tiny_head.n_identity].var(0).mean())
    np.testing.assert_allclose(values["identity"], expected, rtol=0.05)
    assert values["expression"] < 0.1 * values["identity"]
    np.testing.assert_allclose(
        values["identity_mm"], 1e3 * np.sqrt(((heads - heads.mean(0)) ** 2).sum(2).mean()), rtol=0.05
    )
    assert values["spread/nose"] > 0


def test_farthest_two(rng):
    heads = rng.normal(size=(5, 3, 3))
    heads[:, 2] *= 0.01
    heads[1, 2], heads[3, 2] = 1.0, -1.0
    assert farthest(heads, np.array([False, False, True])) == (1, 3)
    heads[4] = 100.0
    assert 4 in farthest(heads, np.zeros(3, bool))


def test_fig4_walks_from_end_to_end(options, tmp_path):
    choice = replace(options, out=tmp_path, methods=("posterior", "vae-dpp"), occluders=("mouth",), heads=1)
    with jax.enable_x64(False):
        found = run("fig4", choice)
    assert [row["frame"] for row in found.rows] == list(range(9))
    for row in (found.rows[0], found.rows[-1]):  # the ends are the completions themselves
        assert row["drift"] < 1e-3 and row["plain_drift"] < 1e-3
    (claim,) = found.claims
    assert claim["largest_drift_mm"] >= max(row["drift"] for row in found.rows)
    assert claim["true"] == (claim["largest_drift_mm"] <= 0.2)


def test_frontier_turns_the_knob(options, monkeypatch, tmp_path):
    monkeypatch.setitem(frontier.KNOBS, "posterior-dpp", ("contraction", (0.5, 1.0)))
    choice = replace(options, out=tmp_path, methods=("posterior-dpp", "map"), occluders=("mouth",), heads=1)
    with jax.enable_x64(False):
        found = run("frontier", choice)
    rows = {(row["method"], row["knobs"]): row for row in found.rows}
    assert set(rows) == {("map", ""), ("posterior-dpp", "contraction = 0.5"), ("posterior-dpp", "contraction = 1")}
    low, high = (rows["posterior-dpp", f"contraction = {c}"]["asd_o"] for c in ("0.5", "1"))
    assert high > 1.5 * low
    assert "Without hybrid-dpp" in found.statements[0]


def test_curves_are_compared_at_equal_diversity(rng):
    x = np.linspace(1.0, 3.0, 5)[:, None] + 0.01 * rng.normal(size=(1, 6))
    reference = frontier.Curve(x, 1.0 + 0.0 * x)
    # A shorter curve that crosses the reference at ASD-O = 2.
    ours = frontier.Curve(x[:4], 0.5 * x[:4])
    result = frontier.compare(ours, reference)
    assert (result.x[0], result.x[-1]) == pytest.approx((x[0].mean(), x[3].mean()))
    ((start, end),) = result.below()
    assert start == result.x[0] and end == pytest.approx(2.0, abs=0.06)
    assert (result.low <= result.difference + 1e-9).all() and (result.difference <= result.high + 1e-9).all()
    assert frontier.compare(frontier.Curve(x + 5.0, x), reference) is None
    assert frontier.stretches(np.arange(5.0), np.array([True, False, True, True, False])) == [(0, 0), (2, 3)]


@pytest.mark.parametrize(("shift", "text"), [(-0.2, "at every one"), (0.2, "nowhere below"), (0.0, "not elsewhere")])
def test_frontier_says_where_ours_lies_below(shift, text):

    def record(method: str, contraction: float, head: int, score: float) -> Record:
        values = {
            "asd_v": 0.1,
            "asd_o": contraction,
            "cse_occluded": score,
            "energy_score": score,
            "visible_error": 0.1,
        }
        return Record(head, "mouth", "exact", method, 0, values, (("contraction", contraction),))

    slope = 0.5 if shift == 0.0 else 0.0
    methods = ("posterior-dpp", "hybrid-dpp")
    records = [
        record(method, c, head, 1.0 + 0.1 * head + (shift + slope * (c - 1.0) if method == "hybrid-dpp" else 0.0))
        for method in methods
        for c in frontier.CONTRACTION
        for head in range(3)
    ]
    knobs = {method: frontier.knobs(method) for method in methods}
    plan = Plan(seeds=1, methods=methods, occluders=("mouth",), settings=("exact",), knobs=knobs)
    found = frontier.conclude(records, plan)
    assert len(found.statements) == 2 and all(text in statement for statement in found.statements)


def test_a_photo_has_no_truth(options, tmp_path):
    choice = replace(options, out=tmp_path, methods=("posterior",), occluders=("mouth",), settings=(), photo=DEMO_PHOTO)
    with jax.enable_x64(False):
        found = run("table1", choice)
    names = {row["figure"] for row in found.rows}
    assert {"asd_v", "asd_o", "visible_error", "mahalanobis", "seconds"} <= names
    assert not names & {"cse", "cse_occluded", "energy_score", "coverage_90"}
    assert {row["setting"] for row in found.rows} == {"photo"} and not found.statements


def test_records_of_other_settings_are_not_used(tiny_head, tmp_path):
    record = Record(0, "mouth", "exact", "posterior-dpp", 0, {"asd_o": 1.5, "asd_v": None}, (("k", 0.5),))
    RecordStore(tmp_path, tiny_head, "a").save(0, [record])
    assert RecordStore(tmp_path, tiny_head, "a").load(0) == [record]
    assert RecordStore(tmp_path, tiny_head, "b").load(0) == []
    stored = json.loads((tmp_path / "head-0000.json").read_text())
    (tmp_path / "head-0000.json").write_text(json.dumps({**stored, "records": [{"head": 0}]}))
    with pytest.raises(InputError, match="damaged"):
        RecordStore(tmp_path, tiny_head, "a").load(0)


def test_the_page_takes_any_text(tmp_path):
    rows = [{"name": "a,b", "value": float("nan")}]
    parts = [Table("<t>", ("<b>", "&"), [("<i>", "x")])]
    write(Findings(rows, ["1 < 2"], [], parts), "<title>", "a & b", {"fact": "</pre>"}, tmp_path, "s")
    page = (tmp_path / "s.html").read_text()
    assert "&lt;i&gt;" in page and "<i>" not in page and "1 &lt; 2" in page and page.count("</pre>") == 1
    assert (tmp_path / "s.csv").read_text() == 'name,value\n"a,b",\n'
    assert json.loads((tmp_path / "s.json").read_text())["figures"] == [{"name": "a,b", "value": None}]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tabel1"], "did you mean 'table1'?"),
        (["table1", "--methods", "posterior-dp"], "did you mean 'posterior-dpp'?"),
        (["table1", "--heads", "0"], "--heads 0"),
        (["table1", "--seeds", "0"], "--seeds 0"),
        (["table1", "-n", "1"], "-n 1"),
        (["table1", "--seed", "-1"], "seed -1"),
        (["table1", "--occluders", "mouht"], "did you mean 'mouth'?"),
        (["table1", "--occluders", "none"], "Without an occluder"),
        (["table1", "--settings", "real"], "did you mean 'realistic'?"),
        (["fig3", "--photo", str(DEMO_PHOTO)], "table1"),
        (["table1", "--photo", str(DEMO_PHOTO), "--settings", "exact"], "--settings"),
        (["table1", "--head", "nowhere.safetensors"], "There is no file nowhere.safetensors"),
        (["table1", "--residual", "nowhere.safetensors"], "There is no file nowhere.safetensors"),
        (["fig3", "--methods", "map"], "None of the methods can be run"),
        (["table2", "--methods", "posterior"], "no diversity kernel"),
    ],
)
def test_bad_input_is_refused(arguments, words, head_file, tmp_path, capsys):
    head = [] if "--head" in arguments else ["--head", str(head_file)]
    assert main(["benchmark", *arguments, *head, "--out", str(tmp_path / "out"), "--quiet"]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_folder_must_be_one(head_file, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["benchmark", "table1", "--head", str(head_file), "--out", str(tmp_path / "file")]) == 2
    assert "is a file" in capsys.readouterr().err


def test_the_command_says_what_it_found(options, table, capsys):
    given = ["--head", str(options.head), "--heads", "2", "--seeds", "1", "-n", "10", "--settings", "realistic"]
    choice = ["--methods", *METHODS, "--occluders", *OCCLUDERS]
    with jax.enable_x64(False):
        assert main(["benchmark", "table1", *given, *choice, "--out", str(options.out)]) == 0
    said = capsys.readouterr()
    assert "look at" in said.out and "table1.html" in said.out and table[0].statements[0] in said.out
    assert "2 of 2 heads done" in said.err


def test_every_suite_is_in_the_help(capsys):
    assert main(["benchmark", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in SUITES)


def test_every_method_has_a_look_of_its_own():
    looks = [style(name) for name in ALL_METHODS]
    assert len({look["color"] for look in looks}) == len({look["marker"] for look in looks}) == len(ALL_METHODS)

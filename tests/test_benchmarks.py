"""The benchmark's contract: the gate judges rightly, and a small quality run writes what it promises."""

import csv
import io
import json
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import as_float32
from rich.console import Console

from benchmarks.__main__ import conclude
from benchmarks._metric import Metric, judge, read_baseline, update_baseline
from benchmarks._options import Options
from benchmarks.quality._completions import quality_metrics, quality_table
from benchmarks.speed import _suite as speed
from benchmarks.speed._timing import interleave, speedup
from diverse3d import experiments
from diverse3d.experiments import SUITES, Plan, Record, RecordStore, difference, honesty, true_heads, write

ERROR = Metric("suite[n=2]/error", 1.0, "mm", "lower", rel_tol=0.05, abs_tol=0.01)
SPREAD = Metric("suite[n=2]/spread", 4.0, "mm", "higher", rel_tol=0.05)


@pytest.fixture
def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


def conclude_with(metrics, baseline, tmp_path, console, **options) -> int:
    if baseline is not None:
        update_baseline(baseline, {"processor": "test"}, tmp_path / "baseline.json")
    where = Options(out=tmp_path, baseline=tmp_path / "baseline.json", **options)
    return conclude(metrics, {}, where, console)


@pytest.mark.parametrize(
    ("value", "spread", "code"),
    [
        (1.0, 4.0, 0),  # equal
        (1.05, 3.9, 0),  # within tolerance
        (0.5, 8.0, 0),  # better
        (1.07, 4.0, 1),  # worse, low is good
        (1.0, 3.7, 1),  # worse, high is good
        (math.nan, 4.0, 1),  # no longer defined
    ],
)
def test_gate(value, spread, code, tmp_path, quiet):
    run = [replace(ERROR, value=value), replace(SPREAD, value=spread)]
    assert conclude_with(run, [ERROR, SPREAD], tmp_path, quiet, gate=True) == code
    assert ("REGRESSION" in quiet.file.getvalue()) == bool(code)


def test_without_the_gate_a_regression_is_shown_but_does_not_fail(tmp_path, quiet):
    assert conclude_with([replace(ERROR, value=9.0)], [ERROR], tmp_path, quiet) == 0
    assert "REGRESSION" in quiet.file.getvalue()


@pytest.mark.parametrize("baseline", [None, [SPREAD]])
def test_a_missing_baseline_is_said(baseline, tmp_path, quiet):
    assert conclude_with([ERROR], baseline, tmp_path, quiet, gate=True) == 0
    assert "NOT judged" in quiet.file.getvalue() and ERROR.key in quiet.file.getvalue()
    verdict = judge([ERROR], read_baseline(tmp_path / "baseline.json"))
    assert verdict.missing == [ERROR] and verdict.passed == 0


def test_what_was_undefined_may_become_a_number(tmp_path, quiet):
    assert conclude_with([ERROR], [replace(ERROR, value=math.nan)], tmp_path, quiet, gate=True) == 0


def test_updating_keeps_other_keys_and_where_they_were_measured(tmp_path):
    path = tmp_path / "baseline.json"
    update_baseline([ERROR, SPREAD], {"processor": "first"}, path)
    update_baseline([replace(ERROR, value=2.0)], {"processor": "second"}, path)
    stored = json.loads(path.read_text())
    assert read_baseline(path) == {ERROR.key: 2.0, SPREAD.key: 4.0}
    where = {key: stored["environments"][entry["environment"]] for key, entry in stored["metrics"].items()}
    assert where == {ERROR.key: {"processor": "second"}, SPREAD.key: {"processor": "first"}}


def test_results_are_written_as_json_and_csv(tmp_path, quiet):
    conclude_with([ERROR, replace(SPREAD, value=math.nan)], None, tmp_path, quiet)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["metrics"][ERROR.key]["value"] == 1.0 and results["metrics"][SPREAD.key]["value"] is None
    assert {"processor", "cores", "jax"} <= set(results["environment"])
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 3


def test_paired_difference_ignores_what_heads_share(rng):
    heads = {i: float(v) for i, v in enumerate(rng.normal(5, 3, 40))}
    ours, reference = (
        [Record(i, "random", "exact", method, 0, {"cse": v + by}) for i, v in heads.items()]
        for method, by in (("posterior", -0.5), ("map", 0.0))
    )
    mean, low, high = difference(ours, reference, "cse")
    np.testing.assert_allclose([mean, low, high], -0.5, atol=1e-12)


def test_interleaving_times_every_contestant_in_every_round():
    timings = interleave({"a": lambda: sum(range(2000)), "b": lambda: sum(range(20000))}, rounds=(4, 4), turn=1e-3)
    assert {name: len(t.wall) for name, t in timings.items()} == {"a": 4, "b": 4}
    assert speedup(timings["a"].wall, timings["b"].wall) > 2


def test_a_row_whose_programs_differ_costs_itself_alone(quiet):
    def differs():
        np.testing.assert_allclose(1.0, 2.0, err_msg="gradient")

    metrics, rows = [], []
    speed.measure(metrics, rows, "a", differs, quiet)
    speed.measure(
        metrics, rows, "b", lambda: {"ours": lambda: None, "usual": lambda: None, "matched": lambda: None}, quiet
    )
    assert [row[:2] for row in rows[:1]] == [["a", "differ"]] and rows[1][0] == "b" and len(rows[0]) == len(rows[1])
    assert metrics and all("/b/" in metric.key for metric in metrics)
    assert "a is left out, since the programs differ" in " ".join(quiet.file.getvalue().split())


def test_gradients_are_compared_as_their_arithmetic_allows(rng):
    pytest.importorskip("torch", reason="PyTorch is only needed by the speed suite")
    from benchmarks.speed._vae_dpp import check_gradient

    ours = rng.normal(size=(76, 128)).astype(np.float32)
    turned = ours.copy()
    turned.reshape(-1)[:3] += 0.006 * np.abs(ours).max()
    check_gradient(turned, ours, "a few signs")
    for wrong in (1.01 * ours, ours + 0.01 * rng.normal(size=ours.shape), np.where(ours == ours.max(), 0, ours)):
        with pytest.raises(AssertionError):
            check_gradient(wrong, ours, "another gradient")


def test_small_quality_run_goes_on_where_it_stopped(tiny_head, single_precision, tmp_path, quiet):
    head = as_float32(tiny_head)
    keys = jax.random.split(jax.random.key(0), 2)
    draws = [head.shaped(jax.random.normal(key, (head.n_components,), jnp.float32)) for key in keys]
    truths = np.asarray(jnp.stack(draws), np.float64)

    def measure(plan):
        store, subjects = RecordStore(tmp_path, head), true_heads(truths)
        return experiments.measure(head, subjects, plan, store, quiet, title="quality", more=honesty(head))

    plan = Plan(seeds=1, methods=("map", "posterior"), occluders=("face-mask",), settings=("exact",), samples=4)
    records = measure(plan)
    assert {(r.head, r.method) for r in records} == {(h, m) for h in (0, 1) for m in plan.methods}

    again = measure(plan)
    assert sorted(again) == sorted(records) and "2 of 2 heads done" in quiet.file.getvalue()
    wider = replace(plan, seeds=2)
    more = measure(wider)
    assert len(more) == 6 and all(record in more for record in records)

    found = SUITES["table1"].conclude(records, plan)
    measured = {m.key: m.value for m in quality_metrics(found, "quality[test]")}
    assert measured["quality[test]/face-mask/exact/posterior/cse_occluded"] > 0
    assert all(math.isfinite(value) for value in measured.values())
    text = quality_table(found, "quality[test]")
    assert "| posterior |" in text and "face-mask, exact" in text
    write(found, "Quality", "", {}, tmp_path, "quality")
    rows = list(csv.DictReader((tmp_path / "quality.csv").read_text().splitlines()))
    (apart,) = [float(r["minus_map"]) for r in rows if r["method"] == "map" and r["figure"] == "cse_occluded"]
    assert apart == 0.0


def test_records_of_other_code_are_not_used(tiny_head, tmp_path):
    store = RecordStore(tmp_path, tiny_head)
    store.save(0, [])
    path = tmp_path / "head-0000.json"
    path.write_text(json.dumps({"fingerprint": "other", "records": [["nonsense"]]}))
    assert store.load(0) == []

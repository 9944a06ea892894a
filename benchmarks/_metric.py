"""What a benchmark promises: a number, which way is better, and how much worse it may get."""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple

BASELINE = Path(__file__).with_name("baseline.json")


@dataclass(frozen=True)
class Metric:
    """One measured number."""

    key: str
    """suite[settings]/what was measured: two numbers are comparable if and only if their keys agree."""
    value: float
    """The number; NaN where it is not defined."""
    unit: str
    """Its unit."""
    direction: Literal["lower", "higher"]
    """Which way is better."""
    rel_tol: float
    """How much worse than the baseline it may be, as a share of the baseline: tight on correctness, loose on time."""
    abs_tol: float = 0.0
    """How much worse it may be besides, in its unit."""

    def regressed(self, baseline: float) -> bool:
        """Whether it is worse than a baseline by more than the tolerances; undefined is worse than any number."""
        if math.isnan(baseline):
            return False
        if math.isnan(self.value):
            return True
        worse_by = self.value - baseline if self.direction == "lower" else baseline - self.value
        return worse_by > self.abs_tol + self.rel_tol * abs(baseline)


class Verdict(NamedTuple):
    """A run against the baseline."""

    regressions: list[tuple[Metric, float]]
    """Metrics that got worse, each with its baseline."""
    missing: list[Metric]
    """Metrics that the baseline does not have."""
    passed: int
    """How many metrics were compared and held."""


def judge(metrics: Iterable[Metric], baseline: dict[str, float]) -> Verdict:
    """Compare a run with the baseline's values by key."""
    regressions, missing, passed = [], [], 0
    for metric in metrics:
        if metric.key not in baseline:
            missing.append(metric)
        elif metric.regressed(baseline[metric.key]):
            regressions.append((metric, baseline[metric.key]))
        else:
            passed += 1
    return Verdict(regressions, missing, passed)


def read_baseline(path: Path = BASELINE) -> dict[str, float]:
    """Baseline values by key; empty where there is no file."""
    if not path.is_file():
        return {}
    stored = json.loads(path.read_text())["metrics"]
    return {key: math.nan if entry["value"] is None else entry["value"] for key, entry in stored.items()}


def update_baseline(metrics: Iterable[Metric], environment: dict[str, str], path: Path = BASELINE) -> None:
    """Put a run's numbers in place of the baseline's of the same keys, with where each was measured."""
    stored = json.loads(path.read_text()) if path.is_file() else {"environments": {}, "metrics": {}}
    name = next((k for k, known in stored["environments"].items() if known == environment), None)
    if name is None:
        name = str(1 + max(map(int, stored["environments"]), default=0))
        stored["environments"][name] = environment
    for metric in metrics:
        stored["metrics"][metric.key] = {**entry(metric), "environment": name}
    used = {kept["environment"] for kept in stored["metrics"].values()}
    stored["environments"] = {k: known for k, known in stored["environments"].items() if k in used}
    stored["metrics"] = dict(sorted(stored["metrics"].items()))
    path.write_text(json.dumps(stored, indent=1, allow_nan=False) + "\n")


def entry(metric: Metric) -> dict[str, object]:
    """A metric as JSON, without its key; an undefined value is null."""
    fields = asdict(metric)
    del fields["key"]
    value = None if math.isnan(metric.value) else float(f"{metric.value:.6g}")
    return {**fields, "value": value}

"""Laws of the time left, on a clock that is set by hand; and what is remembered of earlier runs."""

import contextlib
import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diverse3d._methods import SamplingConfig
from diverse3d.cli._estimate import TYPICAL_SECONDS, Estimate, LastRuns, kind_of
from diverse3d.cli._progress import Reporter

NAMES = tuple(TYPICAL_SECONDS)


class Clock:
    """Seconds that pass when told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def looks(expected: dict[str, float], actual: dict[str, float], *, known: bool, count: int = 7):
    """(name of the stage, whether it has just begun, seconds left in truth, as estimated) at times all over a run."""
    clock = Clock()
    estimate = Estimate(expected, known=known, clock=clock)
    end = clock.now + sum(actual.values())
    for name, seconds in actual.items():
        estimate.start(name)
        begin = clock.now
        for look in range(count):
            clock.now = begin + seconds * look / count
            yield name, look == 0, end - clock.now, estimate.left()
        clock.now = begin + seconds
    estimate.start(None)
    assert estimate.taken == pytest.approx(actual)


def runs(speeds: tuple[float, float], noise: tuple[float, float]):
    """Expected and actual seconds of a run: each stage off by chance, and all by the machine's speed."""

    @st.composite
    def draw_run(draw):
        names = draw(st.lists(st.sampled_from(NAMES), min_size=2, max_size=8, unique=True))
        expected = {name: draw(st.floats(0.5, 60.0)) for name in names}
        speed = draw(st.floats(*speeds))
        return expected, {name: seconds * speed * draw(st.floats(*noise)) for name, seconds in expected.items()}

    return draw_run()


def check_within_a_factor_of_two(expected, actual, *, known):
    first = next(iter(actual))
    for name, begins, truth, said in looks(expected, actual, known=known):
        if name == first:
            assert known or said is None
        elif begins:
            assert truth / 2.0 - 1e-6 <= said <= 2.0 * truth + 1e-6
        else:  # within a stage, give or take what it takes: to the very end nothing is right within a factor
            slack = actual[name]
            assert truth / 2.0 - slack <= said <= 2.0 * truth + slack


@settings(deadline=None)
@given(run=runs((0.2, 5.0), (0.8, 1.25)))
def test_on_a_machine_of_any_speed_the_first_stage_tells(run):
    check_within_a_factor_of_two(*run, known=False)


@settings(deadline=None)
@given(run=runs((0.6, 1.6), (0.85, 1.15)))
def test_after_a_run_of_its_kind_it_is_right_from_the_start(run):
    check_within_a_factor_of_two(*run, known=True)


@settings(deadline=None)
@given(run=runs((0.01, 100.0), (0.01, 100.0)), known=st.booleans(), count=st.integers(1, 9))
def test_it_never_jumps_up_by_more_than_half(run, known, count):
    before = None
    for _, _, _, said in looks(*run, known=known, count=count):
        assert before is None or said <= 1.5 * max(before, 1.0) + 1e-9
        before = said


def test_many_looks_in_a_moment_let_it_grow_no_faster():
    clock = Clock()
    estimate = Estimate({"head": 1.0, "fit": 10.0}, known=True, clock=clock)
    estimate.start("head")
    first = estimate.left()
    clock.now += 50.0
    estimate.start("fit")
    said = [estimate.left() for _ in range(100)]
    assert first is not None and max(said) <= 1.5 * first


@pytest.fixture
def remember(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def at(kind: str = "complete", *, compiled: bool = True, version: str = "1") -> LastRuns:
        return LastRuns(kind, compiled=compiled, version=version)

    return at


COLD, WARM = {"fit": 40.0, "draw": 30.0}, {"fit": 5.0, "draw": 4.0}


def test_runs_that_compile_and_runs_that_do_not_are_remembered_apart(remember):
    typical = {name: TYPICAL_SECONDS[name][0] for name in COLD}
    assert remember(compiled=False).expected(COLD) == (typical, False)
    remember(compiled=False).keep(COLD)
    scaled = {name: COLD[name] * TYPICAL_SECONDS[name][1] / TYPICAL_SECONDS[name][0] for name in COLD}
    assert remember().expected(COLD) == (pytest.approx(scaled), True)  # all is compiled now
    assert remember(compiled=False).expected(COLD) == (COLD, True)  # its cache was emptied
    remember().keep(WARM)
    assert remember().expected(COLD) == (WARM, True)
    assert remember(version="2").expected(COLD) == (COLD, True)  # another version compiles anew
    assert remember("score").expected(["fit", "measure"])[0] == {"fit": 5.0, "measure": TYPICAL_SECONDS["measure"][0]}


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{", "3", '{"complete": 3}', '{"complete": {"version": "1", "warm": []}}',
        '{"complete": {"version": "1", "warm": {"fit": "5"}}}', '{"complete": {"version": "1", "warm": {"fit": -5}}}',
        '{"complete": {"version": "1", "warm": {"fit": 1e300}}}', '{"complete": {"version": "1", "warm": {"nap": 5}}}',
        '{"complete": {"version": 1, "warm": {"fit": 5}}}', '{"complete": {"version": "1", "hot": {"fit": 5}}}',
    ],
)  # fmt: skip
def test_a_damaged_memory_is_none(text, remember, tmp_path):
    (tmp_path / "diverse3d").mkdir()
    (tmp_path / "diverse3d" / "seconds.json").write_text(text)
    assert remember().expected(WARM)[1] is False
    remember(compiled=False).keep(COLD)
    assert remember(compiled=False).expected(COLD) == (COLD, True)


def test_it_stays_small_and_needs_no_folder(remember, tmp_path, monkeypatch):
    for number in range(100):
        remember(f"kind {number}").keep(WARM)
    kept = json.loads((tmp_path / "diverse3d" / "seconds.json").read_text())
    assert list(kept) == [f"kind {number}" for number in range(68, 100)]
    monkeypatch.setenv("DIVERSE3D_NO_CACHE", "1")
    remember().keep(WARM)
    assert remember().expected(WARM)[1] is False


def test_a_kind_names_what_takes_time_and_no_path():
    from diverse3d.cli._complete import Complete

    command = Complete(input=Path("secret/face.PNG"), out=Path("private"), seed=3, quiet=True)
    assert kind_of(command) == "complete input=.png"
    longer = dataclasses.replace(command, n=40, sampling=SamplingConfig(pool=9), head=Path("/my/own.safetensors"))
    assert kind_of(longer) == "complete head=.safetensors input=.png n=40 pool=9"


def test_a_run_says_its_stages_and_learns_from_those_that_end_well(remember, capsys, tmp_path):
    @dataclasses.dataclass
    class Nap:
        quiet: bool = False

    def run(fails: bool = False) -> list[str]:
        reporter = Reporter(Nap(), ("head", "fit"))
        with contextlib.suppress(KeyboardInterrupt), reporter.shown():
            reporter("head")
            if fails:
                raise KeyboardInterrupt
            reporter("fit")
            reporter("fit")  # in two parts
        return capsys.readouterr().err.splitlines()

    assert run(fails=True) == ["reading the head"]
    assert not (tmp_path / "diverse3d" / "seconds.json").exists()
    first, second = run()
    assert first == "reading the head" and second.startswith("fitting what is visible (about ")
    assert run() == ["reading the head (about 0 s left)", "fitting what is visible (about 0 s left)"]

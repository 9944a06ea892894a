"""The suites, what may be asked of them, and running one: measure, conclude, write."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from .._errors import InputError
from .._suggest import nearest
from ..diversify import METHODS, DiversifyConfig, Learned, get_method, has_weights, load_learned
from ..diversify import check as check_completion
from ..fit import FitConfig
from ..head import HeadModel, load_head
from ..observe import SETTINGS, STANDARD_REGIONS, check_region
from . import _fig3, _fig4, _frontier, _table1, _table2
from ._cells import Knobs, More, Record
from ._environment import environment
from ._extras import honesty, paths, spreads
from ._findings import Findings
from ._page import write
from ._plan import SAMPLES, Plan, measure
from ._records import RecordStore, fingerprint
from ._subjects import Pictured, Subject, drawn_heads, population_heads, true_heads

PHOTO_SETTING = "photo"


class Suite(NamedTuple):
    """One experiment."""

    title: str
    """Its title."""
    about: str
    """What it shows."""
    conclude: Callable[[Sequence[Record], Plan], Findings]
    """What it makes of the records."""
    more: Callable[[HeadModel, "Options"], More] | None = None
    """What it measures besides the usual metrics."""
    suits: Callable[[str], str | None] = lambda method: None
    """Why a method has no place in it; None: it has."""
    methods: tuple[str, ...] = tuple(METHODS)
    """Its methods if none are named, best first."""
    few: int | None = None
    """How many of those it takes, where not all that can be run."""
    references: tuple[str, ...] = ()
    """Methods that always run."""
    knobs: Callable[[str], tuple[Knobs, ...]] = lambda method: ((),)
    """The settings that a method runs with."""
    occluders: tuple[str, ...] = STANDARD_REGIONS
    """Regions that it hides."""
    settings: tuple[str, ...] = SETTINGS
    """How the visible part is given."""
    photo: bool = False
    """Whether it says anything without a truth."""


_BEST = ("hybrid-dpp", "vae-dpp", "posterior-dpp")

SUITES = {
    "table1": Suite(
        title="Every method behind every occluder",
        about=_table1.ABOUT,
        conclude=_table1.conclude,
        more=lambda head, options: honesty(head),
        references=_table1.REFERENCES,
        photo=True,
    ),
    "table2": Suite(
        title="Sharpness of similarity against the quality threshold",
        about=_table2.ABOUT,
        conclude=_table2.conclude,
        suits=_table2.suits,
        methods=("vae-dpp", "posterior-dpp"),
        few=1,
        knobs=_table2.knobs,
        settings=("realistic",),
    ),
    "fig3": Suite(
        title="What is diverse behind which occluder",
        about=_fig3.ABOUT,
        conclude=_fig3.conclude,
        more=lambda head, options: spreads(head),
        suits=_fig3.suits,
        methods=_BEST,
        few=2,
        occluders=_fig3.OCCLUDERS,
        settings=("realistic",),
    ),
    "fig4": Suite(
        title="The visible part on the way from one completion to another",
        about=_fig4.ABOUT,
        conclude=_fig4.conclude,
        more=lambda head, options: paths(options.weights),
        suits=_fig4.suits,
        methods=_BEST,
        few=2,
        settings=("realistic",),
    ),
    "frontier": Suite(
        title="What diversity costs", about=_frontier.ABOUT, conclude=_frontier.conclude, knobs=_frontier.knobs
    ),
}


@dataclass(frozen=True)
class Options:
    """What a user asks of a suite; what is None or empty is the suite's own."""

    out: Path
    """Folder for the results; an interrupted run goes on from what it finds there."""
    methods: tuple[str, ...] = ()
    """Methods of the table of methods."""
    occluders: tuple[str, ...] = ()
    """Regions that are hidden."""
    settings: tuple[str, ...] = ()
    """`exact`, `realistic`."""
    heads: int = 16
    """Heads of the test split, or drawn from the prior of a head given."""
    seeds: int = 3
    """Runs of each random method on each head."""
    samples: int = SAMPLES
    """Completions a run."""
    head: Path | None = None
    """Head file; the embedded head and its population if not given."""
    photo: Path | None = None
    """A photo in place of heads whose truth is known."""
    masked: Path | None = None
    """Weights of a masked model; those of the package if not given."""
    residual: Path | None = None
    """Weights of a residual model; those of the package if not given."""
    seed: int = 0
    """Seed of all occluders and samples."""

    def weights(self, kind: str) -> Path | None:
        """The file of a kind of weights, where one is given."""
        return {"masked": self.masked, "residual": self.residual}[kind]


def check(name: str, options: Options) -> Suite:
    """The suite, if it can be run like this; raises `InputError` for what can be refused at once."""
    if name not in SUITES:
        raise InputError(f"There is no suite '{name}'{nearest(name, SUITES)}.")
    suite = SUITES[name]
    counts = (("--heads", options.heads, 1), ("--seeds", options.seeds, 1), ("-n", options.samples, 2))
    for flag, value, least in counts:
        if value < least:
            raise InputError(f"{flag} {value} is too few; give at least {least}.")
    if not 0 <= options.seed < 1 << 32:
        raise InputError(f"The seed {options.seed} is out of range; give a whole number from 0 to {(1 << 32) - 1}.")
    for method in options.methods:
        get_method(method)
    for occluder in options.occluders:
        check_region(occluder)
        if occluder in ("none", "auto"):
            raise InputError("Without an occluder that is known nothing can be compared; name a region.")
    for setting in options.settings:
        if setting not in SETTINGS:
            raise InputError(f"There is no setting '{setting}'{nearest(setting, SETTINGS)}.")
    if options.photo is not None and not suite.photo:
        raise InputError(f"'{name}' needs heads whose truth is known; --photo is for table1.")
    if options.photo is not None and options.settings:
        raise InputError("--settings are for heads whose truth is known; leave them out with --photo.")
    for path in (options.head, options.photo, options.masked, options.residual):
        if path is not None and not path.is_file():
            raise InputError(f"There is no file {path}.")
    if options.out.exists() and not options.out.is_dir():
        raise InputError(f"{options.out} is a file; name a folder.")
    return suite


def run(name: str, options: Options, console: Console | None = None) -> Findings:
    """Run a suite and write NAME.csv, NAME.json and NAME.html into the output folder; what was found.

    Methods whose weights are not there are left out, which is said. Raises `InputError` for an unknown suite, method,
    region or setting, for numbers out of range, for files that are not there, and when nothing can be run.
    """
    console = Console(stderr=True) if console is None else console
    suite = check(name, options)
    head = load_head(options.head)
    methods, left_out, learned = choose(suite, options, head)
    for method, why in left_out.items():
        console.print(f"{name}: {method} is left out: {why}", markup=False, highlight=False)
    settings = (PHOTO_SETTING,) if options.photo is not None else options.settings or suite.settings
    plan = Plan(
        seeds=options.seeds,
        methods=methods,
        occluders=tuple(dict.fromkeys(options.occluders or suite.occluders)),
        settings=tuple(dict.fromkeys(settings)),
        samples=options.samples,
        knobs={method: suite.knobs(method) for method in methods},
        seed=options.seed,
    )
    subjects, source = _subjects(options, head)
    hashes = {kind: model.sha256 for kind, model in learned.items()}
    unnamed = json.dumps([source, plan.samples, plan.seed, plan.occluders, hashes], sort_keys=True)
    try:
        store = RecordStore(options.out / "records" / name, head, unnamed)
        records = measure(
            head, subjects, plan, store, console, title=name, learned=learned,
            more=None if suite.more is None else suite.more(head, options),
        )  # fmt: skip
        findings = suite.conclude(records, plan)
        settled = {method: asdict(METHODS[method].settle(DiversifyConfig())) for method in plan.methods}
        facts = {
            "left_out": left_out,
            "subjects": {"source": source, "count": len(subjects)},
            "plan": asdict(plan),
            "configuration": {"fit": asdict(FitConfig()), "diversify": settled},
            "environment": environment(),
            "hashes": {"head": head.sha256 or None, "weights": hashes, "code and data": fingerprint(head)},
        }
        write(findings, suite.title, _about(suite, plan, len(subjects), source), facts, options.out, name)
    except OSError as error:
        raise InputError(f"{options.out} can't be written ({error.strerror or error}); name another folder.") from error
    return findings


def choose(
    suite: Suite, options: Options, head: HeadModel
) -> tuple[tuple[str, ...], dict[str, str], dict[str, Learned]]:
    """Methods to run, those left out with the reason, and the trained models by kind."""
    wanted = options.methods or suite.methods
    left_out: dict[str, str] = {}
    chosen: list[str] = list(suite.references)
    for method in dict.fromkeys(wanted):
        why = _missing(method, options, head) or suite.suits(method)
        if why is not None:
            left_out[method] = why
        elif method not in chosen:
            chosen.append(method)
    if not options.methods and suite.few is not None:
        chosen = chosen[: suite.few]
    if not chosen:
        reasons = "; ".join(f"{method}: {why}" for method, why in left_out.items())
        raise InputError(f"None of the methods can be run ({reasons}).")
    config = DiversifyConfig()
    learned: dict[str, Learned] = {}
    for method in chosen:
        kind = METHODS[method].weights
        check_completion(method, head, options.samples, config, weights=None if kind is None else options.weights(kind))
        if kind is not None and kind not in learned:
            learned[kind] = load_learned(head, kind, options.weights(kind))
    return tuple(chosen), left_out, learned


def _missing(method: str, options: Options, head: HeadModel) -> str | None:
    """What a method lacks on this head, if anything."""
    kind = METHODS[method].weights
    if kind is not None and options.weights(kind) is None and not has_weights(head, kind):
        return f"there are no {kind} weights for the head '{head.name}'; --{kind} FILE names some."
    try:
        METHODS[method].head(head)
    except InputError as error:
        return str(error)
    return None


def _subjects(options: Options, head: HeadModel) -> tuple[list[Subject], str]:
    if options.photo is not None:
        digest = hashlib.sha256(options.photo.read_bytes()).hexdigest()
        return [Pictured(options.photo)], f"photo {digest}"
    if options.head is not None:
        return true_heads(drawn_heads(head, options.heads)), f"prior of the head '{head.name}'"
    return population_heads(options.heads), "test split of the population"


def _about(suite: Suite, plan: Plan, count: int, source: str) -> str:
    what = "one photo" if source.startswith("photo") else f"{_count(count, 'head')}, {source}"
    runs = f"{plan.samples} completions, {_count(plan.seeds, 'run')} of each random method"
    return f"{suite.about} Run on {what}; {runs}, from seed {plan.seed}."


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"

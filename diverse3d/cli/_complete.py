"""The commands `complete` and `fit`: all that can be refused is refused before anything heavy starts."""

import sys
from typing import Any

import jax

from .. import _api, diversify, show
from .._errors import InputError
from ..diversify import DiversifyConfig, default_method, get_method, selected
from ..fit import FitConfig, prepare
from ..fit import fit as fit_observation
from ..head import HeadModel, load_head
from ..observe import MESH_SUFFIXES, Observation, check_region, observe_mesh
from ..show import Stages, check_target
from ._commands import Complete, Fit, FitOptions
from ._progress import Reporter, use_compilation_cache

_SGD_STEPS = 2000
"""The paper's number of iterations."""


def run_complete(command: Complete) -> int:
    """Fit, complete, write."""
    check_target(command.out, force=command.force)
    key, fit_config, config = seed_key(command.seed), fit_settings(command), diversify_settings(command)
    if command.method is not None:
        get_method(command.method)
    _check_input(command)
    use_compilation_cache()
    reporter = Reporter(("head", "observe", "prepare", "fit", "complete", "draw", "write"), quiet=command.quiet)
    stages = Stages(reporter)
    with reporter.shown():
        with stages("head"):
            head = load_head(command.head, residual=command.residual)
        name = selected(command.method or default_method(head), command.select)
        own = get_method(name).head(head)
        diversify.check(name, own, command.n, config, noise=command.noise, weights=command.weights)
        with stages("observe"):
            seen = observe(command, head)
        result = _api.complete(
            seen, head=head, n=command.n, method=name, key=key, noise=command.noise,
            fit_config=fit_config, config=config, weights=command.weights, stages=stages,
        )  # fmt: skip
        result.save(command.out, force=command.force, light=command.light, stages=stages, options=_options(command))
    made = f"{len(result.vertices)} completions by {name}"
    _finish(command, made, show.warnings_of(seen, result.fit, result), stages)
    return 0


def run_fit(command: Fit) -> int:
    """Fit, write."""
    check_target(command.out, force=command.force)
    key, fit_config = seed_key(command.seed), fit_settings(command)
    _check_input(command)
    use_compilation_cache()
    reporter = Reporter(("head", "observe", "prepare", "fit", "draw", "write"), quiet=command.quiet)
    stages = Stages(reporter)
    with reporter.shown():
        with stages("head"):
            head = load_head(command.head, residual=command.residual)
        with stages("observe"):
            seen = observe(command, head)
        with stages("prepare"):
            problem = prepare(head)
            jax.block_until_ready(problem.smoothness)
        with stages("fit"):
            fitted = fit_observation(seen, problem, fit_config)
            jax.block_until_ready(fitted.vertices_m)
        run = _api.describe(
            head, key=key, n=0, method="fit", noise=None, fit_config=fit_config, config=DiversifyConfig(), stages=stages
        )
        show.save_fit(
            seen, fitted, head, command.out, force=command.force, run=run, stages=stages, options=_options(command)
        )
    _finish(command, "the fit", show.warnings_of(seen, fitted), stages)
    return 0


def seed_key(seed: int) -> jax.Array:
    """The random key of a seed; raises `InputError` for one that it can't hold."""
    if not 0 <= seed < 1 << 32:
        raise InputError(f"The seed {seed} is out of range; give a whole number from 0 to {(1 << 32) - 1}.")
    return jax.random.key(seed)


def fit_settings(command: FitOptions) -> FitConfig:
    """Settings of stage 1; raises `InputError` for a step budget that is not positive."""
    if command.steps is not None and command.steps < 1:
        raise InputError(f"{command.steps} steps were asked for; ask for at least 1.")
    steps = command.steps or (_SGD_STEPS if command.solver == "sgd" else FitConfig().steps)
    return FitConfig(solver=command.solver, steps=steps)


def diversify_settings(command: Complete) -> DiversifyConfig:
    """Settings of stage 2; raises `InputError` for values out of range."""
    if command.n < 1:
        raise InputError(f"{command.n} completions were asked for; ask for at least 1.")
    for name, value, sound in (
        ("--pool", command.pool, command.pool is None or command.pool >= 1),
        ("--contraction", command.contraction, command.contraction is None or 0 < command.contraction < float("inf")),
        ("--k", command.k, 0 < command.k < float("inf")),
        ("--n-sigma", command.n_sigma, 0 <= command.n_sigma < float("inf")),
    ):
        if not sound:
            raise InputError(f"{name} {value} is out of range; give a positive number.")
    if command.refine < 0:
        raise InputError(f"--refine {command.refine} is out of range; give 0 or more steps.")
    return DiversifyConfig().replace(
        k=command.k,
        n_sigma=command.n_sigma,
        pool=command.pool,
        contraction=command.contraction,
        refine=command.refine,
    )


def is_mesh(command: Complete | Fit) -> bool:
    """Whether the input is a mesh, by its name's ending."""
    return command.input.suffix.lower() in MESH_SUFFIXES


def observe(command: Complete | Fit, head: HeadModel) -> Observation:
    """The observation that a command's options describe."""
    if is_mesh(command):
        return observe_mesh(command.input, head=head, hidden_file=command.mask)
    # The occluder and the completions share the seed, so that the Python calls with one key give the same files.
    key = seed_key(command.seed)
    return _api.observe_photo(command.input, mask=command.mask, occlude=command.occlude, key=key, head=head)


def _check_input(command: Complete | Fit) -> None:
    occlude = "none" if command.occlude is None else command.occlude
    check_region(occlude)
    if is_mesh(command) and occlude != "none":
        raise InputError(f"--occlude is for photos; {command.input} is a mesh: mark its hidden vertices with --mask.")
    if occlude == "auto" and command.mask is not None:
        raise InputError("--mask says what hides the face, and --occlude auto looks for it; give one of them.")
    weights = command.weights if isinstance(command, Complete) else None
    for path in (command.input, command.mask, command.head, weights):
        if path is not None and not path.exists():
            raise InputError(f"There is no file {path}.")


def _options(command: Complete | Fit) -> dict[str, Any]:
    """What the record's configuration says besides the run's own settings."""
    return {
        "command": type(command).__name__.lower(),
        "occlude": command.occlude,
        "mask": None if command.mask is None else command.mask.name,
    }


def _finish(command: Complete | Fit, made: str, notes: list[str], stages: Stages) -> None:
    """Say what was written, and what to know about it."""
    if command.quiet:
        return
    for note in notes:
        print(note, file=sys.stderr)
    seconds = stages.seconds
    print(
        f"{made} in {command.out} ({sum(seconds.values()):.0f} s, of which {seconds['compile']:.0f} s compiling); "
        f"look at {command.out / 'contact-sheet.png'}"
    )

"""The one table of methods: the command line, the benchmark and the documentation read it."""

from collections.abc import Callable
from typing import NamedTuple

from .._errors import InputError
from .._suggest import nearest
from ..head import HeadModel
from ._coefficients import run_coefficient_dpp
from ._linear import Samples, run_map, run_posterior, run_posterior_dpp


class Method(NamedTuple):
    """One way from a fit to completions."""

    summary: str
    """What it does, in a line."""
    run: Callable[..., Samples]
    """(head, fit, belief, n, config, key=…) → Samples; `belief` is the closed-form posterior, or None."""
    head: Callable[[HeadModel], HeadModel] = lambda head: head
    """The head it works on, from the head given."""
    closed_form: bool = True
    """Whether it starts from the closed-form posterior."""
    single: bool = False
    """Whether it gives one completion whatever is asked for."""
    pooled: bool = False
    """Whether it keeps a pool and its pairwise distances in memory."""


def _global_local(head: HeadModel) -> HeadModel:
    if not head.local_models:
        raise InputError(f"The head '{head.name}' has no local region models, which 'global-local-dpp' needs.")
    return head.global_local()


METHODS: dict[str, Method] = {
    "map": Method("the single most likely head", run_map, single=True),
    "posterior": Method("independent samples of the closed-form posterior", run_posterior),
    "posterior-dpp": Method(
        "the most diverse samples of a posterior pool (greedy DPP)", run_posterior_dpp, pooled=True
    ),
    "global-dpp": Method(
        "Algorithm 2's loss over the coefficients of the whole head", run_coefficient_dpp, closed_form=False
    ),
    "global-local-dpp": Method(
        "Algorithm 2's loss over 10 + 10 global and all region coefficients",
        run_coefficient_dpp,
        head=_global_local,
        closed_form=False,
    ),
}

DEFAULT_METHOD = "posterior-dpp"


def get_method(name: str) -> Method:
    """The method called `name`; raises `InputError` with the nearest name where there is none."""
    if name not in METHODS:
        raise InputError(f"There is no method '{name}'{nearest(name, METHODS)}.")
    return METHODS[name]

"""The closed-form methods: map, posterior, posterior-dpp, posterior-cover, posterior-support."""

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from ._config import DiversifyConfig
from ._gaussian import Posterior, head_vertices
from ._select import Choice, all_vertices, most_diverse
from ._task import Samples, Task


@eqx.filter_jit
def run_map(task: Task, n: int, config: DiversifyConfig, *, key: PRNGKeyArray) -> Samples:
    """The single most likely head, whatever `n` is."""
    del n, config, key
    mean = _belief(task).mean
    return Samples(head_vertices(task.head, mean)[None], mean[None, : task.head.n_components])


@eqx.filter_jit
def run_posterior(task: Task, n: int, config: DiversifyConfig, *, key: PRNGKeyArray) -> Samples:
    """Independent samples of the closed-form posterior."""
    return _heads(task, _drawn(task, n, config, key))


@eqx.filter_jit
def run_posterior_dpp(task: Task, n: int, config: DiversifyConfig, *, key: PRNGKeyArray) -> Samples:
    """The most diverse `n` of a pool of posterior samples, by greedy determinantal selection.

    Selection picks extremes, so the pool is first drawn together around the mean.
    """
    points = _drawn(task, config.pool_size(n), config, key)
    return _heads(task, points[most_diverse(task.head, task.fit, points, n, config)])


@eqx.filter_jit
def run_posterior_choice(task: Task, n: int, config: DiversifyConfig, *, choose: Choice, key: PRNGKeyArray) -> Samples:
    """The `n` points that `choose` makes of a pool of posterior samples."""
    return _heads(task, choose(task.head, task.fit, _drawn(task, config.pool_size(n), config, key), n))


def _drawn(task: Task, count: int, config: DiversifyConfig, key: PRNGKeyArray) -> Float[Array, "P D"]:
    mean = _belief(task).mean[None, :]
    return mean + config.scale * (_belief(task).samples(count, key=key) - mean)


def _belief(task: Task) -> Posterior:
    assert task.belief is not None, "the method starts from the closed form"
    return task.belief


def _heads(task: Task, points: Float[Array, "N D"]) -> Samples:
    return Samples(all_vertices(task.head, points), points[:, : task.head.n_components])

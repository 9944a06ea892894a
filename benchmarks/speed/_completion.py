"""Speed of stage 1 and stage 2 on a head of the test split behind a face mask."""

import functools
from collections.abc import Callable, Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import torch

from diverse3d import complete
from diverse3d.diversify import DiversifyConfig, Given, posterior, sample
from diverse3d.fit import Fit, FitProblem, NoiseModel, fit, isotropic_noise, prepare
from diverse3d.head import load_head
from diverse3d.head.population import split
from diverse3d.observe import Observation, simulate_mesh

from ._timing import Case, Contestants
from ._torch_completion import Loss, Problem, Solver, adam_path, normal_posterior, qr_posterior
from ._torch_head import tensor

SAMPLES, STEPS = 16, 20
"""Completions, and how many of Algorithm 2's iterations are timed (each costs the same)."""


@functools.cache
def subject() -> tuple[Observation, FitProblem, Fit]:
    problem = prepare(load_head(dtype=jnp.float32))
    truth = np.asarray(split("test", 1).vertices[0], np.float64)
    seen = simulate_mesh(truth, problem.head, region="face-mask", setting="realistic", key=jax.random.key(0))
    return seen, problem, fit(seen, problem)


def cases() -> Iterator[Case]:
    """Algorithm 2's iterations, and the closed form, against PyTorch."""
    yield f"algorithm 2/{SAMPLES} samples x {STEPS} iterations", _algorithm_2
    yield f"closed form/mean and {SAMPLES} samples", _closed_form


def _algorithm_2() -> Contestants:
    seen, problem, fitted = subject()
    head, key = problem.head, jax.random.key(1)

    def ours(steps: int = STEPS) -> np.ndarray:
        config = DiversifyConfig().replace(steps=steps)
        return np.asarray(sample(Given("global-dpp", config, seen, head, fitted), SAMPLES, key=key).latents)

    config = DiversifyConfig()
    drawn = jax.random.normal(key, (SAMPLES, head.n_components), head.dtype)
    start = np.asarray(fitted.unknowns.z[None] + config.algorithm2.start_spread * drawn)
    torch_problem = Problem(head, fitted, config)

    def theirs(loss: Loss, steps: int = STEPS) -> list[np.ndarray]:
        return adam_path(loss, start, steps, config.algorithm2.learning_rate)

    # Ours returns the best point seen: it must lie on PyTorch's path.
    for loss in (torch_problem.usual_loss, torch_problem.matched_loss):
        path = theirs(loss, 3)
        nearest = min(float(np.abs(ours(3) - point).max()) for point in path[1:])
        assert nearest < 1e-2 * config.algorithm2.learning_rate, f"PyTorch went elsewhere ({nearest})"
    return {
        "ours": ours,
        "usual": lambda: theirs(torch_problem.usual_loss),
        "matched": lambda: theirs(torch_problem.matched_loss),
    }


@eqx.filter_jit
def _closed_form_ours(
    problem: FitProblem, fitted: Fit, noise: NoiseModel, white: jax.Array
) -> tuple[jax.Array, jax.Array]:
    gaussian = posterior(problem.head, fitted, noise)
    spread = jax.scipy.linalg.solve_triangular(gaussian.factor, white, lower=False)
    return gaussian.mean, gaussian.mean[:, None] + spread


def _closed_form() -> Contestants:
    """PyTorch is given the Jacobian, as it is for a head whose joints rest; ours finds it as part of its work."""
    _, problem, fitted = subject()
    head = problem.head
    noise = isotropic_noise(head, 1e-3, "benchmark")
    count = head.n_components + 3 * head.n_joints + 6
    white = np.random.default_rng(0).standard_normal((count, SAMPLES)).astype(np.float32)
    start = jnp.concatenate([fitted.unknowns.z, fitted.unknowns.joints.reshape(-1), jnp.zeros(6, head.dtype)])
    jacobian, vertices, root = _linearised(problem, start)
    weight = np.repeat(np.asarray(fitted.visible) / np.asarray(noise.sigma_m), 3)
    weighted = tensor(jacobian * weight[:, None])
    # Around zero, so that the prior's right-hand side vanishes.
    target = tensor(weight * (np.asarray(fitted.held_m).reshape(-1) - vertices + jacobian @ np.asarray(start)))
    torch_root, torch_white = tensor(root), torch.from_numpy(white)

    def ours() -> tuple[jax.Array, jax.Array]:
        return jax.block_until_ready(_closed_form_ours(problem, fitted, noise, jnp.asarray(white)))

    def theirs(solver: Solver) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
        def call() -> tuple[torch.Tensor, torch.Tensor]:
            mean, factor = solver(weighted, torch_root, target)
            return mean, mean[:, None] + torch.linalg.solve_triangular(factor, torch_white, upper=True)

        return call

    solved = {"usual": theirs(normal_posterior), "matched": theirs(qr_posterior)}
    reference = np.asarray(ours()[0])[: head.n_components]
    for name, call in solved.items():
        mean = call()[0].numpy()[: head.n_components]
        np.testing.assert_allclose(mean, reference, atol=2e-2, err_msg=f"PyTorch, {name}")
    return {"ours": ours, **solved}


def _linearised(problem: FitProblem, start: jax.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Jacobian and value of the vertices at the fit, and the prior's square root."""
    from diverse3d.diversify import head_vertices

    def flat(point: jax.Array) -> jax.Array:
        return head_vertices(problem.head, point).reshape(-1)

    root = np.ones(start.size)
    root[-6:] = 1e-2
    return np.asarray(jax.jit(jax.jacfwd(flat))(start)), np.asarray(flat(start)), root


def whole() -> Iterator[tuple[str, Contestants]]:
    """What a user waits for, compilation left out: the fit, and completions from it."""
    seen, problem, fitted = subject()
    yield "fit/mesh", {"ours": lambda: jax.block_until_ready(fit(seen, problem))}
    for method in ("posterior-dpp", "global-dpp"):

        def call(method: str = method) -> jax.Array:
            result = complete(
                seen, head=problem, n=SAMPLES, method=method, key=jax.random.key(2), noise="realistic", fitted=fitted
            )
            return jax.block_until_ready(result.vertices)

        yield f"completion/{method}", {"ours": call}

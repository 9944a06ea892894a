"""A partial mesh → MeshFit."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from .._arrays import on_device
from ..observe import PartialMesh
from ..surface import kabsch
from ._config import FitConfig
from ._costs import prior_cost, smoothness_cost, vertex_cost
from ._order import check_left_out, far_off, left_over, tells_pose
from ._solve import solve_in_turn
from ._state import INTEROCULAR_M, RIGID_UNIT, Unknowns, at_rest, canonical, mean_head, residual_rms, rigid, rotation_of
from ._types import FitProblem, FitReport, MeshFit


class _MeshSolution(NamedTuple):
    """Where the fit of a partial mesh ended, in the frame that the closed-form pose gave."""

    rest: Unknowns
    """Shape and joints."""
    turn: Float[Array, "3 3"]
    """The rigid motion that is left: its rotation …"""
    translation: Float[Array, "3"]
    """… and its translation, in its own unit."""
    vertices_m: Float[Array, "V 3"]
    report: FitReport


@eqx.filter_jit
def _solve_mesh(
    problem: FitProblem,
    held_m: Float[Array, "V 3"],
    seen: Bool[Array, " V"],
    sigma_m: Float[Array, ""],
    posed: Bool[Array, ""],
    config: FitConfig,
) -> _MeshSolution:
    visible = seen.astype(problem.head.dtype)

    def free(unknowns: Unknowns) -> Unknowns:
        """The unknowns, without the rotation where what is seen doesn't tell it."""
        rotation = jnp.where(posed, unknowns.rotation, jnp.zeros_like(unknowns.rotation))
        return eqx.tree_at(lambda u: u.rotation, unknowns, rotation)

    def residuals(unknowns: Unknowns) -> PyTree[Array]:
        unknowns = free(unknowns)
        return [
            vertex_cost(rigid(unknowns, canonical(problem.head, unknowns)), held_m, visible, sigma_m, config.weights),
            prior_cost(unknowns, config.weights),
            smoothness_cost(unknowns, problem.smoothness, config.weights),
        ]

    solution, steps = solve_in_turn(residuals, problem.head, config)
    unknowns = free(solution.value)
    vertices, zero = canonical(problem.head, unknowns), jnp.zeros((), problem.head.dtype)
    square = jnp.sum((rigid(unknowns, vertices) - held_m) ** 2, axis=1) * visible
    residual_rms_mm, residual_share = residual_rms(problem.head, unknowns.z, seen)
    report = FitReport(
        landmark_rms_px=zero,
        landmark_rms_interocular=zero,
        visible_rms_mm=1e3 * jnp.sqrt(jnp.sum(square) / jnp.maximum(jnp.sum(visible), 1.0)),
        steps=steps,
        result=solution.result,
        residual_rms_mm=residual_rms_mm,
        residual_share=residual_share,
    )
    return _MeshSolution(at_rest(unknowns), rotation_of(unknowns), unknowns.translation, vertices, report)


def fit_mesh(mesh: PartialMesh, problem: FitProblem, config: FitConfig, source: str = "the mesh") -> MeshFit:
    """A closed-form pose, then shape and what is left of the pose; the result lies in the input's own frame.

    Vertices that can't be part of the head are left out, one fit after the other, so that they pull at none: the fit's
    `visible` lacks them. Where those that are left don't tell how the head is turned, it stands upright in the input's
    axes. Raises `InputError` where they are no head's in this order (`source` names the mesh).
    """
    mean = np.asarray(mean_head(problem.head), np.float64)
    visible = mesh.visible & ~far_off(mean, mesh.vertices_m, mesh.visible, source)
    while True:
        check_left_out(visible, mesh.visible, source)
        fit = _fit_visible(mesh.vertices_m, visible, mean, problem, config)
        distance = np.linalg.norm(np.asarray(fit.vertices_m, np.float64) - np.asarray(fit.held_m), axis=1)
        off = left_over(distance, visible)
        if not off.any():
            return fit
        visible = visible & ~off


def _fit_visible(
    vertices_m: Float[np.ndarray, "V 3"],
    seen: Bool[np.ndarray, " V"],
    mean_m: Float[np.ndarray, "V 3"],
    problem: FitProblem,
    config: FitConfig,
) -> MeshFit:
    head, posed = problem.head, tells_pose(mean_m, seen)
    # Double precision on the host: the input may lie far from the origin.
    if posed:
        turn, shift = kabsch(mean_m, vertices_m, seen)
    else:
        turn, shift = np.eye(3), (vertices_m - mean_m)[seen].mean(0) if seen.any() else np.zeros(3)
    held = np.where(seen[:, None], (vertices_m - shift) @ turn, 0.0)
    sigma = on_device(1e-3 * config.vertex_sigma_mm, head.dtype)
    visible = on_device(seen, bool)
    found = _solve_mesh(problem, on_device(held, head.dtype), visible, sigma, on_device(posed, bool), config)
    # Fold the fitted rigid motion into the frame, so that the head frame is the head's own.
    extra_turn = np.asarray(found.turn, np.float64)
    extra_shift = RIGID_UNIT * INTEROCULAR_M * np.asarray(found.translation, np.float64)
    total_turn, total_shift = turn @ extra_turn, turn @ extra_shift + shift
    held = np.where(seen[:, None], (vertices_m - total_shift) @ total_turn, found.vertices_m)
    return MeshFit(
        unknowns=found.rest,
        vertices_m=found.vertices_m,
        held_m=on_device(held, head.dtype),
        visible=visible,
        turn=on_device(total_turn, head.dtype),
        shift_m=on_device(total_shift, head.dtype),
        report=found.report,
    )

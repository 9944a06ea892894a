"""Learn the noise models shipped beside the embedded head: python -m tools.learn_noise

Each setting's errors are those of the observed vertices against the head's own best approximation of the true head,
over the validation split: `exact` (what the components can't express), `realistic` (plus a simulated fit error of
1 mm). A photo's own errors are those of its landmarks (tools/learn_landmarks.py).
"""

import argparse
from pathlib import Path

import jax
import numpy as np

from diverse3d.diversify import head_vertices, posterior
from diverse3d.files import read_safetensors, write_safetensors
from diverse3d.fit import LEARNT_NOISE, FitProblem, NoiseModel, fit, learn_noise, noise_arrays, prepare
from diverse3d.head import HeadModel, load_head
from diverse3d.head.population import split
from diverse3d.observe import correlated_error, simulate_mesh

RANKS = {"exact": 24, "realistic": 48}
"""Patterns kept a setting."""

INFLATIONS = (1.0, 2.0, 3.0, 4.0, 6.0, 10.0)


def best_approximation(head: HeadModel, truths_m: np.ndarray) -> np.ndarray:
    """The head's own least-squares approximation of each true head [S,V,3]."""
    basis = np.asarray(head.components_m, np.float64)
    template = np.asarray(head.template_m, np.float64).reshape(-1)
    flat = truths_m.reshape(len(truths_m), -1) - template
    coefficients = np.linalg.solve(basis @ basis.T, basis @ flat.T)
    return (template + (basis.T @ coefficients).T).reshape(truths_m.shape)


def truncation(problem: FitProblem, truths: np.ndarray, approximations: np.ndarray) -> np.ndarray:
    """What the components can't express."""
    del problem
    return truths - approximations


def simulated(problem: FitProblem, truths: np.ndarray, approximations: np.ndarray) -> np.ndarray:
    """That, and a simulated fit error."""
    keys = jax.random.split(jax.random.key(1), len(truths))
    return truths - approximations + np.stack([correlated_error(problem.head, key=key) for key in keys])


def inflated(noise: NoiseModel, problem: FitProblem, setting: str, count: int) -> NoiseModel:
    """The same noise with its independent part enlarged as much as serves the hidden part best.

    What is left beside the patterns is not independent from vertex to vertex; counting it so makes the closed form
    overconfident, and it reads far more into the visible part than is there. The factor is the one with the smallest
    error of the most likely head over hidden vertices, on other heads of the validation split.
    """
    truths = np.asarray(split("validation", count, start=1000).vertices)
    errors: dict[float, list[float]] = {factor: [] for factor in INFLATIONS}
    for index, truth in enumerate(truths):
        for region in ("glasses", "face-mask", "random"):
            seen = simulate_mesh(truth, problem.head, region=region, setting=setting, key=jax.random.key(1000 + index))
            at = fit(seen, problem)
            hidden = ~np.asarray(at.visible)
            for factor in INFLATIONS:
                wider = NoiseModel(noise.sigma_m * factor, noise.factors_m, noise.name)
                mean = head_vertices(problem.head, posterior(problem.head, at, wider).mean)
                off = np.asarray(at.to_world(mean))[hidden] - truth[hidden]
                errors[factor].append(float(np.sqrt((off**2).sum(1).mean())))
    means = {factor: 1e3 * float(np.mean(values)) for factor, values in errors.items()}
    print(f"{setting}: hidden error by inflation, mm: { ({f: round(m, 3) for f, m in means.items()}) }")
    best = min(means, key=lambda factor: means[factor])
    return NoiseModel(noise.sigma_m * best, noise.factors_m, noise.name)


ERRORS = {"exact": truncation, "realistic": simulated}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heads", type=int, default=200)
    parser.add_argument("--settings", nargs="+", choices=RANKS, default=list(RANKS), help="others in OUT are kept")
    parser.add_argument("--out", type=Path, default=LEARNT_NOISE)
    options = parser.parse_args()

    head = load_head()
    problem = prepare(head)
    truths = np.asarray(split("validation", options.heads).vertices, np.float64)
    approximations = best_approximation(head, truths)
    arrays = read_safetensors(options.out).arrays if options.out.is_file() else {}
    arrays = {name: array for name, array in arrays.items() if name.startswith(head.sha256)}
    for name in options.settings:
        error = ERRORS[name](problem, truths, approximations)
        noise = learn_noise(error, rank=RANKS[name], name=name, dtype=head.dtype)
        noise = inflated(noise, problem, name, max(options.heads // 25, 1))
        arrays |= noise_arrays(noise, head.sha256)
        size = 1e3 * np.sqrt((error**2).sum(2).mean())
        left = 1e3 * float(np.sqrt(3 * np.mean(np.asarray(noise.sigma_m) ** 2)))
        print(f"{name}: {size:.3f} mm RMS a vertex, of which {left:.3f} mm independent beside {RANKS[name]} patterns")
    write_safetensors(options.out, arrays, {})


if __name__ == "__main__":
    main()

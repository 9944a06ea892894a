"""Train the network that finds what hides a head in a photo, on rendered scenes of the training split.

    python -m tools.train_segment --work segment --out diverse3d/assets/segment.safetensors [--scenes N] [--steps N]

Scenes are compared with their fits once and kept in `--work`, a file each; both that and training go on where they
were stopped. Scenes in which no face is detected are left out. Each is seen beside the colours that the robust start
finds and beside those of its true skin, and changed anew at each step (`_vary.py`).
"""

import argparse
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.progress import track

from diverse3d import InputError
from diverse3d.files import read_npz, read_safetensors, write_npz, write_safetensors
from diverse3d.fit import FitConfig, FitProblem, cut, prepare
from diverse3d.head import load_head
from diverse3d.observe import observe_photo
from diverse3d.segment import (
    Comparison,
    Segmenter,
    State,
    begin,
    channels,
    compare,
    halved,
    new_segmenter,
    recolour,
    segmenter_arrays,
)
from scenes import OCCLUDERS, Scene, scenes

from ._vary import varied

BATCH, RATE, SEED = 8, 2e-3, 0
BESIDE = 0.3
"""What a pixel of the head beside its face counts."""
CHECKPOINT = 250


def true_mask(scene: Scene, state: State) -> np.ndarray:
    """Grid cells that don't show the true head for the most part."""
    side = state.around.weight.shape[0]
    seen = scene.skin.astype(np.uint8) * np.uint8(255)
    extent = side / float(state.around.scale)
    return halved(cut(seen, np.asarray(state.around.corner_px, np.float64), extent, side) / 255.0) < 0.5


def compared(scene: Scene, problem: FitProblem, config: FitConfig) -> dict[str, np.ndarray]:
    """Both comparisons of a scene with its truth; empty where no face is found."""
    try:
        photo = observe_photo(scene.rgb).photo
    except InputError:
        return {}
    state = begin(photo, problem, config)
    hidden = true_mask(scene, state)
    pairs = (compare(state), compare(recolour(state, 1.0 - hidden, config.weights)))
    planes = {f"{name}{i}": getattr(pair, name) for i, pair in enumerate(pairs) for name in Comparison._fields}
    return {"hidden": hidden} | {
        name: plane if plane.dtype == bool else plane.astype(np.float16) for name, plane in planes.items()
    }


def gathered(work: Path, count: int, occluders: tuple[str, ...]) -> list[dict[str, np.ndarray]]:
    """Comparisons of the first scenes, made where they aren't there yet."""
    problem, config = None, FitConfig()
    head = load_head()
    found = []
    for index in track(range(count), description="scenes"):
        path = work / f"{index:04d}.npz"
        if not path.is_file():
            problem = prepare(head) if problem is None else problem
            (scene,) = scenes("train", 1, index, head=head, occluders=(OCCLUDERS[index % len(OCCLUDERS)],))
            write_npz(path, compared(scene, problem, config))
        if OCCLUDERS[index % len(OCCLUDERS)] in occluders:
            found.append(read_npz(path))
    return [one for one in found if one]


def drawn(examples: list[dict[str, np.ndarray]], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A batch: planes, which pixels are hidden, and what each counts, of one in all for each photo."""
    made = []
    for index in rng.integers(len(examples), size=BATCH):
        one, colours = examples[index], int(rng.integers(2))
        pair = Comparison(*(np.asarray(one[f"{name}{colours}"]) for name in Comparison._fields))
        pair = Comparison(*(p if p.dtype == bool else p.astype(np.float64) for p in pair))
        other = examples[int(rng.integers(len(examples)))]["seen0"].astype(np.float64)
        pair, hidden = varied(pair, one["hidden"], other, rng)
        weight = pair.head * np.where(pair.face, 1.0, BESIDE)
        made.append((channels(pair), hidden.astype(np.float32), (weight / weight.sum()).astype(np.float32)))
    planes, hidden, weight = (np.stack(part) for part in zip(*made, strict=True))
    return planes, hidden, weight


@eqx.filter_jit
def _step(
    weights: Segmenter, state: optax.OptState, optimiser: optax.GradientTransformation,
    planes: jax.Array, hidden: jax.Array, weight: jax.Array,
) -> tuple[Segmenter, optax.OptState, jax.Array]:  # fmt: skip
    def loss(weights: Segmenter) -> jax.Array:
        odds = jax.vmap(weights)(planes)
        return jnp.sum(weight * optax.sigmoid_binary_cross_entropy(odds, hidden)) / BATCH

    value, gradient = jax.value_and_grad(loss)(weights)
    updates, state = optimiser.update(gradient, state, weights)
    return optax.apply_updates(weights, updates), state, value


def train(examples: list[dict[str, np.ndarray]], steps: int, checkpoint: Path) -> Segmenter:
    """Minimise the cross-entropy, every photo weighing the same; goes on from the checkpoint."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, RATE, 100, steps)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=1e-4))
    weights = new_segmenter(key=jax.random.key(SEED))
    state, first, mean = optimiser.init(weights), 0, 0.0
    tree = (weights, state)
    if checkpoint.is_file():
        stored = read_safetensors(checkpoint)
        leaves, plan = jax.tree.flatten(tree)
        weights, state = jax.tree.unflatten(plan, [jnp.asarray(stored.arrays[str(i)]) for i in range(len(leaves))])
        first = int(stored.texts["step"])
    for index in track(range(first, steps), description="steps"):
        batch = drawn(examples, np.random.default_rng([SEED, index]))
        weights, state, value = _step(weights, state, optimiser, *(jnp.asarray(part) for part in batch))
        mean += (float(value) - mean) / min(index - first + 1, 200)
        if (index + 1) % CHECKPOINT == 0:
            leaves = jax.tree.leaves((weights, state))
            write_safetensors(checkpoint, {str(i): np.asarray(one) for i, one in enumerate(leaves)},
                              {"step": str(index + 1)})  # fmt: skip
            print(f"step {index + 1}: cross-entropy {mean:.4f}", flush=True)
    return weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="the weights; without, comparisons are made and kept alone")
    parser.add_argument("--scenes", type=int, default=400)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--without", nargs="*", default=[], help="occluders left out, to test on them")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    occluders = tuple(name for name in OCCLUDERS if name not in arguments.without)
    examples = gathered(arguments.work, arguments.scenes, occluders)
    print(f"{len(examples)} scenes show a face", flush=True)
    if arguments.out is None:
        return
    left = "-".join(["checkpoint", *arguments.without])
    weights = train(examples, arguments.steps, arguments.work / f"{left}.safetensors")
    card = {
        "data": f"{len(examples)} rendered photos of the training split (of scenes 0 to {arguments.scenes - 1})",
        "occluders": ", ".join(occluders),
        "steps": f"{arguments.steps} of {BATCH} photos",
        "seed": str(SEED),
        "limits": "never saw a real photo",
    }
    write_safetensors(arguments.out, segmenter_arrays(weights), card)


if __name__ == "__main__":
    main()

"""`python -m meshvae`: train a masked VAE for any mesh from a folder of registered meshes, or say what weights hold."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from tyro.conf import Positional, subcommand

import meshvae


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """Train a masked VAE on registered meshes."""

    template: Positional[Path]
    """Mesh whose triangles all meshes share (.ply, .obj, .off); offsets are measured from it."""
    data: Path
    """Folder of registered meshes (.npz, .npy, .ply, .obj; CoMA's layout)."""
    out: Path
    """Folder to write: checkpoints, curves, weights."""
    preset: Literal["small", "small-spiral", "full"] = "small"
    """Size of the model."""
    split_by: Literal["subject", "expression"] = "subject"
    """What the held-back meshes share with no other."""
    steps: int = 20_000
    """Optimiser steps."""
    batch: int = 16
    """Meshes a step."""
    validate_every: int = 500
    """Steps between validations, each with a checkpoint."""
    seed: int = 0
    """Seed of everything random."""
    resume: bool = False
    """Go on from the newest checkpoint in the output folder."""

    def run(self) -> None:
        """Run the command."""
        template, faces = meshvae.read_mesh(self.template)
        meshes, subjects, expressions = meshvae.read_meshes(self.data, len(template))
        kept, back = meshvae.split_by_subject(subjects, expressions, by=self.split_by)
        offsets = meshes - template.astype(np.float32)
        scale = float(np.sqrt((offsets[kept] ** 2).sum(2).mean()))
        if scale == 0.0:
            raise meshvae.InputError(f"All meshes in {self.data} equal the template; there is nothing to learn.")
        offsets /= np.float32(scale)
        preset = meshvae.PRESETS[self.preset]
        hierarchy = meshvae.build_hierarchy(template, faces, method=preset.hierarchy, strides=preset.strides)
        meshvae.check_memory(preset, hierarchy, batch=self.batch)
        source = meshvae.MeshSource(
            draw=meshvae.from_array(offsets[kept]),
            held_back=offsets[back],
            template=jnp.asarray(template / scale, jnp.float32),
            pool=jnp.zeros((0, len(template)), bool),
            batch=min(self.batch, len(back)),
        )
        config = meshvae.TrainConfig(
            steps=self.steps, batch=self.batch, validate_every=self.validate_every, seed=self.seed
        )
        result = meshvae.train(
            meshvae.make_model(preset, hierarchy, key=jax.random.key(self.seed)),
            source,
            config,
            surface=meshvae.make_surface(template / scale, faces, dtype=jnp.float32),
            out=self.out,
            resume=self.resume,
            report=_say,
        )
        assert isinstance(result.model, meshvae.MaskedVAE | meshvae.ResidualVAE)
        card = {"data": str(self.data), "training": meshvae.training_record(config), "validation": result.figures}
        trained = meshvae.Trained(result.model, hierarchy, template, scale, scale, card)
        digest = meshvae.save_model(trained, self.out / "weights.safetensors")
        meshvae.draw_curves(self.out / "curves.csv", self.out / "curves.png")
        print(f"{self.out / 'weights.safetensors'}  {digest}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Info:
    """What a file of weights holds."""

    weights: Positional[Path]
    """File that `train` wrote."""

    def run(self) -> None:
        """Run the command."""
        trained = meshvae.load_model(self.weights)
        config = json.loads(trained.model.config.to_json())
        levels = list(trained.hierarchy.sizes)
        print(json.dumps({"sha256": trained.sha256, "levels": levels, "config": config, **trained.card}, indent=1))


def _say(at: meshvae.Progress) -> None:
    loss = at.figures["loss"]
    print(f"step {at.step} of {at.steps}: loss {loss:.4g}; {at.seconds_left:.0f} s left", file=sys.stderr, flush=True)


Command = Annotated[Train, subcommand("train")] | Annotated[Info, subcommand("info")]


def main() -> int:
    """Run the command line and return its exit code: 0, or 2 for bad input."""
    command = tyro.cli(Command, prog="python -m meshvae", config=(tyro.conf.FlagCreatePairsOff,))
    try:
        command.run()
    except meshvae.InputError as error:
        print("meshvae:", error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

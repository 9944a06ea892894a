"""Measure trained weights on the test split and write what was found into their model card, beside how they were made.

python -m tools.write_cards masked OUT/weights.safetensors diverse3d/assets/masked.safetensors --hours 1.3
"""

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np

import meshvae
from diverse3d.diversify import ComponentResidual, load_components, load_learned, save_components
from diverse3d.head import load_head
from diverse3d.head.population import split
from diverse3d.learn import component_figures, masked_figures

HEADS = {"masked": 16, "residual": 256}
"""Heads of the test split that are measured; those of the residual model differ by little."""
LIMITS = {
    "masked": "Rebuilds heads of the embedded head's population, no scans. One pass gives far "
    "too little spread, and the closed form is nearer to the truth.",
    "residual": "Made for the closed-form posterior of this head under the package's two noise settings, behind the "
    "package's occluder regions; other noise or masks are untested. On unusual faces its part is scaled down.",
}


def main() -> None:
    """Read, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=sorted(LIMITS))
    parser.add_argument("weights", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--hours", type=float, required=True, help="how long training took, and on what")
    parser.add_argument("--machine", default="2 CPU cores")
    options = parser.parse_args()
    head = load_head()
    heads = np.asarray(split("test", HEADS[options.kind]).vertices)
    notes = {"hours": options.hours, "machine": options.machine, "limits": LIMITS[options.kind]}
    if options.kind == "masked":
        trained = meshvae.load_model(options.weights)
        card = {
            **trained.card,
            **notes,
            "test": masked_figures(load_learned(head, "masked", options.weights), head, heads),
        }
        meshvae.save_model(dataclasses.replace(trained, card=card), options.out)
    else:
        model, card, digest = load_components(head, options.weights)
        card = {**card, **notes, "test": component_figures(ComponentResidual(digest, model), head, heads)}
        save_components(model, options.out, card=card)
    print(json.dumps(card, indent=1))


if __name__ == "__main__":
    main()

"""Build the embedded head's albedo, which needs nothing but the head: `python -m tools.build_albedo [--out FILE]`."""

import argparse
from pathlib import Path

from diverse3d.head.makehuman import build_albedo

ASSETS = Path(__file__).parents[1] / "diverse3d" / "assets"


def main() -> None:
    """Write the file and print what each component does at its peak."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ASSETS / "albedo.safetensors")
    options = parser.parse_args()
    for name, change in build_albedo(ASSETS / "head.safetensors", options.out).items():
        print(f"{name}: " + " ".join(f"{value:+.3f}" for value in change))


if __name__ == "__main__":
    main()

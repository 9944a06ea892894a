"""Textures: what the photo shows of a head, and for the rest the albedo model's colours, joined without a seam."""

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple, overload

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sparse
from jaxtyping import Array, Bool, Float, Int, UInt8
from scipy.ndimage import distance_transform_edt
from scipy.sparse.linalg import SuperLU, splu

from .._arrays import on_device
from .._errors import InputError
from ..fit import Appearance, Fit, PhotoFit
from ..head import Albedo, HeadModel
from ..observe import Photo
from ..surface import (
    compiled_normals,
    harmonics,
    host_normals,
    linear_from_srgb,
    rasterise,
    srgb_from_linear,
    unwrap,
)

TEXTURE_PX = 512
"""Width and height of a texture."""

Light = Literal["kept", "removed"]
"""`kept`: textures look as the photo does, its light and shadows painted on. `removed`: they hold the albedo."""

_FACING = 0.35
"""Least cosine between a normal and the view: what is more slanted is stretched out of few pixels of the photo."""

_LEAST_SHADE = 0.05
"""Shading below this share of full light is not divided by: shadows hold noise rather than colour."""

_LEAST_LIGHT = 1.5e-3
"""Linear light below which colours count as equally dark, as their logarithm is taken."""

_REACH = 30.0
"""Texels over which an edge's difference from the model fades into the usual one: hair beside a cheek tints no chin."""

_KEPT = 128
"""Textures that are kept once they are baked, 0.8 MB each: those of a thousand heads are not held at once."""

_SKIN = ("nose", "eye_region")
"""Regions whose differences from the model are the skin's; most of what else a photo shows may be hair or clothes."""


class Atlas(NamedTuple):
    """Which point of the surface each texel is; the same for every head of one topology."""

    uv: Float[np.ndarray, "V 2"]
    """Place of each vertex, u to the right and v upwards."""
    corners: Int[np.ndarray, "t 3"]
    """Vertices of the triangle that each used texel lies in."""
    weights: Float[np.ndarray, "t 3"]
    """The texel's barycentric weights in it."""
    texel: Int[np.ndarray, " t"]
    """Number of each used texel, row by row from the top."""
    nearest: Int[np.ndarray, " T*T"]
    """For every texel the used one (its row in the arrays above) whose colour it takes."""

    def at(self, values: np.ndarray) -> np.ndarray:
        """Values of vertices [V, …] at the used texels [t, …]."""
        return np.einsum("tk...,tk->t...", values[self.corners], self.weights)


class Textures(NamedTuple):
    """The textures of a result's meshes."""

    uv: Float[np.ndarray, "V 2"]
    """Place of each vertex in all of them, u to the right and v upwards."""
    fit: UInt8[np.ndarray, "T T 3"]
    """sRGB texture of the fit, the uppermost row first."""
    heads: Sequence[UInt8[np.ndarray, "T T 3"]]
    """Those of the completions."""


class Seen(NamedTuple):
    """What a photo gives to the texels of an atlas, under a fit."""

    given: Bool[np.ndarray, " t"]
    """Texels that the photo shows."""
    light: Float[np.ndarray, "t 3"]
    """Linear light in the photo; zero where not given."""
    joint: "Joint"
    """How the rest is joined to them."""


class Joint(NamedTuple):
    """Laplace's equation over the texels that are not given, factorised once."""

    solver: SuperLU | None
    """Its factors; None where there is nothing to solve."""
    edge: sparse.csr_matrix
    """How given texels enter its right-hand side, [texels not given, given texels]."""


def prepare_atlas(head: HeadModel, size: int = TEXTURE_PX) -> Atlas:
    """Lay the head's surface out on a texture of `size` by `size` texels; once a process for each head."""
    return _laid_out(
        np.asarray(head.template_m, np.float64).tobytes(), np.asarray(head.faces, np.int32).tobytes(), size
    )


@functools.lru_cache(maxsize=2)
def _laid_out(template_m: bytes, triangles: bytes, size: int) -> Atlas:
    template = np.frombuffer(template_m, np.float64).reshape(-1, 3)
    faces = np.frombuffer(triangles, np.int32).reshape(-1, 3)
    uv = unwrap(template, faces)
    points = on_device(size * np.stack([uv[:, 0], 1.0 - uv[:, 1]], axis=1), jnp.float32)
    depth = on_device(template[:, 2], jnp.float32)
    fragments = rasterise(points, depth, on_device(faces, jnp.int32), height=size, width=size)
    face = np.asarray(fragments.face).reshape(-1)
    texel = np.flatnonzero(face >= 0)
    weights = np.asarray(fragments.barycentric, np.float64).reshape(-1, 3)[texel]
    row = np.zeros(size * size, np.int64)
    row[texel] = np.arange(len(texel))
    # Texels between the charts take the nearest colour, so that filters at their edges find no other.
    places = distance_transform_edt(face.reshape(size, size) < 0, return_distances=False, return_indices=True)
    return Atlas(uv, faces[face[texel]], weights, texel, row[(places[0] * size + places[1]).reshape(-1)])


def textures(
    photo: Photo,
    fit: Fit,
    head: HeadModel,
    vertices_m: Float[Array, "N V 3"],
    appearance: Appearance | None = None,
    light: Light = "kept",
) -> Textures:
    """Textures of a fit and of its completions (world frame, metres); what is seen is the same in all of them.

    As `bake` otherwise.
    """
    atlas = prepare_atlas(head)
    parts = (photo, fit, head)
    seen = _remembered(_last_seen, parts, lambda: look(atlas, photo.rgb, photo.hidden, fit, head))
    baked = _baker(atlas, seen, fit, head, appearance, light)
    places = np.asarray(vertices_m)
    heads = Baked(lambda index: baked(places[index]), len(places))
    return Textures(atlas.uv, baked(np.asarray(fit.to_world(fit.vertices_m))), heads)


class Baked(Sequence[np.ndarray]):
    """Textures of heads, each baked when it is first looked at; the last `_KEPT` are kept. Asked for one after the
    other, they are made on all cores."""

    def __init__(self, bake_one: Callable[[int], np.ndarray], count: int) -> None:
        self._bake, self._count = functools.lru_cache(_KEPT)(bake_one), count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[np.ndarray]:
        ahead = os.cpu_count() or 1
        with ThreadPoolExecutor(ahead) as pool:
            for first in range(0, self._count, ahead):
                yield from pool.map(self._bake, range(first, min(first + ahead, self._count)))

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, index: slice) -> list[np.ndarray]: ...

    def __getitem__(self, index: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(self._count))]
        return self._bake(range(self._count)[index])


_last_seen: list[tuple[tuple[Any, ...], Any]] = []


def _remembered(last: list[tuple[tuple[Any, ...], Any]], parts: tuple[Any, ...], make: Callable[[], Any]) -> Any:
    """What was made of the very same parts the last time: who steers a result asks for its textures again and again."""
    for before, made in last:
        if len(before) == len(parts) and all(one is other for one, other in zip(before, parts, strict=True)):
            return made
    made = make()
    last[:] = [(parts, made)]
    return made


def look(
    atlas: Atlas,
    rgb: UInt8[np.ndarray, "H W 3"],
    hidden: Bool[np.ndarray, "H W"],
    fit: Fit,
    head: HeadModel,
) -> Seen:
    """Take the photo's colours to the texels whose surface is seen: in front, facing, and outside the mask.

    Pixels under the mask are never read. Raises `InputError` for the fit of a mesh, which has no camera.
    """
    if not isinstance(fit, PhotoFit):
        raise InputError("A texture needs a photo; this head was fitted to a mesh.")
    posed = np.asarray(fit.to_world(fit.vertices_m))
    pixels = atlas.at(np.asarray(fit.camera.project(posed), np.float64))
    facing = _unit(atlas.at(np.asarray(compiled_normals(posed, head.faces), np.float64)))[:, 2]
    given = (atlas.at(np.asarray(fit.visible, np.float64)) > 0.999) & (facing > _FACING)
    light, sound = _sample(rgb, hidden, pixels, _pixels_a_texel(atlas, pixels, given))
    given &= sound
    return Seen(given, np.where(given[:, None], light, 0.0), _join(atlas, given))


def bake(
    atlas: Atlas,
    seen: Seen,
    fit: Fit,
    head: HeadModel,
    vertices_m: Float[Array | np.ndarray, "*n V 3"],
    appearance: Appearance | None = None,
    light: Light = "kept",
) -> Iterator[UInt8[np.ndarray, "T T 3"]]:
    """The texture (sRGB, uppermost row first) of each head in turn; heads are in the fit's world frame, metres.

    Where nothing is seen, colours are the albedo model's: with the photo's coefficients and light, or its mean where
    `appearance` is None, which only goes with light `kept`. Raises `InputError` for a head without albedo.
    """
    baked = _baker(atlas, seen, fit, head, appearance, light)
    for one in np.asarray(vertices_m).reshape(-1, *vertices_m.shape[-2:]):
        yield baked(one)


def _baker(
    atlas: Atlas, seen: Seen, fit: Fit, head: HeadModel, appearance: Appearance | None, light: Light
) -> Callable[[Float[np.ndarray, "V 3"]], UInt8[np.ndarray, "T T 3"]]:
    """What bakes one head."""
    if head.albedo is None:
        raise InputError(f"The head '{head.name}' has no albedo, so hidden parts have no colours.")
    if appearance is None and light == "removed":
        raise InputError("Light can only be removed where it was estimated.")
    scalp, skin = (_within(atlas, head, names) for names in (("scalp",), _SKIN))
    zero = on_device(np.zeros(head.albedo.n_components), head.albedo.mean.dtype)
    albedo = _reflectance(head.albedo, zero if appearance is None else appearance.albedo)
    model = atlas.at(np.asarray(albedo, np.float64))
    photo = seen.light
    if appearance is not None and light == "removed":
        photo = photo / _shading(atlas, np.asarray(fit.to_world(fit.vertices_m)), head, appearance)
    photo = np.clip(photo, _LEAST_LIGHT, 1.0)
    size = round(len(atlas.nearest) ** 0.5)

    def baked(vertices_m: Float[np.ndarray, "V 3"]) -> UInt8[np.ndarray, "T T 3"]:
        lit = model
        if appearance is not None and light == "kept":
            lit = model * _shading(atlas, vertices_m, head, appearance)
        colour = _blend(seen, photo, np.clip(lit, _LEAST_LIGHT, None), scalp, skin)
        return srgb_from_linear(colour)[atlas.nearest].reshape(size, size, 3)

    return baked


@eqx.filter_jit
def _reflectance(albedo: Albedo, coefficients: Float[Array, " A"]) -> Float[Array, "V 3"]:
    return albedo(coefficients)


def _blend(
    seen: Seen,
    photo: Float[np.ndarray, "t 3"],
    model: Float[np.ndarray, "t 3"],
    scalp: Bool[np.ndarray, " t"],
    skin: Bool[np.ndarray, " t"],
) -> Float[np.ndarray, "t 3"]:
    """The photo where it shows something; elsewhere the model times a smooth factor that meets the photo at its edge.

    The factor's logarithm is harmonic (Pérez et al. 2003, in the logarithm, where light is an offset), and tends to
    its usual value far from any edge: that of the seen skin, or on the scalp that of the seen scalp, which is hair.
    """
    given = seen.given
    if not given.any() or seen.joint.solver is None:
        return np.where(given[:, None], photo, model)
    offset = np.zeros_like(model)
    offset[given] = np.log(photo[given]) - np.log(model[given])
    usual = [np.median(offset[given & part if (given & part).any() else given], axis=0) for part in (skin, scalp)]
    if not (given & scalp).any():
        usual[1] = usual[0]
    goal = np.where(scalp[:, None], usual[1], usual[0])
    rest = seen.joint.solver.solve(seen.joint.edge @ offset[given] + goal[~given] / _REACH**2)
    colour = photo.copy()
    colour[~given] = model[~given] * np.exp(rest)
    return colour


def _within(atlas: Atlas, head: HeadModel, names: tuple[str, ...]) -> Bool[np.ndarray, " t"]:
    """Texels in the named regions, of those that the head has."""
    flags = np.zeros(head.n_vertices)
    for name in names:
        flags[np.asarray(head.regions.get(name, []), np.int64)] = 1.0
    return atlas.at(flags) > 0.5


def _join(atlas: Atlas, given: Bool[np.ndarray, " t"]) -> Joint:
    """Laplace's equation, with a pull to the usual value, of the texels that are not given."""
    size = round(len(atlas.nearest) ** 0.5)
    number = np.full(size * size, -1)
    number[atlas.texel] = np.arange(len(atlas.texel))
    grid = number.reshape(size, size)
    pairs = np.concatenate(
        [
            np.stack([grid[:, :-1].ravel(), grid[:, 1:].ravel()], axis=1),
            np.stack([grid[:-1].ravel(), grid[1:].ravel()], axis=1),
        ]
    )
    pairs = pairs[(pairs >= 0).all(axis=1)]
    pairs = np.concatenate([pairs, pairs[:, ::-1]])
    adjacency = sparse.csr_matrix((np.ones(len(pairs)), pairs.T), shape=(len(given),) * 2)
    rest = np.flatnonzero(~given)
    rows = adjacency[rest]
    edge = sparse.csr_matrix(rows[:, np.flatnonzero(given)])
    if not len(rest) or not given.any():
        return Joint(None, edge)
    degree = np.asarray(rows.sum(axis=1)).ravel() + 1.0 / _REACH**2
    matrix = sparse.csc_matrix(sparse.diags(degree) - rows[:, rest])
    return Joint(splu(matrix, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}), edge)


def _shading(
    atlas: Atlas, vertices_m: Float[np.ndarray, "V 3"], head: HeadModel, appearance: Appearance
) -> Float[np.ndarray, "t 3"]:
    """Light on each texel of a posed head, as a factor of its albedo."""
    normals = _unit(atlas.at(host_normals(np.asarray(vertices_m, np.float64), np.asarray(head.faces))))
    shading = harmonics(normals) @ np.asarray(appearance.light, np.float64)
    return np.maximum(shading, _LEAST_SHADE * max(float(shading.max(initial=0.0)), _LEAST_SHADE))


def _pixels_a_texel(atlas: Atlas, pixels: Float[np.ndarray, "t 2"], given: Bool[np.ndarray, " t"]) -> float:
    """How many of the photo's pixels a seen texel is wide, in the middle of all."""
    adjacent = given[:-1] & given[1:] & (np.diff(atlas.texel) == 1)
    steps = np.linalg.norm(np.diff(pixels, axis=0), axis=1)[adjacent]
    return float(np.median(steps)) if len(steps) else 1.0


def _sample(
    rgb: UInt8[np.ndarray, "H W 3"],
    hidden: Bool[np.ndarray, "H W"],
    pixels: Float[np.ndarray, "t 2"],
    pixels_a_texel: float,
) -> tuple[Float[np.ndarray, "t 3"], Bool[np.ndarray, " t"]]:
    """Linear light at positions (pixel centres at +0.5), bilinear, and where all that it is made of is seen.

    A photo finer than the texture is shrunk first by a whole number, or texels would take single pixels of it.
    """
    block = max(min(int(pixels_a_texel), *hidden.shape), 1)
    height, width = (side // block * block for side in hidden.shape)
    shrunk = linear_from_srgb(rgb[:height, :width])
    shrunk = shrunk.reshape(height // block, block, width // block, block, 3).mean(axis=(1, 3))
    blocks = hidden[:height, :width].reshape(height // block, block, width // block, block)
    covered = np.asarray(blocks.any(axis=(1, 3)))
    column, row = (pixels / block - 0.5).T
    left, top = np.floor(column).astype(np.int64), np.floor(row).astype(np.int64)
    inside = (left >= 0) & (top >= 0) & (left + 1 < covered.shape[1]) & (top + 1 < covered.shape[0])
    left, top = np.where(inside, left, 0), np.where(inside, top, 0)
    total, sound = np.zeros((len(pixels), 3)), inside
    for down in (0, 1):
        for across in (0, 1):
            share = np.abs(1 - down - (row - top)) * np.abs(1 - across - (column - left))
            at = (np.minimum(top + down, covered.shape[0] - 1), np.minimum(left + across, covered.shape[1] - 1))
            total += share[:, None] * shrunk[at]
            sound = sound & ~covered[at]
    return total, sound


def _unit(vectors: Float[np.ndarray, "t 3"]) -> Float[np.ndarray, "t 3"]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)

"""Speed of the raster with the photometric gradient: which triangle each pixel sees, its colour, and derivatives."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import torch

from diverse3d.head import load_head
from diverse3d.surface import STUDIO_LIGHT, interpolate, rasterise, shade, vertex_normals

from ._timing import Case

SIDE = 224


def cases() -> Iterator[Case]:
    """One picture of the embedded head, and the gradient of its squared difference from another."""
    head = load_head(dtype=jnp.float32)
    vertices, faces = np.asarray(head.template_m), np.asarray(head.faces)
    low, high = vertices[:, :2].min(0), vertices[:, :2].max(0)
    scale = 0.9 * SIDE / float((high - low).max())
    centre = (low + high) / 2
    albedo = np.full((len(vertices), 3), 0.5, np.float32)
    goal = np.full((SIDE, SIDE, 3), 0.3, np.float32)
    light = np.repeat(STUDIO_LIGHT[:, None], 3, axis=1).astype(np.float32)

    def projected(at: jax.Array) -> jax.Array:
        return (at[:, :2] - centre[None, :].astype(np.float32)) * jnp.asarray([scale, -scale], jnp.float32) + SIDE / 2

    @jax.jit
    def gradient(at: jax.Array) -> tuple[jax.Array, jax.Array]:
        def loss(at: jax.Array) -> jax.Array:
            seen = rasterise(projected(at), at[:, 2], jnp.asarray(faces), height=SIDE, width=SIDE)
            lit = shade(jnp.asarray(albedo), vertex_normals(at, jnp.asarray(faces)), jnp.asarray(light))
            return jnp.sum((interpolate(seen, lit, jnp.asarray(faces)) - goal) ** 2)

        return jax.value_and_grad(loss)(at)

    ours_at = jnp.asarray(vertices)

    def ours() -> object:
        return jax.block_until_ready(gradient(ours_at))

    theirs = _Torch(vertices, faces, albedo, light, goal, scale, centre)
    name = f"raster and photometric gradient/{SIDE} px, {len(faces)} triangles"
    yield name, lambda: {"ours": ours, "usual": lambda: theirs(tiles=True), "matched": lambda: theirs(tiles=False)}


class _Torch:
    """The same in PyTorch's tensor operations: one tile for every triangle, or the pixels of its own box."""

    def __init__(
        self,
        vertices: np.ndarray,
        faces: np.ndarray,
        albedo: np.ndarray,
        light: np.ndarray,
        goal: np.ndarray,
        scale: float,
        centre: np.ndarray,
    ) -> None:
        self.vertices, self.faces = torch.tensor(vertices), torch.tensor(faces).long()
        self.albedo, self.light = torch.tensor(albedo), torch.tensor(light)
        self.goal, self.scale, self.centre = torch.tensor(goal), scale, torch.tensor(centre, dtype=torch.float32)
        rows, columns = np.divmod(np.arange(SIDE * SIDE), SIDE)
        self.centres = torch.tensor(np.stack([columns, rows], 1) + 0.5, dtype=torch.float32)
        factors = [0.282095, *[0.488603 * 2 / 3] * 3, *[1.092548 / 4] * 3, 0.315392 / 4, 0.546274 / 4]
        self.factors = torch.tensor(factors)

    def __call__(self, *, tiles: bool) -> object:
        at = self.vertices.clone().requires_grad_(True)
        points = (at[:, :2] - self.centre) * torch.tensor([self.scale, -self.scale]) + SIDE / 2
        with torch.no_grad():
            seen = self._by_tiles(points, at[:, 2]) if tiles else self._by_boxes(points, at[:, 2])
        corners = self.faces[seen.clamp(min=0)]
        weights = self._weights(points[corners], self.centres)
        lit = self.albedo * (self._harmonics(self._normals(at)) @ self.light)
        picture = torch.where((seen >= 0)[:, None], (weights[:, :, None] * lit[corners]).sum(1), 0.0)
        loss = ((picture - self.goal.reshape(-1, 3)) ** 2).sum()
        return torch.autograd.grad(loss, at)[0]

    def _by_tiles(self, points: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
        corners = points[self.faces]
        low = torch.floor(corners.min(1).values).long()
        side = int((torch.ceil(corners.max(1).values).long() - low).max()) + 1
        steps = torch.arange(side)
        x, y = low[:, 0, None, None] + steps[None, None, :], low[:, 1, None, None] + steps[None, :, None]
        inside = ((x >= 0) & (x < SIDE) & (y >= 0) & (y < SIDE)).reshape(-1)
        pixel = (y * SIDE + x).reshape(-1)[inside]
        face = torch.arange(len(self.faces))[:, None].expand(-1, side * side).reshape(-1)[inside]
        return self._resolve(points, near, face, pixel)

    def _by_boxes(self, points: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
        corners = points[self.faces]
        low = torch.ceil(corners.min(1).values - 0.501).clip(0, SIDE).long()
        high = torch.floor(corners.max(1).values - 0.499).clip(-1, SIDE - 1).long()
        size = (high - low + 1).clip(min=0)
        count = size.prod(1)
        face = torch.repeat_interleave(count)
        within = torch.arange(len(face)) - (count.cumsum(0) - count)[face]
        y, x = low[face, 1] + within // size[face, 0], low[face, 0] + within % size[face, 0]
        return self._resolve(points, near, face, y * SIDE + x)

    def _resolve(
        self, points: torch.Tensor, near: torch.Tensor, face: torch.Tensor, pixel: torch.Tensor
    ) -> torch.Tensor:
        corners = self.faces[face]
        weights = self._weights(points[corners], self.centres[pixel])
        inside = (weights >= -1e-5).all(1)
        face, pixel, depth = face[inside], pixel[inside], (weights * near[corners]).sum(1)[inside]
        best = torch.full((SIDE * SIDE,), -torch.inf).scatter_reduce(0, pixel, depth, "amax")
        won = depth == best[pixel]
        return torch.full((SIDE * SIDE,), -1).scatter_reduce(0, pixel[won], face[won], "amax")

    @staticmethod
    def _weights(corners: torch.Tensor, point: torch.Tensor) -> torch.Tensor:
        a, b, c = corners.unbind(-2)

        def cross(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]

        area = cross(b - a, c - a)
        safe = torch.where(area.abs() < 1e-9, torch.ones_like(area), area)
        first, second = cross(b - point, c - point) / safe, cross(c - point, a - point) / safe
        weights = torch.stack([first, second, 1 - first - second], -1)
        return torch.where((area.abs() < 1e-9)[..., None], -torch.ones_like(weights), weights)

    def _normals(self, at: torch.Tensor) -> torch.Tensor:
        a, b, c = at[self.faces].unbind(1)
        normal = torch.linalg.cross(b - a, c - a)
        total = torch.zeros_like(at).index_add(0, self.faces.reshape(-1), normal.repeat_interleave(3, 0))
        return total / total.norm(dim=1, keepdim=True).clamp(min=1e-20)

    def _harmonics(self, normals: torch.Tensor) -> torch.Tensor:
        x, y, z = normals.unbind(1)
        terms = [torch.ones_like(x), x, y, z, x * y, y * z, x * z, 3 * z**2 - 1, x**2 - y**2]
        return torch.stack(terms, 1) * self.factors

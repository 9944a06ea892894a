"""The z-buffer against two that others wrote: rays by embree, and OpenGL by moderngl, on heads from every side."""

import jax.numpy as jnp
import moderngl
import numpy as np
import pytest
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from helpers import rotation_about

from diverse3d.head import load_head
from diverse3d.surface import rasterise

SIDE = 224
POSES = [(yaw, 15 * (i % 3 - 1)) for i, yaw in enumerate(np.linspace(-90, 90, 20))]
"""Degrees from one profile to the other, looking down, straight and up in turn."""
CLEAR_PX = 0.02
"""How far from the edges of both triangles a pixel's centre must lie to count; OpenGL itself moves corners by up to
1/512 pixel along each axis."""


@pytest.fixture(scope="module")
def heads():
    """Two random heads and one with its mouth wide open [3, V, 3], metres, and their triangles [F, 3]."""
    head = load_head(dtype=np.float32)
    basis = np.asarray(head.components_m).reshape(head.n_components, -1, 3)
    mean = np.asarray(head.prior_mean)
    drawn = mean + np.random.default_rng(4).normal(size=(2, head.n_components))

    def lips_apart(points):
        corners = points[..., np.asarray(head.landmarks68.corners)[[62, 66]], 1]
        upper, lower = np.moveaxis((corners * np.asarray(head.landmarks68.barycentric)[[62, 66]]).sum(-1), -1, 0)
        return upper - lower

    # The likeliest coefficients whose lips are 3 cm apart: the gap is linear in them.
    wider = lips_apart(basis)
    missing = 0.03 - lips_apart(np.asarray(head.template_m)) - wider @ mean
    coefficients = [*drawn, mean + missing * wider / (wider @ wider)]
    return np.asarray(head.template_m) + np.einsum("nk,kvd->nvd", coefficients, basis), np.asarray(head.faces)


def turned(vertices, yaw, pitch):
    """A head turned by so many degrees and drawn to fill the picture: x right, y down, z nearer, in pixels [V, 3]."""
    rotation = rotation_about([1, 0, 0], np.radians(pitch)) @ rotation_about([0, 1, 0], np.radians(yaw))
    vertices = vertices @ rotation.T
    low, high = vertices.min(0), vertices.max(0)
    at = (vertices - (low + high) / 2) * [1, -1, 1] * 0.95 * SIDE / (high - low)[:2].max()
    return (at + [SIDE / 2, SIDE / 2, 0]).astype(np.float32)


def from_edges(at, faces, face):
    """Distance in pixels of every pixel's centre from the nearest edge of the triangle that holds it; ∞ for none."""
    rows, columns = np.nonzero(face >= 0)
    corners = at[faces[face[rows, columns]], :2] - np.stack([columns, rows], 1)[:, None] - 0.5
    x, y = np.moveaxis(corners.astype(float), -1, 0)
    next_x, next_y = np.roll(x, -1, axis=1), np.roll(y, -1, axis=1)
    distance = np.full(face.shape, np.inf)
    distance[rows, columns] = (np.abs(x * next_y - y * next_x) / np.hypot(next_x - x, next_y - y)).min(1)
    return distance


def by_embree(at, faces):
    """Triangle and nearness at every pixel: one ray through each centre, against z."""
    scene = EmbreeScene()
    mesh = TriangleMesh(scene, at, faces.astype(np.int32))
    x, y = np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5)
    start = np.stack([x.ravel(), y.ravel(), np.full(x.size, 2.0 * SIDE)], 1).astype(np.float32)
    hit = scene.run(start, np.tile(np.float32([[0, 0, -1]]), (len(start), 1)), output=1)
    del mesh  # the scene draws it from there: it must live till here
    return hit["primID"].reshape(SIDE, SIDE), 2 * SIDE - hit["tfar"].reshape(SIDE, SIDE)


def by_opengl(at, faces):
    """Triangle and nearness at every pixel, by the driver's own rasteriser and depth test."""
    try:
        context = moderngl.create_context(standalone=True, backend="egl")
    except Exception as error:
        pytest.skip(f"no OpenGL without a display on this machine: {error}")
    with context:
        program = context.program(
            vertex_shader="""#version 330
            uniform float side; in vec3 at; out float nearness;
            void main() { nearness = at.z; gl_Position = vec4(at.xy / side * 2 - 1, -at.z / side, 1); }""",
            fragment_shader="""#version 330
            in float nearness; out vec2 seen;
            void main() { seen = vec2(gl_PrimitiveID + 1, nearness); }""",
        )
        program["side"].value = SIDE
        picture = context.texture((SIDE, SIDE), 2, dtype="f4")
        buffer = context.framebuffer([picture], context.depth_texture((SIDE, SIDE)))
        buffer.use()
        buffer.clear()
        context.enable_only(moderngl.DEPTH_TEST)
        corners = context.buffer(at.tobytes())
        order = context.buffer(faces.astype(np.int32).tobytes())
        context.vertex_array(program, [(corners, "3f", "at")], order).render()
        seen = np.frombuffer(picture.read(), np.float32).reshape(SIDE, SIDE, 2)
    context.release()
    return seen[..., 0].astype(int) - 1, seen[..., 1]


@pytest.fixture(scope="module")
def drawings(heads):
    """Every head in every pose: its points in pixels [V, 3], its triangles [F, 3] and what we draw."""
    shapes, faces = heads
    pictures = [turned(vertices, *pose) for vertices in shapes for pose in POSES]
    draw = lambda at: rasterise(at[:, :2], at[:, 2], jnp.asarray(faces), height=SIDE, width=SIDE)  # noqa: E731
    return [(at, faces, draw(jnp.asarray(at))) for at in pictures]


@pytest.mark.parametrize("oracle", [by_embree, by_opengl])
def test_heads_from_every_side_agree_with_an_oracle(drawings, oracle):
    for at, faces, drawn in drawings:
        ours, (theirs, nearness) = np.asarray(drawn.face), oracle(at, faces)
        clear = np.minimum(from_edges(at, faces, ours), from_edges(at, faces, theirs)) > CLEAR_PX
        seen, same = (ours >= 0) | (theirs >= 0), ours == theirs
        assert seen.mean() > 0.3 and clear[seen].mean() > 0.9
        assert same[seen & clear].mean() >= 0.999 and same[seen].mean() > 0.995
        assert np.abs(np.asarray(drawn.nearness) - nearness)[seen & same].max() < 0.02  # pixels, as x and y

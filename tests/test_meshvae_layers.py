"""The layers: every form equals the edge-by-edge reference, adjoints, derivatives, relabelling."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trimesh

from meshvae import ModelConfig, build_hierarchy
from meshvae._blocks import Block, Step, _transposed, init_block, make_steps
from meshvae._hierarchy import Edges
from meshvae._pattern import Pattern, _arranged, _unions, make_pattern, product_cost
from meshvae._spiral import SpiralConv, fixed_point, init_spiral, transfer
from meshvae._vcconv import VcConv, VdPool, init_vcconv, init_vdpool

C_IN, C_OUT, KERNELS = 5, 4, 3


@pytest.fixture(scope="module")
def hierarchy():
    sphere = trimesh.creation.icosphere(2)
    return build_hierarchy(sphere.vertices.copy(), sphere.faces.astype(np.int64), strides=(2, 1))


@pytest.fixture(scope="module", params=["down", "up", "ring"])
def edges(request, hierarchy) -> tuple[Edges, int, int]:
    pool, (fine, coarse) = hierarchy.transitions[0].pool, hierarchy.sizes
    return {
        "down": (pool, coarse, fine),
        "up": (_transposed(pool), fine, coarse),
        "ring": (hierarchy.levels[0].ring, fine, fine),
    }[request.param]


def forms(edges: Edges, n_out: int, n_in: int) -> dict[str, Pattern]:
    """The reference and every way to arrange the pattern."""
    result = {"reference": make_pattern(edges, n_out, n_in, channels=(C_IN, C_OUT, KERNELS), form="reference")}
    for rows in (16, n_out):
        for basis_first in (False, True):
            result[f"{rows} {basis_first}"] = _arranged(
                edges, n_out, n_in, rows, basis_first, _unions(edges, n_out, rows)
            )
    return result


def assert_derivative(function, tree, rng):
    """The gradient along a random direction against a central difference."""
    direction = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), tree)
    function = jax.jit(function)
    gradient = jax.jit(jax.grad(function))(tree)
    along = sum(jnp.vdot(g, d) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True))

    def moved(step):
        return function(jax.tree.map(lambda leaf, d: leaf + step * d, tree, direction))

    np.testing.assert_allclose(along, (moved(1e-6) - moved(-1e-6)) / 2e-6, rtol=1e-6)


def vcconv(pattern: Pattern, seed: int = 0) -> VcConv:
    return init_vcconv(pattern, C_IN, C_OUT, KERNELS, rng=np.random.default_rng(seed))


def test_every_form_equals_the_reference_forward_and_backward(edges, single_precision, rng):
    made = forms(*edges)
    layer = vcconv(made["reference"])
    pool = VdPool(jnp.asarray(rng.normal(size=edges[0].rows.size), jnp.float32))
    x = jnp.asarray(rng.normal(size=(edges[2], C_IN)), jnp.float32)
    weight = jnp.asarray(rng.normal(size=(edges[1], C_OUT)), jnp.float32)

    def value(layers, x, pattern):
        conv, pool = layers
        y, pooled = conv(x, pattern), pool(x, pattern)
        return jnp.sum(y * weight) + jnp.sum(jnp.sin(pooled)), (y, pooled)

    def evaluate(pattern):
        return jax.jit(jax.value_and_grad(lambda a, x: value(a, x, pattern), argnums=(0, 1), has_aux=True))(
            (layer, pool), x
        )

    expected = (
        jax.tree.leaves(evaluate(made.pop("reference"))[0][1]),
        jax.tree.leaves(evaluate(make_reference(edges))[1]),
    )
    for name, pattern in made.items():
        (_, outputs), gradients = evaluate(pattern)
        for got, want in zip((*outputs, *jax.tree.leaves(gradients)), (*expected[0], *expected[1]), strict=True):
            assert got.dtype == jnp.float32
            scale = float(jnp.max(jnp.abs(want)))
            np.testing.assert_allclose(got, want, atol=1e-5 * scale, rtol=0, err_msg=name)


def make_reference(edges) -> Pattern:
    return make_pattern(*edges, channels=(C_IN, C_OUT, KERNELS), form="reference")


def test_the_reference_is_the_formula(edges, rng):
    pattern = make_reference(edges)
    layer = vcconv(pattern)
    layer = eqx.tree_at(lambda conv: conv.bias, layer, jnp.asarray(rng.normal(size=layer.bias.shape)))
    pool = VdPool(jnp.asarray(rng.normal(size=edges[0].rows.size)))
    x = rng.normal(size=(edges[2], C_IN))
    expected, pooled, total = np.array(layer.bias), np.zeros((edges[1], C_IN)), np.zeros(edges[1])
    for e, (i, j) in enumerate(zip(edges[0].rows, edges[0].columns, strict=True)):
        weight = sum(float(layer.alpha[e, m]) * np.asarray(layer.basis[m]) for m in range(KERNELS))
        expected[i] += x[j] @ weight
        pooled[i] += abs(float(pool.weights[e])) * x[j]
        total[i] += abs(float(pool.weights[e]))
    np.testing.assert_allclose(layer(jnp.asarray(x), pattern), expected, atol=1e-10)
    np.testing.assert_allclose(pool(jnp.asarray(x), pattern), pooled / total[:, None], atol=1e-4)


def test_the_transposed_convolution_is_the_adjoint(hierarchy, rng):
    pool, (fine, coarse) = hierarchy.transitions[0].pool, hierarchy.sizes
    down = make_pattern(pool, coarse, fine, channels=(C_IN, C_OUT, KERNELS), form="block")
    up = make_pattern(_transposed(pool), fine, coarse, channels=(C_OUT, C_IN, KERNELS), form="dense")
    layer = vcconv(down)
    order = np.lexsort((pool.rows, pool.columns))
    x, u = jnp.asarray(rng.normal(size=(fine, C_IN))), jnp.asarray(rng.normal(size=(coarse, C_OUT)))
    there = jnp.vdot(u, down.convolve(layer.alpha, layer.basis, x))
    back = jnp.vdot(up.convolve(layer.alpha[order], layer.basis.transpose(0, 2, 1), u), x)
    np.testing.assert_allclose(there, back, rtol=1e-10)


@pytest.mark.parametrize("form", ["dense", "block"])
def test_derivatives_by_finite_differences(hierarchy, form, rng):
    pool, (fine, coarse) = hierarchy.transitions[0].pool, hierarchy.sizes
    pattern = make_pattern(pool, coarse, fine, channels=(C_IN, C_OUT, KERNELS), form=form)
    layer, pooling = vcconv(pattern), VdPool(jnp.asarray(rng.uniform(0.5, 1.0, pool.rows.size)))
    x = jnp.asarray(rng.normal(size=(fine, C_IN)))
    assert_derivative(lambda tree: jnp.sum(jnp.tanh(tree[0](tree[1], pattern))), (layer, x), rng)
    assert_derivative(lambda tree: jnp.sum(jnp.tanh(tree[0](tree[1], pattern))), (pooling, x), rng)


def test_a_batch_gives_what_its_samples_give(edges, rng):
    pattern = forms(*edges)["16 False"]
    layer = vcconv(pattern)
    x = jnp.asarray(rng.normal(size=(3, edges[2], C_IN)))
    together = jax.vmap(lambda x: layer(x, pattern))(x)
    np.testing.assert_allclose(together, jnp.stack([layer(one, pattern) for one in x]), atol=1e-12)


def test_relabelled_outputs_and_inputs_carry_the_parameters_along(edges, rng):
    """The same edges under other numbers, with their coefficients, give the same outputs under those numbers."""
    pattern, n_out, n_in = edges
    new_out, new_in = rng.permutation(n_out), rng.permutation(n_in)
    rows, columns = new_out[pattern.rows], new_in[pattern.columns]
    order = np.lexsort((columns, rows))
    relabelled = Edges(rows[order].astype(np.int32), columns[order].astype(np.int32))
    layer = vcconv(make_reference(edges))
    moved_bias = jnp.zeros_like(layer.bias).at[new_out].set(layer.bias)
    moved = VcConv(layer.alpha[order], layer.basis, moved_bias)
    x = jnp.asarray(rng.normal(size=(n_in, C_IN)))
    before = layer(x, make_pattern(pattern, n_out, n_in, channels=(C_IN, C_OUT, KERNELS)))
    after = moved(
        jnp.zeros_like(x).at[new_in].set(x), make_pattern(relabelled, n_out, n_in, channels=(C_IN, C_OUT, KERNELS))
    )
    np.testing.assert_allclose(after[new_out], before, atol=1e-10)


def test_a_mean_keeps_constants_and_survives_zero_weights(edges):
    constant = jnp.full((edges[2], 2), 3.0)
    made = forms(*edges)
    for name in ("reference", "16 False", f"{edges[1]} False"):
        pattern = made[name]
        ones = init_vdpool(pattern).weights
        mean = jax.jit(lambda weights, pattern=pattern: jnp.mean(VdPool(weights)(constant, pattern)))
        derivative = jax.jit(jax.grad(mean))
        for weights in (ones, -ones, 0.0 * ones):
            np.testing.assert_allclose(mean(weights), 3.0, rtol=1e-12, err_msg=name)
            assert jnp.all(jnp.isfinite(derivative(weights)))


def test_convolution_keeps_the_variance(edges, rng):
    """At the start, for inputs that agree with their neighbours and for inputs that do not."""
    pattern = make_pattern(*edges, channels=(32, 32, 8))
    layer = init_vcconv(pattern, 32, 32, 8, rng=np.random.default_rng(1))
    for x in (rng.normal(size=(edges[2], 32)), np.repeat(rng.normal(size=(1, 32)), edges[2], axis=0)):
        assert 0.7 < float(jnp.std(layer(jnp.asarray(x), pattern))) < 1.4


def test_the_automatic_form_is_the_cheapest(edges):
    channels = (16, 16, 8)
    pattern = make_pattern(*edges, channels=channels)
    assert pattern.slots is not None
    chosen = product_cost(*pattern.slots.shape, edges[2], channels, pattern.basis_first)
    for other in forms(*edges).values():
        if other.slots is not None:
            assert chosen <= product_cost(*other.slots.shape, edges[2], channels, other.basis_first)


@pytest.mark.parametrize("c_out", [1, 8])
def test_a_spiral_convolution_is_the_formula(hierarchy, c_out, rng):
    """One channel out applies the matrices before it gathers, eight after; both are the sum over the spiral."""
    spiral = hierarchy.levels[0].spiral[:, :9]
    layer = init_spiral(9, C_IN, c_out, rng=rng)
    layer = eqx.tree_at(lambda conv: conv.bias, layer, jnp.asarray(rng.normal(size=c_out)))
    x = rng.normal(size=(spiral.shape[0], C_IN))
    expected = sum(x[spiral[:, s]] @ np.asarray(layer.weights[s]) for s in range(9)) + np.asarray(layer.bias)
    np.testing.assert_allclose(layer(jnp.asarray(x), spiral), expected, atol=1e-10)
    assert_derivative(lambda tree: jnp.sum(jnp.tanh(tree[0](tree[1], spiral))), (layer, jnp.asarray(x)), rng)


def test_transfer_weights_are_no_parameters(hierarchy, rng):
    weights = hierarchy.transitions[0].transfer_weights
    fixed = fixed_point(weights)
    assert not eqx.is_inexact_array(fixed)
    x = rng.normal(size=(hierarchy.sizes[1], 2))
    carried = transfer(jnp.asarray(x), hierarchy.transitions[0].transfer, fixed)
    expected = np.einsum("vk,vkd->vd", weights, x[hierarchy.transitions[0].transfer])
    np.testing.assert_allclose(carried, expected, atol=1e-6)


@pytest.mark.parametrize("family", ["vcconv", "spiral"])
@pytest.mark.parametrize("direction", ["down", "up"])
@pytest.mark.parametrize("c_out", [3, 6])
def test_a_block_mixes_two_ways(hierarchy, family, direction, c_out, rng):
    config = ModelConfig(family=family, strides=(2, 1), channels=(6,), basis=2, latent_channels=4, residual_share=0.75)
    down, up = make_steps(config, hierarchy)
    step: Step = (down if direction == "down" else up)[0]
    block: Block = init_block(step, 4, c_out, config, rng=rng)
    assert block.residual is not None
    x = jnp.asarray(rng.normal(size=(step.n_in, 4)))
    straight = Block(block.conv, None, 0.0, False)(x, step)
    mixed = 0.5 * jax.nn.elu(straight) + 0.75**0.5 * block.residual(x, step)
    np.testing.assert_allclose(block(x, step), mixed, atol=1e-12)
    assert block(x, step).shape == (step.n_out, c_out)
    assert (block.residual.channel is None) == (c_out == 4)
    assert isinstance(block.conv, SpiralConv if family == "spiral" else VcConv)


def test_dilation_takes_every_other_vertex(hierarchy):
    config = ModelConfig(family="spiral", strides=(2, 1), channels=(6,), spiral_length=5, spiral_dilation=3)
    step = make_steps(config, hierarchy)[1][1]
    np.testing.assert_array_equal(step.spiral, hierarchy.levels[1].spiral[:, 0:15:3])

"""The properties that every writer must have, as a class of tests for pytest to run over a table of writers.

A writer of your own joins by a line in `WRITERS`; a table of your own is tested by

    @pytest.mark.parametrize("writer", TABLE.values(), ids=TABLE.keys())
    class TestMine(WriterSuite):
        pass
"""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mnm_jax as mnm
from mnm_jax.writers import Writer

WRITERS: dict[str, Writer] = {
    "gradient": mnm.writers.gradient(),
    "gradient_two_steps": mnm.writers.gradient(num_steps=2),
    "local": mnm.writers.local(),
    "local_hidden": mnm.writers.local(hidden_size=4),
    "local_key": mnm.writers.local(use_key=True),
    "local_activations": mnm.writers.local(use_activations=True),
}

NUM_HEADS = 2
NUM_STEPS = 3
INPUT_SIZE = 3

# Every width differs, so that no factor fits a layer that it does not belong to.
SPECS = {
    use_bias: mnm.memory.Spec(3, 2, hidden_sizes=(4, 5), use_bias=use_bias, zero_output_layer=False)
    for use_bias in (False, True)
}


RATES = np.full((3, NUM_HEADS), 0.5, np.float32)


def draw_variables(cell: nn.Module, first_inputs):
    """Variables for a cell, away from their initial values: random weights of variance one over their first axis."""
    shapes = jax.eval_shape(cell.init, jax.random.key(0), None, first_inputs)
    draw = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(draw.normal(size=leaf.shape) / leaf.shape[0] ** 0.5), shapes)


@functools.cache
def example(writer: Writer, use_bias: bool):
    """The writer's parameters, a memory, keys and values."""
    spec = SPECS[use_bias]
    rng_params, rng_memory = jax.random.split(jax.random.key(0))
    draw = np.random.default_rng(1)
    keys = draw.normal(size=(NUM_HEADS, spec.key_size)).astype(np.float32)
    values = draw.normal(size=(NUM_HEADS, spec.value_size)).astype(np.float32)
    return writer.init(rng_params, spec), mnm.memory.init(rng_memory, spec), keys, values


@functools.cache
def compiled_write(writer: Writer):
    return jax.jit(writer.write)


def make_cell(writer: Writer) -> mnm.cells.MNM:
    # The plainest controller compiles fastest, and the writer is what is tested.
    spec = mnm.memory.Spec(3, 2, hidden_sizes=(4,), use_bias=True, zero_output_layer=False)
    return mnm.cells.MNM(2, 4, spec, writer, num_heads=NUM_HEADS, controller=nn.SimpleCell)


@functools.cache
def compiled_gradient(writer: Writer):
    """A jitted outer gradient, the list of the cells that it was traced for, and its arguments in float64."""
    traced = []

    @functools.partial(jax.jit, static_argnames=("cell", "reversible"))
    def gradient(cell, variables, inputs, reversible=True):
        traced.append(cell)

        def loss(variables, inputs):
            carry, outputs, trace = mnm.unroll(cell, variables, inputs, reversible=reversible)
            return jnp.square(outputs - 1).sum() + trace.error_after.mean() + jnp.square(carry.read).sum()

        return jax.grad(loss, argnums=(0, 1))(variables, inputs)

    inputs = np.random.default_rng(2).normal(size=(NUM_STEPS, INPUT_SIZE))
    return gradient, traced, draw_variables(make_cell(writer), inputs[0]), inputs


class WriterSuite:
    """Tests that take any `Writer`."""

    @pytest.mark.parametrize("use_bias", [False, True], ids=["kernels", "biases"])
    def test_factors_fit_every_layer(self, writer, use_bias):
        params, memory, keys, values = example(writer, use_bias)
        write = compiled_write(writer)(params, memory, keys, values, RATES)
        assert len(write.pre) == len(write.post) == len(memory)
        rank = write.pre[0].shape[0]
        for layer, pre, post in zip(memory, write.pre, write.post, strict=True):
            assert pre.shape == (rank, layer.kernel.shape[0])
            assert post.shape == (rank, layer.kernel.shape[1])
            assert pre.dtype == post.dtype == layer.kernel.dtype
        after = mnm.memory.apply(memory, write)
        chex.assert_trees_all_equal_shapes_and_dtypes(after, memory)
        changed = jax.tree.map(lambda old, new: bool(np.any(old != new)), memory, after)
        assert jax.tree.all(changed)

    @pytest.mark.parametrize("use_bias", [False, True], ids=["kernels", "biases"])
    def test_rate_zero_leaves_the_memory_bit_for_bit(self, writer, use_bias):
        params, memory, keys, values = example(writer, use_bias)
        write = compiled_write(writer)(params, memory, keys, values, 0 * RATES)
        chex.assert_trees_all_equal(mnm.memory.apply(memory, write), memory)

    def test_rate_broadcasts_to_layers_and_heads(self, writer):
        params, memory, keys, values = example(writer, True)
        whole = writer.write(params, memory, keys, values, RATES)
        for shape in [(), (NUM_HEADS,), (len(memory), 1)]:
            write = writer.write(params, memory, keys, values, np.full(shape, 0.5, np.float32))
            chex.assert_trees_all_equal(write, whole)

    def test_rate_of_a_layer_writes_that_layer_alone(self, writer):
        params, memory, keys, values = example(writer, True)
        for written in range(len(memory)):
            rates = np.where(np.arange(len(memory))[:, None] == written, RATES, 0)
            after = mnm.memory.apply(memory, compiled_write(writer)(params, memory, keys, values, rates))
            for i, (old, new) in enumerate(zip(memory, after, strict=True)):
                same = np.array_equal(old.kernel, new.kernel) and np.array_equal(old.bias, new.bias)
                assert same == (i != written)

    def test_revert_takes_the_write_back(self, writer):
        params, memory, keys, values = example(writer, True)
        write = compiled_write(writer)(params, memory, keys, values, RATES)
        restored = mnm.memory.revert(mnm.memory.apply(memory, write), write)
        chex.assert_trees_all_close(restored, memory, rtol=1e-6, atol=1e-6)

    def test_is_pure(self, writer):
        arguments = (*example(writer, True), RATES)
        copies = jax.tree.map(np.copy, arguments)
        first = compiled_write(writer)(*arguments)
        second = compiled_write(writer)(*copies)
        chex.assert_trees_all_equal(first, second)
        chex.assert_trees_all_equal(jax.tree.map(np.asarray, arguments), copies)

    def test_same_seed_gives_same_parameters(self, writer):
        params, *_ = example(writer, True)
        rng, _ = jax.random.split(jax.random.key(0))
        chex.assert_trees_all_equal(writer.init(rng, SPECS[True]), params)

    def test_compiled_equals_not_compiled(self, writer):
        arguments = (*example(writer, True), RATES)
        chex.assert_trees_all_close(compiled_write(writer)(*arguments), writer.write(*arguments), rtol=1e-5, atol=1e-6)

    def test_batch_row_equals_single(self, writer):
        params, memory, keys, values = example(writer, True)
        scales = np.array([1.0, -0.5, 2.0], np.float32)
        batch = jax.tree.map(lambda x: np.stack([scale * np.asarray(x) for scale in scales]), (memory, keys, values))
        batched = jax.jit(jax.vmap(writer.write, (None, 0, 0, 0, None)))(params, *batch, RATES)
        for i in range(len(scales)):
            row, result = jax.tree.map(lambda x, i=i: np.asarray(x)[i], (batch, batched))
            chex.assert_trees_all_close(result, compiled_write(writer)(params, *row, RATES), rtol=1e-5, atol=1e-6)

    def test_reversible_gradient_equals_plain(self, writer, float64):
        gradient, _, variables, inputs = compiled_gradient(writer)
        cell = make_cell(writer)
        reversible = gradient(cell, variables, inputs)
        plain = gradient(cell, variables, inputs, reversible=False)
        chex.assert_trees_all_close(reversible, plain, rtol=1e-10, atol=1e-12)

    def test_outer_gradient_is_finite_and_reaches_the_writers_parameters(self, writer, float64):
        gradient, _, variables, inputs = compiled_gradient(writer)
        gradients = gradient(make_cell(writer), variables, inputs)
        chex.assert_tree_all_finite(gradients)
        assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(gradients[0]["params"].get("writer", {})))

    def test_equal_cells_do_not_recompile(self, writer, float64):
        gradient, traced, variables, inputs = compiled_gradient(writer)
        gradient(make_cell(writer), variables, inputs)
        before = len(traced)
        gradient(make_cell(writer), jax.tree.map(jnp.negative, variables), inputs + 1)
        assert len(traced) == before

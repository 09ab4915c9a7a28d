"""The properties that every writer must have, as a class of tests for pytest to run over a table of writers.

A writer of your own joins by a line in `WRITERS`; a table of your own is tested by

    @pytest.mark.parametrize("writer", TABLE.values(), ids=TABLE.keys())
    class TestMine(WriterSuite):
        pass
"""

import copy
import functools
import pickle

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mnm_jax as mnm
from mnm_jax import rules
from mnm_jax.writers import Writer

WRITERS: dict[str, Writer] = {
    "gradient": mnm.writers.gradient(),
    "gradient_two_steps": mnm.writers.gradient(num_steps=2),
    "local": mnm.writers.local(),
    "local_normalized": mnm.writers.local(normalized=True),
    "local_hidden": mnm.writers.local(backward=mnm.writers.perceptron(hidden_size=4)),
    "local_key": mnm.writers.local(backward=mnm.writers.perceptron(use_key=True)),
    "local_activations": mnm.writers.local(backward=mnm.writers.perceptron(use_activations=True)),
    "local_fixed": mnm.writers.local(backward=mnm.writers.perceptron(is_learned=False)),
    "feedback_alignment": mnm.writers.local(backward=rules.feedback_alignment()),
    "synthetic_gradients": mnm.writers.local(backward=rules.synthetic_gradients()),
    "titans": rules.titans(),
    "gated_delta": rules.gated_delta(),
}

NUM_HEADS = 2
NUM_STEPS = 3
INPUT_SIZE = 3
RATES = np.full((3, NUM_HEADS), 0.5, np.float32)


def spec_of(writer: Writer, hidden_sizes: tuple[int, ...] = (4,), use_bias: bool = True) -> mnm.memory.Spec:
    """An architecture that a writer can write; every width differs, so that no factor fits where it does not belong."""
    return writer.fit(mnm.memory.Spec(3, 2, hidden_sizes, use_bias, zero_output_layer=False))


def draw_variables(cell: nn.Module, first_inputs):
    """Variables for a cell, away from their initial values: random weights of variance one over their first axis."""
    shapes = jax.eval_shape(cell.init, jax.random.key(0), None, first_inputs)
    draw = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(draw.normal(size=leaf.shape) / leaf.shape[0] ** 0.5), shapes)


@functools.cache
def example(writer: Writer, use_bias: bool = True):
    """Parameters of the writer, a memory that was written before (both moved), keys, values, rate and gates."""
    spec = spec_of(writer, (4, 5), use_bias)
    rng_params, rng_constants, rng_memory = jax.random.split(jax.random.key(0), 3)
    draw = np.random.default_rng(1)

    def moved(tree):
        return jax.tree.map(lambda leaf: leaf + 0.1 * draw.normal(size=leaf.shape).astype(np.float32), tree)

    memory = moved(writer.start(mnm.memory.init(rng_memory, spec)))
    keys = draw.normal(size=(NUM_HEADS, spec.key_size)).astype(np.float32)
    values = draw.normal(size=(NUM_HEADS, spec.value_size)).astype(np.float32)
    gates = {
        name: draw.uniform(gate.low, gate.high, gate.shape(spec, NUM_HEADS)).astype(np.float32)
        for name, gate in writer.gates.items()
    }
    params = moved({**writer.init(rng_params, spec), **writer.constants(rng_constants, spec)})
    return params, memory, keys, values, RATES[: spec.num_layers], gates


def write(writer: Writer, params, memory, keys, values, rate, gates):
    return writer.write(params, memory, keys, values, rate, **gates)


@functools.cache
def compiled_write(writer: Writer):
    return jax.jit(functools.partial(write, writer))


def make_cell(writer: Writer) -> mnm.cells.MNM:
    # The plainest controller compiles fastest, and the writer is what is tested.
    return mnm.cells.MNM(2, 4, spec_of(writer), writer, num_heads=NUM_HEADS, controller=nn.SimpleCell)


@functools.cache
def compiled_gradient(writer: Writer):
    """A jitted outer gradient, the list of the cells that it was traced for, and its arguments in float64."""
    traced = []

    @functools.partial(jax.jit, static_argnames=("cell", "reversible"))
    def gradient(cell, variables, inputs, reversible=True):
        traced.append(cell)

        def loss(variables, inputs):
            carry, outputs, trace = mnm.unroll(cell, variables, inputs, reversible=reversible)
            value = jnp.square(outputs - 1).sum() + trace.error_after.mean() + jnp.square(carry.read).sum()
            return value if trace.auxiliary_loss is None else value + trace.auxiliary_loss.sum()

        return jax.grad(loss, argnums=(0, 1))(variables, inputs)

    inputs = np.random.default_rng(2).normal(size=(NUM_STEPS, INPUT_SIZE))
    return gradient, traced, draw_variables(make_cell(writer), inputs[0]), inputs


class WriterSuite:
    """Tests that take any `Writer`."""

    @pytest.mark.parametrize("use_bias", [False, True], ids=["kernels", "biases"])
    def test_changes_every_weight_in_its_shape_and_type(self, writer, use_bias):
        arguments = example(writer, use_bias)
        memory = arguments[1]
        after = compiled_write(writer)(*arguments).apply(memory)
        chex.assert_trees_all_equal_shapes_and_dtypes(after, memory)
        changed = jax.tree.map(lambda old, new: bool(np.any(old != new)), memory, after)
        assert jax.tree.all(changed)
        keys = arguments[2]
        assert np.any(mnm.memory.read(writer.weights(after), keys) != mnm.memory.read(writer.weights(memory), keys))

    def test_rate_zero_leaves_the_memory_bit_for_bit(self, writer):
        """Where no gate of the writer's own changes it."""
        params, memory, keys, values, rate, gates = example(writer)
        change = compiled_write(writer)(params, memory, keys, values, 0 * rate, gates)
        if not writer.gates:
            chex.assert_trees_all_equal(change.apply(memory), memory)
        # With the gates as they are, what is written must not depend on the value.
        other = compiled_write(writer)(params, memory, keys, values + 1, 0 * rate, gates)
        chex.assert_trees_all_equal(change.apply(memory), other.apply(memory))

    def test_masked_change_is_itself_or_nothing(self, writer):
        memory = example(writer)[1]
        change = compiled_write(writer)(*example(writer))
        chex.assert_trees_all_equal(change.masked(jnp.array(True)), change)
        nothing = change.masked(jnp.array(False))
        chex.assert_trees_all_equal(nothing.apply(memory), memory)
        if np.all(np.isfinite(change.growth)):
            chex.assert_trees_all_equal(nothing.revert(memory), memory)

    def test_rate_broadcasts_to_layers_and_heads(self, writer):
        params, memory, keys, values, rate, gates = example(writer)
        whole = write(writer, params, memory, keys, values, rate, gates)
        for shape in [(), (NUM_HEADS,), (len(rate), 1)]:
            result = write(writer, params, memory, keys, values, np.full(shape, 0.5, np.float32), gates)
            chex.assert_trees_all_equal(result, whole)

    def test_rate_of_a_layer_writes_that_layer_alone(self, writer):
        params, memory, keys, values, rate, gates = example(writer)
        if writer.gates:
            pytest.skip("its gates change all layers")
        for written in range(len(rate)):
            rates = np.where(np.arange(len(rate))[:, None] == written, rate, 0)
            after = compiled_write(writer)(params, memory, keys, values, rates, gates).apply(memory)
            for i, (old, new) in enumerate(zip(memory, after, strict=True)):
                same = np.array_equal(old.kernel, new.kernel) and np.array_equal(old.bias, new.bias)
                assert same == (i != written)

    def test_revert_takes_the_change_back(self, writer):
        memory, change = example(writer)[1], compiled_write(writer)(*example(writer))
        if not np.all(np.isfinite(change.growth)):
            pytest.skip("cannot be taken back")
        restored = change.revert(change.apply(memory))
        chex.assert_trees_all_close(restored, memory, rtol=1e-6, atol=1e-6)

    def test_growth_is_a_bound(self, writer, float64):
        """On how an error in the memory grows when the change is taken back, with the gates at either end."""
        params, memory, keys, values, rate, gates = jax.tree.map(np.float64, example(writer))
        draw = np.random.default_rng(5)
        error = jax.tree.map(lambda leaf: 1e-3 * draw.normal(size=leaf.shape), memory)
        for end in ("low", "high"):
            ends = {name: np.full_like(gates[name], getattr(gate, end)) for name, gate in writer.gates.items()}
            change = write(writer, params, memory, keys, values, rate, ends)
            if not np.all(np.isfinite(change.growth)):
                pytest.skip("cannot be taken back")
            if np.ndim(change.growth):
                pytest.skip("not one number")
            of_both = change.revert(jax.tree.map(np.add, memory, error))
            moved = jax.tree.map(np.subtract, of_both, change.revert(memory))
            largest = [max(np.abs(leaf).max() for leaf in jax.tree.leaves(tree)) for tree in (moved, error)]
            assert largest[0] <= change.growth * largest[1] * (1 + 1e-6)

    def test_is_pure(self, writer):
        arguments = example(writer)
        copies = jax.tree.map(np.copy, arguments)
        first = compiled_write(writer)(*arguments)
        second = compiled_write(writer)(*copies)
        chex.assert_trees_all_equal(first, second)
        chex.assert_trees_all_equal(jax.tree.map(np.asarray, arguments), copies)

    def test_same_seed_gives_same_parameters(self, writer):
        spec, rng = spec_of(writer), jax.random.key(3)
        for draw in (writer.init, writer.constants):
            chex.assert_trees_all_equal(draw(rng, spec), draw(rng, spec))

    def test_is_a_value(self, writer):
        """It can be copied and sent to other processes, and its text tells what it is, and not where."""
        for same in (pickle.loads(pickle.dumps(writer)), copy.deepcopy(writer)):
            assert same == writer
            assert hash(same) == hash(writer)
            assert repr(same) == repr(writer)
        assert " at 0x" not in repr(writer)

    def test_compiled_equals_not_compiled(self, writer):
        arguments = example(writer)
        chex.assert_trees_all_close(compiled_write(writer)(*arguments), write(writer, *arguments), rtol=1e-5, atol=1e-6)

    def test_batch_row_equals_single(self, writer):
        params, memory, keys, values, rate, gates = example(writer)
        scales = np.array([1.0, -0.5, 2.0], np.float32)
        batch = jax.tree.map(lambda x: np.stack([scale * np.asarray(x) for scale in scales]), (memory, keys, values))
        mapped = jax.vmap(functools.partial(write, writer), (None, 0, 0, 0, None, None))
        batched = jax.jit(mapped)(params, *batch, rate, gates)
        for i in range(len(scales)):
            row, result = jax.tree.map(lambda x, i=i: np.asarray(x)[i], (batch, batched))
            wanted = compiled_write(writer)(params, *row, rate, gates)
            chex.assert_trees_all_close(result, wanted, rtol=1e-5, atol=1e-6)

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

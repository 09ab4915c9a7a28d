"""Tests of whole episodes."""

import functools
import itertools
from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from writer_suite import draw_variables

import mnm_jax as mnm
from mnm_jax import _reversible
from mnm_jax.memory import Layer, Memory, Write

NUM_STEPS = 5
LENGTH = 3
SPEC = mnm.memory.Spec(3, 2, (4,), use_bias=True)
INPUTS = np.random.default_rng(0).normal(size=(2, NUM_STEPS, 3))  # A batch of two episodes.
WRITERS = {"gradient": mnm.writers.gradient(), "local": mnm.writers.local()}

pytestmark = pytest.mark.usefixtures("quick_compilation")

for_both_writers = pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS.keys())


def make(writer):
    return mnm.cells.MNM(2, 4, SPEC, writer, num_heads=2, controller=nn.SimpleCell)


def draw_carry(seed=1):
    """A batch of two states in the middle of an episode."""
    draw = np.random.default_rng(seed)
    memory = tuple(
        Layer(draw.normal(size=(2, d_in, d_out)), draw.normal(size=(2, d_out)))
        for d_in, d_out in itertools.pairwise(SPEC.sizes)
    )
    carry = mnm.cells.MNMCarry(draw.normal(size=(2, 4)), memory, draw.normal(size=(2, 2)))
    return jax.tree.map(jnp.asarray, carry)


LOSSES = {
    "outputs": lambda run: jnp.square(run.outputs).sum(),
    "error_after": lambda run: run.trace.error_after.sum(),
    "final_memory": lambda run: sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(run.carry.memory)),
    "everything": lambda run: sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(run)),
}


LENGTHS = np.array([LENGTH, NUM_STEPS])


@functools.cache
def plain_gradients(writer):
    """Of every loss, for a batch, from the plain scan: weights choose the loss, so it compiles once."""
    cell = make(writer)

    def gradients(weights, variables, inputs, carry, length):
        def loss(*arguments):
            run = mnm.unroll(cell, *arguments, length=length, reversible=False)
            return sum(weight * loss(run) for weight, loss in zip(weights, LOSSES.values(), strict=True)), run

        return jax.grad(loss, argnums=(0, 1, 2), has_aux=True)(variables, inputs, carry)

    return jax.jit(jax.vmap(gradients, (None, None, 0, 0, 0)))


def reversible_gradients(writer, name):
    """Of one loss, for one episode, from the reversible unroll."""

    def gradients(variables, inputs, carry, length=None):
        def loss(*arguments):
            run = mnm.unroll(make(writer), *arguments, length=length)
            return LOSSES[name](run), run

        return jax.grad(loss, argnums=(0, 1, 2), has_aux=True)(variables, inputs, carry)

    return gradients


@functools.cache
def batched_reversible_gradients(writer, name):
    return jax.jit(jax.vmap(reversible_gradients(writer, name), (None, 0, 0, 0)))


def check_gradients(result, wanted):
    """Compares values and gradients with respect to variables, inputs and carry; none of these may be all zero."""
    chex.assert_trees_all_close(result, wanted, rtol=1e-10, atol=1e-12)
    (of_variables, of_inputs, of_carry), _ = result
    # The initial memory is a parameter, but an episode that begins with a carry does not use it.
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(of_variables["params"]["initial_memory"]))
    assert np.any(of_variables["params"]["interface"]["signals"]["kernel"])
    assert np.any(of_inputs)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(of_carry))


class TestReversible:
    @for_both_writers
    @pytest.mark.parametrize("name", LOSSES)
    def test_batch_with_lengths_equals_plain_in_value_and_gradient(self, writer, name, float64):
        arguments = draw_variables(make(writer), INPUTS[0, 0]), INPUTS, draw_carry(), LENGTHS
        weights = np.array([float(other == name) for other in LOSSES])
        check_gradients(
            batched_reversible_gradients(writer, name)(*arguments), plain_gradients(writer)(weights, *arguments)
        )

    @for_both_writers
    def test_episode_equals_plain_in_value_and_gradient(self, writer, float64):
        """Alone and without a length, against the row of the batch whose length is that of the episode."""
        variables, carry = draw_variables(make(writer), INPUTS[0, 0]), draw_carry()
        weights = np.array([float(name == "everything") for name in LOSSES])
        plain = plain_gradients(writer)(weights, variables, INPUTS, carry, LENGTHS)
        inputs, carry, plain = jax.tree.map(lambda x: x[1], (INPUTS, carry, plain))
        check_gradients(jax.jit(reversible_gradients(writer, "everything"))(variables, inputs, carry), plain)

    @for_both_writers
    def test_padding_has_gradient_zero_and_changes_no_other(self, writer, float64):
        gradients = batched_reversible_gradients(writer, "everything")
        variables, carry = draw_variables(make(writer), INPUTS[0, 0]), draw_carry()
        padded = INPUTS.copy()
        padded[0, LENGTH:] = 1e6
        (of_variables, of_inputs, of_carry), _ = gradients(variables, padded, carry, LENGTHS)
        assert np.all(of_inputs[0, LENGTH:] == 0)
        assert np.all(of_inputs[0, :LENGTH] != 0)
        wanted, _ = gradients(variables, INPUTS, carry, LENGTHS)
        chex.assert_trees_all_close((of_variables, of_inputs, of_carry), wanted, rtol=1e-12, atol=1e-14)

    @for_both_writers
    def test_unused_trace_costs_nothing(self, writer):
        """Compiled without the errors in the loss, it needs no more than a cell that never computes them."""

        def count_operations(cell, loss):
            def run(variables, inputs):
                return loss(mnm.unroll(cell, variables, inputs))

            inputs = INPUTS[0].astype(np.float32)
            compiled = jax.jit(jax.grad(run)).lower(draw_variables(cell, inputs[0]), inputs).compile()
            return compiled.cost_analysis()["flops"]

        arguments = 2, 4, mnm.memory.Spec(3, 2, (4,)), writer
        cell = mnm.cells.MNM(*arguments, controller=nn.SimpleCell)
        unused = count_operations(cell, LOSSES["outputs"])
        assert unused == count_operations(WithoutErrors(*arguments, controller=nn.SimpleCell), LOSSES["outputs"])
        assert unused < count_operations(cell, lambda run: LOSSES["outputs"](run) + LOSSES["error_after"](run))

    @for_both_writers
    def test_does_not_keep_the_memory_of_every_step(self, writer):
        spec = mnm.memory.Spec(32, 32, (32,))
        cell = mnm.cells.MNM(2, 4, spec, writer, controller=nn.SimpleCell)
        num_steps = 64
        inputs = jax.ShapeDtypeStruct((num_steps, 3), jnp.float32)
        variables = jax.eval_shape(cell.init, jax.random.key(0), None, inputs.update(shape=(3,)))

        def temporary_bytes(reversible):
            def loss(variables, inputs):
                return LOSSES["outputs"](mnm.unroll(cell, variables, inputs, reversible=reversible))

            return jax.jit(jax.grad(loss)).lower(variables, inputs).compile().memory_analysis().temp_size_in_bytes

        bytes_of_every_memory = 4 * spec.num_weights * num_steps
        assert temporary_bytes(reversible=False) > bytes_of_every_memory
        assert temporary_bytes(reversible=True) < bytes_of_every_memory / 2

    def test_keeps_what_stands_in_several_places_once(self):
        """For each step and episode: state of the LSTM, keys, value, rate and the write, whose input is the key."""
        size, num_layers = 16, 2
        cell = mnm.cells.MNM(2, size, mnm.memory.Spec(size, size, (size,)), WRITERS["local"], vocabulary_size=3)

        def temporary_bytes(num_steps):
            inputs = jax.ShapeDtypeStruct((8, num_steps), jnp.int32)
            variables = jax.eval_shape(cell.init, jax.random.key(0), None, jax.ShapeDtypeStruct((), jnp.int32))

            def loss(variables, inputs):
                run = jax.vmap(lambda episode: mnm.unroll(cell, variables, episode))(inputs)
                return LOSSES["outputs"](run) + LOSSES["error_after"](run)

            return jax.jit(jax.grad(loss)).lower(variables, inputs).compile().memory_analysis().temp_size_in_bytes

        floats = 2 * size + 3 * size + 1 + (num_layers - 1) * size + num_layers * size
        slope = (temporary_bytes(128) - temporary_bytes(64)) / (64 * 8)
        assert 4 * floats <= slope < 4 * (floats + size)


@functools.cache
def gradient_of_a_batch(writer, anchor_every=None):
    """The gradient of a batch's loss, which is not a batch of gradients."""
    options = {"reversible": False} if anchor_every is None else {"anchor_every": anchor_every}

    def loss(variables, inputs, carry, length):
        run = jax.vmap(lambda *own: mnm.unroll(make(writer), variables, *own[:2], length=own[2], **options))(
            inputs, carry, length
        )
        return LOSSES["everything"](run), run

    return jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))


class TestBatch:
    """A batch is unrolled by steps of all its episodes at once."""

    @for_both_writers
    @pytest.mark.parametrize("anchor_every", [3, NUM_STEPS])  # Two chunks of two steps and one left over, or one.
    def test_equals_plain_whatever_the_anchors(self, writer, anchor_every, float64):
        arguments = draw_variables(make(writer), INPUTS[0, 0]), INPUTS, draw_carry(), LENGTHS
        check_gradients(gradient_of_a_batch(writer, anchor_every)(*arguments), gradient_of_a_batch(writer)(*arguments))

    def test_episode_alone_equals_the_batch(self, float64):
        writer, anchor_every = WRITERS["gradient"], 3
        variables, carry = draw_variables(make(writer), INPUTS[0, 0]), draw_carry()
        (of_variables, of_inputs, of_carry), run = gradient_of_a_batch(writer)(variables, INPUTS, carry, LENGTHS)

        @functools.partial(jax.vmap, in_axes=(None, 0, 0, 0))
        def gradients(variables, inputs, carry, length):
            def loss(*arguments):
                run = mnm.unroll(make(writer), *arguments, length=length, anchor_every=anchor_every)
                return LOSSES["everything"](run), run

            return jax.grad(loss, argnums=(0, 1, 2), has_aux=True)(variables, inputs, carry)

        (singles, *others), results = jax.jit(gradients)(variables, INPUTS, carry, LENGTHS)
        summed = jax.tree.map(lambda leaf: leaf.sum(axis=0), singles)
        wanted = (of_variables, of_inputs, of_carry, run)
        chex.assert_trees_all_close((summed, *others, results), wanted, rtol=1e-10, atol=1e-12)

    def test_blocks_equal_the_whole(self, monkeypatch, float64):
        """What does not fit into the caches of a CPU is unrolled some episodes at a time."""
        cell, batch_size = make(WRITERS["gradient"]), 20
        variables = draw_variables(cell, INPUTS[0, 0])
        inputs = np.random.default_rng(2).normal(size=(batch_size, NUM_STEPS, 3))
        lengths = np.arange(batch_size) % (NUM_STEPS + 1)

        def loss(variables, inputs):
            run = jax.vmap(lambda *own: mnm.unroll(cell, variables, own[0], length=own[1]))(inputs, lengths)
            return LOSSES["everything"](run), run

        results = []
        for block_size in (batch_size, 5):
            monkeypatch.setattr(_reversible, "_block_size", lambda *_, block_size=block_size: block_size)
            results.append(jax.jit(jax.grad(loss, (0, 1), has_aux=True))(variables, inputs))
        chex.assert_trees_all_close(*results, rtol=1e-10, atol=1e-12)

    def test_size_of_a_block(self, monkeypatch):
        monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
        memory_bytes = 3 * 100 * 100 * 4
        assert [_reversible._block_size(n, memory_bytes) for n in (1, 32, 64, 60, 67, 128)] == [1, 32, 16, 15, 67, 16]
        assert _reversible._block_size(32, 100 * memory_bytes) == 8
        assert _reversible._block_size(64, 100) == 64
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
        assert _reversible._block_size(128, memory_bytes) == 128

    def test_seeds_have_variables_of_their_own(self, float64):
        writer = WRITERS["local"]
        arguments = INPUTS, draw_carry(), LENGTHS
        variables = draw_variables(make(writer), INPUTS[0, 0])
        seeds = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), variables)
        result, _ = jax.jit(jax.vmap(gradient_of_a_batch(writer, NUM_STEPS), (0, None, None, None)))(seeds, *arguments)
        wanted, _ = gradient_of_a_batch(writer)(jax.tree.map(lambda leaf: leaf[1], seeds), *arguments)
        chex.assert_trees_all_close(jax.tree.map(lambda leaf: leaf[1], result), wanted, rtol=1e-10, atol=1e-12)

    def test_keeps_one_gradient_of_the_parameters(self):
        """Not one for each of many episodes, each as large as the parameters."""
        cell = mnm.cells.MNM(2, 64, SPEC, WRITERS["local"], controller=nn.SimpleCell)
        batch_size = 64
        inputs = jax.ShapeDtypeStruct((batch_size, NUM_STEPS, 3), jnp.float32)
        variables = jax.eval_shape(cell.init, jax.random.key(0), None, inputs.update(shape=(3,)))

        def loss(variables, inputs):
            return jnp.sum(jax.vmap(lambda episode: mnm.unroll(cell, variables, episode).outputs)(inputs))

        compiled = jax.jit(jax.grad(loss)).lower(variables, inputs).compile()
        bytes_of_parameters = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(variables))
        assert compiled.memory_analysis().temp_size_in_bytes < batch_size * bytes_of_parameters / 2

    def test_anchor_every_must_be_positive(self):
        variables = draw_variables(make(WRITERS["local"]), INPUTS[0, 0])
        with pytest.raises(ValueError, match="anchor_every must be a whole number of at least 1, got 0"):
            mnm.unroll(make(WRITERS["local"]), variables, INPUTS[0], anchor_every=0)


class WithoutErrors(mnm.cells.MNM):
    """An MNM that reports no errors."""

    def write(self, control, weights):
        write, before = super().write(control, weights)
        return write, jax.tree.map(jnp.zeros_like, before)

    def read(self, control, weights):
        carry, output, trace = super().read(control, weights)
        return carry, output, trace._replace(error_after=jnp.zeros_like(trace.error_after))


@functools.cache
def compiled_unroll(writer):
    return jax.jit(functools.partial(mnm.unroll, make(writer)))


@functools.cache
def whole_episode(writer):
    """Variables, inputs and the result of one episode, in float32."""
    inputs = INPUTS[0].astype(np.float32)
    variables = draw_variables(make(writer), inputs[0])
    return variables, inputs, compiled_unroll(writer)(variables, inputs)


@for_both_writers
class TestEpisode:
    def test_equals_a_python_loop_without_compilation(self, writer):
        variables, inputs, run = whole_episode(writer)
        carry, results = None, []
        for x in inputs:
            carry, result = make(writer).apply(variables, carry, x)
            results.append(result)
        outputs, trace = jax.tree.map(lambda *steps: np.stack(steps), *results)
        chex.assert_trees_all_close(run, mnm.Unrolled(carry, outputs, trace), rtol=1e-5, atol=1e-6)

    def test_without_compilation_equals_compiled(self, writer):
        variables, inputs, run = whole_episode(writer)
        chex.assert_trees_all_close(mnm.unroll(make(writer), variables, inputs), run, rtol=1e-5, atol=1e-6)

    def test_split_equals_whole(self, writer):
        variables, inputs, run = whole_episode(writer)
        first = compiled_unroll(writer)(variables, inputs[:LENGTH])
        second = compiled_unroll(writer)(variables, inputs[LENGTH:], first.carry)
        joined = jax.tree.map(lambda *parts: np.concatenate(parts), first[1:], second[1:])
        chex.assert_trees_all_close((second.carry, *joined), tuple(run), rtol=1e-5, atol=1e-6)

    def test_batch_row_equals_the_episode_alone(self, writer):
        variables, inputs, run = whole_episode(writer)
        batch = np.stack([inputs + 1, inputs, 2 * inputs])
        batched = jax.jit(jax.vmap(functools.partial(mnm.unroll, make(writer)), (None, 0)))(variables, batch)
        chex.assert_trees_all_close(jax.tree.map(lambda x: x[1], batched), run, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("length", [0, LENGTH, NUM_STEPS])
    def test_padding_past_the_length_changes_nothing(self, writer, length):
        """`length` is traced here: the same compiled function serves all three."""
        variables, inputs, _ = whole_episode(writer)
        padded = inputs.copy()
        padded[length:] = 1e6 * np.array([1, -1, 1])
        run = compiled_unroll(writer)(variables, padded, length=length)
        assert not any(np.any(leaf[length:]) for leaf in jax.tree.leaves(run[1:]))
        if length == 0:
            start = make(writer).apply(variables, method="initial_carry")
            chex.assert_trees_all_equal(run.carry, start)
            return
        short = compiled_unroll(writer)(variables, inputs[:length])
        chex.assert_trees_all_equal(run.carry.memory, short.carry.memory)
        chex.assert_trees_all_equal(run.carry, short.carry)
        chex.assert_trees_all_equal(jax.tree.map(lambda x: x[:length], run[1:]), short[1:])

    def test_lengths_of_a_batch(self, writer):
        variables, inputs, run = whole_episode(writer)
        unroll = jax.jit(jax.vmap(lambda length: mnm.unroll(make(writer), variables, inputs, length=length)))
        batched = unroll(jnp.arange(NUM_STEPS + 1))
        for length in range(1, NUM_STEPS + 1):
            row = jax.tree.map(lambda x, length=length: x[length], batched)
            valid = jax.tree.map(lambda x, length=length: x[:length], (row[1:], run[1:]))
            chex.assert_trees_all_close(*valid, rtol=1e-5, atol=1e-6)
            assert not any(np.any(leaf[length:]) for leaf in jax.tree.leaves(row[1:]))
        chex.assert_trees_all_close(row.carry, run.carry, rtol=1e-5, atol=1e-6)


class CountingCarry(NamedTuple):
    count: jax.Array
    rng: jax.Array
    memory: Memory


class CountingControl(NamedTuple):
    count: jax.Array
    rng: jax.Array
    symbol: jax.Array
    keys: jax.Array
    values: jax.Array


class CountingCell(mnm.cells.WrittenCell):
    """A cell whose state counts its steps and draws random keys, and whose inputs are symbols, random keys and numbers.

    Its write is scaled by the count and by noise from both random keys, so that a gradient that got any of them wrong
    would come out wrong.
    """

    def setup(self):
        self.table = self.param("table", nn.initializers.normal(), (4, SPEC.key_size))
        self.initial_memory = self.param("initial_memory", mnm.memory.init, SPEC)

    def initial_carry(self):
        return CountingCarry(jnp.zeros((), jnp.int32), jax.random.key(7), self.initial_memory)

    def control(self, carry, inputs):
        symbol, rng_input, value = inputs
        rng, rng_step = jax.random.split(carry.rng)
        noise = jax.random.normal(rng_step, value.shape) + jax.random.normal(rng_input, value.shape)
        return CountingControl(carry.count + 1, rng, symbol, self.table[symbol][None], value * noise)

    def write(self, control, weights):
        actual = mnm.memory.activations(weights, control.keys)
        scale = 0.1 * control.count
        return Write(actual[:2], (scale * jnp.tanh(actual[1]), scale * (control.values - actual[2]))), {}

    def read(self, control, weights):
        output = mnm.memory.read(weights, control.keys)[0]
        return CountingCarry(control.count, control.rng, weights), output, {"symbol": control.symbol}


class TestLeavesWithoutGradient:
    """Integers and random keys, in the carry and in the inputs."""

    @staticmethod
    def draw_arguments():
        symbols, rngs = jnp.array([2, 0, 0, 3, 2]), jax.random.split(jax.random.key(5), NUM_STEPS)
        values = jnp.asarray(INPUTS[0, :, :2])
        variables = draw_variables(CountingCell(), (symbols[0], rngs[0], values[0]))
        return variables, symbols, rngs, values

    def test_pass_through_the_reversible_gradient(self, float64):
        """Also from one part of an episode to the next, the first of them padded, for a batch of episodes."""
        variables, symbols, rngs, values = self.draw_arguments()

        def loss(variables, values, reversible):
            unroll = functools.partial(mnm.unroll, CountingCell(), variables, reversible=reversible)
            first = unroll((symbols, rngs, values), length=LENGTH)
            second = unroll((symbols, rngs, values), first.carry)
            return LOSSES["outputs"](first) + LOSSES["outputs"](second) + LOSSES["final_memory"](second), (
                first,
                second,
            )

        in_batches = jax.vmap(jax.grad(loss, argnums=(0, 1), has_aux=True), (None, 0, None))
        gradient = jax.jit(in_batches, static_argnums=2)
        batch = jnp.stack([values, 2 * values])
        reversible, (first, second) = gradient(variables, batch, True)
        plain, (plain_first, plain_second) = gradient(variables, batch, False)
        chex.assert_trees_all_close(reversible, plain, rtol=1e-10, atol=1e-12)
        assert all(np.any(leaf) for leaf in jax.tree.leaves(reversible))
        for run, plain_run in [(first, plain_first), (second, plain_second)]:
            chex.assert_trees_all_close(run.outputs, plain_run.outputs, rtol=1e-12)
            np.testing.assert_array_equal(jax.random.key_data(run.carry.rng), jax.random.key_data(plain_run.carry.rng))
        np.testing.assert_array_equal(first.carry.count, [LENGTH, LENGTH])
        np.testing.assert_array_equal(second.carry.count, [LENGTH + NUM_STEPS, LENGTH + NUM_STEPS])
        np.testing.assert_array_equal(first.trace["symbol"], 2 * [[*symbols[:LENGTH], 0, 0]])

    def test_pass_from_one_part_of_an_episode_to_the_next_without_compilation(self):
        variables, *inputs = self.draw_arguments()
        unroll = functools.partial(mnm.unroll, CountingCell(), variables)
        first = unroll(tuple(x[:2] for x in inputs))
        second = unroll(tuple(x[2:] for x in inputs), first.carry)
        outputs = np.concatenate([first.outputs, second.outputs])
        np.testing.assert_allclose(outputs, unroll(tuple(inputs)).outputs, rtol=1e-5, atol=1e-6)


class OnlyMemory(NamedTuple):
    memory: Memory


class BareCell(mnm.cells.WrittenCell):
    """A cell without any other state than its memory: it writes its input, and reads it."""

    def setup(self):
        self.initial_memory = self.param("initial_memory", mnm.memory.init, SPEC)

    def initial_carry(self):
        return OnlyMemory(self.initial_memory)

    def control(self, carry, inputs):
        return inputs[None]

    def write(self, control, weights):
        actual = mnm.memory.activations(weights, control)
        return Write(actual[:2], (-0.1 * actual[1], 0.1 * (1 - actual[2]))), {}

    def read(self, control, weights):
        return OnlyMemory(weights), mnm.memory.read(weights, control)[0], ()


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "lengths"])
def test_a_carry_may_hold_nothing_but_the_memory(lengths, float64):
    variables = draw_variables(BareCell(), INPUTS[0, 0])

    def loss(variables, reversible):
        run = jax.vmap(
            lambda inputs, length: mnm.unroll(BareCell(), variables, inputs, length=length, reversible=reversible)
        )(jnp.asarray(INPUTS), lengths)
        return LOSSES["everything"](run)

    gradient = jax.jit(jax.grad(loss), static_argnums=1)
    chex.assert_trees_all_close(gradient(variables, True), gradient(variables, False), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "inputs",
    [np.ones((0, 3)), np.ones(()), (np.ones((2, 3)), np.ones((3, 3))), ()],
    ids=["no_steps", "no_axis", "axes_differ", "nothing"],
)
@pytest.mark.parametrize("cell", [make(mnm.writers.local()), mnm.cells.LSTM(2, 4)], ids=["mnm", "lstm"])
def test_names_the_inputs_at_fault(cell, inputs):
    variables = draw_variables(cell, INPUTS[0, 0])
    with pytest.raises(ValueError, match="argument 'inputs': wants a leading axis of at least one time step"):
        mnm.unroll(cell, variables, inputs)

"""Tests of the writers, against the equations written out in NumPy."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import writer_suite
from writer_suite import WRITERS, WriterSuite, compiled_write

import mnm_jax as mnm
from mnm_jax.memory import Layer, Spec

NUM_HEADS = 2

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS.keys())
class TestEveryWriter(WriterSuite):
    def test_permuting_the_heads_changes_nothing(self, writer, float64):
        params, memory, keys, values, _, gates = jax.tree.map(jnp.float64, writer_suite.example(writer))
        draw = np.random.default_rng(1)
        keys, values = (draw.normal(size=(3, pair.shape[1])) for pair in (keys, values))
        rate = draw.uniform(size=(len(writer.weights(memory)), 3))
        order = np.array([2, 0, 1])
        write = compiled_write(writer)
        straight = write(params, memory, keys, values, rate, gates).apply(memory)
        permuted = write(params, memory, keys[order], values[order], rate[:, order], gates).apply(memory)
        chex.assert_trees_all_close(permuted, straight, rtol=0, atol=1e-14)

    def test_names_the_argument_at_fault(self, writer):
        params, memory, keys, values, rate, gates = writer_suite.example(writer)
        num_layers = len(rate)

        def write(keys, values, rate):
            return writer_suite.write(writer, params, memory, keys, values, rate, gates)

        for wrong in [jnp.ones((2, 4)), jnp.ones(3), jnp.ones((2, 3), jnp.int32)]:
            with pytest.raises(AssertionError, match="argument 'keys'"):
                write(wrong, values, 0.5)
        for wrong in [jnp.ones((2, 3)), jnp.ones((3, 2)), jnp.ones(2), jnp.ones((2, 2), jnp.int32)]:
            with pytest.raises(AssertionError, match="argument 'values'"):
                write(keys, wrong, 0.5)
        for wrong in [jnp.ones(5), jnp.ones((5, 1)), jnp.ones((1, 2, 2))]:
            with pytest.raises(
                AssertionError, match=rf"argument 'rate': shape .* \[layers, heads\] = \({num_layers}, 2\)"
            ):
                write(keys, values, wrong)


def example(spec, seed):
    """A memory with biases not at zero, keys, values and a rate of its own for each layer and head, in float64."""
    draw = np.random.default_rng(seed)
    memory = tuple(
        Layer(draw.normal(size=(d_in, d_out)), draw.normal(size=d_out) if spec.use_bias else None)
        for d_in, d_out in itertools.pairwise(spec.sizes)
    )
    keys = draw.normal(size=(NUM_HEADS, spec.key_size))
    values = draw.normal(size=(NUM_HEADS, spec.value_size))
    return memory, keys, values, draw.uniform(0.1, 1, size=(spec.num_layers, NUM_HEADS))


def read_in_numpy(memory, key):
    """What every layer gives for one key, the key first."""
    outputs = [key]
    for i, (kernel, bias) in enumerate(memory):
        z = outputs[-1] @ kernel + (0 if bias is None else bias)
        outputs.append(z if i == len(memory) - 1 else np.tanh(z))
    return outputs


def changed(memory, changes):
    """The memory, with `changes[i] = (change of the kernel, change of the bias)` added."""
    return tuple(
        Layer(kernel + change, None if bias is None else bias + bias_change)
        for (kernel, bias), (change, bias_change) in zip(memory, changes, strict=True)
    )


def backpropagation_in_numpy(memory, keys, values, rates):
    """One step down the gradient of `mean_i mean_j (f(k_i) - v_i)_j^2`, the chain rule by hand, head by head."""
    changes = [[0.0, 0.0] for _ in memory]
    for head in range(NUM_HEADS):
        outputs = read_in_numpy(memory, keys[head])
        delta = 2 * (outputs[-1] - values[head]) / (NUM_HEADS * values.shape[1])
        for i in reversed(range(len(memory))):
            changes[i][0] = changes[i][0] - rates[i, head] * np.outer(outputs[i], delta)
            changes[i][1] = changes[i][1] - rates[i, head] * delta
            delta = (memory[i].kernel @ delta) * (1 - outputs[i] ** 2)
    return changed(memory, changes)


def perceptron_rule_in_numpy(memory, keys, values, rates, backward):
    """`W^l - rate s_l sum_i z^{l-1}_i^T (z^l_i - q^l(...))`, with `s_l = 2 / (H d_l)`, head by head, layer by layer."""
    changes = [[0.0, 0.0] for _ in memory]
    for head in range(NUM_HEADS):
        outputs = read_in_numpy(memory, keys[head])
        for i, (below, actual) in enumerate(itertools.pairwise(outputs)):
            scale = 2 / (NUM_HEADS * actual.size)
            step = -rates[i, head] * scale * (actual - backward(i, keys[head], values[head], actual))
            changes[i][0] = changes[i][0] + np.outer(below, step)
            changes[i][1] = changes[i][1] + step
    return changed(memory, changes)


SPECS = {
    "one_layer": Spec(3, 2, (), use_bias=True),
    "two_layers": Spec(3, 2, (4,), use_bias=True),
    "three_layers": Spec(3, 2, (4, 5), use_bias=True),
    "no_bias": Spec(3, 2, (4, 5)),
}


@pytest.mark.usefixtures("float64")
class TestGradient:
    @pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
    def test_equals_backpropagation_by_hand(self, spec):
        memory, keys, values, rates = example(spec, seed=0)
        write = mnm.writers.gradient().write({}, memory, keys, values, rates)
        wanted = backpropagation_in_numpy(memory, keys, values, rates)
        chex.assert_trees_all_close(write.apply(memory), wanted, rtol=1e-12)

    @pytest.mark.parametrize("num_steps", [1, 2, 3])
    @pytest.mark.parametrize("name", ["two_layers", "three_layers"])
    def test_equals_dense_gradient_steps_each_at_the_updated_memory(self, name, num_steps):
        memory, keys, values, _ = example(SPECS[name], seed=1)

        @jax.grad
        def gradient(memory):
            return jnp.mean(jnp.square(mnm.memory.read(memory, keys) - values))

        dense = memory
        for _ in range(num_steps):
            dense = jax.tree.map(lambda weights, change: weights - 0.3 * change, dense, gradient(dense))
        write = mnm.writers.gradient(num_steps=num_steps).write({}, memory, keys, values, 0.3)
        assert {factor.shape[0] for factor in jax.tree.leaves(write)} == {num_steps * NUM_HEADS}
        chex.assert_trees_all_close(write.apply(memory), dense, rtol=1e-12, atol=1e-14)

    def test_backpropagation_by_hand_equals_the_dense_gradient(self):
        """The two references agree with each other, so that neither test above rests on one of them alone."""
        memory, keys, values, _ = example(SPECS["three_layers"], seed=2)
        gradient = jax.grad(lambda memory: jnp.mean(jnp.square(mnm.memory.read(memory, keys) - values)))(memory)
        dense = jax.tree.map(lambda weights, change: weights - 0.3 * change, memory, gradient)
        by_hand = backpropagation_in_numpy(memory, keys, values, np.full((3, NUM_HEADS), 0.3))
        chex.assert_trees_all_close(by_hand, dense, rtol=1e-12)

    def test_a_small_step_lowers_the_error(self):
        memory, keys, values, _ = example(SPECS["three_layers"], seed=3)
        after = mnm.writers.gradient().write({}, memory, keys, values, 0.01).apply(memory)
        errors = [np.mean((mnm.memory.read(weights, keys) - values) ** 2) for weights in (memory, after)]
        assert errors[1] < errors[0]

    def test_keeps_second_order_terms(self):
        """The outer gradient is that of the dense step, not the one that takes the step's direction as a constant."""
        memory, keys, values, _ = example(SPECS["two_layers"], seed=4)

        def exact(memory, keys, values):
            return mnm.writers.gradient().write({}, memory, keys, values, 0.3).apply(memory)

        def first_order(memory, keys, values):
            constants = jax.lax.stop_gradient((memory, keys, values))
            return mnm.writers.gradient().write({}, *constants, 0.3).apply(memory)

        def dense(memory, keys, values):
            gradient = jax.grad(lambda memory: jnp.mean(jnp.square(mnm.memory.read(memory, keys) - values)))(memory)
            return jax.tree.map(lambda weights, change: weights - 0.3 * change, memory, gradient)

        def value_and_gradients(step):
            def loss(memory, keys, values):
                return jnp.mean(jnp.square(mnm.memory.read(step(memory, keys, values), keys[::-1])))

            return jax.value_and_grad(loss, argnums=(0, 1, 2))(memory, keys, values)

        value, gradients = value_and_gradients(exact)
        chex.assert_trees_all_close((value, gradients), value_and_gradients(dense), rtol=1e-10, atol=1e-13)
        first_order_value, first_order_gradients = value_and_gradients(first_order)
        np.testing.assert_allclose(value, first_order_value, rtol=1e-12)
        for leaf, other in zip(jax.tree.leaves(gradients), jax.tree.leaves(first_order_gradients), strict=True):
            assert np.max(np.abs(leaf - other)) > 1e-2 * np.max(np.abs(leaf))

    def test_has_nothing_to_learn(self):
        assert mnm.writers.gradient().init(jax.random.key(0), SPECS["no_bias"]) == {}


@pytest.mark.usefixtures("float64")
class TestLocal:
    @pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"hidden_size": 6},
            {"use_key": True},
            {"use_activations": True},
            {"hidden_size": 6, "use_key": True, "use_activations": True},
        ],
        ids=["affine", "hidden", "key", "activations", "everything"],
    )
    def test_equals_the_perceptron_rule_by_hand(self, spec, options):
        memory, keys, values, rates = example(spec, seed=0)
        writer = mnm.writers.local(backward=mnm.writers.perceptron(**options))
        # Biases start at zero, so the parameters are moved off their start to see that they count.
        params = jax.tree.map(lambda x: np.float64(x) + 0.1, writer.init(jax.random.key(0), spec))

        def backward(i, key, value, actual):
            seen = [value]
            if options.get("use_key"):
                seen.append(key)
            if options.get("use_activations"):
                seen.append(actual)
            *hidden, top = params["backward"][i]
            x = np.concatenate(seen)
            for kernel, bias in hidden:
                x = np.tanh(x @ kernel + bias)
            assert len(hidden) == ("hidden_size" in options)
            return x @ top.kernel + top.bias

        write = writer.write(params, memory, keys, values, rates)
        wanted = perceptron_rule_in_numpy(memory, keys, values, rates, backward)
        chex.assert_trees_all_close(write.apply(memory), wanted, rtol=1e-12)

    @pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
    def test_a_normalized_step_is_divided_by_the_squared_length_of_the_input_and_of_the_biass_input(self, spec):
        memory, keys, values, rates = example(spec, seed=3)
        plain, normalized = mnm.writers.local(), mnm.writers.local(normalized=True)
        params = plain.init(jax.random.key(0), spec)
        expected, write = (writer.write(params, memory, keys, values, rates) for writer in (plain, normalized))
        for inputs, step, plain_step in zip(write.pre, write.post, expected.post, strict=True):
            lengths = np.sum(np.square(inputs), axis=1, keepdims=True) + spec.use_bias + 0.01
            np.testing.assert_allclose(step * lengths, plain_step * step.size / 2, rtol=1e-6)

    @pytest.mark.parametrize("use_bias", [False, True])
    def test_a_normalized_layer_comes_to_its_target_without_overshooting(self, use_bias):
        spec = Spec(3, 2, (), use_bias=use_bias, zero_output_layer=False)
        draw = np.random.default_rng(4)
        # As short as activations of a hidden layer may be.
        key, value = 0.3 * draw.normal(size=(1, 3)), draw.normal(size=(1, 2))
        memory = jax.tree.map(np.float64, mnm.memory.init(jax.random.key(0), spec))
        params = {"backward": ((Layer(np.eye(2), np.zeros(2)),),)}
        written = mnm.writers.local(normalized=True).write(params, memory, key, value, jnp.array(1.0)).apply(memory)
        before, after = (mnm.memory.read(weights, key) - value for weights in (memory, written))
        assert np.all(after * before >= 0)
        assert np.linalg.norm(after) < 0.1 * np.linalg.norm(before)

    def test_no_layer_waits_for_another(self):
        """A layer's write depends on no weight above it: there is no backward pass through the memory."""
        memory, keys, values, rates = example(SPECS["three_layers"], seed=1)
        writer = mnm.writers.local()
        params = writer.init(jax.random.key(0), SPECS["three_layers"])
        other_top = (*memory[:2], jax.tree.map(lambda x: -3 * x, memory[2]))
        first, second = (writer.write(params, weights, keys, values, rates) for weights in (memory, other_top))
        chex.assert_trees_all_equal(
            (first.pre, first.post[:2]),
            (second.pre, second.post[:2]),
        )
        assert not np.allclose(first.post[2], second.post[2])

    def test_bounded_targets_are_those_of_the_hidden_layers_within_the_reach_of_the_tanh(self):
        spec = SPECS["three_layers"]
        memory, keys, values, rates = example(spec, seed=2)
        writer = mnm.writers.local(bounded=True)
        params = jax.tree.map(np.float64, writer.init(jax.random.key(0), spec))

        def backward(i, key, value, actual):
            ((kernel, bias),) = params["backward"][i]
            target = value @ kernel + bias
            return target if i == spec.num_layers - 1 else np.tanh(target)

        wanted = perceptron_rule_in_numpy(memory, keys, values, rates, backward)
        chex.assert_trees_all_close(writer.write(params, memory, keys, values, rates).apply(memory), wanted, rtol=1e-12)

    @pytest.mark.parametrize("normalized", [False, True])
    def test_what_is_written_again_and_again_comes_to_rest_if_targets_are_bounded(self, normalized):
        """A target out of reach moves a hidden layer by the same step each time."""
        spec = Spec(4, 4, (4,))
        draw = np.random.default_rng(0)
        key, value = (np.sign(draw.normal(size=(1, 4))) for _ in range(2))

        def growth(bounded):
            writer = mnm.writers.local(normalized=normalized, bounded=bounded)
            params = jax.tree.map(lambda x: 3 * np.float64(x), writer.init(jax.random.key(0), spec))
            memory = jax.tree.map(np.float64, mnm.memory.init(jax.random.key(1), spec))

            def body(memory, _):
                memory = writer.write(params, memory, key, value, jnp.array(0.5)).apply(memory)
                return memory, jnp.linalg.norm(memory[0].kernel)

            norms = jax.lax.scan(body, memory, length=400)[1]
            return norms[-1] - norms[199]

        assert growth(bounded=False) > 10
        assert growth(bounded=True) < 1


class TestEquality:
    def test_equal_arguments_give_equal_hashable_writers(self):
        writers = mnm.writers
        assert writers.local() == writers.local(backward=writers.perceptron())
        assert hash(writers.local()) == hash(writers.local(backward=writers.perceptron(use_key=False)))
        assert writers.perceptron(hidden_size=4, use_key=True) == writers.perceptron(use_key=True, hidden_size=4)
        assert writers.gradient() == writers.gradient(num_steps=1)
        assert hash(writers.gradient()) == hash(writers.gradient(num_steps=1))

    def test_other_arguments_give_other_writers(self):
        writers = mnm.writers
        every = [
            writers.gradient(),
            writers.gradient(num_steps=2),
            writers.local(),
            writers.local(backward=writers.perceptron(hidden_size=1)),
            writers.local(backward=writers.perceptron(hidden_size=4)),
            writers.local(backward=writers.perceptron(use_key=True)),
            writers.local(backward=writers.perceptron(use_activations=True)),
            writers.local(backward=writers.perceptron(is_learned=False)),
        ]
        assert len(set(every)) == len(every)

    @pytest.mark.parametrize("size", [0, -1, 1.5, True])
    def test_names_the_option_at_fault(self, size):
        with pytest.raises(ValueError, match=f"num_steps must be a whole number of at least 1, got {size}"):
            mnm.writers.gradient(num_steps=size)
        with pytest.raises(ValueError, match=f"hidden_size must be a whole number of at least 1, got {size}"):
            mnm.writers.perceptron(hidden_size=size)

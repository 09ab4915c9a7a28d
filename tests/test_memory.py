"""Tests of the memory."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnm_jax import memory
from mnm_jax.memory import Layer, Spec, Write

SPEC = Spec(key_size=3, value_size=2, hidden_sizes=(4, 5), use_bias=True)


def random_memory(spec, seed=0):
    """A memory in float64, its biases not at zero."""
    draw = np.random.default_rng(seed)
    return tuple(
        Layer(draw.normal(size=(d_in, d_out)), draw.normal(size=d_out) if spec.use_bias else None)
        for d_in, d_out in itertools.pairwise(spec.sizes)
    )


def random_write(spec, rank, seed=1):
    draw = np.random.default_rng(seed)
    pre = tuple(draw.normal(size=(rank, size)) for size in spec.sizes[:-1])
    post = tuple(draw.normal(size=(rank, size)) for size in spec.sizes[1:])
    return Write(pre, post)


class TestSpec:
    def test_sizes_and_number_of_layers(self):
        assert SPEC.sizes == (3, 4, 5, 2)
        assert SPEC.num_layers == 3
        linear = Spec(key_size=3, value_size=2)
        assert linear.sizes == (3, 2)
        assert linear.num_layers == 1

    @pytest.mark.parametrize(
        ("hidden_sizes", "use_bias", "wanted"),
        [((), False, 6), ((), True, 8), ((4, 5), False, 12 + 20 + 10), ((4, 5), True, 12 + 4 + 20 + 5 + 10 + 2)],
    )
    def test_num_weights_counts_what_init_makes(self, hidden_sizes, use_bias, wanted):
        spec = Spec(3, 2, hidden_sizes=hidden_sizes, use_bias=use_bias)
        assert spec.num_weights == wanted
        weights = jax.eval_shape(lambda: memory.init(jax.random.key(0), spec))
        assert sum(leaf.size for leaf in jax.tree.leaves(weights)) == wanted

    def test_equal_arguments_make_equal_values_of_equal_hash(self):
        from_list = Spec(key_size=3, value_size=2, hidden_sizes=[4, 5], use_bias=True)
        assert from_list.hidden_sizes == (4, 5)
        assert from_list == SPEC
        assert hash(from_list) == hash(SPEC)
        assert Spec(3, 2, hidden_sizes=(5, 4), use_bias=True) != SPEC

    @pytest.mark.parametrize("size", [0, -1, 2.0, True])
    @pytest.mark.parametrize("name", ["key_size", "value_size", "hidden_sizes"])
    def test_refuses_sizes_that_are_none(self, name, size):
        arguments = {"key_size": 3, "value_size": 2, name: (4, size) if name == "hidden_sizes" else size}
        with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, got {size}"):
            Spec(**arguments)


class TestInit:
    def test_shapes_and_zero_biases(self):
        weights = memory.init(jax.random.key(0), SPEC)
        assert [layer.kernel.shape for layer in weights] == [(3, 4), (4, 5), (5, 2)]
        assert [layer.bias.shape for layer in weights] == [(4,), (5,), (2,)]
        assert all(np.all(layer.bias == 0) for layer in weights)
        assert {leaf.dtype for leaf in jax.tree.leaves(weights)} == {jnp.dtype("float32")}

    def test_without_biases_there_are_none(self):
        assert [layer.bias for layer in memory.init(jax.random.key(0), Spec(3, 2, (4,)))] == [None, None]

    def test_variance_is_one_over_the_width_of_the_layers_input(self):
        lower, upper = memory.init(jax.random.key(0), Spec(50, 50, (200,), zero_output_layer=False))
        np.testing.assert_allclose(np.std(lower.kernel) * np.sqrt(50), 1, rtol=0.05)
        np.testing.assert_allclose(np.std(upper.kernel) * np.sqrt(200), 1, rtol=0.05)

    def test_the_seed_decides_and_layers_differ(self):
        spec = Spec(3, 3, (3,))
        first = memory.init(jax.random.key(0), spec)
        chex.assert_trees_all_equal(first, memory.init(jax.random.key(0), spec))
        assert not np.allclose(first[0].kernel, memory.init(jax.random.key(1), spec)[0].kernel)
        assert not np.allclose(first[0].kernel, first[1].kernel)

    @pytest.mark.parametrize("use_bias", [False, True])
    def test_zero_output_layer_reads_zero_and_changes_no_other_layer(self, use_bias):
        with_zeros = Spec(3, 2, (4, 5), use_bias=use_bias, zero_output_layer=True)
        weights = memory.init(jax.random.key(0), with_zeros)
        np.testing.assert_array_equal(memory.read(weights, jnp.ones((2, 3))), np.zeros((2, 2)))
        usual = memory.init(jax.random.key(0), Spec(3, 2, (4, 5), use_bias=use_bias, zero_output_layer=False))
        chex.assert_trees_all_equal(weights[:-1], usual[:-1])


class TestRead:
    @pytest.mark.parametrize("use_bias", [False, True])
    def test_equals_a_perceptron_in_numpy(self, use_bias, float64):
        spec = Spec(3, 2, (4, 5), use_bias=use_bias)
        weights = random_memory(spec)
        keys = np.random.default_rng(2).normal(size=(2, 3))
        wanted = []
        for key in keys:
            first = np.tanh(key @ weights[0].kernel + (weights[0].bias if use_bias else 0))
            second = np.tanh(first @ weights[1].kernel + (weights[1].bias if use_bias else 0))
            wanted.append(second @ weights[2].kernel + (weights[2].bias if use_bias else 0))
        np.testing.assert_allclose(memory.read(weights, keys), wanted, rtol=1e-12)

    def test_a_memory_of_one_layer_is_linear(self, float64):
        weights = random_memory(Spec(3, 2))
        keys = np.random.default_rng(2).normal(size=(2, 3))
        np.testing.assert_allclose(memory.read(weights, keys), keys @ weights[0].kernel, rtol=1e-12)

    def test_activations_go_from_key_to_value(self):
        weights = random_memory(SPEC)
        keys = np.random.default_rng(2).normal(size=(2, 3)).astype(np.float32)
        outputs = memory.activations(weights, keys)
        assert [z.shape for z in outputs] == [(2, 3), (2, 4), (2, 5), (2, 2)]
        np.testing.assert_array_equal(outputs[0], keys)
        np.testing.assert_array_equal(outputs[-1], memory.read(weights, keys))

    def test_offsets_act_like_biases(self, float64):
        """An offset goes into the tanh, so it is worth as much as the same bias."""
        with_bias = random_memory(SPEC)
        without = tuple(layer._replace(bias=None) for layer in with_bias)
        keys = np.random.default_rng(2).normal(size=(2, 3))
        offsets = tuple(np.broadcast_to(layer.bias, (2, *layer.bias.shape)) for layer in with_bias)
        chex.assert_trees_all_close(
            memory.activations(without, keys, offsets), memory.activations(with_bias, keys), rtol=1e-12
        )

    @pytest.mark.parametrize("function", [memory.read, memory.activations])
    @pytest.mark.parametrize(
        "keys",
        [np.ones((2, 4)), np.ones(3), np.ones((1, 2, 3)), np.ones((2, 3), int)],
        ids=["width", "no_heads", "batch", "integers"],
    )
    def test_names_the_keys_at_fault(self, function, keys):
        with pytest.raises(AssertionError, match="argument 'keys'"):
            function(random_memory(SPEC), keys)

    @pytest.mark.parametrize("offset", [np.ones(4), np.ones((1, 2, 4))], ids=["no_heads", "batch"])
    def test_names_the_offset_at_fault(self, offset):
        offsets = (offset, np.ones((2, 5)), np.ones((2, 2)))
        with pytest.raises(AssertionError, match=r"argument 'offsets\[0\]'"):
            memory.activations(random_memory(SPEC), np.ones((2, 3)), offsets)


def test_names_the_kernel_of_a_batch_of_memories():
    batch = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), random_memory(SPEC))
    for function, argument in [
        (memory.read, np.ones((2, 3))),
        (memory.activations, np.ones((2, 3))),
        (lambda weights, write: write.apply(weights), random_write(SPEC, rank=2)),
    ]:
        with pytest.raises(AssertionError, match=r"argument 'memory\[0\].kernel'"):
            function(batch, argument)


class TestApplyAndRevert:
    @pytest.mark.parametrize("use_bias", [False, True])
    @pytest.mark.parametrize("rank", [1, 3])
    def test_effect_equals_dense_outer_products(self, rank, use_bias, float64):
        spec = Spec(3, 2, (4, 5), use_bias=use_bias)
        weights, write = random_memory(spec), random_write(spec, rank)
        applied, reverted = write.apply(weights), write.revert(weights)
        for i, layer in enumerate(weights):
            dense = sum(np.outer(write.pre[i][r], write.post[i][r]) for r in range(rank))
            np.testing.assert_allclose(applied[i].kernel, layer.kernel + dense, rtol=1e-12)
            np.testing.assert_allclose(reverted[i].kernel, layer.kernel - dense, rtol=1e-12)
            if use_bias:
                change = sum(write.post[i][r] for r in range(rank))
                np.testing.assert_allclose(applied[i].bias, layer.bias + change, rtol=1e-12)
                np.testing.assert_allclose(reverted[i].bias, layer.bias - change, rtol=1e-12)
            else:
                assert applied[i].bias is None
                assert reverted[i].bias is None

    def test_revert_undoes_apply(self, float64):
        weights, write = random_memory(SPEC), random_write(SPEC, rank=2)
        chex.assert_trees_all_close(write.revert(write.apply(weights)), weights, rtol=0, atol=1e-14)
        chex.assert_trees_all_close(write.apply(write.revert(weights)), weights, rtol=0, atol=1e-14)

    def test_zero_post_changes_no_bit(self):
        weights = memory.init(jax.random.key(0), SPEC)
        write = jax.tree.map(jnp.float32, random_write(SPEC, rank=2))
        write = write._replace(post=jax.tree.map(jnp.zeros_like, write.post))
        chex.assert_trees_all_equal(write.apply(weights), weights)
        chex.assert_trees_all_equal(write.revert(weights), weights)

    @pytest.mark.parametrize("method", ["apply", "revert"])
    def test_names_the_factor_at_fault(self, method):
        def function(weights, write):
            return getattr(write, method)(weights)

        weights, write = random_memory(SPEC), random_write(SPEC, rank=2)
        pre, post = write
        with pytest.raises(AssertionError, match=r"argument 'write': has factors for 2 and 3 layers .* memory has 3"):
            function(weights, Write(pre[:2], post))
        with pytest.raises(AssertionError, match=r"argument 'write.pre\[1\]'"):
            function(weights, Write((pre[0], pre[2], pre[1]), post))
        with pytest.raises(AssertionError, match=r"argument 'write.post\[0\]'"):
            function(weights, Write(pre, (post[0][:1], *post[1:])))
        with pytest.raises(AssertionError, match=r"argument 'write.post\[2\]'"):
            function(weights, Write(pre, (*post[:2], post[2].astype(int))))

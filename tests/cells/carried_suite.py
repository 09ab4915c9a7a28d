"""The properties of every cell whose whole state is carried from step to step, as a class of tests.

A test module defines a fixture `cell` of scope module, and takes the fixtures of `conftest.py` and these tests by

    class TestCarried(CarriedSuite):
        own_parameters = {"initial_keys"}
"""

import jax
import jax.numpy as jnp
import numpy as np

T, INPUT_SIZE, OUTPUT_SIZE, CONTROLLER_SIZE = 6, 3, 2, 4


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def assert_close(actual, desired, rtol=1e-5, atol=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol, atol), actual, desired)


class CarriedSuite:
    """Tests of a `cell` with embedding, controller, interface and output, and of unrolling it.

    Attributes:
      own_parameters: the names of what it learns besides.
    """

    own_parameters = frozenset()

    def test_outputs_have_their_shape_and_the_trace_is_empty(self, whole):
        assert whole.outputs.shape == (T, OUTPUT_SIZE)
        assert whole.trace == ()

    def test_symbols_are_embedded(self, cell):
        of_symbols = cell.clone(embedding_size=6, vocabulary_size=9)
        variables = jax.eval_shape(of_symbols.init, jax.random.key(0), None, jnp.array(1))
        assert variables["params"]["embedding"]["kernel"].shape == (9, 6)

    def test_split_equals_whole(self, halves, whole):
        first, second = halves
        assert_close(jnp.concatenate([first.outputs, second.outputs]), whole.outputs)
        assert_close(second.carry, whole.carry)

    def test_length_masks(self, unroll, variables, inputs, halves, whole):
        masked = unroll(variables, inputs, length=T // 2)
        assert_close(masked.outputs[: T // 2], whole.outputs[: T // 2])
        np.testing.assert_array_equal(masked.outputs[T // 2 :], 0)
        assert_close(masked.carry, halves[0].carry)

    def test_batch_row_equals_single(self, unroll, variables, inputs, whole):
        batch = jnp.stack([normal(5, T, INPUT_SIZE), inputs])
        outputs = jax.vmap(unroll, (None, 0))(variables, batch).outputs
        assert_close(outputs[1], whole.outputs)
        assert np.abs(outputs[0] - outputs[1]).max() > 1e-3

    def test_chunked_equals_plain(self, gradients):
        assert_close(gradients[True], gradients[False], rtol=1e-4)

    def test_every_parameter_is_learned(self, gradients):
        (by_variables, by_inputs), _ = gradients[False]
        params = by_variables["params"]
        assert set(params) == {"embedding", "controller_cell", "interface", "output"} | self.own_parameters
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            assert np.isfinite(leaf).all(), jax.tree_util.keystr(path)
            assert np.abs(leaf).max() > 1e-6, jax.tree_util.keystr(path)
        # Every signal of every head has its own column in the interface.
        assert (np.abs(params["interface"]["kernel"]).max(axis=0) > 1e-8).all()
        assert (np.abs(by_inputs).max(axis=1) > 1e-6).all()

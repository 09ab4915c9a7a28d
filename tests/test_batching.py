"""Tests of functions that bring a version for batches of their own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnm_jax._batching import with_batches

WEIGHTS = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
INPUTS = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)


@pytest.fixture
def calls():
    return []


@pytest.fixture
def layer(calls):
    """A layer with a version for batches: the shapes of the inputs tell which of the two was run, and on what."""

    def run(weights, inputs):
        calls.append(inputs["x"].shape)
        return {"y": jnp.tanh(inputs["x"] @ weights), "count": inputs["count"] + 1}

    return functools.partial(with_batches, run, run)


def plain(weights, x):
    return jnp.sum(jnp.square(jnp.tanh(x @ weights)))


def squares(layer, weights, x):
    return jnp.sum(jnp.square(layer(weights, {"x": x, "count": jnp.arange(len(x))})["y"]))


def squares_of_a_batch(layer, weights, xs):
    counts = jnp.arange(len(xs))
    result = jax.vmap(lambda x, count: layer(weights, {"x": x, "count": count}))(xs, counts)
    return jnp.sum(jnp.square(result["y"]))


@pytest.mark.parametrize(
    "transform", [lambda function: function, jax.jit, jax.checkpoint], ids=["eager", "jit", "remat"]
)
class TestGradient:
    def test_of_one_example(self, layer, calls, transform):
        gradients = transform(jax.grad(functools.partial(squares, layer), argnums=(0, 1)))(WEIGHTS, INPUTS[0])
        for gradient, wanted in zip(gradients, jax.grad(plain, argnums=(0, 1))(WEIGHTS, INPUTS[0]), strict=True):
            np.testing.assert_allclose(gradient, wanted, rtol=1e-5)
        assert set(calls) == {(3,)}

    def test_of_a_batch_is_that_of_the_version_for_batches(self, layer, calls, transform):
        function = functools.partial(squares_of_a_batch, layer)
        gradients = jax.grad(transform(function), argnums=(0, 1))(WEIGHTS, INPUTS)
        for gradient, wanted in zip(gradients, jax.grad(plain, argnums=(0, 1))(WEIGHTS, INPUTS), strict=True):
            np.testing.assert_allclose(gradient, wanted, rtol=1e-5)
        assert calls[-1] == (5, 3)

    def test_of_each_example(self, layer, calls, transform):
        gradients = jax.vmap(transform(jax.grad(functools.partial(squares, layer))), (None, 0))(WEIGHTS, INPUTS)
        np.testing.assert_allclose(gradients, jax.vmap(jax.grad(plain), (None, 0))(WEIGHTS, INPUTS), rtol=1e-5)
        assert set(calls) == {(3,)}


def test_mapped_axis_and_result(layer):
    counts = jnp.arange(5)
    run = jax.vmap(
        lambda x, count: layer(WEIGHTS, {"x": x, "count": count}), in_axes=(1, 0), out_axes={"y": 1, "count": 0}
    )
    result = run(INPUTS.T, counts)
    np.testing.assert_allclose(result["y"], np.tanh(INPUTS @ WEIGHTS).T, rtol=1e-5)
    np.testing.assert_array_equal(result["count"], counts + 1)


def test_an_example_of_its_own_that_is_not_mapped_is_repeated(layer):
    result = jax.vmap(lambda x: layer(WEIGHTS, {"x": x, "count": jnp.int32(1)}))(INPUTS)
    np.testing.assert_allclose(result["y"], np.tanh(INPUTS @ WEIGHTS), rtol=1e-5)
    np.testing.assert_array_equal(result["count"], np.full(5, 2))


def test_mapped_weights_are_mapped_in_the_usual_way(layer, calls):
    weights = np.stack([WEIGHTS, 2 * WEIGHTS])
    gradients = jax.vmap(jax.grad(functools.partial(squares, layer)), (0, None))(weights, INPUTS[0])
    np.testing.assert_allclose(gradients[1], jax.grad(plain)(weights[1], INPUTS[0]), rtol=1e-5)
    assert set(calls) == {(3,)}


def test_seeds_of_batches(layer, calls):
    """What a training is: the gradients of several batches, each with weights of its own."""
    weights, inputs = np.stack([WEIGHTS, 2 * WEIGHTS]), np.stack([INPUTS, INPUTS + 1])
    gradients = jax.jit(jax.vmap(jax.grad(functools.partial(squares_of_a_batch, layer))))(weights, inputs)
    for gradient, *arguments in zip(gradients, weights, inputs, strict=True):
        np.testing.assert_allclose(gradient, jax.grad(plain)(*arguments), rtol=1e-5)
    assert calls[-1] == (5, 3)

"""Tests of the look-up table that is written and read by soft attention."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from carried_suite import CONTROLLER_SIZE, OUTPUT_SIZE, CarriedSuite, T
from numpy_reference import address as loop_address
from numpy_reference import write as loop_write

import mnm_jax as mnm

S, KEY_SIZE, VALUE_SIZE, H = 5, 3, 2, 2

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def cell():
    return mnm.cells.SALU(OUTPUT_SIZE, CONTROLLER_SIZE, S, KEY_SIZE, VALUE_SIZE, num_heads=H)


class TestCarried(CarriedSuite):
    own_parameters = frozenset({"initial_keys", "initial_values"})


@pytest.mark.parametrize("value_normalization", ["rms", None])
def test_step_equals_numpy_reference(cell, variables, inputs, halves, value_normalization):
    cell, before = cell.clone(value_normalization=value_normalization), halves[0].carry
    after, (output, _) = jax.jit(cell.apply)(variables, before, inputs[T // 2])
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    hidden = np.asarray(after.controller[1], np.float64)
    signals = (hidden @ params["interface"]["kernel"] + params["interface"]["bias"]).reshape(H, -1)
    ends = np.cumsum([KEY_SIZE, KEY_SIZE, KEY_SIZE, VALUE_SIZE, KEY_SIZE, VALUE_SIZE])
    write_keys, read_keys, add_keys, add_values, erase_keys, erase_values, strengths = np.split(signals, ends, axis=1)
    write_strengths, read_strengths = np.log1p(np.exp(strengths)).T
    add_values = np.tanh(add_values)
    if value_normalization == "rms":
        add_values /= np.sqrt(np.mean(np.square(add_values), axis=1, keepdims=True))

    weights = loop_address(before.keys, np.tanh(write_keys), write_strengths)
    keys = loop_write(before.keys, weights, 1 / (1 + np.exp(-erase_keys)), np.tanh(add_keys))
    values = loop_write(before.values, weights, 1 / (1 + np.exp(-erase_values)), add_values)
    weights = loop_address(keys, np.tanh(read_keys), read_strengths)
    read = np.mean([sum(weights[i, s] * values[s] for s in range(S)) for i in range(H)], axis=0)
    expected = np.concatenate([hidden, read]) @ params["output"]["kernel"] + params["output"]["bias"]

    np.testing.assert_allclose(after.keys, keys, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(after.values, values, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(after.read, read, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)


def test_starts_from_learned_table_with_distinct_slots(cell, variables):
    carry = cell.apply(variables, method="initial_carry")
    params = variables["params"]
    np.testing.assert_array_equal(carry.keys, params["initial_keys"])
    np.testing.assert_array_equal(carry.values, params["initial_values"])
    assert carry.keys.shape == (S, KEY_SIZE)
    assert carry.values.shape == (S, VALUE_SIZE)
    assert len(np.unique(carry.keys, axis=0)) == len(np.unique(carry.values, axis=0)) == S
    assert not carry.read.any()


def test_table_at_the_start_has_the_documented_spread():
    cell = mnm.cells.SALU(1, 1, num_slots=2000, key_size=3, value_size=5)
    params = jax.jit(cell.init)(jax.random.key(0), None, jnp.ones(1))["params"]
    np.testing.assert_allclose(np.std(params["initial_keys"]), 8**-0.5, rtol=0.05)
    np.testing.assert_allclose(np.std(params["initial_values"]), 8**-0.5, rtol=0.05)


def test_interface_starts_with_the_given_biases(cell):
    cell = cell.clone(strength_bias=7.0, erase_bias=-1.0)
    biases = jax.jit(cell.init)(jax.random.key(0), None, jnp.ones(2))["params"]["interface"]["bias"].reshape(H, -1)
    width = KEY_SIZE + VALUE_SIZE
    np.testing.assert_array_equal(biases[:, : 2 * KEY_SIZE + width], 0)
    np.testing.assert_array_equal(biases[:, 2 * KEY_SIZE + width : -2], -1)
    np.testing.assert_array_equal(biases[:, -2:], 7)


def test_refuses_unknown_normalization(cell):
    with pytest.raises(ValueError, match="value_normalization must be one of 'rms', None, got 'l2'"):
        cell.clone(value_normalization="l2").init(jax.random.key(0), None, jnp.ones(2))


def test_shapes(whole):
    assert whole.carry.keys.shape == (S, KEY_SIZE)
    assert whole.carry.values.shape == (S, VALUE_SIZE)
    assert whole.carry.read.shape == (VALUE_SIZE,)


@pytest.mark.parametrize("name", ["output_size", "controller_size", "num_slots", "key_size", "value_size", "num_heads"])
def test_refuses_sizes_below_one(cell, name):
    with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, got 0"):
        cell.clone(**{name: 0}).init(jax.random.key(0), None, jnp.ones(2))

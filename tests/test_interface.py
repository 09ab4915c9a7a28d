"""Tests of the interface between controller and memory."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnm_jax.interface import Interface
from mnm_jax.memory import Spec

SPEC = Spec(key_size=3, value_size=2, hidden_sizes=(4,))
CONTROLLER_SIZE = 6
HIDDEN = np.random.default_rng(0).normal(size=CONTROLLER_SIZE).astype(np.float32)


PLAIN = {"key_normalization": None, "value_normalization": None, "shared_key_start": False}


def make(num_heads=2, **options):
    """An interface, plain but for the options, and its variables."""
    options = PLAIN | options
    interface = Interface(memory_spec=SPEC, num_heads=num_heads, **options)
    return interface, interface.init(jax.random.key(1), HIDDEN)


def test_equals_the_equations_in_numpy():
    interface, variables = make(rate_scale=0.5, rate_bias=1.0)
    signals, rate = variables["params"]["signals"], variables["params"]["rate"]
    every = np.tanh(HIDDEN @ signals["kernel"] + signals["bias"])
    write_keys, read_keys, write_values, rate_input = np.split(every, [6, 12, 16])
    assert rate_input.shape == (CONTROLLER_SIZE,)
    logit = rate_input @ rate["kernel"] + rate["bias"]
    result = interface.apply(variables, HIDDEN)
    np.testing.assert_allclose(result.write_keys, write_keys.reshape(2, 3), rtol=1e-5)
    np.testing.assert_allclose(result.read_keys, read_keys.reshape(2, 3), rtol=1e-5)
    np.testing.assert_allclose(result.write_values, write_values.reshape(2, 2), rtol=1e-5)
    np.testing.assert_allclose(result.rate, 0.5 / (1 + np.exp(-logit[0])), rtol=1e-5)


@pytest.mark.parametrize(("rate_per", "shape"), [("step", ()), ("head", (3,)), ("layer", (2, 1))])
def test_shape_of_the_rate_and_its_start(rate_per, shape):
    """At a hidden state of zero the rate is what its bias alone makes."""
    interface, variables = make(num_heads=3, rate_per=rate_per, rate_scale=0.5, rate_bias=2.0)
    rate = interface.apply(variables, np.zeros(CONTROLLER_SIZE, np.float32)).rate
    assert rate.shape == shape
    np.testing.assert_allclose(rate, np.full(shape, 0.5 / (1 + math.exp(-2))), rtol=1e-6)


@pytest.mark.parametrize("rate_per", ["head", "layer"])
def test_rates_differ_from_each_other(rate_per):
    interface, variables = make(rate_per=rate_per)
    rate = interface.apply(variables, HIDDEN).rate.reshape(-1)
    assert not np.isclose(*rate)


def test_rate_stays_between_zero_and_its_scale():
    interface, variables = make(rate_scale=0.5)
    for bias, limit in [(-100.0, 0.0), (100.0, 0.5)]:
        variables["params"]["rate"]["bias"] = jnp.array([bias])
        np.testing.assert_allclose(interface.apply(variables, HIDDEN).rate, limit, atol=1e-6)


@pytest.mark.parametrize("keys", ["rms", None])
@pytest.mark.parametrize("values", ["rms", None])
def test_normalization_gives_root_mean_square_one(keys, values):
    interface, variables = make(key_normalization=keys, value_normalization=values)
    plain = Interface(memory_spec=SPEC, num_heads=2, **PLAIN).apply(variables, HIDDEN)
    signals = interface.apply(variables, HIDDEN)
    for name, kind in [("write_keys", keys), ("read_keys", keys), ("write_values", values)]:
        vectors, before = getattr(signals, name), getattr(plain, name)
        root_mean_square = np.sqrt(np.mean(np.square(before), axis=-1, keepdims=True))
        wanted = before / root_mean_square if kind == "rms" else before
        np.testing.assert_allclose(vectors, wanted, rtol=1e-4)
        if kind == "rms":
            np.testing.assert_allclose(np.sqrt(np.mean(np.square(vectors), axis=-1)), np.ones(2), rtol=1e-4)


def test_normalization_of_a_zero_vector_has_a_finite_gradient():
    interface, variables = make(key_normalization="rms", value_normalization="rms")
    zeros = np.zeros(CONTROLLER_SIZE, np.float32)
    np.testing.assert_array_equal(interface.apply(variables, zeros).write_keys, np.zeros((2, 3)))
    jacobian = jax.jacrev(lambda hidden: interface.apply(variables, hidden).write_keys)(zeros)
    assert np.all(np.isfinite(jacobian))


def test_shared_start_makes_read_keys_equal_write_keys_which_then_learn_freely():
    interface, variables = make(shared_key_start=True)
    signals = interface.apply(variables, HIDDEN)
    np.testing.assert_array_equal(signals.read_keys, signals.write_keys)
    gradient = jax.grad(lambda variables: interface.apply(variables, HIDDEN).read_keys.sum())(variables)
    kernel = gradient["params"]["signals"]["kernel"]
    assert np.all(kernel[:, :6] == 0)
    assert np.all(kernel[:, 6:12] != 0)


def test_without_shared_start_the_keys_differ():
    interface, variables = make()
    signals = interface.apply(variables, HIDDEN)
    assert not np.any(np.isclose(signals.read_keys, signals.write_keys))


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("key_normalization", "l2", "'rms', None"),
        ("value_normalization", "l2", "'rms', None"),
        ("rate_per", "feature", "'step', 'head', 'layer'"),
    ],
)
def test_names_the_option_at_fault(option, value, allowed):
    with pytest.raises(ValueError, match=f"{option} must be one of {allowed}, got '{value}'"):
        make(**{option: value})


@pytest.mark.parametrize("scale", [-1.0, float("nan"), float("inf")])
def test_names_a_scale_of_the_rate_that_is_not_possible(scale):
    with pytest.raises(ValueError, match=f"rate_scale must be finite and not negative, got {scale}"):
        make(rate_scale=scale)

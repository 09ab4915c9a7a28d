"""Tests of the LSTM baseline."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from writer_suite import draw_variables

import mnm_jax as mnm

CELL = mnm.cells.LSTM(output_size=2, controller_size=4, embedding_size=5)
INPUTS = np.random.default_rng(0).normal(size=(9, 3))

pytestmark = pytest.mark.usefixtures("quick_compilation")


@functools.partial(jax.jit, static_argnames="reversible")
def run_and_gradient(variables, inputs, carry, length, reversible):
    """Value, and the gradient with respect to variables, inputs and carry, of a loss that uses everything."""

    def loss(variables, inputs, carry):
        run = mnm.unroll(CELL, variables, inputs, carry, length=length, reversible=reversible)
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(run)), run

    gradients, run = jax.grad(loss, argnums=(0, 1, 2), has_aux=True)(variables, inputs, carry)
    return run, gradients


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_one_step_equals_the_equations_in_numpy():
    variables = draw_variables(CELL, INPUTS[0])
    params = jax.tree.map(np.asarray, variables["params"])
    embedded = INPUTS[0] @ params["embedding"]["kernel"]
    c, h = np.full(4, 0.3), np.full(4, -0.2)
    controller = params["controller_cell"]
    gates = (
        embedded @ controller["input"]["kernel"] + controller["input"]["bias"] + h @ controller["recurrent"]["kernel"]
    )
    i, f, g, o = np.split(gates, 4)
    new_c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(g)
    new_h = sigmoid(o) * np.tanh(new_c)
    wanted = new_h @ params["output"]["kernel"] + params["output"]["bias"]
    carry, (output, trace) = CELL.apply(variables, (c, h), INPUTS[0])
    chex.assert_trees_all_close((carry, output), ((new_c, new_h), wanted), rtol=1e-5)
    assert trace == ()


def test_controller_without_forget_bias_equals_that_of_flax():
    """And its gates start as theirs do: each with an orthogonal recurrent kernel."""
    cell = mnm.cells.LSTMCell(4, forget_bias=0.0)
    carry, x = (np.full(4, 0.3, np.float32), np.full(4, -0.2, np.float32)), INPUTS[0].astype(np.float32)
    params = cell.init(jax.random.key(0), carry, x)["params"]
    theirs = {}
    for i, gate in enumerate("ifgo"):
        part = slice(4 * i, 4 * (i + 1))
        recurrent = params["recurrent"]["kernel"][:, part]
        np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(4), atol=1e-5)
        theirs["i" + gate] = {"kernel": params["input"]["kernel"][:, part]}
        theirs["h" + gate] = {"kernel": recurrent, "bias": params["input"]["bias"][part]}
    wanted = nn.OptimizedLSTMCell(4).apply({"params": theirs}, carry, x)
    chex.assert_trees_all_close(cell.apply({"params": params}, carry, x), wanted, rtol=1e-5)


def test_starts_at_zero():
    carry = CELL.apply(draw_variables(CELL, INPUTS[0]), method="initial_carry")
    chex.assert_trees_all_equal(carry, (np.zeros(4), np.zeros(4)))
    explicit = CELL.apply(draw_variables(CELL, INPUTS[0]), carry, INPUTS[0])
    chex.assert_trees_all_equal(CELL.apply(draw_variables(CELL, INPUTS[0]), None, INPUTS[0]), explicit)


@pytest.mark.parametrize(("num_steps", "length"), [(1, None), (2, None), (7, None), (9, None), (7, 3), (7, 0)])
def test_chunked_equals_plain_in_value_and_gradient(num_steps, length, float64):
    arguments = (draw_variables(CELL, INPUTS[0]), INPUTS[:num_steps], (np.full(4, 0.3), np.full(4, -0.2)), length)
    chunked = run_and_gradient(*arguments, reversible=True)
    plain = run_and_gradient(*arguments, reversible=False)
    chex.assert_trees_all_close(chunked, plain, rtol=1e-10, atol=1e-13)
    assert np.any(plain[1][0]["params"]["embedding"]["kernel"]) == (length != 0)


def test_padding_past_the_length_changes_nothing(float64):
    variables, carry = draw_variables(CELL, INPUTS[0]), (np.full(4, 0.3), np.full(4, -0.2))
    padded_inputs = np.where(np.arange(7)[:, None] < 2, INPUTS[:7], 1e4)
    padded, padded_gradients = run_and_gradient(variables, padded_inputs, carry, 2, reversible=True)
    short, short_gradients = run_and_gradient(variables, INPUTS[:2], carry, None, reversible=True)
    chex.assert_trees_all_close((padded.carry, padded.outputs[:2]), (short.carry, short.outputs), rtol=1e-12)
    of_variables, of_inputs, of_carry = padded_gradients
    chex.assert_trees_all_close((of_variables, of_inputs[:2], of_carry), short_gradients, rtol=1e-10)
    assert np.all(padded.outputs[2:] == 0)
    assert np.all(of_inputs[2:] == 0)


def test_symbols_equal_one_hot_inputs():
    cell = mnm.cells.LSTM(output_size=2, controller_size=4, vocabulary_size=3)
    symbols = jnp.array([2, 0, 1])
    params = draw_variables(cell, symbols[0])
    chex.assert_trees_all_close(
        mnm.unroll(cell, params, symbols), mnm.unroll(cell, params, jax.nn.one_hot(symbols, 3)), rtol=1e-6
    )


def test_equal_arguments_make_equal_cells():
    again = mnm.cells.LSTM(output_size=2, controller_size=4, embedding_size=5)
    assert again == CELL
    assert hash(again) == hash(CELL)
    assert again != mnm.cells.LSTM(output_size=2, controller_size=4)


@pytest.mark.parametrize("name", ["output_size", "controller_size"])
def test_names_the_size_at_fault(name):
    cell = mnm.cells.LSTM(**{"output_size": 2, "controller_size": 4, name: 0})
    with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, got 0"):
        cell.init(jax.random.key(0), None, INPUTS[0])

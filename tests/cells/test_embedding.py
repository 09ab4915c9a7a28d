"""Tests of the embedding: what it takes, and what it makes of what is no symbol."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mnm_jax as mnm
from mnm_jax import models
from mnm_jax.inputs import Sentence

pytestmark = pytest.mark.usefixtures("quick_compilation")

SYMBOLS = mnm.cells.Embedding(4, vocabulary_size=3)
DENSE = mnm.cells.Embedding(4)


@pytest.fixture(scope="module")
def variables():
    return SYMBOLS.init(jax.random.key(0), jnp.array(0))


def test_a_symbol_is_a_row_of_the_kernel(variables):
    kernel = variables["params"]["kernel"]
    for symbol in (2, np.uint8(2), jax.nn.one_hot(2, 3)):
        np.testing.assert_array_equal(SYMBOLS.apply(variables, symbol), kernel[2])


@pytest.mark.parametrize("symbol", [-1, 3, 100])
def test_what_is_no_symbol_is_refused_or_not_a_number(variables, symbol):
    with pytest.raises(ValueError, match=f"argument 'inputs': wants integers of 0 to 2, got {symbol}"):
        SYMBOLS.apply(variables, symbol)
    assert np.isnan(jax.jit(SYMBOLS.apply)(variables, symbol)).all()


@pytest.mark.parametrize(
    ("embedding", "inputs", "message"),
    [
        (SYMBOLS, jnp.zeros((5,), int), r"got shape \(5,\) per step and vocabulary_size 3.* jax\.vmap"),
        (DENSE, jnp.array(1), "need the cell's vocabulary_size"),
        (DENSE, jnp.zeros((2, 3)), r"'inputs'.* jax\.vmap"),
        (SYMBOLS, jnp.zeros(4), "'inputs'"),
        (SYMBOLS, jnp.array(True), "'inputs'"),
    ],
)
def test_names_inputs_that_are_neither_symbols_nor_vectors(embedding, inputs, message):
    with pytest.raises(AssertionError, match=f"(?s){message}"):
        embedding.init(jax.random.key(0), inputs)


def test_a_sentence_is_a_sum_of_words_weighted_by_place():
    symbols = jnp.array([2, 0, 2, -1])
    variables = SYMBOLS.init(jax.random.key(0), Sentence(symbols))
    kernel, positions = (variables["params"][name] for name in ("kernel", "positions"))
    wanted = (kernel[2] * positions[0] + kernel[0] * positions[1] + kernel[2] * positions[2]) / np.sqrt(3)
    np.testing.assert_allclose(SYMBOLS.apply(variables, Sentence(symbols)), wanted, rtol=1e-5)

    gradient = jax.grad(lambda variables: SYMBOLS.apply(variables, Sentence(symbols)).sum())(variables)["params"]
    assert np.isfinite(gradient["kernel"]).all()
    assert not gradient["kernel"][1].any()
    assert not gradient["positions"][3].any()
    assert np.abs(gradient["positions"][:3]).min() > 0


def test_a_sentence_starts_at_the_scale_of_a_word():
    embedding = mnm.cells.Embedding(1000, vocabulary_size=9, scale=2.0)
    embedded, _ = embedding.init_with_output(jax.random.key(0), Sentence(jnp.array([1, 2, 3, 4, 5, -1])))
    np.testing.assert_allclose(jnp.sqrt(jnp.mean(jnp.square(embedded))), 2.0, rtol=0.1)


@pytest.mark.parametrize(
    ("embedding", "symbols", "error", "message"),
    [
        (DENSE, [1, 2], AssertionError, "a sentence is made of symbols, and needs the cell's vocabulary_size"),
        (SYMBOLS, [[1, 2]], AssertionError, "'inputs.symbols'"),
        (SYMBOLS, [0.0, 1.0], AssertionError, "'inputs.symbols'"),
        (SYMBOLS, [1, 3], ValueError, "'inputs.symbols': wants integers of 0 to 2, got 3"),
    ],
)
def test_names_what_is_no_sentence(embedding, symbols, error, message):
    with pytest.raises(error, match=message):
        embedding.init(jax.random.key(0), Sentence(jnp.array(symbols)))


def test_names_inputs_of_another_width_than_at_the_start():
    variables = DENSE.init(jax.random.key(0), jnp.zeros(3))
    with pytest.raises(AssertionError, match="argument 'inputs'"):
        DENSE.apply(variables, jnp.zeros(5))


@pytest.mark.parametrize("name", ["mnm_g", "lstm", "attention"])
def test_padding_may_be_no_symbols(name):
    settings = models.ModelSettings(4, 3, num_layers=2)
    cell = models.build(name, settings, output_size=2, vocabulary_size=3, num_steps=4)
    variables = cell.init(jax.random.key(0), None, jnp.array(0))

    @jax.jit
    def run_and_gradient(symbols):
        def loss(variables):
            run = mnm.unroll(cell, variables, symbols, length=2)
            return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(run)), run

        return jax.grad(loss, has_aux=True)(variables)

    padded, expected = run_and_gradient(jnp.array([1, 2, -1, 7])), run_and_gradient(jnp.array([1, 2, 0, 0]))
    jax.tree.map(np.testing.assert_array_equal, padded, expected)
    assert np.isnan(mnm.unroll(cell, variables, jnp.array([1, 2, -1])).outputs[2]).all()

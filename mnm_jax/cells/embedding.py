"""The input embedding that every cell begins with."""

from collections.abc import Callable
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from mnm_jax import _checks
from mnm_jax.inputs import Sentence

# What to do with more than one episode; it ends a message.
_ONE_EPISODE = (
    "; a step takes one input, mnm_jax.unroll one episode [T, ...], and mnm_jax.unroll_batch, or a jax.vmap, a batch"
)


class Embedding(nn.Module):
    """A linear map of the inputs whose output has root mean square `scale` at the start of training, by default 1.

    A sentence of `n` words is `n^{-1/2} sum_i E[word_i] * P[i]`, with a learned weight `P` for each position and
    feature, as in Sukhbaatar et al. ("End-To-End Memory Networks", NeurIPS 2015), where the weights are fixed.

    Inputs that move the controller's state too little make its states, and hence its keys, nearly parallel, so that
    every write overwrites the one before; see `experiments/results/takeoff.md`.

    Attributes:
      size: width of the embedding.
      vocabulary_size: if the inputs are symbols, how many there are; weights N(0, scale^2) then. `None` for dense
        inputs with entries of about unit scale; weights N(0, scale^2 / input_size) then.
      scale: root mean square of the output at the start.
    """

    size: int
    vocabulary_size: int | None = None
    scale: float = 1.0

    @nn.compact
    def __call__(self, inputs: jax.Array | Sentence) -> jax.Array:
        """Embeds one input.

        Args:
          inputs: a symbol's number `[]` (an integer below `vocabulary_size`), a `Sentence` of such, a one-hot symbol
            `[vocabulary_size]`, or, without a vocabulary, a dense vector `[input_size]`.

        Returns:
          `[size]`; NaN for a traced symbol that is not in the vocabulary.

        Raises:
          AssertionError: if the inputs are none of these, or of another width than those that the parameters are for.
          ValueError: if a size is below 1, or a symbol is known and not in the vocabulary.
        """
        _checks.check_positive(embedding_size=self.size)
        if self.vocabulary_size is not None:
            _checks.check_positive(vocabulary_size=self.vocabulary_size)
        sentence = inputs if isinstance(inputs, Sentence) else None
        inputs = jnp.asarray(inputs if sentence is None else sentence.symbols)
        num_inputs = self._check(inputs) if sentence is None else self._check_sentence(inputs)
        scale = self.scale if self.vocabulary_size else self.scale * num_inputs**-0.5
        kernel = self.param("kernel", nn.initializers.normal(scale), (num_inputs, self.size), jnp.float32)
        if inputs.ndim == 1 and sentence is None:
            return inputs @ kernel
        symbols = inputs if sentence is None else jnp.maximum(inputs, 0)
        # Otherwise -1 would be the last symbol, and so would be whatever lies beyond it.
        embedded = jnp.asarray(kernel).at[symbols].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
        if sentence is None:
            return embedded
        positions = self.param("positions", _positions_init, (len(inputs), self.size), jnp.float32)
        is_word = (inputs >= 0).astype(embedded.dtype)
        return is_word @ (embedded * positions) * jax.lax.rsqrt(jnp.maximum(jnp.sum(is_word), 1))

    def _check_sentence(self, symbols: jax.Array) -> int:
        """Checks a sentence, and says how many rows the kernel has for its symbols."""
        if self.vocabulary_size is None:
            raise AssertionError(
                "argument 'inputs': a sentence is made of symbols, and needs the cell's vocabulary_size"
            )
        num_symbols = self.vocabulary_size
        words = jnp.maximum(symbols, 0) if jnp.issubdtype(symbols.dtype, jnp.integer) else symbols
        _checks.check_index("inputs.symbols", words, (None,), num_symbols)
        return num_symbols

    def _check(self, inputs: jax.Array) -> int:
        """Checks one input, and says how many rows the kernel has for it."""
        if jnp.issubdtype(inputs.dtype, jnp.integer):
            if self.vocabulary_size is None or inputs.ndim != 0:
                raise AssertionError(
                    f"argument 'inputs': integers are symbols, and need the cell's vocabulary_size; got shape "
                    f"{inputs.shape} per step and vocabulary_size {self.vocabulary_size}{_ONE_EPISODE}"
                )
            _checks.check_index("inputs", inputs, (), self.vocabulary_size)
            return self.vocabulary_size
        width = self.vocabulary_size
        if width is None and self.has_variable("params", "kernel"):
            width = self.get_variable("params", "kernel").shape[0]
        check_vector(inputs, width)
        return inputs.shape[0]


def check_vector(inputs: jax.Array, width: int | None) -> None:
    """Checks that the inputs of a step are one vector.

    Args:
      inputs: of a step.
      width: what the parameters were made for; `None` for any.

    Raises:
      AssertionError: if not, saying how a batch is run, or what the width was.
    """
    try:
        _checks.check_array("inputs", inputs, (width,))
    except AssertionError as error:
        hint = "; the parameters were made for inputs of that width" if jnp.ndim(inputs) == 1 else _ONE_EPISODE
        raise AssertionError(f"{error}{hint}") from None


def _positions_init(rng: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Alike enough that a word is the same word everywhere, and different enough to tell where; mean square 1."""
    weights: jax.Array = (1 + 0.5 * jax.random.normal(rng, shape, dtype)) * 1.25**-0.5
    return weights


class _Embeds(Protocol):
    controller_size: int
    embedding_size: int | None
    vocabulary_size: int | None
    embedding_scale: float


def embedding_of(cell: _Embeds) -> Callable[[jax.Array], jax.Array]:
    """The embedding of a cell, from the cell's fields; as wide as the controller unless they say otherwise.

    A size of 0 stands for none: the controller reads dense inputs as they are.
    """
    size = cell.controller_size if cell.embedding_size is None else cell.embedding_size
    if size == 0 and cell.vocabulary_size is None:
        return _as_it_is
    return Embedding(size, cell.vocabulary_size, cell.embedding_scale)


def _as_it_is(inputs: jax.Array) -> jax.Array:
    check_vector(inputs, None)
    return jnp.asarray(inputs)


def drop_features(params: dict[str, Any], rng: jax.Array, rate: float) -> dict[str, Any]:
    """Dropout on the embedding: a cell's parameters with a share of the embedding's numbers at zero.

    Of an embedding of sentences these are the words' numbers and the positions' weights, independently of each other.

    Args:
      params: the parameters of a cell whose embedding is called `embedding`.
      rng: what is dropped depends on it alone.
      rate: the share; the numbers that are left are scaled up by `1 / (1 - rate)`.

    Raises:
      ValueError: if there is no embedding of that name.
    """
    if "embedding" not in params:
        raise ValueError("embedding_dropout wants a cell with parameters named 'embedding', as `cells.Embedding` has")

    leaves, structure = jax.tree.flatten(params["embedding"])
    # A mask for each: with one for all, a word would lose the very features that its position has lost.
    dropped = [
        jnp.where(jax.random.bernoulli(jax.random.fold_in(rng, i), 1 - rate, leaf.shape), leaf / (1 - rate), 0)
        for i, leaf in enumerate(leaves)
    ]
    return {**params, "embedding": jax.tree.unflatten(structure, dropped)}

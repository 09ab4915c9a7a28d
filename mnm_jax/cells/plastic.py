"""Recurrent networks with plastic connections, which change by Hebb's rule while an episode lasts.

Sources: Miconi, Clune and Stanley, "Differentiable plasticity", ICML 2018, section 3; Miconi, Rawal, Clune and Stanley,
"Backpropamine", ICLR 2019, section 3.

Axes: `N` hidden units. In every matrix `[N, N]` the entry `[i, j]` belongs to the connection from `i` to `j`.
"""

import functools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mnm_jax import _checks
from mnm_jax._batching import with_batches
from mnm_jax.cells._types import OneEpisode, in_parameter_type
from mnm_jax.cells.embedding import Embedding, check_vector

RULES = ("none", "hebbian", "modulated", "retroactive")

_RATE = 0.01  # At the start, as published.


class PlasticCarry(NamedTuple):
    """The state between two steps.

    Attributes:
      hidden: `[N]`, the activity `x`.
      trace: `[N, N]`, the Hebbian trace; `()` for a network without.
      eligibility: `[N, N]`, the eligibility trace of the retroactive rule; `()` for the others.
    """

    hidden: jax.Array
    trace: Any
    eligibility: Any


class Plastic(OneEpisode, nn.Module):
    """A recurrent network whose connections are `W + alpha * trace`: `x' = tanh(U o + b + x (W + alpha * trace))`.

    With `o` the input, `U` the embedding, and `x x'` the outer product of old and new activity, the trace, at zero at
    the start of an episode, changes after each step by one of these rules, and is clipped to [-1, 1]:

    - `'none'`: there is no trace, only `W`;
    - `'hebbian'`: `trace += eta x x'`, with a learned `eta`;
    - `'modulated'`: `trace += m x x'`, with `m = tanh(w x' + c)`, an output of the network;
    - `'retroactive'`: `trace += m e` with the eligibility `e` as it was, and then `e = (1 - eta) e + eta x x'`.

    The output is `W_o x' + b_o`. `W` and `alpha` start uniform in (0, `start_scale`), `eta` at 0.01, as published. The
    published code leaves everything else at the defaults of PyTorch's linear layers: `U`, `W_o`, `w` and all biases
    uniform between `-n^{-1/2}` and `n^{-1/2}`, with `n` the number of inputs of the layer. `published_start` does so
    too. Without, what surrounds the network starts as in every other cell of the library: `U` with a standard deviation
    larger by the square root of 3, heads by `flax.linen`, biases at zero.

    Attributes:
      output_size: width of the output.
      controller_size: `N`.
      rule: see above.
      vocabulary_size: number of symbols, if the inputs are symbols; see `Embedding`.
      embedding_scale: root mean square of the embedded inputs at the start of training; see `Embedding`.
      start_scale: of `W` and `alpha`; the published one is 0.01.
      published_start: see above; for dense inputs, and `embedding_scale` is of no effect then.
    """

    output_size: int
    controller_size: int
    rule: str = "hebbian"
    vocabulary_size: int | None = None
    embedding_scale: float = 1.0
    start_scale: float = 0.01
    published_start: bool = False

    def setup(self) -> None:
        """Makes the parts; linen calls it."""
        _checks.check_positive(output_size=self.output_size, controller_size=self.controller_size)
        _checks.check_choice("rule", self.rule, RULES)
        if not 0 < self.start_scale < math.inf:
            raise ValueError(f"start_scale must be finite and above 0, got {self.start_scale!r}")
        size = self.controller_size
        linear: type[_Linear | nn.Dense] = _Linear if self.published_start else nn.Dense
        self.embedding: _Linear | Embedding
        if self.published_start:
            if self.vocabulary_size is not None:
                raise ValueError(
                    f"published_start is for dense inputs, without a vocabulary; got vocabulary_size "
                    f"{self.vocabulary_size!r}"
                )
            self.embedding = _Linear(size)
        else:
            self.embedding = Embedding(size, self.vocabulary_size, self.embedding_scale)
            self.bias = self.param("bias", nn.initializers.zeros, (size,), jnp.float32)
        uniform = nn.initializers.uniform(self.start_scale)
        self.recurrent = self.param("recurrent", uniform, (size, size), jnp.float32)
        if self.rule != "none":
            self.plasticity = self.param("plasticity", uniform, (size, size), jnp.float32)
        if self.rule in ("hebbian", "retroactive"):
            self.rate = self.param("rate", nn.initializers.constant(_RATE), (), jnp.float32)
        if self.rule in ("modulated", "retroactive"):
            self.modulator = linear(1)
        self.output = linear(self.output_size)

    def initial_carry(self) -> PlasticCarry:
        """The state at the start of an episode: everything at zero."""
        size = self.controller_size
        zeros = jnp.zeros((size, size), jnp.float32)
        carry = PlasticCarry(
            jnp.zeros(size, jnp.float32),
            () if self.rule == "none" else zeros,
            zeros if self.rule == "retroactive" else (),
        )
        return in_parameter_type(self, carry)

    def __call__(
        self, carry: PlasticCarry | None, inputs: jax.Array
    ) -> tuple[PlasticCarry, tuple[jax.Array, tuple[()]]]:
        """One step.

        Args:
          carry: the state, or `None` at the start of an episode.
          inputs: one input; see `Embedding`.

        Returns:
          `(carry, (output, ()))`, with the output `[output_size]` and an empty trace.
        """
        old, trace, eligibility = self.initial_carry() if carry is None else carry
        # Two products, for the one with `recurrent` is a product of matrices in a batch.
        total = self.embedding(inputs) + old @ self.recurrent
        if not self.published_start:
            total += self.bias
        if self.rule != "none":
            total += _recall(old, self.plasticity, trace)
        new = jnp.tanh(total)

        if self.rule == "hebbian":
            trace = _write(trace, self.rate * old, new)
        elif self.rule == "modulated":
            trace = _write(trace, self._modulation(new) * old, new)
        elif self.rule == "retroactive":
            trace = _write_eligible(trace, self._modulation(new), eligibility)
            eligibility = (1 - self.rate) * eligibility + _outer(self.rate * old, new)
        return PlasticCarry(new, trace, eligibility), (self.output(new), ())

    def _modulation(self, hidden: jax.Array) -> jax.Array:
        return jnp.tanh(self.modulator(hidden)[0])


class _Linear(nn.Module):
    """A linear layer that starts as PyTorch's do: kernel and bias uniform within one over the root of the inputs."""

    size: int

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        known: jax.Array | None = self.get_variable("params", "kernel")
        check_vector(inputs, None if known is None else known.shape[0])
        (num_inputs,) = inputs.shape

        def uniform(rng: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
            bound = num_inputs**-0.5
            return jax.random.uniform(rng, shape, dtype, -bound, bound)

        kernel = self.param("kernel", uniform, (num_inputs, self.size), jnp.float32)
        bias: jax.Array = self.param("bias", uniform, (self.size,), jnp.float32)
        return jnp.dot(inputs, kernel) + bias


# What these compute is plain. Their gradients are written by hand, as products of matrices where there are some: XLA's
# CPU compiler makes of those that JAX derives a training that is more than three times slower.


def _recall(hidden: jax.Array, plasticity: jax.Array, trace: jax.Array) -> jax.Array:
    """`hidden @ (plasticity * trace)`; a batch keeps one gradient of the plasticity for all its episodes."""
    recalled: jax.Array = with_batches(_recall_single, _recall_batch, plasticity, (hidden, trace))
    return recalled


def _recall_single(plasticity: jax.Array, hidden_and_trace: tuple[jax.Array, jax.Array]) -> jax.Array:
    return _recall_batch(plasticity, jax.tree.map(lambda x: x[None], hidden_and_trace))[0]


@jax.custom_vjp
def _recall_batch(plasticity: jax.Array, hidden_and_trace: tuple[jax.Array, jax.Array]) -> jax.Array:
    hidden, trace = hidden_and_trace
    return jnp.einsum("bi,bij->bj", hidden, plasticity[None] * trace)


def _recall_forward(
    plasticity: jax.Array, hidden_and_trace: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, tuple[Any, ...]]:
    return _recall_batch(plasticity, hidden_and_trace), (plasticity, *hidden_and_trace)


def _recall_backward(residuals: tuple[jax.Array, ...], cotangent: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    plasticity, hidden, trace = residuals
    of_hidden = jnp.einsum("bij,bj->bi", plasticity[None] * trace, cotangent)
    of_trace = hidden[:, :, None] * cotangent[:, None] * plasticity[None]
    return _sum_over_episodes(hidden, cotangent, trace), (of_hidden, of_trace)


_recall_batch.defvjp(_recall_forward, _recall_backward)


def _sum_over_episodes(hidden: jax.Array, cotangent: jax.Array, trace: jax.Array) -> jax.Array:
    """The gradient of the plasticity: `einsum('bi,bj,bij->ij')`."""
    if jax.default_backend() != "cpu":
        return jnp.einsum("bi,bj,bij->ij", hidden, cotangent, trace)

    # On a CPU the sum stays in the cache, and no products are written that are as large as all the traces.
    def add(total: jax.Array, episode: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        hidden, cotangent, trace = episode
        return total + hidden[:, None] * cotangent[None] * trace, None

    return jax.lax.scan(add, jnp.zeros_like(trace[0]), (hidden, cotangent, trace))[0]


# The gradients of these compute the sum again, rather than remember of every connection whether it was clipped. What is
# exactly at a bound counts as clipped.
_recomputed = functools.partial(jax.checkpoint, prevent_cse=False)


@_recomputed
def _write(trace: jax.Array, old: jax.Array, new: jax.Array) -> jax.Array:
    return _bounded(trace + _outer(old, new))


@_recomputed
def _write_eligible(trace: jax.Array, modulation: jax.Array, eligibility: jax.Array) -> jax.Array:
    return _bounded(trace + modulation * eligibility)


def _bounded(trace: jax.Array) -> jax.Array:
    one = jnp.ones((), trace.dtype)
    return jax.lax.clamp(-one, trace, one)


@jax.custom_vjp
def _outer(old: jax.Array, new: jax.Array) -> jax.Array:
    return old[:, None] * new[None]


def _outer_forward(old: jax.Array, new: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _outer(old, new), (old, new)


def _outer_backward(residuals: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    old, new = residuals
    return cotangent @ new, old @ cotangent


_outer.defvjp(_outer_forward, _outer_backward)

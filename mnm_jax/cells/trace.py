"""What a cell with a written memory tells of a step.

Axes: `L` layers of the memory, `H` heads.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mnm_jax.memory import Memory


class Trace(NamedTuple):
    """What the memory did at one step; stacked over time by `unroll`. Fields that nobody uses cost nothing.

    Attributes:
      write_keys: `[H, key_size]`.
      write_values: `[H, value_size]`.
      read_keys: `[H, key_size]`.
      read_values: `[H, value_size]`, what each head read.
      rate: `[]`, `[H]` or `[L, 1]`.
      gates: what the writer asked the controller for, by name.
      error_before: `[]`, `mean_i mean_j (f(k^w_i; phi_{t-1}) - v^w_i)_j^2`: how new the written association was.
      error_after: `[]`, the same with `phi_t`: how well it was stored.
      write_norm: `[L]`, how far the write moved the weights of each layer (Euclidean); without a gradient.
      memory_norm: `[L]`, the norm of each layer's weights after the write; without a gradient.
      auxiliary_loss: `[]`, the writer's own; `None` if it has none.
      extras: what the writer tells besides, by name.
    """

    write_keys: jax.Array
    write_values: jax.Array
    read_keys: jax.Array
    read_values: jax.Array
    rate: jax.Array
    gates: dict[str, jax.Array]
    error_before: jax.Array | None = None  # `None` only until `write` and `read` are put together.
    error_after: jax.Array | None = None
    write_norm: jax.Array | None = None
    memory_norm: jax.Array | None = None
    auxiliary_loss: jax.Array | None = None
    extras: Mapping[str, jax.Array] = {}


def layer_norms(weights: Memory) -> jax.Array:
    """The Euclidean norm of each layer's weights, biases among them: `[L]`, without a gradient."""
    # The root has none at zero, where the top layer starts, and nobody learns from it.
    weights = jax.lax.stop_gradient(weights)
    squares = [sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(layer)) for layer in weights]
    return jnp.sqrt(jnp.stack(squares))


def distances(weights: Memory, others: Memory) -> jax.Array:
    """How far apart two memories are, layer by layer: `[L]`, without a gradient."""
    return layer_norms(jax.tree.map(jnp.subtract, weights, others))

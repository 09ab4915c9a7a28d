"""What the memories that are a table of slots have in common: addressing by content, writing by erase and add.

Axes: `S` slots, `H` heads.

Source: Graves, Wayne and Danihelka, "Neural Turing Machines", 2014 (arXiv:1410.5401), sections 3.2 and 3.3.1.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from mnm_jax import _checks
from mnm_jax.memory import Spec

NORM_EPSILON = 1e-6


def num_slots_matching(spec: Spec, slot_size: int) -> int:
    """The number of slots with which a table holds as many floats as an MNM's memory, rounded up to whole slots.

    Args:
      spec: the architecture of the memory to compare with.
      slot_size: floats of a slot, its key and its value together.

    Returns:
      The smallest `S` with `S * slot_size >= spec.num_weights`.

    Raises:
      ValueError: if the size is below 1.
    """
    _checks.check_positive(slot_size=slot_size)
    return math.ceil(spec.num_weights / slot_size)


def address(slot_keys: jax.Array, keys: jax.Array, strengths: jax.Array) -> jax.Array:
    """Addresses by content: a softmax over the slots of `strength_i * cosine(key_i, slot key)`.

    Args:
      slot_keys: `[S, key_size]`.
      keys: `[H, key_size]`.
      strengths: `[H]`; the larger, the sharper.

    Returns:
      The weights `[H, S]`, each row of which sums to one.

    Raises:
      AssertionError: if an argument has another shape or is not floating-point.
    """
    _checks.check_array("keys", keys, (None, None))
    num_heads, key_size = keys.shape
    _checks.check_array("slot_keys", slot_keys, (None, key_size))
    _checks.check_array("strengths", strengths, (num_heads,))
    # Dividing the products, not the keys of all slots, saves passes over the table.
    cosines = keys @ slot_keys.T * inverse_length(keys)[:, None] * inverse_length(slot_keys)[None]
    return nn.softmax(strengths[:, None] * cosines, axis=-1)


def write(table: jax.Array, weights: jax.Array, erase: jax.Array, additions: jax.Array) -> jax.Array:
    """Writes keys, or values, with all heads at once: `M <- M * prod_i (1 - w_i e_i^T) + sum_i w_i a_i^T`.

    All heads erase before any of them adds, so the result does not depend on their order. One head alone writes as in
    a Neural Turing Machine.

    Args:
      table: `[S, W]`, the contents before; `W` is `key_size` for keys and `value_size` for values.
      weights: `[H, S]`, where each head writes.
      erase: `[H, W]`, between 0 and 1: how much of each float a head erases.
      additions: `[H, W]`, what each head adds.

    Returns:
      `[S, W]`, the contents after.

    Raises:
      AssertionError: if an argument has another shape or is not floating-point.
    """
    _checks.check_array("table", table, (None, None))
    num_slots, width = table.shape
    _checks.check_array("weights", weights, (None, num_slots))
    num_heads, _ = weights.shape
    _checks.check_array("erase", erase, (num_heads, width))
    _checks.check_array("additions", additions, (num_heads, width))
    for head_weights, head_erase in zip(weights, erase, strict=True):  # The gradient of `jnp.prod` is slow.
        table = table * (1 - jnp.outer(head_weights, head_erase))
    return table + weights.T @ additions


def inverse_length(vectors: jax.Array) -> jax.Array:
    """One over the length of each row."""
    # The epsilon stands inside the root: at a zero vector the gradient of the root would be infinite.
    return jax.lax.rsqrt(jnp.sum(jnp.square(vectors), axis=-1) + NORM_EPSILON)

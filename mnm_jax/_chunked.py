"""Unrolling that recomputes: the gradient keeps the state at the start of each chunk of an episode, and no more.

Axes: `T` time steps, in chunks of about sqrt(T).
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mnm_jax._trees import num_steps_of

PyTree = Any
Scan = Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]


def recomputed(scan: Scan, carry: PyTree, steps: PyTree) -> tuple[PyTree, PyTree]:
    """Runs `scan` in chunks of about sqrt(T) steps, each of which the gradient computes once more from its start.

    Args:
      scan: `scan(carry, steps) -> (carry, results)`, for any number of steps.
      carry: the state to begin with.
      steps: what is read at each step, `[T, ...]`.

    Returns:
      What `scan` gives for all steps.
    """
    chunk = functools.partial(jax.checkpoint, prevent_cse=False)(scan)  # A scan's body needs no such protection.
    return in_chunks(chunk, carry, steps, math.isqrt(num_steps_of(steps)))


def in_chunks(scan: Scan, carry: PyTree, steps: PyTree, chunk_size: int) -> tuple[PyTree, PyTree]:
    """Runs `scan` on `chunk_size` steps at a time, and on what is left."""
    num_steps = num_steps_of(steps)
    num_chunks = num_steps // chunk_size
    if num_chunks == 1 and num_steps == chunk_size:
        return scan(carry, steps)
    whole = num_chunks * chunk_size
    chunks = jax.tree.map(lambda x: x[:whole].reshape(num_chunks, chunk_size, *x.shape[1:]), steps)
    carry, results = jax.lax.scan(scan, carry, chunks)
    results = jax.tree.map(lambda x: x.reshape(whole, *x.shape[2:]), results)
    if whole < num_steps:
        carry, rest = scan(carry, jax.tree.map(lambda x: x[whole:], steps))
        results = jax.tree.map(lambda *parts: jnp.concatenate(parts), results, rest)
    return carry, results

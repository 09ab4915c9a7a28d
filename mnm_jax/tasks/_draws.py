"""Draws that several tasks share."""

import jax
import jax.numpy as jnp


def distinct_numbers(rng: jax.Array, count: int, limit: int) -> jax.Array:
    """Draws `count` distinct numbers below `limit` in random order, in O(count^2) whatever `limit` is.

    Robert Floyd's algorithm (Bentley and Floyd, "A sample of brilliance", CACM 30(9), 1987): for each top in turn draw
    a number up to and including the top, and take the top itself if that number was drawn before.
    """
    rng_numbers, rng_order = jax.random.split(rng)
    tops = jnp.arange(limit - count, limit, dtype=jnp.int32)
    draws = jax.random.randint(rng_numbers, (count,), 0, tops + 1, jnp.int32)

    def draw(i: jax.Array, chosen: jax.Array) -> jax.Array:
        is_taken = jnp.any(jnp.where(jnp.arange(count) < i, chosen == draws[i], False))
        return chosen.at[i].set(jnp.where(is_taken, tops[i], draws[i]))

    chosen = jax.lax.fori_loop(0, count, draw, jnp.zeros(count, jnp.int32))
    return jax.random.permutation(rng_order, chosen)

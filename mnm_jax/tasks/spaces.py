"""Spaces of actions and of observations, as gymnax has them."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Discrete:
    """The space of the whole numbers from 0 to below `n`, as gymnax has it.

    Attributes:
      n: how many there are.
    """

    n: int

    shape: ClassVar[tuple[int, ...]] = ()
    dtype: ClassVar[Any] = jnp.int32

    def sample(self, key: jax.Array) -> jax.Array:
        """Draws one of them, `[]`."""
        return jax.random.randint(key, self.shape, 0, self.n, self.dtype)

    def contains(self, x: jax.Array) -> jax.Array:
        """Whether `x` is one of them, `[]`."""
        return (x >= 0) & (x < self.n)


@dataclasses.dataclass(frozen=True)
class Box:
    """The space of the arrays whose entries lie between two bounds, as gymnax has it.

    Attributes:
      low, high: the bounds, `[]`.
      shape: of an array.
    """

    low: float | jax.Array
    high: float | jax.Array
    shape: tuple[int, ...]

    dtype: ClassVar[Any] = jnp.float32

    def sample(self, key: jax.Array) -> jax.Array:
        """Draws an array, each entry with the same probability everywhere."""
        return jax.random.uniform(key, self.shape, self.dtype, self.low, self.high)

    def contains(self, x: jax.Array) -> jax.Array:
        """Whether `x` is one of them, `[]`."""
        return jnp.all((x >= self.low) & (x <= self.high))

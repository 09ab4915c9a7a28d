"""Forgetting: a change that lets the memory fade before it is written to. For rules to build on."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp

from mnm_jax.memory import Memory, Write


@functools.partial(jax.tree_util.register_dataclass, data_fields=["write", "keep"], meta_fields=["least_keep"])
@dataclasses.dataclass(frozen=True)
class Fade:
    """`memory' = keep * memory + write`.

    Attributes:
      write: what is added.
      keep: `[]`, how much of the memory stays, such as a gate from `least_keep` to 1.
      least_keep: the least that `keep` can be, a static number. Above 0 the change can be taken back, for some steps;
        at 0, as it is by default, an episode is recomputed in parts instead.
    """

    write: Write
    keep: jax.Array
    least_keep: float = 0.0

    @property
    def growth(self) -> float:
        """Taking it back divides by `keep`."""
        return 1 / self.least_keep if self.least_keep else math.inf

    def apply(self, memory: Memory) -> Memory:
        """The memory after the change."""
        return self.write.apply(jax.tree.map(lambda leaf: self.keep * leaf, memory))

    def revert(self, memory: Memory) -> Memory:
        """The memory before it, up to rounding."""
        return jax.tree.map(lambda leaf: leaf / self.keep, self.write.revert(memory))

    def masked(self, valid: jax.Array) -> "Fade":
        """This change if `valid`, else none."""
        return dataclasses.replace(
            self, write=self.write.masked(valid), keep=jnp.where(valid, self.keep, jnp.ones_like(self.keep))
        )

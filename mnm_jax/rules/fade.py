"""Forgetting: a change that lets the memory fade before it is written to. For rules to build on."""

import dataclasses
import functools
import math
from typing import Any, cast

import jax
import jax.numpy as jnp

from mnm_jax.contract import Change, RevertibleChange
from mnm_jax.memory import Memory


@functools.partial(jax.tree_util.register_dataclass, data_fields=["write", "keep"], meta_fields=["least_keep"])
@dataclasses.dataclass(frozen=True)
class Fade:
    """`memory' = keep * memory + write`.

    Attributes:
      write: what is added, such as a `memory.Write`.
      keep: `[]`, how much of the memory stays, such as a gate from `least_keep` to 1.
      least_keep: the least that `keep` can be, a static number. Above 0 the change can be taken back, for some steps;
        at 0, as it is by default, an episode is recomputed in parts instead.
    """

    write: Change
    keep: jax.Array
    least_keep: float = 0.0

    @property
    def growth(self) -> Any:
        """Taking it back divides by `keep`."""
        return self.write.growth / self.least_keep if self.least_keep else math.inf

    def apply(self, memory: Memory) -> Memory:
        """The memory after the change."""
        changed: Memory = self.write.apply(jax.tree.map(lambda leaf: self.keep * leaf, memory))
        return changed

    def revert(self, memory: Memory) -> Memory:
        """The memory before it, up to rounding; if `write` can be taken back."""
        faded = cast(RevertibleChange, self.write).revert(memory)
        before: Memory = jax.tree.map(lambda leaf: leaf / self.keep, faded)
        return before

    def masked(self, valid: jax.Array) -> "Fade":
        """This change if `valid`, a boolean `[]`, else none."""
        return dataclasses.replace(
            self, write=self.write.masked(valid), keep=jnp.where(valid, self.keep, jnp.ones_like(self.keep))
        )

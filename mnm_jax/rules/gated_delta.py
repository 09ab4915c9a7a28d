"""The gated delta rule: a linear memory of one layer that fades, and corrects what it gives for a key.

Source: Yang, Kautz and Hatamizadeh, "Gated Delta Networks: Improving Mamba2 with Delta Rule", ICLR 2025
(arXiv:2412.06464), section 3.1.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from mnm_jax.contract import Gate, Params, Writer
from mnm_jax.memory import Memory, Spec, Write
from mnm_jax.writers import check_write_arguments


class FadingWrite(NamedTuple):
    """`memory' = keep * memory + write`, with `keep` a number `[]`."""

    write: Write
    keep: jax.Array

    @property
    def growth(self) -> float:
        """It cannot be taken back: keep may be zero."""
        return math.inf

    def apply(self, memory: Memory) -> Memory:
        """The memory after the change."""
        return self.write.apply(jax.tree.map(lambda leaf: self.keep * leaf, memory))

    def masked(self, valid: jax.Array) -> "FadingWrite":
        """This change if `valid`, else none."""
        return FadingWrite(self.write.masked(valid), jnp.where(valid, self.keep, jnp.ones_like(self.keep)))


def gated_delta() -> Writer:
    """`W_t = alpha_t W_{t-1} - beta_t k^T (alpha_t k W_{t-1} - v) / |k|^2`, with `beta_t` the rate; heads add up."""
    return _GatedDelta()


@dataclasses.dataclass(frozen=True)
class _GatedDelta(Writer):
    gates: ClassVar[Mapping[str, Gate]] = {"keep": Gate(bias=4.0)}

    def init(self, rng: jax.Array, spec: Spec) -> Params:
        del rng
        if spec.num_layers != 1 or spec.use_bias:
            raise ValueError(f"gated_delta writes a memory of one layer without bias, got {spec}")
        return {}

    def write(
        self, params: Params, memory: Memory, keys: jax.Array, values: jax.Array, rate: jax.Array, *, keep: jax.Array
    ) -> FadingWrite:
        del params
        (rates,) = check_write_arguments(memory, keys, values, rate)
        error = keep * (keys @ memory[0].kernel) - values
        length = jnp.sum(jnp.square(keys), axis=-1) + 1e-6  # A key may be zero.
        return FadingWrite(Write((keys,), (-(rates / length)[:, None] * error,)), keep)

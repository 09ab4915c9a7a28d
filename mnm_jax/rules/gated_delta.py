"""The gated delta rule: a linear memory of one layer that fades, and corrects what it gives for a key.

In the source every head has a state and a decay of its own, and keys have length 1. Here all heads write one memory,
with one decay, and the length of the keys is divided out.

Source: Yang, Kautz and Hatamizadeh, "Gated Delta Networks: Improving Mamba2 with Delta Rule", ICLR 2025
(arXiv:2412.06464), section 3.1.
"""

import math
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

from mnm_jax.contract import Gate, Params, Writer
from mnm_jax.memory import Memory, Spec, Write
from mnm_jax.rules.fade import Fade
from mnm_jax.writers import check_write_arguments


def gated_delta() -> Writer:
    """`W_t = alpha_t W_{t-1} - beta_t k^T (alpha_t k W_{t-1} - v) / |k|^2`, with `beta_t` the rate; heads add up."""
    return _GatedDelta()


class _GatedDelta(Writer):
    gates: ClassVar[Mapping[str, Gate]] = {"keep": Gate(bias=4.0)}

    def fit(self, spec: Spec) -> Spec:
        """One layer without bias, with as many weights, rounded up to a whole width."""
        if spec.num_layers == 1 and not spec.use_bias:
            return spec
        size = math.isqrt(spec.num_weights - 1) + 1
        return Spec(size, size, zero_output_layer=spec.zero_output_layer)

    def init(self, rng: jax.Array, spec: Spec) -> Params:
        del rng
        if self.fit(spec) != spec:
            raise ValueError(f"gated_delta writes a memory of one layer without bias, got {spec}")
        return {}

    def write(
        self, params: Params, memory: Memory, keys: jax.Array, values: jax.Array, rate: jax.Array, *, keep: jax.Array
    ) -> Fade:
        del params
        (rates,) = check_write_arguments(memory, keys, values, rate)
        error = keep * (keys @ memory[0].kernel) - values
        length = jnp.sum(jnp.square(keys), axis=-1) + 1e-6  # A key may be zero.
        return Fade(Write((keys,), (-(rates / length)[:, None] * error,)), keep)

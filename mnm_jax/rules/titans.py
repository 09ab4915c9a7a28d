"""Gradient descent with momentum and forgetting, both decided by the controller at each step.

The loss whose gradient is taken is a mean over heads and features, as in `writers.gradient`, where the source has the
squared norm: at an equal rate a step is smaller here.

Source: Behrouz, Zhong and Mirrokni, "Titans: Learning to memorize at test time", 2025 (arXiv:2501.00663), section 3.1.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from mnm_jax.contract import Change, Gate, Params, Writer
from mnm_jax.memory import Memory
from mnm_jax.writers import gradient


class TitansMemory(NamedTuple):
    """The weights, and the momentum, of the same shapes: the surprise of the steps before, as it fades."""

    weights: Memory
    momentum: Memory


class TitansChange(NamedTuple):
    """`momentum' = persistence * momentum + write`, then `weights' = keep * weights + gain * momentum'`."""

    write: Change
    persistence: jax.Array
    keep: jax.Array
    gain: jax.Array

    @property
    def growth(self) -> float:
        """It cannot be taken back: keep and persistence may be zero."""
        return math.inf

    def apply(self, memory: TitansMemory) -> TitansMemory:
        """The memory after the change."""
        momentum = self.write.apply(jax.tree.map(lambda leaf: self.persistence * leaf, memory.momentum))
        step = lambda weights, momentum: self.keep * weights + self.gain * momentum  # noqa: E731
        return TitansMemory(jax.tree.map(step, memory.weights, momentum), momentum)

    def masked(self, valid: jax.Array) -> "TitansChange":
        """This change if `valid`, else none."""
        persistence, keep = (jnp.where(valid, number, 1.0) for number in (self.persistence, self.keep))
        return TitansChange(self.write.masked(valid), persistence, keep, jnp.where(valid, self.gain, 0.0))


def titans() -> Writer:
    """`S_t = eta_t S_{t-1} - theta_t grad`, `M_t = (1 - alpha_t) M_{t-1} + S_t`, with `theta_t` the rate."""
    return _Titans()


class _Titans(Writer):
    # It starts with little forgetting and little momentum, near to `writers.gradient`.
    gates: ClassVar[Mapping[str, Gate]] = {"forget": Gate(bias=-4.0), "persistence": Gate(bias=-2.0)}

    def start(self, weights: Memory) -> TitansMemory:
        return TitansMemory(weights, jax.tree.map(jnp.zeros_like, weights))

    def weights(self, memory: TitansMemory) -> Memory:
        return memory.weights

    def write(
        self,
        params: Params,
        memory: TitansMemory,
        keys: jax.Array,
        values: jax.Array,
        rate: jax.Array,
        *,
        forget: jax.Array,
        persistence: jax.Array,
    ) -> TitansChange:
        step = gradient().write(params, memory.weights, keys, values, rate)
        return TitansChange(step, persistence, keep=1 - forget, gain=jnp.ones_like(forget))

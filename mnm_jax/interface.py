"""The interface: from the controller's output to read keys, write keys, write values, the rate and a writer's gates.

Axes: `L` layers of the memory, `H` heads.

Source: Munkhdalai et al., "Metalearned Neural Memory", NeurIPS 2019, section 3.1.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mnm_jax import _checks
from mnm_jax.contract import Gate
from mnm_jax.memory import Spec

RMS_EPSILON = 1e-6
_ARGUMENTS = {"params", "memory", "keys", "values", "rate"}


class Signals(NamedTuple):
    """What the controller tells its memory at one step.

    Attributes:
      write_keys: `[H, key_size]`.
      write_values: `[H, value_size]`.
      read_keys: `[H, key_size]`.
      rate: `[]`, `[H]` or `[L, 1]`: how strongly to write, between 0 and `rate_scale`.
      gates: by name, what else the writer asks for; see `contract.Gate` for shapes and ranges.
    """

    write_keys: jax.Array
    write_values: jax.Array
    read_keys: jax.Array
    rate: jax.Array
    gates: dict[str, jax.Array]


class Interface(nn.Module):
    """One linear layer and tanh for keys and values, and a linear layer and sigmoid on top for the rate and each gate.

    `rate = rate_scale * sigmoid(w . u_t + b)`, with `u_t` a vector of the controller's size from the first layer.

    Attributes:
      memory_spec: the architecture of the memory that is talked to.
      num_heads: `H`.
      key_normalization: `'rms'` divides each key, after the tanh, by its root mean square; `None` does not.
      value_normalization: the same for the write values.
      shared_key_start: whether the read-key projection starts equal to the write-key projection, then learns freely.
      rate_per: `'step'` for one rate, `'head'` or `'layer'` for one each.
      rate_scale: the largest rate; not negative.
      rate_bias: the bias `b` at the start of training. Negative: a memory that is written timidly at first keeps what
        was written long ago, and that is what learning starts from.
      gates: by name, what else the writer asks for.
      dtype: of the matrix products; `None` for that of `hidden`.
    """

    memory_spec: Spec
    num_heads: int = 1
    key_normalization: str | None = "rms"
    value_normalization: str | None = "rms"
    shared_key_start: bool = True
    rate_per: str = "step"
    rate_scale: float = 1.0
    rate_bias: float = -2.0
    gates: Mapping[str, Gate] = dataclasses.field(default_factory=dict)
    dtype: Any = None

    @nn.compact
    def __call__(self, hidden: jax.Array) -> Signals:
        """Makes the signals from the controller's output.

        Args:
          hidden: `[controller_size]`.

        Returns:
          The `Signals` of this step.

        Raises:
          ValueError: if an option has a value that is not allowed.
        """
        if _checks.is_concrete(self.rate_scale) and not 0 <= self.rate_scale < math.inf:
            raise ValueError(f"rate_scale must be finite and not negative, got {self.rate_scale!r}")
        _checks.check_choice("key_normalization", self.key_normalization, ("rms", None))
        _checks.check_choice("value_normalization", self.value_normalization, ("rms", None))
        _checks.check_choice("rate_per", self.rate_per, ("step", "head", "layer"))
        if taken := _ARGUMENTS & self.gates.keys():
            raise ValueError(f"the writer's gates must not have the names of arguments of write: {', '.join(taken)}")
        rate = Gate(0.0, self.rate_scale, self.rate_bias, self.rate_per)
        keys_size = self.num_heads * self.memory_spec.key_size
        values_size = self.num_heads * self.memory_spec.value_size
        (controller_size,) = hidden.shape

        def kernel_init(rng: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
            kernel = nn.initializers.lecun_normal()(rng, shape, dtype)
            if self.shared_key_start:
                kernel = kernel.at[:, keys_size : 2 * keys_size].set(kernel[:, :keys_size])
            return kernel

        projection = nn.Dense(
            2 * keys_size + values_size + controller_size, kernel_init=kernel_init, dtype=self.dtype, name="signals"
        )
        write_keys, read_keys, write_values, rate_input = jnp.split(
            jnp.tanh(projection(hidden).astype(hidden.dtype)), (keys_size, 2 * keys_size, 2 * keys_size + values_size)
        )
        return Signals(
            write_keys=_normalize(write_keys.reshape(self.num_heads, -1), self.key_normalization),
            write_values=_normalize(write_values.reshape(self.num_heads, -1), self.value_normalization),
            read_keys=_normalize(read_keys.reshape(self.num_heads, -1), self.key_normalization),
            rate=self._open("rate", rate, rate_input),
            gates={name: self._open(f"gate_{name}", gate, rate_input) for name, gate in self.gates.items()},
        )

    def _open(self, name: str, gate: Gate, inputs: jax.Array) -> jax.Array:
        """The value of a gate, from a linear layer of that name."""
        shape = gate.shape(self.memory_spec, self.num_heads)
        bias_init = nn.initializers.constant(gate.bias)
        logits = nn.Dense(math.prod(shape), bias_init=bias_init, dtype=self.dtype, name=name)(inputs)
        return gate.low + (gate.high - gate.low) * nn.sigmoid(logits.astype(inputs.dtype).reshape(shape))


def normalize(vectors: jax.Array, epsilon: float = RMS_EPSILON) -> jax.Array:
    """Divides each row by the root of its mean square plus `epsilon`, so that its root mean square becomes 1."""
    # The epsilon stands inside the root: at a zero vector the gradient of the root would be infinite.
    return vectors * jax.lax.rsqrt(jnp.mean(jnp.square(vectors), axis=-1, keepdims=True) + epsilon)


def _normalize(vectors: jax.Array, kind: str | None) -> jax.Array:
    return vectors if kind is None else normalize(vectors)

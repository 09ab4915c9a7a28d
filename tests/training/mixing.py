"""A cell that compiles in little time and has all that training may meet: constants, a loss of its own, extras."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp


class MixingTrace(NamedTuple):
    auxiliary_loss: jax.Array
    extras: dict[str, jax.Array]


class Mixing(nn.Module):
    """`h_t = tanh(A h_{t-1} + B x_t)` with a fixed random `A`, and `y_t = C h_t`; it pays for large states."""

    output_size: int
    size: int = 3
    price: float = 0.5
    trace_as: Any = MixingTrace

    @nn.nowrap
    def initial_carry(self):
        return jnp.zeros(self.size, jnp.float32)

    @nn.compact
    def __call__(self, carry, inputs):
        carry = self.initial_carry() if carry is None else carry
        inputs = jnp.atleast_1d(inputs).astype(carry.dtype)

        def draw():
            return jax.random.normal(self.make_rng("params"), (self.size, self.size), jnp.float32)

        mixing = self.variable("constants", "mixing", draw).value
        carry = jnp.tanh(mixing @ carry + nn.Dense(self.size, name="input")(inputs))
        trace = self.trace_as(self.price * jnp.sum(carry**2), {"state": carry, "largest": jnp.max(carry)})
        return carry, (nn.Dense(self.output_size, name="output")(carry), trace)


def as_dictionary(auxiliary_loss, extras):
    return {"auxiliary_loss": auxiliary_loss, "extras": extras}

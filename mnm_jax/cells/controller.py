"""The LSTM that is the controller of every cell here, unless another is asked for."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

LSTMCarry = tuple[jax.Array, jax.Array]


class LSTMCell(nn.RNNCellBase):
    """An LSTM cell with fused gates that remembers by default, as a linen recurrent cell.

    `i, f, g, o = W_x x + W_h h + b`, `c' = sigmoid(f + forget_bias) * c + sigmoid(i) * tanh(g)`,
    `h' = sigmoid(o) * tanh(c')`.

    With a forget bias of 0, as in `flax.linen.LSTMCell`, a state fades by half at each step in the beginning, and a
    word is all but gone by the time its translation is read. A bias of 1 is the advice of Jozefowicz, Zaremba and
    Sutskever ("An empirical exploration of recurrent network architectures", ICML 2015).

    Attributes:
      features: width of the state.
      forget_bias: added to the forget gate.
      dtype: of the matrix products. The state and the gates are in that of the inputs then. `None` for the type that
        parameters, state and inputs are promoted to, in which everything is computed.
    """

    features: int
    forget_bias: float = 1.0
    dtype: Any = None

    @nn.compact
    def __call__(self, carry: LSTMCarry, inputs: jax.Array) -> tuple[LSTMCarry, jax.Array]:
        """One step.

        Args:
          carry: `(c, h)`, each `[features]`, with any axes of a batch before it.
          inputs: `[input_size]`, with the same axes before it.

        Returns:
          The next carry, and `h`.
        """
        c, h = carry
        from_input = nn.Dense(4 * self.features, dtype=self.dtype, name="input")(inputs)
        from_state = nn.Dense(
            4 * self.features, use_bias=False, kernel_init=_orthogonal_gates, dtype=self.dtype, name="recurrent"
        )(h)
        if self.dtype is not None:  # That of the products alone.
            from_input, from_state = from_input.astype(inputs.dtype), from_state.astype(h.dtype)
        i, f, g, o = jnp.split(from_input + from_state, 4, axis=-1)
        c = nn.sigmoid(f + self.forget_bias) * c + nn.sigmoid(i) * jnp.tanh(g)
        h = nn.sigmoid(o) * jnp.tanh(c)
        return (c, h), h

    @nn.nowrap
    def initialize_carry(self, rng: jax.Array, input_shape: tuple[int, ...]) -> LSTMCarry:
        """The state at zero.

        Args:
          rng: not used; linen asks it of every recurrent cell.
          input_shape: of the inputs of one step; all its axes but the last are those of a batch, as in linen.

        Returns:
          `(c, h)`, each of the shape `input_shape` but with `features` in its last axis.
        """
        del rng
        shape = (*input_shape[:-1], self.features)
        return jnp.zeros(shape, jnp.float32), jnp.zeros(shape, jnp.float32)

    @property
    def num_feature_axes(self) -> int:
        """The number of axes of an input that hold features."""
        return 1


def _orthogonal_gates(rng: jax.Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> jax.Array:
    """An orthogonal matrix for each gate, side by side."""
    features = shape[0]
    initializer = nn.initializers.orthogonal()
    return jnp.concatenate([initializer(key, (features, features), dtype) for key in jax.random.split(rng, 4)], axis=1)

"""What every cell with a controller has: an embedding before it, and an output layer behind it."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mnm_jax import _checks
from mnm_jax.cells._types import OneEpisode
from mnm_jax.cells.controller import LSTMCell
from mnm_jax.cells.embedding import embedding_of


class Controlled(OneEpisode):
    """A mixin for linen modules: `h_t = controller([e_t ; r_{t-1}])` and `y_t = W_o [h_t ; r_t] + b_o`.

    `e_t` is the embedded input and `r_t` what was read, if the cell reads. The module has these fields.
    """

    output_size: int
    controller_size: int
    embedding_size: int | None
    vocabulary_size: int | None
    embedding_scale: float

    def make_controller(self, controller: Callable[..., nn.RNNCellBase] = LSTMCell, dtype: Any = None) -> None:
        """Makes embedding, controller and output layer; to be called by `setup`."""
        _checks.check_positive(output_size=self.output_size, controller_size=self.controller_size)
        self.embedding = embedding_of(self)
        self.controller_cell = controller(self.controller_size, dtype=dtype)
        self.output = nn.Dense(self.output_size, dtype=dtype)

    def start_controller(self) -> Any:
        """The controller's state at the start of an episode."""
        # The key only shapes the interface of linen: recurrent cells start at zero by default.
        return self.controller_cell.initialize_carry(jax.random.key(0), (self.controller_size,))

    def advance(self, state: Any, inputs: jax.Array, *reads: jax.Array) -> tuple[Any, jax.Array]:
        """One step of the controller: its next state, and its output `[controller_size]`."""
        state, hidden = self.controller_cell(state, _side_by_side(self.embedding(inputs), *reads))
        return state, hidden

    def answer(self, hidden: jax.Array, *reads: jax.Array) -> jax.Array:
        """The output of the step, `[output_size]`."""
        return self.output(_side_by_side(hidden, *reads))


def _side_by_side(first: jax.Array, *others: jax.Array) -> jax.Array:
    """All numbers in one vector."""
    return jnp.concatenate([first, *(other.reshape(-1) for other in others)]) if others else first

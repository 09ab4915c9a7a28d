"""The first baseline: an LSTM without any memory beside its own state."""

import flax.linen as nn
import jax

from mnm_jax.cells._types import in_parameter_type
from mnm_jax.cells.controlled import Controlled
from mnm_jax.cells.controller import LSTMCarry


class LSTM(Controlled, nn.Module):
    """An LSTM with the same embedding and output layer as the other cells: `y_t = W_o h_t + b_o`.

    Attributes:
      output_size: width of the output.
      controller_size: width of the LSTM.
      embedding_size: width of the embedded input; `None` for `controller_size`.
      vocabulary_size: number of symbols, if the inputs are symbols; see `Embedding`.
      embedding_scale: root mean square of the embedded inputs at the start of training; see `Embedding`.
    """

    output_size: int
    controller_size: int
    embedding_size: int | None = None
    vocabulary_size: int | None = None
    embedding_scale: float = 1.0

    def setup(self) -> None:
        """Makes the parts; linen calls it."""
        self.make_controller()

    def initial_carry(self) -> LSTMCarry:
        """The state at the start of an episode: `(c, h)`, each `[controller_size]`, at zero."""
        controller: LSTMCarry = self.start_controller()
        return in_parameter_type(self, controller)

    def __call__(self, carry: LSTMCarry | None, inputs: jax.Array) -> tuple[LSTMCarry, tuple[jax.Array, tuple[()]]]:
        """One step.

        Args:
          carry: the state, or `None` at the start of an episode.
          inputs: one input; see `Embedding`.

        Returns:
          `(carry, (output, ()))`, with the output `[output_size]` and an empty trace.
        """
        carry = self.initial_carry() if carry is None else carry
        carry, hidden = self.advance(carry, inputs)
        return carry, (self.answer(hidden), ())

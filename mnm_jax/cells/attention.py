"""A baseline: an LSTM that attends to everything it has written since the start of the episode.

Axes: `S = max_steps` rows of the table, `H` heads.

Source: scaled dot-product attention of Vaswani et al., "Attention Is All You Need", NeurIPS 2017, section 3.2.1, over
keys and values that a recurrent controller writes.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mnm_jax import _checks
from mnm_jax.cells._types import in_parameter_type
from mnm_jax.cells.controlled import Controlled
from mnm_jax.cells.written import WrittenCell
from mnm_jax.memory import Layer, Memory, Write


class AttentionCarry(NamedTuple):
    """The state between two steps.

    Attributes:
      controller: the carry of the LSTM, `(c, h)`, each `[controller_size]`.
      memory: the table, one layer with a kernel `[S, H * (key_size + value_size)]`: for each step and head the key and
        the value written, then zeros. To add a row is a write of rank 1, so that `unroll` need not keep the table of
        every step.
      num_written: `[]`, an int32: how many steps have been written.
      read: the value read at the step before, `[value_size]`.
    """

    controller: tuple[jax.Array, jax.Array]
    memory: Memory
    num_written: jax.Array
    read: jax.Array


class AttentionControl(NamedTuple):
    """All of a step that does not see the table.

    Attributes:
      controller: the carry of the LSTM after the step; its output is `h`.
      key: `[H, key_size]`.
      query: `[H, key_size]`.
      value: `[H, value_size]`.
      num_written: `[]`, an int32: how many steps had been written before this one.
    """

    controller: tuple[jax.Array, jax.Array]
    key: jax.Array
    query: jax.Array
    value: jax.Array
    num_written: jax.Array


def attend(rows: jax.Array, queries: jax.Array, count: jax.Array | int) -> jax.Array:
    """Attends to the first `count` rows: a softmax over them of `query_i . key_i / sqrt(key_size)`.

    Args:
      rows: `[S, H, key_size + value_size]`; head `i` sees column `i`. What comes after the keys plays no role.
      queries: `[H, key_size]`.
      count: `[]`, of 1 to `S`. A traced one that is larger stands for all rows.

    Returns:
      The weights `[S, H]`. Each column sums to one, and is exactly zero from row `count` on.

    Raises:
      AssertionError: if an argument has another shape or type.
      ValueError: if the count is known and out of range.
    """
    _checks.check_array("queries", queries, (None, None))
    num_heads, key_size = queries.shape
    _checks.check_array("rows", rows, (None, num_heads, None))
    _checks.check_index("count", count, ())
    if _checks.is_concrete(count) and not 1 <= int(count) <= len(rows):
        raise ValueError(f"argument 'count': wants a whole number of 1 to {len(rows)}, got {int(count)}")
    # Zeros in the place of the values: to cut the keys out of the rows would copy the table.
    padded = jnp.pad(queries, ((0, 0), (0, rows.shape[2] - key_size)))
    scores = jnp.einsum("shw,hw->sh", rows, padded) * key_size**-0.5
    is_written = jnp.arange(len(rows)) < count
    # No infinity, which `jax_debug_infs` would report: the exponential of the lowest number is exactly zero as well.
    return nn.softmax(jnp.where(is_written[:, None], scores, jnp.finfo(scores.dtype).min), axis=0)


class Attention(Controlled, WrittenCell):
    """An LSTM that writes a key and a value per head at each step and attends to all of them, for one step.

    With `e_t` the embedded input: `h_t = LSTM([e_t ; r_{t-1}])`. One linear layer without bias on `h_t` gives, for
    each head, a key and a value, which become a row in the head's own column of the table, and a query, which attends
    to all rows written so far in the episode, this one included; see `attend`. `r_t` is the mean over heads of what
    they read, and the output is `y_t = W_o [h_t ; r_t] + b_o`.

    Keys and values are not bounded by a tanh, with which learning took off later on dictionaries of four pairs.

    The table costs its full size at every step, however little of it is written: `max_steps * H * (key_size +
    value_size)` floats in the state, all of them read. So choose `max_steps` no larger than the longest episode.

    A full table takes nothing more, and overwrites nothing. Where it can be known that an episode is too long,
    `check_room` refuses it; where it cannot, because the count of a carry that was handed on is traced, the outputs
    past the end of the table are NaN.

    Example:
      >>> cell = mnm.cells.Attention(output_size=3, controller_size=16, max_steps=50, key_size=8, value_size=8)
      >>> variables = cell.init(jax.random.key(0), None, inputs[0])
      >>> carry, (output, _) = cell.apply(variables, None, inputs[0])

    Attributes:
      output_size: width of the output.
      controller_size: width of the LSTM.
      max_steps: `S`, the number of steps for which the table has room.
      key_size: width of keys and queries.
      value_size: width of the values.
      num_heads: `H`.
      embedding_size: width of the embedded input; `None` for `controller_size`.
      vocabulary_size: number of symbols, if the inputs are symbols; see `Embedding`.
      embedding_scale: root mean square of the embedded inputs at the start of training; see `Embedding`.
    """

    output_size: int
    controller_size: int
    max_steps: int
    key_size: int
    value_size: int
    num_heads: int = 1
    embedding_size: int | None = None
    vocabulary_size: int | None = None
    embedding_scale: float = 1.0

    def setup(self) -> None:
        """Makes the parts; linen calls it."""
        _checks.check_positive(
            max_steps=self.max_steps,
            key_size=self.key_size,
            value_size=self.value_size,
            num_heads=self.num_heads,
        )
        self.make_controller()
        # Without a bias, as in the source: that of the keys would shift all scores of a query alike, which a softmax
        # does not see.
        self.interface = nn.Dense(self.num_heads * (2 * self.key_size + self.value_size), use_bias=False)

    @nn.nowrap
    def check_room(self, carry: AttentionCarry | None, num_steps: int) -> None:
        """Checks that the table has room for `num_steps` more steps, as far as that can be known.

        Args:
          carry: the state to go on from, or those of a batch; `None` for the start of an episode. A traced count is
            taken for zero.
          num_steps: how many steps are to come.

        Raises:
          ValueError: if there are more steps than the table has room for.
        """
        num_written = 0
        if carry is not None and _checks.is_concrete(carry.num_written):
            num_written = int(np.max(carry.num_written))
        if num_written + num_steps > self.max_steps:
            raise ValueError(
                f"max_steps must be at least {num_written + num_steps}, for {num_written} steps already written and "
                f"{num_steps} to come, got {self.max_steps}"
            )

    @nn.nowrap
    def with_room(self, num_steps: int) -> "Attention":
        """The same cell with a table for `num_steps` steps, at least 1. The parameters do not depend on it."""
        _checks.check_positive(num_steps=num_steps)
        return self.clone(max_steps=num_steps)

    def initial_carry(self) -> AttentionCarry:
        """The state at the start of an episode: all at zero, nothing written."""
        width = self.key_size + self.value_size
        controller = self.start_controller()
        carry = AttentionCarry(
            controller,
            memory=(Layer(jnp.zeros((self.max_steps, self.num_heads * width), jnp.float32), bias=None),),
            num_written=jnp.zeros((), jnp.int32),
            read=jnp.zeros(self.value_size, jnp.float32),
        )
        return in_parameter_type(self, carry)

    def control(self, carry: AttentionCarry, inputs: jax.Array) -> AttentionControl:
        """Embedding, LSTM and interface. `inputs`: one input; see `Embedding`."""
        controller, hidden = self.advance(carry.controller, inputs, carry.read)
        signals = self.interface(hidden).reshape(self.num_heads, -1)
        key, query, value = jnp.split(signals, (self.key_size, 2 * self.key_size), axis=-1)
        return AttentionControl(controller, key, query, value, carry.num_written)

    def write(self, control: AttentionControl, memory: Memory) -> tuple[Write, dict[str, jax.Array]]:
        """The next row of the table."""
        del memory
        row = jnp.concatenate([control.key, control.value], axis=-1).reshape(1, -1)
        place = jax.nn.one_hot(control.num_written, self.max_steps, dtype=row.dtype)  # All zeros, if the table is full.
        return Write((place[None],), (row,)), {}

    def read(self, control: AttentionControl, memory: Memory) -> tuple[AttentionCarry, jax.Array, tuple[()]]:
        """What the query reads of the table with its new row; the output is NaN if there was no room for that."""
        _, hidden = control.controller
        num_written = control.num_written + 1
        rows = memory[0].kernel.reshape(self.max_steps, self.num_heads, -1)
        attention = attend(rows, control.query, num_written)
        read = jnp.einsum("sh,shw->hw", attention, rows)[:, self.key_size :].mean(axis=0)
        output = self.answer(hidden, read)
        # Only the output becomes NaN: in the read it would reach, as zero times NaN, the gradient of the output layer
        # even where `unroll` masks the step.
        output = jnp.where(num_written <= self.max_steps, output, jnp.nan)
        return AttentionCarry(control.controller, memory, num_written, read), output, ()

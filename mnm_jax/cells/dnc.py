"""A Differentiable Neural Computer: an LSTM with a table that gives out free slots and remembers the order of writing.

Axes: `S` slots of `W` floats, `R` read heads.

Source: Graves et al., "Hybrid computing using a neural network with dynamic external memory", Nature 538, 2016,
Methods.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mnm_jax import _checks
from mnm_jax.cells._types import in_parameter_type
from mnm_jax.cells.controlled import Controlled
from mnm_jax.cells.slots import address, write

_NUM_MODES = 3  # Backwards, by content, forwards.


class DNCCarry(NamedTuple):
    """The state between two steps.

    Attributes:
      controller: the carry of the LSTM, `(c, h)`, each `[controller_size]`.
      memory: the table, `[S, W]`.
      usage: `[S]`, between 0 and 1: how much each slot is in use.
      link: `[S, S]`; `link[i, j]` is how much slot `i` was written right after slot `j`.
      precedence: `[S]`, how much each slot was the last one written.
      write_weights: where the step before wrote, `[S]`; sums to at most one, as each row of `read_weights` does.
      read_weights: where each head read at the step before, `[R, S]`.
      reads: what each head read at the step before, `[R, W]`.
    """

    controller: tuple[jax.Array, jax.Array]
    memory: jax.Array
    usage: jax.Array
    link: jax.Array
    precedence: jax.Array
    write_weights: jax.Array
    read_weights: jax.Array
    reads: jax.Array


def use(usage: jax.Array, write_weights: jax.Array, read_weights: jax.Array, free_gates: jax.Array) -> jax.Array:
    """What is in use: what was, and what was written since, but for what was read and is set free.

    Args:
      usage: `[S]`, at the step before.
      write_weights: `[S]`, of the step before.
      read_weights: `[R, S]`, of the step before.
      free_gates: `[R]`, between 0 and 1: how much of what a head read is set free.

    Returns:
      `[S]`.

    Raises:
      AssertionError: if an argument has another shape or is not floating-point.
    """
    _checks.check_array("usage", usage, (None,))
    (num_slots,) = usage.shape
    _checks.check_array("write_weights", write_weights, (num_slots,))
    _checks.check_array("read_weights", read_weights, (None, num_slots))
    _checks.check_array("free_gates", free_gates, (read_weights.shape[0],))
    usage = usage + write_weights - usage * write_weights
    for gate, weights in zip(free_gates, read_weights, strict=True):  # The gradient of `jnp.prod` is slow.
        usage = usage * (1 - gate * weights)
    return usage


def allocate(usage: jax.Array) -> jax.Array:
    """Where there is room: all weight on the least used slot if that is free, else some on the next ones too.

    With the slots in the order of their usage, `a[j] = (1 - u[j]) prod_{i < j} u[i]`. The order is taken for constant
    by the gradient, as in the source.

    Args:
      usage: `[S]`.

    Returns:
      The weights `[S]`, which sum to at most one.

    Raises:
      AssertionError: if the argument has another shape or is not floating-point.
    """
    _checks.check_array("usage", usage, (None,))
    order = jnp.argsort(jax.lax.stop_gradient(usage))
    ascending = usage[order]
    before = jnp.concatenate([jnp.ones_like(usage, shape=1), jnp.cumprod(ascending)[:-1]])
    return jnp.zeros_like(usage).at[order].set((1 - ascending) * before, unique_indices=True)


def connect(link: jax.Array, precedence: jax.Array, write_weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Remembers that what is written now came after what was written last.

    Args:
      link: `[S, S]`, before; see `DNCCarry`.
      precedence: `[S]`, before.
      write_weights: `[S]`, of this step.

    Returns:
      Link and precedence after.

    Raises:
      AssertionError: if an argument has another shape or is not floating-point.
    """
    _checks.check_array("precedence", precedence, (None,))
    (num_slots,) = precedence.shape
    _checks.check_array("link", link, (num_slots, num_slots))
    _checks.check_array("write_weights", write_weights, (num_slots,))
    keep = 1 - write_weights[:, None] - write_weights[None]
    link = keep * link + jnp.outer(write_weights, precedence)
    link = link * (1 - jnp.eye(num_slots, dtype=link.dtype))
    return link, (1 - write_weights.sum()) * precedence + write_weights


class DNC(Controlled, nn.Module):
    """An LSTM with a table of slots, a write head that finds free ones, and `R` read heads, for one step.

    With `e_t` the embedded input: `h_t = LSTM([e_t ; r_{t-1}^1 ; ... ; r_{t-1}^R])`. One linear layer on `h_t` gives
    all that steers the heads: keys, their strengths (1 + softplus), what to erase (sigmoid), what to add; the gates
    (sigmoid) that set free what a head read, that choose between a free slot and a slot with the key, and that write at
    all; and for each read head the modes (softmax): on to what was written before, by content, on to what was written
    after. See `use`, `allocate` and `connect`. The output is `y_t = W_o [h_t ; r_t^1 ; ... ; r_t^R] + b_o`.

    An episode starts with an empty table, as in the source: what a free slot is, nothing has to be learned for.

    Beside the `S * W` floats of the table the state has `S * S` of the link.

    Example:
      >>> num_slots = mnm.cells.num_slots_matching(spec, slot_size=8)
      >>> cell = mnm.cells.DNC(output_size=3, controller_size=16, num_slots=num_slots, slot_size=8)
      >>> variables = cell.init(jax.random.key(0), None, inputs[0])
      >>> carry, (output, _) = cell.apply(variables, None, inputs[0])

    Attributes:
      output_size: width of the output.
      controller_size: width of the LSTM.
      num_slots: `S`; for as many floats as an MNM's memory holds, see `num_slots_matching`.
      slot_size: `W`.
      num_read_heads: `R`.
      strength_bias: bias of the strengths, before the softplus, at the start of training.
      free_bias: bias of the free gates, before the sigmoid, at the start of training.
      embedding_size: width of the embedded input; `None` for `controller_size`.
      vocabulary_size: number of symbols, if the inputs are symbols; see `Embedding`.
      embedding_scale: root mean square of the embedded inputs at the start of training; see `Embedding`.
    """

    output_size: int
    controller_size: int
    num_slots: int
    slot_size: int
    num_read_heads: int = 1
    strength_bias: float = 0.0
    free_bias: float = -2.0
    embedding_size: int | None = None
    vocabulary_size: int | None = None
    embedding_scale: float = 1.0

    def setup(self) -> None:
        """Makes the parts; linen calls it."""
        _checks.check_positive(
            num_slots=self.num_slots,
            slot_size=self.slot_size,
            num_read_heads=self.num_read_heads,
        )
        self.make_controller()
        # Of writing: key, what to erase, what to add, strength, the gates of allocation and writing. Of each reading
        # head: key, strength, free gate, modes.
        width = self.slot_size
        writing = np.repeat([0.0, self.strength_bias, 0.0], [3 * width, 1, 2])
        reading = np.repeat([0.0, self.strength_bias, self.free_bias, 0.0], [width, 1, 1, _NUM_MODES])
        biases = jnp.asarray(np.concatenate([writing, np.tile(reading, self.num_read_heads)]), jnp.float32)
        self.interface = nn.Dense(biases.size, bias_init=lambda rng, shape, dtype: biases)

    def initial_carry(self) -> DNCCarry:
        """The state at the start of an episode: all at zero."""
        controller = self.start_controller()
        slots, heads = (self.num_slots,), (self.num_read_heads,)
        shapes = (*slots, self.slot_size), slots, slots + slots, slots, slots, heads + slots, (*heads, self.slot_size)
        carry = DNCCarry(controller, *(jnp.zeros(shape, jnp.float32) for shape in shapes))
        return in_parameter_type(self, carry)

    def __call__(self, carry: DNCCarry | None, inputs: jax.Array) -> tuple[DNCCarry, tuple[jax.Array, tuple[()]]]:
        """One step.

        Args:
          carry: the state, or `None` at the start of an episode.
          inputs: one input; see `Embedding`.

        Returns:
          `(carry, (output, ()))`, with the output `[output_size]` and an empty trace.
        """
        carry = self.initial_carry() if carry is None else carry
        controller, hidden = self.advance(carry.controller, inputs, carry.reads)

        width = self.slot_size
        writing, reading = jnp.split(self.interface(hidden), [3 * width + 3])
        write_key, erase, additions, (write_strength, *gates) = jnp.split(writing, np.arange(1, 4) * width)
        allocation_gate, write_gate = map(nn.sigmoid, gates)
        keys, strengths, free_gates, modes = jnp.split(
            reading.reshape(self.num_read_heads, -1), np.cumsum((width, 1, 1)), axis=-1
        )

        usage = use(carry.usage, carry.write_weights, carry.read_weights, nn.sigmoid(free_gates[:, 0]))
        (found,) = address(carry.memory, write_key[None], 1 + nn.softplus(write_strength)[None])
        write_weights = write_gate * (allocation_gate * allocate(usage) + (1 - allocation_gate) * found)
        memory = write(carry.memory, write_weights[None], nn.sigmoid(erase)[None], additions[None])
        link, precedence = connect(carry.link, carry.precedence, write_weights)

        found = address(memory, keys, 1 + nn.softplus(strengths[:, 0]))
        ways = jnp.stack([carry.read_weights @ link, found, carry.read_weights @ link.T])
        read_weights = jnp.einsum("hm,mhs->hs", nn.softmax(modes), ways)
        reads = read_weights @ memory
        output = self.answer(hidden, reads)
        state = DNCCarry(controller, memory, usage, link, precedence, write_weights, read_weights, reads)
        return state, (output, ())

"""A Neural Turing Machine: an LSTM whose heads find slots of a table by content, and move on from there.

Axes: `S` slots of `W` floats, `H` heads.

Source: Graves, Wayne and Danihelka, "Neural Turing Machines", 2014 (arXiv:1410.5401), section 3. The paper leaves open
how the numbers that steer the heads are kept in their ranges, and where an episode starts; for the first this follows
Collier and Beel, "Implementing Neural Turing Machines", ICANN 2018 (arXiv:1807.08518), section 3.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mnm_jax import _checks
from mnm_jax.cells.controlled import Controlled
from mnm_jax.cells.slots import address, write

# By how many slots a head may move in a step, forwards and backwards.
_MAX_SHIFT = 1
_NUM_SHIFTS = 2 * _MAX_SHIFT + 1
# How much larger the logit of the slot is at which a head starts.
_FOCUS = 8.0


class NTMCarry(NamedTuple):
    """The state between two steps.

    Attributes:
      controller: the carry of the LSTM, `(c, h)`, each `[controller_size]`.
      memory: the table, `[S, W]`.
      read_weights: where each head read at the step before, `[H, S]`, each row of which sums to one.
      write_weights: where each head wrote at the step before, `[H, S]`.
      reads: what each head read at the step before, `[H, W]`.
    """

    controller: tuple[jax.Array, jax.Array]
    memory: jax.Array
    read_weights: jax.Array
    write_weights: jax.Array
    reads: jax.Array


def move(
    content: jax.Array, previous: jax.Array, gates: jax.Array, shifts: jax.Array, exponents: jax.Array
) -> jax.Array:
    """From where a head finds its key, or from where it was, to where it goes (section 3.3.2, equations 7 to 9).

    Interpolation `g w^c + (1 - g) w_{t-1}`, then a circular convolution with the shifts, then each weight to the power
    of the exponent, divided by the sum.

    Args:
      content: `[H, S]`, weights by content.
      previous: `[H, S]`, weights of the step before.
      gates: `[H]`, between 0 and 1: how much of the weights by content.
      shifts: `[H, 3]`, how much to move by -1, 0 and 1 slots; each row sums to one.
      exponents: `[H]`, at least 1; the larger, the sharper.

    Returns:
      The weights `[H, S]`, each row of which sums to one.

    Raises:
      AssertionError: if an argument has another shape or is not floating-point.
    """
    _checks.check_array("content", content, (None, None))
    num_heads, num_slots = content.shape
    _checks.check_array("previous", previous, (num_heads, num_slots))
    _checks.check_array("gates", gates, (num_heads,))
    _checks.check_array("shifts", shifts, (num_heads, _NUM_SHIFTS))
    _checks.check_array("exponents", exponents, (num_heads,))
    gated = gates[:, None] * content + (1 - gates)[:, None] * previous
    rolled = [jnp.roll(gated, shift, axis=1) for shift in range(-_MAX_SHIFT, _MAX_SHIFT + 1)]
    shifted = jnp.einsum("kh,khs->hs", shifts.T, jnp.stack(rolled))
    # A power of small weights may be zero everywhere, and zero divided by zero. That of weights divided by their
    # largest is one somewhere. The quotient does not depend on the divisor, so its gradient need not either.
    powers = (shifted / jax.lax.stop_gradient(shifted.max(axis=1, keepdims=True))) ** exponents[:, None]
    return powers / powers.sum(axis=1, keepdims=True)


def _at_first_slot(rng: jax.Array, shape: tuple[int, int], dtype: Any) -> jax.Array:
    """Logits of weights that are nearly all on the first slot."""
    del rng
    return jnp.zeros(shape, dtype).at[:, 0].set(_FOCUS)


class NTM(Controlled, nn.Module):
    """An LSTM with a table of slots and `H` pairs of a write head and a read head, for one step.

    With `e_t` the embedded input: `h_t = LSTM([e_t ; r_{t-1}^1 ; ... ; r_{t-1}^H])`. One linear layer on `h_t` gives,
    for each head, a key (tanh), its strength (softplus), the gate (sigmoid), the shifts (softmax) and the exponent (1 +
    softplus); and for each write head what to erase (sigmoid) and what to add (tanh). The write heads find their keys
    in `M_{t-1}`, move and change it to `M_t`: all erase before any of them adds. The read heads find theirs in `M_t`,
    move and read: `r_t^i = sum_s w_t^i(s) M_t(s)`. The output is `y_t = W_o [h_t ; r_t^1 ; ... ; r_t^H] + b_o`.

    Where an episode starts is learned: the table, from N(0, 1 / W), and where the heads are. All heads begin at the
    first slot. With heads that began somewhat everywhere (logits from N(0, 1)), one seed of three copied up to ten
    vectors after 600 updates, where with heads at the first slot all did, and one fell back to chance later.

    Example:
      >>> num_slots = mnm.cells.num_slots_matching(spec, slot_size=8)
      >>> cell = mnm.cells.NTM(output_size=3, controller_size=16, num_slots=num_slots, slot_size=8)
      >>> variables = cell.init(jax.random.key(0), None, inputs[0])
      >>> carry, (output, _) = cell.apply(variables, None, inputs[0])

    Attributes:
      output_size: width of the output.
      controller_size: width of the LSTM.
      num_slots: `S`; for as many floats as an MNM's memory holds, see `num_slots_matching`.
      slot_size: `W`.
      num_heads: `H`.
      strength_bias: bias of the strengths, before the softplus, at the start of training.
      embedding_size: width of the embedded input; `None` for `controller_size`.
      vocabulary_size: number of symbols, if the inputs are symbols; see `Embedding`.
      embedding_scale: root mean square of the embedded inputs at the start of training; see `Embedding`.
    """

    output_size: int
    controller_size: int
    num_slots: int
    slot_size: int
    num_heads: int = 1
    strength_bias: float = 0.0
    embedding_size: int | None = None
    vocabulary_size: int | None = None
    embedding_scale: float = 1.0

    def setup(self) -> None:
        """Makes the parts; linen calls it."""
        _checks.check_positive(
            num_slots=self.num_slots,
            slot_size=self.slot_size,
            num_heads=self.num_heads,
        )
        self.make_controller()
        # For each head: key, strength, gate, shifts, exponent, to write and to read; what to erase and what to add.
        head = np.repeat([0.0, self.strength_bias, 0.0], [self.slot_size, 1, _NUM_SHIFTS + 2])
        of_head = np.concatenate([head, head, np.zeros(2 * self.slot_size)])
        biases = jnp.asarray(np.tile(of_head, self.num_heads), jnp.float32)
        self.interface = nn.Dense(biases.size, bias_init=lambda rng, shape, dtype: biases)
        memory_shape, heads_shape = (self.num_slots, self.slot_size), (self.num_heads, self.num_slots)
        initializer = nn.initializers.normal(self.slot_size**-0.5)
        self.initial_memory = self.param("initial_memory", initializer, memory_shape, jnp.float32)
        self.initial_read_logits = self.param("initial_read_logits", _at_first_slot, heads_shape, jnp.float32)
        self.initial_write_logits = self.param("initial_write_logits", _at_first_slot, heads_shape, jnp.float32)

    def initial_carry(self) -> NTMCarry:
        """The state at the start of an episode: controller and reads at zero, the learned table and heads."""
        dtype = self.initial_memory.dtype
        controller = self.start_controller()
        return NTMCarry(
            controller=jax.tree.map(lambda leaf: leaf.astype(dtype), controller),
            memory=self.initial_memory,
            read_weights=nn.softmax(self.initial_read_logits),
            write_weights=nn.softmax(self.initial_write_logits),
            reads=jnp.zeros((self.num_heads, self.slot_size), dtype),
        )

    def __call__(self, carry: NTMCarry | None, inputs: jax.Array) -> tuple[NTMCarry, tuple[jax.Array, tuple[()]]]:
        """One step.

        Args:
          carry: the state, or `None` at the start of an episode.
          inputs: one input; see `Embedding`.

        Returns:
          `(carry, (output, ()))`, with the output `[output_size]` and an empty trace.
        """
        carry = self.initial_carry() if carry is None else carry
        controller, hidden = self.advance(carry.controller, inputs, carry.reads)

        size = self.slot_size + 3 + _NUM_SHIFTS
        signals = self.interface(hidden).reshape(self.num_heads, -1)
        writing, reading, erase, additions = jnp.split(signals, np.cumsum((size, size, self.slot_size)), axis=-1)
        write_weights = self._address(carry.memory, carry.write_weights, writing)
        memory = write(carry.memory, write_weights, nn.sigmoid(erase), jnp.tanh(additions))
        read_weights = self._address(memory, carry.read_weights, reading)
        reads = read_weights @ memory
        output = self.answer(hidden, reads)
        return NTMCarry(controller, memory, read_weights, write_weights, reads), (output, ())

    def _address(self, memory: jax.Array, previous: jax.Array, signals: jax.Array) -> jax.Array:
        """Where heads go, `[H, S]`, that were at `previous`."""
        ends = np.cumsum((self.slot_size, 1, 1, _NUM_SHIFTS))
        keys, strengths, gates, shifts, exponents = jnp.split(signals, ends, axis=-1)
        content = address(memory, jnp.tanh(keys), nn.softplus(strengths[:, 0]))
        exponents = 1 + nn.softplus(exponents[:, 0])
        return move(content, previous, nn.sigmoid(gates[:, 0]), nn.softmax(shifts), exponents)

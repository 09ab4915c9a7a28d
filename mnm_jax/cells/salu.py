"""A baseline: an LSTM with a look-up table that is written and read by soft attention (SALU).

Axes: `S` slots of the table, `H` heads. Keys and values of the slots are two arrays.

Sources: the baseline LSTM+SALU of Munkhdalai et al., "Metalearned Neural Memory", NeurIPS 2019, section 4; how slots
are addressed and written, see `cells.slots`.
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
from mnm_jax.interface import normalize


class SALUCarry(NamedTuple):
    """The state between two steps.

    Attributes:
      controller: the carry of the LSTM, `(c, h)`, each `[controller_size]`.
      keys: `[S, key_size]`, the slots' keys.
      values: `[S, value_size]`, the slots' values.
      read: the value read at the step before, `[value_size]`.
    """

    controller: tuple[jax.Array, jax.Array]
    keys: jax.Array
    values: jax.Array
    read: jax.Array


class SALU(Controlled, nn.Module):
    """An LSTM with a table of slots, written and read by soft attention over the slots' keys, for one step.

    With `e_t` the embedded input: `h_t = LSTM([e_t ; r_{t-1}])`. One linear layer on `h_t` gives, for each head, a
    write key, a read key and what to add (tanh), what to erase (sigmoid), and a strength for each key (softplus). The
    write addresses the table `M_{t-1}` by its keys and changes whole slots, keys and values, to `M_t`; see `address`
    and `write`. What is added to the values is divided by its root mean square. The read addresses `M_t` by its keys
    and averages the values with those weights; `r_t` is the mean of that over heads. The output is
    `y_t = W_o [h_t ; r_t] + b_o`.

    The table at the start of an episode is learned, from N(0, 1 / (key_size + value_size)): slots that start equal
    would always be addressed, and hence written, equally.

    The strengths start large and the erase gates nearly closed. With strengths that start at a bias of zero every write
    blends into all slots, and values that are not normalized hardly show in the read: either way, no seed learned to
    translate from four pairs in 400 updates; with both, every seed did in 300. Erase gates that start half open only
    delay it.

    Example:
      >>> num_slots = mnm.cells.num_slots_matching(spec, slot_size=16)
      >>> cell = mnm.cells.SALU(output_size=3, controller_size=16, num_slots=num_slots, key_size=8, value_size=8)
      >>> variables = cell.init(jax.random.key(0), None, inputs[0])
      >>> carry, (output, _) = cell.apply(variables, None, inputs[0])

    Attributes:
      output_size: width of the output.
      controller_size: width of the LSTM.
      num_slots: `S`; for as many floats as an MNM's memory holds, see `num_slots_matching`.
      key_size: width of a slot's key.
      value_size: width of a slot's value.
      num_heads: `H`.
      value_normalization: `'rms'` divides what is added to the values, after the tanh, by its root mean square; `None`
        does not.
      strength_bias: bias of the strengths, before the softplus, at the start of training.
      erase_bias: bias of the erase gates, before the sigmoid, at the start of training.
      embedding_size: width of the embedded input; `None` for `controller_size`.
      vocabulary_size: number of symbols, if the inputs are symbols; see `Embedding`.
      embedding_scale: root mean square of the embedded inputs at the start of training; see `Embedding`.
    """

    output_size: int
    controller_size: int
    num_slots: int
    key_size: int
    value_size: int
    num_heads: int = 1
    value_normalization: str | None = "rms"
    strength_bias: float = 10.0
    erase_bias: float = -2.0
    embedding_size: int | None = None
    vocabulary_size: int | None = None
    embedding_scale: float = 1.0

    def setup(self) -> None:
        """Makes the parts; linen calls it."""
        _checks.check_positive(
            num_slots=self.num_slots,
            key_size=self.key_size,
            value_size=self.value_size,
            num_heads=self.num_heads,
        )
        _checks.check_choice("value_normalization", self.value_normalization, ("rms", None))
        width = self.key_size + self.value_size
        self.make_controller()
        # In the order of the signals: keys and additions, erase gates, strengths.
        of_head = np.repeat([0.0, self.erase_bias, self.strength_bias], [2 * self.key_size + width, width, 2])
        biases = jnp.asarray(np.tile(of_head, self.num_heads), jnp.float32)
        self.interface = nn.Dense(biases.size, bias_init=lambda rng, shape, dtype: biases)
        initializer = nn.initializers.normal(width**-0.5)
        self.initial_keys = self.param("initial_keys", initializer, (self.num_slots, self.key_size), jnp.float32)
        self.initial_values = self.param("initial_values", initializer, (self.num_slots, self.value_size), jnp.float32)

    def initial_carry(self) -> SALUCarry:
        """The state at the start of an episode: controller and read at zero, the learned initial table."""
        controller = self.start_controller()
        read = jnp.zeros(self.value_size, jnp.float32)
        return in_parameter_type(self, SALUCarry(controller, self.initial_keys, self.initial_values, read))

    def __call__(self, carry: SALUCarry | None, inputs: jax.Array) -> tuple[SALUCarry, tuple[jax.Array, tuple[()]]]:
        """One step.

        Args:
          carry: the state, or `None` at the start of an episode.
          inputs: one input; see `Embedding`.

        Returns:
          `(carry, (output, ()))`, with the output `[output_size]` and an empty trace.
        """
        carry = self.initial_carry() if carry is None else carry
        controller, hidden = self.advance(carry.controller, inputs, carry.read)

        sizes = (self.key_size, self.key_size, self.key_size, self.value_size, self.key_size, self.value_size)
        signals = self.interface(hidden).reshape(self.num_heads, -1)
        write_keys, read_keys, add_keys, add_values, erase_keys, erase_values, strengths = jnp.split(
            signals, np.cumsum(sizes), axis=-1
        )
        write_strengths, read_strengths = nn.softplus(strengths).T
        add_values = jnp.tanh(add_values)
        if self.value_normalization == "rms":
            add_values = normalize(add_values)

        write_weights = address(carry.keys, jnp.tanh(write_keys), write_strengths)
        keys = write(carry.keys, write_weights, nn.sigmoid(erase_keys), jnp.tanh(add_keys))
        values = write(carry.values, write_weights, nn.sigmoid(erase_values), add_values)

        read_weights = address(keys, jnp.tanh(read_keys), read_strengths)
        read = (read_weights @ values).mean(axis=0)
        output = self.answer(hidden, read)
        return SALUCarry(controller, keys, values, read), (output, ())

"""The Metalearned Neural Memory cell: a recurrent controller that owns a small network as its memory.

Axes: `L` layers of the memory, `H` heads.

Source: Munkhdalai et al., "Metalearned Neural Memory", NeurIPS 2019, section 3.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mnm_jax import _checks
from mnm_jax import memory as memory_lib
from mnm_jax._trees import cast
from mnm_jax.cells._types import in_parameter_type
from mnm_jax.cells.controlled import Controlled
from mnm_jax.cells.controller import LSTMCell
from mnm_jax.cells.trace import Trace, distances, layer_norms
from mnm_jax.cells.written import WrittenCell, constant, learned
from mnm_jax.contract import Change, PyTree, Writer, join_params
from mnm_jax.interface import Interface, Signals, normalize
from mnm_jax.memory import Spec


class MNMCarry(NamedTuple):
    """The state between two steps.

    Attributes:
      controller: the carry of the controller; for an LSTM `(c, h)`, each `[controller_size]`.
      memory: the weights of the memory, `phi`, and what the writer keeps beside them.
      read: the value read at the step before, `[value_size]`.
    """

    controller: Any
    memory: PyTree
    read: jax.Array


class MNMControl(NamedTuple):
    """All of a step that does not see the memory.

    Attributes:
      controller: the carry of the controller after the step.
      hidden: `[controller_size]`, its output, `h_t`.
      signals: keys, values, rate and the writer's gates.
    """

    controller: Any
    hidden: jax.Array
    signals: Signals


class MNM(Controlled, WrittenCell):
    """A recurrent cell with a Metalearned Neural Memory, for one step of one episode.

    With `e_t` the embedded input: `h_t = LSTM([e_t ; r_{t-1}])`; keys, values and rate from `h_t`; the writer changes
    `phi_{t-1}` to `phi_t`; `r_t = mean_i f(k^r_i; phi_t)`; `y_t = W_o [h_t ; r_t] + b_o`.

    Example:
      >>> spec = mnm.memory.Spec(key_size=8, value_size=8, hidden_sizes=(8,))
      >>> cell = mnm.cells.MNM(output_size=3, controller_size=16, memory_spec=spec, writer=mnm.writers.local())
      >>> variables = cell.init(jax.random.key(0), None, inputs[0])
      >>> carry, (output, trace) = cell.apply(variables, None, inputs[0])

    Attributes:
      output_size: width of the output.
      controller_size: width of the controller.
      memory_spec: the architecture of the memory.
      writer: how the memory is written; see `mnm_jax.writers`.
      num_heads: `H`.
      embedding_size: width of the embedded input; `None` for `controller_size`, 0 for inputs as they are.
      vocabulary_size: number of symbols, if the inputs are symbols; see `Embedding`.
      embedding_scale: root mean square of the embedded inputs at the start of training; see `Embedding`.
      controller: the controller's class, any linen recurrent cell that takes `features` and `dtype`.
      read_combination: `'mean'` over heads, or `'project'`: heads side by side through a linear layer.
      read_normalization: `'rms'` divides `r_t` by the root of its mean square plus 1, so that it stays within 1 however
        far the memory's values grow, and a small one is left nearly as it is; `None` does not.
      learned_initial_memory: whether `phi_0` is learned; else it stays as it was drawn, in the collection `constants`.
      key_normalization, value_normalization, shared_key_start, rate_per, rate_scale, rate_bias: see `Interface`.
      dtype: in what the matrix products, the writer and the read are computed, such as `jnp.bfloat16`; `None` for the
        type of the parameters. The memory, and what a write adds to it, stay in the type of the parameters. Some long
        episodes are chaotic before training: at T = 200 and a width of 32, rounding the parameters to bfloat16 once
        changes the gradient by 2 to 3% in the median of 16 seeds, and by more than its own size in the worst
        (`python -m benchmarks.rounding`).
    """

    output_size: int
    controller_size: int
    memory_spec: Spec
    writer: Writer
    num_heads: int = 1
    embedding_size: int | None = None
    vocabulary_size: int | None = None
    embedding_scale: float = 1.0
    controller: Callable[..., nn.RNNCellBase] = LSTMCell
    read_combination: str = "mean"
    read_normalization: str | None = None
    learned_initial_memory: bool = True
    key_normalization: str | None = "rms"
    value_normalization: str | None = "rms"
    shared_key_start: bool = True
    rate_per: str = "step"
    rate_scale: float = 1.0
    rate_bias: float = -2.0
    dtype: Any = None

    def setup(self) -> None:
        """Makes the parts; linen calls it."""
        _checks.check_positive(num_heads=self.num_heads)
        _checks.check_choice("read_combination", self.read_combination, ("mean", "project"))
        _checks.check_choice("read_normalization", self.read_normalization, ("rms", None))
        self.make_controller(self.controller, self.dtype)
        self.interface = Interface(
            memory_spec=self.memory_spec,
            num_heads=self.num_heads,
            key_normalization=self.key_normalization,
            value_normalization=self.value_normalization,
            shared_key_start=self.shared_key_start,
            rate_per=self.rate_per,
            rate_scale=self.rate_scale,
            rate_bias=self.rate_bias,
            gates=self.writer.gates,
            dtype=self.dtype,
        )
        initial = learned if self.learned_initial_memory else constant
        self.initial_weights = initial(self, "initial_memory", memory_lib.init, self.memory_spec)
        self.writer_params = join_params(
            learned(self, "writer", self.writer.init, self.memory_spec),
            constant(self, "writer", self.writer.constants, self.memory_spec),
        )
        if self.read_combination == "project":
            self.read_projection = nn.Dense(self.memory_spec.value_size, dtype=self.dtype)

    def initial_carry(self) -> MNMCarry:
        """The state at the start of an episode: controller and read at zero, memory `phi_0`."""
        read = jnp.zeros(self.memory_spec.value_size, jnp.float32)
        carry = MNMCarry(self.start_controller(), self.writer.start(self.initial_weights), read)
        return in_parameter_type(self, carry)

    def control(self, carry: MNMCarry, inputs: jax.Array) -> MNMControl:
        """Embedding, controller and interface. `inputs`: one input; see `Embedding`."""
        controller, hidden = self.advance(carry.controller, inputs, carry.read)
        return MNMControl(controller, hidden, self.interface(hidden))

    def write(self, control: MNMControl, memory: PyTree) -> tuple[Change, dict[str, Any]]:
        """What the writer makes of keys, values and rate, and how new that is to the memory."""
        keys, values, _, rate, gates = control.signals
        kept, error = memory, self._error(memory, keys, values)
        params, memory, keys, values, rate = cast((self.writer_params, memory, keys, values, rate), self.dtype)
        change = self.writer.write(params, memory, keys, values, rate, **gates)
        observation = self.writer.observe(params, memory, keys, values, rate, **gates)
        change, observation = cast((change, observation), control.hidden.dtype)
        written = self.writer.weights(change.apply(kept))
        return change, {
            "error_before": error,
            "write_norm": distances(written, self.writer.weights(kept)),
            **observation._asdict(),
        }

    def read(self, control: MNMControl, memory: PyTree) -> tuple[MNMCarry, jax.Array, Trace]:
        """What the memory that was written gives, and the output made of it."""
        controller, hidden, (keys, values, read_keys, rate, gates) = control
        read_values = self._read(memory, read_keys)
        if self.read_combination == "project":
            combined = self.read_projection(read_values.reshape(-1)).astype(hidden.dtype)
        else:
            combined = read_values.mean(axis=0)
        if self.read_normalization is not None:
            combined = normalize(combined, epsilon=1.0)
        output = self.answer(hidden, combined).astype(hidden.dtype)
        error_after = self._error(memory, keys, values)
        memory_norm = layer_norms(self.writer.weights(memory))
        trace = Trace(
            keys, values, read_keys, read_values, rate, gates, error_after=error_after, memory_norm=memory_norm
        )
        return MNMCarry(controller, memory, combined), output, trace

    def _read(self, memory: PyTree, keys: jax.Array) -> jax.Array:
        """What the keys give, in their own type."""
        return memory_lib.read(*cast((self.writer.weights(memory), keys), self.dtype)).astype(keys.dtype)

    def _error(self, memory: PyTree, keys: jax.Array, values: jax.Array) -> jax.Array:
        """`mean_i mean_j (f(k_i) - v_i)_j^2`."""
        return jnp.mean(jnp.square(self._read(memory, keys) - values))

"""What a writing rule is: the contract between the writers, the cell that they write for, and `unroll`.

A rule decides how the memory changes (`Writer`), the change knows how to apply itself and how to take itself back
(`Change`), and the local rule leaves the targets of the layers to a `Backward` function. Whatever keeps to this trains,
unrolls and is tested like the rules that come with the library.

Axes: `L` layers of widths `d_0` (key) to `d_L` (value), `H` heads.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Protocol, dataclass_transform

import jax
import jax.numpy as jnp

from mnm_jax import _checks
from mnm_jax.memory import Memory, Spec

PyTree = Any
Params = Mapping[str, Any]


class Change(Protocol):
    """What a writer returns: a pytree of arrays that says how a memory changes in one step.

    The memory may be any pytree: what a rule keeps beside the weights, such as momentum, belongs to it. A change whose
    `growth` is finite has a method `revert(memory)` too, the inverse of `apply` up to rounding; see `RevertibleChange`.
    """

    def apply(self, memory: PyTree) -> PyTree:
        """The memory after the change, in the same shapes and types."""
        ...

    def masked(self, valid: jax.Array) -> "Change":
        """This change if `valid`, a bool `[]`; else one that leaves the memory bit for bit as it is.

        What multiplies is to be 1 then and what adds 0. A rule that adds something to the memory that it does not
        decide on in this step, such as momentum, needs a factor for that in its change (see `rules.titans`).
        """
        ...

    @property
    def growth(self) -> Any:
        """By how much, at most, an error in the memory grows when the change is taken back: a static number.

        1 for what only adds; `1 / d` for what multiplies the memory by no less than `d` before it adds; infinity for
        what cannot be taken back. For a memory of several parts of about one magnitude it may be a matrix: entry
        `[i, j]` says how much of an error in part `j` goes into part `i`. `unroll` takes changes back as far as this
        allows, and no further.
        """
        ...


class RevertibleChange(Change, Protocol):
    """A change that can be taken back."""

    def revert(self, memory: PyTree) -> PyTree:
        """The memory before the change, up to rounding."""
        ...


@dataclasses.dataclass(frozen=True)
class Gate:
    """A number that a writer wants from the controller at each step: `low + (high - low) * sigmoid(w . u_t + bias)`.

    It is in the type of the parameters, whatever the cell's `dtype`: a memory fades by its powers.

    Attributes:
      low, high: its range.
      bias: the bias at the start of training.
      per: how many of it: `'step'` for one, `[]`; `'head'`, `[H]`; `'layer'`, `[L, 1]`; `'key_feature'`,
        `[H, key_size]`; `'value_feature'`, `[H, value_size]`.
    """

    low: float = 0.0
    high: float = 1.0
    bias: float = 0.0
    per: str = "step"

    def __post_init__(self) -> None:
        _checks.check_choice("per", self.per, ("step", "head", "layer", "key_feature", "value_feature"))
        for name in ("low", "high", "bias"):
            _checks.check_number(name, getattr(self, name))
        are_known = _checks.is_concrete(self.low) and _checks.is_concrete(self.high)
        if are_known and not -math.inf < self.low <= self.high < math.inf:
            raise ValueError(
                f"a gate's range must be finite, with low not above high, got {self.low!r} to {self.high!r}"
            )

    def shape(self, spec: Spec, num_heads: int) -> tuple[int, ...]:
        """The shape of the gate for a memory of this architecture."""
        return {
            "step": (),
            "head": (num_heads,),
            "layer": (spec.num_layers, 1),
            "key_feature": (num_heads, spec.key_size),
            "value_feature": (num_heads, spec.value_size),
        }[self.per]


class Observation(NamedTuple):
    """What a writer tells of a write beside the change.

    Attributes:
      auxiliary_loss: `[]`, with its weight in it, added to the training loss as a mean over steps; `None` for none.
      extras: arrays by name, for the trace.
    """

    auxiliary_loss: jax.Array | None = None
    extras: Mapping[str, jax.Array] = {}


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
class _Value:
    """Makes every subclass a frozen dataclass: equal if its fields are, hashable, and with a text that tells them."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        dataclasses.dataclass(frozen=True)(cls)
        # Those of this class do as well, and a decorator of a user's own would stumble over these.
        del cls.__setattr__, cls.__delattr__

    def __setattr__(self, name: str, value: Any) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


class Writer(_Value):
    """A writing rule. Every subclass is a frozen dataclass, whose fields are the rule's options.

    Writers with equal options are equal, hashable and picklable, so that equal cells share compiled code.

    Attributes:
      gates: what the rule wants from the controller beside keys, values and the rate, by name; of the class, or a
        property that depends on the options. `write` and `observe` get each as an argument of that name.
    """

    gates: ClassVar[Mapping[str, Gate]] = {}

    def fit(self, spec: Spec) -> Spec:
        """The architecture that the rule writes, where one of this size is asked for."""
        return spec

    def init(self, rng: jax.Array, spec: Spec) -> Params:
        """Makes the learned parameters; `{}`, as here, if there is nothing to learn."""
        del rng, spec
        return {}

    def constants(self, rng: jax.Array, spec: Spec) -> Params:
        """Draws parameters that stay as they are; they lie in the collection `constants` of a cell's variables."""
        del rng, spec
        return {}

    def start(self, weights: Memory) -> PyTree:
        """The memory at the start of an episode: the weights, and whatever the rule keeps beside them."""
        return weights

    def weights(self, memory: PyTree) -> Memory:
        """The weights in a memory that `start` made: what is read."""
        weights: Memory = memory
        return weights

    def write(
        self,
        params: Params,
        memory: PyTree,
        keys: jax.Array,
        values: jax.Array,
        rate: jax.Array,
        *args: Any,
        **gates: Any,
    ) -> Change:
        """Turns keys and values into a change of the memory; the memory itself is left as it is.

        Args:
          params: what `init` and `constants` made, in one mapping.
          memory: the memory before the write.
          keys: `[H, key_size]`, the write keys.
          values: `[H, value_size]`, what the memory shall give for them.
          rate: the step size, of a shape that broadcasts to `[L, H]`. At a rate of 0 nothing is written.
          *args: none; together with the next it says, to type checkers, that a rule names the gates it asked for.
          **gates: what `gates` asks for.

        Returns:
          The change, such as a `memory.Write`.
        """
        raise NotImplementedError

    def observe(
        self,
        params: Params,
        memory: PyTree,
        keys: jax.Array,
        values: jax.Array,
        rate: jax.Array,
        *args: Any,
        **gates: Any,
    ) -> Observation:
        """Tells of a write, from the arguments of `write`. Whatever of it nobody uses costs nothing."""
        del params, memory, keys, values, rate, args, gates
        return Observation()


class Seen(NamedTuple):
    """What a backward function may look at; what it does look at is its own business.

    Attributes:
      values: `[H, value_size]`, what shall be stored.
      keys: `[H, key_size]`, the write keys.
      activations: `[H, d_l]`, what the layer gives for the keys.
      outputs: `[H, value_size]`, what the whole memory gives for them.
    """

    values: jax.Array
    keys: jax.Array
    activations: jax.Array
    outputs: jax.Array


class Backward(_Value):
    """A backward function of the local rule: it gives every layer a target. Every subclass is a frozen dataclass.

    Attributes:
      is_learned: whether what `init` draws is learned; else it stays as it is.
      gives_steps: of the class: whether the targets of hidden layers are what the layers give already less a step that
        `apply` worked out. A rule that changes targets or the scale of steps would make another rule of it.
    """

    gives_steps: ClassVar[bool] = False
    is_learned: bool = dataclasses.field(default=True, kw_only=True)

    def init(self, rng: jax.Array, spec: Spec, layer: int) -> PyTree:
        """Makes the parameters for one layer, numbered from 0."""
        raise NotImplementedError

    def apply(self, params: PyTree, seen: Seen) -> jax.Array:
        """The target of a layer, `[H, d_l]`, from that layer's parameters."""
        raise NotImplementedError

    def observe(self, params: tuple[PyTree, ...], memory: Memory, keys: jax.Array, values: jax.Array) -> Observation:
        """Tells of a write, from the parameters of all layers; see `Writer.observe`."""
        del params, memory, keys, values
        return Observation()


def join_params(learned: Params, constants: Params) -> Params:
    """What `Writer.init` and `Writer.constants` made, in one mapping.

    Raises:
      ValueError: if a name is in both.
    """
    if shared := learned.keys() & constants.keys():
        raise ValueError(f"the writer's parameters {', '.join(sorted(shared))} are both learned and constant")
    return {**learned, **constants}


def check_write_arguments(memory: Memory, keys: jax.Array, values: jax.Array, rate: jax.Array) -> jax.Array:
    """Checks the arguments of a write.

    Args:
      memory: the weights.
      keys: `[H, key_size]`.
      values: `[H, value_size]`.
      rate: of a shape that broadcasts to `[L, H]`.

    Returns:
      The rate, `[L, H]`.

    Raises:
      AssertionError: if keys or values have another shape or are not floating-point, or if the rate does not broadcast.
    """
    _checks.check_array("keys", keys, (None, memory[0].kernel.shape[0]))
    _checks.check_array("values", values, (keys.shape[0], memory[-1].kernel.shape[1]))
    wanted = (len(memory), keys.shape[0])
    try:
        return jnp.broadcast_to(rate, wanted)
    except ValueError:
        message = f"argument 'rate': shape {jnp.shape(rate)} does not broadcast to [layers, heads] = {wanted}"
        raise AssertionError(message) from None

"""Memories as stores of associations: a pair of key and value is written once, a key is read.

What a store does is what the cell of that name does with its memory, with the controller taken out: the rule of a
writer, or the addressing of a table. What the controller would decide at each step, such as the rate, is a *setting*
here: numbers by name, the same at every step. Every function is pure and works on ONE memory.

Axes: `M` keys, `K = key_size`, `V = value_size`, `S` slots of a table.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mnm_jax import cells
from mnm_jax import memory as memory_lib
from mnm_jax.cells.attention import attend
from mnm_jax.cells.dnc import allocate, use
from mnm_jax.cells.ntm import move
from mnm_jax.cells.slots import address, num_slots_matching, write
from mnm_jax.contract import Writer, join_params
from mnm_jax.memory import Memory, Spec
from mnm_jax.unrolling import unroll_batch
from mnm_jax.writers import check_write_arguments

PyTree = Any
Setting = Mapping[str, Any]

# What is tried. The rates of a controller are at most 1.
_RATES = tuple(2.0**exponent for exponent in range(-5, 3))
_STRENGTHS = (2.0, 5.0, 10.0, 20.0, 50.0, 100.0)


@dataclasses.dataclass(frozen=True)
class Store:
    """A memory as a store of associations. Equal stores share compiled code.

    Attributes:
      key_size: `K`.
      value_size: `V`.
    """

    key_size: int
    value_size: int

    def init(self, rng: jax.Array) -> PyTree:
        """Draws what stays the same while an episode lasts; `()`, as here, if there is nothing."""
        del rng
        return ()

    def start(self, params: PyTree) -> PyTree:
        """The memory before anything is written, from what `init` drew or training learned."""
        raise NotImplementedError

    def write(self, params: PyTree, memory: PyTree, key: jax.Array, value: jax.Array, setting: Setting) -> PyTree:
        """The memory after a pair was written, once.

        Args:
          params: see `start`.
          memory: the memory before.
          key: `[K]`.
          value: `[V]`.
          setting: what a controller would decide.
        """
        raise NotImplementedError

    def read(self, params: PyTree, memory: PyTree, keys: jax.Array, setting: Setting) -> jax.Array:
        """What the memory gives for each key on its own: `[M, K] -> [M, V]`."""
        raise NotImplementedError

    def weights(self, memory: PyTree) -> PyTree:
        """The part of the memory that is read: the weights of a network, or the contents of a table."""
        return memory

    def candidates(self, setting: Setting | None = None) -> list[Setting]:
        """Settings of which one may be the best.

        Args:
          setting: what a controller decides; `None` without one. It stays as it is but for what is tried.
        """
        raise NotImplementedError

    def num_weights(self) -> int:
        """How many floats are read."""
        return _size(jax.eval_shape(lambda rng: self.weights(self.start(self.init(rng))), jax.random.key(0)))

    def num_floats(self) -> int:
        """How many floats the memory has in all, with what is kept beside the weights."""
        return _size(jax.eval_shape(lambda rng: self.start(self.init(rng)), jax.random.key(0)))


def _size(tree: PyTree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


class WrittenParams(NamedTuple):
    """What a written memory has learned.

    Attributes:
      initial: the weights before anything is written, `phi_0`.
      writer: the parameters of the writer.
    """

    initial: Memory
    writer: PyTree


def written(writer: Writer, spec: Spec) -> Store:
    """A network that a writer writes, with one head.

    The setting has the `rate`, `[]` or `[L, 1]`, and the writer's gates. What it learns are `WrittenParams`.

    Args:
      writer: the rule.
      spec: the architecture.
    """
    return _Written(spec.key_size, spec.value_size, writer, spec)


@dataclasses.dataclass(frozen=True)
class _Written(Store):
    writer: Writer
    spec: Spec

    def init(self, rng: jax.Array) -> WrittenParams:
        rng_memory, rng_writer, rng_constants = jax.random.split(rng, 3)
        learned, constant = self.writer.init(rng_writer, self.spec), self.writer.constants(rng_constants, self.spec)
        return WrittenParams(memory_lib.init(rng_memory, self.spec), join_params(learned, constant))

    def start(self, params: WrittenParams) -> PyTree:
        return self.writer.start(params.initial)

    def write(
        self, params: WrittenParams, memory: PyTree, key: jax.Array, value: jax.Array, setting: Setting
    ) -> PyTree:
        return self.writer.write(params.writer, memory, key[None], value[None], **setting).apply(memory)

    def read(self, params: WrittenParams, memory: PyTree, keys: jax.Array, setting: Setting) -> jax.Array:
        return memory_lib.read(self.writer.weights(memory), keys)

    def weights(self, memory: PyTree) -> PyTree:
        return self.writer.weights(memory)

    def candidates(self, setting: Setting | None = None) -> list[Setting]:
        gates = self._gates_at_start() if setting is None else setting
        return [{**gates, "rate": rate} for rate in _RATES]

    def _gates_at_start(self) -> Setting:
        opening = {
            name: gate.low + (gate.high - gate.low) * jax.nn.sigmoid(gate.bias)
            for name, gate in self.writer.gates.items()
        }
        return {name: jnp.full(self.writer.gates[name].shape(self.spec, 1), value) for name, value in opening.items()}


def outer_product() -> Writer:
    """The outer-product rule of a linear memory, `W' = W + rate * k^T v / |k|^2`: it does not look at what is there.

    Source: Kohonen, "Correlation matrix memories", IEEE Transactions on Computers 1972.
    """
    return _OuterProduct()


class _OuterProduct(Writer):
    def write(
        self, params: PyTree, memory: Memory, keys: jax.Array, values: jax.Array, rate: jax.Array
    ) -> memory_lib.Write:
        del params
        (rates,) = check_write_arguments(memory, keys, values, rate)
        return memory_lib.Write((keys,), (rates[:, None] * values / jnp.sum(jnp.square(keys), -1, keepdims=True),))


@dataclasses.dataclass(frozen=True)
class _Table(Store):
    num_slots: int

    @classmethod
    def matching(cls, spec: Spec) -> "_Table":
        """The table with the keys, the values and as many floats as a memory of this architecture."""
        num_slots = num_slots_matching(spec, spec.key_size + spec.value_size)
        return cls(spec.key_size, spec.value_size, num_slots)

    def empty(self) -> jax.Array:
        """Rows of a key and a value."""
        return jnp.zeros((self.num_slots, self.key_size + self.value_size))


class Slots(NamedTuple):
    """A table of slots: keys `[S, K]` and values `[S, V]`."""

    keys: jax.Array
    values: jax.Array


def salu(spec: Spec, num_slots: int | None = None) -> Store:
    """The table of `cells.SALU`: a pair is blended into the slots whose keys resemble its own.

    The setting has the `write_strength` and the `read_strength` of a key, and how much to `erase`. What it learns is
    where the table starts, as `Slots`.

    Args:
      spec: an architecture, whose keys and values it has.
      num_slots: `S`; `None` for as many floats as a memory of the architecture.
    """
    table = _SALU.matching(spec)
    return table if num_slots is None else dataclasses.replace(table, num_slots=num_slots)


@dataclasses.dataclass(frozen=True)
class _SALU(_Table):
    def init(self, rng: jax.Array) -> Slots:
        size = self.key_size + self.value_size
        rows = size**-0.5 * jax.random.normal(rng, (self.num_slots, size))
        return Slots(rows[:, : self.key_size], rows[:, self.key_size :])

    def start(self, params: Slots) -> Slots:
        return params

    def write(self, params: Slots, memory: Slots, key: jax.Array, value: jax.Array, setting: Setting) -> Slots:
        weights = address(memory.keys, key[None], jnp.reshape(setting["write_strength"], 1))
        parts = zip(memory, (key, value), strict=True)
        return Slots(
            *(write(table, weights, jnp.full_like(row[None], setting["erase"]), row[None]) for table, row in parts)
        )

    def read(self, params: Slots, memory: Slots, keys: jax.Array, setting: Setting) -> jax.Array:
        return address(memory.keys, keys, jnp.full(len(keys), setting["read_strength"])) @ memory.values

    def candidates(self, setting: Setting | None = None) -> list[Setting]:
        del setting
        return [
            {"write_strength": strength, "read_strength": strength, "erase": erase}
            for strength in _STRENGTHS
            for erase in (0.12, 0.5, 1.0)  # The first is where training starts.
        ]


class NTMMemory(NamedTuple):
    """A table `[S, K + V]`, and where the heads are, `[S]`."""

    table: jax.Array
    write_weights: jax.Array
    read_weights: jax.Array


def ntm(spec: Spec) -> Store:
    """The table of `cells.NTM`, used as well as its heads allow, with key and value in one slot.

    The write head moves on by one slot for each pair, erases it and writes there; when the table is full, it comes
    round to the oldest. The read head looks for the key. The setting has the `strength` of that key.

    Args:
      spec: an architecture, whose keys and values it has, and as many floats.
    """
    return _NTM.matching(spec)


@dataclasses.dataclass(frozen=True)
class _NTM(_Table):
    def start(self, params: tuple[()]) -> NTMMemory:
        last = jax.nn.one_hot(self.num_slots - 1, self.num_slots)
        return NTMMemory(self.empty(), last, last)

    def write(
        self, params: tuple[()], memory: NTMMemory, key: jax.Array, value: jax.Array, setting: Setting
    ) -> NTMMemory:
        before, forwards = memory.write_weights[None], jnp.array([[0.0, 0.0, 1.0]])
        weights = move(before, before, jnp.zeros(1), forwards, jnp.ones(1))
        return NTMMemory(_replace(memory.table, weights, key, value), weights[0], memory.read_weights)

    def read(self, params: tuple[()], memory: NTMMemory, keys: jax.Array, setting: Setting) -> jax.Array:
        return _find(memory.table, keys, setting["strength"])

    def weights(self, memory: NTMMemory) -> PyTree:
        return memory.table

    def candidates(self, setting: Setting | None = None) -> list[Setting]:
        del setting
        return [{"strength": strength} for strength in _STRENGTHS]


class DNCMemory(NamedTuple):
    """What `cells.DNCCarry` has of a memory.

    Attributes:
      table: `[S, K + V]`.
      usage, write_weights, precedence, read_weights: `[S]`.
      link: `[S, S]`.
    """

    table: jax.Array
    usage: jax.Array
    write_weights: jax.Array
    precedence: jax.Array
    read_weights: jax.Array
    link: jax.Array


def dnc(spec: Spec) -> Store:
    """The table of `cells.DNC`, used as well as its allocation allows, with key and value in one slot.

    Each pair goes to a free slot. Nothing is set free again, so a full table takes nothing more. The links, which keep
    the order of writing, are not needed here, but the memory has them. The setting has the `strength` of a key that is
    read.

    Args:
      spec: an architecture, whose keys and values it has, and as many floats in its table.
    """
    return _DNC.matching(spec)


@dataclasses.dataclass(frozen=True)
class _DNC(_Table):
    def start(self, params: tuple[()]) -> DNCMemory:
        none = jnp.zeros(self.num_slots)
        return DNCMemory(self.empty(), none, none, none, none, jnp.zeros((self.num_slots, self.num_slots)))

    def write(
        self, params: tuple[()], memory: DNCMemory, key: jax.Array, value: jax.Array, setting: Setting
    ) -> DNCMemory:
        usage = use(memory.usage, memory.write_weights, memory.read_weights[None], jnp.zeros(1))
        weights = allocate(usage)
        table = _replace(memory.table, weights[None], key, value)
        return memory._replace(table=table, usage=usage, write_weights=weights)

    def read(self, params: tuple[()], memory: DNCMemory, keys: jax.Array, setting: Setting) -> jax.Array:
        return _find(memory.table, keys, setting["strength"])

    def weights(self, memory: DNCMemory) -> PyTree:
        return memory.table

    def candidates(self, setting: Setting | None = None) -> list[Setting]:
        del setting
        return [{"strength": strength} for strength in _STRENGTHS]


def _replace(table: jax.Array, weights: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """The table with a pair in the slots of these weights, `[1, S]`, and nothing else there."""
    row = jnp.concatenate([key, value])[None]
    return write(table, weights, jnp.ones_like(row), row)


def _find(table: jax.Array, keys: jax.Array, strength: jax.Array) -> jax.Array:
    """Looks for keys in slots of a key and a value: `[M, K] -> [M, V]`."""
    value_size = table.shape[1] - keys.shape[1]
    padded = jnp.pad(keys, ((0, 0), (0, value_size)))
    return (address(table, padded, jnp.full(len(keys), strength)) @ table)[:, -value_size:]


class AttentionMemory(NamedTuple):
    """A table `[S, K + V]`, and how many of its rows are written, an int32 `[]`."""

    table: jax.Array
    num_written: jax.Array


def attention(spec: Spec) -> Store:
    """The table of `cells.Attention`: each pair is a row of its own, and a full table takes nothing more.

    The setting has the `sharpness`, by which queries are longer than keys.

    Args:
      spec: an architecture, whose keys and values it has, and as many floats.
    """
    return _Attention.matching(spec)


@dataclasses.dataclass(frozen=True)
class _Attention(_Table):
    def start(self, params: tuple[()]) -> AttentionMemory:
        return AttentionMemory(self.empty(), jnp.zeros((), jnp.int32))

    def write(
        self, params: tuple[()], memory: AttentionMemory, key: jax.Array, value: jax.Array, setting: Setting
    ) -> AttentionMemory:
        place = jax.nn.one_hot(memory.num_written, self.num_slots)  # All zeros, if the table is full.
        table = memory.table + jnp.outer(place, jnp.concatenate([key, value]))
        return AttentionMemory(table, jnp.minimum(memory.num_written + 1, self.num_slots))

    def read(self, params: tuple[()], memory: AttentionMemory, keys: jax.Array, setting: Setting) -> jax.Array:
        # The keys are heads that see one and the same column.
        rows = jnp.broadcast_to(memory.table[:, None], (self.num_slots, len(keys), memory.table.shape[1]))
        return attend(rows, setting["sharpness"] * keys, memory.num_written).T @ memory.table[:, self.key_size :]

    def weights(self, memory: AttentionMemory) -> PyTree:
        return memory.table

    def candidates(self, setting: Setting | None = None) -> list[Setting]:
        del setting
        return [{"sharpness": sharpness} for sharpness in (1.0, 2.0, 4.0, 8.0)]


class Trained(NamedTuple):
    """A memory as training left it.

    Attributes:
      params: what it learned, for its store.
      setting: what its controller decides on the average.
    """

    params: PyTree
    setting: Setting


def of_cell(cell: nn.Module) -> Store | None:
    """The store that a cell owns: that of an MNM or a SALU, and `None` for others.

    What an NTM, a DNC or attention has learned of writing is all in the controller.
    """
    if isinstance(cell, cells.MNM):
        return written(cell.writer, cell.memory_spec)
    if isinstance(cell, cells.SALU):
        return salu(Spec(cell.key_size, cell.value_size), cell.num_slots)
    return None


def of_trained(cell: nn.Module, variables: PyTree, inputs: PyTree) -> Trained:
    """What a trained cell brings to its store.

    The rate `r`, and with it a writer's gate `g`, is a mean over steps and heads weighted by the rate itself, so that
    steps at which hardly anything is written hardly count: `sum r^2 / sum r`, and `sum r g / sum r`. The strengths of a
    SALU, which writes at all steps alike, are plain means.

    Args:
      cell: with a store; see `of_cell`.
      variables: its variables.
      inputs: episodes on which its controller is looked at, each leaf `[B, T, ...]`.
    """
    if isinstance(cell, cells.SALU):
        return _of_salu(cell, variables, inputs)
    params = cell.apply(variables, method=lambda cell: WrittenParams(cell.initial_weights, dict(cell.writer_params)))
    trace = unroll_batch(cell, variables, inputs).trace
    values = {"rate": trace.rate, **trace.gates}
    per = {"rate": cell.rate_per} | {name: gate.per for name, gate in cell.writer.gates.items()}
    # Without a head of its own a rate is that of all heads, without a layer that of all layers: [B, T, L or 1, H or 1].
    axes = {"step": (2, 3), "head": (2,), "layer": ()}[cell.rate_per]
    rates = np.expand_dims(np.asarray(trace.rate), axes)
    return Trained(params, {name: _mean(rates, np.asarray(value), per[name]) for name, value in values.items()})


def _mean(rates: np.ndarray, values: np.ndarray, per: str) -> np.ndarray:
    """The mean of a gate over episodes, steps and heads, weighted by the rate, in its shape for one head."""
    if per == "step":
        return np.asarray(np.average(values, weights=rates.mean(axis=(2, 3))))
    if per == "layer":
        weights = np.broadcast_to(rates.mean(axis=3, keepdims=True), values.shape)
        return np.asarray(np.average(values, axis=(0, 1), weights=weights))
    weights = rates.mean(axis=2).reshape(*rates.shape[:2], -1, *[1] * (values.ndim - 3))
    return np.asarray(np.average(values, axis=(0, 1, 2), weights=np.broadcast_to(weights, values.shape)))[None]


def _of_salu(cell: cells.SALU, variables: PyTree, inputs: PyTree) -> Trained:
    is_interface = lambda module, method: module.name == "interface"  # noqa: E731

    def step(carry: PyTree, inputs: PyTree) -> tuple[PyTree, jax.Array]:
        (carry, _), captured = cell.apply(
            variables, carry, inputs, capture_intermediates=is_interface, mutable=["intermediates"]
        )
        return carry, captured["intermediates"]["interface"]["__call__"][0]

    start: Any = cell.apply(variables, method="initial_carry")
    signals = jax.jit(jax.vmap(lambda inputs: jax.lax.scan(step, start, inputs)[1]))(inputs)
    signals = signals.reshape(-1, signals.shape[-1] // cell.num_heads)
    # In the order of the interface: keys and additions, erase gates, strengths.
    width = cell.key_size + cell.value_size
    strengths = nn.softplus(signals[:, -2:]).mean(axis=0)
    erase = nn.sigmoid(signals[:, -2 - width : -2]).mean()
    setting = {"write_strength": strengths[0], "read_strength": strengths[1], "erase": erase}
    return Trained(Slots(start.keys, start.values), setting)

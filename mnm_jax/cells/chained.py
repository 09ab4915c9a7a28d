"""A Metalearned Neural Memory whose reads are chained: what a read gives is the key of the next one.

Axes: `L` layers of the memory, `H` heads that write, `C` chains of `K` reads, `d` the width of values and entities.

Sources: Munkhdalai et al., "Metalearned Neural Memory", NeurIPS 2019, for the memory and how it is written. Keys of an
entity and a relation, and reads in a chain: Schlag and Schmidhuber, "Learning to reason with third-order tensor
products", NeurIPS 2018, and Schlag, Munkhdalai and Schmidhuber, "Learning associative inference using fast weight
memory", ICLR 2021, whose memory is a tensor product of the two. Here it is a perceptron over both side by side.
"""

import itertools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mnm_jax import _checks
from mnm_jax import memory as memory_lib
from mnm_jax.cells.embedding import embedding_of
from mnm_jax.cells.trace import Trace, distances, layer_norms
from mnm_jax.cells.written import WrittenCell, constant, learned
from mnm_jax.contract import Change, PyTree, Writer, join_params
from mnm_jax.interface import normalize
from mnm_jax.memory import Spec


class Pending(NamedTuple):
    """What a step decided to write; the next step begins by writing it.

    Attributes:
      keys: `[H, key_size]`.
      values: `[H, d]`.
      rate: `[H]`; 0 at the start of an episode.
    """

    keys: jax.Array
    values: jax.Array
    rate: jax.Array


class ChainedCarry(NamedTuple):
    """The state between two steps.

    Attributes:
      memory: the weights of the memory, `phi`, and what the writer keeps beside them.
      pending: what the step before decided to write.
    """

    memory: PyTree
    pending: Pending


class ChainedControl(NamedTuple):
    """All of a step that does not see the memory.

    Attributes:
      pending: what is to be written now.
      entities: `[C, d]`, `n_0`, where each chain of reads begins.
      relations: `[K, C, key_size - d]`, the other parts of the keys of the reads.
      write_entities: `[H, d]`, of what the step has to write, before it takes up what is read.
      write_values: `[H, d]`, the same.
      write_relations: `[H, key_size - d]`.
      gates: `[2, H, (K + 1) C]`, how much of the entities and reads is added to each entity and value of a write.
      rate: `[H]`.
      hidden: `[controller_size]`, `h_t`.
    """

    pending: Pending
    entities: jax.Array
    relations: jax.Array
    write_entities: jax.Array
    write_values: jax.Array
    write_relations: jax.Array
    gates: jax.Array
    rate: jax.Array
    hidden: jax.Array


class ChainedMNM(WrittenCell):
    """A cell that reads in a chain, answers from what was read, and then decides what to write.

    A key has two parts, an entity, which is as wide as a value, and a relation. With `e_t` the embedded input, `N(x)`
    the vector `x` divided by its root mean square, and `S(x) = x / sqrt(1 + mean_j x_j^2)`:

    - `phi_t` is `phi_{t-1}` after the write that the step before has decided;
    - `h_t = tanh(W_h e_t + b_h)`; from it `n_0 = N(tanh(.))`, and the relations `r_1` to `r_K` in the same way;
    - `n_i = S(f([n_{i-1} ; r_i]; phi_t))` for `i = 1 ... K`: what is read is, as it stands, the entity of the next key;
    - `y_t = W_o sum_i n_i + b_o`: the answer has to come from the memory. Of several chains, each with entities and
      relations of its own, which do not see each other, the sums stand side by side. With a readout
      `W_p tanh(W_q [h_t ; n_0 ; ... ; n_K] + b_q) + b_p` is added: reads can be compared with the question and with
      each other, as "is A left of B" wants, but an answer may now pass the memory by;
    - with gated units, `h_t = tanh(W_h e_t + b_h) * (W_g e_t + b_g)`, and the readout's hidden layer likewise. Whether
      A is left of B turns on four signs at once (which of the two a sentence is about, on which side of the other it
      stands, what is asked, and about which), and products of signs are what sums followed by `tanh` learn late or
      never. `W_g` starts at 0 and `b_g` at 1, that is without gates: from a random start, what was learned without
      them was learned late or never;
    - for each head, the key `[N(s + sum_i g_i n_i) ; r]`, the value `N(v + sum_i g'_i n_i)` and the rate, with `s`,
      `r`, `v` and the gates `g`, `g'` from `h_t`: what is written may take up what was read.

    `S` instead of `N` in the chain, for at the start of an episode there is next to nothing to read, and the gradient
    of `N` is large at a small vector. There is no state but the memory and what is to be written to it.

    An episode of `T` steps makes `T - 1` writes. The first step writes nothing, a zero key and a zero value at a rate
    of 0, and what the last one decides is not written any more; so of `T` steps the trace tells of no write and then of
    `T - 1`, and so does the meta-objective, to which the first step adds `|f(0; phi_0)|^2`: 0 without biases.

    Source of the gated units: Dauphin et al., "Language modeling with gated convolutional networks", ICML 2017, whose
    gates are sigmoids; the bounded factor is the `tanh` here.

    Attributes:
      output_size: width of the output.
      controller_size: width of `h_t`.
      memory_spec: the architecture of the memory; its key is wider than its value, by the width of a relation.
      writer: how the memory is written; see `mnm_jax.writers`.
      num_heads: `H`.
      num_reads: `K`.
      num_chains: `C`.
      readout_size: width of the readout's hidden layer; 0 for no readout.
      gated_units: whether `h_t` and the readout's hidden layer have gates.
      embedding_size: width of the embedded input; `None` for `controller_size`.
      vocabulary_size: number of symbols, if the inputs are symbols or sentences; see `Embedding`.
      embedding_scale: root mean square of the embedded inputs at the start of training; see `Embedding`.
      rate_bias: the bias of the rate's sigmoid at the start of training.
    """

    output_size: int
    controller_size: int
    memory_spec: Spec
    writer: Writer
    num_heads: int = 3
    num_reads: int = 3
    num_chains: int = 1
    readout_size: int = 0
    gated_units: bool = False
    embedding_size: int | None = None
    vocabulary_size: int | None = None
    embedding_scale: float = 1.0
    rate_bias: float = -1.0

    def setup(self) -> None:
        """Makes the parts; linen calls it."""
        _checks.check_positive(
            output_size=self.output_size,
            controller_size=self.controller_size,
            num_heads=self.num_heads,
            num_reads=self.num_reads,
            num_chains=self.num_chains,
        )
        if self.readout_size:
            _checks.check_positive(readout_size=self.readout_size)
        if self._relation_size < 1:
            raise ValueError(
                f"memory_spec: a key is an entity, as wide as a value, and a relation, so key_size must exceed "
                f"value_size, got {self.memory_spec.key_size} and {self.memory_spec.value_size}"
            )
        if self.writer.gates:
            raise ValueError(
                f"writer: ChainedMNM makes no gates, and {self.writer!r} wants {', '.join(self.writer.gates)}"
            )
        self.embedding = embedding_of(self)
        self.controller_layer = nn.Dense(self.controller_size)
        self.controller_gate = _dense_of_ones(self.controller_size) if self.gated_units else None
        self.signals = nn.Dense(sum(self._signal_sizes), kernel_init=self._init_signals)
        self.gates = nn.Dense(2 * self.num_heads * (self.num_reads + 1) * self.num_chains)
        self.rate = nn.Dense(self.num_heads, bias_init=nn.initializers.constant(self.rate_bias))
        self.initial_weights = learned(self, "initial_memory", memory_lib.init, self.memory_spec)
        self.writer_params = join_params(
            learned(self, "writer", self.writer.init, self.memory_spec),
            constant(self, "writer", self.writer.constants, self.memory_spec),
        )
        self.output = nn.Dense(self.output_size)
        if self.readout_size:
            self.readout_hidden = nn.Dense(self.readout_size)
            self.readout_gate = _dense_of_ones(self.readout_size) if self.gated_units else None
            self.readout = nn.Dense(self.output_size)

    @property
    def _relation_size(self) -> int:
        return self.memory_spec.key_size - self.memory_spec.value_size

    @property
    def _signal_sizes(self) -> tuple[int, ...]:
        """Of entities and relations to read with, and of entities, values and relations to write."""
        d, r = self.memory_spec.value_size, self._relation_size
        num_heads, num_chains = self.num_heads, self.num_chains
        return num_chains * d, self.num_reads * num_chains * r, num_heads * d, num_heads * d, num_heads * r

    def _init_signals(self, rng: jax.Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> jax.Array:
        """Reads start with entities and relations of writes: one head's after the other."""
        kernel = nn.initializers.lecun_normal()(rng, shape, dtype)
        entities, relations, write_entities, write_values, write_relations = self._split(kernel)
        entities = jnp.tile(write_entities, self.num_chains)[:, : entities.shape[1]]
        relations = jnp.tile(write_relations, self.num_reads * self.num_chains)[:, : relations.shape[1]]
        return jnp.concatenate([entities, relations, write_entities, write_values, write_relations], axis=1)

    def _split(self, signals: jax.Array) -> list[jax.Array]:
        *ends, _ = itertools.accumulate(self._signal_sizes)
        return jnp.split(signals, ends, axis=-1)

    def initial_carry(self) -> ChainedCarry:
        """The state at the start of an episode: the memory `phi_0`, and nothing to be written."""
        sizes = (self.memory_spec.key_size,), (self.memory_spec.value_size,), ()
        dtype = self.initial_weights[0].kernel.dtype
        nothing = Pending(*(jnp.zeros((self.num_heads, *size), dtype) for size in sizes))
        return ChainedCarry(self.writer.start(self.initial_weights), nothing)

    def control(self, carry: ChainedCarry, inputs: jax.Array) -> ChainedControl:
        """Embedding, controller and all signals. `inputs`: one input; see `Embedding`."""
        hidden = _units(self.embedding(inputs), self.controller_layer, self.controller_gate)
        entities, relations, *to_write = self._split(jnp.tanh(self.signals(hidden)))
        write_entities, write_values, write_relations = (x.reshape(self.num_heads, -1) for x in to_write)
        return ChainedControl(
            pending=carry.pending,
            entities=normalize(entities.reshape(self.num_chains, -1)),
            relations=normalize(relations.reshape(self.num_reads, self.num_chains, -1)),
            write_entities=write_entities,
            write_values=write_values,
            write_relations=normalize(write_relations),
            gates=jnp.tanh(self.gates(hidden)).reshape(2, self.num_heads, -1),
            rate=nn.sigmoid(self.rate(hidden)),
            hidden=hidden,
        )

    def write(self, control: ChainedControl, memory: PyTree) -> tuple[Change, dict[str, Any]]:
        """Writes what is pending."""
        arguments = (self.writer_params, memory, *control.pending)
        change = self.writer.write(*arguments)
        return change, {
            "error_before": self._error(memory, control.pending),
            "write_norm": distances(self.writer.weights(change.apply(memory)), self.writer.weights(memory)),
            **self.writer.observe(*arguments)._asdict(),
        }

    def read(self, control: ChainedControl, memory: PyTree) -> tuple[ChainedCarry, jax.Array, Trace]:
        """Reads in chains, answers, and decides what to write next."""
        weights = self.writer.weights(memory)
        read_keys, read_values, chain = [], [], [control.entities]
        for relations in control.relations:
            read_keys.append(jnp.concatenate([chain[-1], relations], axis=-1))
            read_values.append(memory_lib.read(weights, read_keys[-1]))
            chain.append(normalize(read_values[-1], epsilon=1.0))
        output = self.output(jnp.sum(jnp.stack(chain[1:]), axis=0).ravel())
        if self.readout_size:
            seen = jnp.concatenate([control.hidden, *(entities.ravel() for entities in chain)])
            output = output + self.readout(_units(seen, self.readout_hidden, self.readout_gate))
        keys, values, rate = control.pending
        trace = Trace(
            write_keys=keys,
            write_values=values,
            read_keys=jnp.concatenate(read_keys),
            read_values=jnp.concatenate(read_values),
            rate=rate,
            gates={},
            error_after=self._error(memory, control.pending),
            memory_norm=layer_norms(weights),
        )
        return ChainedCarry(memory, _decide(control, jnp.concatenate(chain))), output, trace

    def _error(self, memory: PyTree, pending: Pending) -> jax.Array:
        """`mean_i mean_j (f(k_i) - v_i)_j^2`."""
        values = memory_lib.read(self.writer.weights(memory), pending.keys)
        return jnp.mean(jnp.square(values - pending.values))


def _dense_of_ones(size: int) -> nn.Dense:
    """A layer whose output is 1 at the start of training, whatever its input."""
    return nn.Dense(size, kernel_init=nn.initializers.zeros, bias_init=nn.initializers.ones)


def _units(x: jax.Array, layer: nn.Dense, gate: nn.Dense | None) -> jax.Array:
    """A hidden layer, and its gates if it has any."""
    hidden = jnp.tanh(layer(x))
    return hidden if gate is None else hidden * gate(x)


def _decide(control: ChainedControl, chain: jax.Array) -> Pending:
    """What to write; `chain: [(K + 1) C, d]` is what was read, and the entities `n_0` before it."""
    signals = jnp.stack([control.write_entities, control.write_values])
    entities, values = normalize(signals + control.gates @ chain)
    return Pending(jnp.concatenate([entities, control.write_relations], axis=-1), values, control.rate)

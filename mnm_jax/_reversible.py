"""Unrolling that walks the memory back: the gradient keeps no memory but the last one of each chunk.

A cell that changes its memory only by a `contract.Change` is unrolled so. The gradient keeps what the controller gave
at each step and the change, which is small, and takes the changes back one by one with `Change.revert`. So that
rounding cannot add up, a long episode is cut into chunks, and the walk begins anew at the end of each, from an anchor:
a copy of the memory as it was.

Axes: `B` episodes, `T` time steps.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from mnm_jax._batching import with_batches
from mnm_jax._chunked import in_chunks
from mnm_jax._trees import add, compiled, num_steps_of, select, swap_axes, vary, varying_axes, zero_unless
from mnm_jax.cells.written import join_trace
from mnm_jax.contract import Change, RevertibleChange

PyTree = Any
Result = tuple[PyTree, jax.Array, PyTree]  # Carry, outputs and trace.

# On a CPU, of the memories that are unrolled together; their gradients take as much again.
_BLOCK_BYTES = 2**21
_LEAST_BLOCK = 8


def walk_length(growth: Any, budget: int) -> int:
    """The most steps that may be taken back in a row, so that rounding sums up to no more than `budget` roundings.

    A step back makes a rounding error of its own and lets those before it grow: after `n` steps they are about
    `sum_{k=1..n} growth^k` times one of them; for a matrix, its largest row sum.

    Args:
      growth: see `contract.Change`.
      budget: so many steps whose growth is 1.

    Returns:
      The number of steps; 0 if not even one may be taken back.

    Raises:
      TypeError: if the growth is traced.
      ValueError: if it is neither a number nor a square matrix, or below 0.
    """
    if isinstance(growth, jax.core.Tracer):
        raise TypeError(
            "the growth of a change must be static, such as 1 over the low end of a gate, got a traced value"
        )
    growth = np.asarray(growth, float)
    if growth.ndim not in (0, 2) or len(set(growth.shape)) > 1 or not np.all(growth >= 0):
        raise ValueError(f"the growth of a change must be a number or a square matrix, not below 0, got {growth}")
    growth = np.atleast_2d(growth)
    if not np.all(np.isfinite(growth)):
        return 0
    power, total = np.eye(len(growth)), 0.0
    for steps in range(budget):
        power = power @ growth
        total += np.abs(power).sum(axis=1).max()
        if total > budget:
            return steps
    return budget


def rounding_budget(memory: PyTree, anchor_every: int) -> int:
    """As many roundings of the memory's coarsest type as weigh what `anchor_every` of float32 do."""
    types = [leaf.dtype for leaf in jax.tree.leaves(memory) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    coarsest = max(float(jnp.finfo(dtype).eps) for dtype in types)
    return int(anchor_every * min(1.0, float(jnp.finfo(jnp.float32).eps) / coarsest))


def unroll(
    cell: nn.Module, walk: int, variables: PyTree, carry: PyTree, inputs: PyTree, valid: jax.Array | None
) -> Result:
    """Unrolls one episode; `jax.vmap` of it is `unroll_batch`.

    Args:
      cell: a `cells.WrittenCell`.
      walk: the most steps to be taken back in a row.
      variables: the cell's variables.
      carry: the state to begin with, in the types that a step gives.
      inputs: `[T, ...]`.
      valid: `[T]`, which steps count; `None` for all.

    Returns:
      Carry, outputs and trace.
    """
    result: Result = with_batches(
        lambda variables, episode: _from_anchor_to_anchor(cell, walk, False, variables, *episode),
        lambda variables, episodes: unroll_batch(cell, walk, variables, *episodes),
        variables,
        (carry, inputs, valid),
    )
    return result


def unroll_batch(
    cell: nn.Module, walk: int, variables: PyTree, carry: PyTree, inputs: PyTree, valid: jax.Array | None
) -> Result:
    """Unrolls a batch of episodes, each argument but the variables with a leading axis `B`; else as `unroll`."""

    def unroll_block(episodes: PyTree) -> Result:
        carry, *steps = episodes
        carry, *results = _from_anchor_to_anchor(cell, walk, True, variables, carry, *swap_axes(steps))
        return carry, *swap_axes(results)

    episodes, memories = (carry, inputs, valid), jax.tree.leaves(carry.memory)
    batch_size = memories[0].shape[0]
    if not isinstance(batch_size, int) or batch_size == 0:  # A symbol, under `jax.export`, or nothing to do.
        return unroll_block(episodes)
    block_size = _block_size(batch_size, sum(leaf.nbytes for leaf in memories) // batch_size)
    if block_size == batch_size:
        return unroll_block(episodes)
    blocks = jax.tree.map(lambda x: x.reshape(-1, block_size, *x.shape[1:]), episodes)
    result: Result = jax.tree.map(lambda x: x.reshape(batch_size, *x.shape[2:]), jax.lax.map(unroll_block, blocks))
    return result


def _block_size(batch_size: int, memory_bytes: int) -> int:
    """How many episodes are unrolled at a time: all of them, but on a CPU as many as its caches hold from step to step.

    That makes the gradient of 128 episodes twice as fast (benchmarks/RESULTS.md). What the gradient keeps of a block is
    there twice for a while, so fewer than four blocks are not worth it.
    """
    if jax.default_backend() != "cpu":
        return batch_size
    # Products with the parameters want some episodes at once, however large the memories.
    most = max(_LEAST_BLOCK, _BLOCK_BYTES // memory_bytes)
    sizes = range(min(most, batch_size // 4), most // 2, -1)
    return next((size for size in sizes if batch_size % size == 0), batch_size)


def _from_anchor_to_anchor(
    cell: nn.Module,
    walk: int,
    is_batch: bool,
    variables: PyTree,
    carry: PyTree,
    inputs: PyTree,
    valid: jax.Array | None,
) -> Result:
    """Unrolls in chunks: the memory after a chunk is what the chunk's own gradient keeps."""

    def chunk(carry: PyTree, steps: PyTree) -> tuple[PyTree, PyTree]:
        return _unroll_reversible(cell, is_batch, variables, carry, *steps)

    num_steps = num_steps_of((inputs, valid))
    # Chunks of one length, if they can be: what is left over is compiled once more.
    carry, (outputs, (trace, before)) = in_chunks(chunk, carry, (inputs, valid), num_steps // -(-num_steps // walk))
    return carry, outputs, join_trace(trace, before)


class _Parts(NamedTuple):
    """What a step is made of, as functions of one episode, or of a batch that shares variables.

    A state is a carry without its memory, which is `None` in it.

    Attributes:
      write: `write(variables, memory, state, inputs, valid) -> (control, change, before)`.
      read: `read(variables, memory, control, valid) -> (state, (outputs, after))`, with the memory after the change.
      apply: `apply(change, memory) -> memory`.
      revert: `revert(change, memory) -> memory`.
      select: `select(valid, new, old)`.
    """

    write: Callable[..., PyTree]
    read: Callable[..., PyTree]
    apply: Callable[[Change, PyTree], PyTree]
    revert: Callable[[RevertibleChange, PyTree], PyTree]
    select: Callable[..., PyTree]


def _parts(cell: nn.Module, is_batch: bool) -> _Parts:
    def write(variables: PyTree, memory: PyTree, state: PyTree, inputs: PyTree, valid: jax.Array | None) -> PyTree:
        control = cell.apply(variables, state, inputs, method="control")
        change, before = cell.apply(variables, control, memory, method="write")
        return control, change if valid is None else change.masked(valid), zero_unless(valid, before)

    def read(variables: PyTree, memory: PyTree, control: PyTree, valid: jax.Array | None) -> PyTree:
        carry, *results = cell.apply(variables, control, memory, method="read")
        return carry._replace(memory=None), zero_unless(valid, tuple(results))

    def apply(change: Change, memory: PyTree) -> PyTree:
        return change.apply(memory)

    def revert(change: RevertibleChange, memory: PyTree) -> PyTree:
        return change.revert(memory)

    if not is_batch:
        return _Parts(write, read, apply, revert, select)
    return _Parts(
        jax.vmap(write, in_axes=(None, 0, 0, 0, 0)),
        jax.vmap(read, in_axes=(None, 0, 0, 0)),
        jax.vmap(apply),
        jax.vmap(revert),
        # Without a length there may be nothing to map over.
        lambda valid, new, old: new if valid is None else jax.vmap(select)(valid, new, old),
    )


def _scan(
    cell: nn.Module,
    is_batch: bool,
    variables: PyTree,
    carry: PyTree,
    inputs: PyTree,
    valid: jax.Array | None,
    keep: Callable[[PyTree, Change], PyTree] = lambda control, change: None,
) -> tuple[tuple[PyTree, PyTree], PyTree]:
    """Runs the steps: the carry, with outputs and trace, and what `keep` makes of control and change of each step.

    A batch has its episodes in the second axis. The trace is in two parts: what `read` gave, and what `write` gave.
    """
    parts = _parts(cell, is_batch)

    def body(carry: PyTree, step: tuple[PyTree, jax.Array | None]) -> tuple[PyTree, PyTree]:
        inputs, valid = step
        old_state, memory = carry._replace(memory=None), carry.memory
        control, change, before = parts.write(variables, memory, old_state, inputs, valid)
        memory = parts.apply(change, memory)
        state, (outputs, after) = parts.read(variables, memory, control, valid)
        state = parts.select(valid, state, old_state)
        return state._replace(memory=memory), ((outputs, (after, before)), keep(control, change))

    carry, (results, kept) = jax.lax.scan(body, carry, (inputs, valid))
    return (carry, results), kept


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _unroll_reversible(
    cell: nn.Module, is_batch: bool, variables: PyTree, carry: PyTree, inputs: PyTree, valid: jax.Array | None
) -> tuple[PyTree, PyTree]:
    return _scan(cell, is_batch, variables, carry, inputs, valid)[0]


@functools.partial(jax.tree_util.register_dataclass, data_fields=["leaves"], meta_fields=["places", "structure"])
@dataclasses.dataclass(frozen=True)
class _Once:
    """A tree whose leaves are kept once, if they stand in several places: the output of an LSTM is in its state too."""

    leaves: list[jax.Array]
    places: tuple[int, ...]
    structure: Any

    @classmethod
    def of(cls, *tree: PyTree) -> "_Once":
        leaves, structure = jax.tree.flatten(tree)
        unique = {id(leaf): leaf for leaf in leaves}
        place_of = {key: place for place, key in enumerate(unique)}
        return cls(list(unique.values()), tuple(place_of[id(leaf)] for leaf in leaves), structure)

    @property
    def tree(self) -> PyTree:
        return jax.tree.unflatten(self.structure, [self.leaves[place] for place in self.places])


def _forward(cell: nn.Module, is_batch: bool, *args: PyTree) -> tuple[PyTree, PyTree]:
    variables, carry, inputs, valid = jax.tree.map(lambda argument: argument.value, args)
    result, kept = _scan(cell, is_batch, variables, carry, inputs, valid, _Once.of)
    return result, (variables, carry._replace(memory=None), inputs, valid, kept, result[0].memory)


def _backward(cell: nn.Module, is_batch: bool, residuals: PyTree, cotangents: PyTree) -> tuple[PyTree, ...]:
    """The gradient, compiled: outside of any `jax.jit`, too, equal cells share it."""
    leaves, structure = jax.tree.flatten(cotangents)
    zeros = tuple(leaf.aval if isinstance(leaf, SymbolicZero) else None for leaf in leaves)
    known = [leaf for leaf in leaves if not isinstance(leaf, SymbolicZero)]
    gradient: tuple[PyTree, ...] = _walk_back_compiled(cell, is_batch, structure, zeros, residuals, known)
    return gradient


def _walk_back(
    cell: nn.Module, is_batch: bool, structure: Any, zeros: tuple[Any, ...], residuals: PyTree, known: list[jax.Array]
) -> tuple[PyTree, ...]:
    """Walks from the last step to the first.

    The writing of a step and the reading of the step before it meet the same memory. So the walk goes by such pairs:
    the memory is taken back once for both, and all that they add to its cotangent is added in one pass.
    """
    rest = iter(known)
    cotangents = [next(rest) if zero is None else SymbolicZero(zero) for zero in zeros]
    carry_cotangent, results_cotangents = jax.tree.unflatten(structure, cotangents)
    variables, start, inputs, valid, kept, final_memory = residuals
    walk = _Walk(_parts(cell, is_batch), variables, inputs, valid, kept, *results_cotangents)
    num_steps = num_steps_of((inputs, valid))

    def body(state: PyTree, t: jax.Array) -> tuple[PyTree, PyTree]:
        """From what follows the reading of step `t + 1` to what follows that of step `t`."""
        memory, memory_cotangent, control_cotangent, skipped, variables_cotangent = state
        memory, write_cotangent, memory_cotangent = walk.take_back(t + 1, memory, memory_cotangent)
        between, pull_read = walk.read(t, memory)
        *of_writing, state_cotangent, inputs_cotangent = walk.pull_write(
            t + 1, memory, between, control_cotangent, write_cotangent
        )
        state_cotangent, skipped = walk.by_validity(t, add(state_cotangent, skipped))
        *of_reading, control_cotangent = pull_read(state_cotangent)
        variables_cotangent, memory_cotangent = add([variables_cotangent, memory_cotangent], of_writing, of_reading)
        return (memory, memory_cotangent, control_cotangent, skipped, variables_cotangent), inputs_cotangent

    carry_cotangent = jax.tree.map(_materialize, carry_cotangent)
    parts = [_split(part)[0] for part in (carry_cotangent.memory, carry_cotangent._replace(memory=None))]
    memory_cotangent, state_cotangent = vary(parts, varying_axes(residuals))
    state_cotangent, skipped = walk.by_validity(num_steps - 1, state_cotangent)
    _, pull_read = walk.read(num_steps - 1, final_memory)
    variables_cotangent, of_reading, control_cotangent = pull_read(state_cotangent)
    state = final_memory, add(memory_cotangent, of_reading), control_cotangent, skipped, variables_cotangent
    state, inputs_cotangent = jax.lax.scan(body, state, jnp.arange(num_steps - 1), reverse=True)

    memory, memory_cotangent, control_cotangent, skipped, variables_cotangent = state
    memory, write_cotangent, memory_cotangent = walk.take_back(0, memory, memory_cotangent)
    *of_writing, state_cotangent, first = walk.pull_write(0, memory, start, control_cotangent, write_cotangent)
    variables_cotangent, memory_cotangent = add([variables_cotangent, memory_cotangent], of_writing)
    inputs_cotangent = jax.tree.map(lambda x, rest: jnp.concatenate([x[None], rest]), first, inputs_cotangent)
    carry_cotangent = _split(start)[1](add(state_cotangent, skipped), None)
    return (
        _split(variables)[1](variables_cotangent, None),
        carry_cotangent._replace(memory=_split(final_memory)[1](memory_cotangent, None)),
        _split(inputs)[1](inputs_cotangent, None),
        None,
    )


_walk_back_compiled = compiled(_walk_back, static_argnums=(0, 1, 2, 3))
_unroll_reversible.defvjp(_forward, _backward, symbolic_zeros=True)


class _Walk:
    """The pieces of the way back, each for a step `t`. Cotangents are lists of those of the differentiable leaves."""

    def __init__(
        self,
        parts: _Parts,
        variables: PyTree,
        inputs: PyTree,
        valid: jax.Array | None,
        kept: _Once,
        outputs_cotangents: PyTree,
        trace_cotangents: PyTree,
    ) -> None:
        self.parts, self.variables, self.inputs, self.valid, self.kept = parts, variables, inputs, valid, kept
        # A part of the results that the loss does not use has no cotangent at all, and is left out of every step.
        after, before = trace_cotangents
        self.results_cotangents, self.pick_results = _used((outputs_cotangents, after))
        self.before_cotangents, self.pick_before = _used(before)
        self.variables_parts, self.rebuild_variables = _split(variables)

    def take_back(
        self, t: int | jax.Array, memory: PyTree, memory_cotangent: list[jax.Array]
    ) -> tuple[PyTree, list[jax.Array], list[jax.Array]]:
        """The memory before the change of step `t`, the cotangent of that change, and that of the memory before it."""
        _, change = _at(t, self.kept).tree
        memory = self.parts.revert(change, memory)
        (change_parts, rebuild_change), (memory_parts, rebuild_memory) = _split(change), _split(memory)

        def run(change: list[jax.Array], memory: list[jax.Array]) -> list[jax.Array]:
            return _split(self.parts.apply(rebuild_change(change), rebuild_memory(memory)))[0]

        _, pull_back = jax.vjp(run, change_parts, memory_parts)
        return memory, *pull_back(memory_cotangent)

    def read(self, t: int | jax.Array, memory: PyTree) -> tuple[PyTree, Callable[[list[jax.Array]], PyTree]]:
        """Reads at step `t`: the state that this gives, and what pulls back that state's cotangent.

        A step that is not valid leaves the state as it was, so there this is another one. It does no harm: the next
        step is not valid either, and nothing is pulled back through it.
        """
        control, is_valid, results_cotangent = _at(t, (self.kept, self.valid, self.results_cotangents))
        (control_parts, rebuild_control), (memory_parts, rebuild_memory) = _split(control.tree[0]), _split(memory)

        def run(variables: list[jax.Array], memory: list[jax.Array], control: list[jax.Array]) -> tuple[PyTree, PyTree]:
            state, results = self.parts.read(
                self.rebuild_variables(variables), rebuild_memory(memory), rebuild_control(control), is_valid
            )
            return (_split(state)[0], self.pick_results(results)), state

        _, pull_back, state = jax.vjp(run, self.variables_parts, memory_parts, control_parts, has_aux=True)
        return state, lambda state_cotangent: pull_back((state_cotangent, results_cotangent))

    def pull_write(
        self,
        t: int | jax.Array,
        memory: PyTree,
        state: PyTree,
        control_cotangent: list[jax.Array],
        change_cotangent: list[jax.Array],
    ) -> PyTree:
        """Pulls the cotangents of control and change back through the writing of step `t`, which began with `state`."""
        inputs, is_valid, before_cotangent = _at(t, (self.inputs, self.valid, self.before_cotangents))
        split = _split(memory), _split(state), _split(inputs)
        rebuild_memory, rebuild_state, rebuild_inputs = (rebuild for _, rebuild in split)

        def run(
            variables: list[jax.Array], memory: list[jax.Array], state: list[jax.Array], inputs: list[jax.Array]
        ) -> PyTree:
            control, change, before = self.parts.write(
                self.rebuild_variables(variables),
                rebuild_memory(memory),
                rebuild_state(state),
                rebuild_inputs(inputs),
                is_valid,
            )
            return _split(control)[0], _split(change)[0], self.pick_before(before)

        _, pull_back = jax.vjp(run, self.variables_parts, *(differentiable for differentiable, _ in split))
        return pull_back((control_cotangent, change_cotangent, before_cotangent))

    def by_validity(
        self, t: int | jax.Array, state_cotangent: list[jax.Array]
    ) -> tuple[list[jax.Array], list[jax.Array]]:
        """The cotangent of the state after step `t`: for the step, and for the state before it, if it is not valid."""
        zeros, is_valid = jax.tree.map(jnp.zeros_like, state_cotangent), _at(t, self.valid)
        return (
            self.parts.select(is_valid, state_cotangent, zeros),
            self.parts.select(is_valid, zeros, state_cotangent),
        )


def _at(t: int | jax.Array, tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, t, keepdims=False), tree)


def _used(cotangents: PyTree) -> tuple[list[jax.Array], Callable[[PyTree], list[jax.Array]]]:
    """The cotangents that are not known to be zero, and a function that takes their leaves out of the primal tree."""
    leaves = jax.tree.leaves(cotangents)
    used = [not isinstance(leaf, SymbolicZero) for leaf in leaves]
    return list(itertools.compress(leaves, used)), lambda tree: list(itertools.compress(jax.tree.leaves(tree), used))


def _materialize(cotangent: PyTree) -> PyTree:
    """Turns a cotangent that is known to be zero into an array of zeros, if its primal is differentiable at all."""
    if isinstance(cotangent, SymbolicZero) and jnp.issubdtype(cotangent.dtype, jnp.inexact):
        return jnp.zeros(cotangent.shape, cotangent.dtype)
    return cotangent


def _split(tree: PyTree) -> tuple[list[jax.Array], Callable[..., PyTree]]:
    """Takes the differentiable leaves out of a tree, for `jax.vjp`, which refuses integers and random keys.

    Returns:
      The floating-point leaves, and a function that puts such leaves back among the others of the tree. Its second
      argument replaces the others, by `None` for a tree of cotangents.
    """
    leaves, structure = jax.tree.flatten(tree)
    is_float = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in leaves]

    def rebuild(parts: list[jax.Array], *others: None) -> PyTree:
        remaining = iter(parts)
        merged = [
            next(remaining) if is_part else (others[0] if others else leaf)
            for leaf, is_part in zip(leaves, is_float, strict=True)
        ]
        return jax.tree.unflatten(structure, merged)

    return list(itertools.compress(leaves, is_float)), rebuild

"""Whole episodes: a cell unrolled over time with `jax.lax.scan`, in memory that does not hold every step's weights.

Axes: `T` time steps.

A cell that changes its memory only by a `memory.Write` is unrolled reversibly: the gradient keeps what the controller
gave at each step and the low-rank write, and walks the memory back with `memory.revert` instead of remembering it. So
that rounding cannot add up, a long episode is cut into chunks, and the walk begins anew at the end of each, from an
anchor: a copy of the memory as it was. Any other cell is unrolled in chunks of about sqrt(T) steps, each recomputed
from its start during the gradient.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from mnm_jax import _checks, memory
from mnm_jax._batching import with_batches
from mnm_jax.cells.written import WrittenCell, join_trace

PyTree = Any

# The walk back is as exact as the forward pass for thousands of steps: benchmarks/RESULTS.md.
ANCHOR_EVERY = 2048

# On a CPU, of the memories that are unrolled together; their gradients take as much again.
_BLOCK_BYTES = 2**21
_LEAST_BLOCK = 8


class Unrolled(NamedTuple):
    """What an episode gave.

    Attributes:
      carry: the cell's state after the last valid step; hand it to the next `unroll` to go on from there.
      outputs: `[T, output_size]`.
      trace: the cell's trace, each leaf `[T, ...]`; empty for a cell without a written memory.
    """

    carry: PyTree
    outputs: jax.Array
    trace: PyTree


def unroll(
    cell: nn.Module,
    variables: PyTree,
    inputs: PyTree,
    carry: PyTree | None = None,
    *,
    length: int | jax.Array | None = None,
    reversible: bool = True,
    anchor_every: int = ANCHOR_EVERY,
) -> Unrolled:
    """Runs one episode. For a batch, wrap it in `jax.vmap`.

    Args:
      cell: a cell with the signature `cell(carry, inputs) -> (carry, (output, trace))` and a method `initial_carry()`.
        One that changes its memory only by a `Write` is a `cells.WrittenCell`.
      variables: the cell's variables, as `cell.init` made them.
      inputs: `[T, input_size]`, or `[T]` symbols, or a pytree of such.
      carry: the state to go on from; `None` for the start of an episode.
      length: how many of the `T` steps count; may be traced. From there on outputs and trace are zero and the state
        stays as it is, whatever the inputs there are, as long as they are finite.
      reversible: whether to save memory in the gradient, by walking the memory back or, for any other cell, by
        recomputing chunks. `False` is the plain `lax.scan`, to the same numbers up to rounding; forward-mode
        derivatives (`jax.jvp`, `jax.hessian`) of a cell that writes need it.
      anchor_every: the most steps that the reversible gradient walks back before it takes up a copy of the memory that
        was kept. Fewer steps mean less rounding and more copies.

    Returns:
      The carry, the outputs and the trace.

    Raises:
      ValueError: if the leaves of `inputs` do not share a leading axis of at least one step, or if the cell has room
        for fewer steps (it says so by a method `check_room(carry, num_steps)`).
    """
    num_steps = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(inputs)}
    if len(num_steps) != 1 or not (shape := num_steps.pop()) or shape[0] == 0:
        shapes = jax.tree.map(jnp.shape, inputs)
        raise ValueError(f"argument 'inputs': wants a leading axis of at least one time step, got shapes {shapes}")
    valid = None if length is None else jnp.arange(shape[0]) < length
    if carry is None:
        carry = initial_carry(cell, variables, jax.tree.map(lambda x: x[0], inputs))
    if hasattr(cell, "check_room"):
        cell.check_room(carry, shape[0])
    if isinstance(cell, WrittenCell):
        own = (carry, inputs, valid)
        if reversible:
            _checks.check_positive(anchor_every=anchor_every)
            single = functools.partial(_unroll_anchored, cell, anchor_every, False)
            run = with_batches(single, functools.partial(_unroll_batch, cell, anchor_every), variables, own)
        else:
            run = _unroll_written(cell, False, variables, *own)
        return run._replace(trace=join_trace(*run.trace))
    return _unroll_carried(cell, variables, carry, inputs, valid, chunked=reversible)


def initial_carry(cell: nn.Module, variables: PyTree, inputs: PyTree) -> PyTree:
    """The start of an episode whose first inputs these are, in the types that the cell computes in."""
    carry = cell.apply(variables, method="initial_carry")
    after, _ = jax.eval_shape(cell.apply, variables, carry, inputs)
    # Random keys have no `astype`; what has the right type already needs none.
    return jax.tree.map(lambda leaf, like: leaf if leaf.dtype == like.dtype else leaf.astype(like.dtype), carry, after)


def _select(valid: jax.Array | None, new: PyTree, old: PyTree) -> PyTree:
    return new if valid is None else jax.tree.map(functools.partial(jnp.where, valid), new, old)


def _zero_unless(valid: jax.Array | None, tree: PyTree) -> PyTree:
    return _select(valid, tree, jax.tree.map(jnp.zeros_like, tree))


def _detach(carry: PyTree) -> tuple[PyTree, memory.Memory]:
    """Takes the memory out of a carry: the small state, and the memory."""
    return carry._replace(memory=None), carry.memory


class _Parts(NamedTuple):
    """What a step of a cell that writes is made of, as functions of one episode, or of a batch that shares variables.

    Attributes:
      write: `write(variables, memory, small, inputs, valid) -> (control, write, before)`.
      read: `read(variables, memory, control, valid) -> (small, (outputs, after))`, with the memory after the write.
      apply, revert: those of `memory`.
      select: `select(valid, new, old)`.
    """

    write: Callable[..., PyTree]
    read: Callable[..., PyTree]
    apply: Callable[..., memory.Memory]
    revert: Callable[..., memory.Memory]
    select: Callable[..., PyTree]


def _parts(cell: nn.Module, is_batch: bool) -> _Parts:
    def write(variables: PyTree, weights: PyTree, small: PyTree, inputs: PyTree, valid: jax.Array | None) -> PyTree:
        control = cell.apply(variables, small, inputs, method="control")
        write, before = cell.apply(variables, control, weights, method="write")
        # An invalid step writes zero, so that the memory needs no selection, which would copy it.
        return control, write._replace(post=_zero_unless(valid, write.post)), _zero_unless(valid, before)

    def read(variables: PyTree, weights: PyTree, control: PyTree, valid: jax.Array | None) -> PyTree:
        carry, *results = cell.apply(variables, control, weights, method="read")
        return _detach(carry)[0], _zero_unless(valid, tuple(results))

    if not is_batch:
        return _Parts(write, read, memory.apply, memory.revert, _select)
    return _Parts(
        jax.vmap(write, in_axes=(None, 0, 0, 0, 0)),
        jax.vmap(read, in_axes=(None, 0, 0, 0)),
        jax.vmap(memory.apply),
        jax.vmap(memory.revert),
        # Without a length there may be nothing to map over.
        lambda valid, new, old: new if valid is None else jax.vmap(_select)(valid, new, old),
    )


def _unroll_written(
    cell: nn.Module, is_batch: bool, variables: PyTree, carry: PyTree, inputs: PyTree, valid: jax.Array | None
) -> Unrolled:
    """Unrolls a cell that writes; a batch has its episodes in the second axis of `inputs` and of what comes out.

    The trace is in two parts: what `read` gave, and what `write` gave.
    """
    return _scan_written(cell, is_batch, variables, carry, inputs, valid, lambda control, write: None)[0]


def _scan_written(
    cell: nn.Module,
    is_batch: bool,
    variables: PyTree,
    carry: PyTree,
    inputs: PyTree,
    valid: jax.Array | None,
    keep: Callable[[PyTree, memory.Write], PyTree],
) -> tuple[Unrolled, PyTree]:
    """`_unroll_written`, and what `keep` makes of the control and the write of each step."""
    parts = _parts(cell, is_batch)

    def body(carry: PyTree, step: tuple[PyTree, jax.Array | None]) -> tuple[PyTree, PyTree]:
        inputs, valid = step
        old_small, weights = _detach(carry)
        control, write, before = parts.write(variables, weights, old_small, inputs, valid)
        weights = parts.apply(weights, write)
        small, (outputs, after) = parts.read(variables, weights, control, valid)
        small = parts.select(valid, small, old_small)
        return small._replace(memory=weights), (outputs, (after, before), keep(control, write))

    carry, (outputs, trace, kept) = jax.lax.scan(body, carry, (inputs, valid))
    return Unrolled(carry, outputs, trace), kept


_unroll_reversible = jax.custom_vjp(_unroll_written, nondiff_argnums=(0, 1))


def _unroll_anchored(cell: nn.Module, anchor_every: int, is_batch: bool, variables: PyTree, own: PyTree) -> Unrolled:
    """Unrolls reversibly from anchor to anchor: the memory after a chunk is what the chunk's own gradient keeps."""
    carry, *steps = own

    def chunk(carry: PyTree, steps: PyTree) -> tuple[PyTree, PyTree]:
        carry, *results = _unroll_reversible(cell, is_batch, variables, carry, *steps)
        return carry, results

    num_steps = _num_steps(steps)
    # Chunks of one length, if they can be: what is left over is compiled once more.
    return _in_chunks(chunk, carry, steps, num_steps // -(-num_steps // anchor_every))


def _unroll_batch(cell: nn.Module, anchor_every: int, variables: PyTree, own: PyTree) -> Unrolled:
    def unroll_block(own: PyTree) -> Unrolled:
        carry, *steps = own
        carry, *results = _unroll_anchored(cell, anchor_every, True, variables, (carry, *_swap_axes(steps)))
        return Unrolled(carry, *_swap_axes(results))

    carry, *_ = own
    batch_size = jax.tree.leaves(own)[0].shape[0]
    block_size = _block_size(batch_size, sum(leaf.nbytes for leaf in jax.tree.leaves(carry.memory)) // batch_size)
    if block_size == batch_size:
        return unroll_block(own)
    blocks = jax.tree.map(lambda x: x.reshape(-1, block_size, *x.shape[1:]), own)
    return jax.tree.map(lambda x: x.reshape(batch_size, *x.shape[2:]), jax.lax.map(unroll_block, blocks))


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


def _swap_axes(tree: PyTree) -> PyTree:
    """Exchanges the axes of episodes and of time."""
    return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), tree)


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


def _reversible_forward(cell: nn.Module, is_batch: bool, *args: PyTree) -> tuple[Unrolled, PyTree]:
    variables, carry, inputs, valid = jax.tree.map(lambda argument: argument.value, args)
    result, kept = _scan_written(cell, is_batch, variables, carry, inputs, valid, _Once.of)
    return result, (variables, _detach(carry)[0], inputs, valid, kept, result.carry.memory)


def _reversible_backward(
    cell: nn.Module, is_batch: bool, residuals: PyTree, cotangents: Unrolled
) -> tuple[PyTree, ...]:
    """Walks from the last step to the first.

    The writing of a step and the reading of the step before it meet the same memory. So the walk goes by such pairs:
    the memory is taken back once for both, and all that they add to its cotangent is added in one pass.
    """
    variables, start, inputs, valid, kept, final_memory = residuals
    parts, num_steps = _parts(cell, is_batch), _num_steps((inputs, valid))
    # A part of the outputs that the loss does not use has no cotangent at all, and is left out of every step.
    results_cotangents, pick_results = _used((cotangents.outputs, cotangents.trace[0]))
    before_cotangents, pick_before = _used(cotangents.trace[1])
    variables_parts, rebuild_variables = _split(variables)

    def at(t: int | jax.Array, tree: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, t, keepdims=False), tree)

    def take_back(
        t: int | jax.Array, weights: memory.Memory, memory_cotangent: memory.Memory
    ) -> tuple[memory.Memory, memory.Write]:
        """The memory before the write of step `t`, and the cotangent of that write."""
        _, write = at(t, kept).tree
        # A write is added: its gradient does not depend on the memory, whose own cotangent it leaves as it is.
        _, pull_back = jax.vjp(functools.partial(parts.apply, weights), write)
        return parts.revert(weights, write), pull_back(memory_cotangent)[0]

    def read(t: int | jax.Array, weights: memory.Memory) -> tuple[PyTree, Callable[[list[jax.Array]], PyTree]]:
        """Reads at step `t`: the state that this gives, and what pulls back that state's cotangent.

        A step that is not valid leaves the state as it was, so there this is another one. It does no harm: the next
        step is not valid either, and nothing is pulled back through it.
        """
        control, is_valid, results_cotangent = at(t, (kept, valid, results_cotangents))
        control_parts, rebuild_control = _split(control.tree[0])

        def run(variables: PyTree, weights: PyTree, control: PyTree) -> tuple[PyTree, PyTree]:
            small, results = parts.read(rebuild_variables(variables), weights, rebuild_control(control), is_valid)
            return (_split(small)[0], pick_results(results)), small

        _, pull_back, small = jax.vjp(run, variables_parts, weights, control_parts, has_aux=True)
        return small, lambda small_cotangent: pull_back((small_cotangent, results_cotangent))

    def pull_write(
        t: int | jax.Array,
        weights: memory.Memory,
        small: PyTree,
        control_cotangent: list[jax.Array],
        write_cotangent: memory.Write,
    ) -> PyTree:
        """Pulls the cotangents of control and write back through the writing of step `t`, which began with `small`."""
        inputs_t, is_valid, before_cotangent = at(t, (inputs, valid, before_cotangents))
        small_parts, rebuild_small = _split(small)
        inputs_parts, rebuild_inputs = _split(inputs_t)

        def run(variables: PyTree, weights: PyTree, small: PyTree, inputs: PyTree) -> PyTree:
            arguments = rebuild_variables(variables), weights, rebuild_small(small), rebuild_inputs(inputs)
            control, write, before = parts.write(*arguments, is_valid)
            return _split(control)[0], write, pick_before(before)

        _, pull_back = jax.vjp(run, variables_parts, weights, small_parts, inputs_parts)
        return pull_back((control_cotangent, write_cotangent, before_cotangent))

    def by_validity(t: int | jax.Array, small_cotangent: list[jax.Array]) -> tuple[list[jax.Array], list[jax.Array]]:
        """The cotangent of the state after step `t`: for the step, and for the state before it, if it is not valid."""
        zeros, is_valid = jax.tree.map(jnp.zeros_like, small_cotangent), at(t, valid)
        return parts.select(is_valid, small_cotangent, zeros), parts.select(is_valid, zeros, small_cotangent)

    def body(state: PyTree, t: jax.Array) -> tuple[PyTree, PyTree]:
        """From what follows the reading of step `t + 1` to what follows that of step `t`."""
        weights, memory_cotangent, control_cotangent, skipped, variables_cotangent = state
        weights, write_cotangent = take_back(t + 1, weights, memory_cotangent)
        small, pull_read = read(t, weights)
        *of_writing, small_cotangent, inputs_cotangent = pull_write(
            t + 1, weights, small, control_cotangent, write_cotangent
        )
        small_cotangent, skipped = by_validity(t, _add(small_cotangent, skipped))
        *of_reading, control_cotangent = pull_read(small_cotangent)
        variables_cotangent, memory_cotangent = _add([variables_cotangent, memory_cotangent], of_writing, of_reading)
        return (weights, memory_cotangent, control_cotangent, skipped, variables_cotangent), inputs_cotangent

    small_cotangent, memory_cotangent = _detach(jax.tree.map(_materialize, cotangents.carry))
    small_cotangent, skipped = by_validity(num_steps - 1, _split(small_cotangent)[0])
    _, pull_read = read(num_steps - 1, final_memory)
    variables_cotangent, of_reading, control_cotangent = pull_read(small_cotangent)
    state = final_memory, _add(memory_cotangent, of_reading), control_cotangent, skipped, variables_cotangent
    state, inputs_cotangent = jax.lax.scan(body, state, jnp.arange(num_steps - 1), reverse=True)

    weights, memory_cotangent, control_cotangent, skipped, variables_cotangent = state
    weights, write_cotangent = take_back(0, weights, memory_cotangent)
    *of_writing, small_cotangent, first = pull_write(0, weights, start, control_cotangent, write_cotangent)
    variables_cotangent, memory_cotangent = _add([variables_cotangent, memory_cotangent], of_writing)
    inputs_cotangent = jax.tree.map(lambda x, rest: jnp.concatenate([x[None], rest]), first, inputs_cotangent)
    carry_cotangent = _split(start)[1](_add(small_cotangent, skipped), None)._replace(memory=memory_cotangent)
    return (
        rebuild_variables(variables_cotangent, None),
        carry_cotangent,
        _split(inputs)[1](inputs_cotangent, None),
        None,
    )


_unroll_reversible.defvjp(_reversible_forward, _reversible_backward, symbolic_zeros=True)


def _add(*trees: PyTree) -> PyTree:
    return jax.tree.map(lambda *leaves: functools.reduce(jnp.add, leaves), *trees)


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


def _unroll_carried(
    cell: nn.Module, variables: PyTree, carry: PyTree, inputs: PyTree, valid: jax.Array | None, *, chunked: bool
) -> Unrolled:
    """Unrolls a cell without a written memory."""

    def body(carry: PyTree, step: tuple[PyTree, jax.Array | None]) -> tuple[PyTree, PyTree]:
        inputs, valid = step
        next_carry, outputs = cell.apply(variables, carry, inputs)
        return _select(valid, next_carry, carry), _zero_unless(valid, outputs)

    steps = (inputs, valid)
    if not chunked:
        carry, results = jax.lax.scan(body, carry, steps)
        return Unrolled(carry, *results)

    @functools.partial(jax.checkpoint, prevent_cse=False)  # A scan's body needs no such protection.
    def chunk(carry: PyTree, steps: PyTree) -> tuple[PyTree, PyTree]:
        return jax.lax.scan(body, carry, steps)

    return _in_chunks(chunk, carry, steps, math.isqrt(_num_steps(steps)))


def _num_steps(steps: PyTree) -> int:
    return jax.tree.leaves(steps)[0].shape[0]


def _in_chunks(
    chunk: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]], carry: PyTree, steps: PyTree, chunk_size: int
) -> Unrolled:
    """Runs `chunk(carry, steps) -> (carry, (outputs, trace))` on `chunk_size` steps at a time, and on what is left."""
    num_steps = _num_steps(steps)
    num_chunks = num_steps // chunk_size
    if num_chunks == 1 and num_steps == chunk_size:
        carry, results = chunk(carry, steps)
        return Unrolled(carry, *results)
    whole = num_chunks * chunk_size
    chunks = jax.tree.map(lambda x: x[:whole].reshape(num_chunks, chunk_size, *x.shape[1:]), steps)
    carry, results = jax.lax.scan(chunk, carry, chunks)
    results = jax.tree.map(lambda x: x.reshape(whole, *x.shape[2:]), results)
    if whole < num_steps:
        carry, rest = chunk(carry, jax.tree.map(lambda x: x[whole:], steps))
        results = jax.tree.map(lambda *parts: jnp.concatenate(parts), results, rest)
    return Unrolled(carry, *results)

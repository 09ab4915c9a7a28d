"""Whole episodes: a cell unrolled over time with `jax.lax.scan`, in memory that does not hold every step's weights.

Axes: `T` time steps.

A cell that changes its memory only by a `memory.Write` is unrolled reversibly: the gradient keeps the small state and
the low-rank write of each step, and walks the memory back with `memory.revert` instead of remembering it. So that
rounding cannot add up, a long episode is cut into chunks, and the walk begins anew at the end of each, from an anchor:
a copy of the memory as it was. Any other cell is unrolled in chunks of about sqrt(T) steps, each recomputed from its
start during the gradient.
"""

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
        One that changes its memory only by a `Write` also has `step(carry, inputs, valid, apply) -> (carry, output,
        trace, write)`, which changes the memory by one `apply(memory, write)`, and a NamedTuple with a field `memory`
        for its carry.
      variables: the cell's variables, as `cell.init` made them.
      inputs: `[T, input_size]`, or `[T]` symbols, or a pytree of such.
      carry: the state to go on from; `None` for the start of an episode.
      length: how many of the `T` steps count; may be traced. From there on outputs and trace are zero and the state
        stays as it is, whatever the inputs there are, as long as they are finite.
      reversible: whether to save memory in the gradient, by walking the memory back or, for a cell without `step`, by
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
    if hasattr(cell, "step"):
        own = (carry, inputs, valid)
        if not reversible:
            return _unroll_written(cell, False, variables, *own)
        _checks.check_positive(anchor_every=anchor_every)
        single = functools.partial(_unroll_anchored, cell, anchor_every, False)
        return with_batches(single, functools.partial(_unroll_batch, cell, anchor_every), variables, own)
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


def _written_step(
    cell: nn.Module,
    variables: PyTree,
    carry: PyTree,
    inputs: PyTree,
    valid: jax.Array | None,
    known_memory: memory.Memory | None = None,
) -> tuple[PyTree, PyTree, memory.Write]:
    """One step of a cell that writes: the carry, (output, trace) and the write.

    `known_memory` is the memory after the step, where it is known already.
    """
    is_valid = True if valid is None else valid
    apply = memory.apply if known_memory is None else functools.partial(_known, known_memory)
    next_carry, output, trace, write = cell.apply(variables, carry, inputs, is_valid, apply, method="step")
    # The write of an invalid step is zero, so the memory needs no selection, which would copy it.
    small, next_memory = _detach(next_carry)
    small = _select(valid, small, _detach(carry)[0])
    return small._replace(memory=next_memory), _zero_unless(valid, (output, trace)), write


@jax.custom_vjp
def _known(result: memory.Memory, before: memory.Memory, write: memory.Write) -> memory.Memory:
    """`memory.apply(before, write)` with its gradient, when the result is known."""
    del before, write
    return result


def _known_forward(result: memory.Memory, before: memory.Memory, write: memory.Write) -> tuple[memory.Memory, PyTree]:
    return result, (before, write)


def _known_backward(residuals: PyTree, cotangent: memory.Memory) -> tuple[PyTree, ...]:
    return None, *jax.vjp(memory.apply, *residuals)[1](cotangent)


_known.defvjp(_known_forward, _known_backward)


def _unroll_written(
    cell: nn.Module, is_batch: bool, variables: PyTree, carry: PyTree, inputs: PyTree, valid: jax.Array | None
) -> Unrolled:
    """Unrolls a cell that writes; a batch has its episodes in the second axis of `inputs` and of what comes out."""
    step = _steps(cell, is_batch)

    def body(carry: PyTree, inputs: tuple[PyTree, jax.Array | None]) -> tuple[PyTree, PyTree]:
        carry, outputs, _ = step(variables, carry, *inputs, None)
        return carry, outputs

    carry, (outputs, trace) = jax.lax.scan(body, carry, (inputs, valid))
    return Unrolled(carry, outputs, trace)


def _steps(cell: nn.Module, is_batch: bool) -> Callable[..., PyTree]:
    """`_written_step` of one episode, or of a batch that shares the variables."""
    step = functools.partial(_written_step, cell)
    return jax.vmap(step, in_axes=(None, 0, 0, 0, 0)) if is_batch else step


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


def _reversible_forward(cell: nn.Module, is_batch: bool, *args: PyTree) -> tuple[Unrolled, PyTree]:
    variables, carry, inputs, valid = jax.tree.map(lambda argument: argument.value, args)
    step = _steps(cell, is_batch)

    def body(carry: PyTree, inputs: tuple[PyTree, jax.Array | None]) -> tuple[PyTree, PyTree]:
        small, _ = _detach(carry)
        carry, outputs, write = step(variables, carry, *inputs, None)
        return carry, (outputs, small, write)

    carry, ((outputs, trace), smalls, writes) = jax.lax.scan(body, carry, (inputs, valid))
    return Unrolled(carry, outputs, trace), (variables, inputs, valid, smalls, writes, carry.memory)


def _reversible_backward(
    cell: nn.Module, is_batch: bool, residuals: PyTree, cotangents: Unrolled
) -> tuple[PyTree, ...]:
    variables, inputs, valid, smalls, writes, final_memory = residuals
    # A part of the outputs that the loss does not use has no cotangent at all, and is left out of every step.
    outputs = jax.tree.leaves((cotangents.outputs, cotangents.trace))
    used = [not isinstance(leaf, SymbolicZero) for leaf in outputs]
    outputs = list(itertools.compress(outputs, used))
    small, final = _detach(jax.tree.map(_materialize, cotangents.carry))
    variables_parts, rebuild_variables = _split(variables)
    run_step = _steps(cell, is_batch)
    revert = jax.vmap(memory.revert) if is_batch else memory.revert

    def body(state: PyTree, step: PyTree) -> tuple[PyTree, PyTree]:
        memory_after, memory_cotangent, small_cotangent, variables_cotangent = state
        small, write, inputs, valid, outputs_cotangent = step
        memory_before = revert(memory_after, write)
        small_parts, rebuild_small = _split(small)
        inputs_parts, rebuild_inputs = _split(inputs)

        def forward(variables: PyTree, memory_before: PyTree, small: PyTree, inputs: PyTree) -> PyTree:
            carry = rebuild_small(small)._replace(memory=memory_before)
            carry, outputs, _ = run_step(
                rebuild_variables(variables), carry, rebuild_inputs(inputs), valid, memory_after
            )
            next_small, next_memory = _detach(carry)
            return next_memory, _split(next_small)[0], list(itertools.compress(jax.tree.leaves(outputs), used))

        _, pull_back = jax.vjp(forward, variables_parts, memory_before, small_parts, inputs_parts)
        variables_step, memory_cotangent, small_cotangent, inputs_cotangent = pull_back(
            (memory_cotangent, small_cotangent, outputs_cotangent)
        )
        variables_cotangent = jax.tree.map(jnp.add, variables_cotangent, variables_step)
        return (memory_before, memory_cotangent, small_cotangent, variables_cotangent), inputs_cotangent

    start = (final_memory, final, _split(small)[0], jax.tree.map(jnp.zeros_like, variables_parts))
    (_, memory_cotangent, small_cotangent, variables_cotangent), inputs_cotangent = jax.lax.scan(
        body, start, (smalls, writes, inputs, valid, outputs), reverse=True
    )
    carry_cotangent = _split(small)[1](small_cotangent, None)._replace(memory=memory_cotangent)
    return (
        rebuild_variables(variables_cotangent, None),
        carry_cotangent,
        _split(inputs)[1](inputs_cotangent, None),
        None,
    )


_unroll_reversible.defvjp(_reversible_forward, _reversible_backward, symbolic_zeros=True)


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

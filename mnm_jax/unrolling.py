"""Whole episodes: a cell unrolled over time with `jax.lax.scan`.

What an episode is stands here in full, as `scan_steps`. A gradient through that would keep the memory of every step, so
there are two more ways to the same numbers, each in a module of its own: `_reversible` walks the memory back, and
`_chunked` recomputes a part of the episode at a time. `_ways` chooses.

Axes: `B` episodes, `T` time steps.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mnm_jax import _checks, _ways
from mnm_jax._trees import select, zero_unless

PyTree = Any

# The walk back is as exact as the forward pass for thousands of steps: benchmarks/RESULTS.md.
ANCHOR_EVERY = 2048


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


def scan_steps(
    cell: nn.Module, variables: PyTree, carry: PyTree, inputs: PyTree, valid: jax.Array | None
) -> tuple[PyTree, tuple[jax.Array, PyTree]]:
    """Runs an episode step by step: `(carry, (outputs, trace))`. Where a step is not valid, nothing happens."""

    def body(carry: PyTree, step: tuple[PyTree, jax.Array | None]) -> tuple[PyTree, PyTree]:
        inputs, valid = step
        next_carry, results = cell.apply(variables, carry, inputs)
        return select(valid, next_carry, carry), zero_unless(valid, results)

    return jax.lax.scan(body, carry, (inputs, valid))


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
    """Runs one episode. For a batch, wrap it in `jax.vmap`, or call `unroll_batch`, which is the same.

    Equal cells share what is compiled, so a cell has to be a function of its fields, as always under `jax.jit`.

    Args:
      cell: a cell with the signature `cell(carry, inputs) -> (carry, (output, trace))` and a method `initial_carry()`.
        One that changes its memory only by a `contract.Change` is a `cells.WrittenCell`.
      variables: the cell's variables, as `cell.init` made them.
      inputs: `[T, input_size]`, or `[T]` symbols, or a pytree of such.
      carry: the state to go on from; `None` for the start of an episode.
      length: how many of the `T` steps count, a whole number `[]`; may be traced. From there on outputs and trace are
        zero and the state stays as it is, whatever the inputs there are, even if they are not finite, or no symbols. If
        it is traced and not of 0 to `T`, all outputs are NaN.
      reversible: whether to save memory in the gradient: by walking the memory back, if its changes can be taken back
        and the cell holds no traced values, else by recomputing a part of the episode at a time. `False` is the plain
        `lax.scan`, to the same numbers up to rounding; forward-mode derivatives (`jax.jvp`, `jax.hessian`) of a cell
        that writes need it, and `jax.experimental.checkify` to say at which operation a number became none.
      anchor_every: the most steps that the gradient walks back before it takes up a copy of the memory that was kept.
        Fewer steps mean less rounding and more copies. A change whose `growth` is above 1 is taken back no further than
        keeps rounding within what this many additions and subtractions may sum up to. Where the square of what it may
        go back is below `T`, nothing is walked back: copies would be more than the states that recomputing keeps.

    Returns:
      The carry, the outputs and the trace.

    Raises:
      AssertionError: if `length` is not a single whole number, the inputs of a step are not what the cell reads, or a
        step fails whose carry is not one of the cell's. That is looked for after a failure only: another cell's carry
        that can be computed with is taken.
      ValueError: if the leaves of `inputs` do not share a leading axis of at least one step, if `length` is known and
        not of 0 to `T`, or if the cell has room for fewer steps (it says so by a method `check_room(carry,
        num_steps)`).
      TypeError: if the cell is no linen module, or the inputs are numbers in lists.
    """
    _checks.check_positive(anchor_every=anchor_every)
    (num_steps,) = _check_inputs(cell, inputs, ("T",))
    if length is not None:
        _checks.check_length("length", length, num_steps)
    if hasattr(cell, "check_room"):
        cell.check_room(carry, num_steps)
    options = _ways.Options(is_batch=False, reversible=reversible, anchor_every=anchor_every)
    return _run(cell, options, variables, inputs, carry, length, num_steps)


def unroll_batch(
    cell: nn.Module,
    variables: PyTree,
    inputs: PyTree,
    carry: PyTree | None = None,
    *,
    lengths: jax.Array | None = None,
    reversible: bool = True,
    anchor_every: int = ANCHOR_EVERY,
) -> Unrolled:
    """Runs a batch of episodes, with a leading axis `B` in `inputs`, `carry`, `lengths` and the result.

    To the same numbers as `jax.vmap` of `unroll`. Arguments and errors are those of `unroll`.
    """
    _checks.check_positive(anchor_every=anchor_every)
    size, num_steps = _check_inputs(cell, inputs, ("B", "T"))
    if lengths is not None:
        _checks.check_index("lengths", lengths, (size,), num_steps + 1)
    for leaf in jax.tree.leaves(carry):
        if jnp.shape(leaf)[:1] != (size,):
            raise ValueError(f"argument 'carry': wants a leading axis of {size} episodes, got {jnp.shape(leaf)}")
    if hasattr(cell, "check_room"):
        cell.check_room(carry, num_steps)
    options = _ways.Options(is_batch=True, reversible=reversible, anchor_every=anchor_every)
    return _run(cell, options, variables, inputs, carry, lengths, num_steps)


def _run(
    cell: nn.Module,
    options: _ways.Options,
    variables: PyTree,
    inputs: PyTree,
    carry: PyTree | None,
    length: int | jax.Array | None,
    num_steps: int,
) -> Unrolled:
    """Unrolls; the outputs are NaN where a length that could not be looked at is not possible."""
    result = Unrolled(*_ways.run(scan_steps, cell, options, variables, inputs, carry, length))
    if length is None or _checks.is_concrete(length):
        return result
    lengths = jnp.asarray(length)[..., None, None]
    return result._replace(outputs=jnp.where((lengths >= 0) & (lengths <= num_steps), result.outputs, jnp.nan))


def _check_inputs(cell: nn.Module, inputs: PyTree, axes: tuple[str, ...]) -> tuple[int, ...]:
    """Checks the inputs, and says how large the leading axes are that all leaves share, the last of them time."""
    if not isinstance(cell, nn.Module):
        raise TypeError(f"argument 'cell': wants a linen module, such as mnm_jax.cells.MNM, got {type(cell).__name__}")
    if any(not hasattr(leaf, "shape") for leaf in jax.tree.leaves(inputs)):
        raise TypeError(
            "argument 'inputs': wants an array, such as jnp.asarray(inputs), or a tree of arrays, got numbers"
        )
    leading = {jnp.shape(leaf)[: len(axes)] for leaf in jax.tree.leaves(inputs)}
    if len(leading) != 1 or len(sizes := leading.pop()) < len(axes) or sizes[-1] == 0:
        wanted = {
            1: "a leading axis of at least one time step",
            2: "leading axes of episodes and time, of a step or more",
        }
        shapes = jax.tree.map(jnp.shape, inputs)
        raise ValueError(f"argument 'inputs': wants {wanted[len(axes)]}, got shapes {shapes}")
    return sizes

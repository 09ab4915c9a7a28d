"""Chooses how an episode is unrolled: step by step, walking the memory back, or recomputing a part at a time.

Axes: `B` episodes, `T` time steps.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mnm_jax import _chunked, _reversible
from mnm_jax._trees import compiled, is_explicitly_sharded, vary, varying_axes, zero_unless
from mnm_jax.cells.written import WrittenCell

PyTree = Any
Result = tuple[PyTree, jax.Array, PyTree]  # Carry, outputs and trace.


class Options(NamedTuple):
    """Whether there is a batch, with a leading axis in all arguments but the variables; and options of `unroll`."""

    is_batch: bool
    reversible: bool
    anchor_every: int


def run(
    scan_steps: Callable[..., PyTree],
    cell: nn.Module,
    options: Options,
    variables: PyTree,
    inputs: PyTree,
    carry: PyTree | None,
    length: int | jax.Array | None,
) -> Result:
    """Unrolls a cell. Outside of any `jax.jit`, too, equal cells and equal shapes share compiled code.

    Args:
      scan_steps: what an episode is: `scan_steps(cell, variables, carry, inputs, valid) -> (carry, (outputs, trace))`.
      cell: the cell.
      options: see `Options`.
      variables: the variables of the cell.
      inputs: see `unroll`.
      carry: see `unroll`.
      length: see `unroll`; those of a batch, if it is one.

    Returns:
      Carry, outputs and trace.
    """
    result: Result = _run_compiled(scan_steps, cell, options, variables, inputs, carry, length)
    return result


def _run(
    scan_steps: Callable[..., PyTree],
    cell: nn.Module,
    options: Options,
    variables: PyTree,
    inputs: PyTree,
    carry: PyTree | None,
    length: jax.Array | None,
) -> Result:
    is_batch = options.is_batch
    arguments = jax.tree.map(jnp.asarray, (variables, inputs, carry, length))
    variables, inputs, carry, length = vary(arguments, varying_axes(arguments))
    if is_batch and any(is_explicitly_sharded(leaf, 0) for leaf in jax.tree.leaves((inputs, carry, length))):
        one = functools.partial(_run, scan_steps, cell, options._replace(is_batch=False), variables)
        return jax.vmap(one)(inputs, carry, length)
    size, num_steps = jax.tree.leaves(inputs)[0].shape[:2] if is_batch else (None, jax.tree.leaves(inputs)[0].shape[0])
    if carry is None:
        carry = cell.apply(variables, method="initial_carry")
        if is_batch:
            carry = jax.tree.map(lambda x: jnp.broadcast_to(x, (size, *x.shape)), carry)
    carry, growth = _settle(cell, is_batch, variables, carry, inputs)
    valid = None
    if length is not None:
        valid = jnp.arange(num_steps) < (length[:, None] if is_batch else length)
        # Padding may be anything, such as a symbol that is none: of zeros nothing comes that is not finite.
        blank = jax.vmap(zero_unless)
        inputs = (jax.vmap(blank) if is_batch else blank)(valid, inputs)

    walk = 0
    if options.reversible and isinstance(cell, WrittenCell):
        walk = _reversible.walk_length(growth, _reversible.rounding_budget(carry.memory, options.anchor_every))
    # Copies of the memory after so few steps would be more than the states that recomputing keeps.
    if walk**2 >= num_steps:
        reversibly = _reversible.unroll_batch if is_batch else _reversible.unroll
        return reversibly(cell, min(walk, num_steps), variables, carry, inputs, valid)

    def scan(carry: PyTree, steps: PyTree) -> PyTree:
        return scan_steps(cell, variables, carry, *steps)

    way = functools.partial(_chunked.recomputed, scan) if options.reversible else scan
    carry, (outputs, trace) = (jax.vmap(way) if is_batch else way)(carry, (inputs, valid))
    return carry, outputs, trace


_run_compiled = compiled(_run, static_argnums=(0, 1, 2))


def initial_carry(cell: nn.Module, variables: PyTree, inputs: PyTree) -> PyTree:
    """The start of an episode whose first inputs these are, in the types that the cell computes in."""
    carry = cell.apply(variables, method="initial_carry")
    return _settle(cell, False, variables, carry, jax.tree.map(lambda x: x[None], inputs))[0]


def _settle(cell: nn.Module, is_batch: bool, variables: PyTree, carry: PyTree, inputs: PyTree) -> tuple[PyTree, Any]:
    """Traces a step: the carry in the types that the cell computes in, and how errors grow when steps are taken back.

    What cannot be taken back has an infinite growth: the steps of a cell that does not write by changes; those of one
    that holds traced values, which a gradient by hand would take for constants; and those of one with effects, such as
    a mean over the episodes of a batch, which is only known while the episode itself runs.
    """
    growth = [math.inf]

    def step(variables: PyTree, carry: PyTree, inputs: PyTree) -> PyTree:
        if not isinstance(cell, WrittenCell):
            return cell.apply(variables, carry, inputs)[0]
        result: Any = cell.apply(variables, carry, inputs, method="step")
        carry, _, _, change = result
        growth[0] = change.growth
        return carry

    if is_batch:
        step, first = jax.vmap(step, (None, 0, 0)), jax.tree.map(lambda x: x[:, 0], inputs)
    else:
        first = jax.tree.map(lambda x: x[0], inputs)
    program, after = jax.make_jaxpr(step, return_shape=True)(variables, carry, first)
    if program.effects or any(isinstance(value, jax.core.Tracer) for value in program.consts):
        growth[0] = math.inf
    # Random keys have no `astype`; what has the right type already needs none.
    carry = jax.tree.map(lambda leaf, like: leaf if leaf.dtype == like.dtype else leaf.astype(like.dtype), carry, after)
    return vary(carry, varying_axes((variables, carry, inputs))), growth[0]

"""What all cells share: that they are none of linen's own loop, the rule of types, and how parameters are restored."""

from collections.abc import Mapping
from typing import Any, NoReturn

import flax.linen as nn
import jax
import jax.numpy as jnp

from mnm_jax._trees import Tree, cast

PyTree = Any


class OneEpisode:
    """A mixin for cells: `flax.linen.RNN`, which wants batches and carries of its own, is told what to use instead."""

    @property
    def num_feature_axes(self) -> NoReturn:
        """What `flax.linen.RNN` asks first.

        Raises:
          TypeError: always.
        """
        raise TypeError(
            f"flax.linen.RNN cannot run {type(self).__name__}, which works on one episode; use "
            "mnm_jax.unroll(cell, variables, inputs), and for a batch mnm_jax.unroll_batch or jax.vmap"
        )


def in_parameter_type(cell: nn.Module, carry: Tree) -> Tree:
    """A state at the start of an episode, its floating-point leaves in the type of the cell's parameters.

    The rule of types stands in `mnm_jax.cells`.

    Args:
      cell: bound to its variables. Without any, as in `init`, its parameters are about to be made, as float32.
      carry: the state.
    """
    params = jax.tree.leaves(cell.variables.get("params", {}))
    dtype = jnp.result_type(*params) if params else jnp.float32
    return cast(carry, dtype)


def with_structure(like: PyTree, value: PyTree, name: str) -> PyTree:
    """Parameters that were restored without a target, in the structure that they were made with.

    A checkpoint keeps no types of containers: tuples come back as lists, or as dictionaries with the positions as text,
    named tuples as dictionaries of their fields, and what is empty may not come back at all.

    Args:
      like: the structure.
      value: the parameters.
      name: of the parameters, for messages.

    Returns:
      The leaves of `value` in the structure of `like`.

    Raises:
      ValueError: if something is missing, saying what.
    """
    if not jax.tree.leaves(like):
        return like
    if isinstance(like, Mapping):
        return {key: with_structure(child, _child(value, key, 0, name), f"{name}/{key}") for key, child in like.items()}
    if not isinstance(like, (tuple, list)):
        return value
    keys = getattr(like, "_fields", range(len(like)))
    parts = []
    for i, (key, child) in enumerate(zip(keys, like, strict=True)):
        is_empty = not jax.tree.leaves(child)
        part = child if is_empty else _child(value, key, i, name)
        parts.append(with_structure(child, part, f"{name}/{key}"))
    return type(like)(*parts) if hasattr(like, "_fields") else type(like)(parts)


def _child(value: PyTree, key: Any, position: int, name: str) -> PyTree:
    """The part of a container that stands for a key, or for a position."""
    try:
        if isinstance(value, Mapping):
            return value[key] if key in value else value[str(key)]
        return value[position]
    except (KeyError, IndexError, TypeError):
        raise ValueError(
            f"argument 'variables': {name} has no {key!r}; restore with a target, such as "
            "jax.eval_shape(cell.init, jax.random.key(0), None, inputs[0])"
        ) from None

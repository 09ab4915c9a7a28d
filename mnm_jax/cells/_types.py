"""What all cells share: how they are called, the rule of types, and how parameters are restored."""

from collections.abc import Mapping
from typing import Any, NoReturn, cast

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp

from mnm_jax import _checks
from mnm_jax._trees import Tree
from mnm_jax._trees import cast as cast_tree
from mnm_jax.cells import _mistakes

PyTree = Any


class OneEpisode:
    """A mixin for cells: what is likely to be called wrongly says how it is called.

    `flax.linen.RNN`, which wants batches and carries of its own, is told what to use instead.
    """

    def init(self, rngs: Any, *args: Any, **kwargs: Any) -> Any:
        """As in linen.

        Raises:
          AssertionError: if there is no random key.
          TypeError: if the carry is missing.
        """
        if isinstance(rngs, Mapping):
            key: Any = rngs.get("params")
            _checks.check_key("rngs['params']", key)
        else:
            _checks.check_key("rngs", rngs)
        self._check_call("init(rng, None, inputs[0])", args, kwargs)
        return nn.Module.init(cast(nn.Module, self), rngs, *args, **kwargs)

    def apply(self, variables: Any, *args: Any, **kwargs: Any) -> Any:
        """As in linen.

        Raises:
          AssertionError: if the step fails, and its carry is not one of this cell or its inputs are not as wide as they
            were. That is looked for after a failure only: another cell's carry that can be computed with is taken.
          TypeError: if the carry is missing.
          ValueError: if the variables are not those that `init` made.
        """
        self._check_call("apply(variables, None, inputs[0])", args, kwargs)
        try:
            return nn.Module.apply(cast(nn.Module, self), variables, *args, **kwargs)
        except Exception as error:
            if isinstance(variables, Mapping) and "params" in variables:
                self._explain(variables, args, kwargs, error)
                raise
            if not isinstance(error, (flax.errors.FlaxError, ValueError)):
                raise
            got = f"one with {', '.join(map(str, variables))}" if isinstance(variables, Mapping) else type(variables)
            raise ValueError(
                f"argument 'variables': wants all that cell.init gave, with the collection 'params' in it, got {got}"
            ) from None

    def _check_call(self, call: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Checks that a step got carry and inputs; other methods take what they take."""
        if kwargs.get("method") is None and len(args) + ("carry" in kwargs) + ("inputs" in kwargs) < 2:
            raise TypeError(
                f"{type(self).__name__} wants a carry, None at the start of an episode, and then the inputs of a step: "
                f"cell.{call}"
            )

    def _explain(self, variables: Any, args: tuple[Any, ...], kwargs: dict[str, Any], error: Exception) -> None:
        """Raises what was wrong with the carry or the inputs of a step that failed, if anything was."""
        given = (*args, *(kwargs[name] for name in ("carry", "inputs") if name in kwargs))
        if kwargs.get("method") not in (None, "step") or len(given) != 2:
            return
        carry, inputs = given
        try:
            if carry is not None:
                _mistakes.check_carry(cast(nn.Module, self), variables, carry)
            _mistakes.check_width(cast(nn.Module, self), variables, inputs)
        except AssertionError as mistake:
            raise mistake from error

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
    return cast_tree(carry, dtype)


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

"""Small operations on pytrees that every way to unroll an episode needs."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

PyTree = Any
Tree = TypeVar("Tree")
Axes = frozenset[str]


def compiled(function: Callable[..., PyTree], static_argnums: tuple[int, ...]) -> Callable[..., PyTree]:
    """The function, compiled once for equal static arguments, outside of any `jax.jit` too.

    If one of them has no hash, such as a cell with an array, traced or not, in a field, it is the function as it is.
    """
    jitted = jax.jit(function, static_argnums=static_argnums, inline=True)

    @functools.wraps(function)
    def run(*args: PyTree) -> PyTree:
        try:
            hash(tuple(args[i] for i in static_argnums))
        except TypeError:
            return function(*args)
        return jitted(*args)

    return run


def select(valid: jax.Array | None, new: PyTree, old: PyTree) -> PyTree:
    """`new` if `valid`, a bool `[]`, else `old`; `new` if there is no `valid`."""
    return new if valid is None else jax.tree.map(functools.partial(jnp.where, valid), new, old)


def zero_unless(valid: jax.Array | None, tree: PyTree) -> PyTree:
    """The tree if `valid`, else zeros."""
    return select(valid, tree, jax.tree.map(jnp.zeros_like, tree))


def add(*trees: PyTree) -> PyTree:
    """The sum of trees of one structure, leaf by leaf."""
    return jax.tree.map(lambda *leaves: functools.reduce(jnp.add, leaves), *trees)


def cast(tree: Tree, dtype: Any) -> Tree:
    """All floating-point numbers in another type; `None` for their own."""

    def cast_leaf(leaf: jax.Array) -> jax.Array:
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    result: Tree = tree if dtype is None else jax.tree.map(cast_leaf, tree)
    return result


def num_steps_of(steps: PyTree) -> int:
    """The length of the first axis of every leaf."""
    return int(jnp.shape(jax.tree.leaves(steps)[0])[0])


def swap_axes(tree: PyTree) -> PyTree:
    """Exchanges the axes of episodes and of time."""
    return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), tree)


def varying_axes(tree: PyTree) -> Axes:
    """The axes of a mesh, within `jax.shard_map`, along which any leaf may differ from device to device."""
    return frozenset().union(*map(_varying_axes, jax.tree.leaves(tree)))


def _varying_axes(leaf: jax.Array) -> Axes:
    kind = jax.typeof(leaf)
    # The name of the attribute depends on the version of JAX.
    axes: Axes = kind.manual_axis_type.varying if hasattr(kind, "manual_axis_type") else kind.vma
    return axes


def vary(tree: PyTree, axes: Axes) -> PyTree:
    """The same values, taken to differ along these axes of a mesh: what a loop starts with must vary as what it gives.

    The gradient of what did not vary is summed over the mesh here, once, and not at each step of the loop.
    """

    def vary_leaf(leaf: jax.Array) -> jax.Array:
        missing = tuple(sorted(axes - _varying_axes(leaf)))
        return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(vary_leaf, tree) if axes else tree


def is_explicitly_sharded(leaf: jax.Array, axis: int) -> bool:
    """Whether an axis of an array is spread over a mesh whose axes are explicit, so that it is part of its type."""
    sharding = jax.typeof(leaf).sharding
    return bool(sharding.mesh.explicit_axes) and len(sharding.spec) > axis and sharding.spec[axis] is not None

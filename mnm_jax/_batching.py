"""Functions that bring a version for batches of their own, for `jax.vmap` to use.

`jax.vmap` maps a hand-written gradient as it maps everything: each example gets a gradient of its own in whatever the
examples share, and these are summed when all is done. An unroll adds to the gradient in the shared parameters at every
step, so that as many copies of it as there are episodes would be read and written again and again. Its version for
batches keeps one.

`jax.custom_batching.custom_vmap` would do, but a function with it has no reverse-mode gradient unless it is mapped.
Here a primitive of its own stands for the function, and is replaced by it (or by its version for batches) as soon as
it is differentiated or compiled: `jax.grad` of a `jax.vmap` meets the version for batches, `jax.vmap` of a `jax.grad`,
which asks for the gradient of each example, the function itself.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from mnm_jax._trees import is_explicitly_sharded

PyTree = Any
Function = Callable[[PyTree, PyTree], PyTree]
Flat = Callable[..., list[jax.Array]]  # From leaves to leaves.


def with_batches(single: Function, batched: Function, shared: PyTree, examples: PyTree) -> PyTree:
    """Computes `single(shared, examples)`, such that under `jax.vmap` `batched` takes its place.

    Args:
      single: the function.
      batched: the same for a batch: each leaf of `examples` and of the result has a leading axis of examples.
      shared: what all examples share. If it is mapped too, `single` is mapped in the usual way.
      examples: what each example has for itself.

    Returns:
      The result.
    """
    leaves, structure = jax.tree.flatten((shared, examples))

    def flat(function: Function) -> Flat:
        return lambda *leaves: jax.tree.leaves(function(*jax.tree.unflatten(structure, leaves)))

    result_structure = jax.tree.structure(jax.eval_shape(single, shared, examples))
    functions = {"function": flat(single), "batched": flat(batched)}
    results = _call.bind(*leaves, **functions, num_shared=len(jax.tree.leaves(shared)))
    return jax.tree.unflatten(result_structure, [_seen(result) for result in results])


def _seen(array: jax.Array) -> jax.Array:
    """The same array, by an operation that `jax.experimental.checkify` looks at, as it does not at the primitive.

    The compiler takes it out again.
    """
    return array * 1 if jnp.issubdtype(array.dtype, jnp.inexact) else array


_call = Primitive("call_with_batches")
_call.multiple_results = True


def _run(*args: jax.Array, function: Flat, batched: Flat | None, num_shared: int) -> list[jax.Array]:
    del batched, num_shared
    return function(*args)


def _types(*args: Any, function: Flat, batched: Flat | None, num_shared: int) -> list[Any]:
    del batched, num_shared
    return list(jax.make_jaxpr(function)(*args).out_avals)


_call.def_impl(_run)
_call.def_abstract_eval(_types)
mlir.register_lowering(_call, mlir.lower_fun(_run, multiple_results=True))


def _differentiate(
    primals: tuple[jax.Array, ...],
    tangents: tuple[Any, ...],
    *,
    function: Flat,
    batched: Flat | None,
    num_shared: int,
) -> tuple[list[jax.Array], list[jax.Array]]:
    del batched, num_shared
    return jax.jvp(function, primals, tuple(map(_materialize, primals, tangents)))


def _materialize(primal: jax.Array, tangent: Any) -> Any:
    """A tangent for `jax.jvp`, which does not take one that is only known to be zero."""
    if not isinstance(tangent, ad.Zero):
        return tangent
    is_float = jnp.issubdtype(primal.dtype, jnp.inexact)
    return jnp.zeros_like(primal) if is_float else np.zeros(primal.shape, jax.dtypes.float0)


ad.primitive_jvps[_call] = _differentiate


def _map(
    args: tuple[jax.Array, ...],
    axes: tuple[int | None, ...],
    *,
    function: Flat,
    batched: Flat | None,
    num_shared: int,
) -> tuple[list[jax.Array], list[int]]:
    is_shared = all(axis is None for axis in axes[:num_shared])
    is_sharded = any(
        axis is not None and is_explicitly_sharded(arg, axis) for arg, axis in zip(args, axes, strict=True)
    )
    if batched is None or not is_shared or is_sharded:
        results = jax.vmap(function, in_axes=axes)(*args)
    else:
        (size,) = {arg.shape[axis] for arg, axis in zip(args, axes, strict=True) if axis is not None}
        examples = [
            jnp.broadcast_to(arg, (size, *arg.shape)) if axis is None else jnp.moveaxis(arg, axis, 0)
            for arg, axis in zip(args[num_shared:], axes[num_shared:], strict=True)
        ]
        # A batch of batches is mapped in the usual way.
        results = _call.bind(*args[:num_shared], *examples, function=batched, batched=None, num_shared=num_shared)
    return results, [0] * len(results)


batching.primitive_batchers[_call] = _map

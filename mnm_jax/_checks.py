"""Shape and type checks at the public edge, worded so that they name the argument at fault.

A shape or a type that is wrong is an `AssertionError`, a value that is out of range a `ValueError`. Values are looked
at where they are known only: those of a traced array are not.
"""

import math
import numbers
import reprlib
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np


def check_array(name: str, array: jax.Array, shape: tuple[int | None, ...]) -> None:
    """Checks that `array` is floating-point and of `shape` (`None` matches any length).

    Raises:
      AssertionError: naming the argument, the shape or type that it has and the one wanted.
    """
    _check(name, array, (jnp.floating,), shape, f"floating-point numbers of shape {_show_shape(shape)}")


def check_index(
    name: str, index: int | np.ndarray | jax.Array, shape: tuple[int | None, ...], size: int | None = None
) -> None:
    """Checks that `index` is one integer, or several of `shape` (`None` matches any length), of 0 to below `size`.

    Args:
      name: of the argument.
      index: what to check; a number has the shape `[]`. Booleans are no integers.
      shape: see above.
      size: how many there are to choose from; `None` for no such limit.

    Raises:
      AssertionError: naming the argument, the shape and type that it has and those wanted.
      ValueError: if the values are known and one of them is out of range, naming it and the range.
    """
    wanted = f"integers of shape {_show_shape(shape)}" if shape else "a single integer, of shape []"
    _check(name, index, (jnp.integer,), shape, wanted)
    if size is not None and is_concrete(index):
        values = np.asarray(index)
        if np.any(outside := (values < 0) | (values >= size)):
            raise ValueError(f"argument '{name}': wants integers of 0 to {size - 1}, got {values[outside].flat[0]}")


def check_length(name: str, length: int | jax.Array, num_steps: int | None = None) -> None:
    """Checks that `length` is one whole number: no mask, no boolean, no float.

    Args:
      name: of the argument.
      length: what to check.
      num_steps: the most that it can be; `None` for no such limit.

    Raises:
      AssertionError: naming the argument, the shape and type that it has and those wanted.
      ValueError: if the value is known and out of range, naming it and the range.
    """
    wanted = "how many steps count, one whole number of shape [] (a batch of lengths is a jax.vmap)"
    _check(name, length, (jnp.integer,), (), wanted)
    if is_concrete(length) and not 0 <= int(length) <= (math.inf if num_steps is None else num_steps):
        wanted = "at least 0" if num_steps is None else f"0 to {num_steps}"
        raise ValueError(f"argument '{name}': wants a whole number of {wanted}, got {int(length)}")


def check_mask(name: str, mask: jax.Array, shape: tuple[int | None, ...]) -> None:
    """Checks that `mask` is boolean and of `shape` (`None` matches any length).

    Raises:
      AssertionError: naming the argument, the shape and type that it has and those wanted.
    """
    _check(name, mask, (jnp.bool_,), shape, f"booleans of shape {_show_shape(shape)}, true where an entry counts")


def check_number(name: str, number: float | jax.Array) -> None:
    """Checks that `number` is one real number, of shape `[]`, and no boolean.

    Raises:
      AssertionError: naming the argument, the shape and type that it has and those wanted.
    """
    _check(name, number, (jnp.integer, jnp.floating), (), "a single number, of shape []")


def check_key(name: str, key: jax.Array) -> None:
    """Checks that `key` is one random key, of `jax.random.key` or of `jax.random.PRNGKey`.

    Raises:
      AssertionError: naming the argument, and what it is.
    """
    shape, dtype = _shape_and_type(key)
    is_new = shape == () and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    is_old = shape is not None and len(shape) == 1 and dtype == jnp.uint32
    if not is_new and not is_old:
        raise AssertionError(f"argument '{name}': wants one random key, such as jax.random.key(0), got {show(key)}")


def check_positive(**sizes: object) -> None:
    """Checks that every named size is a whole number of at least 1.

    Raises:
      ValueError: naming the size and the value it has.
    """
    for name, size in sizes.items():
        if not is_whole(size) or size < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {size!r}")


def check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Checks that the option `name` has one of the allowed values.

    Raises:
      ValueError: naming the option, the value it has and the ones allowed.
    """
    if value not in choices:
        allowed = ", ".join(map(repr, choices))
        raise ValueError(f"{name} must be one of {allowed}, got {value!r}")


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a value is a whole number of Python's or NumPy's; a boolean is none."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_concrete(value: Any) -> bool:
    """Whether the values of an array can be looked at: it is no tracer."""
    return not isinstance(value, jax.core.Tracer)


def show(value: Any) -> str:
    """An array by its type and shape, anything else as it is, cut short."""
    is_array = hasattr(value, "shape") and hasattr(value, "dtype")
    return f"{value.dtype} of shape {_show_shape(value.shape)}" if is_array else reprlib.repr(value)


def _check(name: str, value: Any, kinds: tuple[type, ...], shape: tuple[int | None, ...], wanted: str) -> None:
    its_shape, its_type = _shape_and_type(value)
    fits = its_shape is not None and len(its_shape) == len(shape)
    fits = fits and all(size in (None, its_size) for size, its_size in zip(shape, its_shape or (), strict=True))
    if not fits or not any(jnp.issubdtype(its_type, kind) for kind in kinds):
        raise AssertionError(f"argument '{name}': wants {wanted}, got {show(value)}")


def _shape_and_type(value: Any) -> tuple[tuple[int, ...] | None, Any]:
    """Those of an array or a number; `None` for what is neither."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return tuple(value.shape), value.dtype
    if isinstance(value, numbers.Real):
        return (), np.dtype(type(value))
    return None, None


def _show_shape(shape: tuple[int | None, ...]) -> str:
    return f"[{', '.join('any' if size is None else str(size) for size in shape)}]"

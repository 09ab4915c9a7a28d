"""Shape and type checks at the public edge, worded so that they name the argument at fault."""

import chex
import jax


def check_array(name: str, array: jax.Array, shape: tuple[int | None, ...]) -> None:
    """Checks that `array` is floating-point and of `shape` (`None` matches any length).

    Raises:
      AssertionError: naming the argument, the shape or type that it has and the one wanted.
    """
    message = f"argument '{name}'"
    chex.assert_shape(array, shape, custom_message=message)
    chex.assert_type(array, float, custom_message=message)


def check_positive(**sizes: int) -> None:
    """Checks that every named size is a whole number of at least 1.

    Raises:
      ValueError: naming the size and the value it has.
    """
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {size!r}")


def check_choice(name: str, value: str | None, choices: tuple[str | None, ...]) -> None:
    """Checks that the option `name` has one of the allowed values.

    Raises:
      ValueError: naming the option, the value it has and the ones allowed.
    """
    if value not in choices:
        allowed = ", ".join(map(repr, choices))
        raise ValueError(f"{name} must be one of {allowed}, got {value!r}")

"""What makes two runs the same: all that a run's numbers depend on, as text that every process writes alike."""

import dataclasses
import functools
import hashlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from mnm_jax.training.episodes import room_for
from mnm_jax.training.settings import TrainingSettings
from mnm_jax.training.task import AnyTask

PyTree = Any
_NO_TEXT: Any = object.__repr__
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
# Where linen keeps what a module hangs on, and not what it is.
_POSITION = ("parent", "name")
_BUILT_IN = (Mapping, list, tuple, set, frozenset, str, bytes, functools.partial)
ABSENT = "absent"


def identify(
    task: AnyTask,
    cell: nn.Module,
    settings: TrainingSettings,
    seeds: Sequence[int],
    optimizer: optax.GradientTransformation | None = None,
) -> dict[str, Any]:
    """All that the numbers of a run depend on, by name, in JSON types.

    Not among it is the room of a cell with a table (`with_room`), which training chooses for itself, nor the number of
    updates where nothing but the end of the run depends on it.

    Args:
      task: what is learned.
      cell: what learns it.
      settings: how.
      seeds: one run for each.
      optimizer: in place of the one that the settings ask for.
    """
    identity = {
        **identify_model(task, cell),
        "seeds": list(seeds),
        "prng_impl": str(jax.random.key_impl(jax.random.key(0))),
        **dataclasses.asdict(settings),
    }
    if optimizer is not None:
        identity["optimizer"] = describe(optimizer)
        for name in settings.OF_OPTIMIZER:
            del identity[name]
    if settings.candidates == 1:
        del identity["candidates"]  # As it is in runs that are older than this setting.
    if settings.schedule == "constant" or optimizer is not None:
        del identity["num_updates"]  # A run may be made longer, if its learning rate does not depend on its length.
    return identity


def identify_model(task: AnyTask, cell: nn.Module) -> dict[str, str]:
    """The part of `identify` that says what was learned, and by what."""
    return {**identify_value("task", task), **identify_value("cell", room_for(cell, 1))}


def identify_value(name: str, value: Any) -> dict[str, str]:
    """A value under a name: its class, and each of its fields under `name.FIELD`; or its text, if it has no fields."""
    fields = _fields(value)
    if fields is None:
        return {name: describe(value)}
    return {name: type(value).__qualname__} | {f"{name}.{field}": describe(x) for field, x in fields.items()}


def describe(value: Any) -> str:
    """One line about a value, without an address in it: equal values of different processes get the same line.

    Arrays are described by a digest, functions and classes by their module and name, functions with what they closed
    over besides; a value whose own text has an address in it by its class and public attributes.
    """
    return _describe(value, ())


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What differs between two flat tables: by name, the value in the first and in the second, or `ABSENT`."""
    return {
        name: (was.get(name, ABSENT), now.get(name, ABSENT))
        for name in sorted(was.keys() | now.keys())
        if was.get(name, ABSENT) != now.get(name, ABSENT)
    }


def explain(differing: Mapping[str, tuple[Any, Any]]) -> str:
    """What `differences` gave, in words."""
    return "; ".join(f"{name} was {was} and is {now}" for name, (was, now) in differing.items())


def flatten(tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> dict[str, Any]:
    """The leaves of a tree by their paths in it, joined by dots."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _fields(value: Any) -> dict[str, Any] | None:
    """The fields of a dataclass or NamedTuple, or the public attributes of what has no text of its own; else `None`."""
    if isinstance(value, type) or inspect.isroutine(value) or hasattr(value, "__wrapped__"):
        return None
    if dataclasses.is_dataclass(value):
        hidden = _POSITION if isinstance(value, nn.Module) else ()
        fields = [field.name for field in dataclasses.fields(value) if field.compare and field.name not in hidden]
        return {name: getattr(value, name) for name in fields}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return dict(value._asdict())
    if isinstance(value, _BUILT_IN) or not _has_address(value):
        return None
    slots = (name for cls in type(value).__mro__ for name in getattr(cls, "__slots__", ()))
    names = dict.fromkeys([*getattr(value, "__dict__", {}), *slots])
    return {
        name: getattr(value, name)
        for name in sorted(names)
        # What is worked out when it is first asked for would be there at one time and not at another.
        if not name.startswith("_")
        and hasattr(value, name)
        and not isinstance(getattr(type(value), name, None), functools.cached_property)
    }


def _has_address(value: Any) -> bool:
    return type(value).__repr__ is _NO_TEXT or _ADDRESS.search(repr(value)) is not None


def _describe(value: Any, outer: tuple[int, ...]) -> str:
    """Describes a value inside of others, whose ids are known: what holds itself ends there."""
    if id(value) in outer:
        return "..."
    inner = functools.partial(_describe, outer=(*outer, id(value)))
    if isinstance(value, (np.ndarray, jax.Array)):
        return _describe_array(value)
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, functools.partial):
        keywords = [f"{name}={inner(x)}" for name, x in sorted(value.keywords.items())]
        return f"partial({', '.join([inner(value.func), *map(inner, value.args), *keywords])})"
    if inspect.ismethod(value):
        return f"{inner(value.__self__)}.{value.__name__}"
    if inspect.isroutine(value) or hasattr(value, "__wrapped__"):
        return _describe_function(inspect.unwrap(value), inner)
    if (fields := _fields(value)) is not None:
        return f"{type(value).__qualname__}({', '.join(f'{name}={inner(x)}' for name, x in fields.items())})"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{inner(key)}: {inner(x)}' for key, x in value.items())}}}"
    if isinstance(value, (set, frozenset)):
        return f"{{{', '.join(sorted(map(inner, value)))}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(inner, value))}]"
    return repr(value)


def _describe_array(array: np.ndarray | jax.Array) -> str:
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return f"{array.dtype}{list(array.shape)} {digest[:16]}"


def _describe_function(function: Callable[..., Any], inner: Callable[[Any], str]) -> str:
    name = f"{function.__module__}.{function.__qualname__}"
    seen = dict(zip(getattr(getattr(function, "__code__", None), "co_freevars", ()), _closure(function), strict=True))
    seen |= {f"default {i}": x for i, x in enumerate(getattr(function, "__defaults__", None) or ())}
    seen |= getattr(function, "__kwdefaults__", None) or {}
    return f"{name}[{', '.join(f'{key}={inner(x)}' for key, x in seen.items())}]" if seen else name


def _closure(function: Callable[..., Any]) -> list[Any]:
    """What a function closed over; itself for what has no value yet."""
    values = []
    for cell in getattr(function, "__closure__", None) or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:
            values.append(function)
    return values

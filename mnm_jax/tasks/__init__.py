"""Tasks: pure functions from a random key to an episode, with their losses and metrics."""

import dataclasses
import importlib
from typing import Any

from mnm_jax import _paths
from mnm_jax.tasks import algorithmic, babi
from mnm_jax.tasks.babi import Babi
from mnm_jax.tasks.bandits import BanditTask
from mnm_jax.tasks.dictionary import Dictionary
from mnm_jax.tasks.maze_task import MazeTask
from mnm_jax.tasks.recall import MultiQueryRecall

# By the name of the experiment that trains on them.
TASKS: dict[str, type[Babi | BanditTask | Dictionary | MazeTask | MultiQueryRecall | algorithmic.BitTask]] = {
    "babi": Babi,
    "bandits": BanditTask,
    "dictionary": Dictionary,
    "maze": MazeTask,
    "mqar": MultiQueryRecall,
    **algorithmic.TASKS,
}

__all__ = [
    "TASKS",
    "Babi",
    "BanditTask",
    "Dictionary",
    "MazeTask",
    "MultiQueryRecall",
    "algorithmic",
    "babi",
    "find_task",
]

_WANTED = frozenset(["headline", "output_size", "vocabulary_size", "num_steps", "loss", "metrics"])


def find_task(name: str) -> type[Any]:
    """The class of a task.

    Args:
      name: one of `TASKS`, or `module:Class` for one of your own: a frozen dataclass with all that `training.Task` or
        `training.InteractiveTask` wants.

    Raises:
      ValueError: if there is no such task, module or class, or if it is no task.
    """
    if name in TASKS:
        return TASKS[name]
    module, separator, of_module = name.partition(":")
    if not separator:
        raise ValueError(f"unknown task {name!r}; choose from {', '.join(TASKS)}, or module:Class for one of your own")
    try:
        task = getattr(importlib.import_module(module), of_module)
    except Exception as error:  # Whatever is wrong in the user's module.
        raise ValueError(f"task {name!r}: cannot be imported: {error}{_paths.hint(error)}") from error
    if not isinstance(task, type) or not dataclasses.is_dataclass(task) or task.__hash__ is None:
        raise ValueError(f"task {name!r}: wants a class that is a frozen dataclass")
    has = {*dir(task), *(field.name for field in dataclasses.fields(task))}
    if missing := sorted(_WANTED - has) + ["sample or act"] * has.isdisjoint(("sample", "act")):
        raise ValueError(f"task {name!r}: lacks {', '.join(missing)}; mnm_jax.training.Task says what they are")
    return task

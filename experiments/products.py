"""What the experiments write about a trained model."""

import os
import pathlib
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from mnm_jax import training

PyTree = Any


def write_whole(path: pathlib.Path, contents: str | bytes) -> None:
    """Writes a file, whole or not at all: where it is, nothing is left to do."""
    new = path.with_name(f"{path.name}.tmp")
    with new.open("wb") as file:
        file.write(contents.encode() if isinstance(contents, str) else contents)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def save_episode(task: training.Task, cell: nn.Module, params: PyTree, example: Any, path: pathlib.Path) -> None:
    """Saves what the memory of the first seed does in an episode, for a cell that has one.

    Args:
      task: with `symbols(example)`, the text of each step that is no padding.
      cell: what was trained.
      params: its parameters, with a leading axis of seeds.
      example: the episode.
      path: where to.
    """
    first = jax.tree.map(lambda leaf: leaf[0], params)
    trace = jax.jit(lambda params: training.unroll_example(cell, {"params": params}, example).trace)(first)
    if trace:
        labels, arrays = task.symbols(example), jax.tree_util.tree_leaves_with_path(jax.device_get(trace))
        named = {jax.tree_util.keystr(name, simple=True, separator="."): array for name, array in arrays}
        np.savez(path, labels=labels, **{name: array[: len(labels)] for name, array in named.items()})

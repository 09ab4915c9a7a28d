"""How many of the questions of bAbI a model answers wrongly."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mnm_jax import training
from mnm_jax.tasks import babi

PyTree = Any

# At most so many steps, of all episodes together, are evaluated at once.
_BATCH_STEPS = 2**15


class ErrorCount(NamedTuple):
    """Answers to the questions of a task.

    Attributes:
      errors: how many are wrong.
      questions: how many there are.
      unseen_errors, unseen_questions: the same of the questions that are not trained on, with the same story, too.
    """

    errors: int
    questions: int
    unseen_errors: int
    unseen_questions: int


def count_errors(
    cell: nn.Module, variables: PyTree, split: babi.Split, is_seen: Sequence[np.ndarray] | None = None
) -> dict[int, ErrorCount]:
    """Counts wrong answers, exactly.

    Args:
      cell: the model.
      variables: its variables.
      split: the episodes; all of them are read.
      is_seen: for each bucket, which of its questions training has too; see `babi.Data.is_seen`. `None` for none.

    Returns:
      The counts of each task.
    """
    if is_seen is None:
        is_seen = [np.zeros(bucket.targets.shape, bool) for bucket in split.buckets]
    counts: dict[int, np.ndarray] = {}
    for bucket, seen in zip(split.buckets, is_seen, strict=True):
        num_episodes = len(bucket.lengths)
        size = max(1, min(num_episodes, _BATCH_STEPS // bucket.num_steps))
        for start in range(0, num_episodes, size):
            # The last batch is filled up with episodes that are not counted, to be of the same shape.
            rows = np.arange(start, start + size) % num_episodes
            found = np.asarray(_count_batch(cell, variables, babi.take(bucket, rows), seen[rows]))
            for task, numbers in zip(bucket.tasks[start : start + size], found, strict=False):
                counts[int(task)] = counts.get(int(task), 0) + numbers
    return {task: ErrorCount(*map(int, numbers)) for task, numbers in sorted(counts.items())}


@functools.partial(jax.jit, static_argnums=0)
def _count_batch(cell: nn.Module, variables: PyTree, examples: babi.Example, is_seen: jax.Array) -> jax.Array:
    """The four numbers of an `ErrorCount` for each episode, `[N, 4]`."""

    def count(example: babi.Example, is_seen: jax.Array) -> jax.Array:
        logits = training.unroll_example(cell, variables, example).outputs
        is_wrong, is_unseen = jnp.argmax(logits, axis=-1) != example.targets, ~is_seen
        which = is_wrong, True, is_wrong & is_unseen, is_unseen
        return jnp.stack([jnp.sum(example.mask & chosen) for chosen in which])

    return jax.vmap(count)(examples, is_seen)

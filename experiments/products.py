"""What the experiments write about a trained model, and the test episodes of those that act."""

import functools
import pathlib
from typing import Any, Protocol

import flax.linen as nn
import jax
import numpy as np

from mnm_jax import policy, training
from mnm_jax._files import whole_file
from mnm_jax.tasks.actor_critic import ActorCritic
from mnm_jax.training.identity import flatten

PyTree = Any

TEST_SEED = 2_000_000
_TEST_EPISODES = 300


class _Spells(Protocol):
    def symbols(self, example: Any, /) -> list[str]: ...


def save_episode(task: _Spells, cell: nn.Module, variables: PyTree, example: Any, path: pathlib.Path) -> None:
    """Saves what the memory of the first seed does in an episode, for a cell that has one.

    Args:
      task: with `symbols(example)`, the text of each step that is no padding.
      cell: what was trained.
      variables: its variables, with a leading axis of seeds.
      example: the episode.
      path: where to.
    """
    first = jax.tree.map(lambda leaf: leaf[0], variables)
    trace = jax.jit(lambda variables: training.unroll_example(cell, variables, example).trace)(first)
    if arrays := flatten(jax.device_get(trace)):
        labels = task.symbols(example)
        with whole_file(path) as file:
            np.savez(file, labels=labels, **{name: array[: len(labels)] for name, array in arrays.items()})


def live(task: ActorCritic, cell: nn.Module, variables: PyTree) -> Any:
    """The test episodes of one agent, on the host; each leaf with a leading axis of episodes."""
    return jax.device_get(_live(task, cell, variables))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _live(task: ActorCritic, cell: nn.Module, variables: PyTree) -> Any:
    rngs = jax.random.split(jax.random.key(TEST_SEED), _TEST_EPISODES)
    return jax.vmap(lambda rng: task.act(rng, policy(cell, variables)))(rngs)

"""Tasks: pure functions from a random key to an episode, with their losses and metrics."""

from mnm_jax.tasks import algorithmic, babi
from mnm_jax.tasks.babi import Babi
from mnm_jax.tasks.dictionary import Dictionary
from mnm_jax.tasks.maze_task import MazeTask
from mnm_jax.tasks.recall import MultiQueryRecall

# By the name of the experiment that trains on them.
TASKS = {
    "babi": Babi,
    "dictionary": Dictionary,
    "maze": MazeTask,
    "mqar": MultiQueryRecall,
    **algorithmic.TASKS,
}

__all__ = ["TASKS", "Babi", "Dictionary", "MazeTask", "MultiQueryRecall", "algorithmic", "babi"]

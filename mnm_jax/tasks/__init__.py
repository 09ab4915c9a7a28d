"""Tasks: pure functions from a random key to an episode, with their losses and metrics."""

from mnm_jax.tasks import algorithmic, babi
from mnm_jax.tasks.babi import Babi
from mnm_jax.tasks.dictionary import Dictionary
from mnm_jax.tasks.maze_task import MazeTask

# By the name of the experiment that trains on them.
TASKS = {"babi": Babi, "dictionary": Dictionary, "maze": MazeTask, **algorithmic.TASKS}

__all__ = ["TASKS", "Babi", "Dictionary", "MazeTask", "algorithmic", "babi"]

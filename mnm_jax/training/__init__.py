"""One training loop for every task and cell: seeds, evaluation, metrics, checkpoints, time budgets."""

from mnm_jax.training.checkpoint import Checkpoints
from mnm_jax.training.loop import Report, run
from mnm_jax.training.update import Functions, Settings, Task, TrainState, make_functions

__all__ = ["Checkpoints", "Functions", "Report", "Settings", "Task", "TrainState", "make_functions", "run"]

"""One training loop for every task and cell: seeds, evaluation, metrics, checkpoints, time budgets."""

from mnm_jax.training.checkpoint import Checkpoints
from mnm_jax.training.loop import CHECKPOINTS, Report, compiled, run
from mnm_jax.training.update import Functions, Settings, Task, TrainState, held_out, make_functions, sample_batch

__all__ = [
    "CHECKPOINTS",
    "Checkpoints",
    "Functions",
    "Report",
    "Settings",
    "Task",
    "TrainState",
    "compiled",
    "held_out",
    "make_functions",
    "run",
    "sample_batch",
]

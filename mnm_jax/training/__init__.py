"""One training loop for every task and cell: seeds, devices, evaluation, metrics, checkpoints, time budgets."""

from mnm_jax.training.checkpoint import Checkpoints, RestoreError, SaveError
from mnm_jax.training.configuration import CONFIG, Configuration, Loaded, load
from mnm_jax.training.devices import PARALLEL, Placement, check_divisible, max_over_processes, place
from mnm_jax.training.loop import CHECKPOINTS, METRICS, TIMING, NonFiniteError, Report, RunOptions, run
from mnm_jax.training.update import (
    Best,
    BucketedTask,
    Functions,
    InteractiveTask,
    Task,
    TrainingSettings,
    TrainState,
    check_dropout,
    held_out,
    make_functions,
    sample_batch,
    unroll_example,
)

__all__ = [
    "CHECKPOINTS",
    "CONFIG",
    "METRICS",
    "PARALLEL",
    "TIMING",
    "Best",
    "BucketedTask",
    "Checkpoints",
    "Configuration",
    "Functions",
    "InteractiveTask",
    "Loaded",
    "NonFiniteError",
    "Placement",
    "Report",
    "RestoreError",
    "RunOptions",
    "SaveError",
    "Task",
    "TrainState",
    "TrainingSettings",
    "check_divisible",
    "check_dropout",
    "held_out",
    "load",
    "make_functions",
    "max_over_processes",
    "place",
    "run",
    "sample_batch",
    "unroll_example",
]

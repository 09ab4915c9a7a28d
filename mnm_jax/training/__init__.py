"""One training loop for every task and cell: seeds, devices, evaluation, metrics, checkpoints, time budgets."""

from mnm_jax import _extras

_extras.require("mnm_jax.training", "training", "orbax", "tqdm")

from mnm_jax._files import CONFIG
from mnm_jax.training.checkpoint import Checkpoints, RestoreError, Saved, SaveError
from mnm_jax.training.configuration import Configuration, Loaded, export, load, trained_runs
from mnm_jax.training.devices import PARALLEL, Placement, check_divisible, max_over_processes, place
from mnm_jax.training.episodes import Episodes, check_settings, held_out, sample_batch, unroll_example
from mnm_jax.training.identity import describe, differences, explain, identify
from mnm_jax.training.joining import join
from mnm_jax.training.log import METRICS, TIMING
from mnm_jax.training.loop import CHECKPOINTS, NonFiniteError, Report, RunOptions, run
from mnm_jax.training.progress import CompilationStopped
from mnm_jax.training.settings import TrainingSettings, default_optimizer
from mnm_jax.training.task import AnyTask, BaseTask, BucketedTask, InteractiveTask, PortableTask, Task
from mnm_jax.training.update import Best, Functions, TrainState, make_functions

__all__ = [
    "CHECKPOINTS",
    "CONFIG",
    "METRICS",
    "PARALLEL",
    "TIMING",
    "AnyTask",
    "BaseTask",
    "Best",
    "BucketedTask",
    "Checkpoints",
    "CompilationStopped",
    "Configuration",
    "Episodes",
    "Functions",
    "InteractiveTask",
    "Loaded",
    "NonFiniteError",
    "Placement",
    "PortableTask",
    "Report",
    "RestoreError",
    "RunOptions",
    "SaveError",
    "Saved",
    "Task",
    "TrainState",
    "TrainingSettings",
    "check_divisible",
    "check_settings",
    "default_optimizer",
    "describe",
    "differences",
    "explain",
    "export",
    "held_out",
    "identify",
    "join",
    "load",
    "make_functions",
    "max_over_processes",
    "place",
    "run",
    "sample_batch",
    "trained_runs",
    "unroll_example",
]

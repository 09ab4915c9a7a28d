"""What every training program has in common: its flags, its checks, and the way from one model to the next.

Each model is trained with all its seeds side by side and leaves its files in WORKDIR/MODEL; figures and tables go to
WORKDIR. See `mnm_jax.training.run` for the files of a model.
"""

import contextlib
import dataclasses
import fcntl
import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

from experiments import command_line
from experiments.interruption import Interruption
from mnm_jax import models, tasks, training
from mnm_jax._files import write_whole

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration file and :NAME; the demo if not given.")
_MODELS = flags.DEFINE_list("models", None, "Models to train, one after the other; those of the experiment by default.")
_NUM_SEEDS = flags.DEFINE_integer("num_seeds", 3, "Seeds of each model, trained side by side.", lower_bound=1)
_WORKDIR = flags.DEFINE_string("workdir", None, "Directory for metrics, checkpoints and figures.")
_MAX_MINUTES = flags.DEFINE_float(
    "max_minutes", float("inf"), "Time for training, shared evenly by the models not yet finished.", lower_bound=0
)
_RESUME = flags.DEFINE_bool("resume", False, "Go on in a workdir that exists.")
_PARALLEL = flags.DEFINE_enum(
    "parallel", "none", training.PARALLEL, "Share nothing, the episodes of an update, or the seeds over all devices."
)
_SAVE_MINUTES = flags.DEFINE_float("save_minutes", 5.0, "Minutes between two checkpoints.")
_SAVE_UPDATES = flags.DEFINE_integer("save_updates", None, "Checkpoints also at the multiples of this.", lower_bound=1)
_KEEP = flags.DEFINE_integer("keep_checkpoints", 3, "How many checkpoints of a model are kept.", lower_bound=1)
_ON_NONFINITE = flags.DEFINE_enum(
    "on_nonfinite", "stop", ("stop", "skip"), "Stop at a loss or gradient that is not finite, or skip its update."
)
_TENSORBOARD = flags.DEFINE_bool("tensorboard", False, "Write event files too; needs tensorboardX.")
_COORDINATOR = flags.DEFINE_string("coordinator_address", None, "HOST:PORT of the first of several processes.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes train together.", lower_bound=1)
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.", lower_bound=0)

# How much longer than it may train a model may still compile.
_PATIENCE_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What a training program is about.

    Attributes:
      name: of the task, one of `tasks.TASKS`.
      default_config: `FILE:NAME` of the configuration that is used without `--config`.
      introduce: prints what there is to know of the task before training.
      conclude: `conclude(configuration, report, directory)` writes into a model's directory what is to be known of the
        trained model. Called whenever a run ends, finished or not.
      products: the files that `conclude` writes for a finished run.
      report: makes figures and tables of the whole working directory, and prints where they are.
      default_models: which models are trained without `--models`.
      prepare: `prepare(config)` puts what flags of the experiment's own ask for into its configuration.
    """

    name: str
    default_config: str
    introduce: Callable[[training.Task, training.TrainingSettings], None]
    conclude: Callable[[training.Configuration, training.Report, pathlib.Path], None]
    products: tuple[str, ...]
    report: Callable[[pathlib.Path], None]
    default_models: Sequence[str] = models.COMMON
    prepare: Callable[[ConfigDict], None] = lambda config: None


def run(experiment: Experiment) -> None:
    """Runs a training program."""

    def main(argv: Sequence[str]) -> None:
        del argv
        train(experiment)

    command_line.run(main, default_config=experiment.default_config)


def train(experiment: Experiment) -> None:
    """Trains all models that the flags ask for. Within `command_line.run`.

    Raises:
      UsageError: if something that they ask for is not possible.
    """
    workdir, configurations, options = _parse(experiment)
    changes = _check_workdir(workdir, configurations)
    _start_processes()
    try:
        for configuration in configurations:
            training.check_divisible(options.parallel, configuration.training, len(configuration.seeds))
    except ValueError as error:
        raise command_line.UsageError(error) from error
    for change in changes:
        _say(change)
    experiment.introduce(configurations[0].task, configurations[0].training)

    deadline = time.monotonic() + 60 * _MAX_MINUTES.value
    directories = {configuration: workdir / directory_of(configuration.model) for configuration in configurations}
    unfinished = [
        configuration
        for configuration, directory in directories.items()
        if not _is_finished(configuration, directory, experiment.products)
    ]
    with Interruption() as interruption, _lock(workdir):
        for i, configuration in enumerate(unfinished):
            if training.max_over_processes([interruption.exit_code])[0]:
                break
            budget = (deadline - time.monotonic()) / (len(unfinished) - i)
            _train(experiment, configuration, directories[configuration], options, budget, interruption)
        if interruption.signal is not None:
            sys.exit(interruption.exit_code)
        if jax.process_index() == 0:
            try:
                experiment.report(workdir)
            except (ValueError, OSError) as error:
                _fail(f"no figures and tables: {error}")


def _train(
    experiment: Experiment,
    configuration: training.Configuration,
    directory: pathlib.Path,
    options: training.RunOptions,
    budget: float,
    interruption: Interruption,
) -> None:
    """Trains one model, and says how that ended."""
    name, num_updates = configuration.model, configuration.training.num_updates
    _say(f"Training {name}: {len(configuration.seeds)} seeds, {num_updates} updates")
    start = time.monotonic()

    def should_give_up() -> bool:
        return interruption.signal is not None or time.monotonic() >= start + budget + _PATIENCE_SECONDS

    try:
        if jax.process_index() == 0:
            _begin(configuration, directory, experiment.products)
        report = training.run(
            configuration.task,
            configuration.cell(),
            configuration.training,
            configuration.seeds,
            directory,
            options,
            max_seconds=budget,
            should_stop=lambda: interruption.signal is not None,
            should_give_up=should_give_up,
            description=name,
        )
        minutes = (time.monotonic() - start) / 60
        how = "finished" if report.is_finished else "stopped by --max_minutes"
        if report.is_interrupted:
            how = f"stopped by {interruption.signal.name}" if interruption.signal else "stopped by another process"
        _say(
            f"{name}: {how} at update {report.update} of {num_updates} after {minutes:.1f} minutes, "
            f"{report.saving_seconds:.1f} seconds of it for checkpoints; saved in {directory / training.CHECKPOINTS}"
            + ("" if report.is_finished else "; go on with --resume")
        )
        if report.is_interrupted:
            sys.exit(interruption.exit_code or 128 + signal.SIGTERM)
        if jax.process_index() == 0:
            experiment.conclude(configuration, report, directory)
    except training.CompilationStopped:
        how = f"stopped by {interruption.signal.name}" if interruption.signal else "stopped by --max_minutes"
        _say(f"{name}: {how} while it compiled; go on with --resume")
        _end_at_once(interruption.exit_code)
    except training.NonFiniteError as error:
        _fail(f"{name}: {error}; to leave such updates out, go on with --resume --on_nonfinite=skip")
    except (training.RestoreError, OSError) as error:
        _fail(f"{name}: {error}")


def _parse(experiment: Experiment) -> tuple[pathlib.Path, list[training.Configuration], training.RunOptions]:
    """What the flags ask for: the working directory, a configuration for each model, and the rest.

    Raises:
      UsageError: if it is not possible.
    """
    if _WORKDIR.value is None:
        raise command_line.UsageError("--workdir=DIR is missing: a directory for metrics, checkpoints and figures")
    chosen = experiment.default_models if _MODELS.value is None else _MODELS.value
    if not chosen:
        raise command_line.UsageError(f"--models is empty; choose from {', '.join(models.NAMES)}")
    if _TENSORBOARD.value:
        try:
            import tensorboardX  # noqa: F401
        except ImportError as error:
            raise command_line.UsageError("--tensorboard needs tensorboardX: pip install tensorboardX") from error
    try:
        options = training.RunOptions(
            _PARALLEL.value,
            _SAVE_MINUTES.value,
            _SAVE_UPDATES.value,
            _KEEP.value,
            _ON_NONFINITE.value,
            _TENSORBOARD.value,
        )
        experiment.prepare(_CONFIG.value)
        configurations = [configure(experiment.name, model, _CONFIG.value) for model in dict.fromkeys(chosen)]
    except ValueError as error:
        raise command_line.UsageError(error) from error
    return pathlib.Path(_WORKDIR.value), configurations, options


def configure(name: str, model: str, config: ConfigDict) -> training.Configuration:
    """Makes the checked configuration of a model.

    Raises:
      ValueError: if a value is not possible, naming it.
    """
    task, settings = tasks.TASKS[name](**config.task), models.ModelSettings(**config.model)
    models.find_writer(model)
    meta_weight = models.default_meta_weight(model) if settings.meta_weight is None else settings.meta_weight
    training_settings = training.TrainingSettings(**config.training, meta_weight=meta_weight)
    training.check_dropout(task, training_settings)
    return training.Configuration(name, model, tuple(range(_NUM_SEEDS.value)), task, settings, training_settings)


def _check_workdir(workdir: pathlib.Path, configurations: Sequence[training.Configuration]) -> list[str]:
    """Refuses to mix two experiments in one directory.

    Returns:
      What is different from before, and may be.

    Raises:
      UsageError: if the directory is in use without `--resume`, or by another configuration.
    """
    ancestor = next(path for path in (workdir, *workdir.absolute().parents) if path.exists())
    if not ancestor.is_dir():
        raise command_line.UsageError(f"--workdir={workdir} is not a directory")
    if not os.access(ancestor, os.W_OK):
        raise command_line.UsageError(f"--workdir={workdir} cannot be written to")
    if not _RESUME.value and workdir.is_dir() and any(workdir.iterdir()):
        raise command_line.UsageError(f"--workdir={workdir} exists; pass --resume to go on in it, or name another")
    changes = []
    wanted = {configuration.model: configuration for configuration in configurations}
    for path in sorted(workdir.glob(f"*/{training.CONFIG}")):
        try:
            saved = training.Configuration.load(path.parent)
        except ValueError as error:
            raise command_line.UsageError(error) from error
        # Another model may be trained otherwise; but one figure holds one task.
        differences = saved.differences(wanted.get(saved.model, configurations[0]))
        if saved.model not in wanted:
            differences = {key: values for key, values in differences.items() if key.startswith("config.task.")}
        texts = {key: f"{key} was {was} and is {now}" for key, (was, now) in differences.items()}
        # A run may be made longer, if its learning rate does not depend on its length.
        was, now = differences.get("config.training.num_updates", (0, 0))
        if was < now and saved.training.schedule == "constant":
            changes.append(f"{path.parent}: {texts.pop('config.training.num_updates')}")
        if texts:
            raise command_line.UsageError(f"{path.parent} was made otherwise: {'; '.join(texts.values())}")
    return changes


def _start_processes() -> None:
    """Joins the other processes, if there are any. All have checked their flags by then, and nobody has written yet."""
    given = {"coordinator_address": _COORDINATOR, "num_processes": _NUM_PROCESSES, "process_id": _PROCESS_ID}
    missing = [f"--{name}" for name, flag in given.items() if flag.value is None]
    if len(missing) == len(given):
        return
    if missing:
        raise command_line.UsageError(
            f"{', '.join(missing)} is missing: several processes need all of --{', --'.join(given)}"
        )
    if _PROCESS_ID.value >= _NUM_PROCESSES.value:
        raise command_line.UsageError(
            f"--process_id={_PROCESS_ID.value} must be below --num_processes={_NUM_PROCESSES.value}"
        )
    # It would catch SIGTERM until `Interruption` does, and do nothing about it.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    except (RuntimeError, ValueError) as error:
        raise command_line.UsageError(f"--coordinator_address={_COORDINATOR.value}: {error}") from error


@contextlib.contextmanager
def _lock(workdir: pathlib.Path) -> Iterator[None]:
    """Keeps others from training in the same directory. The system ends it with the process, however that ends."""
    if jax.process_index() > 0:
        yield
        return
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _fail(f"--workdir={workdir}: another process is training in it")
        yield


def _begin(configuration: training.Configuration, directory: pathlib.Path, products: Sequence[str]) -> None:
    """Writes the configuration, whole or not at all, and removes what would not fit longer curves."""
    directory.mkdir(parents=True, exist_ok=True)
    write_whole(directory / training.CONFIG, configuration.to_json())
    for product in products:
        (directory / product).unlink(missing_ok=True)


def _is_finished(configuration: training.Configuration, directory: pathlib.Path, products: Sequence[str]) -> bool:
    """Whether a model has made all its updates, and all that is to be known of it was written."""
    latest = training.Checkpoints(directory / training.CHECKPOINTS).latest()
    return latest == configuration.training.num_updates and all((directory / name).exists() for name in products)


def directory_of(model: str) -> str:
    """The directory of a model: its name, without the colon of `module:function`."""
    return model.replace(":", ".")


def _say(text: str) -> None:
    if jax.process_index() == 0:
        print(text, flush=True)


def _end_at_once(code: int) -> NoReturn:
    """Ends the program although one of its threads is still compiling."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _fail(message: str) -> NoReturn:
    print(f"error: {' '.join(message.split())}", file=sys.stderr, flush=True)
    if jax.process_count() > 1:
        os._exit(1)  # An orderly end would wait for the others, who wait for this one.
    sys.exit(1)

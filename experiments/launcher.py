"""What every training program has in common: its flags, its checks, and the way from one model to the next.

Each model is trained with all its seeds and leaves its files in WORKDIR/MODEL; figures and tables go to
WORKDIR. See `mnm_jax.training.run` for the files of a model.
"""

import dataclasses
import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, cast

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags import config_path

from experiments import command_line, compilation_cache, workdirs
from experiments.interruption import Interruption, end_at_once
from mnm_jax import _paths, models, tasks, training
from mnm_jax.training.devices import Parallel
from mnm_jax.training.loop import OnNonfinite

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "A NAME of those below, or FILE:NAME of your own; --config.KEY=VALUE sets any value of it."
)
_MODELS = flags.DEFINE_list(
    "models",
    None,
    "Models to train, one after the other; those of the experiment by default. A writer of yours is module:function. "
    f"There are {', '.join(models.NAMES)}.",
)
_NUM_SEEDS = flags.DEFINE_integer("num_seeds", 3, "Seeds of each model, trained together.", lower_bound=1)
_FIRST_SEED = flags.DEFINE_integer(
    "first_seed", 0, "The first of the seeds; experiments.join makes one run of several.", lower_bound=0
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Directory for metrics, checkpoints and figures.")
_MAX_MINUTES = flags.DEFINE_float(
    "max_minutes", float("inf"), "Time for training, shared evenly by the models not yet finished.", lower_bound=0
)
_RESUME = flags.DEFINE_bool("resume", False, "Go on in a workdir that exists, with the configuration that it holds.")
_PARALLEL = flags.DEFINE_enum(
    "parallel",
    "none",
    training.PARALLEL,
    "Seeds on one device side by side (none) or one after the other (in_turn), or over devices (seeds), or episodes "
    "over devices (data).",
)
_SAVE_MINUTES = flags.DEFINE_float("save_minutes", 5.0, "Minutes between two checkpoints.")
_SAVE_UPDATES = flags.DEFINE_integer("save_updates", None, "Checkpoints also at the multiples of this.", lower_bound=1)
_KEEP = flags.DEFINE_integer("keep_checkpoints", 3, "How many checkpoints of a model are kept.", lower_bound=1)
_ON_NONFINITE = flags.DEFINE_enum(
    "on_nonfinite", "stop", ("stop", "skip"), "Stop at a loss, gradient or step that is not finite, or skip its update."
)
_TENSORBOARD = flags.DEFINE_bool("tensorboard", False, "Write event files too; needs tensorboardX.")
_COMPILATION_CACHE = flags.DEFINE_bool(
    "compilation_cache", True, "Keep compiled programs in the user's cache directory, for later runs to start sooner."
)
_COORDINATOR = flags.DEFINE_string("coordinator_address", None, "HOST:PORT of the first of several processes.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes train together.", lower_bound=1)
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.", lower_bound=0)

# How much longer than it may train a model may still compile.
_PATIENCE_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What a training program is about.

    Attributes:
      name: of the task, see `tasks.find_task`; a configuration may name another one as its `experiment`.
      default_config: `FILE:NAME` of the configuration that is used without `--config`.
      introduce: `introduce(task, settings)` prints what there is to know of the task before training.
      conclude: `conclude(configuration, report, directory)` writes into a model's directory what is to be known of the
        trained model. Called whenever a run ends, finished or not.
      products: the files that `conclude` writes for a finished run.
      report: makes figures and tables of the whole working directory, and prints where they are.
      default_models: which models are trained without `--models`.
      prepare: `prepare(config)` puts what flags of the experiment's own ask for into its configuration.
    """

    name: str
    default_config: str
    introduce: Callable[[Any, training.TrainingSettings], None]
    conclude: Callable[[training.Configuration, training.Report, pathlib.Path], None]
    products: tuple[str, ...]
    report: Callable[[pathlib.Path], None]
    default_models: Sequence[str] = models.COMMON
    prepare: Callable[[ConfigDict], None] = lambda config: None


def run(experiment: Experiment, instead: Callable[[], bool] = lambda: False) -> None:
    """Runs a training program.

    Args:
      experiment: what it is about.
      instead: does what the flags ask for in place of training, and says whether they asked for any such thing.
    """
    is_config_given = command_line.flag_value(sys.argv, "config") is not None

    def main(argv: Sequence[str]) -> None:
        del argv
        if not instead():
            _train_all(experiment, is_config_given)

    document = sys.modules[experiment.introduce.__module__].__doc__ or ""
    command_line.run(main, document=document, default_config=experiment.default_config)


def _train_all(experiment: Experiment, is_config_given: bool) -> None:
    """Trains all models that the flags ask for.

    Raises:
      UsageError: if something that they ask for is not possible.
    """
    workdir, configurations, options, changes = _parse(experiment, is_config_given)
    _start_processes()
    try:
        for configuration in configurations:
            training.check_divisible(options.parallel, configuration.training, len(configuration.seeds))
    except ValueError as error:
        raise command_line.UsageError(error) from error
    if _COMPILATION_CACHE.value:
        compilation_cache.use()
    for change in changes:
        _say(change)
    experiment.introduce(configurations[0].task, configurations[0].training)
    _train_and_report(experiment, workdir, configurations, options)


def _train_and_report(
    experiment: Experiment,
    workdir: pathlib.Path,
    configurations: Sequence[training.Configuration],
    options: training.RunOptions,
) -> None:
    """Trains what is not finished, and makes figures and tables; a signal that came ends the program with its code."""
    try:
        with Interruption() as interruption, workdirs.lock(workdir):
            is_compiling = _train_unfinished(experiment, workdir, configurations, options, interruption)
            if jax.process_index() == 0:
                _report(experiment, workdir, interruption)
    except workdirs.LockError as error:
        _fail(str(error))
    if is_compiling:  # An orderly end would wait for it.
        end_at_once(interruption.exit_code)
    if interruption.signal is not None:
        sys.exit(interruption.exit_code)


def _train_unfinished(
    experiment: Experiment,
    workdir: pathlib.Path,
    configurations: Sequence[training.Configuration],
    options: training.RunOptions,
    interruption: Interruption,
) -> bool:
    """Trains one model after the other.

    Returns:
      Whether something is still being compiled for one of them that was not waited for.
    """
    deadline = time.monotonic() + 60 * _MAX_MINUTES.value
    directories = {
        configuration: workdir / workdirs.directory_of(configuration.model) for configuration in configurations
    }
    unfinished = [
        configuration
        for configuration, directory in directories.items()
        if not _is_finished(configuration, directory, experiment.products)
    ]
    if jax.process_index() == 0:
        # All of them, so that `--resume` knows which models there are to be.
        for configuration in unfinished:
            _write_configuration(configuration, directories[configuration])
    is_compiling = False
    for i, configuration in enumerate(unfinished):
        if training.max_over_processes([interruption.exit_code])[0]:
            break
        budget = (deadline - time.monotonic()) / (len(unfinished) - i)
        is_compiling |= _train(experiment, configuration, directories[configuration], options, budget, interruption)
    if interruption.signal is not None:
        sys.exit(interruption.exit_code)
    return is_compiling


def _report(experiment: Experiment, workdir: pathlib.Path, interruption: Interruption) -> None:
    try:
        with interruption.ending_at_once():
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
) -> bool:
    """Trains one model, and says how that ended. Returns whether something is still being compiled for it."""
    name, num_updates = configuration.model, configuration.training.num_updates
    num_seeds = len(configuration.seeds)
    _say(f"Training {name}: {num_seeds} seed{'s' * (num_seeds > 1)}, {num_updates:,} updates")
    start = time.monotonic()

    def should_give_up() -> bool:
        return interruption.signal is not None or time.monotonic() >= start + budget + _PATIENCE_SECONDS

    try:
        if jax.process_index() == 0:
            for product in experiment.products:  # They would not fit longer curves.
                (directory / product).unlink(missing_ok=True)
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
            with interruption.ending_at_once():
                experiment.conclude(configuration, report, directory)
    except training.CompilationStopped:
        how = f"stopped by {interruption.signal.name}" if interruption.signal else "stopped by --max_minutes"
        _say(f"{name}: {how} while it compiled; what it had learned is saved; go on with --resume")
        if interruption.signal:
            end_at_once(interruption.exit_code)
        return True
    except training.NonFiniteError as error:
        _fail(f"{name}: {error}; to leave such updates out, go on with --resume --on_nonfinite=skip")
    except (training.RestoreError, OSError) as error:
        _fail(f"{name}: {error}")
    return False


def _parse(
    experiment: Experiment, is_config_given: bool
) -> tuple[pathlib.Path, list[training.Configuration], training.RunOptions, list[str]]:
    """What the flags ask for.

    Returns:
      The working directory, a configuration for each model, the rest, and what is otherwise than it was in the working
      directory, and may be.

    Raises:
      UsageError: if it is not possible.
    """
    if _WORKDIR.value is None:
        raise command_line.UsageError("--workdir=DIR is missing: a directory for metrics, checkpoints and figures")
    if _MODELS.value is not None and not _MODELS.value:
        raise command_line.UsageError(f"--models is empty; choose from {', '.join(models.NAMES)}")
    if _TENSORBOARD.value:
        try:
            import tensorboardX  # noqa: F401
        except ImportError as error:
            raise command_line.UsageError(
                "--tensorboard needs tensorboardX: pip install 'mnm_jax[tensorboard]'"
            ) from error
    workdir = _paths.expand(_WORKDIR.value)
    try:
        options = training.RunOptions(
            cast(Parallel, _PARALLEL.value),
            _SAVE_MINUTES.value,
            _SAVE_UPDATES.value,
            _KEEP.value,
            cast(OnNonfinite, _ON_NONFINITE.value),
            _TENSORBOARD.value,
        )
        saved = workdirs.saved_configurations(workdir, is_resumed=_RESUME.value)
        configurations = _configure_all(experiment, {} if is_config_given else saved)
        changes = workdirs.check_same(workdir, saved, configurations)
    except ValueError as error:
        raise command_line.UsageError(error) from error
    return workdir, configurations, options, changes


def _configure_all(experiment: Experiment, saved: Mapping[str, training.Configuration]) -> list[training.Configuration]:
    """A configuration for each model that the flags ask for.

    Args:
      experiment: with what it makes of flags of its own.
      saved: by model, what the working directory holds. It takes the place of the configuration file, and of what other
        flags leave open; a model that it does not hold is trained as the first that it does.

    Raises:
      ValueError: if a value is not possible.
    """
    chosen = _MODELS.value or list(saved) or experiment.default_models
    configurations = []
    for model in dict.fromkeys(chosen):
        like = saved.get(model) or next(iter(saved.values()), None)
        if like is None:
            config, seeds = _CONFIG.value.copy_and_resolve_references(), None
        else:
            if like.experiment != experiment.name and "experiment" not in _CONFIG.value:
                raise ValueError(
                    f"--workdir={_WORKDIR.value} was made for {like.experiment}, not for {experiment.name}"
                )
            config, seeds = _to_config(like), like.seeds
            # Their types are those of the configuration file, which may say more than what was saved needs.
            with config.ignore_type():
                for path, value in config_flags.get_override_values(flags.FLAGS["config"]).items():
                    config_path.set_value(path, config, value)
        experiment.prepare(config)
        name = config.get("experiment", experiment.name)
        configurations.append(_configure(name, model, config, seeds))
    return configurations


def _to_config(configuration: training.Configuration) -> ConfigDict:
    """A configuration as a configuration file would give it."""
    parts: dict[str, Any] = {
        "task": configuration.task,
        "model": configuration.model_settings,
        "training": configuration.training,
    }
    config = ConfigDict({name: dataclasses.asdict(part) for name, part in parts.items()})
    config.experiment = configuration.experiment
    del config.training["meta_weight"]  # It follows from the model.
    return config


def _configure(name: str, model: str, config: ConfigDict, seeds: tuple[int, ...] | None) -> training.Configuration:
    """The checked configuration of a model; `seeds` are those of before, which the flags of seeds change if given.

    Raises:
      ValueError: if a value is not possible, naming it.
    """
    task, settings = tasks.find_task(name)(**config.task), models.ModelSettings(**config.model)
    models.find_writer(model, settings)
    meta_weight = models.default_meta_weight(model) if settings.meta_weight is None else settings.meta_weight
    training_settings = training.TrainingSettings(**config.training, meta_weight=meta_weight)
    training.check_settings(task, training_settings)
    if seeds is None or _NUM_SEEDS.present or _FIRST_SEED.present:
        first = seeds[0] if seeds and not _FIRST_SEED.present else _FIRST_SEED.value
        number = len(seeds) if seeds and not _NUM_SEEDS.present else _NUM_SEEDS.value
        seeds = tuple(range(first, first + number))
    return training.Configuration(name, model, seeds, task, settings, training_settings)


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
    if int(_PROCESS_ID.value or 0) >= int(_NUM_PROCESSES.value or 0):
        raise command_line.UsageError(
            f"--process_id={_PROCESS_ID.value} must be below --num_processes={_NUM_PROCESSES.value}"
        )
    # It would catch SIGTERM until `Interruption` does, and do nothing about it.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    except (RuntimeError, ValueError) as error:
        raise command_line.UsageError(f"--coordinator_address={_COORDINATOR.value}: {error}") from error


def _write_configuration(configuration: training.Configuration, directory: pathlib.Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        configuration.save(directory)
    except OSError as error:
        _fail(f"cannot write {error.filename or directory}: {error.strerror or error}")


def _is_finished(configuration: training.Configuration, directory: pathlib.Path, products: Sequence[str]) -> bool:
    """Whether a model has made all its updates, and all that is to be known of it was written."""
    latest = training.Checkpoints(directory / training.CHECKPOINTS).latest()
    return latest == configuration.training.num_updates and all((directory / name).exists() for name in products)


def _say(text: str) -> None:
    if jax.process_index() == 0:
        print(text, flush=True)


def _fail(message: str) -> NoReturn:
    print(f"error: {' '.join(message.split())}", file=sys.stderr, flush=True)
    if jax.process_count() > 1:
        os._exit(1)  # An orderly end would wait for the others, who wait for this one.
    sys.exit(1)

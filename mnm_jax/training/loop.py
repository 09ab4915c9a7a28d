"""The loop around the compiled chunks: evaluation, files, progress, checkpoints, budget, interruption, resumption.

A run writes into its own directory:
  metrics.jsonl  a line for each evaluation and seed: what depends on the seed alone
  timing.jsonl   a line for each evaluation: seconds of wall-clock time since the start of training
  checkpoints/   the newest states
  tensorboard/   event files, if wanted
"""

import contextlib
import dataclasses
import functools
import itertools
import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import numpy as np
import tqdm

from mnm_jax import _checks
from mnm_jax.training.checkpoint import Checkpoints, RestoreError, SaveError
from mnm_jax.training.devices import Parallel, check_divisible, max_over_processes, place
from mnm_jax.training.update import Task, TrainingSettings, TrainState, held_out

METRICS, TIMING, CHECKPOINTS, TENSORBOARD = "metrics.jsonl", "timing.jsonl", "checkpoints", "tensorboard"
# A chunk is so long that starting it costs nothing beside it, and so short that one can wait for its end.
_CHUNK_SECONDS = 2.0
# Checkpoints of earlier versions do not name these, and were made with their defaults.
_NEWER_SETTINGS = ("adam_epsilon", "idle_updates", "embedding_dropout")


class NonFiniteError(ArithmeticError):
    """Loss or gradient was not finite. The message says for which seeds, at which updates, and what is saved."""


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """What a run does beside training; nothing here changes its numbers.

    Attributes:
      parallel: how devices are used; see `devices.place`.
      save_minutes: a checkpoint is saved when the last one is older than this.
      save_updates: and whenever the number of updates is a multiple of this, unless it is `None`.
      keep: how many checkpoints are kept.
      on_nonfinite: what follows when a loss or gradient is not finite: `'stop'` ends the run, `'skip'` leaves out the
        update for this seed, and counts it as `train_num_skipped` in the metrics.
      tensorboard: whether to write event files.
    """

    parallel: Parallel = "none"
    save_minutes: float = 5.0
    save_updates: int | None = None
    keep: int = 3
    on_nonfinite: Literal["stop", "skip"] = "stop"
    tensorboard: bool = False

    def __post_init__(self) -> None:
        _checks.check_positive(keep=self.keep)
        if self.save_updates is not None:
            _checks.check_positive(save_updates=self.save_updates)
        if not self.save_minutes > 0:
            raise ValueError(f"save_minutes must be above 0, got {self.save_minutes!r}")
        _checks.check_choice("on_nonfinite", self.on_nonfinite, ("stop", "skip"))


class Report(NamedTuple):
    """How a run ended.

    Attributes:
      state: the last state, each leaf with a leading axis of seeds, on the host. It is saved.
      update: how many updates were made.
      metrics: the last evaluation of this call, each `[num_seeds]`; empty if there was none.
      is_finished: whether all updates were made; if not, it can be resumed.
      is_interrupted: whether it ended because some process was asked to stop.
      saving_seconds: the time that checkpoints took in this call.
    """

    state: TrainState
    update: int
    metrics: dict[str, np.ndarray]
    is_finished: bool
    is_interrupted: bool
    saving_seconds: float


def run(
    task: Task,
    cell: nn.Module,
    settings: TrainingSettings,
    seeds: Sequence[int],
    directory: str | pathlib.Path,
    options: RunOptions | None = None,
    *,
    max_seconds: float = math.inf,
    should_stop: Callable[[], bool] = lambda: False,
    description: str = "",
) -> Report:
    """Trains all seeds side by side, from the newest checkpoint in `directory` if there is one.

    Every random number comes from the seeds, so that the same call writes the same `metrics.jsonl` on the same machine,
    however often it was interrupted and resumed.

    Args:
      task: what to learn.
      cell: what learns it.
      settings: how.
      seeds: one run for each, vmapped.
      directory: where to write; made if it does not exist.
      options: devices, checkpoints, and what else does not change the numbers.
      max_seconds: stop after the first chunk that ends later than this, so that there is progress in any case.
      should_stop: asked after each chunk of about two seconds; if it says so, the run saves its state and ends.
      description: the name that the progress bar shows.

    Returns:
      The `Report`.

    Raises:
      ValueError: if seeds or episodes cannot be shared out evenly over the devices.
      SaveError: if something cannot be written.
      RestoreError: if there are checkpoints, but all damaged or of another training, or other ones for each process.
      NonFiniteError: if a loss or gradient is not finite, unless it is to be skipped.
    """
    start = time.monotonic()
    deadline = start + max_seconds
    options = RunOptions() if options is None else options
    check_divisible(options.parallel, settings, len(seeds))
    placement = place(task, cell, settings, options.parallel)
    init, train_chunk, evaluate, record_evaluation, shapes, spread, replicate, collect = placement
    batches = jax.device_get(held_out(task, settings))
    buckets = [replicate(bucket) for bucket in getattr(task, "buckets", (None,))]
    checkpoints = Checkpoints(pathlib.Path(directory) / CHECKPOINTS, options.keep)

    identity = _describe(task, settings, seeds)
    metrics: dict[str, np.ndarray] = {}
    if checkpoints.updates():
        saved, seconds = checkpoints.load(shapes(len(seeds)), identity, set_aside=True)
        start -= seconds
        update = int(saved.update[0])
        state = spread(saved)
        log = _Log(directory, seeds, options.tensorboard, update)
        if update >= settings.num_updates:
            metrics = collect(evaluate(state, batches))
    else:
        update = 0
        state = init(seeds)
        log = _Log(directory, seeds, options.tensorboard)
        evaluated = evaluate(state, batches)
        state, metrics = record_evaluation(state, evaluated), collect(evaluated)
        log.write(update, {}, metrics, time.monotonic() - start)
    if max_over_processes((update, -update)) != [update, -update]:
        raise RestoreError(
            f"other processes do not find update {update} in {checkpoints.directory}; do all of them see it?"
        )

    n, last_save, saving_seconds, is_interrupted = 1, time.monotonic(), 0.0, False
    shows_progress = jax.process_index() == 0 and sys.stderr.isatty()
    with tqdm.tqdm(
        total=settings.num_updates, initial=update, desc=description, unit="update", disable=not shows_progress
    ) as progress:
        while update < settings.num_updates:
            began = time.monotonic()
            # Evaluations and checkpoints stand at the multiples of their intervals, wherever a run was interrupted.
            intervals = (settings.evaluate_every, options.save_updates or settings.num_updates)
            length = min(n, settings.num_updates - update, *(interval - update % interval for interval in intervals))
            bad = []
            # Each call computes on one shape, and tells the means since the last evaluation and its own bad updates.
            for bucket, count in _draw_buckets(task, update, length):
                state, measured, bad_updates = train_chunk(state, count, buckets[bucket])
                bad.append(bad_updates)
            measured = collect(measured)
            bad_updates = functools.reduce(lambda first, later: np.where(first < 0, later, first), map(collect, bad))
            if options.on_nonfinite == "stop" and (bad_updates >= 0).any():
                raise NonFiniteError(_describe_nonfinite(seeds, bad_updates, checkpoints))
            update += length
            progress.update(length)
            seconds = time.monotonic() - began
            if seconds > _CHUNK_SECONDS:
                n = max(1, length // 2)
            elif length == n and seconds < _CHUNK_SECONDS / 2:
                n *= 2

            if update % settings.evaluate_every == 0 or update == settings.num_updates:
                evaluated = evaluate(state, batches)
                state, metrics = record_evaluation(state, evaluated), collect(evaluated)
                log.write(update, measured, metrics, time.monotonic() - start)
                progress.set_postfix({task.headline: f"{np.mean(metrics[task.headline]):.3f}"})

            now = time.monotonic()
            is_due = now - last_save >= 60 * options.save_minutes
            # Clocks and signals differ between processes.
            is_due, is_interrupted, is_late, n = max_over_processes((is_due, should_stop(), now >= deadline, n))
            n, must_stop = int(n), is_interrupted or is_late
            if is_due or must_stop or update == settings.num_updates or update % intervals[1] == 0:
                checkpoints.save(update, collect(state), now - start, identity)
                last_save = time.monotonic()
                saving_seconds += last_save - now
            if must_stop:
                break
    log.close()
    return Report(collect(state), update, metrics, update >= settings.num_updates, bool(is_interrupted), saving_seconds)


def _draw_buckets(task: Task, update: int, length: int) -> list[tuple[int, int]]:
    """The buckets of some updates, and how many updates in a row each is used for."""
    if not hasattr(task, "buckets"):
        return [(0, length)]
    drawn = task.draw_buckets(range(update, update + length)).tolist()
    return [(bucket, len(list(group))) for bucket, group in itertools.groupby(drawn)]


def _describe(task: Task, settings: TrainingSettings, seeds: Sequence[int]) -> dict[str, Any]:
    """What a state depends on, besides the cell, which shows in its arrays."""
    identity = {"task": repr(task), "seeds": list(seeds), **dataclasses.asdict(settings)}
    for field in dataclasses.fields(TrainingSettings):
        if field.name in _NEWER_SETTINGS and identity[field.name] == field.default:
            del identity[field.name]
    if settings.schedule == "constant":
        del identity["num_updates"]  # A run may be made longer, if its learning rate does not depend on its length.
    return identity


def _describe_nonfinite(seeds: Sequence[int], bad_updates: np.ndarray, checkpoints: Checkpoints) -> str:
    where = ", ".join(f"seed {seed} at update {bad}" for seed, bad in zip(seeds, bad_updates, strict=True) if bad >= 0)
    saved = checkpoints.latest()
    last = "no checkpoint was saved yet" if saved is None else f"the last good checkpoint is at update {saved}"
    return f"loss or gradient not finite: {where}; {last} in {checkpoints.directory}"


class _Log:
    """The files of a run. Only the first process writes."""

    def __init__(
        self, directory: str | pathlib.Path, seeds: Sequence[int], tensorboard: bool, update: int | None = None
    ) -> None:
        """Opens the files, anew or, after `update` updates, without what is later in them."""
        self._seeds = seeds
        self._is_writer = jax.process_index() == 0
        self._directory = pathlib.Path(directory)
        self._writers: list[Any] = []
        if not self._is_writer:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        for name in (METRICS, TIMING):
            _rewrite(self._directory / name, -1 if update is None else update)
        if tensorboard:
            self._writers = _open_tensorboard(self._directory / TENSORBOARD, seeds, update)

    def write(self, update: int, training: dict[str, Any], evaluation: dict[str, Any], seconds: float) -> None:
        """Appends the lines of one evaluation."""
        if not self._is_writer:
            return
        named = {f"train_{name}": values for name, values in training.items()}
        named |= {f"eval_{name}": values for name, values in evaluation.items()}
        numbers = [{name: float(values[i]) for name, values in named.items()} for i in range(len(self._seeds))]
        lines = [
            # JSON has no word for a number that is not finite.
            {"update": update, "seed": seed} | {name: x if math.isfinite(x) else None for name, x in values.items()}
            for seed, values in zip(self._seeds, numbers, strict=True)
        ]
        _append(self._directory / METRICS, lines)
        _append(self._directory / TIMING, [{"update": update, "seconds": round(seconds, 3)}])
        for writer, values in zip(self._writers, numbers, strict=False):
            for name, x in values.items():
                writer.add_scalar(name.replace("_", "/", 1), x, update)
            writer.flush()

    def close(self) -> None:
        """Closes the event files."""
        for writer in self._writers:
            writer.close()


def _open_tensorboard(directory: pathlib.Path, seeds: Sequence[int], update: int | None) -> list[Any]:
    """A writer of event files for each seed; what they hold beyond `update` is to be ignored."""
    import tensorboardX  # An optional dependency.

    purge = 0 if update is None else update + 1
    suffix = f".{update or 0}"  # By the second and host alone, a run that is soon resumed would write over its file.
    return [
        tensorboardX.SummaryWriter(str(directory / f"seed_{seed}"), purge_step=purge, filename_suffix=suffix)
        for seed in seeds
    ]


def _append(path: pathlib.Path, lines: Sequence[dict[str, Any]]) -> None:
    """Appends lines, and waits until they are on the disk: no checkpoint may be newer than they are."""
    with _reporting(path), path.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())


def _rewrite(path: pathlib.Path, update: int) -> None:
    """Keeps the lines of a file up to an update. A line that was cut off is later than that."""
    kept = []
    for line in path.read_text(errors="replace").splitlines(keepends=True) if path.exists() else ():
        try:
            is_later = json.loads(line)["update"] > update
        except json.JSONDecodeError:
            break
        if not is_later:
            kept.append(line)
    shortened = path.with_suffix(".tmp")
    with _reporting(path):
        with shortened.open("w") as file:
            file.write("".join(kept))
            file.flush()
            os.fsync(file.fileno())
        shortened.replace(path)


@contextlib.contextmanager
def _reporting(path: pathlib.Path) -> Iterator[None]:
    """Says which file it was that could not be written."""
    try:
        yield
    except OSError as error:
        raise SaveError(f"cannot write {path}: {error.strerror or error}; the checkpoints are as they were") from error

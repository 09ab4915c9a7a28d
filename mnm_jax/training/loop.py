"""The loop around the compiled chunks: evaluation, checkpoints, budget, interruption, resumption.

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
import math
import numbers
import pathlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import numpy as np
import optax

from mnm_jax import _checks, _paths
from mnm_jax.training.checkpoint import Checkpoints, RestoreError
from mnm_jax.training.devices import PARALLEL, Parallel, check_divisible, max_over_processes, place
from mnm_jax.training.episodes import held_out
from mnm_jax.training.identity import identify
from mnm_jax.training.log import Log
from mnm_jax.training.progress import Progress, call_stoppable
from mnm_jax.training.settings import TrainingSettings
from mnm_jax.training.task import AnyTask, is_bucketed
from mnm_jax.training.update import TrainState

CHECKPOINTS = "checkpoints"
# A chunk is so long that starting it costs nothing beside it, and so short that one can wait for its end.
_CHUNK_SECONDS = 2.0

OnNonfinite = Literal["stop", "skip"]
EvaluationCallback = Callable[[int, Mapping[str, np.ndarray]], None]


class NonFiniteError(ArithmeticError):
    """Loss, gradient or step was not finite. The message says for which seeds, at which updates, and what is saved."""


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """What a run does beside training; nothing here changes its numbers, but for rounding.

    Attributes:
      parallel: how devices are used; see `devices.place`. Another arrangement may round otherwise.
      save_minutes: a checkpoint is saved when the last one is older than this.
      save_updates: and whenever the number of updates is a multiple of this, unless it is `None`.
      keep: how many checkpoints are kept.
      on_nonfinite: what follows when a loss, gradient or step is not finite: `'stop'` ends the run, `'skip'` leaves out
        the update for this seed, and counts it as `train_num_skipped` in the metrics.
      tensorboard: whether to write event files.
    """

    parallel: Parallel = "none"
    save_minutes: float = 5.0
    save_updates: int | None = None
    keep: int = 3
    on_nonfinite: OnNonfinite = "stop"
    tensorboard: bool = False

    def __post_init__(self) -> None:
        _checks.check_choice("parallel", self.parallel, PARALLEL)
        _checks.check_positive(keep=self.keep)
        if self.save_updates is not None:
            _checks.check_positive(save_updates=self.save_updates)
        is_number = isinstance(self.save_minutes, numbers.Real) and not isinstance(self.save_minutes, bool)
        if not is_number or not self.save_minutes > 0:
            raise ValueError(f"save_minutes must be a number above 0, got {self.save_minutes!r}")
        _checks.check_choice("on_nonfinite", self.on_nonfinite, ("stop", "skip"))
        if not isinstance(self.tensorboard, bool):  # 1 and 0 are equal to the two.
            raise ValueError(f"tensorboard must be one of True, False, got {self.tensorboard!r}")


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
    task: AnyTask,
    cell: nn.Module,
    settings: TrainingSettings,
    seeds: Sequence[int],
    directory: str | pathlib.Path,
    options: RunOptions | None = None,
    *,
    optimizer: optax.GradientTransformation | None = None,
    max_seconds: float = math.inf,
    should_stop: Callable[[], bool] = lambda: False,
    should_give_up: Callable[[], bool] | None = None,
    on_evaluation: EvaluationCallback | None = None,
    description: str = "",
) -> Report:
    """Trains all seeds, from the newest checkpoint in `directory` if there is one.

    Every random number comes from the seeds, so that the same call writes the same `metrics.jsonl` on the same machine,
    however often it was interrupted and resumed. `training.load(directory, task=task, cell=cell)` gives the model back.

    Args:
      task: what to learn.
      cell: what learns it.
      settings: how.
      seeds: one run for each.
      directory: where to write; made if it does not exist.
      options: devices, checkpoints, and what else does not change the numbers.
      optimizer: any optimiser of optax, in place of the one that the settings ask for.
      max_seconds: stop after the first chunk that ends later than this, so that there is progress in any case.
      should_stop: asked after each chunk of about two seconds; if it says so, the run saves its state and ends.
      should_give_up: asked ten times a second while something is compiled; if it says so, the run ends without waiting.
        See `progress.call_stoppable`.
      on_evaluation: `on_evaluation(update, metrics)`, called after each evaluation, in the first process only, with
        what `metrics.jsonl` has of it: by name, `[num_seeds]`.
      description: the name that the run has in what it prints.

    Returns:
      The `Report`.

    Raises:
      ValueError: if there are no seeds, or they are no whole numbers, or if seeds or episodes cannot be shared out
        evenly over the devices.
      SaveError: if something cannot be written.
      RestoreError: if there are checkpoints, but all damaged or of another training, or other ones for each process.
      NonFiniteError: if a loss, gradient or step is not finite, unless it is to be skipped.
      CompilationStopped: if `should_give_up` said so. Whatever was learned is saved.
    """
    start = time.monotonic()
    deadline = start + max_seconds
    options = RunOptions() if options is None else options
    if not isinstance(seeds, Iterable) or not len(seeds) or not all(map(_checks.is_whole, seeds)):
        raise ValueError(f"argument 'seeds': wants a whole number for each run, at least one, got {seeds!r}")
    seeds = tuple(map(int, seeds))
    check_divisible(options.parallel, settings, len(seeds))
    trainer = _Trainer(
        task,
        settings,
        seeds,
        _paths.expand(directory),
        options,
        identity=identify(task, cell, settings, seeds, optimizer),
        placement=place(task, cell, settings, options.parallel, optimizer),
        progress=Progress(description, settings.num_updates, task.headline),
        should_give_up=should_give_up,
        on_evaluation=on_evaluation,
    )
    with contextlib.closing(trainer):
        trainer.begin(start)
        must_stop = is_interrupted = False
        while trainer.update < settings.num_updates and not must_stop:
            trainer.train_chunk()
            # Clocks and signals differ between processes.
            is_due, asks_to_stop, is_late, length = max_over_processes(
                (trainer.is_save_due(), should_stop(), time.monotonic() >= deadline, trainer.length)
            )
            trainer.length, is_interrupted = int(length), bool(asks_to_stop)
            must_stop = is_interrupted or bool(is_late)
            if is_due or must_stop:
                trainer.save()
        return trainer.report(is_interrupted=is_interrupted)


class _Trainer:
    """A run: the state of its seeds on the devices, and all that goes with it."""

    def __init__(
        self,
        task: AnyTask,
        settings: TrainingSettings,
        seeds: Sequence[int],
        directory: pathlib.Path,
        options: RunOptions,
        *,
        identity: dict[str, Any],
        placement: Any,
        progress: Progress,
        should_give_up: Callable[[], bool] | None,
        on_evaluation: EvaluationCallback | None,
    ) -> None:
        self._task, self._settings, self._seeds, self._options = task, settings, seeds, options
        self._directory, self._identity, self._placement = directory, identity, placement
        self._progress, self._should_give_up, self._on_evaluation = progress, should_give_up, on_evaluation
        self._checkpoints = Checkpoints(directory / CHECKPOINTS, options.keep)
        self._batches = jax.device_get(held_out(task, settings))
        self._buckets = [placement.replicate(bucket) for bucket in getattr(task, "buckets", (None,))]
        self._compiled: set[int] = set()  # The buckets that were trained on.
        self._log: Log | None = None
        self._saving_seconds = 0.0
        self._metrics: dict[str, np.ndarray] = {}
        self.update = 0
        self.length = 1  # Of the next chunk.

    def begin(self, start: float) -> None:
        """Starts, or goes on from the newest checkpoint; `start` is the time when the call began."""
        self._start = start
        if self._checkpoints.updates():
            self._resume()
        else:
            self._state = self._compile(
                "the first evaluation", lambda: self._evaluate(self._placement.init(self._seeds))
            )
            self._log = Log(self._directory, self._seeds, self._options.tensorboard)
            self._record({})
        if max_over_processes((self.update, -self.update)) != [self.update, -self.update]:
            raise RestoreError(
                f"other processes do not find update {self.update} in {self._checkpoints.directory}; "
                "do all of them see it?"
            )
        self._saved_update, self._last_save = self.update, time.monotonic()
        self._progress.begin(self.update)

    def _resume(self) -> None:
        shapes = self._placement.shapes(len(self._seeds))
        saved = self._checkpoints.load(shapes, self._identity, set_aside=True)
        self._start -= saved.seconds
        self.update = int(saved.state.update[0])
        self._state = self._placement.spread(saved.state)
        self._log = Log(self._directory, self._seeds, self._options.tensorboard, self.update)
        is_finished = self.update >= self._settings.num_updates
        self._progress.say(f"{'ended' if is_finished else 'going on'} after update {self.update}")
        # Compiled now, while everything is saved: where an evaluation is due, nothing can be saved before it was made.
        evaluated = self._compile("an evaluation", lambda: self._placement.evaluate(self._state, self._batches))
        if is_finished:
            self._metrics = self._placement.collect(evaluated)

    def train_chunk(self) -> None:
        """Makes some updates, and evaluates if it is time to."""
        began = time.monotonic()
        num_updates, evaluate_every = self._settings.num_updates, self._settings.evaluate_every
        # Evaluations and checkpoints stand at the multiples of their intervals, wherever a run was interrupted.
        intervals = (evaluate_every, self._options.save_updates or num_updates)
        room = min(num_updates - self.update, *(interval - self.update % interval for interval in intervals))
        drawn = draw_buckets(self._task, self.update, min(self.length, room), self._compiled)
        length = sum(count for _, count in drawn)
        bad = []
        # Each call computes on one shape, and tells the means since the last evaluation and its own bad updates.
        for bucket, count in drawn:
            measured, bad_updates = self._train_on(bucket, count)
            bad.append(bad_updates)
        bad_updates = functools.reduce(
            lambda first, later: np.where(first < 0, later, first), map(self._placement.collect, bad)
        )
        if self._options.on_nonfinite == "stop" and (bad_updates >= 0).any():
            raise NonFiniteError(_describe_nonfinite(self._seeds, bad_updates, self._checkpoints))
        self.update += length
        self._progress.advance(self.update)
        seconds = time.monotonic() - began
        if seconds > _CHUNK_SECONDS:
            self.length = max(1, length // 2)
        elif length == self.length and seconds < _CHUNK_SECONDS / 2:
            self.length *= 2
        if self.update % evaluate_every == 0 or self.update == num_updates:
            self._state = self._evaluate(self._state)
            self._record(self._placement.collect(measured))

    def _train_on(self, bucket: int, count: int) -> tuple[Any, Any]:
        def train() -> Any:
            return self._placement.train_chunk(self._state, count, self._buckets[bucket])

        if bucket in self._compiled:
            self._state, measured, bad_updates = train()
        else:
            if self._should_give_up is not None and self.update > self._saved_update:
                self.save()
            shape = f", bucket {bucket + 1} of {len(self._buckets)}" if len(self._buckets) > 1 else ""
            self._state, measured, bad_updates = self._compile(f"an update{shape}", train)
            self._compiled.add(bucket)
        return measured, bad_updates

    def _evaluate(self, state: Any) -> Any:
        evaluated = self._placement.evaluate(state, self._batches)
        self._metrics = self._placement.collect(evaluated)
        return self._placement.record_evaluation(state, evaluated)

    def _record(self, measured: Mapping[str, np.ndarray]) -> None:
        """Tells of an evaluation."""
        metrics = {f"train_{name}": values for name, values in measured.items()}
        metrics |= {f"eval_{name}": values for name, values in self._metrics.items()}
        assert self._log is not None  # Since `begin`.
        self._log.write(self.update, metrics, time.monotonic() - self._start)
        self._progress.evaluated(float(np.mean(self._metrics[self._task.headline])))
        if self._on_evaluation is not None and jax.process_index() == 0:
            self._on_evaluation(self.update, metrics)

    def _compile(self, what: str, function: Callable[[], Any]) -> Any:
        with self._progress.compiling(f"{what} for {len(self._seeds)} seed{'s' * (len(self._seeds) > 1)}"):
            return call_stoppable(lambda: jax.block_until_ready(function()), self._should_give_up)

    def is_save_due(self) -> bool:
        """Whether it is time for a checkpoint."""
        is_old = time.monotonic() - self._last_save >= 60 * self._options.save_minutes
        interval = self._options.save_updates or self._settings.num_updates
        return is_old or self.update == self._settings.num_updates or self.update % interval == 0

    def save(self) -> None:
        """Saves a checkpoint."""
        began = time.monotonic()
        self._checkpoints.save(self.update, self._placement.collect(self._state), began - self._start, self._identity)
        self._last_save, self._saved_update = time.monotonic(), self.update
        self._saving_seconds += self._last_save - began

    def report(self, *, is_interrupted: bool) -> Report:
        """How the run ended."""
        state, is_finished = self._placement.collect(self._state), self.update >= self._settings.num_updates
        return Report(state, self.update, self._metrics, is_finished, is_interrupted, self._saving_seconds)

    def close(self) -> None:
        """Closes the files."""
        if self._log is not None:
            self._log.close()
        self._progress.close()


def draw_buckets(task: AnyTask, update: int, length: int, known: Collection[int]) -> list[tuple[int, int]]:
    """The buckets of the next updates, and how many updates in a row each is used for.

    Args:
      task: any; one without buckets is taken to have a single one.
      update: the first of the updates.
      length: how many there may be.
      known: the buckets that were trained on. Any other one begins a chunk: the state before it can then be saved.
    """
    if not is_bucketed(task):
        return [(0, length)]
    drawn = task.draw_buckets(range(update, update + length)).tolist()
    new = (i for i, bucket in enumerate(drawn) if bucket not in known and bucket != drawn[0])
    return [(bucket, len(list(group))) for bucket, group in itertools.groupby(drawn[: next(new, length)])]


def _describe_nonfinite(seeds: Sequence[int], bad_updates: np.ndarray, checkpoints: Checkpoints) -> str:
    where = ", ".join(f"seed {seed} at update {bad}" for seed, bad in zip(seeds, bad_updates, strict=True) if bad >= 0)
    saved = checkpoints.latest()
    last = "no checkpoint was saved yet" if saved is None else f"the last good checkpoint is at update {saved}"
    return f"loss, gradient or step not finite: {where}; {last} in {checkpoints.directory}"

"""Reads the files that training wrote.

A working directory holds one directory for each model, with

- `config.json`: the names of the task and the model, the seeds and the whole configuration;
- `metrics.jsonl`: a line for each evaluation and seed;
- `timing.jsonl`: the wall-clock seconds of training up to an update;
- `generalization.jsonl`: a line for each size of the episodes (a number of pairs, or a length) and seed, written at the
  end of training;
- `episode.npz`: what a written memory did in one held-out episode of the first seed;
- `test.json`: wrong answers on the test files, of the bAbI tasks; see `errors`.

All but the first two may be absent, and a training that was killed may have left a line cut off.

Axes: `S` seeds, `E` evaluations, `P` sizes.
"""

import contextlib
import dataclasses
import json
import os
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mnm_jax import tasks
from mnm_jax._files import CONFIG, read_description
from mnm_jax.analysis import style
from mnm_jax.tasks import algorithmic


class LoadError(ValueError):
    """A working directory holds nothing to show, or what it holds does not fit together."""


@contextlib.contextmanager
def open_arrays(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
    """The arrays of a file that an experiment wrote about test episodes.

    Raises:
      LoadError: if it is no such file, or if what is read of it is not there or not as it should be.
    """
    try:
        with np.load(path) as arrays:
            yield arrays
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise LoadError(f"{path} is not what the experiment writes: {error}") from error


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """The training of one model, all its seeds together.

    Attributes:
      directory: where the files are. Its name may differ from the model's, which may hold any character.
      experiment: the name of the task; see `tasks.find_task`.
      headline: the metric that says how good the model is, larger being better: `metrics` has it as `eval_<headline>`.
      model: the name of the model.
      config: the configuration, nested.
      seeds: the `S` seeds.
      updates: `[E]`, the updates at which every seed was evaluated, ascending.
      metrics: each metric by its name, `[S, E]`; NaN where an evaluation has no such metric.
      seconds: the wall-clock time of the training so far, all seeds together; `None` if nobody recorded it.
      sizes: `[P]`, the numbers of pairs, or the lengths, for which every seed was evaluated at the end, ascending; may
        be empty.
      generalization: each metric at these sizes, `[S, P]`.
      episode: the arrays of one held-out episode, `[T, ...]`, if the model has a written memory.
    """

    directory: Path
    experiment: str
    headline: str
    model: str
    config: Mapping[str, Any]
    seeds: tuple[int, ...]
    updates: np.ndarray
    metrics: Mapping[str, np.ndarray]
    seconds: float | None
    sizes: np.ndarray
    generalization: Mapping[str, np.ndarray]
    episode: Mapping[str, np.ndarray] | None

    @property
    def task(self) -> Mapping[str, Any]:
        """The configuration of the task."""
        task: Mapping[str, Any] = self.config["task"]
        return task

    @property
    def num_updates(self) -> int:
        """How many updates were asked for."""
        return int(self.config["training"]["num_updates"])


def load_runs(workdir: str | Path) -> list[Run]:
    """Loads every run in a working directory.

    A line that is not whole JSON, an evaluation that some seed lacks, an unreadable episode and a run without any
    evaluation are left out with a warning that names the file. Of two lines for the same evaluation and seed the later
    one counts: a training that went on from a checkpoint may repeat a few.

    Args:
      workdir: the directory that holds a directory for each model; or the directory of a single one.

    Returns:
      The runs, the library's own models first, in a fixed order.

    Raises:
      LoadError: if the directory does not exist, holds no run, or a `config.json` or a file of JSON lines in it is not
        what training writes, or a file cannot be read.
    """
    workdir = Path(workdir)
    if not os.path.isdir(workdir):  # `Path.is_dir` raises at a name that is too long.
        raise LoadError(f"no directory {workdir}: wanted one that holds MODEL/config.json and MODEL/metrics.jsonl")
    try:
        is_run = (workdir / CONFIG).is_file()
        directories = [workdir] if is_run else [path.parent for path in workdir.glob(f"*/{CONFIG}")]
        runs = [run for run in map(_load_run, directories) if run is not None]
    except OSError as error:  # Whoever writes figures of it meanwhile shall not take it for their own.
        raise LoadError(f"{error.filename or workdir} cannot be read: {error.strerror or error}") from error
    if not runs:
        raise LoadError(
            f"no runs in {workdir}: looked for MODEL/config.json beside a MODEL/metrics.jsonl with an evaluation in it"
        )
    return sorted(runs, key=lambda run: (style.order(run.model), run.directory.name))


def _load_run(directory: Path) -> Run | None:
    try:
        experiment, model, seeds, config = read_description(directory)
    except ValueError as error:
        raise LoadError(str(error)) from None
    try:
        headline = tasks.find_task(experiment).headline
    except ValueError as error:
        raise LoadError(f"{directory / CONFIG}: {error}") from None
    updates, metrics = _tabulate(directory / "metrics.jsonl", "update", seeds)
    if not len(updates):
        _warn(f"{directory}: left out, for its metrics.jsonl has no evaluation of every seed")
        return None
    if f"eval_{headline}" not in metrics:
        raise LoadError(f"{directory / 'metrics.jsonl'}: no eval_{headline}, which {experiment} is judged by")
    seconds = _load_seconds(directory / "timing.jsonl")
    axis = "length" if experiment in algorithmic.TASKS else "num_pairs"
    sizes, generalization = _tabulate(directory / "generalization.jsonl", axis, seeds)
    return Run(
        directory=directory,
        experiment=experiment,
        headline=headline,
        model=model,
        config=config,
        seeds=seeds,
        updates=updates,
        metrics=metrics,
        seconds=seconds,
        sizes=sizes,
        generalization=generalization,
        episode=_load_episode(directory / "episode.npz"),
    )


def _load_seconds(path: Path) -> float | None:
    """The wall-clock time so far; `None` if there is no such file."""
    lines = _read_lines(path, ("seconds",))
    return float(lines[-1]["seconds"]) if lines else None


def _read_lines(path: Path, fields: Iterable[str]) -> list[dict[str, Any]]:
    """The objects in a file of JSON lines, none if there is no such file.

    Raises:
      LoadError: if a line is JSON, but not an object of numbers, or `None`, with numbers in these fields.
    """
    if not path.exists():
        return []
    lines = []
    for number, text in enumerate(path.read_text().splitlines(), start=1):
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            _warn(f"{path}: ignored line {number}, which is cut off or not JSON")
            continue
        is_object = isinstance(line, dict) and all(x is None or isinstance(x, (int, float)) for x in line.values())
        if not is_object or any(line.get(field) is None for field in fields):
            raise LoadError(
                f"{path}: line {number} is not what training writes, numbers by name, {', '.join(fields)} among them"
            )
        lines.append(line)
    return lines


def _tabulate(path: Path, axis: str, seeds: Iterable[int]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Sorts lines into tables.

    Args:
      path: a file of JSON lines, each with the fields `axis` and `seed` and numbers beside them.
      axis: the field that becomes the columns.
      seeds: the seeds, which become the rows.

    Returns:
      The `X` values of `axis` that have a line for every seed, `[X]`, and each other field, `[S, X]`.
    """
    cells = {(line[axis], line["seed"]): line for line in _read_lines(path, (axis, "seed"))}
    columns = sorted({column for column, _ in cells})
    whole = [column for column in columns if all((column, seed) in cells for seed in seeds)]
    if len(whole) < len(columns):
        missing = sorted(set(columns) - set(whole))
        _warn(f"{path}: left out {axis} {', '.join(map(str, missing))}, which not every seed has")
    rows = [[cells[column, seed] for column in whole] for seed in seeds]
    names = {name for row in rows for line in row for name in line} - {axis, "seed"}
    # In JSON, a number that is not finite may be null.
    tables = {name: np.array([[line.get(name) for line in row] for row in rows], float) for name in sorted(names)}
    return np.array(whole, int), tables


def _load_episode(path: Path) -> dict[str, np.ndarray] | None:
    if not path.exists():
        return None
    try:
        with np.load(path) as arrays:
            return dict(arrays)
    except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
        _warn(f"{path}: ignored, for it cannot be read ({error})")
        return None


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=2)

"""Runs that were trained apart, made into the run that their seeds would have been together."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from mnm_jax import _paths
from mnm_jax._files import new_directory, write_whole
from mnm_jax.training.checkpoint import Checkpoints, Saved
from mnm_jax.training.configuration import Configuration, find_run, load_checkpoint
from mnm_jax.training.identity import differences
from mnm_jax.training.log import METRICS, TIMING, Line, to_text, up_to
from mnm_jax.training.loop import CHECKPOINTS


def join(directories: Sequence[str | pathlib.Path], output: str | pathlib.Path) -> None:
    """Writes the run that has the seeds of several, which were trained apart, by one process or machine for each.

    Where each was trained with a single seed, on the same machine, one run with all of them in turn
    (`RunOptions(parallel='in_turn')`) would have left, byte for byte, the same `metrics.jsonl`; and like that run the
    new one can go on. Times are summed up, as if the runs had been made one after the other. Event files and what a
    training program makes of a run, tables for one, are left behind: the program makes the latter of the new run when
    it is told to resume it.

    Args:
      directories: what `load` takes, of a training program: runs that differ in their seeds alone, with the same number
        of updates.
      output: the directory of the new run, made if there is none.

    Raises:
      ValueError: if this is no directory of a training program, if two runs differ in more than their seeds, have the
        same one, or a different number of updates or other evaluations, if one is exported, or if no checkpoint of one
        is whole (a `RestoreError`). The message names the directory.
      OSError: if `output` is not empty, or cannot be written to; nothing is left in it then.
    """
    if not directories:
        raise ValueError("argument 'directories': there is no run to join")
    found, output = [find_run(_paths.expand(directory)) for directory in directories], _paths.expand(output)
    runs = {directory: Configuration.load(directory) for directory in found}
    if len(runs) < len(found):
        raise ValueError(f"a run is named twice: {', '.join(map(str, found))}")
    seeds = tuple(sorted(seed for run in runs.values() for seed in run.seeds))
    joined = dataclasses.replace(runs[found[0]], seeds=seeds)
    for directory, run in runs.items():
        _check_alike(directory, found[0], joined.differences(dataclasses.replace(run, seeds=seeds)))
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"two of {', '.join(map(str, found))} have the same seed; their seeds are {seeds}")

    saved = {directory: _load_whole(directory, run.seeds) for directory, run in runs.items()}
    identity = {**saved[found[0]].identity, "seeds": list(seeds)}
    for directory, one in saved.items():
        _check_alike(directory, found[0], differences(identity, {**one.identity, "seeds": list(seeds)}))
        _check_alike(directory, found[0], differences(_shapes(saved[found[0]]), _shapes(one)))
    updates = {directory: int(one.state["update"][0]) for directory, one in saved.items()}
    update = updates[found[0]]
    if set(updates.values()) != {update}:
        numbers = ", ".join(f"{directory}: {number}" for directory, number in updates.items())
        raise ValueError(f"runs to be joined want the same number of updates; they have {numbers}")
    metrics = _join_metrics({directory: run.seeds for directory, run in runs.items()}, update)
    timing = _join_timing(found, update)

    given = [seed for run in runs.values() for seed in run.seeds]
    order = np.argsort(given)
    arrays = [one.state for one in saved.values()]
    state = {name: np.concatenate([table[name] for table in arrays])[order] for name in arrays[0]}
    with new_directory(output):
        write_whole(output / METRICS, to_text(metrics))
        write_whole(output / TIMING, to_text(timing))
        Checkpoints(output / CHECKPOINTS).save(update, state, sum(one.seconds for one in saved.values()), identity)
        joined.save(output)


def _check_alike(directory: pathlib.Path, first: pathlib.Path, differing: dict[str, tuple[Any, Any]]) -> None:
    """Refuses what differs between the first run and another; `differing` has the first one's values first."""
    if differing:
        values = "; ".join(f"{name} is {one} and {other}" for name, (one, other) in differing.items())
        raise ValueError(f"{first} and {directory} differ in more than their seeds: {values}")


def _shapes(saved: Saved) -> dict[str, str]:
    """What the arrays of each seed are like, by name."""
    return {name: f"{array.dtype}{list(array.shape[1:])}" for name, array in saved.state.items()}


def _load_whole(directory: pathlib.Path, seeds: Sequence[int]) -> Saved:
    """The newest checkpoint of a run that is whole, as a table of arrays."""
    saved = load_checkpoint(directory, None)
    if saved.identity["seeds"] != list(seeds):
        raise ValueError(
            f"{directory} has checkpoints of the seeds {saved.identity['seeds']}, and not of {list(seeds)}"
        )
    if "rng" not in saved.state:
        raise ValueError(f"{directory} was exported: what training goes on from is not in it")
    return saved


def _join_metrics(seeds: dict[pathlib.Path, tuple[int, ...]], update: int) -> list[Line]:
    """The metrics of all runs, evaluation by evaluation, and seed by seed.

    Raises:
      ValueError: if the runs were not evaluated at the same updates, each with all its seeds.
    """
    logs = {directory: _read(directory / METRICS, update) for directory in seeds}
    evaluations = sorted({line["update"] for log in logs.values() for line in log})
    for directory, log in logs.items():
        wanted = [(evaluation, seed) for evaluation in evaluations for seed in seeds[directory]]
        if [(line["update"], line.get("seed")) for line in log] != wanted:
            raise ValueError(f"{directory / METRICS} has not a line for each seed at each of the updates {evaluations}")
    return sorted((line for log in logs.values() for line in log), key=lambda line: (line["update"], line["seed"]))


def _join_timing(directories: Sequence[pathlib.Path], update: int) -> list[Line]:
    """The times of all runs, summed up.

    Raises:
      ValueError: if they are not of the same updates.
    """
    logs = {directory: _read(directory / TIMING, update) for directory in directories}
    evaluations = [line["update"] for line in logs[directories[0]]]
    for directory, log in logs.items():
        if [line["update"] for line in log] != evaluations or not all("seconds" in line for line in log):
            raise ValueError(f"{directory / TIMING} has not the time of each of the updates {evaluations}")
    return [
        {"update": evaluation, "seconds": round(sum(line["seconds"] for line in lines), 3)}
        for evaluation, *lines in zip(evaluations, *logs.values(), strict=True)
    ]


def _read(path: pathlib.Path, update: int) -> list[Line]:
    try:
        return up_to(path, update)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error

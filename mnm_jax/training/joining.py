"""Runs of single seeds, made into the run that they would have been together."""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from mnm_jax import _paths
from mnm_jax._files import write_whole
from mnm_jax.training.checkpoint import Checkpoints, RestoreError, Saved
from mnm_jax.training.configuration import Configuration, find_run
from mnm_jax.training.devices import place
from mnm_jax.training.identity import explain
from mnm_jax.training.log import METRICS, TIMING
from mnm_jax.training.loop import CHECKPOINTS

PyTree = Any


def join(directories: Sequence[str | pathlib.Path], output: str | pathlib.Path) -> None:
    """Writes the run that has the seeds of several, which were trained apart, one process or machine for each.

    On the same machine, one run with their seeds one after the other (`RunOptions(parallel='in_turn')`) would have
    left, byte for byte, the same `metrics.jsonl`, and like that run the new one can go on. Times are summed up, as if
    the runs had been made one after the other. What a training program makes of a run, tables for one, it makes of this
    one when it is told to resume it.

    Args:
      directories: what `load` takes, of a training program: runs that differ in their seeds alone, stopped after the
        same number of updates.
      output: the directory of the new run, made if there is none.

    Raises:
      ValueError: if this is no directory of a training program, if two runs differ in more than their seeds, have the
        same one, or a different number of updates or other evaluations, or if no checkpoint of one is whole (a
        `RestoreError`). The message names the directory.
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
        if differing := joined.differences(dataclasses.replace(run, seeds=seeds)):
            raise ValueError(f"{directory} and {found[0]} differ in more than their seeds: {explain(differing)}")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"two of {', '.join(map(str, found))} have the same seed; their seeds are {seeds}")
    saved = {directory: _newest(directory, run) for directory, run in runs.items()}
    updates = {directory: int(one.state.update[0]) for directory, one in saved.items()}
    if len(set(updates.values())) > 1:
        numbers = ", ".join(f"{directory}: {update}" for directory, update in updates.items())
        raise ValueError(f"runs to be joined want the same number of updates; they have {numbers}")
    update = updates[found[0]]
    logs = {name: _joined_lines(found, name, update) for name in (METRICS, TIMING)}

    given = [seed for run in runs.values() for seed in run.seeds]
    order = np.array([given.index(seed) for seed in seeds])
    state = jax.tree.map(lambda *leaves: np.concatenate(leaves)[order], *(one.state for one in saved.values()))
    seconds = sum(one.seconds for one in saved.values())
    identity = {**saved[found[0]].identity, "seeds": list(seeds)}
    output.mkdir(parents=True, exist_ok=True)
    if any(output.iterdir()):
        raise FileExistsError(f"{output} is not empty")
    try:
        joined.save(output)
        for name, lines in logs.items():
            write_whole(output / name, "".join(json.dumps(line) + "\n" for line in lines))
        Checkpoints(output / CHECKPOINTS).save(update, state, seconds, identity)
    except OSError:
        # Half of a run would only stand in the way of the next attempt.
        for path in output.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise


def _newest(directory: pathlib.Path, run: Configuration) -> Saved:
    """The newest whole checkpoint of a run, all of it."""
    shapes = place(run.task, run.cell(), run.training).shapes(len(run.seeds))
    try:
        return Checkpoints(directory / CHECKPOINTS).load(shapes)
    except OSError as error:
        raise RestoreError(str(error)) from error


def _joined_lines(directories: Sequence[pathlib.Path], name: str, update: int) -> list[dict[str, Any]]:
    """The lines of a log up to an update: those of metrics seed by seed, those of times summed up.

    Raises:
      ValueError: if a log cannot be read, or the runs were not evaluated at the same updates.
    """
    logs = []
    for directory in directories:
        try:
            lines = [json.loads(line) for line in (directory / name).read_text().splitlines()]
        except (OSError, ValueError) as error:
            raise ValueError(f"{directory / name} is not the log of a run: {error}") from error
        logs.append([line for line in lines if line["update"] <= update])
    evaluations = [sorted({line["update"] for line in log}) for log in logs]
    for directory, found in zip(directories, evaluations, strict=True):
        if found != evaluations[0]:
            raise ValueError(f"{directory / name} has other evaluations than {directories[0] / name}")
    if name == TIMING:
        return [
            {"update": lines[0]["update"], "seconds": round(sum(line["seconds"] for line in lines), 3)}
            for lines in zip(*logs, strict=True)
        ]
    return sorted((line for log in logs for line in log), key=lambda line: (line["update"], line["seed"]))

"""Kills trainings again and again, with SIGKILL, and checks that they end as if nothing had happened.

    python -m benchmarks.kills [--experiments=dictionary,babi,maze] [--num_kills=34] [--num_during_save=11]

For each experiment, trains a tiny model twice with the same command, saving at every update: once in one go, once
killed at random moments, some of them while a checkpoint is being written, and resumed each time. Prints how many kills
there were, and whether the final parameters and `metrics.jsonl` are the same, byte for byte; exits with 1 if not. bAbI
is trained on a small archive that is made up.
"""

import gzip
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import jax
import numpy as np
from absl import app, flags, logging

from benchmarks import archives
from mnm_jax import training

_EXPERIMENTS = flags.DEFINE_list("experiments", ["dictionary", "babi", "maze"], "What to train, one after the other.")
_NUM_KILLS = flags.DEFINE_integer("num_kills", 34, "How often to kill each training.", lower_bound=1)
_NUM_DURING_SAVE = flags.DEFINE_integer("num_during_save", 11, "How many kills of each must hit a save.", lower_bound=0)
_MOMENTS_SEED = flags.DEFINE_integer("moments_seed", 0, "Seed of the moments of the kills.")

_ROOT = pathlib.Path(__file__).parents[1]
_LIFE_SECONDS = 3600  # No life of a training takes so long, on a machine with much else to do either.
# What makes the trainings small; `tiny` is, but for what is said here.
_FLAGS = {
    # With a single source word there is nothing to compile for larger dictionaries.
    "dictionary": (
        *("--config.task.num_pairs=1", "--config.task.source_alphabet_size=1", "--config.task.target_alphabet_size=2"),
        *("--config.model.controller_size=4", "--config.model.memory_size=3", "--config.training.batch_size=2"),
        *("--config.training.evaluate_every=3", "--config.training.evaluation_episodes=4"),
    ),
    "babi": ("--config.training.evaluate_every=3",),
    "maze": ("--config.training.evaluate_every=3",),
}


def command(experiment: str, workdir: pathlib.Path, num_updates: int) -> list[str]:
    """The training: the same for both runs."""
    return [
        *(sys.executable, "-m", f"experiments.{experiment}", f"--workdir={workdir}", "--resume", "--config=tiny"),
        *("--models=mnm_p", "--num_seeds=2", "--save_updates=1", f"--config.training.num_updates={num_updates}"),
        *_FLAGS[experiment],
    ]


def start(experiment: str, workdir: pathlib.Path, num_updates: int) -> subprocess.Popen[bytes]:
    """Starts or resumes the training. Compiled programs are kept, so that a life is mostly training and saving."""
    archive = workdir.parent / "archive.tar.gz"
    if not archive.exists():
        archive.write_bytes(gzip.compress(archives.pack(archives.make_contents())))
    environment = os.environ | {
        "PYTHONPATH": str(_ROOT),
        "BABI_ARCHIVE": str(archive),
        "JAX_COMPILATION_CACHE_DIR": str(workdir.parent / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # Compiling is most of the time.
    }
    with (workdir.parent / f"{workdir.name}.log").open("a") as log:
        return subprocess.Popen(command(experiment, workdir, num_updates), env=environment, stdout=log, stderr=log)


def kill_once(experiment: str, workdir: pathlib.Path, num_updates: int, wait: float, during_save: bool) -> bool:
    """One life of the training: kills it some seconds after its first save, or, from then on, in the next save.

    Returns:
      Whether the kill hit a save.

    Raises:
      RuntimeError: if the training ended by itself.
    """
    checkpoints = training.Checkpoints(workdir / "mnm_p" / training.CHECKPOINTS)
    before, process = checkpoints.latest(), start(experiment, workdir, num_updates)
    end = time.monotonic() + _LIFE_SECONDS
    while checkpoints.latest() == before and process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    time.sleep(wait)
    while during_save and not checkpoints.unfinished() and process.poll() is None and time.monotonic() < end:
        pass
    process.kill()
    if process.wait() != -9:
        raise RuntimeError(f"the training ended with {process.returncode}: {_last_line(workdir)}")
    return bool(checkpoints.unfinished())


def _wait(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a training that ends by itself."""
    try:
        return process.wait(timeout=_LIFE_SECONDS)
    finally:
        process.kill()


def _last_line(workdir: pathlib.Path) -> str:
    """What a training said last."""
    lines = (workdir.parent / f"{workdir.name}.log").read_text(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "it said nothing")


def is_equal(one: pathlib.Path, other: pathlib.Path) -> tuple[bool, bool]:
    """Whether the final parameters, and `metrics.jsonl`, of two runs are the same."""
    parameters = [np.concatenate([leaf.ravel() for leaf in leaves]) for leaves in map(_final_parameters, (one, other))]
    metrics = [(workdir / "mnm_p" / "metrics.jsonl").read_bytes() for workdir in (one, other)]
    return parameters[0].tobytes() == parameters[1].tobytes(), metrics[0] == metrics[1]


def _final_parameters(workdir: pathlib.Path) -> list[np.ndarray]:
    seeds = training.Configuration.load(workdir / "mnm_p").seeds
    return [leaf for seed in seeds for leaf in jax.tree.leaves(training.load(workdir, seed=seed).variables)]


def torture(
    experiment: str, directory: pathlib.Path, num_kills: int, num_during_save: int, seed: int
) -> tuple[int, int, bool, bool]:
    """Runs a training in one go and in pieces.

    Args:
      experiment: what is trained: `'dictionary'`, `'babi'` or `'maze'`.
      directory: where to write.
      num_kills: how often to kill it at least.
      num_during_save: how many kills must hit a save.
      seed: of the moments.

    Returns:
      How many kills there were, how many of them hit a save, and whether parameters and metrics are the same.
    """
    num_updates = 20 * num_kills
    whole, pieces = directory / "whole", directory / "pieces"
    if _wait(start(experiment, whole, num_updates)):
        raise RuntimeError(f"the training failed: {_last_line(whole)}")
    moments = random.Random(seed)
    hits: list[bool] = []
    while len(hits) < num_kills or sum(hits) < num_during_save:
        wait = moments.uniform(0, 0.5)
        hits.append(kill_once(experiment, pieces, num_updates, wait, during_save=sum(hits) < num_during_save))
        latest = training.Checkpoints(pieces / "mnm_p" / training.CHECKPOINTS).latest()
        print(
            f"{experiment}: kill {len(hits)}{' during a save' * hits[-1]}; newest checkpoint: update {latest}",
            flush=True,
        )
    if _wait(start(experiment, pieces, num_updates)):
        raise RuntimeError(f"the training did not resume: {_last_line(pieces)}")
    return len(hits), sum(hits), *is_equal(whole, pieces)


def main(argv: Sequence[str]) -> None:
    """Kills, resumes, compares, and prints."""
    del argv
    logging.set_verbosity(logging.WARNING)  # Orbax tells dozens of lines for each checkpoint.
    if unknown := set(_EXPERIMENTS.value) - set(_FLAGS):
        raise app.UsageError(f"--experiments: {', '.join(sorted(unknown))} unknown; choose from {', '.join(_FLAGS)}")
    is_same = True
    for experiment in _EXPERIMENTS.value:
        with tempfile.TemporaryDirectory() as directory:
            num_kills, num_during_save, same_parameters, same_metrics = torture(
                experiment, pathlib.Path(directory), _NUM_KILLS.value, _NUM_DURING_SAVE.value, _MOMENTS_SEED.value
            )
        print(f"{experiment}: {num_kills} kills, {num_during_save} of them during a save")
        print(f"final parameters: {'the same' if same_parameters else 'DIFFERENT'}")
        print(f"metrics.jsonl: {'the same' if same_metrics else 'DIFFERENT'}", flush=True)
        is_same &= same_parameters and same_metrics
    sys.exit(not is_same)


if __name__ == "__main__":
    app.run(main)

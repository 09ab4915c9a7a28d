"""Trains under what the environment sets of JAX: whole, and cut and resumed. See `test_settings_of_jax.py`."""

import pathlib
import sys

import jax
import numpy as np
from mixing import Mixing
from recall import SETTINGS, TASK, assert_equal

from mnm_jax import training
from mnm_jax.tasks import MazeTask

jax.config.update("jax_disable_most_optimizations", True)


def main(directory):
    for task in (TASK, MazeTask(size=5, episode_length=4)):
        cell = Mixing(task.output_size)
        name = type(task).__name__
        whole = training.run(task, cell, SETTINGS, (0, 1), directory / name / "whole")
        training.run(task, cell, SETTINGS, (0, 1), directory / name / "cut", max_seconds=0)
        cut = training.run(task, cell, SETTINGS, (0, 1), directory / name / "cut")
        assert_equal(cut.state, whole.state)
        one, other = ((directory / name / run / "metrics.jsonl").read_bytes() for run in ("whole", "cut"))
        assert one == other
        loaded = training.load(directory / name / "cut", task=task, cell=cell, seed=1)
        assert_equal(loaded.variables, jax.tree.map(lambda leaf: leaf[1], whole.state.variables))
        assert len(set(np.ravel(whole.state.params["input"]["kernel"]))) > 1
    print(whole.state.rng.shape)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))

"""Training on a task of one's own, which lies in a module beside the run."""

import json
import re

import jax
import pytest
from test_command_line import run_all

import mnm_jax as mnm
from mnm_jax import training

MODULE = """
import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from typing import NamedTuple


class Example(NamedTuple):
    inputs: jax.Array


@dataclasses.dataclass(frozen=True)
class Delay:
    size: int
    shape: tuple[int, ...] = (3,)
    scale: float | None = None

    headline: ClassVar[str] = "closeness"
    vocabulary_size: ClassVar[None] = None

    @property
    def output_size(self):
        return self.size

    @property
    def num_steps(self):
        return self.shape[0]

    def sample(self, rng):
        return Example((self.scale or 1.0) * jax.random.normal(rng, (*self.shape, self.size), jnp.float32))

    def loss(self, outputs, example):
        return jnp.mean((outputs[1:] - example.inputs[:-1]) ** 2)

    def metrics(self, outputs, example):
        return {"closeness": -self.loss(outputs, example)}


@dataclasses.dataclass
class Loose:
    size: int = 1


@dataclasses.dataclass(frozen=True)
class Lacking:
    headline: ClassVar[str] = "closeness"
    num_steps: int = 3
"""

TINY = ["--config.model.controller_size=4", "--config.training.batch_size=2", "--config.training.evaluation_episodes=4"]
DELAY = [
    "--task=delay:Delay",
    "--config.task.size=2",
    "--config.task.scale=0.5",
    "--models=lstm",
    "--num_seeds=2",
    *TINY,
]
WRONG = {
    "no task": (["--workdir=new"], "--task=module:Class is missing: the task to train on"),
    "no field": (
        ["--workdir=new", "--task=delay:Delay"],
        "--config.task.size=VALUE is missing: delay:Delay has no default for it",
    ),
    "no such field": (
        ["--workdir=new", "--task=delay:Delay", "--config.task.sise=1"],
        "--config.task.sise: no such key; config.task has scale, shape, size",
    ),
    "no such module": (
        ["--workdir=new", "--task=none:Delay"],
        "task 'none:Delay': cannot be imported: No module named 'none'; .* PYTHONPATH",
    ),
    "not frozen": (
        ["--workdir=new", "--task=delay:Loose"],
        "task 'delay:Loose': wants a class that is a frozen dataclass",
    ),
    "no whole task": (
        ["--workdir=new", "--task=delay:Lacking"],
        "task 'delay:Lacking': lacks loss, metrics, output_size, vocabulary_size, sample or act; "
        "mnm_jax.training.Task says what they are",
    ),
    "no colon": (
        ["--workdir=new", "--task=delay"],
        "unknown task 'delay'; choose from babi, .*, or module:Class for .*",
    ),
    "another task": (
        ["--workdir=run", "--resume", "--task=mnm_jax.tasks:Dictionary"],
        "--task=mnm_jax.tasks:Dictionary is not the task of this configuration, delay:Delay",
    ),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    directory = tmp_path_factory.mktemp("train")
    (directory / "delay.py").write_text(MODULE)
    first, longer, *mistakes = run_all(
        [
            ["--workdir=run", *DELAY, "--config.training.num_updates=1"],
            ["--workdir=run", "--resume", "--config.training.num_updates=2"],
            *(arguments for arguments, _ in WRONG.values()),
        ],
        directory,
        "experiments.train",
        JAX_COMPILATION_CACHE_DIR=str(directory / "compiled"),
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
    )
    return directory, (first, longer), dict(zip(WRONG, mistakes, strict=True))


def test_a_task_of_ones_own_is_trained_and_gone_on_with(trained):
    directory, results, _ = trained
    for code, out, err in results:
        assert code == 0, err
        assert "Delay(size=2, shape=(3,), scale=0.5): episodes of at most 3 steps\n" in out
        assert "| lstm | delay:Delay | closeness |" in re.sub(" +", " ", out)
    lines = [json.loads(line) for line in (directory / "run" / "lstm" / "metrics.jsonl").read_text().splitlines()]
    assert [(line["update"], line["seed"]) for line in lines] == [(u, s) for u in (0, 1, 2) for s in (0, 1)]
    assert {"learning_curves.png", "results.md"} <= {path.name for path in (directory / "run").iterdir()}


def test_it_is_loaded(trained, monkeypatch):
    directory = trained[0]
    monkeypatch.syspath_prepend(directory)
    cell, variables, task, update, _ = training.load(directory / "run", seed=1)
    assert update == 2
    assert (type(task).__name__, task.size, task.shape, task.scale) == ("Delay", 2, (3,), 0.5)
    episode = task.sample(jax.random.key(0))
    assert mnm.unroll(cell, variables, episode.inputs).outputs.shape == (3, 2)


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_one_line(trained, name):
    directory, _, mistakes = trained
    code, out, err = mistakes[name]
    assert (code, out) == (2, "")
    assert re.fullmatch(f"error: {WRONG[name][1]}\n", err), err
    assert not (directory / "new").exists()

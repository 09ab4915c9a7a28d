"""Training under settings of JAX that are not the usual ones."""

import dataclasses
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mixing import Mixing
from recall import BUCKETED, SEEDS, SETTINGS, TASK, assert_equal, build

from mnm_jax import training
from mnm_jax.tasks import Dictionary, MazeTask, MultiQueryRecall, algorithmic

MODELS = ("mnm_p", "feedback_alignment", "titans", "lstm", "salu", "attention", "modul", "ntm", "dnc")
TASKS = (
    MazeTask(size=5, episode_length=4),
    BUCKETED,
    Dictionary(num_pairs=2, source_alphabet_size=2, target_alphabet_size=2),
    algorithmic.AssociativeRecall(num_bits=3, item_length=2, max_items=3),
    MultiQueryRecall(num_pairs=2, num_steps=8),
)

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_a_run_is_made_cut_resumed_and_loaded(tmp_path):
    settings = {"JAX_DEFAULT_PRNG_IMPL": "rbg", "JAX_DEBUG_INFS": "1", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    completed = subprocess.run(
        [sys.executable, str(pathlib.Path(__file__).with_name("settings_program.py")), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parents[2])} | settings,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout.splitlines()[-1] == "(2, 4)"  # Of keys of that generator.


def test_other_random_numbers_are_refused(tmp_path):
    cell = Mixing(TASK.output_size)
    training.run(TASK, cell, SETTINGS, SEEDS, tmp_path, max_seconds=0)
    with jax.default_prng_impl("rbg"):
        with pytest.raises(training.RestoreError, match=r"training: prng_impl was threefry2x32 and is rbg$"):
            training.run(TASK, cell, SETTINGS, SEEDS, tmp_path)
        assert training.load(tmp_path, task=TASK, cell=cell).update == 1


def types(task, cell):
    """The types of all that a run keeps, before and after an update; nothing is compiled."""
    functions = training.make_functions(task, cell, dataclasses.replace(SETTINGS, evaluation_episodes=2))
    state = jax.eval_shape(functions.init, jax.random.key(0))
    bucket = training.Episodes(task, cell, 0.0).any_bucket()
    trained, *_ = jax.eval_shape(functions.train_chunk, state, 1, bucket)
    headline = {task.headline: jnp.zeros((), float)}
    states = state, trained, jax.eval_shape(functions.record_evaluation, trained, headline)
    described = [jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), state) for state in states]
    assert described[0] == described[1] == described[2]
    return described[0]


@pytest.mark.parametrize(
    ("task", "cell"),
    [
        *((TASK, build(name)) for name in MODELS),
        *((task, Mixing(task.output_size)) for task in TASKS),
    ],
    ids=[*MODELS, *(type(task).__name__ for task in TASKS)],
)
def test_what_is_kept_has_the_same_types_with_64_bits(task, cell):
    usual = types(task, cell)
    with jax.enable_x64(True):
        assert types(task, cell) == usual


def test_a_run_goes_on_with_64_bits_and_without(tmp_path):
    cell = Mixing(TASK.output_size)
    whole = training.run(TASK, cell, SETTINGS, SEEDS, tmp_path / "whole")
    training.run(TASK, cell, SETTINGS, SEEDS, tmp_path / "cut", max_seconds=0)
    with jax.enable_x64(True):
        training.run(TASK, cell, SETTINGS, SEEDS, tmp_path / "cut", max_seconds=0)
        with_64_bits = training.run(TASK, cell, SETTINGS, SEEDS, tmp_path / "with")
    cut = training.run(TASK, cell, SETTINGS, SEEDS, tmp_path / "cut")
    for other in (cut, with_64_bits):
        assert other.is_finished
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), other.state.params, whole.state.params
        )
        assert_equal(other.state.rng, whole.state.rng)

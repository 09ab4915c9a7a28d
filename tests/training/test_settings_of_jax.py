"""Training under settings of JAX that are not the usual ones."""

import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from mixing import Mixing
from recall import BUCKETED, SEEDS, SETTINGS, TASK, assert_equal, build

from mnm_jax import training

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.mark.parametrize(
    ("setting", "value", "shape"),
    [("JAX_DEFAULT_PRNG_IMPL", "rbg", "(2, 4)"), ("JAX_DEBUG_INFS", "1", "(2, 2)")],
)
def test_a_run_is_made_cut_resumed_and_loaded(setting, value, shape, tmp_path):
    completed = subprocess.run(
        [sys.executable, str(pathlib.Path(__file__).with_name("settings_program.py")), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parents[2]), setting: value},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout.splitlines()[-1] == shape


def test_other_random_numbers_are_refused(tmp_path):
    cell = Mixing(TASK.output_size)
    training.run(TASK, cell, SETTINGS, SEEDS, tmp_path, max_seconds=0)
    with jax.default_prng_impl("rbg"):
        with pytest.raises(training.RestoreError, match=r"training: prng_impl was threefry2x32 and is rbg$"):
            training.run(TASK, cell, SETTINGS, SEEDS, tmp_path)
        assert training.load(tmp_path, task=TASK, cell=cell).update == 1


def types(task, cell):
    """The types of all that a run keeps, before and after an update; nothing is compiled."""
    functions = training.make_functions(task, cell, SETTINGS)
    state = jax.eval_shape(functions.init, jax.random.key(0))
    bucket = training.Episodes(task, cell, 0.0).any_bucket()
    trained, *_ = jax.eval_shape(functions.train_chunk, state, 1, bucket)
    metrics = jax.eval_shape(functions.evaluate, state.variables, training.held_out(task, SETTINGS))
    states = state, trained, jax.eval_shape(functions.record_evaluation, trained, metrics)
    described = [jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), state) for state in states]
    assert described[0] == described[1] == described[2]
    return described[0]


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("mixing", BUCKETED),
    ],
)
def test_what_is_kept_has_the_same_types_with_64_bits(name, task):
    cell = Mixing(task.output_size) if name == "mixing" else build(name, task)
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

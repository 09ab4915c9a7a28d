"""Training on episodes of several shapes, some of them padded."""

import dataclasses
import itertools
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recall import BUCKETED, SEEDS, SETTINGS, TASK, PaddedExample, assert_equal, build

from mnm_jax import training
from mnm_jax.training import loop

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def functions():
    return training.make_functions(BUCKETED, build("mnm_p", BUCKETED), SETTINGS)


@pytest.fixture(scope="module")
def variables(functions):
    return functions.init(jax.random.key(3)).variables


def test_a_run_cut_anywhere_equals_the_whole_run_byte_for_byte(tmp_path):
    cell = build("mnm_p", BUCKETED)
    whole = training.run(BUCKETED, cell, SETTINGS, SEEDS, tmp_path / "whole")
    for _ in range(2):
        # Three chunks, of 1, 2 and 1 updates at first.
        stops = itertools.chain([False, False], itertools.repeat(True))
        life = training.run(
            BUCKETED, cell, SETTINGS, SEEDS, tmp_path / "cut", should_stop=lambda stops=stops: next(stops)
        )
    assert life.update == whole.update == SETTINGS.num_updates
    assert_equal(life.state, whole.state)
    one, other = ((tmp_path / run / "metrics.jsonl").read_bytes() for run in ("whole", "cut"))
    assert one == other


def test_updates_in_a_row_on_one_bucket_are_one_call_and_a_new_bucket_begins_a_chunk():
    assert loop.draw_buckets(BUCKETED, 0, 6, known={0, 2}) == [(0, 1), (2, 2), (0, 3)]
    assert loop.draw_buckets(BUCKETED, 0, 6, known={0}) == [(0, 1)]
    assert loop.draw_buckets(BUCKETED, 1, 5, known={0}) == [(2, 2), (0, 3)]
    assert loop.draw_buckets(TASK, 0, 6, known=set()) == [(0, 6)]


def test_a_run_that_does_not_wait_for_a_compilation_has_saved_what_it_learned(tmp_path, monkeypatch):
    settings, cell = dataclasses.replace(SETTINGS, batch_size=3), build("lstm", BUCKETED)
    is_evaluated, is_compiling = threading.Event(), threading.Event()
    usual = type(BUCKETED).loss

    def loss(self, outputs, example):
        if is_evaluated.is_set() and example.inputs.shape[0] == 5:
            is_compiling.set()
            time.sleep(1)
        return usual(self, outputs, example)

    def train(name, **arguments):
        return training.run(BUCKETED, cell, settings, (0, 1), tmp_path / name, **arguments)

    with monkeypatch.context() as patch:
        patch.setattr(type(BUCKETED), "loss", loss)
        with pytest.raises(training.CompilationStopped):
            train("cut", should_give_up=is_compiling.is_set, on_evaluation=lambda *_: is_evaluated.set())
    # Update 1 is the first one on the longer episodes.
    assert training.Checkpoints(tmp_path / "cut" / "checkpoints").updates() == [1]
    assert_equal(train("cut").state, train("whole").state)
    one, other = ((tmp_path / run / "metrics.jsonl").read_bytes() for run in ("whole", "cut"))
    assert one == other


def test_a_bad_update_is_told_wherever_in_a_chunk_it_is(tmp_path):
    class Flawed(type(BUCKETED)):
        def loss(self, outputs, example):
            return jnp.where(example.inputs.shape[0] == 5, jnp.nan, super().loss(outputs, example))

    settings = dataclasses.replace(SETTINGS, evaluate_every=100)
    with pytest.raises(training.NonFiniteError, match="seed 0 at update 1, seed 1 at update 1"):
        training.run(Flawed(num_steps=5), build("lstm", BUCKETED), settings, (0, 1), tmp_path)


def test_an_evaluation_is_the_mean_over_all_episodes(functions, variables):
    batches = training.held_out(BUCKETED, SETTINGS)
    assert [len(batch.inputs) for batch in batches] == [2, 6]
    evaluate = jax.jit(functions.evaluate)
    means = evaluate(variables, batches)
    single = [
        evaluate(variables, [jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], batch)])
        for batch in batches
        for i in range(len(batch.inputs))
    ]
    for name, value in means.items():
        np.testing.assert_allclose(value, np.mean([metrics[name] for metrics in single]), rtol=1e-5)


@pytest.mark.parametrize("name", ["mnm_p", "lstm", "attention"])
def test_padding_changes_neither_loss_nor_gradient(name, float64):
    inputs = jnp.array([[1, 3, 2]])
    plain = PaddedExample(inputs, jnp.array([1]), jnp.array([3]))
    padded = plain._replace(inputs=jnp.pad(inputs, ((0, 0), (0, 2))))
    functions = training.make_functions(BUCKETED, build(name, BUCKETED), SETTINGS)
    params = jax.tree.map(lambda leaf: leaf.astype(float), functions.init(jax.random.key(0)).params)

    @jax.jit
    @jax.value_and_grad
    def loss(params, examples):
        metrics = functions.evaluate({"params": params}, [examples])
        return metrics["loss"] + metrics.get("error_after", 0.0)

    (value, gradient), (padded_value, padded_gradient) = loss(params, plain), loss(params, padded)
    np.testing.assert_allclose(padded_value, value, rtol=1e-12)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), padded_gradient, gradient)


def test_a_table_has_room_for_the_shape_and_no_more():
    cell = build("attention", BUCKETED)
    shapes = []

    class Spy(type(cell)):
        def with_room(self, num_steps):
            shapes.append(num_steps)
            return super().with_room(num_steps)

    spy = Spy(**{field.name: getattr(cell, field.name) for field in dataclasses.fields(cell) if field.name != "parent"})
    functions = training.make_functions(BUCKETED, spy, SETTINGS)
    variables = functions.init(jax.random.key(0)).variables
    shapes.clear()
    functions.evaluate(variables, training.held_out(BUCKETED, SETTINGS))
    assert shapes == [3, 5]
    assert cell.with_room(3).max_steps == 3

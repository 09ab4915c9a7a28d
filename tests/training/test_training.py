"""The training loop: reproducible, resumable, the same for a seed alone and among others."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mnm_jax import models, training
from mnm_jax.tasks.dictionary import Dictionary

pytestmark = pytest.mark.usefixtures("quick_compilation")

TASK = Dictionary(num_pairs=2, source_alphabet_size=3, target_alphabet_size=3)
SETTINGS = training.Settings(num_updates=6, batch_size=4, evaluate_every=4, evaluation_episodes=8)
SEEDS = (0, 1, 5)


def build(name):
    return models.build(
        name,
        models.Settings(controller_size=5, memory_size=4, num_layers=2),
        output_size=TASK.output_size,
        vocabulary_size=TASK.vocabulary_size,
        num_steps=TASK.num_steps,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run from the first update to the last, and what it wrote."""
    directory = tmp_path_factory.mktemp("whole")
    return training.run(TASK, build("mnm_p"), SETTINGS, SEEDS, directory), directory


def test_a_run_interrupted_by_its_budget_and_resumed_equals_the_whole_run(whole, tmp_path):
    report, directory = whole
    metrics = (directory / "metrics.jsonl").read_bytes()
    interrupted = training.run(TASK, build("mnm_p"), SETTINGS, SEEDS, tmp_path, max_seconds=0)
    assert report.is_finished
    assert not interrupted.is_finished
    # The same seeds give the same numbers twice: the part is a beginning of the whole, byte for byte.
    part = (tmp_path / "metrics.jsonl").read_bytes()
    assert 0 < len(part) < len(metrics)
    assert metrics.startswith(part)
    # What a kill may leave behind is dropped.
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"update": 99, "seed": 0}\n{"upda')
    resumed = training.run(TASK, build("mnm_p"), SETTINGS, SEEDS, tmp_path)
    assert resumed.is_finished
    assert (tmp_path / "metrics.jsonl").read_bytes() == metrics
    jax.tree.map(np.testing.assert_array_equal, resumed.state.params, report.state.params)
    # A finished run is left as it is.
    again = training.run(TASK, build("mnm_p"), SETTINGS, SEEDS, tmp_path)
    assert (tmp_path / "metrics.jsonl").read_bytes() == metrics
    np.testing.assert_array_equal(again.metrics["loss"], report.metrics["loss"])


def test_the_files_hold_a_line_for_each_evaluation_and_seed(whole):
    _, directory = whole
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert [(line["update"], line["seed"]) for line in lines] == [(u, s) for u in (0, 4, 6) for s in SEEDS]
    assert {"eval_loss", "eval_word_accuracy", "eval_error_before", "eval_error_after"} <= lines[0].keys()
    assert {"train_loss", "train_gradient_norm"} <= lines[-1].keys() - lines[0].keys()
    assert all(np.isfinite(value) for line in lines for value in line.values())
    timing = [json.loads(line) for line in (directory / "timing.jsonl").read_text().splitlines()]
    assert [line["update"] for line in timing] == [0, 4, 6]
    assert sorted(line["seconds"] for line in timing) == [line["seconds"] for line in timing]


def test_a_seed_among_others_equals_the_same_seed_alone(whole, tmp_path):
    report, _ = whole
    alone = training.run(TASK, build("mnm_p"), SETTINGS, SEEDS[1:2], tmp_path).state.params
    among = jax.tree.map(lambda leaf: leaf[1:2], report.state.params)
    difference = optax.tree.norm(jax.tree.map(jnp.subtract, alone, among))
    assert difference <= 1e-5 * optax.tree.norm(among)


def test_chunks_of_any_length_and_equal_cells_share_one_compilation():
    functions = training.compiled(TASK, build("mnm_p"), SETTINGS)
    assert training.compiled(TASK, build("mnm_p"), SETTINGS) is functions
    state = functions.init(jnp.stack([jax.random.key(seed) for seed in SEEDS]))
    state, _ = functions.train_chunk(state, 1)
    num_compiled = functions.train_chunk._cache_size()
    state, _ = functions.train_chunk(state, 3)
    assert functions.train_chunk._cache_size() == num_compiled
    np.testing.assert_array_equal(state.update, [4, 4, 4])


def test_a_chunk_reports_the_means_of_its_updates():
    functions = training.compiled(TASK, build("mnm_p"), SETTINGS)
    keys = jnp.stack([jax.random.key(seed) for seed in SEEDS])
    _, together = functions.train_chunk(functions.init(keys), 2)
    state, first = functions.train_chunk(functions.init(keys), 1)
    _, second = functions.train_chunk(state, 1)
    for name, values in together.items():
        np.testing.assert_allclose(values, (first[name] + second[name]) / 2, rtol=1e-5)


@pytest.mark.parametrize("name", ["mnm_g", "lstm", "salu", "attention"])
def test_every_model_trains(name, tmp_path):
    settings = training.Settings(
        num_updates=2, batch_size=2, evaluate_every=2, evaluation_episodes=4, schedule="cosine"
    )
    report = training.run(TASK, build(name), settings, [0], tmp_path)
    assert np.isfinite(report.metrics["loss"]).all()
    assert ("error_after" in report.metrics) == (name == "mnm_g")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(report.state.params))


def test_the_meta_objective_enters_the_gradient_by_its_weight():
    norms = []
    for weight in (0.0, 1.0):
        settings = training.Settings(num_updates=1, batch_size=2, meta_weight=weight)
        functions = training.make_functions(TASK, build("mnm_p"), settings)
        _, metrics = jax.jit(functions.train_chunk)(functions.init(jax.random.key(0)), 1)
        norms.append(metrics)
    assert norms[0]["loss"] == norms[1]["loss"]
    assert norms[0]["gradient_norm"] != norms[1]["gradient_norm"]


def test_checkpoints_are_named_when_missing(tmp_path):
    checkpoints = training.Checkpoints(tmp_path / "none")
    assert checkpoints.latest() is None
    with pytest.raises(FileNotFoundError, match="none"):
        checkpoints.load(None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_updates": 0}, "num_updates must be a whole number of at least 1, got 0"),
        ({"num_updates": 1, "schedule": "linear"}, "schedule must be one of 'constant', 'cosine', got 'linear'"),
        ({"num_updates": 1, "learning_rate": float("nan")}, "learning_rate must be finite and not negative, got nan"),
    ],
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        training.Settings(**arguments)


def test_a_writing_memory_learns_the_dictionary_in_a_minute(tmp_path):
    """Far below what knowing the words, but not the pairing, would give."""
    task = Dictionary(num_pairs=2, source_alphabet_size=4, target_alphabet_size=4)
    settings = training.Settings(num_updates=300, evaluate_every=150, evaluation_episodes=64)
    model = models.Settings(controller_size=16, memory_size=16, num_layers=2)
    cell = models.build("mnm_p", model, output_size=4, vocabulary_size=task.vocabulary_size, num_steps=task.num_steps)
    report = training.run(task, cell, settings, [0], tmp_path)
    assert report.metrics["loss"] < 0.3
    assert report.metrics["word_accuracy"] > 0.9 > task.levels()["words but not pairing"]["word_accuracy"]

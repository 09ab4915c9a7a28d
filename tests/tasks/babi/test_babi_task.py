"""bAbI as a task to be trained on."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnm_jax import models, tasks, training
from mnm_jax.tasks.babi import VOCABULARY, Babi, take
from mnm_jax.tasks.babi import task as task_lib
from mnm_jax.tasks.babi.stories import sha256
from mnm_jax.training.identity import identify_value

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture
def make_task(archive, tmp_path, monkeypatch):
    """Makes a task of the small archive."""
    monkeypatch.setenv("BABI_ARCHIVE", str(archive))
    monkeypatch.setenv("HOME", str(tmp_path))
    return lambda *numbers, **options: Babi(numbers, archive_sha256=sha256(archive), **options)


def test_a_task_is_a_value_as_a_configuration_file_holds_it():
    task = Babi([5, 2, 5])
    assert task.tasks == (2, 5)
    assert hash(task) == hash(Babi((2, 5)))
    assert Babi([5, 2], emphasized=[7, 5, 2]).emphasized == (2, 5)
    assert Babi([5, 2], exchange_names=True, exchange_except=[7, 5, 2]).exchange_except == (2, 5)
    assert tasks.TASKS["babi"] is Babi


@pytest.mark.parametrize(
    ("emphasized", "given", "emphasis"),
    [
        ((7, 5, 2), (4.0, 0.5, 2), (2.0, 0.5)),
        ((2, 5), (4,), 4.0),
        ((5, 2, 5), np.float32(4), 4.0),
        ((2, 5), (4.0, 4.0), 4.0),
        ((5, 7), (0.5, 4.0), 0.5),  # One is left.
        ((), 3, 3.0),
        ((7,), 3.0, 3.0),
        ((7, 8), (0.5, 4.0), ()),
    ],
)
def test_an_emphasis_has_one_form_in_a_configuration_file_too(emphasized, given, emphasis):
    task = Babi([5, 2], emphasized=emphasized, emphasis=given)
    assert repr(task.emphasis) == repr(emphasis)
    assert set(task.emphasized) == {2, 5}.intersection(emphasized)
    again = Babi(**json.loads(json.dumps(dataclasses.asdict(task))))
    assert again == task
    assert identify_value("task", again) == identify_value("task", task)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ()}, "tasks is empty; choose from 1 to 20"),
        ({"tasks": (21,)}, "tasks must be whole numbers of 1 to 20, got 21"),
        ({"data": "fr"}, "data must be one of 'en', 'en-10k', got 'fr'"),
        ({"layout": "line"}, "layout must be one of 'stream', 'question', 'sentences', got 'line'"),
        ({"exchange_names": True, "exchange_except": (21,)}, "exchange_except must be whole .* 1 to 20, got 21"),
        ({"exchange_except": (16,)}, "exchange_except has no effect without exchange_names"),
        ({"emphasis": 0.0}, "emphasis must be above 0 and finite, got 0.0"),
        (
            {"emphasized": (2, 3), "emphasis": (2.0, 3.0, 4.0)},
            "emphasis must be one number, or one for each of different tasks in emphasized, got 3 numbers for 2, 3",
        ),
        (
            {"emphasized": (2, 2), "emphasis": (2.0, 5.0)},
            "emphasis must be one number, or one for each of different tasks in emphasized, got 2 numbers for 2, 2",
        ),
    ],
)
def test_what_is_not_possible_is_refused(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Babi(**options)


def test_the_data_is_loaded_once(make_task):
    assert make_task(1, 2).loaded is make_task(2, 1).loaded
    assert make_task(1).loaded is not make_task(1, 2).loaded
    assert make_task(1, 2, exchange_names=True, exchange_except=(1,)).loaded is make_task(1, 2).loaded


def test_where_names_are_exchanged_no_question_is_seen(make_task):
    plain, all_of_them, but_one = (
        make_task(1, 2, **options)
        for options in ({}, {"exchange_names": True}, {"exchange_names": True, "exchange_except": (1,)})
    )
    assert plain.is_seen_in_test is plain.loaded.is_seen["test"]
    assert not any(map(np.any, all_of_them.is_seen_in_test))
    for bucket, seen, exempt in zip(
        plain.loaded.test.buckets, plain.is_seen_in_test, but_one.is_seen_in_test, strict=True
    ):
        assert np.array_equal(exempt[bucket.tasks == 1], seen[bucket.tasks == 1])
        assert not exempt[bucket.tasks == 2].any()


@pytest.mark.parametrize("layout", ["stream", "sentences"])
def test_a_model_is_run_without_the_data(make_task, tmp_path, monkeypatch, layout):
    monkeypatch.setattr(task_lib, "_formats", {})
    task = make_task(1, 2, layout=layout)
    task.save(tmp_path)
    task.restore(tmp_path / "none")
    expected, inputs = task.loaded.format, take(task.buckets[0], 0).inputs

    def load(task):
        raise AssertionError

    monkeypatch.setattr(task_lib, "_load", load)
    task.restore(tmp_path)
    assert task.format == expected
    assert (task.vocabulary_size, task.output_size) == tuple(map(len, expected.vocabulary[:2]))
    shapes = jax.tree.map(lambda x: (x.shape[1:], x.dtype), inputs)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), task.first_inputs()) == shapes
    (tmp_path / VOCABULARY).write_text('{"symbols": []}')
    with pytest.raises(ValueError, match=f"{tmp_path / VOCABULARY} is not the vocabulary of a run: KeyError"):
        task.restore(tmp_path)


def test_held_out_episodes_are_as_many_of_each_task_and_none_twice_before_all_once(make_task):
    task = make_task(1, 3, layout="question")
    num_validation = [sum(int(np.sum(bucket.tasks == k)) for bucket in task.loaded.validation.buckets) for k in (1, 3)]
    for num_episodes in (2, 3, 8, 2 * max(num_validation)):
        batches = task.held_out(7, num_episodes)
        drawn = np.concatenate([batch.task for batch in batches])
        assert np.bincount(drawn)[[1, 3]].tolist() == [-(-num_episodes // 2)] * 2
        texts = [
            (task_number, *row[:length].tolist())
            for batch in batches
            for row, length, task_number in zip(*map(np.asarray, (batch.inputs, batch.length, batch.task)), strict=True)
        ]
        if num_episodes // 2 <= min(num_validation):
            assert len(set(texts)) == len(texts)
    again, other = (task.held_out(seed, 4) for seed in (7, 8))
    jax.tree.map(np.testing.assert_array_equal, again, task.held_out(7, 4))
    assert not all(jax.tree.leaves(jax.tree.map(np.array_equal, again, other)) if len(again) == len(other) else [False])


def test_training_draws_from_buckets_that_have_episodes(make_task):
    task = make_task(1, 2)
    drawn = task.draw_buckets(range(50))
    assert all(len(task.buckets[i].lengths) for i in drawn)
    np.testing.assert_array_equal(task.draw_buckets(range(20, 30)), drawn[20:30])
    example = task.sample(jax.random.key(0), task.buckets[drawn[0]])
    assert example.inputs.shape == (task.buckets[drawn[0]].num_steps,)
    assert int(example.task) in (1, 2)
    assert task.num_steps >= max(bucket.num_steps for bucket in task.buckets)


def test_an_answer_counts_where_it_is_due(make_task):
    task = make_task(1)
    bucket = task.buckets[-1]
    example = take(bucket, int(np.argmax(bucket.lengths)))
    right = jax.nn.one_hot(example.targets, task.output_size) * 50
    assert task.metrics(right, example) == {"answer_accuracy": 1.0, "num_tokens": float(example.length)}
    assert task.loss(right, example) < 1e-6
    first = int(jnp.argmax(example.mask))
    wrong = right.at[first].set(jnp.roll(right[first], 1))
    num_questions = int(example.mask.sum())
    np.testing.assert_allclose(
        task.metrics(wrong, example)["answer_accuracy"], (num_questions - 1) / num_questions, rtol=1e-6
    )
    np.testing.assert_allclose(task.loss(wrong, example), 50 / num_questions, rtol=1e-5)


def test_an_episode_is_printed_a_sentence_on_a_line(make_task):
    task = make_task(1)
    examples = [take(bucket, i) for bucket in task.buckets for i in range(len(bucket.lengths))]
    lines = task.describe(min(examples, key=lambda example: int(example.length))).splitlines()
    assert len(lines) >= 2
    assert lines[0].endswith(".")
    assert lines[1].startswith("where is ")
    assert lines[1].partition("? ")[2] in task.loaded.vocabulary.answers


def test_a_step_may_read_a_sentence(make_task):
    task, words = make_task(1, layout="sentences"), make_task(1)
    by_sentences, by_words = (
        {
            t.describe(example): float(
                t.metrics(jnp.zeros((len(example.targets), t.output_size)), example)["num_tokens"]
            )
            for bucket in t.buckets
            for example in (take(bucket, i) for i in range(len(bucket.lengths)))
        }
        for t in (task, words)
    )
    assert by_sentences == by_words
    example = task.sample(jax.random.key(0), task.buckets[task.draw_buckets([0])[0]])
    assert task.symbols(example)[int(jnp.argmax(example.mask))].startswith("where is ")


def test_held_out_is_what_training_evaluates(make_task):
    settings = training.TrainingSettings(num_updates=1, evaluation_episodes=2, evaluation_seed=3)
    task = make_task(1, 2)
    jax.tree.map(np.testing.assert_array_equal, training.held_out(task, settings), task.held_out(3, 2))


@pytest.mark.parametrize("model", ["ntm", "dnc"])
def test_a_memory_of_slots_is_trained(make_task, model):
    task = make_task(1)
    settings = models.ModelSettings(4, 3, num_layers=2)
    sizes = {"output_size": task.output_size, "vocabulary_size": task.vocabulary_size, "num_steps": task.num_steps}
    functions = training.make_functions(
        task, models.build(model, settings, **sizes), training.TrainingSettings(num_updates=1, batch_size=2)
    )
    state = jax.jit(functions.init)(jax.random.key(0))
    (drawn,) = task.draw_buckets([0])
    after, metrics, bad_update = jax.jit(functions.train_chunk)(state, 1, task.buckets[drawn])
    assert bad_update == -1
    assert np.isfinite(metrics["loss"])
    changed = jax.tree.map(lambda old, new: bool((old != new).any()), state.params, after.params)
    assert all(jax.tree.leaves(changed))

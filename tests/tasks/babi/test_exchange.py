"""Names exchanged for one another in the episodes that training draws."""

import dataclasses

import jax
import numpy as np
import pytest

from mnm_jax.tasks.babi import Babi, Question, Story, take
from mnm_jax.tasks.babi.buckets import make_splits
from mnm_jax.tasks.babi.encoding import encode, longest_sentence, make_vocabulary
from mnm_jax.tasks.babi.exchange import GROUPS, exchange, find_names
from mnm_jax.tasks.babi.stories import sha256
from mnm_jax.tasks.babi.systematic import MEN, WOMEN

pytestmark = pytest.mark.usefixtures("quick_compilation")

MOVES = ("mary went to the office .", "john and sandra went to the garden .", "he left the office .")
STORIES = [
    Story(1, MOVES, (Question("where is mary ?", "office", 3, ()), Question("is john there ?", "no", 3, ()))),
    Story(1, ("john went to the kitchen .",), (Question("where is john ?", "kitchen", 1, ()),)),
    Story(5, ("mary gave the milk to sandra .", "john left ."), (Question("who gave the milk ?", "mary", 2, ()),)),
    Story(8, ("mary got the milk .", "mary got the apple ."), (Question("what has mary ?", "milk,apple", 2, ()),)),
    Story(20, ("sumit is tired .", "yann got the milk ."), (Question("where will sumit go ?", "garden", 2, ()),)),
]
VOCABULARY = make_vocabulary(STORIES, [])


@pytest.fixture(scope="module", params=["stream", "sentences"])
def bucket(request):
    """All episodes, in one bucket."""
    episodes = encode(STORIES, VOCABULARY, request.param, longest_sentence(STORIES))
    (bucket,) = make_splits({"train": episodes}, max_padding_share=1.0)["train"].buckets
    return bucket


@pytest.fixture(scope="module")
def exchanged(bucket):
    """For each episode, itself and fifty times with names exchanged."""
    names = find_names(VOCABULARY, [bucket])
    rngs = jax.random.split(jax.random.key(0), 50)
    draw = jax.jit(jax.vmap(lambda rng, example: exchange(rng, example, names), in_axes=(0, None)))
    return [(example, draw(rngs, example)) for example in (take(bucket, i) for i in range(len(bucket.lengths)))]


def symbols_of(example):
    return np.asarray(getattr(example.inputs, "symbols", example.inputs))


def renamings(example, drawn):
    """By which word each word of an episode was replaced, for each draw."""
    before, words = symbols_of(example).ravel(), VOCABULARY.symbols
    for after in symbols_of(drawn).reshape(len(drawn.task), -1):
        assert np.array_equal(after < 0, before < 0)
        pairs = {(words[a], words[b]) for a, b in zip(before, after, strict=True) if a >= 0}
        renamed = dict(pairs)
        assert len(renamed) == len(pairs)  # The same word everywhere
        assert len(set(renamed.values())) == len(renamed)  # and no two that become one.
        yield renamed


def test_an_episode_is_renamed_one_to_one_within_groups(exchanged):
    group_of = {word: i for i, group in enumerate((WOMEN + MEN, *GROUPS)) for word in group}
    for example, drawn in exchanged:
        for renamed in renamings(example, drawn):
            for word, other in renamed.items():
                assert word == other or group_of[word] == group_of[other]


def test_answers_are_renamed_with_the_story_and_nothing_else_changes(exchanged):
    answers = VOCABULARY.answers
    for example, drawn in exchanged:
        for i, renamed in enumerate(renamings(example, drawn)):
            due = [answers[target] for target in example.targets[example.mask]]
            assert [answers[target] for target in drawn.targets[i][example.mask]] == [renamed.get(a, a) for a in due]
            assert np.array_equal(drawn.targets[i][~example.mask], example.targets[~example.mask])
        for name in ("mask", "length", "task"):
            assert all(np.array_equal(x, getattr(example, name)) for x in getattr(drawn, name))


def test_all_names_of_a_task_are_drawn_and_no_other(exchanged, bucket):
    drawn = {int(example.task): {} for example, _ in exchanged}
    for example, others in exchanged:
        for renamed in renamings(example, others):
            for word, other in renamed.items():
                drawn[int(example.task)].setdefault(word, set()).add(other)
    assert drawn[1]["mary"] == {"mary", "sandra"}
    assert drawn[1]["john"] == {"john"}  # The only man, and a pronoun may mean him.
    assert drawn[1]["office"] == {"office", "kitchen"}
    assert drawn[1]["garden"] == {"garden"}  # The only place that no question of the task has as its answer.
    assert drawn[1]["went"] == {"went"}
    # She is an answer of this task, where no pronoun keeps women and men apart, and was none of the other.
    assert (drawn[5]["mary"], drawn[5]["sandra"]) == ({"mary"}, {"sandra", "john"})
    # Objects are parts of answers here, and in the other what is wanted.
    assert {word for word, others in drawn[8].items() if len(others) > 1} == set()
    assert {word for word, others in drawn[20].items() if len(others) > 1} == {"sumit", "yann"}


def test_what_cannot_be_answered_is_not_put_in_the_place_of_an_answer():
    stories = [Story(1, (*MOVES, "mary left the kitchen ."), (Question("where is mary ?", "office", 4, ()),))]
    vocabulary = make_vocabulary(stories, [])
    buckets = make_splits({"train": encode(stories, vocabulary, "stream", 9)})["train"].buckets
    groups = find_names(vocabulary, buckets).groups[1]
    garden, kitchen, office = (vocabulary.symbols.index(word) for word in ("garden", "kitchen", "office"))
    assert groups[garden] == groups[kitchen] != groups[office]


def test_what_is_kept_is_kept_whichever_of_its_group_it_is(bucket, monkeypatch):
    monkeypatch.setattr("mnm_jax.tasks.babi.exchange.KEPT", {1: ("kitchen",)})
    groups = find_names(VOCABULARY, [bucket]).groups[1]
    kitchen, office, mary, sandra = map(VOCABULARY.symbols.index, ("kitchen", "office", "mary", "sandra"))
    assert groups[kitchen] != groups[office]
    assert groups[mary] == groups[sandra]


def test_a_task_can_be_left_as_it_is(bucket):
    chosen, all_of_them = (find_names(VOCABULARY, [bucket], kept).groups for kept in ((1, 5), ()))
    for task in range(len(chosen)):
        expected = np.arange(len(VOCABULARY.symbols)) if task in (1, 5) else all_of_them[task]
        assert np.array_equal(chosen[task], expected)
    assert not np.array_equal(chosen[1], all_of_them[1])


def test_training_draws_them_and_validation_does_not(archive, tmp_path, monkeypatch):
    monkeypatch.setenv("BABI_ARCHIVE", str(archive))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("mnm_jax.tasks.babi.exchange.GROUPS", (("ada", "ben", "cleo", "dan"),))
    task = Babi((1,), "en", archive_sha256=sha256(archive))
    plain, exchanging, exempt = (
        dataclasses.replace(task, **options)
        for options in ({}, {"exchange_names": True}, {"exchange_names": True, "exchange_except": (1,)})
    )
    rngs = jax.random.split(jax.random.key(0), 50)
    texts = [
        {task.describe(task.sample(rng, task.buckets[-1])) for rng in rngs} for task in (plain, exchanging, exempt)
    ]
    assert texts[0] < texts[1]
    assert texts[2] == texts[0]
    for one, other in zip(plain.held_out(0, 4), exchanging.held_out(0, 4), strict=True):
        assert all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(other)))

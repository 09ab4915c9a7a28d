"""The real archive, where `BABI_ARCHIVE` names it: what is in it, and how it fits into few shapes."""

import os
import re

import pytest

from mnm_jax.tasks import babi
from mnm_jax.tasks.babi.buckets import MAX_BUCKETS, MAX_PADDING_SHARE, MAX_PADDING_SHARE_OF_SENTENCES

ARCHIVE = os.environ.get("BABI_ARCHIVE")

pytestmark = pytest.mark.skipif(not ARCHIVE, reason="BABI_ARCHIVE does not name the archive tasks_1-20_v1-2.tar.gz")

# Of the training and the test file of each task of en-10k: stories, questions, different words in statements, questions
# and answers, different answers, the most words of a question with all statements before it, and of a whole story.
COUNTS = {
    1: ((2000, 10000, 19, 6, 61, 73), (200, 1000, 19, 6, 58, 70)),
    2: ((2000, 10000, 33, 6, 358, 374), (200, 1000, 33, 6, 468, 484)),
    3: ((2000, 10000, 34, 6, 1356, 1384), (200, 1000, 34, 6, 1127, 1155)),
    4: ((10000, 10000, 14, 6, 20, 20), (1000, 1000, 14, 6, 20, 20)),
    5: ((2000, 10000, 39, 7, 662, 684), (200, 1000, 39, 7, 494, 513)),
    6: ((2000, 10000, 35, 2, 135, 155), (200, 1000, 35, 2, 77, 97)),
    7: ((2000, 10000, 43, 4, 275, 299), (200, 1000, 43, 4, 185, 209)),
    8: ((2000, 10000, 35, 16, 263, 279), (200, 1000, 35, 12, 304, 320)),
    9: ((2000, 10000, 23, 2, 69, 89), (200, 1000, 23, 2, 68, 88)),
    10: ((2000, 10000, 24, 3, 84, 104), (200, 1000, 24, 3, 79, 99)),
    11: ((2000, 10000, 26, 6, 68, 80), (200, 1000, 26, 6, 69, 81)),
    12: ((2000, 10000, 20, 6, 80, 92), (200, 1000, 20, 6, 79, 91)),
    13: ((2000, 10000, 26, 6, 79, 91), (200, 1000, 26, 6, 77, 89)),
    14: ((2000, 10000, 25, 6, 108, 132), (200, 1000, 25, 6, 105, 129)),
    15: ((2500, 10000, 17, 4, 41, 56), (250, 1000, 17, 4, 41, 56)),
    16: ((10000, 10000, 17, 4, 36, 36), (1000, 1000, 17, 4, 36, 36)),
    17: ((1250, 10000, 18, 2, 33, 110), (125, 1000, 18, 2, 33, 108)),
    18: ((1978, 10000, 18, 2, 158, 213), (199, 1000, 18, 2, 123, 181)),
    19: ((10000, 10000, 23, 12, 45, 45), (1000, 1000, 23, 12, 45, 45)),
    20: ((933, 10000, 35, 7, 63, 125), (93, 1000, 35, 7, 62, 124)),
}

# Of the tasks with many: which percentage of the questions training has too, after the same statements.
SEEN_VALIDATION = {4: 72.6, 17: 17.7, 20: 20.5}
SEEN_TEST = {4: 70.8, 17: 14.4, 20: 20.0}


@pytest.fixture(scope="module")
def archive():
    """The stories of both configurations."""
    return {config: babi.read_archive(ARCHIVE, config) for config in babi.CONFIGS}


def words(text):
    return re.findall("[a-z]+", text.lower())


def count(stories):
    before, whole, vocabulary, answers = 0, 0, set(), set()
    for story in stories:
        lengths = [len(words(statement)) for statement in story.statements]
        questions = [len(words(question.text)) for question in story.questions]
        for question, length in zip(story.questions, questions, strict=True):
            before = max(before, sum(lengths[: question.num_statements]) + length)
            vocabulary.update(words(question.text), words(question.answer))
            answers.add(question.answer.lower())
        for statement in story.statements:
            vocabulary.update(words(statement))
        whole = max(whole, sum(lengths) + sum(questions))
    num_questions = sum(len(story.questions) for story in stories)
    return (len(stories), num_questions, len(vocabulary), len(answers), before, whole)


@pytest.mark.parametrize("task", COUNTS)
def test_every_file_has_the_known_counts(archive, task):
    stories = archive["en-10k"]
    found = tuple(count([story for story in stories[split] if story.task == task]) for split in ("train", "test"))
    assert found == COUNTS[task]


def test_the_small_configuration_has_a_tenth_for_training_and_the_same_test(archive):
    small, large = archive["en"], archive["en-10k"]
    assert small["test"] == large["test"]
    for task in babi.TASK_NAMES:
        assert sum(len(story.questions) for story in small["train"] if story.task == task) == 1000


# A question at a time from the small data: of en-10k there are 200,000, which take long.
@pytest.mark.parametrize(("config", "layout"), [("en", "question"), ("en-10k", "stream"), ("en-10k", "sentences")])
def test_few_shapes_and_little_padding(tmp_path, config, layout):
    unseen = ("football,apple,milk",) if config == "en" else ()
    data = babi.load(config, layout=layout, archive=ARCHIVE, cache_directory=tmp_path)
    assert len(data.vocabulary.symbols) == 2 + 145
    assert len(data.vocabulary.answers) == 60 - 2 * len(unseen)
    assert data.vocabulary.answers[data.vocabulary.num_trained_answers :] == unseen

    num_trained = 20 * (10_000 if config == "en-10k" else 1_000)
    assert data.train.num_questions + data.validation.num_questions == num_trained
    assert abs(data.validation.num_questions / num_trained - 0.1) < 0.001
    assert data.test.num_questions == 20_000
    if config == "en-10k":
        for name, known in (("validation", SEEN_VALIDATION), ("test", SEEN_TEST)):
            entries = data.summary()["splits"][name]["seen_in_training"]
            shares = {entry["task"]: entry["seen"] / entry["questions"] for entry in entries}
            assert {task: round(100 * share, 1) for task, share in shares.items() if share > 0.1} == known

    assert len(data.train.buckets) <= MAX_BUCKETS
    most = MAX_PADDING_SHARE_OF_SENTENCES if layout == "sentences" else MAX_PADDING_SHARE
    for split in (data.train, data.validation, data.test):
        assert split.padding_share <= most
        assert split.drawn_padding_share <= most

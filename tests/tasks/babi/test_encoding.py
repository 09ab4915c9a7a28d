"""From stories to steps: all layouts, symbols and answers."""

import numpy as np
import pytest

from mnm_jax.tasks.babi import NO_ANSWER, Question, Story
from mnm_jax.tasks.babi.encoding import NO_SYMBOL, encode, make_vocabulary

STORIES = [
    Story(
        8,
        ("Ada went up.", "Ben took it.", "Ada left."),
        (Question("Where is Ada?", "Up", 1, (0,)), Question("Who left?", "Ada,Ben", 3, (2,))),
    ),
    Story(9, ("Ben left.",), (Question("Who left?", "Ben", 1, (0,)),)),
]


def read(stories, layout):
    """The episodes as text: task, symbols, and the answers by the steps where they are due."""
    vocabulary = make_vocabulary(stories, stories)
    episodes = encode(stories, vocabulary, layout)
    assert len(episodes.inputs) == len(episodes.targets) == episodes.lengths.sum()
    ends = np.cumsum(episodes.lengths)
    texts = []
    for task, start, end in zip(episodes.tasks, ends - episodes.lengths, ends, strict=True):
        symbols = [vocabulary.symbols[symbol] for symbol in episodes.inputs[start:end]]
        targets = episodes.targets[start:end]
        due = {int(step): vocabulary.answers[targets[step]] for step in np.flatnonzero(targets != NO_ANSWER)}
        texts.append((int(task), " ".join(symbols), due))
    return texts


def test_a_stream_is_a_whole_story_with_its_questions_in_place():
    assert read(STORIES, "stream") == [
        (8, "ada went up . where is ada ? ben took it . ada left . who left ?", {7: "up", 17: "ada,ben"}),
        (9, "ben left . who left ?", {5: "ben"}),
    ]


def test_a_question_comes_after_the_statements_before_it():
    assert read(STORIES, "question") == [
        (8, "ada went up . where is ada ?", {7: "up"}),
        (8, "ada went up . ben took it . ada left . who left ?", {13: "ada,ben"}),
        (9, "ben left . who left ?", {5: "ben"}),
    ]


def test_a_step_of_sentences_reads_a_whole_one():
    vocabulary = make_vocabulary(STORIES, STORIES)
    episodes = encode(STORIES, vocabulary, "sentences")
    assert episodes.inputs.shape == (7, 4)
    texts = [" ".join(vocabulary.symbols[i] for i in row if i != NO_SYMBOL) for row in episodes.inputs]
    assert texts == [
        *("ada went up .", "where is ada ?", "ben took it .", "ada left .", "who left ?"),
        *("ben left .", "who left ?"),
    ]
    assert (np.diff(episodes.inputs == NO_SYMBOL) >= 0).all()
    assert [vocabulary.answers[i] if i != NO_ANSWER else "" for i in episodes.targets] == [
        *("", "up", "", "", "ada,ben"),
        *("", "ben"),
    ]
    assert (episodes.lengths.tolist(), episodes.tasks.tolist()) == ([5, 2], [8, 9])
    assert encode(STORIES, vocabulary, "sentences", width=6).inputs.shape == (7, 6)


def test_the_vocabulary_has_marks_then_words_and_answers_in_order():
    vocabulary = make_vocabulary(STORIES, STORIES[:1])
    assert vocabulary.symbols == (".", "?", "ada", "ben", "is", "it", "left", "took", "up", "went", "where", "who")
    assert vocabulary.answers == ("ada,ben", "ben", "up")
    assert vocabulary.num_trained_answers == 3


def test_an_answer_of_the_test_files_alone_is_a_class_after_the_others():
    vocabulary = make_vocabulary(STORIES[1:], [Story(9, ("Ben left.",), (Question("Who left?", "Ada", 1, (0,)),))])
    assert vocabulary.answers == ("ben", "ada")
    assert vocabulary.num_trained_answers == 1


def test_a_word_of_the_test_files_alone_is_named():
    with pytest.raises(ValueError, match="words that stand in the test files only: ada, is, it, took, up, went, where"):
        make_vocabulary(STORIES[1:], STORIES)

"""Questions that training has too: found whatever stands between the statements, and counted by task."""

import numpy as np
import pytest

from mnm_jax.tasks.babi import Question, Story
from mnm_jax.tasks.babi.buckets import make_splits
from mnm_jax.tasks.babi.encoding import MARKS, encode, make_vocabulary
from mnm_jax.tasks.babi.overlap import count_questions, seen_questions

ADA = Question("Where is Ada?", "up", 1, (0,))
BEN = Question("Where is Ben?", "down", 2, (1,))
BOTH = ("Ada went up.", "Ben went down.")

TRAINED = [Story(1, BOTH, (ADA, BEN)), Story(2, ("Ben went down.",), (Question("Where is Ben?", "down", 1, (0,)),))]
TESTED = [
    Story(1, BOTH, (BEN,)),  # Seen, without the question before it.
    Story(1, BOTH, (Question("Where is Ada?", "up", 2, (0,)),)),  # Not seen after these statements.
    Story(1, BOTH[::-1], (Question("Where is Ben?", "down", 1, (0,)), Question("Where is Ada?", "up", 2, (1,)))),
    Story(2, BOTH, (ADA._replace(answer="down"),)),  # Seen, whatever the answer and the task.
]


@pytest.mark.parametrize("layout", ["stream", "question"])
def test_a_question_is_seen_if_training_has_it_after_the_same_statements(layout):
    vocabulary = make_vocabulary([*TRAINED, *TESTED], [])
    splits = make_splits(
        {name: encode(stories, vocabulary, layout) for name, stories in (("train", TRAINED), ("test", TESTED))}
    )
    marks = [vocabulary.symbols.index(mark) for mark in MARKS]
    train, test = splits["train"].buckets, splits["test"].buckets
    is_seen = seen_questions(test, train, marks)
    assert count_questions(test, is_seen) == {1: (4, 2), 2: (1, 1)}
    assert count_questions(train, seen_questions(train, train, marks)) == {1: (2, 2), 2: (1, 1)}
    for bucket, seen in zip(test, is_seen, strict=True):
        assert seen.shape == bucket.inputs.shape
        assert np.all(bucket.inputs[seen] == vocabulary.symbols.index("?"))

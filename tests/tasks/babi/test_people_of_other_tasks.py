"""Other people in the same stories."""

import pytest

from mnm_jax.tasks.babi import Question, Story
from mnm_jax.tasks.babi.systematic import MEN, WOMEN, rename_people

TRAINING = [
    Story(1, ("Mary went up.", "John left."), (Question("Where is Mary?", "up", 1, (0,)),)),
    Story(14, ("Julie left.", "Bill and Fred left."), (Question("Where is Julie?", "up", 1, (0,)),)),
    Story(5, ("Jeff left.",), (Question("Who left?", "Jeff", 1, (0,)),)),
    Story(4, ("The kitchen is up.",), (Question("What is up?", "kitchen", 1, (0,)),)),
]
TEST = [
    Story(1, ("John went up.", "Mary left.", "She took it."), (Question("Where is John?", "up", 3, (0,)),)),
    *TRAINING[2:],
    *[Story(1, ("John left.",), (Question("Where is John?", "up", 1, (0,)),))] * 20,
]


def test_people_become_others_whom_the_task_does_not_know():
    first, *others = rename_people(TEST, TRAINING)
    (male,) = set(first.statements[0].split()) & set(MEN)
    assert male in ("bill", "fred", "jeff")
    assert first.statements == (f"{male} went up.", "julie left.", "she took it.")
    assert first.questions == (Question(f"where is {male}?", "up", 3, (0,)),)
    # Those whose answers are people are left out, and those that know none.
    assert [story.task for story in others] == [1] * 20
    assert len({story.statements for story in others}) == 3
    assert rename_people(TEST, TRAINING) == [first, *others]


def test_nobody_is_of_both_sexes():
    assert not set(WOMEN) & set(MEN)


def test_too_few_people_are_named():
    with pytest.raises(ValueError, match="task 1: a story knows mary, and other tasks only nobody whom"):
        rename_people(TEST[:1], TRAINING[:1])

"""Test stories about people whom no training story of their task knows: what was learned, names or roles?

After the systematic test of Schlag and Schmidhuber, "Learning to reason with third-order tensor products", NeurIPS 2018
(there sys-bAbI). The exact exchange is this module's own.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence

from mnm_jax.tasks.babi.stories import Question, Story

WOMEN = ("emily", "gertrude", "jessica", "julie", "lily", "mary", "sandra", "winona")
MEN = (
    *("antoine", "bernhard", "bill", "brian", "daniel", "fred", "greg", "jason"),
    *("jeff", "john", "julius", "sumit", "yann"),
)

_WORD = re.compile("[a-z]+")


def rename_people(stories: Sequence[Story], training: Iterable[Story]) -> list[Story]:
    """Renames the people of each story after people of other tasks, known from training, but not in this task.

    All people of a story get other names: different people different ones, women those of women and men those of men,
    for pronouns are left as they are. Which names is drawn for each story by a hash of its place among `stories`. A
    story is left out if its task knows no people, or if they are among its answers, for names of other tasks are none.

    Args:
      stories: test stories.
      training: the training stories of all tasks that were trained together.

    Returns:
      The stories that are left, in the order given, in lower case.

    Raises:
      ValueError: if the other tasks have too few people.
    """
    people: dict[int, set[str]] = {}
    answers = set()
    for story in training:
        people.setdefault(story.task, set()).update(_people(story))
        if any(question.answer.lower() in WOMEN + MEN for question in story.questions):
            answers.add(story.task)
    renamed = []
    for i, story in enumerate(stories):
        own = people.get(story.task, set())
        if not own or story.task in answers:
            continue
        names: dict[str, str] = {}
        for group in (WOMEN, MEN):
            strangers = [
                name for name in group if name not in own and any(name in others for others in people.values())
            ]
            strangers.sort(key=lambda name: hashlib.sha256(f"{story.task} {i} {name}".encode()).digest())
            to_rename = sorted(_people(story) & set(group))
            if len(to_rename) > len(strangers):
                raise ValueError(
                    f"task {story.task}: a story knows {', '.join(to_rename)}, and other tasks only "
                    f"{', '.join(strangers) or 'nobody'} whom this task does not know"
                )
            names.update(zip(to_rename, strangers, strict=False))
        renamed.append(_rename(story, names))
    return renamed


def _people(story: Story) -> set[str]:
    sentences = (*story.statements, *(question.text for question in story.questions))
    return {word for sentence in sentences for word in _WORD.findall(sentence.lower())} & set(WOMEN + MEN)


def _rename(story: Story, names: dict[str, str]) -> Story:
    def rename(sentence: str) -> str:
        return _WORD.sub(lambda word: names.get(word[0], word[0]), sentence.lower())

    questions = tuple(Question(rename(question.text), *question[1:]) for question in story.questions)
    return Story(story.task, tuple(map(rename, story.statements)), questions)

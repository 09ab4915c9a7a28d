"""The stories and questions of the bAbI archive, read and checked line by line.

A file of the archive looks so, with a tab before the answer and before the numbers of the lines that support it:

    1 Mary moved to the bathroom.
    2 John went to the hallway.
    3 Where is Mary?        bathroom        1
    1 Sandra travelled to the office.
    ...

A story begins where the numbers begin again at 1.

Source: Weston et al., "Towards AI-Complete Question Answering: A Set of Prerequisite Toy Tasks", 2015
(arXiv:1502.05698); the data is version 1.2.
"""

import gzip
import hashlib
import os
import pathlib
import re
import tarfile
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from mnm_jax import _checks

TASK_NAMES = {
    1: "single-supporting-fact",
    2: "two-supporting-facts",
    3: "three-supporting-facts",
    4: "two-arg-relations",
    5: "three-arg-relations",
    6: "yes-no-questions",
    7: "counting",
    8: "lists-sets",
    9: "simple-negation",
    10: "indefinite-knowledge",
    11: "basic-coreference",
    12: "conjunction",
    13: "compound-coreference",
    14: "time-reasoning",
    15: "basic-deduction",
    16: "basic-induction",
    17: "positional-reasoning",
    18: "size-reasoning",
    19: "path-finding",
    20: "agents-motivations",
}
CONFIGS = ("en", "en-10k")
SPLITS = ("train", "test")

URL = "http://www.thespermwhale.com/jaseweston/babi/tasks_1-20_v1-2.tar.gz"
# As `checksums.tsv` has it, which also says where it comes from.
OFFICIAL_SHA256 = "0364ebde659f14d11bc21744516c5ec49d3d06cb692733f66680771244998898"

_LINE = re.compile(r"(\d+) (.+)")
_STATEMENT = re.compile(r"[A-Za-z]+( [A-Za-z]+)*\.")
_QUESTION = re.compile(r"[A-Za-z]+( [A-Za-z]+)*\?")
_ANSWER = re.compile(r"[A-Za-z]+(,[A-Za-z]+)*")
_SUPPORT = re.compile(r"\d+( \d+)*")


class ArchiveError(ValueError):
    """Something is wrong with an archive; the message says where, by file and line."""


class Question(NamedTuple):
    """A question of a story.

    Attributes:
      text: the question with its question mark.
      answer: one word, or several joined by commas.
      num_statements: how many statements of the story stand before it.
      supporting_facts: which of these statements the answer follows from, numbered from 0.
    """

    text: str
    answer: str
    num_statements: int
    supporting_facts: tuple[int, ...]


class Story(NamedTuple):
    """A story with its questions.

    Attributes:
      task: 1 to 20.
      statements: sentences with their full stops.
      questions: in order.
    """

    task: int
    statements: tuple[str, ...]
    questions: tuple[Question, ...]


def named_archive(archive: str | os.PathLike[str] | None) -> pathlib.Path | None:
    """The archive given by its path, or else by the environment variable `BABI_ARCHIVE`; `None` if by neither.

    Raises:
      FileNotFoundError: if there is no such file, saying who named it.
    """
    name = "archive"
    if archive is None:
        name, archive = "BABI_ARCHIVE", os.environ.get("BABI_ARCHIVE") or None
    if archive is None:
        return None
    if not os.path.isfile(archive):
        raise FileNotFoundError(f"{name}={os.fspath(archive)}: there is no such file")
    return pathlib.Path(archive)


def sha256(archive: str | os.PathLike[str]) -> str:
    """The SHA-256 of an archive, in hexadecimal digits."""
    with open(archive, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_archive(
    archive: str | os.PathLike[str], config: str, tasks: Sequence[int] = tuple(TASK_NAMES)
) -> dict[str, tuple[Story, ...]]:
    """Reads the stories of some tasks.

    Args:
      archive: path of `tasks_1-20_v1-2.tar.gz`.
      config: `'en'` (1,000 training questions a task) or `'en-10k'` (10,000).
      tasks: which, of 1 to 20.

    Returns:
      The stories of `'train'` and of `'test'`, in the order of `tasks` and of their files.

    Raises:
      ArchiveError: if a file is missing or not as it should be, or the archive is damaged.
      ValueError: if there is no such configuration or task.
    """
    _checks.check_choice("config", config, CONFIGS)
    for task in tasks:
        _checks.check_choice("task", task, tuple(TASK_NAMES))
    members = {
        (split, task): f"tasks_1-20_v1-2/{config}/qa{task}_{TASK_NAMES[task]}_{split}.txt"
        for split in SPLITS
        for task in tasks
    }
    contents = _extract(archive, set(members.values()))
    missing = sorted(set(members.values()) - set(contents))
    if missing:
        raise ArchiveError(f"{os.fspath(archive)} has no file {missing[0]}")
    stories = {}
    for split in SPLITS:
        files = ((task, members[split, task]) for task in tasks)
        stories[split] = tuple(story for task, name in files for story in parse(contents[name], task, name))
    return stories


def _extract(archive: str | os.PathLike[str], names: set[str]) -> dict[str, bytes]:
    """The contents of the named files, as far as they are there, in one pass over the compressed stream."""
    contents = {}
    try:
        with gzip.open(archive) as stream:
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                for member in tar:
                    if member.name in names:
                        contents[member.name] = tar.extractfile(member).read()
            while stream.read(2**20):  # To the end, where the checksum of the whole stands.
                pass
    except (EOFError, gzip.BadGzipFile, tarfile.TarError, zlib.error) as error:
        raise ArchiveError(f"{os.fspath(archive)} is truncated or damaged, or no .tar.gz: {error}") from error
    return contents


def parse(content: bytes, task: int, name: str) -> list[Story]:
    """Reads the stories of one file.

    Args:
      content: of the file.
      task: that it belongs to.
      name: of the file, for messages.

    Returns:
      The stories, in order.

    Raises:
      ArchiveError: at the first line that is not as it should be.
    """
    lines = content.decode("ascii", "replace").splitlines()
    if not lines:
        raise ArchiveError(f"{name} is empty")
    stories = []
    # The statements of the story by the numbers of their lines, and its questions.
    numbers, statements, questions = {}, [], []
    previous_number, previous_is_question = 0, True

    for i, line in enumerate(lines, 1):

        def fail(message: str, i: int = i, line: str = line) -> ArchiveError:
            return ArchiveError(f"{name}, line {i}: {message}: {line!r}")

        match = _LINE.fullmatch(line)
        if not match:
            raise fail("not a number, a blank and a sentence")
        number, (text, *fields) = int(match[1]), match[2].split("\t")
        if number == 1 and previous_is_question and questions:
            stories.append(Story(task, tuple(statements), tuple(questions)))
            numbers, statements, questions = {}, [], []
        elif number != previous_number + 1:
            raise fail(f"number {number} after {previous_number}, and a story ends with a question")
        previous_number, previous_is_question = number, bool(fields)
        if not fields:
            if not _STATEMENT.fullmatch(text):
                raise fail("not a sentence with a full stop, nor a question with its answer")
            numbers[number] = len(statements)
            statements.append(text)
            continue
        # Some files have a blank between question mark and tab.
        text = text.rstrip()
        if not _QUESTION.fullmatch(text):
            raise fail("not a question with a question mark")
        if len(fields) != 2 or not _ANSWER.fullmatch(fields[0]) or not _SUPPORT.fullmatch(fields[1]):
            raise fail("not a question, its answer and its supporting lines, with tabs between them")
        support = [int(number) for number in fields[1].split()]
        if not numbers.keys() >= set(support):
            raise fail("a supporting line that is not a statement before the question")
        questions.append(Question(text, fields[0], len(statements), tuple(numbers[number] for number in support)))

    if not previous_is_question:
        raise ArchiveError(f"{name}, line {len(lines)}: the file ends within a story, before its question")
    stories.append(Story(task, tuple(statements), tuple(questions)))
    return stories

"""The stories and questions of the bAbI archive, read and checked line by line.

A file of the archive looks so, with a tab before the answer and before the numbers of the lines that support it:

    1 Mary moved to the bathroom.
    2 John went to the hallway.
    3 Where is Mary?        bathroom        1
    1 Sandra travelled to the office.
    ...

A story begins where the numbers begin again at 1.

An archive comes from anywhere, so what it may take of time and memory is bounded, and nothing is written.

Source: Weston et al., "Towards AI-Complete Question Answering: A Set of Prerequisite Toy Tasks", 2015
(arXiv:1502.05698); the data is version 1.2.
"""

import gzip
import hashlib
import http.client
import io
import os
import pathlib
import queue
import re
import tarfile
import threading
import time
import urllib.request
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from mnm_jax import _checks, _paths

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

# Seconds without anything arriving after which a download is given up.
_PATIENCE = 15.0
# Seconds after which it is given up although something still arrives: 16 MB, at less than 27 kB a second.
_DEADLINE = 600.0
_CHUNK = 2**20
HOW_TO_NAME = (
    "name a copy of it by the argument archive, by --babi_archive on a command line, or by the environment variable "
    "BABI_ARCHIVE"
)

# Bounds, each several times what the stories take: bytes of one file and of all, files, and digits of a number.
_MAX_FILE = 2**25
_MAX_ARCHIVE = 2**29
_MAX_MEMBERS = 10_000
_TOP = "tasks_1-20_v1-2"

_LINE = re.compile(r"(\d{1,4}) (.+)")
_STATEMENT = re.compile(r"[A-Za-z]+( [A-Za-z]+)*\.")
_QUESTION = re.compile(r"[A-Za-z]+( [A-Za-z]+)*\?")
_ANSWER = re.compile(r"[A-Za-z]+(,[A-Za-z]+)*")
_SUPPORT = re.compile(r"\d{1,4}( \d{1,4})*")


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

    `~` and variables in a path are expanded. It may be a directory into which the archive was extracted.

    Raises:
      FileNotFoundError: if there is nothing of that name, saying who named it.
    """
    name = "archive"
    if archive is None:
        name, archive = "BABI_ARCHIVE", os.environ.get("BABI_ARCHIVE") or None
    if archive is None:
        return None
    path = _paths.expand(archive)
    if not os.path.isfile(path) and not os.path.isdir(path):
        raise FileNotFoundError(f"{name}={os.fspath(archive)}: there is no such file or directory")
    return path


def sha256(archive: str | os.PathLike[str]) -> str:
    """The SHA-256 of an archive, in hexadecimal digits.

    That of a directory is of the names and digests of the stories' files in it, wherever it lies.
    """
    archive = pathlib.Path(archive)
    if not archive.is_dir():
        with archive.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    names = [_member(config, task, split) for config in CONFIGS for task in TASK_NAMES for split in SPLITS]
    contents = _read_directory(archive, names)
    lines = (f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(contents.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _member(config: str, task: int, split: str) -> str:
    """The name of a file in the archive."""
    return f"{_TOP}/{config}/qa{task}_{TASK_NAMES[task]}_{split}.txt"


def download(directory: str | os.PathLike[str]) -> pathlib.Path:
    """Downloads the official archive, unless it is there already.

    It comes by plain HTTP, so it is taken only if its SHA-256 is `OFFICIAL_SHA256`. It is given up when nothing arrives
    for 15 seconds, or when not all of it has arrived after ten minutes.

    Args:
      directory: where to.

    Returns:
      The path of the archive.

    Raises:
      ArchiveError: if it cannot be had, or is not the one that it should be.
      OSError: if the directory cannot be written to.
    """
    path = pathlib.Path(directory) / URL.rpartition("/")[2]
    if os.path.exists(path):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        with new.open("wb") as file:
            for chunk in _fetch(URL):
                file.write(chunk)
        if (found := sha256(new)) != OFFICIAL_SHA256:
            raise ArchiveError(f"what came from {URL} has the SHA-256 {found}, not {OFFICIAL_SHA256}; {HOW_TO_NAME}")
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
    return path


def _fetch(url: str) -> Iterator[bytes]:
    """What is at an address, piece by piece.

    Raises:
      ArchiveError: if it cannot be had, if nothing arrives for `_PATIENCE` seconds, or not all of it in `_DEADLINE`.
    """
    arrived: queue.Queue[bytes | Exception] = queue.Queue(maxsize=8)

    def read() -> None:
        try:
            with urllib.request.urlopen(url, timeout=_PATIENCE) as response:
                while chunk := response.read1(_CHUNK):  # `read` would wait for so much.
                    arrived.put(chunk)
            arrived.put(b"")
        except http.client.HTTPException as error:  # It quotes what arrived, however long.
            arrived.put(ValueError(f"the answer is not as HTTP has it: {type(error).__name__}"))
        except (OSError, ValueError) as error:
            arrived.put(error)

    # In a thread of its own, for the look-up of a name has no time limit.
    threading.Thread(target=read, daemon=True).start()
    size, deadline = 0, time.monotonic() + _DEADLINE
    while True:
        try:
            chunk = arrived.get(timeout=_PATIENCE)
            if chunk and time.monotonic() > deadline:
                chunk = TimeoutError(f"not all of it arrived in {_DEADLINE:g} seconds")
        except queue.Empty:
            chunk = TimeoutError(f"nothing arrived for {_PATIENCE:g} seconds")
        if isinstance(chunk, Exception):
            raise ArchiveError(f"{url} could not be downloaded ({chunk}); {HOW_TO_NAME}") from chunk
        if not chunk:
            return
        size += len(chunk)
        if size > _MAX_ARCHIVE:
            raise ArchiveError(f"{url} gives more than {_MAX_ARCHIVE} bytes; {HOW_TO_NAME}")
        yield chunk


def read_archive(
    archive: str | os.PathLike[str], config: str, tasks: Sequence[int] = tuple(TASK_NAMES)
) -> dict[str, tuple[Story, ...]]:
    """Reads the stories of some tasks.

    Args:
      archive: path of `tasks_1-20_v1-2.tar.gz`, or of the directory into which it was extracted.
      config: `'en'` (1,000 training questions a task) or `'en-10k'` (10,000).
      tasks: which, of 1 to 20.

    Returns:
      The stories of `'train'` and of `'test'`, in the order of `tasks` and of their files.

    Raises:
      ArchiveError: if a file is missing or not as it should be, or the archive is damaged.
      ValueError: if there is no such configuration or task.
    """
    _checks.check_choice("config", config, CONFIGS)
    check_tasks(tasks)
    members = {(split, task): _member(config, task, split) for split in SPLITS for task in tasks}
    names = set(members.values())
    contents = _read_directory(archive, names) if os.path.isdir(archive) else _extract(archive, names)
    missing = sorted(names - set(contents))
    if missing:
        raise ArchiveError(f"{os.fspath(archive)} has no file {missing[0]}")
    stories = {}
    for split in SPLITS:
        files = ((task, members[split, task]) for task in tasks)
        stories[split] = tuple(story for task, name in files for story in parse(contents[name], task, name))
    return stories


def check_tasks(tasks: Sequence[int], name: str = "tasks") -> None:
    """Checks that these are tasks, given as the option `name`.

    Raises:
      ValueError: if there is none, or one is no whole number of 1 to 20, naming it.
    """
    if not len(tasks):
        raise ValueError(f"{name} is empty; choose from 1 to 20")
    for task in tasks:
        if not _checks.is_whole(task) or task not in TASK_NAMES:
            raise ValueError(f"{name} must be whole numbers of 1 to 20, got {task!r}")


class _Reader(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class _Bounded(io.RawIOBase):
    """A stream that gives no more than `_MAX_ARCHIVE` bytes, and says so."""

    def __init__(self, stream: _Reader) -> None:
        super().__init__()
        self._stream = stream
        self._left = _MAX_ARCHIVE

    def read(self, size: int = -1) -> bytes:
        """Reads on; what is asked for is given in parts, so that nobody gets more than there is."""
        content = self._stream.read(_CHUNK if size < 0 else min(size, _CHUNK))
        self._left -= len(content)
        if self._left < 0:
            raise ArchiveError(f"more than {_MAX_ARCHIVE} bytes")
        return content


def _extract(archive: str | os.PathLike[str], names: set[str]) -> dict[str, bytes]:
    """The contents of the named files, as far as they are there, in one pass over the compressed stream."""
    contents = {}
    try:
        with gzip.open(archive) as compressed:
            stream = _Bounded(compressed)
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                for i, member in enumerate(tar):
                    if i == _MAX_MEMBERS:
                        raise ArchiveError(f"more than {_MAX_MEMBERS} files")
                    name = member.name.removeprefix("./")
                    if name in names:
                        contents[name] = _read_member(tar, member)
            while stream.read(_CHUNK):  # To the end, where the checksum of the whole stands.
                pass
    except ArchiveError as error:
        raise ArchiveError(f"{os.fspath(archive)}: {error}") from error
    # A header that was tampered with can make `tarfile` fail in ways of its own.
    except (EOFError, gzip.BadGzipFile, tarfile.TarError, zlib.error, ValueError, LookupError, TypeError) as error:
        raise ArchiveError(f"{os.fspath(archive)} is truncated or damaged, or no .tar.gz: {error}") from error
    return contents


def _read_member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if not member.isfile():
        raise ArchiveError(f"{member.name} is no file")
    if not 0 <= member.size <= _MAX_FILE:
        raise ArchiveError(f"{member.name} has {member.size} bytes, more than {_MAX_FILE}")
    file = tar.extractfile(member)
    assert file is not None  # Only for what is no file.
    content = file.read()
    if len(content) != member.size:
        raise EOFError("the end of the archive stands within a file")
    return content


def _read_directory(directory: str | os.PathLike[str], names: Iterable[str]) -> dict[str, bytes]:
    """The contents of the named files, as far as they are there; the directory is the archive's own or holds it."""
    top, contents = pathlib.Path(directory), {}
    if (top / _TOP).is_dir():
        top /= _TOP
    for name in names:
        path = top / name.removeprefix(f"{_TOP}/")
        if not path.is_file():
            continue
        with path.open("rb") as file:
            contents[name] = file.read(_MAX_FILE + 1)
        if len(contents[name]) > _MAX_FILE:
            raise ArchiveError(f"{path} has more than {_MAX_FILE} bytes")
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
    numbers: dict[int, int] = {}
    statements: list[str] = []
    questions: list[Question] = []
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

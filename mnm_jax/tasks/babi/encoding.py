"""From stories to episodes of numbers, a word or a sentence at a time.

Words are lower-cased; of the punctuation, the full stop and the question mark are symbols of their own. So a reader
knows where a sentence ends, and an answer is due at each question mark. A list of words is one answer: `football,milk`
is a class of its own.

The symbols and classes are those of Schlag, Munkhdalai and Schmidhuber, "Learning associative inference using fast
weight memory", ICLR 2021. There each answer is read after its question; here none is.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from mnm_jax.tasks.babi.stories import Story

LAYOUTS = ("stream", "question", "sentences")
NO_ANSWER = -1
"""The target where no answer is due."""
NO_SYMBOL = -1
"""What fills up a sentence that has fewer symbols than the longest."""

_SYMBOL = re.compile(r"[a-z]+|[.?]")
MARKS = (".", "?")
"""What ends a sentence; the first symbols of every vocabulary."""

# Symbols and answers are kept in 16 bits.
_MAX_KINDS = 2**15 - len(MARKS)


class Vocabulary(NamedTuple):
    """What may be read and answered.

    Attributes:
      symbols: the marks `.` and `?`, then the words of statements and questions, in alphabetical order.
      answers: the answers of the training files, in alphabetical order, then those that only the test files have. The
        latter are classes that no training episode has, so whoever learns from these will get them wrong.
      num_trained_answers: how many of the answers the training files have.
    """

    symbols: tuple[str, ...]
    answers: tuple[str, ...]
    num_trained_answers: int


class Format(NamedTuple):
    """What all episodes have in common: enough to run a model where they are not.

    Attributes:
      vocabulary: what may be read and answered.
      num_steps: the longest episode of any split, `T`.
      sentence_length: how many symbols a step reads, `W`; `None` if it reads just one.
    """

    vocabulary: Vocabulary
    num_steps: int
    sentence_length: int | None


class Episodes(NamedTuple):
    """Episodes of many lengths, one after the other. `N` episodes of `S` steps in all.

    Attributes:
      inputs: `[S]`, the symbol read at each step, or `[S, W]`, the symbols of a sentence, `NO_SYMBOL` after its last.
      targets: `[S]`, the answer due at each step, `NO_ANSWER` where none is.
      lengths: `[N]`, steps of each episode.
      tasks: `[N]`, 1 to 20.
    """

    inputs: np.ndarray
    targets: np.ndarray
    lengths: np.ndarray
    tasks: np.ndarray


def split_symbols(sentence: str) -> list[str]:
    """The words and marks of a sentence."""
    return _SYMBOL.findall(sentence.lower())


def make_vocabulary(training: Iterable[Story], test: Iterable[Story]) -> Vocabulary:
    """Collects the symbols of the training files, and the answers of all files.

    Raises:
      ValueError: if a word of the test files stands in no training file, or there are more words than numbers for them.
    """
    (words, answers), (test_words, test_answers) = map(_words_and_answers, (training, test))
    unseen = sorted(test_words - words)
    if unseen:
        more = f" and {len(unseen) - 20} more" if len(unseen) > 20 else ""
        raise ValueError(f"words that stand in the test files only: {', '.join(unseen[:20])}{more}")
    for kind, found in (("words", words), ("answers", answers | test_answers)):
        if len(found) > _MAX_KINDS:
            raise ValueError(f"{len(found)} different {kind} are more than {_MAX_KINDS}")
    return Vocabulary(
        symbols=(*MARKS, *sorted(words)),
        answers=(*sorted(answers), *sorted(test_answers - answers)),
        num_trained_answers=len(answers),
    )


def _words_and_answers(stories: Iterable[Story]) -> tuple[set[str], set[str]]:
    sentences: set[str] = set()
    answers: set[str] = set()
    for story in stories:
        sentences.update(story.statements)
        sentences.update(question.text for question in story.questions)
        answers.update(question.answer.lower() for question in story.questions)
    return {symbol for sentence in sentences for symbol in split_symbols(sentence)} - set(MARKS), answers


def longest_sentence(stories: Iterable[Story]) -> int:
    """How many symbols the longest statement or question has."""
    return max(
        len(split_symbols(sentence))
        for story in stories
        for sentence in (*story.statements, *(question.text for question in story.questions))
    )


def encode(stories: Sequence[Story], vocabulary: Vocabulary, layout: str, width: int | None = None) -> Episodes:
    """Makes episodes.

    Args:
      stories: what to encode.
      vocabulary: that has all their words and answers.
      layout: `'stream'`: an episode is a whole story with its questions in place; `'question'`: an episode is one
        question after the statements before it, without the questions before it; `'sentences'`: as a stream, but a
        step reads a whole sentence.
      width: of the sentences of the layout `'sentences'`, `W`; `None` for that of the longest.

    Returns:
      The episodes, in the order of the stories and their questions.
    """
    if layout == "sentences":
        return _encode_sentences(stories, vocabulary, longest_sentence(stories) if width is None else width)
    numbers = {symbol: i for i, symbol in enumerate(vocabulary.symbols)}
    classes = {answer: i for i, answer in enumerate(vocabulary.answers)}
    encoded = {}  # Sentences recur, so each is split once.

    def encode_sentence(sentence: str) -> list[int]:
        if sentence not in encoded:
            encoded[sentence] = [numbers[symbol] for symbol in split_symbols(sentence)]
        return encoded[sentence]

    inputs, due_steps, due_answers, ends, tasks = [], [], [], [], []
    for story in stories:
        first, statements = 0, [encode_sentence(statement) for statement in story.statements]
        for question in story.questions:
            for statement in statements[first : question.num_statements]:
                inputs += statement
            inputs += encode_sentence(question.text)
            due_steps.append(len(inputs) - 1)
            due_answers.append(classes[question.answer.lower()])
            if layout == "question":
                ends.append(len(inputs))
                tasks.append(story.task)
            else:
                first = question.num_statements
        if layout == "stream":
            ends.append(len(inputs))
            tasks.append(story.task)
    targets = np.full(len(inputs), NO_ANSWER, np.int16)
    targets[due_steps] = due_answers
    return Episodes(
        np.array(inputs, np.int16), targets, np.diff(ends, prepend=0).astype(np.int32), np.array(tasks, np.int32)
    )


def _encode_sentences(stories: Sequence[Story], vocabulary: Vocabulary, width: int) -> Episodes:
    numbers = {symbol: i for i, symbol in enumerate(vocabulary.symbols)}
    classes = {answer: i for i, answer in enumerate(vocabulary.answers)}
    sentences: list[str] = []
    targets, lengths = [], []
    for story in stories:
        first, start = 0, len(sentences)
        for question in story.questions:
            statements = story.statements[first : question.num_statements]
            sentences += [*statements, question.text]
            targets += [NO_ANSWER] * len(statements) + [classes[question.answer.lower()]]
            first = question.num_statements
        lengths.append(len(sentences) - start)
    encoded = {sentence: [numbers[symbol] for symbol in split_symbols(sentence)] for sentence in set(sentences)}
    rows = {sentence: symbols + [NO_SYMBOL] * (width - len(symbols)) for sentence, symbols in encoded.items()}
    return Episodes(
        np.array([rows[sentence] for sentence in sentences], np.int16),
        np.array(targets, np.int16),
        np.array(lengths, np.int32),
        np.array([story.task for story in stories], np.int32),
    )

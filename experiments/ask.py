"""Tells a trained bAbI model a story, and asks it questions: `python -m experiments.babi --ask=RUN`.

RUN is the directory of one model. The story is read from the file that `--story` names, or else line by line from the
prompt: a sentence on each line, those that end with a question mark are questions. After each, the answer is printed
with its probability, and for a written memory the earlier words whose write keys the read key resembles most. An empty
line begins a new story.

The parameters are those that were best on the validation stories.
"""

import difflib
import functools
import pathlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from absl import flags

from experiments import command_line
from mnm_jax import training
from mnm_jax.analysis import similarity
from mnm_jax.tasks.babi import Babi, Example, Vocabulary
from mnm_jax.tasks.babi.encoding import split_symbols

PyTree = Any

_RUN = flags.DEFINE_string("ask", None, "Directory of a trained model, to ask it questions instead of training one.")
_STORY = flags.DEFINE_string("story", None, "With --ask: a file with story and questions; typed if not given.")
_SEED = flags.DEFINE_integer("seed", None, "With --ask: which seed of the run; the first one if not given.")
_NUM_RESEMBLING = 3
# Stories are padded to multiples of so many steps, so that a few compilations do.
_PADDING = 64


class UnknownWordError(ValueError):
    """A sentence has words that the model never learned; the message says which, and which known ones are near."""


def encode(sentence: str, vocabulary: Vocabulary) -> list[int]:
    """The symbols of a sentence, as the model reads them. A missing full stop is added.

    Raises:
      UnknownWordError: if a word is not in the vocabulary.
    """
    words = split_symbols(sentence)
    if words and words[-1] not in (".", "?"):
        words.append(".")
    numbers = {symbol: i for i, symbol in enumerate(vocabulary.symbols)}
    messages = []
    for word in dict.fromkeys(words):
        if word not in numbers:
            near = difflib.get_close_matches(word, vocabulary.symbols)
            messages.append(f"the word {word!r} is unknown" + (f"; near it: {', '.join(near)}" if near else ""))
    if messages:
        raise UnknownWordError("; ".join(messages))
    return [numbers[word] for word in words]


def ask(loaded: training.Loaded, symbols: Sequence[int]) -> tuple[str, float, list[tuple[int, float]]]:
    """Asks a model the question that a story ends with.

    Args:
      loaded: the model.
      symbols: the story and the question, `T` symbols.

    Returns:
      The answer, its probability, and the earlier steps whose write keys the read key of the last step resembles most,
      each with the cosine similarity, the mean over heads; none for a model without a written memory.
    """
    num_steps = -(-len(symbols) // _PADDING) * _PADDING
    inputs = np.zeros(num_steps, np.int32)
    inputs[: len(symbols)] = symbols
    none = np.zeros(num_steps, np.int32)
    example = Example(inputs, none, none.astype(bool), np.int32(len(symbols)), np.int32(0))
    outputs, trace = _read(loaded.cell, loaded.variables, example)
    probabilities = np.asarray(jax.nn.softmax(outputs[len(symbols) - 1]))
    answer = int(probabilities.argmax())
    resembling = []
    if trace:
        keys = (np.asarray(keys)[: len(symbols)] for keys in (trace.read_keys, trace.write_keys))
        # Without the question mark itself, whose own write tells nothing of the story.
        similarities = similarity.cosine_similarity(*keys, include_same_step=False)[-1, :-1]
        steps = np.argsort(-similarities, kind="stable")[:_NUM_RESEMBLING]
        resembling = [(int(step), float(similarities[step])) for step in steps]
    return loaded.task.loaded.vocabulary.answers[answer], float(probabilities[answer]), resembling


@functools.partial(jax.jit, static_argnums=0)
def _read(cell: nn.Module, variables: PyTree, example: Example) -> tuple[jax.Array, PyTree]:
    return training.unroll_example(cell, variables, example)[1:]


def answer_all(loaded: training.Loaded, lines: Iterable[str]) -> Iterator[str]:
    """Reads a story line by line, and answers.

    Args:
      loaded: the model.
      lines: sentences; one that ends with a question mark is a question, an empty one begins a new story.

    Yields:
      What there is to print: answers, and complaints about sentences that cannot be read, which are left out.
    """
    task: Babi = loaded.task
    story: list[int] = []
    for line in lines:
        if not line.strip():
            story = []
            continue
        try:
            sentence = encode(line, task.loaded.vocabulary)
        except UnknownWordError as error:
            yield f"not read: {error}"
            continue
        symbols = story + sentence
        is_question = task.loaded.vocabulary.symbols[sentence[-1]] == "?" if sentence else False
        # In a stream the questions stand within the story.
        if not is_question or task.layout == "stream":
            story = symbols
        if is_question:
            yield _describe(task, symbols, *ask(loaded, symbols))


def _describe(
    task: Babi, symbols: Sequence[int], answer: str, probability: float, resembling: Sequence[tuple[int, float]]
) -> str:
    words = [task.loaded.vocabulary.symbols[symbol] for symbol in symbols]
    lines = [f"{answer} ({probability:.1%})"]
    for step, value in resembling:
        lines.append(f"  {value:+.2f}  {_in_its_sentence(words, step)}")
    return "\n".join(lines)


def _in_its_sentence(words: Sequence[str], step: int) -> str:
    """The sentence around a step, the word of the step in brackets."""
    ends = [i for i, word in enumerate(words) if word in (".", "?")]
    first = max((end + 1 for end in ends if end < step), default=0)
    last = min((end for end in ends if end >= step), default=len(words) - 1)
    return " ".join(f"[{words[i]}]" if i == step else words[i] for i in range(first, last + 1))


def _prompt() -> Iterator[str]:
    while True:
        try:
            yield input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return


def is_wanted() -> bool:
    """Whether the flags ask for this.

    Raises:
      UsageError: if flags that go with `--ask` are given without it.
    """
    for flag in (_STORY, _SEED):
        if _RUN.value is None and flag.value is not None:
            raise command_line.UsageError(f"--{flag.name} goes with --ask=RUN")
    return _RUN.value is not None


def answer_flags() -> None:
    """Loads the run that `--ask` names, and answers what is asked.

    Raises:
      UsageError: if there is no such run or file, or if the run was not trained on bAbI.
    """
    try:
        lines = _prompt() if _STORY.value is None else pathlib.Path(_STORY.value).read_text().splitlines()
        loaded = training.load(_RUN.value, seed=_SEED.value, best=True)
    except (OSError, ValueError) as error:
        raise command_line.UsageError(error) from error
    if not isinstance(loaded.task, Babi):
        raise command_line.UsageError(f"{_RUN.value} was trained on {loaded.configuration.experiment}, not on bAbI")
    for text in answer_all(loaded, lines):
        print(text, flush=True)

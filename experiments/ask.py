"""Tells a trained bAbI model a story, and asks it questions.

    python -m experiments.ask RUN [--story=FILE] [--seed=SEED]

RUN is the directory of one model, or the name of one that comes with the package, `babi_chained`. The story is read
from the file that `--story` names, or else line by line from the prompt: a sentence on each line, those that end with a
question mark are questions. After each, the answer is printed with its probability, and for a written memory the
earlier words whose write keys the read key resembles most. An empty line begins a new story.

Lines of the data can be pasted as they are, `1 Mary moved to the bathroom.` and `2 Where is Mary?  bathroom  1`: the
numbers are dropped, a story begins where they begin again, and the given answer is shown beside the model's.

The parameters are those that were best on the validation stories.
"""

import contextlib
import difflib
import functools
import io
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import command_line
from mnm_jax import _paths, training
from mnm_jax.analysis import similarity
from mnm_jax.cells import ChainedMNM
from mnm_jax.inputs import Sentence
from mnm_jax.tasks.babi import VOCABULARY, ArchiveError, Babi, Example, Vocabulary
from mnm_jax.tasks.babi.encoding import MARKS, NO_SYMBOL

PyTree = Any

_USAGE = "usage: python -m experiments.ask RUN [--story=FILE] [--seed=SEED]"
STORY = flags.DEFINE_string("story", None, "To be asked: a file with story and questions; typed if not given.")
SEED = flags.DEFINE_integer("seed", None, "To be asked: which seed of the run; the first one if not given.")
_NUM_RESEMBLING = 3
# Stories are padded to this many steps, or twice as many, or four times, so that a few compilations do.
_PADDING = 64
# Who waits for a story as long as this is told so.
_LONG = 2048

_HELLO = """Tell {run} a story, a sentence on each line; what ends with a question mark is a question.
An empty line begins a new story. Ctrl-D ends this."""
# As bAbI's questions begin; a sentence that does, and has no mark, may have lost it.
_QUESTION_WORDS = frozenset(["are", "do", "does", "how", "is", "was", "what", "where", "which", "who", "why", "will"])
_PUNCTUATION = ",;:!\"'()"
_NUMBERED = re.compile(r"\s*(\d+)\s+(.*)", re.DOTALL)
# A question with its answer and the numbers of its supporting lines, with tabs or what became of them between.
_ANSWERED = re.compile(r"([^?\t]*\?)\s+([A-Za-z]+(?:,[A-Za-z]+)*)\s*(?:\s[\d\s]*)?")


class SentenceError(ValueError):
    """A sentence cannot be read; the message says why."""


class Line(NamedTuple):
    """A line of a story.

    Attributes:
      number: that it has in the data; `None` if it has none.
      text: the sentence.
      answer: the one that is given with a question; `None` if none is.
    """

    number: int | None
    text: str
    answer: str | None


def parse_line(line: str) -> Line:
    """Takes number and answer from a line that is as in the data; any other is all text."""
    match = _NUMBERED.fullmatch(line)
    number, text = (int(match[1]), match[2]) if match else (None, line)
    answered = _ANSWERED.fullmatch(text.strip()) if match or "\t" in text else None
    return Line(number, answered[1], answered[2].lower()) if answered else Line(number, text.strip(), None)


def encode(sentence: str, vocabulary: Vocabulary) -> list[int]:
    """The symbols of a sentence, as the model reads them. A missing full stop is added.

    Raises:
      SentenceError: if a word is not in the vocabulary, saying which known ones are near it; if there are only marks;
        or if it seems to be a question without its mark.
    """
    words = [word.strip(_PUNCTUATION) for word in re.findall(r"[^\s.?]+|[.?]", sentence.lower())]
    words = [word for word in words if word]
    if all(word in MARKS for word in words):
        raise SentenceError("a mark alone is no sentence")
    if words[-1] not in MARKS:
        if words[0] in _QUESTION_WORDS:
            raise SentenceError("is it a question? Then end it with a question mark, or else with a full stop")
        words.append(".")
    numbers = {symbol: i for i, symbol in enumerate(vocabulary.symbols)}
    messages = []
    for word in dict.fromkeys(words):
        if word not in numbers:
            near = difflib.get_close_matches(word, vocabulary.symbols)
            # What was no UTF-8 is in escape sequences already; `repr` is for what else a terminal should not be sent.
            shown = repr(word).replace(r"\\", "\\")
            messages.append(f"the word {shown} is unknown" + (f"; near it: {', '.join(near)}" if near else ""))
    if messages:
        raise SentenceError("; ".join(messages))
    return [numbers[word] for word in words]


def ask(loaded: training.Loaded, symbols: Sequence[int]) -> tuple[str, float, list[tuple[int, float]]]:
    """Asks a model the question that a story ends with.

    Args:
      loaded: the model.
      symbols: the story and the question, `T` symbols.

    Returns:
      The answer, its probability, and the earlier steps whose write keys the read key of the last step resembles most,
      each with the cosine similarity, the mean over heads; none for a model without a written memory. Of a model that
      reads in a chain, for each read the one step whose writes its key resembles most.
    """
    steps = _split(loaded.task, symbols)
    num_steps, last = _PADDING, len(steps) - 1
    while num_steps < len(steps):
        num_steps *= 2
    if len(symbols) >= _LONG:
        print(f"Reading {len(symbols):,} words and marks ...", file=sys.stderr, flush=True)
    inputs = np.zeros((num_steps, *steps.shape[1:]), np.int32)
    inputs[: len(steps)] = steps
    none, symbols_read = jnp.zeros(num_steps, jnp.int32), jnp.asarray(inputs)
    read = symbols_read if inputs.ndim == 1 else Sentence(symbols_read)
    example = Example(read, none, none.astype(bool), jnp.int32(len(steps)), jnp.int32(0))
    outputs, trace = _read(loaded.cell, loaded.variables, example)
    probabilities = np.asarray(jax.nn.softmax(outputs[last]))
    answer = int(probabilities.argmax())
    resembling = []
    if isinstance(loaded.cell, ChainedMNM):
        resembling = _follow_chain(np.asarray(trace.read_keys)[last], np.asarray(trace.write_keys)[1 : last + 1])
    elif trace:
        # Without the last step itself, whose own write tells nothing of the story.
        similarities = similarity.resemblance(np.asarray(trace.read_keys)[last], np.asarray(trace.write_keys)[:last])
        nearest = np.argsort(-similarities, kind="stable")[:_NUM_RESEMBLING]
        resembling = [(int(step), float(similarities[step])) for step in nearest]
    return loaded.task.format.vocabulary.answers[answer], float(probabilities[answer]), resembling


def _follow_chain(read_keys: np.ndarray, write_keys: np.ndarray) -> list[tuple[int, float]]:
    """For each read, the step one of whose writes its key resembles most, and the cosine similarity.

    Args:
      read_keys: `[K, key_size]`, of the last step.
      write_keys: `[T - 1, H, key_size]`, of all steps but the first: a step writes what the step before has decided.
    """
    if not len(write_keys):
        return []
    written = write_keys.reshape(-1, 1, write_keys.shape[-1])
    resemblances = [similarity.resemblance(key[None], written) for key in read_keys]
    best = [int(resemblance.argmax()) for resemblance in resemblances]
    return [
        (i // write_keys.shape[1], float(resemblance[i])) for i, resemblance in zip(best, resemblances, strict=True)
    ]


@functools.partial(jax.jit, static_argnums=0)
def _read(cell: nn.Module, variables: PyTree, example: Example) -> tuple[jax.Array, PyTree]:
    return training.unroll_example(cell, variables, example)[1:]


def _split(task: Babi, symbols: Sequence[int]) -> np.ndarray:
    """What the model reads at each step: a symbol, `[T]`, or a sentence, `[T, W]`."""
    if task.format.sentence_length is None:
        return np.array(symbols, np.int32)
    marks = {task.format.vocabulary.symbols.index(mark) for mark in MARKS}
    ends = [i + 1 for i, symbol in enumerate(symbols) if symbol in marks]
    sentences = np.full((len(ends), task.format.sentence_length), NO_SYMBOL, np.int32)
    for row, start, end in zip(sentences, [0, *ends], ends, strict=False):
        row[: end - start] = symbols[start:end]
    return sentences


def answer_all(loaded: training.Loaded, lines: Iterable[str], name: str | None = None) -> Iterator[str]:
    """Reads a story line by line, and answers.

    Args:
      loaded: the model.
      lines: sentences; one that ends with a question mark is a question, an empty one begins a new story. See
        `parse_line` for what else they may have.
      name: of the file that they come from, for complaints; `None` if they were typed.

    Yields:
      What there is to print: answers, and complaints about sentences that cannot be read, which are left out.
    """
    task: Babi = loaded.task
    vocabulary, _, sentence_length = task.format
    story: list[int] = []
    for i, line in enumerate(lines, 1):
        number, text, given = parse_line(line)
        if not text or number == 1:
            story = []
        if not text:
            continue
        try:
            sentence = encode(text, vocabulary)
            if sentence_length is not None and len(sentence) > sentence_length:
                raise SentenceError(
                    f"{len(sentence)} words and marks are more than the {sentence_length} of any it learned"
                )
        except SentenceError as error:
            yield f"not read: {error}" if name is None else f"not read: {name}, line {i}: {error}"
            continue
        symbols = story + sentence
        is_question = vocabulary.symbols[sentence[-1]] == "?"
        # Elsewhere the questions stand within the story.
        if not is_question or task.layout != "question":
            story = symbols
        if is_question:
            yield _describe(task, symbols, *ask(loaded, symbols), given)


def _describe(
    task: Babi,
    symbols: Sequence[int],
    answer: str,
    probability: float,
    resembling: Sequence[tuple[int, float]],
    given: str | None,
) -> str:
    words = [task.format.vocabulary.symbols[symbol] for symbol in symbols]
    beside = "" if given is None else f"; given: {given}, {'the same' if given == answer else 'another'}"
    lines = [f"{answer} ({probability:.1%}){beside}"]
    for step, value in resembling:
        if task.layout == "sentences":
            ends = [i for i, word in enumerate(words) if word in MARKS]
            shown = " ".join(words[ends[step - 1] + 1 if step else 0 : ends[step] + 1])
        else:
            shown = _in_its_sentence(words, step)
        lines.append(f"  {value:+.2f}  {shown}")
    return "\n".join(lines)


def _in_its_sentence(words: Sequence[str], step: int) -> str:
    """The sentence around a step, the word of the step in brackets."""
    ends = [i for i, word in enumerate(words) if word in (".", "?")]
    first = max((end + 1 for end in ends if end < step), default=0)
    last = min((end for end in ends if end >= step), default=len(words) - 1)
    return " ".join(f"[{words[i]}]" if i == step else words[i] for i in range(first, last + 1))


def _prompt(run: str) -> Iterator[str]:
    """The lines that are typed, or come from elsewhere; they can be edited at a terminal."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="backslashreplace")
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        print(_HELLO.format(run=run), flush=True)
        with contextlib.suppress(ImportError):  # Not every system has it.
            import readline  # noqa: F401
    while True:
        try:
            yield input("> " if is_terminal else "")
        except EOFError:
            if is_terminal:
                print()
            return


def _read_file(name: str) -> list[str]:
    """The lines of a file; what is not UTF-8 becomes escape sequences, so that its words can be shown.

    Raises:
      OSError: if it cannot be read.
      UsageError: if it is no text.
    """
    content = _paths.expand(name).read_bytes()
    if b"\0" in content:
        raise command_line.UsageError(f"--story={name} is no text in UTF-8")
    return content.decode("utf-8-sig", "backslashreplace").splitlines()


def answer(run: str) -> None:
    """Loads a run, and answers what is asked, as the flags say.

    Args:
      run: see `training.load`.

    Raises:
      UsageError: if there is no such run or file, or if the run was not trained on bAbI.
    """
    loaded, lines = _load(run)
    for text in answer_all(loaded, lines, STORY.value):
        print(text, flush=True)


def _load(run: str) -> tuple[training.Loaded, Iterable[str]]:
    """The model, and the lines that the flags name."""
    try:
        lines = _prompt(run) if STORY.value is None else _read_file(STORY.value)
        loaded = training.load(run, seed=SEED.value, best=True)
    except ArchiveError as error:
        raise command_line.UsageError(f"{run} holds no {VOCABULARY}, so the archive is needed: {error}") from error
    except (OSError, ValueError) as error:
        raise command_line.UsageError(error) from error
    if not isinstance(loaded.task, Babi):
        trained_on = type(loaded.task).__name__ if loaded.configuration is None else loaded.configuration.experiment
        raise command_line.UsageError(f"{run} was trained on {trained_on}, not on bAbI")
    return loaded, lines


def main(argv: Sequence[str]) -> None:
    """Answers what the run on the command line is asked."""
    if len(argv) != 2:
        raise command_line.UsageError(_USAGE)
    answer(argv[1])


def run() -> None:
    """Runs the program."""
    command_line.run(main, document=__doc__, takes_arguments=True)


if __name__ == "__main__":
    run()

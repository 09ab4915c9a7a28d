"""bAbI as a task to be trained on."""

import dataclasses
import functools
import json
import math
import pathlib
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mnm_jax import _checks, objectives
from mnm_jax._files import write_whole
from mnm_jax.inputs import Sentence
from mnm_jax.tasks.babi import buckets as buckets_lib
from mnm_jax.tasks.babi import data as data_lib
from mnm_jax.tasks.babi import stories
from mnm_jax.tasks.babi.buckets import Bucket, Example, Split
from mnm_jax.tasks.babi.data import Data
from mnm_jax.tasks.babi.encoding import LAYOUTS, NO_SYMBOL, Format, Vocabulary
from mnm_jax.tasks.babi.exchange import Names, exchange, find_names
from mnm_jax.tasks.babi.stories import CONFIGS, OFFICIAL_SHA256, TASK_NAMES

VOCABULARY = "vocabulary.json"
"""The file of a run that `Babi.save` writes."""

# The order of the buckets is that of no seed: seeds that are trained side by side share it.
_BUCKET_SEED = 0


@dataclasses.dataclass(frozen=True)
class Babi:
    """The tasks, one or several of them trained together: a `training.PortableTask`.

    The data is loaded when it is first needed, once in a process for all equal tasks; see `load`, also for what that
    raises. `BABI_ARCHIVE` names the archive. To run a trained model it is not needed.

    Attributes:
      tasks: which of 1 to 20; kept in ascending order.
      data: `'en'` or `'en-10k'`.
      layout: `'stream'`, `'question'` or `'sentences'`, see `load`.
      emphasized: tasks that training draws more often than the others, or less; kept in ascending order, without those
        that are not among `tasks`.
      emphasis: how many times as often; a number for each of `emphasized`, or one for all.
      exchange_names: whether what people, places and things are called is drawn anew for each episode of training; see
        `exchange`. Validation and test are as they are.
      exchange_except: tasks that `exchange_names` leaves as they are; kept in ascending order, without those that are
        not among `tasks`.
      validation_seed: chooses the training stories that are held out for validation.
      archive_sha256: of the archive that it is made from.
    """

    tasks: tuple[int, ...] = tuple(TASK_NAMES)
    data: str = "en-10k"
    layout: str = "stream"
    emphasized: tuple[int, ...] = ()
    emphasis: float | tuple[float, ...] = 3.0
    exchange_names: bool = False
    exchange_except: tuple[int, ...] = ()
    validation_seed: int = 0
    archive_sha256: str = OFFICIAL_SHA256

    headline: ClassVar[str] = "answer_accuracy"

    def __post_init__(self) -> None:
        _checks.check_choice("data", self.data, CONFIGS)
        _checks.check_choice("layout", self.layout, LAYOUTS)
        stories.check_tasks(self.tasks)
        if self.exchange_except:
            stories.check_tasks(self.exchange_except, "exchange_except")
            if not self.exchange_names:
                raise ValueError("exchange_except has no effect without exchange_names")
        # A configuration file has lists, which cannot be hashed.
        object.__setattr__(self, "tasks", tuple(sorted(set(map(int, self.tasks)))))
        exchange_except = set(map(int, self.exchange_except)) & set(self.tasks)
        object.__setattr__(self, "exchange_except", tuple(sorted(exchange_except)))
        factors = _factors(self.emphasized, self.emphasis)
        object.__setattr__(self, "emphasized", tuple(sorted(factors.keys() & set(self.tasks))))
        # Equal tasks have to be equal, and to stay so in a configuration file: a number where one says it all.
        of_each = tuple(factors[task] for task in self.emphasized)
        distinct = set(of_each or _as_tuple(self.emphasis))
        object.__setattr__(self, "emphasis", distinct.pop() if len(distinct) == 1 else of_each)

    @property
    def loaded(self) -> Data:
        """The episodes of all splits, and the vocabulary."""
        return _load(self)

    @property
    def format(self) -> Format:
        """What all episodes have in common; of the data, unless `restore` has found it in a run."""
        return _formats.get(self) or self.loaded.format

    @property
    def output_size(self) -> int:
        """How many classes an answer has."""
        return len(self.format.vocabulary.answers)

    @property
    def vocabulary_size(self) -> int:
        """How many symbols may be read."""
        return len(self.format.vocabulary.symbols)

    @property
    def num_steps(self) -> int:
        """The longest episode of any split, `T`."""
        return self.format.num_steps

    def first_inputs(self) -> jax.Array | Sentence:
        """Inputs of one step, all zeros."""
        length = self.format.sentence_length
        return jnp.zeros((), jnp.int32) if length is None else Sentence(jnp.zeros(length, jnp.int32))

    def save(self, directory: pathlib.Path) -> None:
        """Writes the format of the episodes into the directory of a run, as `VOCABULARY`."""
        contents = {**self.format.vocabulary._asdict(), **self.format._asdict()}
        del contents["vocabulary"]
        write_whole(directory / VOCABULARY, json.dumps(contents, indent=2) + "\n")

    def restore(self, directory: pathlib.Path) -> None:
        """Takes the format of the episodes from what `save` wrote, for all equal tasks of this process.

        Runs of earlier versions hold none; for these the data is needed.

        Raises:
          ValueError: if the file is damaged.
        """
        path = directory / VOCABULARY
        if not path.exists():
            return
        try:
            contents = json.loads(path.read_text())
            symbols, answers, num_trained_answers = (contents.pop(name) for name in Vocabulary._fields)
            _formats[self] = Format(Vocabulary(tuple(symbols), tuple(answers), num_trained_answers), **contents)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is not the vocabulary of a run: {error!r}") from error

    @property
    def is_seen_in_test(self) -> tuple[np.ndarray, ...]:
        """For each bucket of the test split, `[N, T]`, which of its questions training has too; see `Data.is_seen`.

        Where training exchanges names it has other stories than its files have, and of their questions none is seen.
        """
        is_seen, buckets = self.loaded.is_seen["test"], self.loaded.test.buckets
        if not self.exchange_names:
            return is_seen
        return tuple(
            seen & np.isin(bucket.tasks, self.exchange_except)[:, None]
            for seen, bucket in zip(is_seen, buckets, strict=True)
        )

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        """The episodes to be trained on."""
        return self.loaded.train.buckets

    def draw_buckets(self, updates: Sequence[int]) -> np.ndarray:
        """Draws a bucket for each update; see `buckets.Split.draw_buckets`."""
        return self.loaded.train.draw_buckets(_BUCKET_SEED, updates)

    def sample(self, rng: jax.Array, bucket: Bucket) -> Example:
        """Draws an episode of a bucket: first a task, then an episode of it."""
        if not self.exchange_names:
            return buckets_lib.sample(rng, bucket)
        rng, rng_names = jax.random.split(rng)
        return exchange(rng_names, buckets_lib.sample(rng, bucket), _find_names(self))

    def held_out(self, seed: int, num_episodes: int) -> list[Example]:
        """Draws episodes of the validation split, the same number of each task, none twice before all were drawn once.

        Args:
          seed: the same seed gives the same episodes.
          num_episodes: at least so many in all: as many of each task as any, so that the mean over them is the mean
            over tasks.

        Returns:
          A batch for each bucket that any are in.

        Raises:
          ValueError: if `num_episodes` is no whole number of at least 1.
        """
        _checks.check_positive(num_episodes=num_episodes)
        count = math.ceil(num_episodes / len(self.tasks))
        split = self.loaded.validation
        chosen = [_draw_rows(split, task, [seed, task], count) for task in self.tasks]
        rows = [np.sort(np.concatenate(of_tasks)) for of_tasks in zip(*chosen, strict=True)]
        return [buckets_lib.take(bucket, i) for bucket, i in zip(split.buckets, rows, strict=True) if len(i)]

    def loss(self, logits: jax.Array, example: Example) -> jax.Array:
        """The mean cross-entropy of the answers due, in nats. `logits`: `[T, output_size]`."""
        return objectives.cross_entropy(logits, example.targets, example.mask)

    def metrics(self, logits: jax.Array, example: Example) -> dict[str, jax.Array]:
        """How much of an episode was answered rightly, and how long it was.

        Args:
          logits: `[T, output_size]`.
          example: the episode.

        Returns:
          `answer_accuracy`, the share of its questions, and `num_tokens`, its symbols without padding.
        """
        _checks.check_array("logits", logits, (*example.targets.shape, None))
        is_right = jnp.argmax(logits, axis=-1) == example.targets
        is_step = jnp.arange(len(example.targets)) < example.length
        num_symbols = jnp.sum(_as_sentences(example.inputs) != NO_SYMBOL, axis=-1)
        return {
            "answer_accuracy": objectives.masked_mean(is_right.astype(logits.dtype), example.mask),
            "num_tokens": jnp.sum(jnp.where(is_step, num_symbols, 0)).astype(logits.dtype),
        }

    def symbols(self, example: Example) -> list[str]:
        """What is read at each step that is no padding: a symbol, or the symbols of a sentence with blanks between."""
        symbols = self.format.vocabulary.symbols
        steps = np.asarray(_as_sentences(example.inputs))[: int(example.length)]
        return [" ".join(symbols[symbol] for symbol in step if symbol != NO_SYMBOL) for step in steps]

    def describe(self, example: Example) -> str:
        """Prints an episode readably: a sentence on each line, a question with its answer."""
        answers, text = self.format.vocabulary.answers, []
        for symbols, target, is_due in zip(self.symbols(example), example.targets, example.mask, strict=False):
            text.append(symbols)
            if symbols.endswith((".", "?")):
                text.append(f" {answers[target]}\n" if is_due else "\n")
            else:
                text.append(" ")
        return "".join(text).replace(" .", ".").replace(" ?", "?").rstrip("\n")


def _as_sentences(inputs: jax.Array | Sentence) -> jax.Array:
    """The symbols of each step, `[T, W]`."""
    return inputs.symbols if isinstance(inputs, Sentence) else inputs[:, None]


def _as_tuple(emphasis: float | Sequence[float]) -> tuple[float, ...]:
    return tuple(np.atleast_1d(np.asarray(emphasis, float)).tolist())


def _factors(emphasized: Sequence[int], emphasis: float | Sequence[float]) -> dict[int, float]:
    """How many times as often each of the emphasised tasks is drawn.

    Raises:
      ValueError: if a number is not possible, or if there are neither one nor as many as tasks.
    """
    several = _as_tuple(emphasis)
    for factor in several:
        if not 0 < factor < math.inf:
            raise ValueError(f"emphasis must be above 0 and finite, got {factor!r}")
    if len(several) == 1:
        return dict.fromkeys(map(int, emphasized), several[0])
    factors = dict(zip(map(int, emphasized), several, strict=False))
    if not len(factors) == len(emphasized) == len(several):
        raise ValueError(
            f"emphasis must be one number, or one for each of different tasks in emphasized, got {len(several)} "
            f"numbers for {', '.join(map(str, emphasized)) or 'no tasks'}"
        )
    return factors


# A format follows from the fields of the task, so that those of equal tasks are equal.
_formats: dict[Babi, Format] = {}


def _load(task: Babi) -> Data:
    # Episodes are the same whatever training makes of their names.
    return _load_once(dataclasses.replace(task, exchange_names=False, exchange_except=()))


@functools.lru_cache(maxsize=4)
def _load_once(task: Babi) -> Data:
    return data_lib.load(
        task.data,
        task.tasks,
        task.layout,
        validation_seed=task.validation_seed,
        emphasis=_factors(task.emphasized, task.emphasis),
        archive_sha256=task.archive_sha256,
    )


@functools.lru_cache(maxsize=4)
def _find_names(task: Babi) -> Names:
    return find_names(task.format.vocabulary, task.buckets, task.exchange_except)


def _draw_rows(split: Split, task: int, key: Sequence[int], count: int) -> list[np.ndarray]:
    """Draws episodes of a task: for each bucket, the rows of those that are in it."""
    sizes = [int(np.sum(bucket.tasks == task)) for bucket in split.buckets]
    # Ranks by a generator whose numbers no version of NumPy changes.
    order = np.argsort(np.random.Philox(key=key).random_raw(sum(sizes)), kind="stable")
    drawn = np.resize(order, count)
    rows, first = [], 0
    for bucket, size in zip(split.buckets, sizes, strict=True):
        inside = drawn[(drawn >= first) & (drawn < first + size)] - first
        rows.append(np.flatnonzero(bucket.tasks == task)[inside])
        first += size
    return rows

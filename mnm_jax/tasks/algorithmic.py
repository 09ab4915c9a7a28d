"""Algorithms to be learned from examples: copy, repeat copy, double copy, associative recall and priority sort.

An episode shows random binary vectors, then asks for an answer, and shows nothing more while the answer is due:

    copy, 3 vectors of 4 bits: read 1011, 0110, 0001, the end mark; answer 1011, 0110, 0001

Numbers and marks come on channels of their own, beside the bits. The outputs are logits, one for each bit, each step.

Source: Graves, Wayne and Danihelka, "Neural Turing Machines", 2014 (arXiv:1410.5401), section 4; what it leaves open is
said at each task. Double copy: Munkhdalai et al., "Metalearned Neural Memory", NeurIPS 2019, section 4.

Axes: `T` time steps, `N` bits of an answer.
"""

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mnm_jax import _checks


class Example(NamedTuple):
    """One episode of at most `T` steps.

    Attributes:
      inputs: `[T, input_size]`, the bits, 0 or 1, then the channels of the task.
      targets: `[T, N]`, the bits that are due, 0 or 1; 0 where none are.
      mask: `[T]`, true where an answer is due.
      length: `[]`, how many of the steps belong to the episode.
    """

    inputs: jax.Array
    targets: jax.Array
    mask: jax.Array
    length: jax.Array


class BitTask:
    """What the tasks have in common.

    Attributes:
      headline: see `training.Task`.
      vocabulary_size: none; the inputs are vectors.
      channels: names of the inputs beside the bits.
      unit: what `at_length` counts.
    """

    headline: ClassVar[str] = "sequence_accuracy"
    vocabulary_size: ClassVar[None] = None
    channels: ClassVar[tuple[str, ...]]
    unit: ClassVar[str] = "vectors"

    num_bits: int

    @property
    def output_size(self) -> int:
        """How many bits an answer has at each step, `N`."""
        return self.num_bits

    @property
    def num_steps(self) -> int:
        """The length of the longest episode, `T`."""
        raise NotImplementedError

    @property
    def max_num_answers(self) -> int:
        """The steps of the longest answer."""
        raise NotImplementedError

    @property
    def max_length(self) -> int:
        """The most vectors or items of an episode; see `at_length`."""
        raise NotImplementedError

    def at_length(self, length: int) -> "BitTask":
        """The task with `length` vectors or items in every episode."""
        raise NotImplementedError

    def sample(self, rng: jax.Array) -> Example:
        """Draws an episode.

        Args:
          rng: a random key; the same key gives the same episode.

        Returns:
          An `Example` of `num_steps` steps.
        """
        raise NotImplementedError

    def loss(self, logits: jax.Array, example: Example) -> jax.Array:
        """The bits of the episode (see `metrics`), as a share of the bits of the longest answer.

        So it is of about unit scale, whatever the task, and long episodes count more, as they do in the source.
        """
        return self.metrics(logits, example)["bits"] / (self.max_num_answers * self.output_size)

    def metrics(self, logits: jax.Array, example: Example) -> dict[str, jax.Array]:
        """How right an answer is.

        Args:
          logits: `[T, N]`.
          example: the episode.

        Returns:
          `bits`: the cross-entropy of all bits that are due, summed, in bits: the cost per sequence of the source.
          `sequence_accuracy`: 1 if all of them are right, else 0.
        """
        _checks.check_array("logits", logits, example.targets.shape)
        is_due = example.mask[:, None]
        costs = optax.sigmoid_binary_cross_entropy(logits, example.targets)
        is_right = (logits > 0) == (example.targets > 0.5)
        return {
            "bits": jnp.sum(jnp.where(is_due, costs, 0)) / math.log(2),
            "sequence_accuracy": jnp.all(is_right | ~is_due).astype(logits.dtype),
        }

    def describe(self, example: Example) -> str:
        """Prints an episode readably: a line for each step, with the bits, the channels in use and the answer due."""
        inputs, targets, mask, length = map(np.asarray, example)
        lines = []
        for t in range(int(length)):
            bits, channels = np.split(inputs[t], [self.num_bits])
            used = zip(self.channels, channels, strict=True)
            names = "".join(f" {name}" + (f"={x:.2f}" if x != 1 else "") for name, x in used if x)
            answer = f" -> {_digits(targets[t])}" if mask[t] else ""
            lines.append(f"{_digits(bits)}{names}{answer}")
        return "\n".join(lines)


def _digits(bits: np.ndarray) -> str:
    return "".join(str(int(bit)) for bit in bits)


def _draw_bits(rng: jax.Array, *shape: int) -> jax.Array:
    return jax.random.bernoulli(rng, shape=shape).astype(jnp.float32)


def _draw_between(rng: jax.Array, low: int, high: int | jax.Array) -> jax.Array:
    """A whole number from `low` to `high`, both included."""
    return jax.random.randint(rng, (), low, high + 1)


def _take(vectors: jax.Array, indices: jax.Array, where: jax.Array) -> jax.Array:
    """The vectors at the indices, zeros where that is not asked for."""
    return jnp.where(where[:, None], vectors[jnp.where(where, indices, 0)], 0)


def _column(values: Any, where: jax.Array) -> jax.Array:
    """A channel, `[T, 1]`, with the values where asked for and 0 elsewhere."""
    return jnp.where(where, values, 0.0).astype(jnp.float32)[:, None]


def _check_range(task: Any, low: str, high: str) -> None:
    if getattr(task, low) > getattr(task, high):
        raise ValueError(f"{low}={getattr(task, low)} is more than {high}={getattr(task, high)}")


@dataclasses.dataclass(frozen=True)
class Copy(BitTask):
    """Copy: a sequence is to be given back.

    Attributes:
      num_bits: of each vector.
      min_length: the fewest vectors of a sequence.
      max_length: the most; any number between is as likely.
    """

    num_bits: int = 8
    min_length: int = 1
    max_length: int = 20

    channels: ClassVar[tuple[str, ...]] = ("end",)
    _num_copies: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _checks.check_positive(**dataclasses.asdict(self))
        _check_range(self, "min_length", "max_length")

    @property
    def max_num_answers(self) -> int:
        """The steps of the longest answer."""
        return self._num_copies * self.max_length

    @property
    def num_steps(self) -> int:
        """The length of the longest episode, `T`."""
        return self.max_length + 1 + self.max_num_answers

    def at_length(self, length: int) -> "Copy":
        """The task with sequences of `length` vectors."""
        return dataclasses.replace(self, min_length=length, max_length=length)

    def sample(self, rng: jax.Array) -> Example:
        """Draws an episode; see `Task.sample`."""
        _checks.check_key("rng", rng)
        rng_length, rng_bits = jax.random.split(rng)
        length = _draw_between(rng_length, self.min_length, self.max_length)
        return self._copy(_draw_bits(rng_bits, self.max_length, self.num_bits), length, self._num_copies)

    def _copy(self, vectors: jax.Array, length: jax.Array, num_copies: jax.Array | int) -> Example:
        """Shows `length` of the vectors, then the end mark; the answer is so many copies of them."""
        steps, num_answers = jnp.arange(self.num_steps), num_copies * length
        is_shown = steps < length
        is_due = (steps > length) & (steps <= length + num_answers)
        inputs = jnp.concatenate([_take(vectors, steps, is_shown), _column(1.0, steps == length)], axis=1)
        targets = _take(vectors, (steps - length - 1) % length, is_due)
        return Example(inputs, targets, is_due, length + 1 + num_answers)


@dataclasses.dataclass(frozen=True)
class DoubleCopy(Copy):
    """Double copy: a sequence is to be given back twice. See `Copy`."""

    max_length: int = 10

    _num_copies: ClassVar[int] = 2


@dataclasses.dataclass(frozen=True)
class RepeatCopy(Copy):
    """Repeat copy: a sequence is to be given back as often as the episode says, and then an end mark.

    How often comes on the channel `repeats`, moved and scaled to mean 0 and variance 1. The end mark is one more bit of
    the answers, 0 until the last step, at which the other bits are 0.

    Attributes:
      num_bits, min_length, max_length: see `Copy`.
      min_repeats: the fewest copies.
      max_repeats: the most; any number between is as likely.
    """

    max_length: int = 10
    min_repeats: int = 1
    max_repeats: int = 10

    channels: ClassVar[tuple[str, ...]] = ("end", "repeats")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_range(self, "min_repeats", "max_repeats")

    @property
    def output_size(self) -> int:
        """How many bits an answer has at each step, `N`: the end mark is one."""
        return self.num_bits + 1

    @property
    def max_num_answers(self) -> int:
        """The steps of the longest answer."""
        return self.max_repeats * self.max_length + 1

    def sample(self, rng: jax.Array) -> Example:
        """Draws an episode; see `Task.sample`."""
        _checks.check_key("rng", rng)
        rng_length, rng_repeats, rng_bits = jax.random.split(rng, 3)
        length = _draw_between(rng_length, self.min_length, self.max_length)
        repeats = _draw_between(rng_repeats, self.min_repeats, self.max_repeats)
        copied = self._copy(_draw_bits(rng_bits, self.max_length, self.num_bits), length, repeats)
        numbers = np.arange(self.min_repeats, self.max_repeats + 1)
        steps = jnp.arange(self.num_steps)
        is_end = steps == copied.length
        scaled = (repeats - numbers.mean()) / max(numbers.std(), 1.0)
        return Example(
            inputs=jnp.concatenate([copied.inputs, _column(scaled, steps == length)], axis=1),
            targets=jnp.concatenate([copied.targets, _column(1.0, is_end)], axis=1),
            mask=copied.mask | is_end,
            length=copied.length + 1,
        )


@dataclasses.dataclass(frozen=True)
class AssociativeRecall(BitTask):
    """Associative recall: after several items one of them is shown again, and the item that followed it is due.

    Each item is `item_length` vectors with a mark before them; the query has a mark of its own before and after it. Any
    item but the last is as likely to be asked for.

    Attributes:
      num_bits: of each vector.
      item_length: vectors of an item.
      min_items: the fewest items.
      max_items: the most; any number between is as likely.
    """

    num_bits: int = 6
    item_length: int = 3
    min_items: int = 2
    max_items: int = 6

    channels: ClassVar[tuple[str, ...]] = ("item", "query")
    unit: ClassVar[str] = "items"

    def __post_init__(self) -> None:
        _checks.check_positive(**dataclasses.asdict(self))
        _check_range(self, "min_items", "max_items")
        if self.min_items < 2:
            raise ValueError(f"min_items must be at least 2, for one item follows another, got {self.min_items}")

    @property
    def max_num_answers(self) -> int:
        """The steps of an answer."""
        return self.item_length

    @property
    def max_length(self) -> int:
        """The most items."""
        return self.max_items

    @property
    def num_steps(self) -> int:
        """The length of the longest episode, `T`."""
        return self.max_items * (self.item_length + 1) + 2 * self.item_length + 2

    def at_length(self, length: int) -> "AssociativeRecall":
        """The task with `length` items."""
        return dataclasses.replace(self, min_items=length, max_items=length)

    def sample(self, rng: jax.Array) -> Example:
        """Draws an episode; see `Task.sample`."""
        _checks.check_key("rng", rng)
        rng_items, rng_bits, rng_query = jax.random.split(rng, 3)
        num_items = _draw_between(rng_items, self.min_items, self.max_items)
        vectors = _draw_bits(rng_bits, self.max_items * self.item_length, self.num_bits)
        asked = _draw_between(rng_query, 0, num_items - 2)
        # An item, or the query, begins with its mark; after the query a second mark, then the answer.
        steps, size = jnp.arange(self.num_steps), self.item_length + 1
        item, place = steps // size, steps % size - 1
        is_item, is_query = item < num_items, item == num_items
        is_mark = place < 0
        answer = steps - (num_items + 1) * size - 1
        is_due = (answer >= 0) & (answer < self.item_length)
        shown = jnp.where(is_query, asked, item) * self.item_length + place
        marks = [is_item & is_mark, (is_query & is_mark) | (answer == -1)]
        bits = _take(vectors, shown, (is_item | is_query) & ~is_mark)
        return Example(
            inputs=jnp.concatenate([bits, *(_column(1.0, mark) for mark in marks)], axis=1),
            targets=_take(vectors, (asked + 1) * self.item_length + answer, is_due),
            mask=is_due,
            length=(num_items + 1) * size + 1 + self.item_length,
        )


@dataclasses.dataclass(frozen=True)
class PrioritySort(BitTask):
    """Priority sort: of vectors with priorities, those with the highest are due, the highest first.

    The priorities are uniform between -1 and 1, on the channel `priority`. After the vectors there is an end mark.

    Attributes:
      num_bits: of each vector.
      num_inputs: how many vectors are shown.
      num_outputs: how many are due.
    """

    num_bits: int = 8
    num_inputs: int = 20
    num_outputs: int = 16

    channels: ClassVar[tuple[str, ...]] = ("priority", "end")

    def __post_init__(self) -> None:
        _checks.check_positive(**dataclasses.asdict(self))
        if self.num_outputs > self.num_inputs:
            raise ValueError(f"num_outputs={self.num_outputs} is more than num_inputs={self.num_inputs}")

    @property
    def max_num_answers(self) -> int:
        """The steps of an answer."""
        return self.num_outputs

    @property
    def max_length(self) -> int:
        """How many vectors are shown."""
        return self.num_inputs

    @property
    def num_steps(self) -> int:
        """The length of an episode, `T`."""
        return self.num_inputs + 1 + self.num_outputs

    def at_length(self, length: int) -> "PrioritySort":
        """The task with `length` vectors shown, of which as large a share is due as before."""
        num_outputs = max(1, length * self.num_outputs // self.num_inputs)
        return dataclasses.replace(self, num_inputs=length, num_outputs=num_outputs)

    def sample(self, rng: jax.Array) -> Example:
        """Draws an episode; see `Task.sample`."""
        _checks.check_key("rng", rng)
        rng_bits, rng_priorities = jax.random.split(rng)
        vectors = _draw_bits(rng_bits, self.num_inputs, self.num_bits)
        priorities = jax.random.uniform(rng_priorities, (self.num_inputs,), jnp.float32, minval=-1.0)
        highest = vectors[jnp.argsort(-priorities)[: self.num_outputs]]
        steps = jnp.arange(self.num_steps)
        rest = self.num_steps - self.num_inputs
        bits = jnp.pad(jnp.concatenate([vectors, priorities[:, None]], axis=1), ((0, rest), (0, 0)))
        return Example(
            inputs=jnp.concatenate([bits, _column(1.0, steps == self.num_inputs)], axis=1),
            targets=jnp.pad(highest, ((self.num_steps - self.num_outputs, 0), (0, 0))),
            mask=steps > self.num_inputs,
            length=jnp.array(self.num_steps, jnp.int32),
        )


# By the name of the task, as configurations and the files of runs have it.
TASKS = {
    "copy": Copy,
    "repeat_copy": RepeatCopy,
    "double_copy": DoubleCopy,
    "associative_recall": AssociativeRecall,
    "priority_sort": PrioritySort,
}

"""Names exchanged for one another in each episode that training draws, so that no story can be learned by heart.

Who is where, what lies above what and which way leads where do not depend on what people, places and things are called:
a story in which Mary is called Sandra, and Sandra Mary, is as true as the one in the file, and so are its answers.

Axes: `V` symbols, `A` answers.
"""

from collections.abc import Collection, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mnm_jax.tasks.babi.buckets import Bucket, Example
from mnm_jax.tasks.babi.encoding import NO_ANSWER, NO_SYMBOL, Vocabulary
from mnm_jax.tasks.babi.stories import TASK_NAMES
from mnm_jax.tasks.babi.systematic import MEN, WOMEN

_PLACES = ("bathroom", "bedroom", "cinema", "garden", "hallway", "kitchen", "office", "park", "school")
_OBJECTS = ("apple", "football", "milk")
# The animals of task 15 stay, for they have plurals there, and the box of task 18, for there is one of chocolates too.
GROUPS = (
    _PLACES,
    _OBJECTS,
    ("frog", "lion", "rhino", "swan"),
    ("blue", "gray", "green", "pink", "red", "white", "yellow"),
    ("rectangle", "sphere", "square", "triangle"),
    ("chest", "container", "suitcase"),
)
"""Words that are mere names, each to be exchanged for another of its group, as people are for other people."""

_PRONOUNS = {"he", "she"}

KEPT = {8: _OBJECTS, 20: _PLACES + _OBJECTS}
"""By task, those that are more than names: parts of answers that are lists, and what one wants when hungry or tired."""


class Names(NamedTuple):
    """What may be exchanged, as arrays.

    Attributes:
      groups: `[21, V]`, for each task the group of each symbol, its own if it stays.
      symbol_of: `[A]`, the symbol that an answer is, -1 if it is none.
      answer_of: `[V]`, the answer that a symbol is, -1 if it is none.
    """

    groups: np.ndarray
    symbol_of: np.ndarray
    answer_of: np.ndarray


def find_names(vocabulary: Vocabulary, buckets: Iterable[Bucket], exchange_except: Collection[int] = ()) -> Names:
    """Finds the names of each task among the words that its own episodes have.

    Args:
      vocabulary: of the episodes.
      buckets: all episodes to be trained on.
      exchange_except: tasks in which nothing is to be exchanged.
    """
    symbols = {symbol: i for i, symbol in enumerate(vocabulary.symbols)}
    answers = {answer: i for i, answer in enumerate(vocabulary.answers)}
    groups = np.tile(np.arange(len(symbols)), (max(TASK_NAMES) + 1, 1))
    read = {task: set[str]() for task in TASK_NAMES}
    answered = {task: set[str]() for task in TASK_NAMES}
    for bucket in buckets:
        for task in np.unique(bucket.tasks).tolist():
            inputs, targets = (x[bucket.tasks == task] for x in (bucket.inputs, bucket.targets))
            read[task].update(vocabulary.symbols[i] for i in np.unique(inputs[inputs != NO_SYMBOL]))
            answered[task].update(vocabulary.answers[i] for i in np.unique(targets[targets != NO_ANSWER]))
    for task in set(TASK_NAMES).difference(exchange_except):
        # Where a pronoun may mean them, women stay women and men stay men.
        people = (WOMEN, MEN) if read[task] & _PRONOUNS else (WOMEN + MEN,)
        for group in (*people, *GROUPS):
            names = [word for word in group if word in read[task] and word not in KEPT.get(task, ())]
            # An answer has to become an answer.
            for words in (answered[task].intersection(names), read[task].intersection(names) - answered[task]):
                members = sorted(symbols[word] for word in words)
                groups[task, members] = members[:1]
    return Names(
        groups,
        symbol_of=np.array([symbols.get(answer, -1) for answer in answers]),
        answer_of=np.array([answers.get(symbol, -1) for symbol in symbols]),
    )


def exchange(rng: jax.Array, example: Example, names: Names) -> Example:
    """Gives each name of an episode to another of its group, all names of a group at random. A pure function.

    Args:
      rng: a random key.
      example: one episode.
      names: what may be exchanged.

    Returns:
      The episode with other words, and its answers with them.
    """
    groups = jnp.asarray(names.groups)[example.task]
    # Sorted by group, the symbols of a group stand together, in order and at random: one is named after the other.
    given = jnp.lexsort((jnp.arange(groups.size), groups))
    drawn = jnp.lexsort((jax.random.uniform(rng, groups.shape, jnp.float32), groups))
    renamed = jnp.zeros_like(given).at[given].set(drawn)

    def rename(symbols: jax.Array) -> jax.Array:
        return jnp.where(symbols == NO_SYMBOL, NO_SYMBOL, renamed[jnp.maximum(symbols, 0)]).astype(symbols.dtype)

    symbols = jnp.asarray(names.symbol_of)[example.targets]
    answers = jnp.asarray(names.answer_of)[renamed[jnp.maximum(symbols, 0)]]
    return example._replace(
        inputs=jax.tree.map(rename, example.inputs),
        targets=jnp.where(example.mask & (symbols >= 0), answers, example.targets).astype(example.targets.dtype),
    )

"""Episodes of many lengths in few shapes: each bucket is padded to the longest episode that it takes.

Axes: `N` episodes of `T` steps, of `K` tasks.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mnm_jax import _checks
from mnm_jax.inputs import Sentence
from mnm_jax.tasks.babi.encoding import NO_ANSWER, Episodes

MAX_BUCKETS = 12
MAX_PADDING_SHARE = 0.15
# An episode of sentences is short: few shapes save more time than padding costs, and more tasks meet in an update.
MAX_PADDING_SHARE_OF_SENTENCES = 0.4


class Example(NamedTuple):
    """One episode of `T` steps, the last of them padding.

    Attributes:
      inputs: `[T]`, the symbol read at each step, or a `Sentence` of `[T, W]`; 0 where there is padding.
      targets: `[T]`, the answer due at each step; 0 where none is.
      mask: `[T]`, true where an answer is due.
      length: `[]`, how many of the steps are no padding.
      task: `[]`, 1 to 20.
    """

    inputs: jax.Array | Sentence
    targets: jax.Array
    mask: jax.Array
    length: jax.Array
    task: jax.Array


class Bucket(NamedTuple):
    """Episodes padded to one length, grouped by task: a pytree of arrays, to be handed to compiled functions.

    Attributes:
      inputs: `[N, T]` or `[N, T, W]`, the symbols, 0 where there is padding.
      targets: `[N, T]`, the answers, `NO_ANSWER` where none is due.
      lengths: `[N]`, steps that are no padding.
      tasks: `[N]`, 1 to 20, in ascending order.
      first_rows: `[K]`, where the episodes of each task begin; tasks of which there are none are left out.
      num_rows: `[K]`, how many there are of each.
      cumulative_shares: `[K]`, which share of what is drawn from the bucket each task has, summed; the last is 1.
    """

    inputs: np.ndarray
    targets: np.ndarray
    lengths: np.ndarray
    tasks: np.ndarray
    first_rows: np.ndarray
    num_rows: np.ndarray
    cumulative_shares: np.ndarray

    @property
    def num_steps(self) -> int:
        """The length of every episode with its padding, `T`."""
        return int(self.inputs.shape[1])


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """The episodes of training, validation or test.

    To train, draw a bucket for each update, then its episodes with `sample`. Every task is then expected to have the
    same share of the episodes drawn, unless some are emphasised, and every episode of a task is as likely as any other,
    though an update sees episodes of one bucket only: a bucket is drawn as often as its episodes would be if they were
    drawn one by one.

    Attributes:
      buckets: by length, the same lengths in every split; one may be empty.
      shares: `[len(buckets)]`, how often each is drawn; they sum to 1.
    """

    buckets: tuple[Bucket, ...]
    shares: np.ndarray

    @property
    def num_episodes(self) -> int:
        """How many episodes there are."""
        return sum(len(bucket.lengths) for bucket in self.buckets)

    @property
    def num_questions(self) -> int:
        """How many answers are due in all of them."""
        return sum(int(np.sum(bucket.targets != NO_ANSWER)) for bucket in self.buckets)

    @property
    def padding_share(self) -> float:
        """Which share of the steps is padding when every episode is read once."""
        return 1 - sum(int(bucket.lengths.sum()) for bucket in self.buckets) / sum(b.targets.size for b in self.buckets)

    @property
    def drawn_padding_share(self) -> float:
        """Which share of the steps is expected to be padding when episodes are drawn as in training."""
        read, all_steps = 0.0, 0.0
        for bucket, share in zip(self.buckets, self.shares, strict=True):
            of_tasks = np.diff(bucket.cumulative_shares, prepend=0)
            means = [bucket.lengths[i : i + n].mean() for i, n in zip(bucket.first_rows, bucket.num_rows, strict=True)]
            read += share * np.dot(of_tasks, means)
            all_steps += share * bucket.num_steps
        return 1 - read / all_steps

    def draw_buckets(self, seed: int, updates: Iterable[int]) -> np.ndarray:
        """Draws a bucket for each update, on the host, where the shape of an update has to be known.

        Args:
          seed: seeds that are trained side by side have to share it, for they share the shape.
          updates: their numbers. What is drawn for one does not depend on the others, so a training that goes on after
            a checkpoint goes on with the same buckets.

        Returns:
          `[len(updates)]`, indices of `buckets`.
        """
        # The counter-based generator of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
        draws = [np.random.Philox(key=seed, counter=update).random_raw() >> 11 for update in updates]
        cumulative = np.cumsum(self.shares)
        return np.searchsorted(cumulative / cumulative[-1], np.array(draws) * 2.0**-53, side="right")


def take(bucket: Bucket, rows: int | np.ndarray | jax.Array) -> Example:
    """The episodes of some rows of a bucket: an `Example` with the axes of `rows` before its own.

    Raises:
      AssertionError: if the rows are no integers.
      ValueError: if one of them is known and not in the bucket.
    """
    _checks.check_index("rows", rows, jnp.shape(rows), len(bucket.lengths))
    symbols, targets, lengths, tasks = (jnp.asarray(x)[rows].astype(jnp.int32) for x in bucket[:4])
    inputs = Sentence(symbols) if symbols.ndim > targets.ndim else symbols
    return Example(inputs, jnp.maximum(targets, 0), targets != NO_ANSWER, lengths, tasks)


def sample(rng: jax.Array, bucket: Bucket) -> Example:
    """Draws an episode of a bucket: first a task, then an episode of it. A pure function, to be vmapped over keys.

    Args:
      rng: a random key; the same key gives the same episode.
      bucket: what to draw from; not an empty one.

    Returns:
      The episode.
    """
    _checks.check_key("rng", rng)
    rng_task, rng_row = jax.random.split(rng)
    share = jax.random.uniform(rng_task, dtype=jnp.float32)
    task = jnp.searchsorted(jnp.asarray(bucket.cumulative_shares), share, side="right")
    row = jax.random.randint(rng_row, (), 0, jnp.asarray(bucket.num_rows)[task], jnp.int32)
    return take(bucket, jnp.asarray(bucket.first_rows)[task] + row)


def make_splits(
    splits: dict[str, Episodes], *, max_padding_share: float = MAX_PADDING_SHARE, emphasis: Mapping[int, float] = {}
) -> dict[str, Split]:
    """Puts episodes into buckets of the same lengths for all splits.

    They are as few as keep padding at `max_padding_share` of the steps, those of training and those of all splits
    together, whether each episode counts alike or each task; and at most `MAX_BUCKETS`, whatever padding that takes.

    Args:
      splits: the episodes of each split, among them `'train'`.
      max_padding_share: fewer buckets mean more padding, and more tasks in an update.
      emphasis: how many times as often as the others a task is drawn; 1 for those that are not in it.

    Returns:
      The splits by the same names.
    """
    lengths = np.concatenate([episodes.lengths for episodes in splits.values()])
    even = _even(np.concatenate([episodes.tasks for episodes in splits.values()]))
    train = splits["train"]
    measures = [(lengths, even), (train.lengths, _even(train.tasks))]
    measures += [(lengths, np.ones(len(lengths))) for lengths, _ in measures]
    for bounds in optimal_bounds(lengths, even):
        if all(_padding_share(*measure, bounds) <= max_padding_share for measure in measures):
            break
    return {name: _make_split(episodes, bounds, emphasis) for name, episodes in splits.items()}


def optimal_bounds(lengths: np.ndarray, weights: np.ndarray) -> Iterator[np.ndarray]:
    """Chooses to which lengths episodes are padded, such that the weighted sum of padded lengths is as small as can be.

    A dynamic programme over the histogram of lengths: the best `k` buckets for the shortest episodes are one last
    bucket and the best `k - 1` for what is shorter than that.

    Args:
      lengths: `[N]`, of the episodes.
      weights: `[N]`, how much each counts.

    Yields:
      For 1, 2, ... `MAX_BUCKETS` buckets, if there are that many lengths: their lengths, ascending. The last is that of
      the longest episode.
    """
    sizes, inverse = np.unique(lengths, return_inverse=True)
    weight_below = np.concatenate([[0.0], np.cumsum(np.bincount(inverse, weights))])
    # costs[i, j]: of one bucket for sizes i to j.
    costs = np.where(np.tri(len(sizes), k=-1), np.inf, (weight_below[1:] - weight_below[:-1, None]) * sizes)
    best = costs[0]
    starts: list[np.ndarray] = []
    while True:
        ends = [len(sizes) - 1]
        for start in reversed(starts):
            ends.append(start[ends[-1]] - 1)
        yield sizes[ends[::-1]]
        if len(ends) == min(MAX_BUCKETS, len(sizes)):
            return
        # with_last[i, j]: the last bucket takes sizes i + 1 to j.
        with_last = best[:-1, None] + costs[1:]
        starts.append(np.argmin(with_last, axis=0) + 1)
        best = np.min(with_last, axis=0)


def _even(tasks: np.ndarray) -> np.ndarray:
    """The weights of episodes whose tasks count alike, in sum 1 for each task."""
    weights: np.ndarray = 1 / np.bincount(tasks)[tasks]
    return weights


def _padding_share(lengths: np.ndarray, weights: np.ndarray, bounds: np.ndarray) -> float:
    return 1 - float(np.dot(weights, lengths) / np.dot(weights, bounds[np.searchsorted(bounds, lengths)]))


def _make_split(episodes: Episodes, bounds: np.ndarray, emphasis: Mapping[int, float]) -> Split:
    weights = _even(episodes.tasks) * np.array([emphasis.get(task, 1.0) for task in episodes.tasks.tolist()])
    firsts = np.cumsum(episodes.lengths) - episodes.lengths
    buckets, shares = [], []
    for shorter, num_steps in zip([0, *bounds[:-1]], bounds, strict=True):
        rows = np.flatnonzero((episodes.lengths > shorter) & (episodes.lengths <= num_steps))
        rows = rows[np.argsort(episodes.tasks[rows], kind="stable")]
        lengths, tasks = episodes.lengths[rows], episodes.tasks[rows]
        is_read = np.arange(num_steps) < lengths[:, None]
        steps = (firsts[rows, None] + np.arange(num_steps))[is_read]
        inputs = np.zeros(is_read.shape + episodes.inputs.shape[1:], np.int16)
        targets = np.full(is_read.shape, NO_ANSWER, np.int16)
        inputs[is_read], targets[is_read] = episodes.inputs[steps], episodes.targets[steps]
        _, first_rows, num_rows = np.unique(tasks, return_index=True, return_counts=True)
        cumulative = np.cumsum(weights[rows[first_rows]] * num_rows)
        total = cumulative[-1] if len(rows) else 0.0
        shares.append(total)
        buckets.append(
            Bucket(
                inputs,
                targets,
                lengths,
                tasks,
                first_rows.astype(np.int32),
                num_rows.astype(np.int32),
                (cumulative / total).astype(np.float32),
            )
        )
    return Split(tuple(buckets), np.array(shares) / np.sum(shares))

"""Which questions of one split stand in another, with the same story before them.

The stories were made by a program that knows few names and places, and of short ones the same comes up again and again.
Who has learned a story by heart answers its question without understanding it, so questions are also counted apart.

Axes: `N` episodes of `T` steps.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from mnm_jax.tasks.babi.buckets import Bucket
from mnm_jax.tasks.babi.encoding import NO_ANSWER

Key = bytes


def seen_questions(
    buckets: Sequence[Bucket], trained: Sequence[Bucket], marks: Sequence[int]
) -> tuple[np.ndarray, ...]:
    """Finds the questions that also stand in other episodes after the very same statements.

    The questions between the statements do not count, and neither does the answer, which follows from the rest.

    Args:
      buckets: whose questions are meant.
      trained: where they are looked up.
      marks: the symbols that end a sentence.

    Returns:
      For each of `buckets` an array `[N, T]`, true where an answer is due to such a question.
    """
    known = {key for bucket in trained for _, _, key in _questions(bucket, marks)}
    found = []
    for bucket in buckets:
        is_seen = np.zeros(bucket.targets.shape, bool)
        for row, step, key in _questions(bucket, marks):
            is_seen[row, step] = key in known
        found.append(is_seen)
    return tuple(found)


def count_questions(buckets: Sequence[Bucket], is_seen: Sequence[np.ndarray]) -> dict[int, tuple[int, int]]:
    """For each task, how many questions there are, and how many of them `seen_questions` found."""
    counts: dict[int, tuple[int, int]] = {}
    for bucket, seen in zip(buckets, is_seen, strict=True):
        of_rows = np.sum(bucket.targets != NO_ANSWER, axis=1), np.sum(seen, axis=1)
        for task in np.unique(bucket.tasks):
            questions, found = (int(numbers[bucket.tasks == task].sum()) for numbers in of_rows)
            before = counts.get(int(task), (0, 0))
            counts[int(task)] = before[0] + questions, before[1] + found
    return dict(sorted(counts.items()))


def _questions(bucket: Bucket, marks: Sequence[int]) -> Iterator[tuple[int, int, Key]]:
    """Each question: its row, the step at which its answer is due, and what stands for it and all statements before."""
    for row, (inputs, targets, length) in enumerate(zip(bucket.inputs, bucket.targets, bucket.lengths, strict=True)):
        is_sentence = inputs.ndim > 1  # Of each step.
        ends = np.arange(length) if is_sentence else np.flatnonzero(np.isin(inputs[:length], marks))
        statements, first = b"", 0
        due = set(np.flatnonzero(targets != NO_ANSWER).tolist())
        for end in ends.tolist():
            sentence = inputs[first : end + 1].tobytes()
            if end in due:
                yield row, end, statements + sentence
            else:
                statements += sentence
            first = end + 1

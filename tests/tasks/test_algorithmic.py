"""The algorithmic tasks: what an episode shows and what is due, and what the metrics count."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnm_jax import tasks
from mnm_jax.tasks.algorithmic import AssociativeRecall, Copy, DoubleCopy, PrioritySort, RepeatCopy

pytestmark = pytest.mark.usefixtures("quick_compilation")

TASKS = (
    Copy(num_bits=3, min_length=2, max_length=4),
    DoubleCopy(num_bits=3, max_length=3),
    RepeatCopy(num_bits=2, max_length=3, min_repeats=2, max_repeats=4),
    AssociativeRecall(num_bits=5, item_length=2, max_items=4),
    PrioritySort(num_bits=4, num_inputs=5, num_outputs=3),
)


@pytest.fixture(scope="module", params=TASKS, ids=lambda task: type(task).__name__)
def episodes(request):
    task = request.param
    examples = jax.device_get(jax.jit(jax.vmap(task.sample))(jax.random.split(jax.random.key(0), 64)))
    return task, [jax.tree.map(lambda leaf, i=i: leaf[i], examples) for i in range(64)]


def split_copy(task, inputs, copies):
    """The vectors of an episode of the copy family, and what is due for so many copies."""
    (end,) = np.flatnonzero(inputs[:, task.num_bits])
    return end, np.concatenate([inputs[:end, : task.num_bits]] * copies)


def expected_copy(task, inputs):
    return split_copy(task, inputs, 1)


def expected_double_copy(task, inputs):
    return split_copy(task, inputs, 2)


def expected_repeat_copy(task, inputs):
    numbers = np.arange(task.min_repeats, task.max_repeats + 1)
    (end,) = np.flatnonzero(inputs[:, task.num_bits])
    repeats = round(float(inputs[end, task.num_bits + 1] * numbers.std() + numbers.mean()))
    assert task.min_repeats <= repeats <= task.max_repeats
    end, vectors = split_copy(task, inputs, repeats)
    vectors = np.concatenate([vectors, np.zeros((1, task.num_bits))])
    return end, np.concatenate([vectors, np.eye(len(vectors))[-1:].T], axis=1)


def expected_recall(task, inputs):
    bits, item, query = np.split(inputs, [task.num_bits, task.num_bits + 1], axis=1)
    starts = np.flatnonzero(item) + 1
    items = [bits[start : start + task.item_length] for start in starts]
    assert task.min_items <= len(items) <= task.max_items
    first, last = np.flatnonzero(query)
    assert last == first + task.item_length + 1
    asked = bits[first + 1 : last]
    followers = [after for before, after in itertools.pairwise(items) if (before == asked).all()]
    assert followers
    return last, followers


def expected_sort(task, inputs):
    vectors = inputs[: task.num_inputs]
    order = np.argsort(-vectors[:, task.num_bits])
    (end,) = np.flatnonzero(inputs[:, task.num_bits + 1])
    return end, vectors[order[: task.num_outputs], : task.num_bits]


EXPECTED = {
    Copy: expected_copy,
    DoubleCopy: expected_double_copy,
    RepeatCopy: expected_repeat_copy,
    AssociativeRecall: expected_recall,
    PrioritySort: expected_sort,
}


def test_the_answer_follows_from_what_was_shown(episodes):
    task, examples = episodes
    width = task.num_bits + len(task.channels)
    for inputs, targets, mask, length in examples:
        assert inputs.shape == (task.num_steps, width)
        assert targets.shape == (task.num_steps, task.output_size)
        assert inputs.dtype == targets.dtype == np.float32
        before, due = EXPECTED[type(task)](task, inputs)
        if isinstance(due, list):  # If two items are equal, either may be meant.
            due = next(answer for answer in due if (answer == targets[mask]).all())
        # The answer is due right after the last step that shows anything, and is the end of the episode.
        np.testing.assert_array_equal(np.flatnonzero(mask), before + 1 + np.arange(len(due)))
        np.testing.assert_array_equal(targets[mask], due)
        assert length == before + 1 + len(due)
        assert not targets[~mask].any()
        assert not inputs[before + 1 :].any()


def test_every_length_occurs_and_the_longest_fits_exactly(episodes):
    task, examples = episodes
    lengths = {int(example.length) for example in examples}
    if isinstance(task, PrioritySort):
        assert lengths == {task.num_steps}
        return
    assert max(lengths) == task.num_steps
    shortest = dataclasses.replace(
        task.at_length(task.min_items if isinstance(task, AssociativeRecall) else task.min_length),
        **({"max_repeats": task.min_repeats} if isinstance(task, RepeatCopy) else {}),
    )
    assert min(lengths) == shortest.num_steps
    assert max(int(mask.sum()) for _, _, mask, _ in examples) == task.max_num_answers


def test_metrics_count_bits_and_whole_sequences(episodes):
    task, examples = episodes
    example = examples[0]
    right = 100.0 * (2 * example.targets - 1)
    perfect = task.metrics(jnp.asarray(right), example)
    assert perfect["sequence_accuracy"] == 1
    assert perfect["bits"] < 1e-6
    # One who knows nothing pays a bit for a bit.
    blank = task.metrics(jnp.zeros_like(right), example)
    np.testing.assert_allclose(blank["bits"], example.mask.sum() * task.output_size, rtol=1e-6)
    share = blank["bits"] / (task.max_num_answers * task.output_size)
    np.testing.assert_allclose(task.loss(jnp.zeros_like(right), example), share, rtol=1e-6)
    # One wrong bit counts if it is due, and else does not.
    due, other = np.flatnonzero(example.mask)[-1], np.flatnonzero(~example.mask)[0]
    assert task.metrics(jnp.asarray(right).at[due, 0].multiply(-1), example)["sequence_accuracy"] == 0
    assert task.metrics(jnp.asarray(right).at[other, 0].multiply(-1), example) == perfect


def test_at_length_makes_all_episodes_as_long(episodes):
    task, _ = episodes
    for length in (2, 7):
        longer = task.at_length(length)
        assert longer.max_length == length
        assert longer.output_size == task.output_size
        assert jax.eval_shape(longer.sample, jax.random.key(0)).inputs.shape[1] == task.num_bits + len(task.channels)
    assert PrioritySort(4, 20, 16).at_length(40).num_outputs == 32


def test_items_may_all_be_asked_for_but_the_last():
    task = AssociativeRecall(num_bits=16, item_length=1, min_items=4, max_items=4)
    examples = jax.jit(jax.vmap(task.sample))(jax.random.split(jax.random.key(1), 3000))
    inputs = np.asarray(examples.inputs)
    shown, asked = inputs[:, 1:8:2, :16], inputs[:, 9, :16]
    counts = (shown == asked[:, None]).all(axis=2).sum(axis=0)
    assert counts[3] <= 1
    assert (np.abs(counts[:3] - 1000) < 5 * np.sqrt(1000)).all()


def test_the_same_key_gives_the_same_episode_and_another_key_another():
    first, again, other = (TASKS[0].sample(jax.random.key(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.inputs, again.inputs)
    assert (np.asarray(first.inputs) != np.asarray(other.inputs)).any()


def test_describe_prints_a_line_for_each_step(episodes):
    task, examples = episodes
    example = examples[0]
    lines = task.describe(example).splitlines()
    assert len(lines) == example.length
    answers = [line.partition(" -> ")[2] for line in lines if " -> " in line]
    due = ["".join(str(int(bit)) for bit in target) for target in example.targets[example.mask]]
    assert answers == due
    assert task.channels[0] in task.describe(example)


def test_every_task_has_a_name():
    assert {type(task) for task in TASKS} == set(tasks.algorithmic.TASKS.values())
    assert tasks.TASKS.items() >= tasks.algorithmic.TASKS.items()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Copy(num_bits=0), "num_bits must be a whole number of at least 1, got 0"),
        (lambda: Copy(min_length=5, max_length=4), "min_length=5 is more than max_length=4"),
        (lambda: RepeatCopy(min_repeats=3, max_repeats=2), "min_repeats=3 is more than max_repeats=2"),
        (lambda: AssociativeRecall(min_items=3, max_items=2), "min_items=3 is more than max_items=2"),
        (lambda: AssociativeRecall(min_items=1), "min_items must be at least 2, .*, got 1"),
        (lambda: PrioritySort(num_inputs=4, num_outputs=5), "num_outputs=5 is more than num_inputs=4"),
    ],
)
def test_impossible_sizes_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()

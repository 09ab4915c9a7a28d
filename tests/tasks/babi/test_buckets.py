"""Few shapes for many lengths, and even draws from them."""

import itertools

import jax
import numpy as np
import pytest

from mnm_jax.tasks import babi
from mnm_jax.tasks.babi.buckets import MAX_BUCKETS, MAX_PADDING_SHARE, make_splits, optimal_bounds
from mnm_jax.tasks.babi.encoding import Episodes

pytestmark = pytest.mark.usefixtures("quick_compilation")


def make_episodes(lengths, tasks):
    """Each step of an episode holds the episode's number, and an answer, its task, is due at its last step."""
    lengths, tasks = np.array(lengths, np.int32), np.array(tasks, np.int32)
    targets = np.full(lengths.sum(), babi.NO_ANSWER, np.int16)
    targets[np.cumsum(lengths) - 1] = tasks
    return Episodes(np.repeat(np.arange(len(lengths), dtype=np.int16), lengths), targets, lengths, tasks)


@pytest.fixture(scope="module")
def lengths_and_tasks():
    """Task 4 has few and long episodes, task 2 many and short ones."""
    rng = np.random.default_rng(0)
    lengths = np.concatenate([rng.integers(7, 12, 120), rng.integers(5, 20, 60), rng.geometric(0.1, 20) + 10])
    return lengths, np.repeat([2, 3, 4], [120, 60, 20])


@pytest.fixture(scope="module")
def splits(lengths_and_tasks):
    episodes = make_episodes(*lengths_and_tasks)
    return make_splits({"train": episodes, "test": make_episodes([7, 5], [2, 2])})


def test_bounds_are_the_best_there_are():
    rng = np.random.default_rng(1)
    for _ in range(20):
        lengths, weights = rng.integers(1, 14, 30), rng.random(30)
        sizes = np.unique(lengths)

        def cost(bounds, lengths=lengths, weights=weights):
            bounds = np.array(bounds)
            return np.dot(weights, bounds[np.searchsorted(bounds, lengths)])

        found = list(optimal_bounds(lengths, weights))
        assert len(found) == min(MAX_BUCKETS, len(sizes))
        for k, bounds in enumerate(found[:5], 1):
            best = min(cost([*others, sizes[-1]]) for others in itertools.combinations(sizes[:-1], k - 1))
            assert len(bounds) == k
            assert bounds[-1] == sizes[-1]
            np.testing.assert_allclose(cost(bounds), best)


def test_there_are_no_more_buckets_than_it_takes(splits, lengths_and_tasks):
    train = splits["train"]
    bounds = np.array([bucket.num_steps for bucket in train.buckets])
    assert 1 < len(bounds) <= MAX_BUCKETS
    assert [bucket.num_steps for bucket in splits["test"].buckets] == list(bounds)

    def padding_shares(bounds, lengths, tasks):
        """Of the steps, every episode or every task counted alike."""
        padded, even = bounds[np.searchsorted(bounds, lengths)], 1 / np.bincount(tasks)[tasks]
        return 1 - lengths.sum() / padded.sum(), 1 - even @ lengths / (even @ padded)

    shares = padding_shares(bounds, *lengths_and_tasks)
    np.testing.assert_allclose((train.padding_share, train.drawn_padding_share), shares, rtol=1e-6)

    both = [np.append(x, more) for x, more in zip(lengths_and_tasks, ([7, 5], [2, 2]), strict=True)]
    fewer = list(optimal_bounds(both[0], 1 / np.bincount(both[1])[both[1]]))[len(bounds) - 2]
    for tried, is_enough in ((bounds, True), (fewer, False)):
        shares = padding_shares(tried, *lengths_and_tasks) + padding_shares(tried, *both)
        assert (max(shares) <= MAX_PADDING_SHARE) == is_enough


def test_episodes_of_one_length_take_one_bucket_and_no_padding():
    split = make_splits({"train": make_episodes([5, 5, 5], [1, 2, 2])})["train"]
    assert [bucket.inputs.shape for bucket in split.buckets] == [(3, 5)]
    assert split.padding_share == 0


def test_every_episode_is_in_the_smallest_bucket_that_it_fits(splits, lengths_and_tasks):
    lengths, tasks = lengths_and_tasks
    seen, shorter = [], 0
    for bucket in splits["train"].buckets:
        for inputs, targets, length, task in zip(*bucket[:4], strict=True):
            number = inputs[0]
            seen.append(number)
            assert (length, task) == (lengths[number], tasks[number])
            assert shorter < length <= bucket.num_steps
            np.testing.assert_array_equal(inputs, np.where(np.arange(bucket.num_steps) < length, number, 0))
            due = np.where(np.arange(bucket.num_steps) == length - 1, task, babi.NO_ANSWER)
            np.testing.assert_array_equal(targets, due)
        shorter = bucket.num_steps
    assert sorted(seen) == list(range(200))
    assert splits["train"].num_episodes == splits["train"].num_questions == 200


def test_a_task_may_be_drawn_more_often(lengths_and_tasks):
    episodes = make_episodes(*lengths_and_tasks)
    plain, emphatic = (make_splits({"train": episodes}, emphasis=emphasis)["train"] for emphasis in ({}, {2: 3.0}))

    def shares(split):
        drawn = dict.fromkeys(np.unique(episodes.tasks).tolist(), 0.0)
        for bucket, share in zip(split.buckets, split.shares, strict=True):
            for task, of_task in zip(
                np.unique(bucket.tasks), np.diff(bucket.cumulative_shares, prepend=0), strict=True
            ):
                drawn[int(task)] += share * of_task
        return np.array(list(drawn.values()))

    num_tasks = len(shares(plain))
    np.testing.assert_allclose(shares(plain), 1 / num_tasks, rtol=1e-5)
    np.testing.assert_allclose(shares(emphatic), np.array([3.0] + [1.0] * (num_tasks - 1)) / (num_tasks + 2), rtol=1e-5)


def test_take_marks_answers_and_padding(splits):
    bucket = splits["train"].buckets[-1]
    rows = np.array([[0, 1, 0], [1, 1, 0]])
    examples = babi.take(bucket, rows)
    assert examples.inputs.shape == examples.targets.shape == examples.mask.shape == (2, 3, bucket.num_steps)
    np.testing.assert_array_equal(examples.length, bucket.lengths[rows])
    np.testing.assert_array_equal(examples.task, bucket.tasks[rows])
    np.testing.assert_array_equal(examples.inputs, bucket.inputs[rows])
    np.testing.assert_array_equal(examples.mask.sum(-1), 1)
    np.testing.assert_array_equal(np.argmax(examples.mask, -1), examples.length - 1)
    np.testing.assert_array_equal(examples.targets.sum(-1), examples.task)


def test_every_task_is_drawn_alike_and_every_episode_of_a_task(splits, lengths_and_tasks):
    train, (_, tasks) = splits["train"], lengths_and_tasks
    draw = jax.jit(jax.vmap(babi.sample, in_axes=(0, None)))
    drawn = train.draw_buckets(0, range(3000))
    counts = np.zeros(200)
    for i, bucket in enumerate(train.buckets):
        num_updates = np.sum(drawn == i)
        assert abs(num_updates - 3000 * train.shares[i]) < 5 * np.sqrt(3000 * train.shares[i])
        # As many episodes of the bucket as all updates of the expected number would draw, 32 each.
        keys = jax.random.split(jax.random.key(i), round(3000 * 32 * train.shares[i]))
        np.add.at(counts, np.asarray(draw(keys, bucket).inputs[:, 0]), 1)
    of_task = np.bincount(tasks, counts)[2:] / counts.sum()
    np.testing.assert_allclose(of_task, 1 / 3, atol=5 * np.sqrt(2 / 9 / counts.sum()))
    expected = 96_000 / 3 / np.bincount(tasks)[tasks]
    assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected))


def test_the_draws_of_an_update_depend_on_seed_and_update_alone(splits):
    train = splits["train"]
    drawn = train.draw_buckets(3, range(200))
    np.testing.assert_array_equal(drawn[120:], train.draw_buckets(3, range(120, 200)))
    assert (drawn != train.draw_buckets(4, range(200))).any()
    assert len(train.draw_buckets(3, range(0))) == 0

    first, again, other = (babi.sample(jax.random.key(seed), train.buckets[0]) for seed in (5, 5, 6))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert (first.inputs != other.inputs).any()


def test_an_empty_bucket_is_never_drawn(splits):
    test = splits["test"]
    is_empty = np.array([len(bucket.lengths) == 0 for bucket in test.buckets])
    assert is_empty.any()
    assert not is_empty[test.draw_buckets(0, range(500))].any()
    np.testing.assert_array_equal(test.shares[is_empty], 0)
    np.testing.assert_allclose(test.shares.sum(), 1)
    assert 0 <= test.padding_share < 1
    assert 0 <= test.drawn_padding_share < 1

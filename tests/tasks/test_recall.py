"""Multi-query associative recall: what an episode says, and what its metric counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnm_jax.tasks import MultiQueryRecall

pytestmark = pytest.mark.usefixtures("quick_compilation")

TASKS = (
    MultiQueryRecall(num_pairs=3, num_steps=20, vocabulary_size=30),
    MultiQueryRecall(num_pairs=3, num_steps=20, vocabulary_size=30, random_fillers=False),
    MultiQueryRecall(num_pairs=4, num_steps=16, vocabulary_size=10),  # As many as there are steps and keys for.
)


@pytest.fixture(scope="module", params=TASKS, ids=("random fillers", "one filler", "full"))
def episodes(request):
    task = request.param
    examples = jax.device_get(jax.jit(jax.vmap(task.sample))(jax.random.split(jax.random.key(0), 64)))
    return task, [jax.tree.map(lambda leaf, i=i: leaf[i], examples) for i in range(64)]


def test_every_key_comes_again_once_with_its_value_due(episodes):
    task, examples = episodes
    half, first_query = task.vocabulary_size // 2, 2 * task.num_pairs
    for inputs, targets, mask in examples:
        assert inputs.shape == targets.shape == mask.shape == (task.num_steps,)
        keys, values = inputs[:first_query:2], inputs[1:first_query:2]
        assert len(set(keys)) == len(set(values)) == task.num_pairs
        assert ((keys >= 1) & (keys < half)).all()
        assert ((values >= half) & (values < task.vocabulary_size)).all()
        places = np.flatnonzero(mask)
        assert (places >= first_query).all()
        assert ((places - first_query) % 2 == 0).all()
        pairs = dict(zip(keys, values, strict=True))
        assert {int(inputs[t]): int(targets[t]) for t in places} == pairs
        assert len(places) == task.num_pairs
        assert not targets[~mask].any()
        fillers = np.delete(inputs, np.concatenate([np.arange(first_query), places]))
        assert ((fillers >= 0) & (fillers < task.vocabulary_size)).all()
        assert task.random_fillers or not fillers.any()


def test_gaps_follow_the_power_law():
    """With a single pair the place of the query is one draw of the law."""
    task, num_episodes = MultiQueryRecall(num_pairs=1, num_steps=12, vocabulary_size=8, power=0.3), 6000
    examples = jax.jit(jax.vmap(task.sample))(jax.random.split(jax.random.key(1), num_episodes))
    gaps = (np.argmax(examples.mask, axis=1) - 2) // 2
    counts = np.bincount(gaps, minlength=5)
    law = np.arange(1.0, 6.0) ** (0.3 - 1)
    expected = num_episodes * law / law.sum()
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()


def test_loss_and_metric_count_the_queries_alone():
    task = TASKS[0]
    example = task.sample(jax.random.key(0))
    assert task.loss(jnp.zeros((20, 30)), example) == pytest.approx(np.log(30), rel=1e-6)
    right = jax.nn.one_hot(example.targets, 30)
    assert task.metrics(right, example) == {"query_accuracy": 1.0}
    query, other = np.flatnonzero(example.mask)[0], np.flatnonzero(~example.mask)[0]
    wrong = right.at[query].set(jax.nn.one_hot(0, 30)).at[other].set(9.0)
    assert task.metrics(wrong, example)["query_accuracy"] == pytest.approx(2 / 3)
    assert task.levels()["values but not keys"]["query_accuracy"] == pytest.approx(1 / 3)


def test_describe_prints_pairs_and_answers(episodes):
    task, examples = episodes
    example = examples[0]
    *pairs, rest = task.describe(example).splitlines()
    answers = dict(text.split(" -> ") for text in rest.split(", ") if " -> " in text)
    assert answers == dict(pair.split(" : ") for pair in pairs)
    assert len(pairs) == task.num_pairs
    assert len(rest.split(", ")) == task.num_steps - 2 * task.num_pairs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_pairs": 0}, "num_pairs must be a whole number of at least 1, got 0"),
        ({"num_pairs": 17}, r"num_pairs=17 takes 4 \* num_pairs = 68 steps, got num_steps=64"),
        ({"num_pairs": 8, "vocabulary_size": 16}, "num_pairs=8 is more than vocabulary_size=16 has keys: 7"),
        ({"num_steps": 65}, "num_steps must be even, got 65"),
        ({"vocabulary_size": 65}, "vocabulary_size must be even, got 65"),
        ({"power": 0.0}, "power must be positive and finite, got 0.0"),
        ({"power": float("nan")}, "power must be positive and finite, got nan"),
    ],
)
def test_impossible_sizes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MultiQueryRecall(**arguments)

"""The dictionary task: what an episode says, and what its metrics count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnm_jax.tasks.dictionary import Dictionary

pytestmark = pytest.mark.usefixtures("quick_compilation")

TASKS = {
    "single characters": Dictionary(num_pairs=4),
    "two of three queries": Dictionary(num_pairs=3, num_queries=2, word_length=2, source_alphabet_size=3),
    "all words": Dictionary(num_pairs=8, word_length=3, source_alphabet_size=2, target_alphabet_size=5),
}


@pytest.fixture(scope="module", params=TASKS.values(), ids=TASKS.keys())
def episodes(request):
    task = request.param
    examples = jax.device_get(jax.jit(jax.vmap(task.sample))(jax.random.split(jax.random.key(0), 64)))
    return task, [jax.tree.map(lambda leaf, i=i: leaf[i], examples) for i in range(64)]


def parse(task, example):
    """Reads an episode back from its symbols: the dictionary, and the queries with their answers."""
    end, question = task.vocabulary_size - 2, task.vocabulary_size - 1
    length, symbols = task.word_length, list(example.inputs)
    pairs, queries = {}, []
    for _ in range(task.num_pairs):
        source, symbols = tuple(symbols[:length]), symbols[length:]
        target, symbols = tuple(int(s) - task.source_alphabet_size for s in symbols[:length]), symbols[length:]
        assert symbols.pop(0) == end
        pairs[source] = target
    while symbols:
        source, questions, symbols = tuple(symbols[:length]), symbols[length : 2 * length], symbols[2 * length :]
        assert questions == [question] * length
        queries.append(source)
    return pairs, queries


def test_an_episode_is_a_dictionary_and_different_words_from_it(episodes):
    task, examples = episodes
    for example in examples:
        assert example.inputs.shape == example.targets.shape == example.mask.shape == (task.num_steps,)
        pairs, queries = parse(task, example)
        assert len(pairs) == task.num_pairs  # Distinct source words.
        assert all(0 <= s < task.source_alphabet_size for word in pairs for s in word)
        assert all(0 <= t < task.target_alphabet_size for word in pairs.values() for t in word)
        assert len(queries) == len(set(queries)) == (task.num_queries or task.num_pairs)
        due = np.concatenate([pairs[query] for query in queries])
        np.testing.assert_array_equal(example.targets[example.mask], due)
        np.testing.assert_array_equal(example.inputs[example.mask], task.vocabulary_size - 1)  # All are question marks.
        assert not example.targets[~example.mask].any()


def test_words_and_queries_come_in_every_order():
    task = Dictionary(num_pairs=3, source_alphabet_size=3, target_alphabet_size=2)
    examples = jax.jit(jax.vmap(task.sample))(jax.random.split(jax.random.key(1), 3000))
    inputs = np.asarray(examples.inputs)
    for steps in ([0, 3, 6], [9, 11, 13]):
        orders, counts = np.unique(inputs[:, steps], axis=0, return_counts=True)
        assert len(orders) == 6
        assert counts.min() > 500 - 5 * np.sqrt(500)
    targets, counts = np.unique(inputs[:, 1], return_counts=True)
    np.testing.assert_array_equal(targets, [3, 4])
    assert abs(counts[0] - 1500) < 5 * np.sqrt(750)


def test_the_same_key_gives_the_same_episode_and_another_key_another():
    task = TASKS["single characters"]
    first, again, other = (task.sample(jax.random.key(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.inputs, again.inputs)
    assert (np.asarray(first.inputs) != np.asarray(other.inputs)).any()


def test_metrics_count_characters_and_whole_words():
    task = Dictionary(num_pairs=2, word_length=2)
    example = task.sample(jax.random.key(0))
    logits = jax.nn.one_hot(example.targets, task.output_size)
    assert task.metrics(logits, example) == {"character_accuracy": 1.0, "word_accuracy": 1.0}
    # One wrong character of four: three quarters of the characters, half of the words. Other steps do not matter.
    last = task.num_steps - 1
    wrong = logits.at[last].set(jax.nn.one_hot((example.targets[last] + 1) % task.output_size, task.output_size))
    assert task.metrics(wrong.at[0].set(9.0), example) == {"character_accuracy": 0.75, "word_accuracy": 0.5}


def test_loss_is_the_mean_cross_entropy_of_the_answers():
    task = Dictionary(num_pairs=3, target_alphabet_size=4)
    example = task.sample(jax.random.key(0))
    logits = jax.random.normal(jax.random.key(1), (task.num_steps, 4))
    expected = [-jax.nn.log_softmax(logits[t])[example.targets[t]] for t in np.flatnonzero(example.mask)]
    np.testing.assert_allclose(task.loss(logits, example), np.mean(expected), rtol=1e-6)
    np.testing.assert_allclose(task.loss(jnp.zeros_like(logits), example), np.log(4), rtol=1e-6)


@pytest.mark.parametrize(("num_pairs", "word_length"), [(4, 1), (8, 1), (3, 2)])
def test_levels_agree_with_counting(num_pairs, word_length):
    task = Dictionary(num_pairs=num_pairs, word_length=word_length, target_alphabet_size=5)
    levels = task.levels()
    assert levels["chance"] == {"character_accuracy": 0.2, "word_accuracy": pytest.approx(0.2**word_length)}
    random = np.random.default_rng(0)
    for metric, kinds in (("character_accuracy", 5), ("word_accuracy", 5**word_length)):
        draws = random.integers(0, kinds, (20_000, num_pairs))
        modes = np.max([(draws == kind).sum(axis=1) for kind in range(kinds)], axis=0)
        assert abs(levels["words but not pairing"][metric] - modes.mean() / num_pairs) < 0.01


def test_describe_prints_pairs_and_answers():
    task = Dictionary(num_pairs=2, num_queries=1, word_length=2, source_alphabet_size=30, target_alphabet_size=2)
    lines = task.describe(task.sample(jax.random.key(2))).splitlines()
    pairs = dict(line.split(" : ") for line in lines[:2])
    source, answer = lines[2].split(" ? ")
    assert len(lines) == 3
    assert pairs[source] == answer
    assert set("".join(pairs.values())) <= {"A", "B"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_pairs": 11}, "num_pairs=11 .* source_alphabet_size=10 and word_length=1 allow at most 10"),
        ({"num_pairs": 0}, "num_pairs must be a whole number of at least 1, got 0"),
        ({"num_pairs": 3, "num_queries": 4}, "num_queries=4 is more than num_pairs=3"),
        ({"num_pairs": 3, "word_length": 10}, "source_alphabet_size=10 and word_length=10 give 2.*31 words or more"),
        ({"num_pairs": 3, "target_alphabet_size": -1}, "target_alphabet_size must be"),
    ],
)
def test_impossible_sizes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Dictionary(**arguments)

"""What is an index, a length, a mask or a size, and what is not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnm_jax import _checks, tasks


@pytest.mark.parametrize("length", [0, 3, np.int64(3), np.array(3), jnp.int32(3), jnp.uint8(3)])
def test_a_length_is_a_whole_number(length):
    _checks.check_length("length", length, 3)
    jax.jit(lambda length: _checks.check_length("length", length, 3))(length)


@pytest.mark.parametrize(
    ("length", "got"),
    [
        (3.5, "3.5"),
        (True, "True"),
        (np.True_, r"bool of shape \[\]"),
        (jnp.array([1, 1, 0]), r"int32 of shape \[3\]"),
        (jnp.float32(3), r"float32 of shape \[\]"),
        ([1, 1, 0], r"\[1, 1, 0\]"),
        ("3", "'3'"),
    ],
)
def test_what_is_no_length_is_refused_by_name(length, got):
    with pytest.raises(AssertionError, match=f"argument 'length': wants .* whole number .*vmap.* got {got}"):
        _checks.check_length("length", length)


def test_a_length_that_is_known_has_to_be_possible():
    for length in (-1, jnp.int32(4)):
        with pytest.raises(ValueError, match=f"argument 'length': wants a whole number of 0 to 3, got {length}"):
            _checks.check_length("length", length, 3)
    with pytest.raises(ValueError, match="of at least 0, got -1"):
        _checks.check_length("length", -1)


def test_a_mask_is_boolean():
    _checks.check_mask("mask", jnp.array([True, False]), (2,))
    _checks.check_mask("mask", np.array([True, False]), (None,))
    for mask in (jnp.ones(2), jnp.ones(2, int), jnp.array([True]), [True, False], True):
        with pytest.raises(AssertionError, match=r"argument 'mask': wants booleans of shape \[2\]"):
            _checks.check_mask("mask", mask, (2,))


def test_an_index_is_an_integer_below_the_size():
    _checks.check_index("index", jnp.array([0, 4]), (2,), 5)
    _checks.check_index("index", np.int8(4), (), 5)
    jax.jit(lambda index: _checks.check_index("index", index, (), 5))(7)  # Its value is not known.
    for index in (jnp.zeros(2), jnp.zeros(2, bool), jnp.zeros((2, 1), int), 1, True):
        with pytest.raises(AssertionError, match=r"argument 'index': wants integers of shape \[2\]"):
            _checks.check_index("index", index, (2,), 5)
    for index in (5, -1):
        with pytest.raises(ValueError, match=f"argument 'index': wants integers of 0 to 4, got {index}"):
            _checks.check_index("index", jnp.array([0, index]), (2,), 5)


def test_a_number_is_single_and_real():
    for number in (0.5, 1, np.float32(0.5), jnp.bfloat16(0.5), jnp.int32(1)):
        _checks.check_number("number", number)
    for number in (True, jnp.ones(1), [0.5], None, 1j):
        with pytest.raises(AssertionError, match="argument 'number': wants a single number"):
            _checks.check_number("number", number)


def test_a_size_is_a_whole_number_of_python_or_numpy():
    _checks.check_positive(size=1)
    _checks.check_positive(size=np.int64(2))
    for size in (0, 2.0, True, np.True_, np.float32(2), np.int64(0), "2", None):
        with pytest.raises(ValueError, match="size must be a whole number of at least 1, got "):
            _checks.check_positive(size=size)


def test_a_key_is_one_random_key():
    for key in (jax.random.key(0), jax.random.PRNGKey(0), jax.random.key(0, impl="rbg")):
        _checks.check_key("rng", key)
        jax.jit(lambda key: _checks.check_key("rng", key))(key)
    for key, got in (
        (0, "0"),
        (jnp.zeros(2), "float32"),
        (jax.random.split(jax.random.key(0)), "key<fry>"),
        ("0", "'0'"),
    ):
        with pytest.raises(AssertionError, match=f"argument 'rng': wants one random key, .*, got {got}"):
            _checks.check_key("rng", key)


@pytest.mark.parametrize(
    "draw",
    [
        tasks.Dictionary(num_pairs=2).sample,
        tasks.MultiQueryRecall().sample,
        *(task().sample for task in tasks.algorithmic.TASKS.values()),
        functools.partial(tasks.MazeTask().act, policy=None),
        tasks.MazeTask().environment.reset,
    ],
    ids=lambda draw: getattr(draw, "__qualname__", "act"),
)
def test_an_episode_is_drawn_from_a_key(draw):
    with pytest.raises(AssertionError, match=r"wants one random key, such as .*, got 0"):
        draw(0)

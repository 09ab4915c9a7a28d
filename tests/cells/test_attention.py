"""Tests of attention to everything that was written in the episode."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from carried_suite import CONTROLLER_SIZE, INPUT_SIZE, OUTPUT_SIZE, CarriedSuite, T, assert_close, normal

import mnm_jax as mnm
from mnm_jax.cells import attention

S, KEY_SIZE, VALUE_SIZE, H = 9, 3, 2, 2

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def cell():
    return mnm.cells.Attention(OUTPUT_SIZE, CONTROLLER_SIZE, S, KEY_SIZE, VALUE_SIZE, num_heads=H)


class TestCarried(CarriedSuite):
    pass


@pytest.fixture(scope="module")
def steps(cell, variables, inputs):
    """The carry and the output after each step, one by one."""
    step = jax.jit(cell.apply)
    carry, results = cell.apply(variables, method="initial_carry"), []
    for x in inputs:
        carry, (output, _) = step(variables, carry, x)
        results.append((carry, output))
    return results


@pytest.fixture(scope="module")
def almost_full(whole):
    """A carry with room for one more step."""
    rows = normal(6, S, H * (KEY_SIZE + VALUE_SIZE)).at[S - 1].set(0)
    return whole.carry._replace(memory=(mnm.memory.Layer(rows, None),), num_written=jnp.array(S - 1))


def table(carry):
    """The keys `[S, H, KEY_SIZE]` and the values `[S, H, VALUE_SIZE]`."""
    return np.split(np.asarray(carry.memory[0].kernel).reshape(S, H, -1), [KEY_SIZE], axis=2)


def test_weights_equal_loop_and_are_zero_at_unwritten_rows():
    rows, queries, count = normal(0, S, H, KEY_SIZE + VALUE_SIZE), normal(1, H, KEY_SIZE), 4
    weights = np.asarray(attention.attend(rows, queries, count))
    keys = rows[:, :, :KEY_SIZE]
    for i in range(H):
        exponentials = [np.exp(np.dot(keys[s, i], queries[i]) / np.sqrt(KEY_SIZE)) for s in range(count)]
        np.testing.assert_allclose(weights[:count, i], exponentials / sum(exponentials), rtol=1e-5)
    np.testing.assert_array_equal(weights[count:], 0)


def test_first_row_alone_gets_all_weight():
    weights = attention.attend(normal(0, S, H, KEY_SIZE), normal(1, H, KEY_SIZE), 1)
    np.testing.assert_array_equal(weights, np.eye(S)[:, :1] * np.ones(H))


def test_steps_equal_numpy_loop_over_written_keys(variables, steps):
    params = jax.tree.map(np.asarray, variables["params"])
    keys, values = [], []
    for t, (carry, output) in enumerate(steps):
        hidden = np.asarray(carry.controller[1])
        signals = (hidden @ params["interface"]["kernel"]).reshape(H, -1)
        key, query, value = np.split(signals, (KEY_SIZE, 2 * KEY_SIZE), axis=1)
        keys.append(key)
        values.append(value)
        reads = []
        for i in range(H):
            exponentials = [np.exp(np.dot(k[i], query[i]) / np.sqrt(KEY_SIZE)) for k in keys]
            reads.append(sum(e * v[i] for e, v in zip(exponentials, values, strict=True)) / sum(exponentials))
        read = np.mean(reads, axis=0)

        for actual, desired in zip(table(carry), (keys, values), strict=True):
            np.testing.assert_allclose(actual[: t + 1], desired, rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(actual[t + 1 :], 0)
        assert carry.num_written == t + 1
        np.testing.assert_allclose(carry.read, read, rtol=1e-4, atol=1e-6)
        expected = np.concatenate([hidden, read]) @ params["output"]["kernel"] + params["output"]["bias"]
        np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-6)


def test_first_step_reads_what_it_wrote(steps):
    carry, _ = steps[0]
    np.testing.assert_allclose(carry.read, table(carry)[1][0].mean(axis=0), rtol=1e-6)


def test_unroll_equals_steps(whole, steps):
    assert_close(whole.outputs, np.stack([output for _, output in steps]))
    assert_close(whole.carry, steps[-1][0])


def test_unused_rows_change_nothing(variables, inputs, whole):
    roomy = mnm.cells.Attention(OUTPUT_SIZE, CONTROLLER_SIZE, 2 * S, KEY_SIZE, VALUE_SIZE, num_heads=H)
    assert_close(jax.jit(functools.partial(mnm.unroll, roomy))(variables, inputs).outputs, whole.outputs)


def test_shapes(whole):
    assert whole.carry.memory[0].kernel.shape == (S, H * (KEY_SIZE + VALUE_SIZE))
    assert whole.carry.num_written.dtype == jnp.int32


def test_refuses_longer_episode(cell, variables):
    with pytest.raises(ValueError, match=r"max_steps must be at least 10, for 0 steps .* and 10 to come, got 9"):
        mnm.unroll(cell, variables, jnp.zeros((S + 1, INPUT_SIZE)))
    with pytest.raises(ValueError, match="max_steps"):
        jax.jit(lambda xs: mnm.unroll(cell, variables, xs))(jnp.zeros((S + 1, INPUT_SIZE)))


def test_refuses_to_go_on_past_the_end(cell, variables, inputs, almost_full):
    with pytest.raises(ValueError, match=r"max_steps must be at least 10, for 8 steps .* and 2 to come, got 9"):
        mnm.unroll(cell, variables, inputs[:2], almost_full)


def test_check_room(cell, almost_full):
    cell.check_room(None, S)
    cell.check_room(almost_full, 1)
    for carry, num_steps in [(None, S + 1), (almost_full, 2)]:
        with pytest.raises(ValueError, match="max_steps"):
            cell.check_room(carry, num_steps)


def test_a_batch_goes_on_from_its_carry(cell, variables, inputs):
    batch = jnp.stack([inputs, -inputs])
    whole = mnm.unroll_batch(cell, variables, batch[:, :4])
    start = mnm.unroll_batch(cell, variables, batch[:, :2])
    rest = mnm.unroll_batch(cell, variables, batch[:, 2:4], start.carry)
    np.testing.assert_allclose(rest.outputs, whole.outputs[:, 2:], rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"max_steps must be at least 11, for 2 steps .* and 9 to come, got 9"):
        mnm.unroll_batch(cell, variables, jnp.zeros((2, S, INPUT_SIZE)), start.carry)


def test_traced_count_gives_nan_past_the_end_and_overwrites_nothing(cell, unroll, variables, inputs, almost_full):
    past_end = unroll(variables, inputs[: T // 2], almost_full)
    at_end, (output, _) = jax.jit(cell.apply)(variables, almost_full, inputs[0])
    assert_close(past_end.outputs[0], output)
    assert np.isnan(past_end.outputs[1:]).all()
    assert_close(past_end.carry.memory, at_end.memory)
    for after, before in zip(table(at_end), table(almost_full), strict=True):
        np.testing.assert_array_equal(after[:-1], before[:-1])
        assert np.all(after[-1] != 0)


def test_masked_steps_past_the_end_leave_gradient_finite(cell, variables, inputs, almost_full):
    @jax.jit
    @jax.grad
    def gradient(variables, carry):
        return jnp.sum(mnm.unroll(cell, variables, inputs, carry, length=1).outputs)

    gradients = jax.tree.leaves(gradient(variables, almost_full))
    assert all(np.isfinite(leaf).all() and leaf.any() for leaf in gradients)


@pytest.mark.parametrize("name", ["output_size", "controller_size", "max_steps", "key_size", "value_size", "num_heads"])
def test_refuses_sizes_below_one(cell, name):
    with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, got 0"):
        cell.clone(**{name: 0}).init(jax.random.key(0), None, jnp.ones(2))


@pytest.mark.parametrize(
    ("name", "shape"),
    [("rows", (S, H + 1, KEY_SIZE)), ("rows", (S, KEY_SIZE)), ("queries", (KEY_SIZE,)), ("queries", (1, H, KEY_SIZE))],
)
def test_attend_names_the_argument_of_wrong_shape(name, shape):
    arguments = {"rows": jnp.ones((S, H, KEY_SIZE)), "queries": jnp.ones((H, KEY_SIZE)), name: jnp.ones(shape)}
    with pytest.raises(AssertionError, match=f"argument '{name}'"):
        attention.attend(**arguments, count=1)

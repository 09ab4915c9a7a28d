"""Tests of the look-up table that is written and read by soft attention."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from carried_suite import CONTROLLER_SIZE, OUTPUT_SIZE, CarriedSuite, T, assert_close, normal

import mnm_jax as mnm
from mnm_jax.cells import salu

S, KEY_SIZE, VALUE_SIZE, H = 5, 3, 2, 2

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def cell():
    return mnm.cells.SALU(OUTPUT_SIZE, CONTROLLER_SIZE, S, KEY_SIZE, VALUE_SIZE, num_heads=H)


class TestCarried(CarriedSuite):
    own_parameters = frozenset({"initial_keys", "initial_values"})


def loop_address(slot_keys, keys, strengths):
    weights = np.zeros((len(keys), len(slot_keys)))
    for i, key in enumerate(np.asarray(keys, np.float64)):
        for s, slot_key in enumerate(np.asarray(slot_keys, np.float64)):
            product, key_square, slot_square = 0.0, 0.0, 0.0
            for a, b in zip(key, slot_key, strict=True):
                product, key_square, slot_square = product + a * b, key_square + a * a, slot_square + b * b
            weights[i, s] = np.exp(strengths[i] * product / np.sqrt(key_square * slot_square))
        weights[i] /= weights[i].sum()
    return weights


def loop_write(table, weights, erase, additions):
    table = np.array(table, np.float64)
    for s, w in np.ndindex(table.shape):
        for i in range(len(weights)):
            table[s, w] *= 1 - weights[i, s] * erase[i, w]
        for i in range(len(weights)):
            table[s, w] += weights[i, s] * additions[i, w]
    return table


def test_address_equals_loop_and_sums_to_one():
    slot_keys, keys, strengths = normal(0, S, KEY_SIZE), normal(1, H, KEY_SIZE), jnp.array([0.5, 4.0])
    weights = salu.address(slot_keys, keys, strengths)
    np.testing.assert_allclose(weights, loop_address(slot_keys, keys, strengths), rtol=1e-5)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)


def test_address_does_not_depend_on_lengths_of_vectors():
    slot_keys, keys, strengths = normal(0, S, KEY_SIZE), normal(1, H, KEY_SIZE), jnp.array([0.5, 4.0])
    longer = salu.address(slot_keys * jnp.arange(1, S + 1)[:, None], 3 * keys, strengths)
    assert_close(longer, salu.address(slot_keys, keys, strengths))


def test_huge_strength_reads_one_slot_exactly():
    slot_keys, slot_values = normal(0, S, KEY_SIZE), normal(1, S, VALUE_SIZE)
    weights = salu.address(slot_keys, slot_keys[jnp.array([3, 1])], jnp.full(H, 1e6))
    np.testing.assert_array_equal(weights @ slot_values, slot_values[jnp.array([3, 1])])


def test_full_erase_at_one_slot_stores_addition_exactly():
    values, addition = normal(0, S, VALUE_SIZE), normal(1, 1, VALUE_SIZE)
    after = salu.write(values, jax.nn.one_hot(jnp.array([2]), S), jnp.ones((1, VALUE_SIZE)), addition)
    np.testing.assert_array_equal(after, values.at[2].set(addition[0]))


@pytest.mark.parametrize("num_heads", [1, 2, 3])
def test_write_equals_loop_in_any_order_of_heads(num_heads):
    values, weights = normal(0, S, VALUE_SIZE), jax.nn.softmax(normal(1, num_heads, S))
    erase, additions = jax.nn.sigmoid(normal(2, num_heads, VALUE_SIZE)), normal(3, num_heads, VALUE_SIZE)
    after = salu.write(values, weights, erase, additions)
    np.testing.assert_allclose(after, loop_write(values, weights, erase, additions), rtol=1e-5, atol=1e-6)
    assert_close(after, salu.write(values, weights[::-1], erase[::-1], additions[::-1]))


def test_no_nan_at_zero_table_and_zero_keys():
    def loss(slot_keys, values, keys, strengths):
        weights = salu.address(slot_keys, keys, strengths)
        after = [salu.write(table, weights, *jnp.ones((2, H, table.shape[1]))) for table in (slot_keys, values)]
        return sum(jnp.sum(jnp.square(table) * jnp.arange(S)[:, None]) for table in after)

    zeros = [jnp.zeros(shape) for shape in ((S, KEY_SIZE), (S, VALUE_SIZE), (H, KEY_SIZE))]
    value, gradients = jax.jit(jax.value_and_grad(loss, (0, 1, 2, 3)))(*zeros, jnp.ones(H))
    assert all(np.isfinite(leaf).all() for leaf in (value, *gradients))
    # Of the addition, every slot gets H / S from the zero table.
    np.testing.assert_allclose(value, (KEY_SIZE + VALUE_SIZE) * (H / S) ** 2 * sum(range(S)), rtol=1e-6)


@pytest.mark.parametrize("value_normalization", ["rms", None])
def test_step_equals_numpy_reference(cell, variables, inputs, halves, value_normalization):
    cell, before = cell.clone(value_normalization=value_normalization), halves[0].carry
    after, (output, _) = jax.jit(cell.apply)(variables, before, inputs[T // 2])
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    hidden = np.asarray(after.controller[1], np.float64)
    signals = (hidden @ params["interface"]["kernel"] + params["interface"]["bias"]).reshape(H, -1)
    ends = np.cumsum([KEY_SIZE, KEY_SIZE, KEY_SIZE, VALUE_SIZE, KEY_SIZE, VALUE_SIZE])
    write_keys, read_keys, add_keys, add_values, erase_keys, erase_values, strengths = np.split(signals, ends, axis=1)
    write_strengths, read_strengths = np.log1p(np.exp(strengths)).T
    add_values = np.tanh(add_values)
    if value_normalization == "rms":
        add_values /= np.sqrt(np.mean(np.square(add_values), axis=1, keepdims=True))

    weights = loop_address(before.keys, np.tanh(write_keys), write_strengths)
    keys = loop_write(before.keys, weights, 1 / (1 + np.exp(-erase_keys)), np.tanh(add_keys))
    values = loop_write(before.values, weights, 1 / (1 + np.exp(-erase_values)), add_values)
    weights = loop_address(keys, np.tanh(read_keys), read_strengths)
    read = np.mean([sum(weights[i, s] * values[s] for s in range(S)) for i in range(H)], axis=0)
    expected = np.concatenate([hidden, read]) @ params["output"]["kernel"] + params["output"]["bias"]

    np.testing.assert_allclose(after.keys, keys, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(after.values, values, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(after.read, read, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)


def test_starts_from_learned_table_with_distinct_slots(cell, variables):
    carry = cell.apply(variables, method="initial_carry")
    params = variables["params"]
    np.testing.assert_array_equal(carry.keys, params["initial_keys"])
    np.testing.assert_array_equal(carry.values, params["initial_values"])
    assert carry.keys.shape == (S, KEY_SIZE)
    assert carry.values.shape == (S, VALUE_SIZE)
    assert len(np.unique(carry.keys, axis=0)) == len(np.unique(carry.values, axis=0)) == S
    assert not carry.read.any()


def test_table_at_the_start_has_the_documented_spread():
    cell = mnm.cells.SALU(1, 1, num_slots=2000, key_size=3, value_size=5)
    params = jax.jit(cell.init)(jax.random.key(0), None, jnp.ones(1))["params"]
    np.testing.assert_allclose(np.std(params["initial_keys"]), 8**-0.5, rtol=0.05)
    np.testing.assert_allclose(np.std(params["initial_values"]), 8**-0.5, rtol=0.05)


def test_interface_starts_with_the_given_biases(cell):
    cell = cell.clone(strength_bias=7.0, erase_bias=-1.0)
    biases = jax.jit(cell.init)(jax.random.key(0), None, jnp.ones(2))["params"]["interface"]["bias"].reshape(H, -1)
    width = KEY_SIZE + VALUE_SIZE
    np.testing.assert_array_equal(biases[:, : 2 * KEY_SIZE + width], 0)
    np.testing.assert_array_equal(biases[:, 2 * KEY_SIZE + width : -2], -1)
    np.testing.assert_array_equal(biases[:, -2:], 7)


def test_refuses_unknown_normalization(cell):
    with pytest.raises(ValueError, match="value_normalization must be one of 'rms', None, got 'l2'"):
        cell.clone(value_normalization="l2").init(jax.random.key(0), None, jnp.ones(2))


def test_shapes(whole):
    assert whole.carry.keys.shape == (S, KEY_SIZE)
    assert whole.carry.values.shape == (S, VALUE_SIZE)
    assert whole.carry.read.shape == (VALUE_SIZE,)


def test_num_slots_matching():
    spec = mnm.memory.Spec(100, 100, (100, 100))
    assert mnm.cells.num_slots_matching(spec, 100, 100) == 150
    with_biases = mnm.memory.Spec(100, 100, (100, 100), use_bias=True)
    assert mnm.cells.num_slots_matching(with_biases, 100, 100) == 152
    assert mnm.cells.num_slots_matching(mnm.memory.Spec(1, 1), 100, 100) == 1
    with pytest.raises(ValueError, match="key_size"):
        mnm.cells.num_slots_matching(mnm.memory.Spec(1, 1), 0, 1)


@pytest.mark.parametrize("name", ["output_size", "controller_size", "num_slots", "key_size", "value_size", "num_heads"])
def test_refuses_sizes_below_one(cell, name):
    with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, got 0"):
        cell.clone(**{name: 0}).init(jax.random.key(0), None, jnp.ones(2))


ADDRESS_SHAPES = {"slot_keys": (S, KEY_SIZE), "keys": (H, KEY_SIZE), "strengths": (H,)}
WRITE_SHAPES = {"table": (S, VALUE_SIZE), "weights": (H, S), "erase": (H, VALUE_SIZE), "additions": (H, VALUE_SIZE)}


@pytest.mark.parametrize("extend", [lambda shape: (*shape, 1), lambda shape: shape[:-1]], ids=["more", "fewer"])
@pytest.mark.parametrize(
    ("function", "shapes", "name"),
    [(salu.address, ADDRESS_SHAPES, name) for name in ADDRESS_SHAPES]
    + [(salu.write, WRITE_SHAPES, name) for name in WRITE_SHAPES],
)
def test_pure_functions_name_the_argument_of_wrong_rank(function, shapes, name, extend):
    arguments = {each: jnp.ones(extend(shape) if each == name else shape) for each, shape in shapes.items()}
    with pytest.raises(AssertionError, match=f"argument '{name}'"):
        function(**arguments)


def test_pure_functions_name_the_argument_of_wrong_width():
    with pytest.raises(AssertionError, match="argument 'slot_keys'"):
        salu.address(jnp.ones((S, KEY_SIZE + 1)), jnp.ones((H, KEY_SIZE)), jnp.ones(H))
    with pytest.raises(AssertionError, match="argument 'erase'"):
        salu.write(jnp.ones((S, 2)), jnp.ones((H, S)), jnp.ones((H, 3)), jnp.ones((H, 2)))

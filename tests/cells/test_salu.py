import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mnm_jax as mnm
from mnm_jax.cells import salu

T, INPUT_SIZE, OUTPUT_SIZE, CONTROLLER_SIZE = 6, 3, 2, 4
S, KEY_SIZE, VALUE_SIZE, H = 5, 3, 2, 2
W = KEY_SIZE + VALUE_SIZE


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.fixture(scope="module")
def cell():
    return mnm.cells.SALU(OUTPUT_SIZE, CONTROLLER_SIZE, S, KEY_SIZE, VALUE_SIZE, num_heads=H)


@pytest.fixture(scope="module")
def inputs():
    return normal(0, T, INPUT_SIZE)


@pytest.fixture(scope="module")
def variables(cell, inputs):
    return jax.jit(cell.init)(jax.random.key(1), None, inputs[0])


@pytest.fixture(scope="module")
def unroll(cell):
    return jax.jit(functools.partial(mnm.unroll, cell))


@pytest.fixture(scope="module")
def whole(unroll, variables, inputs):
    return unroll(variables, inputs)


@pytest.fixture(scope="module")
def halves(cell, unroll, variables, inputs):
    """The two halves of the episode, the second going on from the carry of the first."""
    first = unroll(variables, inputs[: T // 2], cell.apply(variables, method="initial_carry"))
    return first, unroll(variables, inputs[T // 2 :], first.carry)


@pytest.fixture(scope="module")
def gradients(cell, variables, inputs):
    """For the chunked and the plain unroll: the gradients by variables and inputs, and the outputs."""

    def loss(variables, inputs, reversible):
        outputs = mnm.unroll(cell, variables, inputs, reversible=reversible).outputs
        return jnp.sum(jnp.sin(outputs)), outputs

    gradient = jax.jit(jax.grad(loss, (0, 1), has_aux=True), static_argnums=2)
    return {reversible: gradient(variables, inputs, reversible) for reversible in (True, False)}


def assert_close(actual, desired, rtol=1e-5, atol=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol, atol), actual, desired)


def loop_address(slot_keys, keys, strengths):
    weights = np.zeros((len(keys), len(slot_keys)))
    for i, key in enumerate(keys):
        for s, slot_key in enumerate(slot_keys):
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
    table = normal(0, S, W)
    slot_keys, slot_values = table[:, :KEY_SIZE], table[:, KEY_SIZE:]
    weights = salu.address(slot_keys, slot_keys[jnp.array([3, 1])], jnp.full(H, 1e6))
    np.testing.assert_array_equal(weights @ slot_values, slot_values[jnp.array([3, 1])])


def test_full_erase_at_one_slot_stores_addition_exactly():
    table, addition = normal(0, S, W), normal(1, 1, W)
    after = salu.write(table, jax.nn.one_hot(jnp.array([2]), S), jnp.ones((1, W)), addition)
    np.testing.assert_array_equal(after, table.at[2].set(addition[0]))


def test_write_with_two_heads_equals_loop_in_any_order():
    table, weights = normal(0, S, W), jax.nn.softmax(normal(1, H, S))
    erase, additions = jax.nn.sigmoid(normal(2, H, W)), normal(3, H, W)
    after = salu.write(table, weights, erase, additions)
    np.testing.assert_allclose(after, loop_write(table, weights, erase, additions), rtol=1e-5, atol=1e-6)
    assert_close(after, salu.write(table, weights[::-1], erase[::-1], additions[::-1]))


def test_no_nan_at_zero_table_and_zero_keys():
    def loss(table, keys, strengths):
        weights = salu.address(table[:, :KEY_SIZE], keys, strengths)
        after = salu.write(table, weights, jnp.ones((H, W)), jnp.ones((H, W)))
        return jnp.sum(jnp.square(after) * jnp.arange(S)[:, None])

    value, gradients = jax.value_and_grad(loss, (0, 1, 2))(jnp.zeros((S, W)), jnp.zeros((H, KEY_SIZE)), jnp.ones(H))
    assert all(np.isfinite(leaf).all() for leaf in (value, *gradients))
    # Of the addition, every slot gets H / S from the zero table.
    np.testing.assert_allclose(value, W * (H / S) ** 2 * sum(range(S)), rtol=1e-6)


def test_step_equals_numpy_reference(cell, variables, inputs, halves):
    before = halves[0].carry
    after, (output, _) = jax.jit(cell.apply)(variables, before, inputs[T // 2])
    params = jax.tree.map(np.asarray, variables["params"])
    hidden = np.asarray(after.controller[1])
    signals = (hidden @ params["interface"]["kernel"] + params["interface"]["bias"]).reshape(H, -1)
    ends = np.cumsum([KEY_SIZE, KEY_SIZE, W, W, 1])
    write_keys, read_keys, additions, erase, write_strengths, read_strengths = np.split(signals, ends, axis=1)

    weights = loop_address(
        before.table[:, :KEY_SIZE], np.tanh(write_keys), np.log1p(np.exp(write_strengths[:, 0].astype(np.float64)))
    )
    table = loop_write(before.table, weights, 1 / (1 + np.exp(-erase)), np.tanh(additions))
    weights = loop_address(table[:, :KEY_SIZE], np.tanh(read_keys), np.log1p(np.exp(read_strengths[:, 0])))
    read = np.mean([sum(weights[i, s] * table[s, KEY_SIZE:] for s in range(S)) for i in range(H)], axis=0)
    expected = np.concatenate([hidden, read]) @ params["output"]["kernel"] + params["output"]["bias"]

    np.testing.assert_allclose(after.table, table, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(after.read, read, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)


def test_starts_from_learned_table_with_distinct_slots(cell, variables):
    carry = cell.apply(variables, method="initial_carry")
    np.testing.assert_array_equal(carry.table, variables["params"]["initial_table"])
    assert len(np.unique(carry.table, axis=0)) == S
    assert not carry.read.any()
    many_slots = mnm.cells.SALU(1, 1, num_slots=2000, key_size=3, value_size=5)
    many = jax.jit(many_slots.init)(jax.random.key(0), None, jnp.ones(1))["params"]["initial_table"]
    np.testing.assert_allclose(many.std(), 8**-0.5, rtol=0.05)


def test_shapes(whole):
    assert whole.outputs.shape == (T, OUTPUT_SIZE)
    assert whole.trace == ()
    assert whole.carry.table.shape == (S, W)
    assert whole.carry.read.shape == (VALUE_SIZE,)


def test_symbols_are_embedded():
    cell = mnm.cells.SALU(OUTPUT_SIZE, CONTROLLER_SIZE, S, KEY_SIZE, VALUE_SIZE, embedding_size=6, vocabulary_size=9)
    variables = jax.eval_shape(cell.init, jax.random.key(0), None, jnp.array(1))
    assert variables["params"]["embedding"]["kernel"].shape == (9, 6)


def test_split_equals_whole(halves, whole):
    first, second = halves
    assert_close(jnp.concatenate([first.outputs, second.outputs]), whole.outputs)
    assert_close(second.carry, whole.carry)


def test_length_masks(unroll, variables, inputs, halves, whole):
    masked = unroll(variables, inputs, length=T // 2)
    assert_close(masked.outputs[: T // 2], whole.outputs[: T // 2])
    np.testing.assert_array_equal(masked.outputs[T // 2 :], 0)
    assert_close(masked.carry, halves[0].carry)


def test_batch_row_equals_single(unroll, variables, inputs, whole):
    batch = jnp.stack([normal(5, T, INPUT_SIZE), inputs])
    outputs = jax.vmap(unroll, (None, 0))(variables, batch).outputs
    assert_close(outputs[1], whole.outputs)
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-3


def test_chunked_equals_plain(gradients):
    assert_close(gradients[True], gradients[False], rtol=1e-4)


def test_every_parameter_is_learned(gradients):
    (by_variables, by_inputs), _ = gradients[False]
    params = by_variables["params"]
    assert set(params) == {"embedding", "controller_cell", "interface", "initial_table", "output"}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        assert np.isfinite(leaf).all(), jax.tree_util.keystr(path)
        assert np.abs(leaf).max() > 1e-6, jax.tree_util.keystr(path)
    # Every signal of every head has its own column in the interface.
    assert (np.abs(params["interface"]["bias"]) > 1e-8).all()
    assert (np.abs(by_inputs).max(axis=1) > 1e-6).all()


def test_num_slots_matching():
    spec = mnm.memory.Spec(100, 100, (100, 100))
    assert mnm.cells.num_slots_matching(spec, 100, 100) == 150
    with_biases = mnm.memory.Spec(100, 100, (100, 100), use_bias=True)
    assert mnm.cells.num_slots_matching(with_biases, 100, 100) == 152
    assert mnm.cells.num_slots_matching(mnm.memory.Spec(1, 1), 100, 100) == 1


@pytest.mark.parametrize("name", ["output_size", "controller_size", "num_slots", "key_size", "value_size", "num_heads"])
def test_refuses_sizes_below_one(name):
    sizes = dict.fromkeys(["output_size", "controller_size", "num_slots", "key_size", "value_size"], 2) | {name: 0}
    with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, got 0"):
        mnm.cells.SALU(**sizes).init(jax.random.key(0), None, jnp.ones(2))


def test_pure_functions_name_the_argument_at_fault():
    with pytest.raises(AssertionError, match="slot_keys"):
        salu.address(jnp.ones((S, KEY_SIZE + 1)), jnp.ones((H, KEY_SIZE)), jnp.ones(H))
    with pytest.raises(AssertionError, match="erase"):
        salu.write(jnp.ones((S, W)), jnp.ones((H, S)), jnp.ones((H, W + 1)), jnp.ones((H, W)))
    with pytest.raises(ValueError, match="key_size"):
        mnm.cells.num_slots_matching(mnm.memory.Spec(1, 1), 0, 1)

"""Tests of addressing slots by content and writing them by erase and add."""

import jax
import jax.numpy as jnp
import numpy as np
import numpy_reference as reference
import pytest
from carried_suite import assert_close, normal

import mnm_jax as mnm
from mnm_jax.cells import slots

S, KEY_SIZE, VALUE_SIZE, H = 5, 3, 2, 2

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_address_equals_loop_and_sums_to_one():
    slot_keys, keys, strengths = normal(0, S, KEY_SIZE), normal(1, H, KEY_SIZE), jnp.array([0.5, 4.0])
    weights = slots.address(slot_keys, keys, strengths)
    np.testing.assert_allclose(weights, reference.address(slot_keys, keys, strengths), rtol=1e-5)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)


def test_address_does_not_depend_on_lengths_of_vectors():
    slot_keys, keys, strengths = normal(0, S, KEY_SIZE), normal(1, H, KEY_SIZE), jnp.array([0.5, 4.0])
    longer = slots.address(slot_keys * jnp.arange(1, S + 1)[:, None], 3 * keys, strengths)
    assert_close(longer, slots.address(slot_keys, keys, strengths))


def test_huge_strength_reads_one_slot_exactly():
    slot_keys, slot_values = normal(0, S, KEY_SIZE), normal(1, S, VALUE_SIZE)
    weights = slots.address(slot_keys, slot_keys[jnp.array([3, 1])], jnp.full(H, 1e6))
    np.testing.assert_array_equal(weights @ slot_values, slot_values[jnp.array([3, 1])])


def test_full_erase_at_one_slot_stores_addition_exactly():
    values, addition = normal(0, S, VALUE_SIZE), normal(1, 1, VALUE_SIZE)
    after = slots.write(values, jax.nn.one_hot(jnp.array([2]), S), jnp.ones((1, VALUE_SIZE)), addition)
    np.testing.assert_array_equal(after, values.at[2].set(addition[0]))


@pytest.mark.parametrize("num_heads", [1, 2, 3])
def test_write_equals_loop_in_any_order_of_heads(num_heads):
    values, weights = normal(0, S, VALUE_SIZE), jax.nn.softmax(normal(1, num_heads, S))
    erase, additions = jax.nn.sigmoid(normal(2, num_heads, VALUE_SIZE)), normal(3, num_heads, VALUE_SIZE)
    after = slots.write(values, weights, erase, additions)
    np.testing.assert_allclose(after, reference.write(values, weights, erase, additions), rtol=1e-5, atol=1e-6)
    assert_close(after, slots.write(values, weights[::-1], erase[::-1], additions[::-1]))


def test_no_nan_at_zero_table_and_zero_keys():
    def loss(slot_keys, values, keys, strengths):
        weights = slots.address(slot_keys, keys, strengths)
        after = [slots.write(table, weights, *jnp.ones((2, H, table.shape[1]))) for table in (slot_keys, values)]
        return sum(jnp.sum(jnp.square(table) * jnp.arange(S)[:, None]) for table in after)

    zeros = [jnp.zeros(shape) for shape in ((S, KEY_SIZE), (S, VALUE_SIZE), (H, KEY_SIZE))]
    value, gradients = jax.jit(jax.value_and_grad(loss, (0, 1, 2, 3)))(*zeros, jnp.ones(H))
    assert all(np.isfinite(leaf).all() for leaf in (value, *gradients))
    # Of the addition, every slot gets H / S from the zero table.
    np.testing.assert_allclose(value, (KEY_SIZE + VALUE_SIZE) * (H / S) ** 2 * sum(range(S)), rtol=1e-6)


def test_num_slots_matching():
    spec = mnm.memory.Spec(100, 100, (100, 100))
    assert slots.num_slots_matching(spec, 200) == 150
    with_biases = mnm.memory.Spec(100, 100, (100, 100), use_bias=True)
    assert slots.num_slots_matching(with_biases, 200) == 152
    assert slots.num_slots_matching(mnm.memory.Spec(1, 1), 200) == 1
    with pytest.raises(ValueError, match="slot_size must be a whole number of at least 1, got 0"):
        slots.num_slots_matching(mnm.memory.Spec(1, 1), 0)


ADDRESS_SHAPES = {"slot_keys": (S, KEY_SIZE), "keys": (H, KEY_SIZE), "strengths": (H,)}
WRITE_SHAPES = {"table": (S, VALUE_SIZE), "weights": (H, S), "erase": (H, VALUE_SIZE), "additions": (H, VALUE_SIZE)}


@pytest.mark.parametrize("extend", [lambda shape: (*shape, 1), lambda shape: shape[:-1]], ids=["more", "fewer"])
@pytest.mark.parametrize(
    ("function", "shapes", "name"),
    [(slots.address, ADDRESS_SHAPES, name) for name in ADDRESS_SHAPES]
    + [(slots.write, WRITE_SHAPES, name) for name in WRITE_SHAPES],
)
def test_pure_functions_name_the_argument_of_wrong_rank(function, shapes, name, extend):
    arguments = {each: jnp.ones(extend(shape) if each == name else shape) for each, shape in shapes.items()}
    with pytest.raises(AssertionError, match=f"argument '{name}'"):
        function(**arguments)


def test_pure_functions_name_the_argument_of_wrong_width():
    with pytest.raises(AssertionError, match="argument 'slot_keys'"):
        slots.address(jnp.ones((S, KEY_SIZE + 1)), jnp.ones((H, KEY_SIZE)), jnp.ones(H))
    with pytest.raises(AssertionError, match="argument 'erase'"):
        slots.write(jnp.ones((S, 2)), jnp.ones((H, S)), jnp.ones((H, 3)), jnp.ones((H, 2)))

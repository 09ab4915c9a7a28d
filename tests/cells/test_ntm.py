"""Tests of the Neural Turing Machine."""

import jax
import jax.numpy as jnp
import numpy as np
import numpy_reference as reference
import pytest
from carried_suite import CONTROLLER_SIZE, OUTPUT_SIZE, CarriedSuite, normal
from reference_suite import ReferenceSuite

import mnm_jax as mnm
from mnm_jax.cells import ntm

S, W, H = 5, 3, 2

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def cell():
    return mnm.cells.NTM(OUTPUT_SIZE, CONTROLLER_SIZE, S, W, num_heads=H)


class TestCarried(CarriedSuite):
    own_parameters = frozenset({"initial_memory", "initial_read_logits", "initial_write_logits"})


def loop_move(content, previous, gate, shifts, exponent):
    """Of one head, equations 7 to 9."""
    size = len(content)
    gated = [gate * content[s] + (1 - gate) * previous[s] for s in range(size)]
    shifted = np.zeros(size)
    for s in range(size):
        for k, shift in enumerate((-1, 0, 1)):
            shifted[s] += gated[(s - shift) % size] * shifts[k]
    return shifted**exponent / np.sum(shifted**exponent)


def numpy_address(memory, previous, signals):
    """Of one head, with the numbers that steer it as the interface gives them."""
    key, (strength, gate), shifts, (exponent,) = np.split(signals, [W, W + 2, W + 5])
    (content,) = reference.address(memory, np.tanh(key)[None], [reference.softplus(strength)])
    exponent = 1 + reference.softplus(exponent)
    return loop_move(content, previous, reference.sigmoid(gate), reference.softmax(shifts), exponent)


def numpy_step(params, state, hidden):
    heads = reference.dense(params["interface"], hidden).reshape(H, -1)
    parts = [np.split(head, [W + 6, 2 * (W + 6), 2 * (W + 6) + W]) for head in heads]
    before, where = state["memory"], state["write_weights"]
    write_weights = [numpy_address(before, where[i], writing) for i, (writing, *_) in enumerate(parts)]
    erase = [reference.sigmoid(part[2]) for part in parts]
    memory = reference.write(before, write_weights, erase, [np.tanh(part[3]) for part in parts])
    read_weights = [numpy_address(memory, state["read_weights"][i], part[1]) for i, part in enumerate(parts)]
    reads = [sum(weights[s] * memory[s] for s in range(S)) for weights in read_weights]
    arrays = {"memory": memory, "read_weights": read_weights, "write_weights": write_weights, "reads": reads}
    return {name: np.array(value) for name, value in arrays.items()}


class TestReference(ReferenceSuite):
    step = staticmethod(numpy_step)


MOVE_SHAPES = {"content": (H, S), "previous": (H, S), "gates": (H,), "shifts": (H, 3), "exponents": (H,)}


def move(**arguments):
    """One head moves; by default from slot 1, without blur."""
    start = {"content": np.eye(S)[3], "previous": np.eye(S)[1], "gates": 0.0, "shifts": np.eye(3)[1], "exponents": 1.0}
    return np.asarray(ntm.move(**{name: jnp.array([value]) for name, value in (start | arguments).items()}))[0]


def test_a_gate_chooses_between_content_and_where_the_head_was():
    np.testing.assert_array_equal(move(), np.eye(S)[1])
    np.testing.assert_array_equal(move(gates=1.0), np.eye(S)[3])
    np.testing.assert_allclose(move(gates=0.25), 0.75 * np.eye(S)[1] + 0.25 * np.eye(S)[3])


def test_a_shift_goes_round():
    np.testing.assert_array_equal(move(shifts=np.eye(3)[2]), np.eye(S)[2])
    np.testing.assert_array_equal(move(previous=np.eye(S)[S - 1], shifts=np.eye(3)[2]), np.eye(S)[0])
    np.testing.assert_array_equal(move(previous=np.eye(S)[0], shifts=np.eye(3)[0]), np.eye(S)[S - 1])


def test_an_exponent_sharpens_and_no_power_is_too_small():
    blurred = np.array([0.1, 0.4, 0.3, 0.1, 0.1])
    np.testing.assert_allclose(move(previous=blurred, exponents=2.0), blurred**2 / np.sum(blurred**2), rtol=1e-6)
    # 0.4^200 is no number in single precision.
    np.testing.assert_allclose(move(previous=blurred, exponents=200.0), np.eye(S)[1], atol=1e-12)


def test_gradient_is_finite_at_sharp_weights_and_large_exponents():
    def loss(arguments):
        return jnp.sum(ntm.move(**arguments) * jnp.arange(S))

    ends = {"content": np.eye(S)[3], "previous": np.eye(S)[1], "gates": 0.0, "shifts": np.eye(3)[1]}
    arguments = {name: jnp.array([value]) for name, value in ends.items()}
    for exponent in (1.0, 200.0):
        gradient = jax.grad(loss)(arguments | {"exponents": jnp.array([exponent])})
        assert all(np.isfinite(leaf).all() for leaf in gradient.values())


def test_an_episode_starts_at_the_learned_table_and_the_first_slot(cell, variables):
    carry = cell.apply(variables, method="initial_carry")
    np.testing.assert_array_equal(carry.memory, variables["params"]["initial_memory"])
    assert len(np.unique(carry.memory, axis=0)) == S
    for weights in (carry.read_weights, carry.write_weights):
        assert weights.shape == (H, S)
        np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
        assert (weights[:, 0] > 0.99).all()
    assert not carry.reads.any()


def test_parameters_are_in_single_precision_with_double_precision_on(cell, float64):
    variables = jax.eval_shape(cell.init, jax.random.key(0), None, jnp.ones(2, jnp.float32))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    carry = jax.eval_shape(lambda v: mnm.unroll(cell, v, jnp.ones((3, 2), jnp.float32)).carry, variables)
    assert {leaf.dtype for leaf in jax.tree.leaves(carry)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("name", ["output_size", "controller_size", "num_slots", "slot_size", "num_heads"])
def test_refuses_sizes_below_one(cell, name):
    with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, got 0"):
        cell.clone(**{name: 0}).init(jax.random.key(0), None, jnp.ones(2))


@pytest.mark.parametrize("name", MOVE_SHAPES)
def test_move_names_the_argument_of_wrong_shape(name):
    arguments = {each: normal(0, *shape, 1) if each == name else jnp.ones(shape) for each, shape in MOVE_SHAPES.items()}
    with pytest.raises(AssertionError, match=f"argument '{name}'"):
        ntm.move(**arguments)

"""Tests of the Differentiable Neural Computer."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpy_reference as reference
import pytest
from carried_suite import CONTROLLER_SIZE, OUTPUT_SIZE, CarriedSuite, T
from reference_suite import ReferenceSuite

import mnm_jax as mnm
from mnm_jax.cells import dnc

S, W, R = 5, 3, 2

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def cell():
    return mnm.cells.DNC(OUTPUT_SIZE, CONTROLLER_SIZE, S, W, num_read_heads=R)


class TestCarried(CarriedSuite):
    pass


def loop_allocate(usage):
    order = sorted(range(S), key=lambda s: usage[s])
    weights, product = np.zeros(S), 1.0
    for s in order:
        weights[s] = (1 - usage[s]) * product
        product *= usage[s]
    return weights


def loop_connect(link, precedence, weights):
    after = np.zeros((S, S))
    for i, j in np.ndindex(S, S):
        if i != j:
            after[i, j] = (1 - weights[i] - weights[j]) * link[i, j] + weights[i] * precedence[j]
    return after, (1 - sum(weights)) * precedence + weights


def oneplus(x):
    return 1 + reference.softplus(x)


def numpy_step(params, state, hidden):
    """The equations of Methods in their order, with the interface cut as the library cuts it."""
    signals = reference.dense(params["interface"], hidden)
    key, erase, addition, (strength, allocation_gate, write_gate), rest = np.split(
        signals, [W, 2 * W, 3 * W, 3 * W + 3]
    )
    heads = [np.split(head, [W, W + 1, W + 2]) for head in rest.reshape(R, -1)]
    before, was_written, was_read = state["memory"], state["write_weights"], state["read_weights"]

    retention = np.ones(S)
    for i, (_, _, (free,), _) in enumerate(heads):
        retention *= 1 - reference.sigmoid(free) * was_read[i]
    usage = (state["usage"] + was_written - state["usage"] * was_written) * retention
    (found,) = reference.address(before, key[None], [oneplus(strength)])
    gate = reference.sigmoid(allocation_gate)
    written = reference.sigmoid(write_gate) * (gate * loop_allocate(usage) + (1 - gate) * found)
    memory = reference.write(before, [written], [reference.sigmoid(erase)], [addition])
    link, precedence = loop_connect(state["link"], state["precedence"], written)

    read_weights = []
    for i, (key, (strength,), _, modes) in enumerate(heads):
        backward, content, forward = reference.softmax(modes)
        forwards = [sum(link[s, j] * was_read[i][j] for j in range(S)) for s in range(S)]
        backwards = [sum(link[j, s] * was_read[i][j] for j in range(S)) for s in range(S)]
        (found,) = reference.address(memory, key[None], [oneplus(strength)])
        read_weights.append(backward * np.array(backwards) + content * found + forward * np.array(forwards))
    return {
        "memory": memory,
        "usage": usage,
        "link": link,
        "precedence": precedence,
        "write_weights": written,
        "read_weights": np.array(read_weights),
        "reads": np.array([sum(weights[s] * memory[s] for s in range(S)) for weights in read_weights]),
    }


def in_the_midst(carry):
    """A state as it might be in the midst of an episode, where no two slots are used equally.

    At such, the derivative is not defined, for their order changes there.
    """
    random = np.random.default_rng(3)
    weights = random.dirichlet(np.ones(S), 2 + R)
    return carry._replace(
        controller=tuple(random.normal(size=(2, CONTROLLER_SIZE))),
        memory=random.normal(size=(S, W)),
        usage=random.uniform(size=S),
        link=random.uniform(size=(S, S)) / S * (1 - np.eye(S)),
        precedence=weights[0],
        write_weights=weights[1],
        read_weights=weights[2:],
        reads=random.normal(size=(R, W)),
    )


class TestReference(ReferenceSuite):
    step = staticmethod(numpy_step)
    begin = staticmethod(in_the_midst)


def test_no_nan_from_an_empty_table(cell, variables, inputs):
    """At the start all slots are empty, equally used and equally far from every key."""

    def loss(variables, carry):
        return jnp.sum(jnp.square(mnm.unroll(cell, variables, inputs, carry).outputs))

    carry = cell.apply(variables, method="initial_carry")
    assert not any(leaf.any() for leaf in jax.tree.leaves(carry))
    # With the keys at zero too.
    interface = variables["params"]["interface"]
    silent = {"params": variables["params"] | {"interface": jax.tree.map(jnp.zeros_like, interface)}}
    gradient = jax.jit(jax.value_and_grad(loss, (0, 1)))
    for case in (variables, silent):
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient(case, carry)))


def test_allocation_takes_the_least_used_slot_and_overflows_to_the_next():
    np.testing.assert_allclose(dnc.allocate(jnp.array([0.9, 0.0, 0.5])), [0, 1, 0], atol=1e-7)
    np.testing.assert_allclose(dnc.allocate(jnp.array([0.9, 0.2, 0.5])), [0.1 * 0.1, 0.8, 0.5 * 0.2], rtol=1e-5)
    np.testing.assert_array_equal(dnc.allocate(jnp.ones(3)), 0)  # Nothing is free.
    np.testing.assert_array_equal(dnc.allocate(jnp.zeros(3)), [1, 0, 0])


def test_gradient_of_allocation_goes_to_the_slots_as_they_were_given():
    usage = jnp.array([0.9, 0.2, 0.5])
    gradient = jax.jacobian(dnc.allocate)(usage)
    expected = [[-0.2 * 0.5, 0.1 * 0.5, 0.1 * 0.2], [0, -1, 0], [0, 0.5, -0.2]]
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-7)
    assert np.isfinite(jax.jacobian(dnc.allocate)(jnp.zeros(3))).all()


def test_writing_uses_a_slot_and_a_free_gate_gives_it_back():
    usage, weights = jnp.array([0.5, 0.0, 0.0]), jnp.eye(3)
    used = dnc.use(usage, weights[1], weights[:2], jnp.zeros(2))
    np.testing.assert_array_equal(used, [0.5, 1, 0])
    np.testing.assert_array_equal(dnc.use(usage, weights[1], weights[:2], jnp.array([0.0, 1.0])), [0.5, 0, 0])


def test_the_link_leads_from_each_slot_to_the_one_written_next():
    link, precedence = jnp.zeros((S, S)), jnp.zeros(S)
    order = (2, 0, 4)
    for slot in order:
        link, precedence = dnc.connect(link, precedence, jnp.eye(S)[slot])
    expected = np.zeros((S, S))
    for before, after in itertools.pairwise(order):
        expected[after, before] = 1
    np.testing.assert_array_equal(link, expected)
    np.testing.assert_array_equal(precedence, np.eye(S)[4])


def test_shapes(whole):
    shapes = {"memory": (S, W), "usage": (S,), "link": (S, S), "precedence": (S,), "write_weights": (S,)}
    shapes |= {"read_weights": (R, S), "reads": (R, W)}
    assert {name: getattr(whole.carry, name).shape for name in shapes} == shapes
    assert ((whole.carry.usage >= 0) & (whole.carry.usage <= 1)).all()
    assert not np.diag(whole.carry.link).any()
    assert whole.outputs.shape[0] == T


@pytest.mark.parametrize("name", ["output_size", "controller_size", "num_slots", "slot_size", "num_read_heads"])
def test_refuses_sizes_below_one(cell, name):
    with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, got 0"):
        cell.clone(**{name: 0}).init(jax.random.key(0), None, jnp.ones(2))


SHAPES = {
    dnc.use: {"usage": (S,), "write_weights": (S,), "read_weights": (R, S), "free_gates": (R,)},
    dnc.allocate: {"usage": (S,)},
    dnc.connect: {"link": (S, S), "precedence": (S,), "write_weights": (S,)},
}


@pytest.mark.parametrize(("function", "name"), [(each, name) for each, shapes in SHAPES.items() for name in shapes])
def test_pure_functions_name_the_argument_of_wrong_shape(function, name):
    shapes = SHAPES[function]
    arguments = {each: jnp.ones((*shape, 1) if each == name else shape) for each, shape in shapes.items()}
    with pytest.raises(AssertionError, match=f"argument '{name}'"):
        function(**arguments)

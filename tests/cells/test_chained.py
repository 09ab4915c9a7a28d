"""Tests of the cell whose reads are chained: against the equations, and of what only it does."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from writer_suite import draw_variables

import mnm_jax as mnm
from mnm_jax import models, rules
from mnm_jax.inputs import Sentence
from mnm_jax.memory import Spec

pytestmark = pytest.mark.usefixtures("quick_compilation")

SPEC = Spec(5, 3, (4,))  # An entity of 3 and a relation of 2.
SENTENCES = Sentence(jnp.array([[1, 2, -1], [3, 4, 5], [0, -1, -1], [1, 5, 4]]))
CELL = mnm.cells.ChainedMNM(
    output_size=2,
    controller_size=4,
    memory_spec=SPEC,
    writer=mnm.writers.local(normalized=True),
    num_heads=2,
    num_reads=2,
    vocabulary_size=6,
)


def at(t):
    return jax.tree.map(lambda leaf: leaf[t], SENTENCES)


@pytest.fixture(scope="module")
def variables():
    return draw_variables(CELL, at(0))


@pytest.fixture(scope="module")
def run(variables):
    return mnm.unroll(CELL, variables, SENTENCES)


def normalize(x, epsilon=1e-6):
    return x / np.sqrt(np.mean(np.square(x), axis=-1, keepdims=True) + epsilon)


def run_by_hand(params, num_chains, gated_units):
    """The outputs and what was read, from the equations, in float64, step by step."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    def dense(name, x):
        return x @ params[name]["kernel"] + params[name]["bias"]

    def gated(name, hidden, x):
        return hidden * dense(f"{name}_gate", x) if gated_units else hidden

    def f(key):
        return np.tanh(key @ phi[0]) @ phi[1]

    phi, pending = [layer.kernel for layer in params["initial_memory"]], []
    outputs, read_values = [], []
    sizes = 3 * num_chains, 2 * 2 * num_chains, 2 * 3, 2 * 3
    for symbols in np.asarray(SENTENCES.symbols):
        words = symbols[symbols >= 0]
        before, change = phi, [np.zeros_like(kernel) for kernel in phi]
        for key, value, rate in pending:
            hidden = np.tanh(key @ before[0])
            for layer, (pre, actual) in enumerate(((key, hidden), (hidden, hidden @ before[1]))):
                (backward,) = params["writer"]["backward"][layer]
                error = actual - (value @ backward.kernel + backward.bias)
                change[layer] -= rate * np.outer(pre, error) / (pre @ pre + 1e-2)
        phi = [kernel + added for kernel, added in zip(phi, change, strict=True)]

        embedding = params["embedding"]
        embedded = (embedding["kernel"][words] * embedding["positions"][: len(words)]).sum(0) / np.sqrt(len(words))
        hidden = gated("controller", np.tanh(dense("controller_layer", embedded)), embedded)
        n0, relations, s, v, r = np.split(np.tanh(dense("signals", hidden)), np.cumsum(sizes))
        chains = [normalize(n0.reshape(num_chains, 3))]
        for both in normalize(relations.reshape(2, num_chains, 2)):
            read_values += [f(np.concatenate(key)) for key in zip(chains[-1], both, strict=True)]
            chains.append(normalize(np.stack(read_values[-num_chains:]), 1.0))
        output = dense("output", np.ravel(chains[1] + chains[2]))
        if "readout" in params:
            seen = np.concatenate([hidden, *map(np.ravel, chains)])
            output += dense("readout", gated("readout", np.tanh(dense("readout_hidden", seen)), seen))
        outputs.append(output)
        gates, chain = np.tanh(dense("gates", hidden)).reshape(2, 2, -1), np.concatenate(chains)
        entities, values = (normalize(x.reshape(2, 3) + gate @ chain) for x, gate in zip((s, v), gates, strict=True))
        keys = np.concatenate([entities, normalize(r.reshape(2, 2))], axis=-1)
        rates = 1 / (1 + np.exp(-dense("rate", hidden)))
        pending = list(zip(keys, values, rates, strict=True))
    return np.stack(outputs), np.stack(read_values).reshape(-1, 2 * num_chains, 3)


@pytest.mark.parametrize(
    ("num_chains", "readout_size", "gated_units"), [(1, 0, False), (2, 3, False), (1, 0, True), (2, 3, True)]
)
def test_episode_equals_the_equations(num_chains, readout_size, gated_units):
    cell = CELL.copy(num_chains=num_chains, readout_size=readout_size, gated_units=gated_units)
    variables = draw_variables(cell, at(0))
    run = mnm.unroll(cell, variables, SENTENCES)
    outputs, read_values = run_by_hand(variables["params"], num_chains, gated_units)
    chex.assert_trees_all_close((run.outputs, run.trace.read_values), (outputs, read_values), rtol=1e-4, atol=1e-5)
    chex.assert_shape(run.trace.write_keys, (4, 2, 5))
    chex.assert_shape(run.trace.read_keys, (4, 2 * num_chains, 5))


def test_a_step_writes_what_the_step_before_decided(variables, run):
    assert not run.trace.rate[0].any()
    carry, _ = CELL.apply(variables, None, at(0))
    chex.assert_trees_all_equal(carry.memory, variables["params"]["initial_memory"])
    chex.assert_trees_all_close(carry.pending.keys, run.trace.write_keys[1], rtol=1e-5)


def test_an_episode_in_two_parts_is_the_whole_one(variables, run):
    head, tail = (jax.tree.map(lambda leaf, part=part: leaf[part], SENTENCES) for part in (slice(2), slice(2, None)))
    first = mnm.unroll(CELL, variables, head)
    second = mnm.unroll(CELL, variables, tail, first.carry)
    chex.assert_trees_all_close(jnp.concatenate([first.outputs, second.outputs]), run.outputs, rtol=1e-5, atol=1e-6)


def test_reversible_gradient_equals_plain():
    cell = CELL.copy(readout_size=3, gated_units=True)
    variables = draw_variables(cell, at(0))

    def gradient(reversible):
        def loss(variables):
            run = mnm.unroll(cell, variables, SENTENCES, length=3, reversible=reversible)
            return jnp.sum(jnp.square(run.outputs)) + jnp.sum(run.trace.error_after)

        return jax.jit(jax.grad(loss))(variables)

    plain = gradient(False)
    chex.assert_trees_all_close(gradient(True), plain, rtol=1e-3, atol=1e-5)
    for path, leaf in jax.tree_util.tree_leaves_with_path(plain):
        assert np.abs(leaf).max() > 0, path


def test_reads_start_with_entities_and_relations_of_writes():
    cell = CELL.copy(num_chains=3)
    kernel = cell.init(jax.random.key(0), None, at(0))["params"]["signals"]["kernel"]
    entities, relations, write_entities, _, write_relations = jnp.split(kernel, np.cumsum([9, 12, 6, 6]), axis=1)
    np.testing.assert_array_equal(entities, jnp.tile(write_entities, 2)[:, :9])
    np.testing.assert_array_equal(relations, jnp.tile(write_relations, 3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory_spec": Spec(3, 3)}, "key_size must exceed value_size, got 3 and 3"),
        ({"writer": rules.titans()}, "ChainedMNM makes no gates"),
        ({"num_reads": 0}, "num_reads"),
        ({"num_chains": 0}, "num_chains"),
        ({"readout_size": -1}, "readout_size"),
    ],
)
def test_names_the_option_at_fault(options, message):
    with pytest.raises(ValueError, match=message):
        CELL.copy(**options).init(jax.random.key(0), None, at(0))


def test_a_model_with_a_relation_is_chained():
    for normalized in (True, False):
        settings = models.ModelSettings(
            *(4, 3),
            num_layers=2,
            num_heads=2,
            relation_size=2,
            hidden_size=4,
            num_reads=2,
            readout_size=5,
            gated_units=True,
            normalized_rule=normalized,
        )
        cell = models.build("mnm_p", settings, output_size=2, vocabulary_size=6, num_steps=4)
        writer = mnm.writers.local(normalized=normalized)
        assert cell == CELL.copy(writer=writer, readout_size=5, gated_units=True, rate_bias=-2.0)


@pytest.mark.parametrize(
    ("option", "value"),
    [("rate_scale", 0.5), ("rate_per", "head"), ("forget_bias", False), ("compute_dtype", "bfloat16")],
)
def test_settings_name_the_option_that_a_chain_does_not_have(option, value):
    with pytest.raises(
        ValueError, match=f"^{option} must be .* with a relation_size, .* no such option, got {value!r}$"
    ):
        models.ModelSettings(4, 3, relation_size=2, **{option: value})


@pytest.mark.parametrize("option", ["relation_size", "hidden_size", "readout_size"])
def test_settings_name_the_size_that_is_negative(option):
    with pytest.raises(ValueError, match=f"^{option} must not be negative, got -1$"):
        models.ModelSettings(4, 3, **{option: -1})

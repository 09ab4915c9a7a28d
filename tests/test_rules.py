"""Tests of the rules beside those of the paper, against their equations written out in NumPy."""

import dataclasses
import functools
import math
from typing import ClassVar, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import writer_suite

import mnm_jax as mnm
from mnm_jax import models, rules
from mnm_jax._reversible import rounding_budget, walk_length
from mnm_jax.memory import Spec
from mnm_jax.writers import Gate, Observation, Writer

pytestmark = pytest.mark.usefixtures("quick_compilation", "float64")

FEEDBACK = mnm.writers.local(backward=rules.feedback_alignment())
SYNTHETIC = mnm.writers.local(backward=rules.synthetic_gradients())


def example(writer):
    return jax.tree.map(np.float64, writer_suite.example(writer))


def dense_gradient(memory, keys, values):
    """Of the mean squared reading error, with respect to the weights."""
    error = lambda memory: jnp.mean(jnp.square(mnm.memory.read(memory, keys) - values))  # noqa: E731
    return jax.grad(error)(memory)


def test_titans_equals_its_equations():
    params, memory, keys, values, _, gates = example(rules.titans())
    change = rules.titans().write(params, memory, keys, values, jnp.array(0.5), **gates)
    gradient = dense_gradient(memory.weights, keys, values)
    momentum = jax.tree.map(lambda s, g: gates["persistence"] * s - 0.5 * g, memory.momentum, gradient)
    weights = jax.tree.map(lambda m, s: (1 - gates["forget"]) * m + s, memory.weights, momentum)
    after = change.apply(memory)
    chex.assert_trees_all_close(after.weights, weights, rtol=1e-12)
    chex.assert_trees_all_close(after.momentum, momentum, rtol=1e-12)


def test_titans_without_forgetting_and_momentum_is_the_gradient_writer():
    _, memory, keys, values, rate, _ = example(rules.titans())
    change = rules.titans().write({}, memory, keys, values, rate, forget=jnp.zeros(()), persistence=jnp.zeros(()))
    write = mnm.writers.gradient().write({}, memory.weights, keys, values, rate)
    chex.assert_trees_all_close(change.apply(memory).weights, write.apply(memory.weights), rtol=1e-12)


def test_gated_delta_equals_its_equation():
    """`S_t = alpha S_{t-1} (I - beta k k^T) + beta v k^T`, for keys of length 1, the heads adding up."""
    _, (layer,), keys, values, _, gates = example(rules.gated_delta())
    keys /= np.linalg.norm(keys, axis=-1, keepdims=True)
    change = rules.gated_delta().write({}, (layer,), keys, values, jnp.array(0.3), **gates)
    state = layer.kernel.T
    wanted = gates["keep"] * state
    for key, value in zip(keys, values, strict=True):
        wanted = wanted - 0.3 * gates["keep"] * np.outer(state @ key, key) + 0.3 * np.outer(value, key)
    np.testing.assert_allclose(change.apply((layer,))[0].kernel, wanted.T, atol=1e-6)


def test_gradient_writer_of_one_layer_is_the_delta_rule_up_to_its_scale():
    _, memory, keys, values, _, _ = example(rules.gated_delta())
    rate, (num_heads, value_size) = 0.4, values.shape
    write = mnm.writers.gradient().write({}, memory, keys, values, jnp.array(rate))
    # The delta rule divides by the square of the key's length, the gradient of a mean by half the size of the values.
    rates = jnp.array([[rate * 2 / (num_heads * value_size) * np.sum(key**2) for key in keys]])
    delta = rules.gated_delta().write({}, memory, keys, values, rates, keep=jnp.ones(()))
    chex.assert_trees_all_close(write.apply(memory), delta.apply(memory), rtol=1e-5)


def test_gated_delta_names_a_memory_that_it_cannot_write():
    with pytest.raises(ValueError, match="gated_delta writes a memory of one layer without bias, got Spec"):
        rules.gated_delta().init(jax.random.key(0), Spec(3, 2, (4,)))


def test_feedback_alignment_equals_its_equation():
    params, memory, keys, values, rate, _ = example(FEEDBACK)
    write = FEEDBACK.write(params, memory, keys, values, rate)
    outputs = mnm.memory.activations(memory, keys)
    error = outputs[-1] - values
    for i, actual in enumerate(outputs[1:]):
        scale = 2 / actual.size
        signal = error if i == 2 else (error @ params["backward"][i]["feedback"]) * (1 - actual**2)
        np.testing.assert_allclose(write.post[i], -scale * rate[i, :, None] * signal, rtol=1e-12)


@pytest.mark.parametrize("backward", [rules.feedback_alignment(), rules.synthetic_gradients()], ids=type)
@pytest.mark.parametrize("option", ["normalized", "bounded"])
def test_steps_are_neither_normalized_nor_bounded(backward, option):
    with pytest.raises(ValueError, match=f"^{option} is for backward functions that give targets, and _"):
        mnm.writers.local(backward=backward, **{option: True})


def test_what_is_fixed_is_no_parameter():
    for writer in (FEEDBACK, mnm.writers.local(backward=mnm.writers.perceptron(is_learned=False))):
        cell = writer_suite.make_cell(writer)
        variables = cell.init(jax.random.key(0), None, jnp.ones(3))
        assert variables["params"]["writer"] == {}
        assert jax.tree.leaves(variables["constants"]["writer"])
        others = cell.init(jax.random.key(1), None, jnp.ones(3))["constants"]
        assert any(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (others, variables["constants"])), strict=True))
    for writer in (mnm.writers.local(), SYNTHETIC, rules.titans()):
        assert set(writer_suite.make_cell(writer).init(jax.random.key(0), None, jnp.ones(3))) == {"params"}


class TestSyntheticGradients:
    def test_write_nothing_until_they_have_learned_something(self):
        writer = mnm.writers.local(backward=rules.synthetic_gradients(hidden_size=3))
        _, memory, keys, values, rate, _ = example(SYNTHETIC)
        params = writer.init(jax.random.key(0), writer_suite.spec_of(writer, (4, 5)))
        assert not any(post.any() for post in writer.write(params, memory, keys, values, rate).post)

    def test_learn_the_true_gradient_from_the_auxiliary_loss_alone(self):
        """At the top it is an affine function of value and activations, so there it can be found exactly."""
        params, memory, keys, values, rate, _ = example(SYNTHETIC)

        def loss(params):
            return SYNTHETIC.observe(params, memory, keys, values, rate).auxiliary_loss

        start = loss(params)
        step = jax.jit(lambda params: jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(loss)(params)))
        for _ in range(500):
            params = step(params)
        assert loss(params) < 1e-4 * start
        write = SYNTHETIC.write(params, memory, keys, values, rate)
        exact = mnm.writers.gradient().write({}, memory, keys, values, rate)
        for learned, true in zip(write.post, exact.post, strict=True):
            np.testing.assert_allclose(learned, true, atol=0.02)

    def test_no_other_loss_reaches_them(self):
        params, memory, keys, values, rate, _ = example(SYNTHETIC)
        written = lambda params: SYNTHETIC.write(params, memory, keys, values, rate).post[0].sum()  # noqa: E731
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(jax.grad(written)(params)))
        told = lambda values: SYNTHETIC.observe(params, memory, keys, values, rate).auxiliary_loss  # noqa: E731
        assert not np.any(jax.grad(told)(values))


class FadingWriter(Writer):
    """A rule of a user's own: the memory fades before it is written to."""

    gates: ClassVar = {"keep": Gate(low=0.88, bias=-1.0)}

    def write(self, params, memory, keys, values, rate, *, keep):
        return rules.Fade(mnm.writers.gradient().write(params, memory, keys, values, rate), keep, least_keep=0.88)

    def observe(self, params, memory, keys, values, rate, *, keep):
        return Observation(auxiliary_loss=1 - keep, extras={"keep_squared": keep**2})


class Moving(NamedTuple):
    """Momentum that can be taken back: two parts, with the error of one going into the other."""

    write: mnm.memory.Write
    persistence: jax.Array
    gain: jax.Array

    growth = np.array([[1.0, 1.0], [0.0, 1 / 0.9]])

    def apply(self, memory):
        weights, momentum = memory
        momentum = self.write.apply(jax.tree.map(lambda leaf: self.persistence * leaf, momentum))
        return jax.tree.map(lambda leaf, step: leaf + self.gain * step, weights, momentum), momentum

    def revert(self, memory):
        weights, momentum = memory
        weights = jax.tree.map(lambda leaf, step: leaf - self.gain * step, weights, momentum)
        return weights, jax.tree.map(lambda leaf: leaf / self.persistence, self.write.revert(momentum))

    def masked(self, valid):
        unless = lambda number, value: jnp.where(valid, number, value)  # noqa: E731
        return Moving(self.write.masked(valid), unless(self.persistence, 1.0), unless(self.gain, 0.0))


class MovingWriter(Writer):
    gates: ClassVar = {"persistence": Gate(low=0.9)}

    def start(self, weights):
        return weights, jax.tree.map(jnp.zeros_like, weights)

    def weights(self, memory):
        return memory[0]

    def write(self, params, memory, keys, values, rate, *, persistence):
        write = mnm.writers.local().write(params, memory[0], keys, values, rate)
        return Moving(write, persistence, jnp.ones_like(persistence))

    def init(self, rng, spec):
        return mnm.writers.local().init(rng, spec)


OWN = {"fading": FadingWriter(), "moving": MovingWriter()}


@pytest.mark.parametrize("writer", OWN.values(), ids=OWN.keys())
class TestRuleOfAUsersOwn(writer_suite.WriterSuite):
    """A rule that forgets, or keeps momentum, needs no change of the library, and has the properties of every other."""

    def test_gradient_of_a_batch_with_lengths_equals_plain(self, writer):
        cell = mnm.cells.MNM(2, 4, Spec(3, 2, (4,), use_bias=True), writer, num_heads=2, controller=nn.SimpleCell)
        inputs = np.random.default_rng(0).normal(size=(2, 6, 3))
        variables = writer_suite.draw_variables(cell, inputs[0, 0])

        def loss(variables, reversible):
            run = mnm.unroll_batch(cell, variables, inputs, lengths=jnp.array([4, 6]), reversible=reversible)
            value = jnp.square(run.outputs).sum() + run.trace.error_after.sum()
            value += sum(jnp.sin(leaf).sum() for leaf in jax.tree.leaves(run.carry.memory))
            if run.trace.auxiliary_loss is not None:
                value += run.trace.auxiliary_loss.sum()
            return value, run

        gradient = jax.jit(jax.grad(loss, has_aux=True), static_argnums=1)
        reversible, plain = gradient(variables, True), gradient(variables, False)
        chex.assert_trees_all_close(reversible, plain, rtol=1e-9, atol=1e-11)
        of_interface = reversible[0]["params"]["interface"]
        assert all(np.any(of_interface[f"gate_{name}"]["kernel"]) for name in writer.gates)
        assert set(reversible[1].trace.gates) == set(writer.gates)


def test_names_parameters_and_gates_at_fault():
    class Twice(Writer):
        def init(self, rng, spec):
            return {"strength": jnp.ones(())}

        constants = init

    class Misnamed(Writer):
        gates: ClassVar = {"rate": Gate()}

    for writer, message in [
        (Twice(), "the writer's parameters strength are both learned and constant"),
        (Misnamed(), "gates must not have the names of arguments of write: rate"),
    ]:
        with pytest.raises(ValueError, match=message):
            writer_suite.make_cell(writer).init(jax.random.key(0), None, jnp.ones(3))


def test_subclasses_with_options_are_values_without_a_decorator():
    class Scaled(Writer):
        scale: float = 1.0

    @dataclasses.dataclass(frozen=True)
    class Decorated(Writer):
        scale: float = 1.0

    for rule in (Scaled, Decorated):
        assert rule(2.0) == rule(scale=2.0) != rule(3.0)
        assert hash(rule(2.0)) == hash(rule(scale=2.0)) != hash(rule(3.0))
        assert repr(rule(2.0)).endswith(f"{rule.__name__}(scale=2.0)")
        with pytest.raises(dataclasses.FrozenInstanceError):
            rule().scale = 2.0
        with pytest.raises(dataclasses.FrozenInstanceError):
            del rule().scale
    assert Scaled(2.0) != Decorated(2.0)


@pytest.mark.parametrize("limits", [(1.0, 0.0), (0.0, float("inf")), (float("nan"), 1.0)])
def test_a_gate_needs_a_range(limits):
    with pytest.raises(ValueError, match="a gate's range must be finite, with low not above high, got"):
        Gate(*limits)


def test_gates_have_their_shapes_ranges_and_starts():
    spec, num_heads = Spec(3, 2, (4,)), 2
    gates = {per: Gate(0.5, 2.0, 1.0, per) for per in ("step", "head", "layer", "key_feature", "value_feature")}
    interface = mnm.interface.Interface(spec, num_heads=num_heads, gates=gates)
    variables = interface.init(jax.random.key(0), jnp.zeros(5))
    signals = interface.apply(variables, jnp.zeros(5))
    shapes = {"step": (), "head": (2,), "layer": (2, 1), "key_feature": (2, 3), "value_feature": (2, 2)}
    for name, gate in signals.gates.items():
        assert gate.shape == shapes[name]
        np.testing.assert_allclose(gate, 0.5 + 1.5 / (1 + math.exp(-1.0)), rtol=1e-6)


class TestWalkLength:
    @pytest.mark.parametrize("keep", [1.0, 0.999, 0.97, 0.88, 0.5])
    def test_keeps_rounding_within_the_budget_and_is_the_longest_that_does(self, keep):
        budget = 2048
        length = walk_length(1 / keep, budget)
        total = lambda n: sum(keep**-k for k in range(1, n + 1))  # noqa: E731
        assert total(length) <= budget * (1 + 1e-12)
        assert length == budget or total(length + 1) > budget

    def test_what_cannot_be_taken_back_is_not(self):
        assert walk_length(math.inf, 2048) == 0
        assert walk_length(np.array([[1.0, math.inf], [0.0, 1.0]]), 2048) == 0

    @pytest.mark.parametrize("growth", [-1.0, [1.0, 1.1], [[1.0, 1.0]], math.nan], ids=str)
    def test_names_a_growth_that_is_none(self, growth):
        with pytest.raises(ValueError, match="the growth of a change must be a number or a square matrix"):
            walk_length(growth, 2048)

    def test_of_a_traced_growth(self):
        with pytest.raises(TypeError, match="the growth of a change must be static"):
            jax.jit(lambda keep: walk_length(1 / keep, 2048))(0.5)

    @pytest.mark.parametrize(
        ("dtype", "budget"), [("float64", 2048), ("float32", 2048), ("float16", 0), ("bfloat16", 0)]
    )
    def test_a_coarser_type_is_walked_back_less(self, dtype, budget):
        memory = mnm.memory.init(jax.random.key(0), Spec(2, 2))
        assert rounding_budget(jax.tree.map(lambda leaf: leaf.astype(dtype), memory), 2048) == budget

    def test_of_a_matrix_counts_what_goes_from_part_to_part(self):
        """With an error of every step in momentum going on into the weights, they grow as the square of the steps."""
        length = walk_length(np.array([[1.0, 1.0], [0.0, 1.0]]), 2048)
        assert length == 62  # `sum_{k=1..n} (k + 1) <= 2048`.


@functools.cache
def gradient_of_fading(num_steps, keep):
    """Of a memory of one layer that fades by a fixed number: the error of float32 relative to float64, by way."""

    class FixedWriter(Writer):
        def write(self, params, memory, keys, values, rate):
            write = mnm.writers.gradient().write(params, memory, keys, values, rate)
            return rules.Fade(write, jnp.full((), keep, write.post[0].dtype), least_keep=keep)

    cell = mnm.cells.MNM(2, 4, Spec(3, 3), FixedWriter(), controller=nn.SimpleCell)
    inputs = np.random.default_rng(0).normal(size=(num_steps, 3))
    variables = cell.init(jax.random.key(0), None, jnp.float32(inputs[0]))

    def gradient(variables, inputs, reversible):
        def loss(variables):
            run = mnm.unroll(cell, variables, inputs, reversible=reversible)
            return jnp.square(run.outputs).mean() + run.trace.error_after.mean()

        return jax.tree.leaves(jax.jit(jax.grad(loss))(variables))

    exact = gradient(jax.tree.map(jnp.float64, variables), inputs, False)
    size = math.sqrt(sum(jnp.sum(leaf**2) for leaf in exact))

    def error(reversible):
        result = gradient(variables, jnp.float32(inputs), reversible)
        return math.sqrt(sum(jnp.sum((a - b) ** 2) for a, b in zip(result, exact, strict=True))) / size

    return error(True), error(False)


@pytest.mark.parametrize(
    ("num_steps", "keep"), [(64, 0.0), (64, 0.5), (64, 0.99), (4096, 0.5), (4096, 0.88), (4096, 1.0)]
)
def test_walking_a_fading_memory_back_is_as_exact_as_the_plain_scan(num_steps, keep):
    reversible, plain = gradient_of_fading(num_steps, keep)
    assert reversible < 10 * plain + 1e-5


class TestOptionsOfModels:
    SETTINGS = models.ModelSettings(4, 4, normalized_rule=True, bounded_targets=True)

    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("mnm_p", {}),
            ("mnm_p_hidden", {"hidden_size": 32}),
            ("mnm_p_key", {"use_key": True}),
            ("mnm_p_fixed", {"is_learned": False}),
        ],
    )
    def test_are_those_of_every_local_rule(self, name, options):
        backward = mnm.writers.perceptron(**options)
        assert models.find_writer(name) == mnm.writers.local(backward=backward)
        wanted = mnm.writers.local(backward=backward, normalized=True, bounded=True)
        assert models.find_writer(name, self.SETTINGS) == wanted

    @pytest.mark.parametrize("name", ["feedback_alignment", "synthetic_gradients"])
    def test_are_refused_by_name_where_layers_take_steps(self, name):
        assert models.find_writer(name, models.ModelSettings(4, 4)) == models.find_writer(name)
        with pytest.raises(ValueError, match=f"^model '{name}' has no normalized_rule, for "):
            models.find_writer(name, self.SETTINGS)

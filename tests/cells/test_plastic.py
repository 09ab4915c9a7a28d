"""Tests of the plasticity family."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from carried_suite import INPUT_SIZE, OUTPUT_SIZE, CarriedSuite, T, assert_close

import mnm_jax as mnm
from mnm_jax import models
from mnm_jax.cells import plastic

SIZE = 4

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module", params=["none", "hebbian", "modulated", "retroactive"])
def cell(request):
    return mnm.cells.Plastic(OUTPUT_SIZE, SIZE, rule=request.param)


@pytest.fixture(scope="module")
def variables(cell, inputs):
    """Parameters so large that traces reach their bounds."""
    variables = cell.init(jax.random.key(1), None, inputs[0])
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), variables["params"])
    if "rate" in params:
        params["rate"] = jnp.array(0.8)
    return {"params": params}


class TestCarried(CarriedSuite):
    def test_symbols_are_embedded(self, cell):
        of_symbols = cell.clone(vocabulary_size=9)
        variables = jax.eval_shape(of_symbols.init, jax.random.key(0), None, jnp.array(1))
        assert variables["params"]["embedding"]["kernel"].shape == (9, SIZE)

    def test_every_parameter_is_learned(self, cell, gradients):
        params = gradients[False][0][0]["params"]
        own = {
            "none": set(),
            "hebbian": {"plasticity", "rate"},
            "modulated": {"plasticity", "modulator"},
            "retroactive": {"plasticity", "rate", "modulator"},
        }[cell.rule]
        assert set(params) == {"embedding", "bias", "recurrent", "output"} | own
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            assert np.isfinite(leaf).all(), jax.tree_util.keystr(path)
            assert np.abs(leaf).max() > 1e-6, jax.tree_util.keystr(path)


def run_by_hand(rule, params, inputs):
    """The equations, connection by connection; returns outputs and traces, and how often a trace was clipped."""
    params = jax.tree.map(np.asarray, params)
    x, trace, eligibility = np.zeros(SIZE), np.zeros((SIZE, SIZE)), np.zeros((SIZE, SIZE))
    outputs, num_clipped = [], 0
    for observation in np.asarray(inputs):
        total = observation @ params["embedding"]["kernel"] + params["bias"]
        new = np.zeros(SIZE)
        for j in range(SIZE):
            for i in range(SIZE):
                plastic = 0 if rule == "none" else params["plasticity"][i, j] * trace[i, j]
                total[j] += x[i] * (params["recurrent"][i, j] + plastic)
            new[j] = np.tanh(total[j])
        if "modulator" in params:
            modulator = params["modulator"]
            modulation = np.tanh(new @ modulator["kernel"][:, 0] + modulator["bias"][0])
        for i in range(SIZE):
            for j in range(SIZE):
                hebbian = x[i] * new[j]
                if rule == "hebbian":
                    change = params["rate"] * hebbian
                elif rule == "modulated":
                    change = modulation * hebbian
                else:
                    change = modulation * eligibility[i, j] if rule == "retroactive" else 0
                num_clipped += abs(trace[i, j] + change) > 1
                trace[i, j] = min(1, max(-1, trace[i, j] + change))
                if rule == "retroactive":
                    eligibility[i, j] = (1 - params["rate"]) * eligibility[i, j] + params["rate"] * hebbian
        x = new
        outputs.append(new @ params["output"]["kernel"] + params["output"]["bias"])
    return np.stack(outputs), trace, eligibility, num_clipped


def test_an_episode_equals_the_equations_in_numpy(cell, variables, inputs, whole):
    outputs, trace, eligibility, num_clipped = run_by_hand(cell.rule, variables["params"], inputs)
    assert_close(whole.outputs, outputs, rtol=1e-4)
    if cell.rule == "none":
        assert whole.carry.trace == ()
        return
    assert_close(whole.carry.trace, trace, rtol=1e-4)
    if cell.rule == "retroactive":
        assert_close(whole.carry.eligibility, eligibility, rtol=1e-4)
    else:
        assert num_clipped > 0
        assert whole.carry.eligibility == ()


def test_a_modulator_sees_only_what_was_before(inputs):
    """Retroactive: at the first step there is nothing eligible yet, at the second only what the first one left."""
    cell = mnm.cells.Plastic(OUTPUT_SIZE, SIZE, rule="retroactive")
    variables = cell.init(jax.random.key(1), None, inputs[0])
    variables["params"]["modulator"]["bias"] = jnp.array([1.0])
    carries = [cell.apply(variables, method="initial_carry")]
    for x in inputs[:3]:
        carries.append(cell.apply(variables, carries[-1], x)[0])
    # The first step's outer product is with the activity at the start, which is zero.
    for carry in carries[:3]:
        assert np.abs(carry.trace).max() == 0
    assert np.abs(carries[2].eligibility).max() > 0
    modulation = np.tanh(carries[3].hidden @ variables["params"]["modulator"]["kernel"][:, 0] + 1)
    assert_close(carries[3].trace, modulation * carries[2].eligibility)


def _bounded(trace):
    return jnp.clip(trace, -1, 1)


@pytest.mark.parametrize(
    ("function", "plain", "shapes"),
    [
        (plastic._recall, lambda hidden, plasticity, trace: hidden @ (plasticity * trace), [(3,), (3, 3), (3, 3)]),
        (plastic._outer, jnp.outer, [(3,), (3,)]),
        (plastic._write, lambda trace, old, new: _bounded(trace + jnp.outer(old, new)), [(3, 3), (3,), (3,)]),
        (
            plastic._write_eligible,
            lambda trace, modulation, eligibility: _bounded(trace + modulation * eligibility),
            [(3, 3), (), (3, 3)],
        ),
    ],
    ids=["recall", "outer", "write", "write_eligible"],
)
class TestGradientsByHandAreThoseThatJaxDerives:
    def test_of_one_episode(self, function, plain, shapes):
        self.check(function, plain, shapes)

    def test_of_a_batch_that_shares_the_second_argument(self, function, plain, shapes):
        axes = tuple(None if i == 1 else 0 for i in range(len(shapes)))
        shapes = [shape if axis is None else (5, *shape) for shape, axis in zip(shapes, axes, strict=True)]
        self.check(jax.vmap(function, axes), jax.vmap(plain, axes), shapes)

    def test_of_seeds(self, function, plain, shapes):
        axes = tuple(None if i == 1 else 0 for i in range(len(shapes)))
        shapes = [(2, *shape) if axis is None else (2, 5, *shape) for shape, axis in zip(shapes, axes, strict=True)]
        self.check(jax.vmap(jax.vmap(function, axes)), jax.vmap(jax.vmap(plain, axes)), shapes)

    def check(self, function, plain, shapes):
        rng = np.random.default_rng(0)
        arguments = [jnp.asarray(1.5 * rng.normal(size=shape), float) for shape in shapes]
        result, pull_back = jax.vjp(function, *arguments)
        expected, pull_back_plain = jax.vjp(plain, *arguments)
        assert_close(result, expected)
        cotangent = jnp.asarray(rng.normal(size=result.shape), float)
        assert_close(pull_back(cotangent), pull_back_plain(cotangent), rtol=1e-4)


def test_a_sum_over_episodes_is_the_same_on_accelerators(monkeypatch):
    rng = np.random.default_rng(0)
    arguments = [jnp.asarray(rng.normal(size=shape), float) for shape in [(5, 3), (5, 3), (5, 3, 3)]]
    on_cpu = plastic._sum_over_episodes(*arguments)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert_close(plastic._sum_over_episodes(*arguments), on_cpu)


def test_parameters_start_as_published(inputs):
    params = mnm.cells.Plastic(5, 100, rule="retroactive").init(jax.random.key(0), None, inputs[0])["params"]
    for name in ("recurrent", "plasticity"):
        assert params[name].shape == (100, 100)
        assert 0 <= params[name].min() < 1e-4
        assert 0.0099 < params[name].max() <= 0.01
    assert float(params["rate"]) == pytest.approx(0.01)
    assert float(jnp.abs(params["bias"]).max()) == 0


def test_layers_start_as_published_if_wanted():
    """Uniform within one over the root of the number of inputs: mean 0, variance a third of the bound's square."""
    size, num_inputs = 400, 17
    cell = mnm.cells.Plastic(50, size, rule="modulated", start_scale=0.2, published_start=True)
    params = cell.init(jax.random.key(0), None, jnp.zeros(num_inputs))["params"]
    assert set(params) == {"embedding", "recurrent", "plasticity", "modulator", "output"}
    assert 0.19 < params["recurrent"].max() <= 0.2
    for name, inputs in (("embedding", num_inputs), ("output", size), ("modulator", size)):
        kernel, bias = params[name]["kernel"], params[name]["bias"]
        assert kernel.shape == (inputs, bias.size)
        bound = inputs**-0.5
        assert max(jnp.abs(kernel).max(), jnp.abs(bias).max()) <= bound
        if name == "modulator":
            continue  # One bias.
        for leaf in (kernel, bias):
            error = bound * leaf.size**-0.5
            assert abs(leaf.mean()) < 4 * error / 3**0.5
            # The variance of the square of a uniform number is 4/45 of the bound to the fourth.
            assert abs(jnp.square(leaf).mean() - bound**2 / 3) < 4 * bound * error * (4 / 45) ** 0.5


def test_the_published_start_is_that_of_the_same_network(inputs):
    """Only where training starts differs."""
    published = mnm.cells.Plastic(OUTPUT_SIZE, SIZE, published_start=True)
    params = published.init(jax.random.key(0), None, inputs[0])["params"]
    moved = params | {"embedding": {"kernel": params["embedding"]["kernel"]}, "bias": params["embedding"]["bias"]}
    plain = mnm.cells.Plastic(OUTPUT_SIZE, SIZE)
    assert_close(
        mnm.unroll(published, {"params": params}, inputs).outputs, mnm.unroll(plain, {"params": moved}, inputs).outputs
    )


@pytest.mark.parametrize(("name", "rule"), [("rnn", "none"), ("plastic", "hebbian"), ("modul", "retroactive")])
def test_models_are_built_by_name(name, rule):
    settings = models.ModelSettings(SIZE, 3)
    cell = models.build(name, settings, output_size=OUTPUT_SIZE, vocabulary_size=None, num_steps=T)
    assert cell == mnm.cells.Plastic(OUTPUT_SIZE, SIZE, rule=rule)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rule": "oja"}, "rule must be one of"),
        ({"controller_size": 0}, "controller_size"),
        ({"start_scale": 0.0}, "start_scale must be finite and above 0, got 0.0"),
        ({"published_start": True, "vocabulary_size": 5}, "published_start is for dense inputs.*vocabulary_size 5"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    cell = mnm.cells.Plastic(**{"output_size": 2, "controller_size": 3} | arguments)
    with pytest.raises(ValueError, match=message):
        cell.init(jax.random.key(0), None, jnp.zeros(INPUT_SIZE))

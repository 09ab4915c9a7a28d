"""Tests of the MNM cell and of the outer gradients through it."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from writer_suite import draw_variables

import mnm_jax as mnm
from mnm_jax.cells import Embedding
from mnm_jax.interface import Interface
from mnm_jax.memory import Spec

SPEC = Spec(3, 2, (4,), use_bias=True)
INPUTS = np.random.default_rng(0).normal(size=(3, 3))
WRITERS = {"gradient": mnm.writers.gradient(), "local": mnm.writers.local()}

pytestmark = pytest.mark.usefixtures("quick_compilation")

for_both_writers = pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS.keys())


def make(writer, **options):
    arguments = {"output_size": 2, "controller_size": 4, "memory_spec": SPEC, "writer": writer, "num_heads": 2}
    return mnm.cells.MNM(**arguments | options)


def run_by_hand(cell, variables, inputs):
    """An episode from the equations, out of the library's parts but without the cell, step by step."""
    params = variables["params"]
    memory, read = params["initial_memory"], jnp.zeros(cell.memory_spec.value_size)
    controller = cell.controller(cell.controller_size)
    state = controller.initialize_carry(jax.random.key(0), (cell.controller_size,))
    interface = Interface(cell.memory_spec, cell.num_heads, rate_per=cell.rate_per)
    outputs, errors = [], []
    for x in inputs:
        embedded = x @ params["embedding"]["kernel"]
        state, hidden = controller.apply(
            {"params": params["controller_cell"]}, state, jnp.concatenate([embedded, read])
        )
        signals = interface.apply({"params": params["interface"]}, hidden)
        targets = signals.write_values
        before = mnm.memory.read(memory, signals.write_keys)
        write = cell.writer.write(params.get("writer", {}), memory, signals.write_keys, targets, signals.rate)
        memory = write.apply(memory)
        after = mnm.memory.read(memory, signals.write_keys)
        values = mnm.memory.read(memory, signals.read_keys)
        if cell.read_combination == "project":
            projection = params["read_projection"]
            read = jnp.concatenate(list(values)) @ projection["kernel"] + projection["bias"]
        else:
            read = sum(values) / cell.num_heads
        if cell.read_normalization == "rms":
            read = read / np.sqrt(np.mean(np.square(read)) + 1)
        output = params["output"]
        outputs.append(jnp.concatenate([hidden, read]) @ output["kernel"] + output["bias"])
        errors.append((jnp.mean((before - targets) ** 2), jnp.mean((after - targets) ** 2)))
    errors_before, errors_after = map(jnp.stack, zip(*errors, strict=True))
    return mnm.cells.MNMCarry(state, memory, read), jnp.stack(outputs), errors_before, errors_after


@for_both_writers
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"controller": nn.GRUCell},
        {"read_combination": "project"},
        {"rate_per": "head"},
        {"rate_per": "layer", "read_normalization": "rms"},
    ],
    ids=["default", "gru", "project", "rate_per_head", "rate_per_layer_read_normalized"],
)
def test_episode_equals_the_equations(writer, options):
    cell = make(writer, **options)
    inputs = INPUTS.astype(np.float32)
    variables = draw_variables(cell, inputs[0])
    wanted_carry, outputs, errors_before, errors_after = run_by_hand(cell, variables, inputs)
    run = jax.jit(functools.partial(mnm.unroll, cell))(variables, inputs)
    chex.assert_trees_all_close(
        (run.carry, run.outputs, run.trace.error_before, run.trace.error_after),
        (wanted_carry, outputs, errors_before, errors_after),
        rtol=1e-4,
        atol=1e-5,
    )
    assert run.trace.auxiliary_loss is None
    shapes = {name: leaf.shape for name, leaf in run.trace._asdict().items() if jax.tree.leaves(leaf)}
    rate = {"head": (2,), "layer": (2, 1)}.get(options.get("rate_per"), ())
    assert shapes == {
        "write_keys": (3, 2, 3),
        "write_values": (3, 2, 2),
        "read_keys": (3, 2, 3),
        "read_values": (3, 2, 2),
        "rate": (3, *rate),
        "error_before": (3,),
        "error_after": (3,),
        "write_norm": (3, cell.memory_spec.num_layers),
        "memory_norm": (3, cell.memory_spec.num_layers),
    }
    start = cell.apply(variables, method="initial_carry")
    first = mnm.unroll(cell, variables, inputs[:1])
    moved = jax.tree.map(np.subtract, first.carry.memory, start.memory)
    for norms, weights in ((run.trace.memory_norm[-1], run.carry.memory), (first.trace.write_norm[0], moved)):
        wanted = [np.sqrt(sum((np.asarray(leaf) ** 2).sum() for leaf in jax.tree.leaves(layer))) for layer in weights]
        np.testing.assert_allclose(norms, wanted, rtol=1e-3, atol=1e-6)


ALL_OPTIONS = {
    "memory_spec": Spec(3, 2, (4,), use_bias=True, zero_output_layer=True),
    "read_combination": "project",
    "key_normalization": "rms",
    "value_normalization": "rms",
    "shared_key_start": True,
    "rate_per": "layer",
}
CELLS = {
    "gradient": make(mnm.writers.gradient()),
    "gradient_two_steps": make(mnm.writers.gradient(num_steps=2), controller=nn.SimpleCell),
    "gradient_all_options": make(mnm.writers.gradient(), controller=nn.SimpleCell, **ALL_OPTIONS),
    "local": make(mnm.writers.local()),
    "local_hidden_key_activations": make(
        mnm.writers.local(backward=mnm.writers.perceptron(hidden_size=3, use_key=True, use_activations=True)),
        controller=nn.SimpleCell,
    ),
    "local_all_options": make(mnm.writers.local(), controller=nn.SimpleCell, **ALL_OPTIONS),
}


@pytest.fixture(scope="module", params=CELLS.values(), ids=CELLS.keys())
def case(request):
    """A cell, its variables, and a jitted loss with its gradients; in float64."""
    cell = request.param

    @jax.jit
    @jax.value_and_grad
    def loss_and_gradient(variables):
        _, outputs, trace = mnm.unroll(cell, variables, INPUTS)
        return jnp.square(outputs - 1).mean() + trace.error_after.mean()

    with jax.enable_x64(True):
        variables = draw_variables(cell, INPUTS[0])
        if cell.memory_spec.zero_output_layer:
            *lower, top = variables["params"]["initial_memory"]
            zero_memory = (*lower, jax.tree.map(jnp.zeros_like, top))
            variables = {"params": variables["params"] | {"initial_memory": zero_memory}}
        return cell, jax.tree.map(np.asarray, variables), loss_and_gradient


class TestOuterGradient:
    """Gradients of a loss on outputs and errors, through every write of an episode."""

    def test_equals_central_differences_in_every_leaf(self, case, float64):
        _, variables, loss_and_gradient = case
        gradients = loss_and_gradient(variables)[1]
        leaves, structure = jax.tree.flatten(variables)
        draw = np.random.default_rng(1)
        epsilon = 1e-5
        for i, (path, gradient) in enumerate(jax.tree.leaves_with_path(gradients)):
            direction = draw.normal(size=gradient.shape)
            losses = []
            for sign in (1, -1):
                moved = [*leaves[:i], leaves[i] + sign * epsilon * direction, *leaves[i + 1 :]]
                losses.append(loss_and_gradient(jax.tree.unflatten(structure, moved))[0])
            difference = (losses[0] - losses[1]) / (2 * epsilon)
            np.testing.assert_allclose(
                np.vdot(gradient, direction), difference, rtol=1e-6, atol=1e-9, err_msg=jax.tree_util.keystr(path)
            )

    def test_reaches_every_named_leaf(self, case, float64):
        """And within the interface's one kernel, every part: write keys, read keys, write values and rate."""
        cell, variables, loss_and_gradient = case
        gradients = loss_and_gradient(variables)[1]["params"]
        names = {"embedding", "controller_cell", "interface", "initial_memory", "output"}
        names |= {"read_projection"} if cell.read_combination == "project" else set()
        names |= {"writer"} if jax.tree.leaves(cell.writer.init(jax.random.key(0), cell.memory_spec)) else set()
        assert {name for name, tree in gradients.items() if jax.tree.leaves(tree)} == names
        for path, gradient in jax.tree.leaves_with_path(gradients):
            assert np.any(np.abs(gradient) > 1e-9), jax.tree_util.keystr(path)
        sizes = cell.num_heads * np.array([SPEC.key_size, SPEC.key_size, SPEC.value_size])
        parts = np.split(gradients["interface"]["signals"]["kernel"], np.cumsum(sizes), axis=1)
        assert parts[-1].shape[1] == cell.controller_size
        for part in parts:
            assert np.any(np.abs(part) > 1e-9)


def test_initial_memory_that_is_not_learned_is_no_parameter():
    cell = make(mnm.writers.gradient(), learned_initial_memory=False, controller=nn.SimpleCell)
    inputs = INPUTS.astype(np.float32)
    variables = cell.init(jax.random.key(0), None, inputs[0])
    assert "initial_memory" not in variables["params"]
    start = cell.apply(variables, method="initial_carry").memory
    chex.assert_trees_all_equal(start, variables["constants"]["initial_memory"])
    assert np.any(start[0].kernel)
    moved = {**variables, "constants": jax.tree.map(lambda leaf: leaf + 1, variables["constants"])}
    assert np.any(mnm.unroll(cell, moved, inputs).outputs != mnm.unroll(cell, variables, inputs).outputs)


def test_variables_at_the_start():
    """What `init` makes: the documented parts, `phi_0` as its specification says, and the carry that begins with it."""
    spec = Spec(3, 2, (4,), zero_output_layer=True)
    cell = make(mnm.writers.local(), memory_spec=spec, shared_key_start=True, rate_bias=2.0, controller=nn.SimpleCell)
    variables = cell.init(jax.random.key(0), None, INPUTS[0].astype(np.float32))
    params = variables["params"]
    assert set(params) == {"embedding", "controller_cell", "interface", "initial_memory", "writer", "output"}
    assert np.all(params["initial_memory"][-1].kernel == 0)
    assert np.any(params["initial_memory"][0].kernel != 0)
    np.testing.assert_array_equal(params["interface"]["rate"]["bias"], [2.0])
    kernel = params["interface"]["signals"]["kernel"]
    np.testing.assert_array_equal(kernel[:, :6], kernel[:, 6:12])
    carry = cell.apply(variables, method="initial_carry")
    chex.assert_trees_all_equal(carry.memory, params["initial_memory"])
    chex.assert_trees_all_equal((carry.controller, carry.read), (np.zeros(4), np.zeros(2)))


def test_call_without_a_carry_starts_the_episode():
    cell = make(mnm.writers.local())
    x = INPUTS[0].astype(np.float32)
    variables = draw_variables(cell, x)
    carry = cell.apply(variables, method="initial_carry")
    wanted_carry, (wanted_output, wanted_trace) = cell.apply(variables, carry, x)
    carry, (output, trace) = cell.apply(variables, None, x)
    chex.assert_trees_all_equal((carry, output, trace), (wanted_carry, wanted_output, wanted_trace))


@for_both_writers
def test_equal_arguments_make_equal_cells(writer):
    same = make(writer, memory_spec=Spec(3, 2, [4], use_bias=True))
    assert same == make(writer)
    assert hash(same) == hash(make(writer))
    assert same != make(writer, num_heads=1)
    assert same != make(mnm.writers.local(backward=mnm.writers.perceptron(use_key=True)))


def test_equal_cells_do_not_recompile():
    traced = []

    @functools.partial(jax.jit, static_argnums=0)
    def step(cell, variables, x):
        traced.append(cell)
        return cell.apply(variables, None, x)

    x = INPUTS[0].astype(np.float32)
    variables = draw_variables(make(mnm.writers.local()), x)
    step(make(mnm.writers.local()), variables, x)
    step(make(mnm.writers.local(), memory_spec=Spec(3, 2, [4], use_bias=True)), variables, x + 1)
    assert len(traced) == 1
    step(make(mnm.writers.local(), value_normalization=None), variables, x)
    assert len(traced) == 2


@for_both_writers
def test_step_hands_out_the_write_that_takes_its_memory_back(writer):
    cell = make(writer)
    variables = draw_variables(cell, INPUTS[0])
    start = cell.apply(variables, method="initial_carry")
    carry, output, trace, write = cell.apply(variables, start, INPUTS[0], method="step")
    chex.assert_trees_all_close(write.revert(carry.memory), start.memory, rtol=1e-5, atol=1e-6)
    assert any(np.abs(new - old).max() > 1e-3 for new, old in zip(*map(jax.tree.leaves, (carry, start)), strict=True))
    chex.assert_trees_all_equal((carry, (output, trace)), cell.apply(variables, None, INPUTS[0]))


class TestEmbedding:
    @pytest.mark.parametrize("scale", [1.0, 0.2])
    @pytest.mark.parametrize("kind", ["symbols", "one_hots", "dense"])
    def test_starts_at_root_mean_square_of_its_scale(self, kind, scale):
        draw = np.random.default_rng(0)
        vocabulary_size = None if kind == "dense" else 7
        embedding = Embedding(size=64, vocabulary_size=vocabulary_size, scale=scale)
        symbols = jnp.arange(7)
        inputs = {
            "symbols": symbols,
            "one_hots": jax.nn.one_hot(symbols, 7),
            "dense": draw.normal(size=(32, 20)).astype(np.float32),
        }[kind]
        variables = embedding.init(jax.random.key(0), inputs[0])
        outputs = jax.vmap(lambda x: embedding.apply(variables, x))(inputs)
        np.testing.assert_allclose(np.sqrt(np.mean(np.square(outputs))), scale, rtol=0.1)

    def test_a_symbol_equals_its_one_hot_vector(self):
        embedding = Embedding(size=5, vocabulary_size=7)
        variables = embedding.init(jax.random.key(0), jnp.array(0))
        for symbol in (0, 6):
            np.testing.assert_allclose(
                embedding.apply(variables, jnp.array(symbol)),
                embedding.apply(variables, jax.nn.one_hot(symbol, 7)),
                rtol=1e-6,
            )

    @pytest.mark.parametrize(
        ("vocabulary_size", "inputs"),
        [
            (None, np.array(1)),
            (7, np.array([1, 2])),
            (7, np.ones(6, np.float32)),
            (None, np.ones((2, 3), np.float32)),
        ],
        ids=["symbol_without_vocabulary", "two_symbols", "one_hot_of_another_size", "batch"],
    )
    def test_names_the_inputs_at_fault(self, vocabulary_size, inputs):
        with pytest.raises(AssertionError, match="argument 'inputs'"):
            Embedding(size=5, vocabulary_size=vocabulary_size).init(jax.random.key(0), inputs)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("output_size", 0, "output_size must be a whole number of at least 1, got 0"),
        ("controller_size", -1, "controller_size must be a whole number of at least 1, got -1"),
        ("num_heads", 1.5, "num_heads must be a whole number of at least 1, got 1.5"),
        ("read_combination", "sum", "read_combination must be one of 'mean', 'project', got 'sum'"),
        ("rate_per", "unit", "rate_per must be one of 'step', 'head', 'layer', got 'unit'"),
        ("key_normalization", "l2", "key_normalization must be one of 'rms', None, got 'l2'"),
    ],
)
def test_names_the_option_at_fault(option, value, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(make(mnm.writers.local(), **{option: value}).init, jax.random.key(0), None, INPUTS[0])

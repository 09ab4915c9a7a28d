"""Every writer under every transformation of JAX: values and gradients are those of the plain scan in float64."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import checkify
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from writer_suite import WRITERS, draw_variables, spec_of

import mnm_jax as mnm

NUM_STEPS = 3
INPUTS = np.random.default_rng(0).normal(size=(2, NUM_STEPS, 3))  # One episode for each device.

pytestmark = pytest.mark.usefixtures("quick_compilation", "float64")


def make(writer):
    return mnm.cells.MNM(2, 3, spec_of(writer), writer, num_heads=2, controller=nn.SimpleCell)


def loss(cell, variables, inputs, **options):
    """Of one episode, and what it gave."""
    run = mnm.unroll(cell, variables, inputs, **options)
    value = jnp.square(run.outputs - 1).sum() + run.trace.error_after.sum()
    value += sum(jnp.sin(leaf).sum() for leaf in jax.tree.leaves(run.carry.memory))
    if run.trace.auxiliary_loss is not None:
        value += run.trace.auxiliary_loss.sum()
    return value, run.outputs


def of_each(cell, variables, inputs, **options):
    """The gradient by variables and by inputs of one episode, and its outputs."""
    return jax.grad(functools.partial(loss, cell, **options), (0, 1), has_aux=True)(variables, inputs)


def of_all(cell, variables, inputs, run_all):
    """The same for all episodes, by one gradient of the sum of their losses."""

    def total(variables, inputs):
        values, outputs = run_all(functools.partial(loss, cell, variables))(inputs)
        return jnp.sum(values), outputs

    return jax.grad(total, (0, 1), has_aux=True)(variables, inputs)


def add_up(results):
    """From the results of episodes one by one to those of all: the gradient of the variables is a sum."""
    (of_variables, of_inputs), outputs = jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)
    return (jax.tree.map(lambda leaf: leaf.sum(axis=0), of_variables), of_inputs), outputs


@functools.cache
def wanted(writer):
    cell = make(writer)
    variables = draw_variables(cell, INPUTS[0, 0])
    run = jax.jit(functools.partial(of_each, cell, reversible=False))
    return cell, variables, add_up([run(variables, inputs) for inputs in INPUTS])


def mesh(axis_type):
    return jax.make_mesh((2,), ("devices",), axis_types=(axis_type,))


def without_compilation(cell, variables, inputs):
    return add_up([of_each(cell, variables, episode) for episode in inputs])


def compiled(cell, variables, inputs):
    run = jax.jit(functools.partial(of_each, cell))
    return add_up([run(variables, episode) for episode in inputs])


def vmapped(cell, variables, inputs):
    return jax.jit(lambda variables, inputs: of_all(cell, variables, inputs, jax.vmap))(variables, inputs)


def in_a_batch(cell, variables, inputs):
    def total(variables, inputs):
        run = mnm.unroll_batch(cell, variables, inputs)
        value = jnp.square(run.outputs - 1).sum() + run.trace.error_after.sum()
        value += sum(jnp.sin(leaf).sum() for leaf in jax.tree.leaves(run.carry.memory))
        if run.trace.auxiliary_loss is not None:
            value += run.trace.auxiliary_loss.sum()
        return value, run.outputs

    return jax.jit(jax.grad(total, (0, 1), has_aux=True))(variables, inputs)


def pmapped(cell, variables, inputs):
    return add_up_stacked(jax.pmap(functools.partial(of_each, cell), in_axes=(None, 0))(variables, inputs))


def add_up_stacked(results):
    return add_up([jax.tree.map(lambda leaf, i=i: leaf[i], results) for i in range(2)])


def on_a_mesh(cell, variables, inputs, check_vma):
    """Each device has an episode, as a batch of one."""

    @functools.partial(
        jax.shard_map,
        mesh=mesh(AxisType.Auto),
        in_specs=(P(), P("devices")),
        out_specs=((P(), P("devices")), P("devices")),
        check_vma=check_vma,
    )
    def run(variables, inputs):
        (of_variables, of_inputs), outputs = of_all(cell, variables, inputs, jax.vmap)
        # With its check on, `jax.shard_map` sums the gradient of what every device has the same.
        return (of_variables if check_vma else jax.lax.psum(of_variables, "devices"), of_inputs), outputs

    return jax.jit(run)(variables, inputs)


def sharded(cell, variables, inputs, axis_type):
    devices = mesh(axis_type)
    with jax.set_mesh(devices):
        variables = jax.device_put(variables, NamedSharding(devices, P()))
        inputs = jax.device_put(inputs, NamedSharding(devices, P("devices")))
        return jax.device_get(vmapped(cell, variables, inputs))


def checkpointed(cell, variables, inputs):
    run = lambda function: jax.vmap(jax.checkpoint(function))  # noqa: E731
    return jax.jit(lambda variables, inputs: of_all(cell, variables, inputs, run))(variables, inputs)


TRANSFORMATIONS = {
    "eager": without_compilation,
    "jit": compiled,
    "vmap": vmapped,
    "batch": in_a_batch,
    "pmap": pmapped,
    "shard_map": functools.partial(on_a_mesh, check_vma=True),
    "shard_map_unchecked": functools.partial(on_a_mesh, check_vma=False),
    "sharded": functools.partial(sharded, axis_type=AxisType.Auto),
    "explicitly_sharded": functools.partial(sharded, axis_type=AxisType.Explicit),
    "checkpoint": checkpointed,
}


def gradient_of_gradient(cell, variables, inputs, reversible):
    """By the variables, of the squared gradient by the inputs."""

    def squares(variables):
        by_inputs = jax.grad(lambda inputs: loss(cell, variables, inputs, reversible=reversible)[0])(inputs)
        return jnp.sum(jnp.square(by_inputs))

    return jax.grad(squares)(variables)


def test_gradient_of_gradient_equals_that_of_the_plain_scan():
    cell, variables, _ = wanted(WRITERS["gradient"])
    run = jax.jit(functools.partial(gradient_of_gradient, cell), static_argnames="reversible")
    result, plain = (run(variables, INPUTS[0], reversible=reversible) for reversible in (True, False))
    chex.assert_trees_all_close(result, plain, rtol=1e-9, atol=1e-11)
    assert np.any(result["params"]["interface"]["signals"]["kernel"])


# Those that differ by an option alone share all else.
VARIANTS = {"gradient_two_steps", "feedback_alignment", *(name for name in WRITERS if name.startswith("local_"))}
DIFFERENT = {name: writer for name, writer in WRITERS.items() if name not in VARIANTS}
# It runs in every way; the others in those of which one alone went wrong before.
EVERYWHERE = {"gradient"}
TELLING = {"vmap", "shard_map", "checkpoint"}


@pytest.mark.parametrize(
    ("transformation", "name"),
    [
        (transformation, name)
        for transformation in TRANSFORMATIONS
        for name in DIFFERENT
        if name in EVERYWHERE or transformation in TELLING
    ],
)
def test_equals_the_plain_scan(transformation, name):
    cell, variables, result = wanted(DIFFERENT[name])
    run = TRANSFORMATIONS[transformation]
    chex.assert_trees_all_close(run(cell, variables, INPUTS), result, rtol=1e-9, atol=1e-11)


CELL = make(WRITERS["gradient"])


@pytest.fixture(scope="module")
def variables():
    return draw_variables(CELL, INPUTS[0, 0])


def outputs_of(cell, variables, **options):
    """Of all episodes, as `jax.vmap` maps them."""
    return jax.vmap(lambda episode: mnm.unroll(cell, variables, episode, **options).outputs)(INPUTS)


class TestTracedValuesThatAreHeld:
    """By the cell, in a field, or by its writer, in a closure: the gradient by them is that of the plain scan."""

    @staticmethod
    def gradient(variables, hold, **options):
        return jax.jit(jax.grad(lambda scale: jnp.square(outputs_of(hold(scale), variables, **options)).sum()))(1.0)

    @staticmethod
    def in_a_closure(scale):
        class Scaled(mnm.writers.Writer):
            def write(self, params, memory, keys, values, rate):
                return mnm.writers.gradient().write(params, memory, keys, values, scale * rate)

        return CELL.clone(writer=Scaled())

    def test_in_a_field(self, variables):
        hold = lambda scale: CELL.clone(rate_scale=scale)  # noqa: E731
        result = self.gradient(variables, hold)
        assert result != 0
        np.testing.assert_allclose(result, self.gradient(variables, hold, reversible=False), rtol=1e-9)

    def test_in_a_closure(self, variables):
        result = self.gradient(variables, self.in_a_closure)
        assert result != 0
        np.testing.assert_allclose(result, self.gradient(variables, self.in_a_closure, reversible=False), rtol=1e-9)


def test_a_collective_in_a_cell(variables):
    """Over the episodes of a batch: their values are written as differences from the mean."""

    class Centered(mnm.writers.Writer):
        def write(self, params, memory, keys, values, rate):
            values = values - jax.lax.pmean(values, "batch")
            return mnm.writers.gradient().write(params, memory, keys, values, rate)

    cell = CELL.clone(writer=Centered())

    def run(variables, reversible):
        def episode(inputs):
            return mnm.unroll(cell, variables, inputs, reversible=reversible).outputs

        outputs = jax.vmap(episode, axis_name="batch")(INPUTS)
        return jnp.square(outputs).sum(), outputs

    gradient = jax.jit(jax.grad(run, has_aux=True), static_argnums=1)
    result, plain = gradient(variables, True), gradient(variables, False)
    chex.assert_trees_all_close(result, plain, rtol=1e-9, atol=1e-11)
    assert np.any(result[1] != outputs_of(CELL, variables))


@pytest.mark.parametrize("run", [mnm.unroll_batch, jax.vmap(mnm.unroll, (None, None, 0))], ids=["batch", "vmap"])
def test_an_empty_batch(variables, run):
    """Also one whose size is not known before it is called, in an exported program."""
    if run is not mnm.unroll_batch:
        run = lambda cell, variables, inputs: jax.vmap(lambda x: mnm.unroll(cell, variables, x))(inputs)  # noqa: E731
    assert run(CELL, variables, INPUTS[:0]).outputs.shape == (0, NUM_STEPS, 2)
    of_nothing = jax.grad(lambda variables: run(CELL, variables, INPUTS[:0]).outputs.sum())(variables)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(of_nothing))


def test_a_batch_of_a_size_that_is_a_symbol(variables):
    shape = jax.export.symbolic_shape(f"batch, {NUM_STEPS}, 3")
    program = jax.export.export(jax.jit(lambda inputs: mnm.unroll_batch(CELL, variables, inputs).outputs))
    exported = program(jax.ShapeDtypeStruct(shape, jnp.float64))
    np.testing.assert_allclose(exported.call(INPUTS), outputs_of(CELL, variables), rtol=1e-12)


def test_without_compilation_equal_cells_compile_once(variables):
    """The second call of an unroll, and of its gradient, compiles nothing: it is as cheap as a compiled function."""

    def run(cell):
        loss = lambda variables: mnm.unroll(cell, variables, INPUTS[0]).outputs.sum()  # noqa: E731
        return loss(variables), jax.grad(loss)(variables)

    compiled = []

    def listen(event, duration, **details):
        if "backend_compile" in event:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    first = run(make(mnm.writers.gradient()))
    assert compiled
    compiled.clear()
    second = run(make(mnm.writers.gradient()))
    jax.monitoring.unregister_event_duration_listener(listen)
    assert not compiled
    chex.assert_trees_all_equal(first, second)


def test_a_whole_number_of_python_in_a_carry(variables):
    cell = mnm.cells.Attention(2, 4, max_steps=2 * NUM_STEPS, key_size=3, value_size=2)
    variables = draw_variables(cell, INPUTS[0, 0])
    first = mnm.unroll(cell, variables, INPUTS[0])
    carry = first.carry._replace(num_written=NUM_STEPS)
    chex.assert_trees_all_equal(
        mnm.unroll(cell, variables, INPUTS[0], carry), mnm.unroll(cell, variables, INPUTS[0], first.carry)
    )


@pytest.mark.parametrize("run", [mnm.unroll, mnm.unroll_batch], ids=["episode", "batch"])
def test_checkify_reports_what_is_no_number(variables, run):
    inputs = INPUTS[0] if run is mnm.unroll else INPUTS
    checked = jax.jit(checkify.checkify(lambda x: run(CELL, variables, x).outputs, errors=checkify.float_checks))
    assert checked(inputs)[0].get() is None
    assert "nan generated" in checked(inputs * np.nan)[0].get()


def test_checkify_reports_a_check_in_a_writer(variables):
    class Checked(mnm.writers.Writer):
        def write(self, params, memory, keys, values, rate):
            checkify.check(rate < 0, "the rate is {rate}", rate=rate)
            return mnm.writers.gradient().write(params, memory, keys, values, rate)

    cell = CELL.clone(writer=Checked())
    error, _ = jax.jit(checkify.checkify(lambda x: mnm.unroll(cell, variables, x).outputs))(INPUTS[0])
    assert "the rate is" in error.get()


def test_names_a_carry_of_another_batch(variables):
    carry = mnm.unroll(CELL, variables, INPUTS[0]).carry
    with pytest.raises(ValueError, match="argument 'carry': wants a leading axis of 2 episodes, got"):
        mnm.unroll_batch(CELL, variables, INPUTS, carry)


@pytest.mark.parametrize("length", [np.array([1, 1, 0]), 1.5, True, -1, NUM_STEPS + 1], ids=repr)
def test_names_the_length_at_fault(variables, length):
    with pytest.raises((AssertionError, ValueError), match="argument 'length': wants"):
        mnm.unroll(CELL, variables, INPUTS[0], length=length)
    with pytest.raises((AssertionError, ValueError), match="argument 'lengths': wants"):
        mnm.unroll_batch(CELL, variables, INPUTS, lengths=np.broadcast_to(length, (2, *np.shape(length))))

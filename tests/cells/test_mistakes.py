"""The likeliest first mistakes: each is answered by one line that names the argument, and what is wanted."""

import functools

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mnm_jax as mnm
from mnm_jax import objectives
from mnm_jax.cells._types import OneEpisode

pytestmark = pytest.mark.usefixtures("quick_compilation")

CELL = mnm.cells.MNM(2, 4, mnm.memory.Spec(3, 3, (3,)), mnm.writers.gradient())
LSTM = mnm.cells.LSTM(2, 4)
# Of each of these cells, one of the same class whose state is of another size.
OTHERS = {CELL: CELL.clone(memory_spec=mnm.memory.Spec(5, 5, (5,))), LSTM: LSTM.clone(controller_size=6)}
READER = mnm.cells.LSTM(2, 4, vocabulary_size=7)
INPUTS = np.random.default_rng(0).normal(size=(2, 6, 5)).astype(np.float32)  # [B, T, input_size]
KEY = jax.random.key(0)
BATCH = r"mnm_jax\.unroll one episode \[T, ...\], and mnm_jax\.unroll_batch, or a jax\.vmap, a batch"


def init(cell, inputs=INPUTS[0, 0]):
    return jax.eval_shape(cell.init, KEY, None, inputs)


def unroll(cell, inputs, like=INPUTS[0, 0], change=lambda variables: variables):
    """Traces it; the mistakes show before anything is computed."""
    return jax.eval_shape(lambda variables: mnm.unroll(cell, change(variables), inputs), init(cell, like))


def refuses(error, message, function, *args):
    with pytest.raises(error, match=message) as raised:
        function(*args)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("cell", [CELL, LSTM], ids=["mnm", "lstm"])
class TestACell:
    def test_without_a_carry(self, cell):
        wanted = r"wants a carry, None at the start of an episode, .*: cell\.init\(rng, None, inputs\[0\]\)"
        refuses(TypeError, wanted, cell.init, KEY, INPUTS[0, 0])
        refuses(TypeError, r"cell\.apply\(variables, None, inputs\[0\]\)", cell.apply, {"params": {}}, INPUTS[0, 0])

    def test_with_an_integer_for_a_key(self, cell):
        wanted = r"argument 'rngs': wants one random key, such as jax\.random\.key\(0\), got 0"
        refuses(AssertionError, wanted, cell.init, 0, None, INPUTS[0, 0])
        refuses(AssertionError, r"key<fry> of shape \[2\]", cell.init, jax.random.split(KEY), None, INPUTS[0, 0])
        wanted = r"argument 'rngs\['params'\]': wants one random key, such as jax\.random\.key\(0\), got "
        refuses(AssertionError, f"{wanted}0", cell.init, {"params": 0}, None, INPUTS[0, 0])
        refuses(AssertionError, f"{wanted}None", cell.init, {"dropout": KEY}, None, INPUTS[0, 0])

    def test_with_another_cells_carry(self, cell):
        variables, others = init(cell), init(OTHERS[cell])
        carry = jax.eval_shape(lambda variables: OTHERS[cell].apply(variables, method="initial_carry"), others)
        where = {CELL: r"carry\.memory\[0\]\.kernel being float32 of shape \[3, 3\], got float32 of shape \[5, 5\]"}
        where |= {LSTM: r"carry\[0\] being float32 of shape \[4\], got float32 of shape \[6\]"}
        wanted = f"argument 'carry': wants the state of a cell of these sizes, {where[cell]}"
        refuses(AssertionError, wanted, jax.eval_shape, cell.apply, variables, carry, INPUTS[0, 0])
        run = functools.partial(mnm.unroll, cell)
        refuses(AssertionError, wanted, jax.eval_shape, run, variables, INPUTS[0], carry)
        wanted = "argument 'carry': wants a state of this cell, of the structure of its initial_carry, .* got float32"
        refuses(AssertionError, wanted, jax.eval_shape, run, variables, INPUTS[0], INPUTS[0, 0])

    def test_with_lists_for_an_array(self, cell):
        wanted = r"argument 'inputs': wants an array, such as jnp\.asarray\(inputs\)"
        refuses(TypeError, wanted, unroll, cell, INPUTS[0].tolist())

    def test_with_inputs_of_another_width(self, cell):
        wanted = (
            r"argument 'inputs': wants floating-point numbers of shape \[5\], got float32 of shape \[3\]; .* that width"
        )
        refuses(AssertionError, wanted, unroll, cell, INPUTS[0, :, :3])
        bare = cell.clone(embedding_size=0)
        refuses(AssertionError, wanted, unroll, bare, INPUTS[0, :, :3])

    def test_with_the_parameters_for_the_variables(self, cell):
        wanted = (
            r"argument 'variables': wants all that cell\.init gave, with the collection 'params' in it, got one with "
        )
        refuses(ValueError, wanted, unroll, cell, INPUTS[0], INPUTS[0, 0], lambda variables: variables["params"])

    def test_with_a_batch_for_an_episode(self, cell):
        refuses(
            AssertionError,
            f"argument 'inputs': wants .* got float32 of shape \\[6, 5\\].*{BATCH}",
            unroll,
            cell,
            INPUTS,
        )

    def test_in_the_place_of_its_variables(self, cell):
        refuses(TypeError, "argument 'cell': wants a linen module", mnm.unroll, {"params": {}}, cell, INPUTS[0])


class Failing(OneEpisode, nn.Module):
    """A cell whose step fails for a reason of its own, and whose state at the start is random."""

    embedding_size: int = 0

    def initial_carry(self):
        return jax.random.normal(self.make_rng("start"), (3,))

    def __call__(self, carry, inputs):
        raise KeyError("its own")


class Scaled(OneEpisode, nn.Module):
    """A cell with a parameter that is a single number."""

    embedding_size: int = 0

    @nn.compact
    def __call__(self, carry, inputs):
        return carry, (inputs * self.param("scale", nn.initializers.ones, ()), ())


@pytest.mark.parametrize("carry", [None, np.zeros(3)], ids=["start", "later"])
def test_an_error_of_the_cells_own_stays_as_it_is(carry):
    with pytest.raises(KeyError, match="its own"):
        Failing().apply({"params": {}}, carry, INPUTS[0, 0], rngs={"start": KEY})
    with pytest.raises(flax.errors.ScopeParamShapeError):
        Scaled().apply({"params": {"scale": np.ones(1)}}, carry, INPUTS[0, 0])


def test_the_error_of_the_step_is_the_cause_of_what_names_the_mistake():
    bare = LSTM.clone(embedding_size=0)
    with pytest.raises(AssertionError, match=r"argument 'inputs': wants .* that width") as raised:
        jax.eval_shape(bare.apply, init(bare), None, INPUTS[0, 0, :3])
    assert isinstance(raised.value.__cause__, flax.errors.ScopeParamShapeError)


def test_a_batch_of_symbols_for_an_episode():
    symbols = np.ones((2, 6), np.int32)
    refuses(AssertionError, f"argument 'inputs': integers are symbols.*{BATCH}", unroll, READER, symbols, symbols[0, 0])


def test_a_memory_from_an_integer():
    refuses(AssertionError, "argument 'rng': wants one random key", mnm.memory.init, 0, CELL.memory_spec)


def test_keys_of_both_kinds_are_keys():
    for key in (KEY, jax.random.PRNGKey(0), {"params": KEY}):
        jax.eval_shape(LSTM.init, key, None, INPUTS[0, 0])


def test_a_change_masked_by_anything_but_a_boolean():
    memory = mnm.memory.init(KEY, CELL.memory_spec)
    write = mnm.memory.Write(tuple(jnp.ones((1, 3)) for _ in memory), tuple(jnp.ones((1, 3)) for _ in memory))
    for valid in (1, jnp.ones(()), jnp.array([True, False])):
        refuses(AssertionError, "argument 'valid': wants booleans of shape", write.masked, valid)


def test_a_traced_length_that_is_not_possible_gives_no_number():
    variables = jax.jit(LSTM.init)(KEY, None, INPUTS[0, 0])

    @jax.jit
    def run(lengths):
        outputs = mnm.unroll_batch(LSTM, variables, INPUTS, lengths=lengths).outputs
        return outputs, jax.vmap(objectives.meta_objective)(jnp.ones((2, 6)), lengths)

    single = jax.jit(lambda length: mnm.unroll(LSTM, variables, INPUTS[0], length=length).outputs)
    for length, is_possible in ((0, True), (6, True), (7, False), (-1, False)):
        outputs, error = run(jnp.array([length, 3]))
        np.testing.assert_array_equal(np.isfinite(outputs).all(axis=(1, 2)), [is_possible, True])
        np.testing.assert_array_equal(np.isfinite(error), [is_possible, True])
        assert np.isfinite(single(length)).all() == is_possible

"""Every cell under JAX's settings, each in a process of its own; and the types of every cell."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from settings_program import CELLS, make_cell

import mnm_jax as mnm
from mnm_jax import models

PROGRAM = pathlib.Path(__file__).with_name("settings_program.py")


@pytest.fixture(scope="module")
def run_program():
    results = {}

    def run(*checks, **environment):
        """What the program prints; processes that are asked for twice are started once."""
        key = (checks, *sorted(environment.items()))
        if key not in results:
            paths = {"PYTHONPATH": str(PROGRAM.parents[1]), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
            completed = subprocess.run(
                [sys.executable, str(PROGRAM), *checks],
                env=os.environ | paths | environment,
                capture_output=True,
                text=True,
                timeout=900,
            )
            assert completed.returncode == 0, completed.stderr[-3000:]
            results[key] = json.loads(completed.stdout)
        return results[key]

    return run


def test_no_cell_is_left_out():
    assert {type(make_cell(name)) for name in CELLS} == {type(make_cell(name)) for name in models.NAMES}


def test_double_precision_leaves_parameters_states_and_draws_as_they_are(run_program):
    found, usual = run_program("trace", "sample", JAX_ENABLE_X64="1"), run_program("sample")
    for name, types in found["trace"].items():
        assert set(types) <= {"float32", "int32", "uint32", "bool", "float0", "key<fry>"}, name
    assert found["sample"] == usual["sample"]


def test_no_rank_is_promoted_and_another_random_number_generator_will_do(run_program):
    found = run_program("trace", "sample", JAX_NUMPY_RANK_PROMOTION="raise", JAX_DEFAULT_PRNG_IMPL="rbg")
    assert found["trace"].keys() == set(CELLS)


def test_nothing_is_infinite_or_not_a_number_where_all_is_well(run_program):
    found = run_program("run", JAX_DEBUG_INFS="1", JAX_DEBUG_NANS="1")["run"]
    assert found.keys() == set(CELLS)
    assert all(value > 0 for value in found.values())


def test_checkify_sees_what_is_not_a_number(run_program):
    assert set(map(tuple, run_program("check")["check"].values())) == {(True, True)}


ALIKE = [("bfloat16", "bfloat16"), ("float16", "float16")]
MIXED = [("bfloat16", "float32"), ("float32", "bfloat16")]


@pytest.mark.parametrize(
    ("name", "of_parameters", "of_inputs"),
    [
        *((name, *types) for name in models.NAMES for types in ALIKE),
        *((name, *types) for name in ("mnm_p", "lstm", "attention", "modul") for types in MIXED),
    ],
)
def test_all_is_in_the_type_of_parameters_and_inputs(name, of_parameters, of_inputs):
    settings = models.ModelSettings(4, 4, num_layers=2, use_bias=True)
    cell = models.build(name, settings, output_size=3, vocabulary_size=None, num_steps=3)
    inputs = jax.ShapeDtypeStruct((3, 5), of_inputs)
    variables = jax.eval_shape(cell.init, jax.random.key(0), None, jax.ShapeDtypeStruct((5,), jnp.float32))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
    variables = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, of_parameters), variables)

    def floats(function, *arguments):
        leaves = jax.tree.leaves(jax.eval_shape(function, *arguments))
        return {str(leaf.dtype) for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)}

    def start(variables):
        return cell.apply(variables, method="initial_carry")

    promoted = {str(jnp.promote_types(of_parameters, of_inputs))}
    assert floats(start, variables) == {of_parameters}
    assert (
        floats(lambda variables, inputs: mnm.unroll(cell, variables, inputs, length=2), variables, inputs) == promoted
    )
    step = jax.ShapeDtypeStruct((5,), of_inputs)
    assert floats(lambda variables, inputs: cell.apply(variables, None, inputs)[1], variables, step) == promoted

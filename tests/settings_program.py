"""Runs every cell under one setting of JAX, which only a process of its own can have from its start.

Usage: settings_program.py CHECK, with the setting in the environment. Prints what a test compares as JSON, and fails
with a traceback where something does not work.
"""

import functools
import hashlib
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import checkify

import mnm_jax as mnm
from mnm_jax import models, training
from mnm_jax.tasks import Dictionary, MazeTask
from mnm_jax.tasks.maze import Maze, Params, reference_levels

SETTINGS = models.ModelSettings(4, 4, num_layers=2, num_heads=2, use_bias=True)
# Every cell, the memory with both of the paper's writers; what follows from the writer has tests of its own.
CELLS = ("mnm_p", "mnm_g", "lstm", "salu", "attention", "ntm", "dnc", "rnn", "plastic", "modul")
B, T, INPUT_SIZE, OUTPUT_SIZE = 2, 3, 5, 3
TASK = Dictionary(num_pairs=2, source_alphabet_size=3, target_alphabet_size=3)


def make_cell(name, vocabulary_size=None):
    return models.build(name, SETTINGS, output_size=OUTPUT_SIZE, vocabulary_size=vocabulary_size, num_steps=T)


def loss(cell, variables, inputs, lengths):
    def single(inputs, length):
        run = mnm.unroll(cell, variables, inputs, length=length)
        return run, mnm.objectives.cross_entropy(run.outputs, jnp.zeros(T, int), jnp.ones(T, bool))

    runs, losses = jax.vmap(single)(inputs, lengths)
    return jnp.mean(losses), runs


def types_of(tree):
    return sorted({str(leaf.dtype) for leaf in jax.tree.leaves(tree)})


def trace():
    """Traces value and gradient of a batch through every cell; the types of variables, results and gradients."""
    inputs, lengths = jnp.ones((B, T, INPUT_SIZE), jnp.float32), jnp.array([2, 3], jnp.int32)
    found = {}
    for name in CELLS:
        cell = make_cell(name)
        variables = jax.eval_shape(cell.init, jax.random.key(0), None, inputs[0, 0])
        gradient = jax.value_and_grad(functools.partial(loss, cell), has_aux=True, allow_int=True)
        found[name] = types_of((variables, jax.eval_shape(gradient, variables, inputs, lengths)))
    return found


def sample():
    """The types of training's state, and what tasks and the maze draw: to be the same under every setting."""
    cell = models.build(
        "mnm_p", SETTINGS, output_size=TASK.output_size, vocabulary_size=TASK.vocabulary_size, num_steps=TASK.num_steps
    )
    functions = training.make_functions(TASK, cell, training.TrainingSettings(num_updates=1, batch_size=2))
    state = jax.eval_shape(functions.init, jax.random.key(0))
    maze = MazeTask(size=5, episode_length=4)
    agent = models.build("rnn", SETTINGS, output_size=maze.output_size, vocabulary_size=None, num_steps=4)
    variables = agent.init(jax.random.key(0), None, jnp.zeros(Maze.observation_size, jnp.float32))
    life = jax.jit(lambda rng: maze.act(rng, mnm.policy(agent, variables)))(jax.random.key(1))
    drawn = jax.jit(TASK.sample)(jax.random.key(2)), life
    return {
        "state": types_of(state),
        "drawn": [str(leaf.dtype) for leaf in jax.tree.leaves(drawn)],
        "digest": hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(drawn))).hexdigest(),
        "levels": reference_levels(Maze(5), Params(episode_length=5)),
    }


def run():
    """Runs every cell on symbols, compiled: the largest output of each."""
    found = {}
    for name in CELLS:
        cell = make_cell(name, vocabulary_size=4)
        variables = jax.jit(cell.init)(jax.random.key(0), None, jnp.array(1, jnp.int32))
        outputs = mnm.unroll(cell, variables, jnp.array([1, 3, 0], jnp.int32), length=2).outputs
        found[name] = float(jnp.abs(outputs).max())
    return found


def check():
    """Whether checkify finds nothing in cells of each kind where all is well, and a number that is none where it is."""
    found = {}
    for name in ("mnm_p", "mnm_g", "lstm", "attention", "modul"):
        cell = make_cell(name)
        inputs = jnp.ones((T, INPUT_SIZE), jnp.float32)
        variables = jax.jit(cell.init)(jax.random.key(0), None, inputs[0])
        unroll = functools.partial(mnm.unroll, cell, reversible=False)
        checked = jax.jit(checkify.checkify(unroll, errors=checkify.float_checks))
        errors = [checked(variables, x)[0].get() for x in (inputs, inputs.at[1, 0].set(jnp.nan))]
        found[name] = [errors[0] is None, errors[1] is not None]
    return found


if __name__ == "__main__":
    print(json.dumps({name: globals()[name]() for name in sys.argv[1:]}))

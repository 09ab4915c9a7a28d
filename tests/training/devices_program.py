"""Trains on many devices and on one; prints how far apart they end, as JSON. See `test_devices.py`."""

import dataclasses
import functools
import itertools
import json
import pathlib
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from recall import BUCKETED, TASK

from mnm_jax import training
from mnm_jax.training.episodes import held_out

SETTINGS = training.TrainingSettings(num_updates=20, batch_size=16, evaluate_every=10, evaluation_episodes=11)
SEEDS = tuple(range(8))


class Cell(nn.Module):
    """Less to compile than an LSTM."""

    @nn.nowrap
    def initial_carry(self):
        return jnp.zeros(3)

    @nn.compact
    def __call__(self, carry, inputs):
        carry = self.initial_carry() if carry is None else carry
        carry = jnp.tanh(nn.Dense(3)(jnp.concatenate([carry, jax.nn.one_hot(inputs, TASK.vocabulary_size)])))
        return carry, (nn.Dense(TASK.output_size)(carry), ())


CELL = Cell()


def train(parallel, *runs, dtype=np.float32, settings=SETTINGS):
    """The parameters after all updates, for the seeds of each run."""
    jax.config.update("jax_enable_x64", dtype == np.float64)
    placement = training.place(TASK, CELL, settings, parallel)
    for seeds in runs:
        state = placement.collect(placement.init(seeds))
        state = jax.tree.map(lambda leaf: leaf.astype(dtype) if leaf.dtype == np.float32 else leaf, state)
        state, _, _ = placement.train_chunk(placement.spread(state), settings.num_updates)
        params = placement.collect(state).params
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(dtype)}
        yield params
    jax.config.update("jax_enable_x64", False)


def train_on_bucket(parallel):
    """The parameters after updates on episodes of a bucket."""
    placement = training.place(BUCKETED, CELL, SETTINGS, parallel)
    bucket = placement.replicate(BUCKETED.buckets[0])
    state, _, _ = placement.train_chunk(placement.init(SEEDS), SETTINGS.num_updates, bucket)
    return placement.collect(state).params


def evaluate(parallel):
    """Metrics of the held-out episodes, which are no multiple of the devices."""
    placement = training.place(TASK, CELL, SETTINGS, parallel)
    batches = jax.device_get(held_out(TASK, SETTINGS))
    return placement.collect(placement.evaluate(placement.init(SEEDS), batches))


def norm(tree):
    return float(np.sqrt(sum((leaf.astype(np.float64) ** 2).sum() for leaf in jax.tree.leaves(tree))))


def distance(one, other):
    return norm(jax.tree.map(np.subtract, one, other)) / norm(one)


def is_same(one, other):
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, one, other)))


def run(directory, stages):
    """Trains with other devices in each stage, the first ones stopped after a few updates."""
    for i, parallel in enumerate(stages):
        stops = itertools.chain([False, True]) if i + 1 < len(stages) else itertools.repeat(False)
        report = training.run(
            TASK,
            CELL,
            SETTINGS,
            SEEDS,
            directory,
            training.RunOptions(parallel),
            should_stop=functools.partial(next, stops),
        )
        yield report


def main(directory):
    one, *alone = train("none", SEEDS, *((seed,) for seed in SEEDS))
    (seeds,) = train("seeds", SEEDS)
    (in_turn,) = train("in_turn", SEEDS)
    (data,) = train("data", SEEDS)
    precise = [params for parallel in ("none", "data") for params in train(parallel, SEEDS, dtype=np.float64)]
    harder = dataclasses.replace(SETTINGS, candidates=2)
    chosen = [params for parallel in ("none", "data") for params in train(parallel, SEEDS, settings=harder)]
    alone = jax.tree.map(lambda *parts: np.concatenate(parts), *alone)
    results = {
        "data": distance(one, data),
        "data_float64": distance(*precise),
        "data_candidates": distance(*chosen),
        "candidates_matter": distance(one, chosen[0]),
        "seeds": distance(one, seeds),
        "seeds_equal_seeds_alone": is_same(seeds, alone),
        "seeds_in_turn_equal_seeds_alone": is_same(in_turn, alone),
    }
    evaluated = evaluate("none")
    results["evaluation"] = [distance(evaluated, evaluate(parallel)) for parallel in ("data", "in_turn")]
    on_bucket = [train_on_bucket(parallel) for parallel in training.PARALLEL]
    results["bucket"] = [distance(on_bucket[0], params) for params in on_bucket[1:]]
    results["stages"] = []
    for parallel in training.PARALLEL[1:]:
        *_, report = run(directory / parallel, ["none", parallel, "none"])
        results["stages"].append(
            {
                "distance": distance(one, report.state.params),
                "is_finished": report.is_finished,
                "shapes": sorted({leaf.shape[0] for leaf in jax.tree.leaves(report.state)}),
                "lines": (directory / parallel / "metrics.jsonl").read_text().count("\n"),
            }
        )
    print(json.dumps(results))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))

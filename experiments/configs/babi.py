"""Configurations of the bAbI experiment: `--config=NAME`.

`single`: models small enough for a CPU, to be trained on one task at a time; on the first one without `--tasks`.
`joint`: all tasks together, with memory and controller of 100.
`chained`: all tasks together, a sentence at each step, reads in a chain; run 66 of experiments/results/babi_log.md.
Names are exchanged in training, an aid that published systems do not have; to train without it, add
`--config.task.exchange_names=False "--config.task.exchange_except=()"`.
`tiny`: a few updates of the smallest models, to see whether everything runs.
"""

import dataclasses

import ml_collections

from experiments.configs.common import make_config
from mnm_jax import models, training
from mnm_jax.tasks.babi import Babi

NAMES = ("single", "joint", "chained", "tiny")


def get_config(name: str = "single") -> ml_collections.ConfigDict:
    """Makes a configuration by name."""
    if name == "single":
        # As many episodes of validation as a task with whole stories of five questions has.
        settings = training.TrainingSettings(num_updates=5000, learning_rate=1e-3, evaluation_episodes=200)
        parts = Babi(tasks=(1,)), models.ModelSettings(48, 48, rate_bias=0.0), settings
    elif name == "joint":
        settings = training.TrainingSettings(
            num_updates=100_000, learning_rate=1e-3, evaluate_every=500, evaluation_episodes=400
        )
        # With the rate bias of a single task, the loss was not finite after 87 updates: experiments/results/README.md.
        parts = Babi(), models.ModelSettings(100, 100), settings
    elif name == "chained":
        settings = training.TrainingSettings(
            num_updates=30_000,
            candidates=2,
            learning_rate=1e-3,
            schedule="cosine",
            evaluate_every=1000,
            evaluation_episodes=2000,
        )
        model = models.ModelSettings(
            controller_size=64,
            memory_size=48,
            relation_size=32,
            hidden_size=128,
            num_layers=2,
            num_heads=3,
            num_chains=2,
            readout_size=128,
            gated_units=True,
            normalized_rule=True,
            bounded_targets=True,
            rate_bias=-1.0,
        )
        # The chain that task 16 wants is not found where its names are exchanged.
        task = Babi(layout="sentences", emphasized=(16, 17, 19), exchange_names=True, exchange_except=(16,))
        parts = task, model, settings
    elif name == "tiny":
        settings = training.TrainingSettings(num_updates=4, batch_size=2, evaluate_every=2, evaluation_episodes=2)
        parts = Babi(tasks=(1,), data="en"), models.ModelSettings(4, 4, num_layers=2), settings
    else:
        raise ValueError(f"unknown configuration {name!r}; choose from {', '.join(NAMES)}")

    task, model, settings = parts
    # A tuple, for the command line may have several.
    return make_config(dataclasses.asdict(task) | {"emphasis": (task.emphasis,)}, model, settings)

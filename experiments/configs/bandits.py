"""Configurations of the bandits experiment: `--config=NAME`.

`small`: two arms, 100 plays, models small enough for a CPU; 48 units in the controller, as published.
`tiny`: a few updates of the smallest models, to see whether everything runs.
"""

import ml_collections

from experiments.configs.common import make_config
from mnm_jax import models, training
from mnm_jax.tasks import BanditTask

NAMES = ("small", "tiny")


def get_config(name: str = "small") -> ml_collections.ConfigDict:
    """Makes a configuration by name."""
    if name == "small":
        settings = training.TrainingSettings(
            num_updates=2000, learning_rate=1e-3, schedule="cosine", clip_norm=4.0, evaluate_every=50
        )
        parts = BanditTask(), models.ModelSettings(48, 32), settings
    elif name == "tiny":
        settings = training.TrainingSettings(num_updates=4, batch_size=2, evaluate_every=2, evaluation_episodes=2)
        parts = BanditTask(episode_length=8), models.ModelSettings(4, 4, num_layers=2), settings
    else:
        raise ValueError(f"unknown configuration {name!r}; choose from {', '.join(NAMES)}")

    return make_config(*parts)

"""Configurations of multi-query associative recall: `--config=NAME`.

`small`: 4 pairs in 64 steps, a vocabulary of 24, one filler, small models: minutes for each model on a CPU. Random
  fillers of so few symbols would say every key again, with another symbol after it; of 8,192 they hardly ever do.
`t{64,128,256}_pairs{4,8,16,32,64}`: the published sizes, as far as the pairs fit; a vocabulary of 8,192.
`tiny`: seconds, to try the program out.
"""

import ml_collections

from experiments.configs.common import make_config
from mnm_jax import models, training
from mnm_jax.tasks import MultiQueryRecall

PUBLISHED = {
    f"t{steps}_pairs{pairs}": (pairs, steps)
    for steps in (64, 128, 256)
    for pairs in (4, 8, 16, 32, 64)
    if 4 * pairs <= steps
}
NAMES = ("small", *PUBLISHED, "tiny")


def get_config(name: str = "small") -> ml_collections.ConfigDict:
    """Makes a configuration by name."""
    if name == "small":
        task = MultiQueryRecall(4, 64, vocabulary_size=24, random_fillers=False)
        model = models.ModelSettings(32, 16)
        settings = training.TrainingSettings(num_updates=3000, evaluate_every=100)
    elif name in PUBLISHED:
        task, model = MultiQueryRecall(*PUBLISHED[name]), models.ModelSettings(128, 64)
        settings = training.TrainingSettings(num_updates=100_000, learning_rate=1e-3, evaluate_every=1000)
    elif name == "tiny":
        task, model = MultiQueryRecall(2, 12, vocabulary_size=12), models.ModelSettings(8, 4)
        settings = training.TrainingSettings(num_updates=100, batch_size=8, evaluate_every=50, evaluation_episodes=16)
    else:
        raise ValueError(f"unknown configuration {name!r}; choose from {', '.join(NAMES)}")
    return make_config(task, model, settings)

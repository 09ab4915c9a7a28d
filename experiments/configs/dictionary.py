"""Configurations of the dictionary experiment: `--config=NAME`.

`demo`: 8 pairs of single characters, small models: minutes on a laptop. What `make demo` runs.
`tiny`: 4 pairs, in two minutes: the trained run that comes with the package.
`takeoff`: 4 pairs: when does learning take off? `takeoff_*`: the same with one thing changed; `make takeoff` runs all.
`hard`: 16 pairs of two-character words, models small enough for a CPU.
`pairs{4,8,16}_length{1,2,4}`: the sweep of the paper, with memory and controller of 100.
"""

from typing import Any

import ml_collections

from experiments.configs.common import make_config
from mnm_jax import models, training
from mnm_jax.tasks.dictionary import Dictionary

SWEEP = {f"pairs{pairs}_length{length}": (pairs, length) for pairs in (4, 8, 16) for length in (1, 2, 4)}
TAKEOFF: dict[str, dict[str, Any]] = {
    "takeoff": {},
    # What a one-hot input gives under the usual fan-in initialisation, with the 22 symbols of this task.
    "takeoff_fan_in_inputs": {"embedding_scale": 22**-0.5},
    "takeoff_no_normalization": {"key_normalization": "none", "value_normalization": "none"},
    "takeoff_no_zero_output_layer": {"zero_output_layer": False},
    "takeoff_no_shared_key_start": {"shared_key_start": False},
    "takeoff_plain": {
        "key_normalization": "none",
        "value_normalization": "none",
        "zero_output_layer": False,
        "shared_key_start": False,
    },
    "takeoff_rate_bias_0": {"rate_bias": 0.0},
    "takeoff_no_forget_bias": {"forget_bias": False},
    "takeoff_meta_weight_0": {"meta_weight": 0.0},
    "takeoff_meta_weight_0.01": {"meta_weight": 0.01},
    "takeoff_meta_weight_0.03": {"meta_weight": 0.03},
    "takeoff_meta_weight_0.1": {"meta_weight": 0.1},
    "takeoff_meta_weight_1": {"meta_weight": 1.0},
}
NAMES = ("demo", "tiny", *TAKEOFF, "hard", *SWEEP)


def get_config(name: str = "demo") -> ml_collections.ConfigDict:
    """Makes a configuration by name."""
    if name == "demo":
        parts = Dictionary(num_pairs=8), models.ModelSettings(32, 32), training.TrainingSettings(num_updates=1000)
    elif name == "tiny":
        model = models.ModelSettings(16, 16, num_layers=2)
        parts = Dictionary(num_pairs=4), model, training.TrainingSettings(num_updates=1500)
    elif name in TAKEOFF:
        settings = training.TrainingSettings(num_updates=1500, evaluate_every=25)
        parts = Dictionary(num_pairs=4), models.ModelSettings(32, 32, **TAKEOFF[name]), settings
    elif name == "hard":
        task = Dictionary(num_pairs=16, word_length=2)
        parts = task, models.ModelSettings(32, 32), training.TrainingSettings(num_updates=20_000, evaluate_every=100)
    elif name in SWEEP:
        pairs, length = SWEEP[name]
        task = Dictionary(pairs, word_length=length, source_alphabet_size=32, target_alphabet_size=32)
        settings = training.TrainingSettings(num_updates=50_000, learning_rate=1e-3, evaluate_every=500)
        parts = task, models.ModelSettings(100, 100), settings
    else:
        raise ValueError(f"unknown configuration {name!r}; choose from {', '.join(NAMES)}")

    config = make_config(*parts)
    config.task.num_queries = ml_collections.config_dict.placeholder(int)
    return config

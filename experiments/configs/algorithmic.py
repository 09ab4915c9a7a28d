"""Configurations of the algorithmic tasks: `--config=NAME`.

`copy`, `repeat_copy`, `double_copy`, `associative_recall`, `priority_sort`: the sizes of Graves, Wayne and Danihelka,
"Neural Turing Machines", 2014 (arXiv:1410.5401); double copy with the lengths of repeat copy. A memory of 3 * 32^2 =
3,072 floats (there: 128 slots of 20).
`copy_small`, ...: sizes for a CPU, minutes for each model. A memory of 3 * 8^2 = 192 floats.
`copy_tiny`: seconds, to try the program out.
"""

import ml_collections

from experiments.configs.common import make_config
from mnm_jax import models, training
from mnm_jax.tasks.algorithmic import TASKS, AssociativeRecall, Copy, DoubleCopy, PrioritySort, RepeatCopy

SMALL = {
    "copy_small": Copy(num_bits=4, max_length=5),
    "repeat_copy_small": RepeatCopy(num_bits=4, max_length=3, max_repeats=3),
    "double_copy_small": DoubleCopy(num_bits=4, max_length=4),
    "associative_recall_small": AssociativeRecall(num_bits=4, item_length=2, max_items=3),
    "priority_sort_small": PrioritySort(num_bits=4, num_inputs=4, num_outputs=3),
}
NAMES = (*TASKS, *SMALL, "copy_tiny")


def get_config(name: str = "copy_small") -> ml_collections.ConfigDict:
    """Makes a configuration by name."""
    if name in TASKS:
        settings = training.TrainingSettings(num_updates=100_000, learning_rate=1e-3, evaluate_every=1000)
        task, model = TASKS[name](), models.ModelSettings(100, 32)
    elif name in SMALL:
        task, model = SMALL[name], models.ModelSettings(32, 8)
        settings = training.TrainingSettings(num_updates=2000, schedule="cosine", evaluate_every=100)
    elif name == "copy_tiny":
        task, model = Copy(num_bits=3, max_length=3), models.ModelSettings(8, 4)
        settings = training.TrainingSettings(num_updates=100, batch_size=8, evaluate_every=50, evaluation_episodes=16)
    else:
        raise ValueError(f"unknown configuration {name!r}; choose from {', '.join(NAMES)}")
    config = make_config(task, model, settings)
    (config.experiment,) = (key for key, kind in TASKS.items() if type(task) is kind)
    return config

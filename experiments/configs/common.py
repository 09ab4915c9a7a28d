"""What the configuration files share."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_collections

from mnm_jax import models, training


def make_config(
    task: Any, model: models.ModelSettings, settings: training.TrainingSettings
) -> ml_collections.ConfigDict:
    """Makes a configuration whose every field can be set on the command line.

    Args:
      task: a task, a dataclass; or the values of its fields by their names.
      model: sizes and options of the models.
      settings: how to train them.

    Returns:
      The fields under `task`, `model` and `training`.
    """
    parts = {"task": task, "model": model, "training": settings}
    config = ml_collections.ConfigDict(
        {key: dict(part) if isinstance(part, Mapping) else dataclasses.asdict(part) for key, part in parts.items()}
    )
    # The weight of the meta-objective goes with the model.
    del config.training["meta_weight"]
    if config.model.meta_weight is None:
        config.model.meta_weight = ml_collections.config_dict.placeholder(float)
    return config

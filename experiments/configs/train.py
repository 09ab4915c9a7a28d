"""Configurations of tasks of your own: `--config=NAME`.

`module:Class`: the fields of this task, and small models; what `--task=module:Class` stands for.
"""

import dataclasses
import types
import typing
from typing import Any

import ml_collections
from ml_collections.config_dict import placeholder

from experiments.configs.common import make_config
from mnm_jax import models, tasks, training


def get_config(name: str = "") -> ml_collections.ConfigDict:
    """Makes the configuration of a task by its name; without one that of a run that goes on, whose task is known."""
    fields = {}
    if name:
        kind = tasks.find_task(name)
        hints = typing.get_type_hints(kind)
        fields = {field.name: _default(field, hints[field.name]) for field in dataclasses.fields(kind) if field.init}
    config = make_config(fields, models.ModelSettings(32, 32), training.TrainingSettings(num_updates=1000))
    config.experiment = name
    return config


def _default(field: dataclasses.Field[Any], hint: Any) -> Any:
    """What a field is if it is not given; where that is nothing or `None`, a place for a value of its type."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    if field.default not in (dataclasses.MISSING, None):
        return field.default
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(kind for kind in typing.get_args(hint) if kind is not types.NoneType)
    return placeholder(typing.get_origin(hint) or hint)

"""The configuration of `recall_program.py`."""

import dataclasses

import ml_collections
import recall


def get_config():
    parts = {"task": recall.TASK, "model": recall.MODEL, "training": recall.SETTINGS}
    config = ml_collections.ConfigDict({key: dataclasses.asdict(part) for key, part in parts.items()})
    del config.training["meta_weight"]
    config.model.meta_weight = ml_collections.config_dict.placeholder(float)
    return config

"""A training program on the small task of `tests/training/recall.py`."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "training"))

import recall

from experiments import launcher
from mnm_jax import tasks

tasks.TASKS["recall"] = recall.Recall
launcher._PATIENCE_SECONDS = 600  # Busy machines take long to compile.


def conclude(configuration, report, directory):
    if report.is_finished:
        (directory / "product").write_text(str(report.update))


def run():
    launcher.run(
        launcher.Experiment(
            name="recall",
            default_config=str(pathlib.Path(__file__).with_name("recall_config.py")),
            introduce=lambda task, settings: None,
            conclude=conclude,
            products=("product",),
            report=lambda workdir: print("reported", flush=True),
        )
    )


if __name__ == "__main__":
    run()

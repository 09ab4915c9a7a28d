"""The programs of the algorithmic tasks and of multi-query recall: whole tiny runs of the other memories, and
mistakes."""

import json
import re

import pytest
from test_command_line import ROOT, run_all

from experiments import command_line, recall_sizes
from mnm_jax.tasks import algorithmic

TINY = [
    "--num_seeds=2",
    "--config.training.num_updates=2",
    "--config.training.evaluate_every=1",
    "--config.training.batch_size=2",
    "--config.training.evaluation_episodes=4",
]
CONFIGS = ROOT / "experiments" / "configs"
COPY = [f"--config={CONFIGS}/algorithmic.py:copy_tiny", *TINY]
RECALL = [f"--config={CONFIGS}/recall.py:tiny", *TINY]

WRONG_ALGORITHMIC = {
    "no such configuration": (
        [f"--config={CONFIGS}/algorithmic.py:sort"],
        "unknown configuration 'sort'; choose from copy, .*priority_sort_small, copy_tiny",
    ),
    "a sort longer than its input": (
        [f"--config={CONFIGS}/algorithmic.py:priority_sort", "--config.task.num_outputs=21"],
        "num_outputs=21 is more than num_inputs=20",
    ),
    "fewer items at most than at least": (
        [f"--config={CONFIGS}/algorithmic.py:associative_recall", "--config.task.max_items=1"],
        "min_items=2 is more than max_items=1",
    ),
    "another task": (
        [f"--config={CONFIGS}/algorithmic.py:copy", "--config.experiment=priority_sort"],
        "--config.experiment=priority_sort is not the task of this configuration; choose the task by --config=NAME",
    ),
}
WRONG_RECALL = {
    "more pairs than there is time for": (
        [f"--config={CONFIGS}/recall.py:small", "--config.task.num_pairs=17"],
        r"num_pairs=17 takes 4 \* num_pairs = 68 steps, got num_steps=64",
    ),
    "more pairs than keys": (
        [f"--config={CONFIGS}/recall.py:small", "--config.task.vocabulary_size=8"],
        "num_pairs=4 is more than vocabulary_size=8 has keys: 3",
    ),
}


def run_program(module, run, mistakes, directory):
    results = run_all([run, *(["--workdir=new", *wrong] for wrong, _ in mistakes.values())], directory, module)
    assert not (directory / "new").exists()
    return results[0], dict(zip(mistakes, results[1:], strict=True))


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    directory = tmp_path_factory.mktemp("copy")
    run = [*COPY, "--workdir=run", "--models=dnc"]
    return directory, *run_program("experiments.algorithmic", run, WRONG_ALGORITHMIC, directory)


@pytest.fixture(scope="module")
def recalled(tmp_path_factory):
    directory = tmp_path_factory.mktemp("recall")
    run = [*RECALL, "--workdir=run", "--models=ntm"]
    return directory, *run_program("experiments.recall", run, WRONG_RECALL, directory)


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_of_copy_writes_curves_costs_and_what_it_makes_of_longer_sequences(copied):
    directory, (code, out, err), _ = copied
    assert code == 0, err
    assert "| DNC " in out
    assert re.search(r"^[01]{3} end$|^000 end$", out, re.MULTILINE)
    evaluated = lines_of(directory / "run" / "dnc" / "generalization.jsonl")
    assert [(line["length"], line["seed"]) for line in evaluated] == [
        (length, seed) for length in (2, 3, 6, 12) for seed in (0, 1)
    ]
    assert all(line["bits"] > 0 and 0 <= line["sequence_accuracy"] <= 1 for line in evaluated)
    files = {path.name for path in (directory / "run").iterdir()}
    assert files >= {"learning_curves.png", "generalization.png", "costs.md", "costs.csv"}


def test_a_run_of_recall_writes_accuracy_against_pairs_and_floats(recalled):
    directory, (code, out, err), _ = recalled
    assert code == 0, err
    assert "| NTM " in out
    evaluated = lines_of(directory / "run" / "ntm" / "generalization.jsonl")
    assert [(line["num_pairs"], line["seed"]) for line in evaluated] == [(n, s) for n in (2,) for s in (0, 1)]
    files = {path.name for path in (directory / "run").iterdir()}
    assert files >= {"learning_curves.png", "generalization.png", "recall.png", "recall.md", "recall.csv"}
    # Controller 2 * 8; 12 slots of 4; where the two heads are; what was read.
    assert f"{16 + 12 * 4 + 2 * 12 + 4}" in (directory / "run" / "recall.csv").read_text()
    written = recall_sizes.compare([directory / "run", directory / "run"], directory / "both")
    assert (directory / "both" / "recall.md").read_text().count("NTM") == 2
    assert all(path.exists() for path in written)
    a_file = written[0]
    with pytest.raises(command_line.UsageError, match=f"--output={re.escape(str(a_file))} cannot be written to: "):
        recall_sizes.main(["recall_sizes", str(directory / "run")], str(a_file))


@pytest.mark.parametrize("name", WRONG_ALGORITHMIC)
def test_a_mistake_is_one_line(name, copied):
    assert_is_one_line(copied[2][name], WRONG_ALGORITHMIC[name][1])


@pytest.mark.parametrize("name", WRONG_RECALL)
def test_a_mistake_in_recall_is_one_line(name, recalled):
    assert_is_one_line(recalled[2][name], WRONG_RECALL[name][1])


def assert_is_one_line(result, message):
    code, out, err = result
    assert (code, out) == (2, "")
    assert re.fullmatch(f"error: .*{message}.*\n", err), err


def test_every_task_has_a_published_and_a_small_configuration():
    from experiments.configs import algorithmic as configurations

    for name, task in algorithmic.TASKS.items():
        for config in (configurations.get_config(name), configurations.get_config(f"{name}_small")):
            assert config.experiment == name
            task(**config.task)
    sizes = configurations.get_config("associative_recall").task
    assert (sizes.num_bits, sizes.item_length, sizes.min_items, sizes.max_items) == (6, 3, 2, 6)
    with pytest.raises(ValueError, match="unknown configuration 'none'; choose from copy, "):
        configurations.get_config("none")

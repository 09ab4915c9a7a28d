"""`config.json`, and trained models loaded back from what a run left."""

import dataclasses
import json
import pathlib
import re
import shutil

import jax
import numpy as np
import pytest
import recall
from recall import assert_equal, build

import mnm_jax as mnm
from mnm_jax import models, tasks, training
from mnm_jax.tasks.dictionary import Dictionary

pytestmark = pytest.mark.usefixtures("quick_compilation")

DICTIONARY = training.Configuration(
    "dictionary",
    "salu",
    (0, 1),
    Dictionary(num_pairs=3, word_length=2),
    models.ModelSettings(controller_size=8, memory_size=4, meta_weight=0.5),
    training.TrainingSettings(num_updates=10),
)
LSTM = training.Configuration("recall", "lstm", recall.SEEDS, recall.TASK, recall.MODEL, recall.SETTINGS)


@pytest.fixture(autouse=True)
def known_task(monkeypatch):
    monkeypatch.setitem(tasks.TASKS, "recall", recall.Recall)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run, in a directory `lstm` with nothing beside it."""
    directory = tmp_path_factory.mktemp("trained") / "lstm"
    report = training.run(recall.TASK, build("lstm"), recall.SETTINGS, recall.SEEDS, directory)
    (directory / "config.json").write_text(LSTM.to_json())
    return report, directory


def write(configuration, directory):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(configuration.to_json())


def test_a_configuration_comes_back_from_its_file(tmp_path):
    write(DICTIONARY, tmp_path)
    loaded = training.Configuration.load(tmp_path)
    assert loaded == DICTIONARY
    assert loaded.differences(DICTIONARY) == {}
    assert loaded.cell() == DICTIONARY.cell()


def test_differences_are_named_as_in_the_file_with_both_values():
    other = dataclasses.replace(
        DICTIONARY,
        seeds=(0,),
        task=Dictionary(num_pairs=4, word_length=2),
        training=training.TrainingSettings(num_updates=20),
    )
    assert DICTIONARY.differences(other) == {
        "seeds": ([0, 1], [0]),
        "config.task.num_pairs": (3, 4),
        "config.training.num_updates": (10, 20),
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda contents: "{", "JSONDecodeError"),
        (lambda contents: "[]", "TypeError"),
        (lambda contents: json.dumps({**contents, "config": {**contents["config"], "task": {}}}), "num_pairs"),
        (
            lambda contents: json.dumps({**contents, "config": {**contents["config"], "training": {"num_updates": 0}}}),
            "num_updates must be a whole number of at least 1, got 0",
        ),
    ],
    ids=["cut off", "no table", "incomplete", "impossible"],
)
def test_a_file_that_no_run_wrote_is_named(change, reason, tmp_path):
    (tmp_path / "config.json").write_text(change(json.loads(DICTIONARY.to_json())))
    with pytest.raises(ValueError, match=f"^{tmp_path}/config.json is not the configuration of a run: .*{reason}"):
        training.Configuration.load(tmp_path)


def test_a_task_that_cannot_be_had_is_named(tmp_path):
    for name, message in (
        ("tea", "unknown task 'tea'; choose from"),
        ("no:Task", "task 'no:Task': cannot be imported"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**json.loads(DICTIONARY.to_json()), "experiment": name}))
        with pytest.raises(ValueError, match=f"^{tmp_path}/config.json: {message}"):
            training.Configuration.load(tmp_path)


def test_a_writer_that_cannot_be_had_is_named(tmp_path):
    message = f"^{tmp_path}/config.json: model 'no:Rule': cannot make a writer: No module named 'no'"
    write(dataclasses.replace(DICTIONARY, model="no:Rule"), tmp_path)
    for load in (training.Configuration.load, training.load):
        with pytest.raises(ValueError, match=message):
            load(tmp_path)


def test_a_trained_model_is_as_good_as_its_last_line_says(trained):
    _, directory = trained
    last = {line["seed"]: line for line in map(json.loads, (directory / "metrics.jsonl").read_text().splitlines())}
    shapes = training.place(recall.TASK, build("lstm"), recall.SETTINGS).shapes(1)
    functions = training.make_functions(recall.TASK, build("lstm"), recall.SETTINGS)
    evaluate = jax.jit(functions.evaluate)
    for seed in (None, *recall.SEEDS):
        loaded = training.load(directory, seed=seed)
        assert (loaded.cell, loaded.task) == (build("lstm"), recall.TASK)
        assert (loaded.update, loaded.configuration) == (6, LSTM)
        shape = jax.tree.map(lambda leaf: leaf.shape[1:], shapes.params)
        assert jax.tree.map(np.shape, loaded.variables["params"]) == shape
        metrics = evaluate(loaded.variables, training.held_out(loaded.task, loaded.configuration.training))
        line = last[recall.SEEDS[0] if seed is None else seed]
        for name, value in metrics.items():
            np.testing.assert_allclose(value, line[f"eval_{name}"], rtol=1e-5)


def test_the_best_parameters_are_those_of_the_best_evaluation(trained):
    report, directory = trained
    for i, seed in enumerate(recall.SEEDS):
        loaded = training.load(directory, seed=seed, best=True)
        assert_equal(loaded.variables["params"], jax.tree.map(lambda leaf, i=i: leaf[i], report.state.best.params))
        assert loaded.update == report.state.best.update[i]


def test_the_directory_above_a_single_model_will_do(trained, tmp_path):
    _, directory = trained
    assert_equal(training.load(directory.parent).variables, training.load(directory).variables)
    for name in ("salu", "mnm_p"):
        write(DICTIONARY, tmp_path / name)
    with pytest.raises(ValueError, match=f"{tmp_path} is not the directory of one run: several: mnm_p, salu$"):
        training.load(tmp_path)
    message = f"{tmp_path}/none is not the directory of one run: no config.json in it; the runs that come .* tiny$"
    with pytest.raises(ValueError, match=message):
        training.load(tmp_path / "none")


def test_a_seed_that_was_not_trained_is_refused_with_those_that_were(trained):
    _, directory = trained
    with pytest.raises(ValueError, match=f"{directory} has no seed 2; it has 0, 1, 5$"):
        training.load(directory, seed=2)
    assert_equal(training.load(directory, seed=np.int64(5)).variables, training.load(directory, seed=5).variables)
    for seed in (0.0, "0", True):
        wanted = f"argument 'seed': wants a whole number, of Python or NumPy, or None, got {seed!r}"
        with pytest.raises(ValueError, match=wanted):
            training.load(directory, seed=seed)


def test_a_run_without_a_checkpoint_cannot_be_loaded(tmp_path):
    write(LSTM, tmp_path)
    with pytest.raises(training.RestoreError, match=f"no checkpoint in {tmp_path}/checkpoints"):
        training.load(pathlib.Path(tmp_path))


def test_the_run_that_comes_with_the_package_loads_by_name_and_gets_its_metric():
    directory = pathlib.Path(__file__).parents[2] / "experiments" / "results" / "tiny"
    cell, variables, task, update, configuration = training.load("tiny")
    last = json.loads((directory / "mnm_p" / "metrics.jsonl").read_text().splitlines()[-1])
    assert update == last["update"] == 1500
    [examples] = training.held_out(task, configuration.training)
    outputs = jax.jit(jax.vmap(lambda inputs: mnm.unroll(cell, variables, inputs).outputs))(examples.inputs)
    accuracy = jax.vmap(task.metrics)(outputs, examples)["word_accuracy"].mean()
    # Another machine rounds otherwise, and may miss or hit a word or two of a thousand.
    assert abs(accuracy - last["eval_word_accuracy"]) < 3e-3
    assert accuracy > 0.95


def test_what_is_exported_is_loaded_as_the_run_is_and_is_smaller(trained, tmp_path):
    _, directory = trained
    seed = recall.SEEDS[-1]
    training.export(directory, tmp_path / "new" / "lstm", [seed])
    assert sorted(path.name for path in (tmp_path / "new" / "lstm").iterdir()) == ["checkpoints", "config.json"]
    for best in (False, True):
        wanted = training.load(directory, seed=seed, best=best)
        exported = training.load(tmp_path / "new", best=best)  # The only seed is the first.
        assert_equal(exported.variables, wanted.variables)
        assert exported.update == wanted.update
    assert exported.configuration == dataclasses.replace(wanted.configuration, seeds=(seed,))
    with pytest.raises(ValueError, match=f"has no seed {recall.SEEDS[0]}; it has {seed}"):
        training.load(tmp_path / "new", seed=recall.SEEDS[0])
    names = set(training.Checkpoints(tmp_path / "new/lstm/checkpoints").load({}, is_part=True).identity)
    assert names == set(training.Checkpoints(directory / "checkpoints").load({}, is_part=True).identity)
    with pytest.raises(training.RestoreError, match="opt_state"):
        training.run(recall.TASK, build("lstm"), recall.SETTINGS, [seed], tmp_path / "new" / "lstm")


@pytest.mark.parametrize("seeds", [[0, 77], [], [0, 0], [1.0], [True], ["0"]], ids=str)
def test_seeds_that_cannot_be_exported_are_refused(trained, tmp_path, seeds):
    _, directory = trained
    message = rf"argument 'seeds': want some of 0, 1(, \d)*, each once, which .*lstm has; got {re.escape(repr(seeds))}$"
    with pytest.raises(ValueError, match=message):
        training.export(directory, tmp_path / "new", seeds)
    assert not (tmp_path / "new").exists()


def test_what_cannot_be_exported_says_why_and_leaves_nothing(trained, tmp_path, monkeypatch):
    _, directory = trained
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="is not empty"):
        training.export(directory, tmp_path)
    with pytest.raises(ValueError, match=r"none is not the directory of one run: no config\.json in it"):
        training.export(tmp_path / "none", tmp_path / "new")
    shutil.copytree(directory, tmp_path / "own", ignore=shutil.ignore_patterns("config.json"))
    with pytest.raises(ValueError, match=r"trained by training\.run itself is loaded with the arguments task and cell"):
        training.export(tmp_path / "own", tmp_path / "new")
    shutil.copytree(directory, tmp_path / "empty", ignore=shutil.ignore_patterns("checkpoints"))
    with pytest.raises(training.RestoreError, match="no checkpoint in"):
        training.export(tmp_path / "empty", tmp_path / "new")

    def save(self, directory):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(training.Configuration, "save", save)
        with pytest.raises(OSError, match="No space left on device"):
            training.export(directory, tmp_path / "new")
    assert not list((tmp_path / "new").iterdir())
    training.export(directory, tmp_path / "new", np.array(recall.SEEDS[:1]))
    assert training.load(tmp_path / "new").configuration.seeds == recall.SEEDS[:1]

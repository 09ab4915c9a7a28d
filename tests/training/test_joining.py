"""Runs of single seeds, joined: the run that they would have been together, to the byte."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
import recall

from mnm_jax import tasks, training
from mnm_jax.training.loop import RunOptions

pytestmark = pytest.mark.usefixtures("quick_compilation")

SEEDS = 4, 2, 3
CONFIGURATION = training.Configuration("recall", "lstm", (2,), recall.TASK, recall.MODEL, recall.SETTINGS)


@pytest.fixture(autouse=True)
def known_task(monkeypatch):
    monkeypatch.setitem(tasks.TASKS, "recall", recall.Recall)


def train(directory, seeds, *, is_cut=False, parallel="none"):
    """Trains, to the end or for the first chunk only, and leaves a configuration as the programs do."""
    directory.mkdir(parents=True, exist_ok=True)
    dataclasses.replace(CONFIGURATION, seeds=tuple(seeds)).save(directory)
    return training.run(
        recall.TASK,
        CONFIGURATION.cell(),
        recall.SETTINGS,
        seeds,
        directory,
        RunOptions(parallel),
        should_stop=lambda: is_cut,
    )


def claim(directory, copy, **identity):
    """Copies a run, with a checkpoint that says it was trained otherwise."""
    shutil.copytree(directory, copy)
    checkpoints = training.Checkpoints(copy / training.CHECKPOINTS)
    saved = checkpoints.load(None)
    shutil.rmtree(checkpoints.directory)
    checkpoints.save(1, saved.state, saved.seconds, saved.identity | identity)


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    """A run for each seed, stopped after one update."""
    directory = tmp_path_factory.mktemp("apart")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tasks.TASKS, "recall", recall.Recall)
        updates = {train(directory / str(seed), [seed], is_cut=True).update for seed in SEEDS}
    assert updates == {1}
    return [directory / str(seed) for seed in SEEDS]


def test_joined_runs_go_on_to_what_one_run_with_their_seeds_leaves(apart, tmp_path):
    training.join(apart, tmp_path / "joined")
    assert training.Configuration.load(tmp_path / "joined").seeds == (2, 3, 4)
    joined = train(tmp_path / "joined", [2, 3, 4], parallel="in_turn")
    together = train(tmp_path / "together", [2, 3, 4], parallel="in_turn")
    assert joined.is_finished
    assert together.is_finished
    jax.tree.map(np.testing.assert_array_equal, joined.state, together.state)
    metrics = [(tmp_path / name / training.METRICS).read_bytes() for name in ("joined", "together")]
    assert metrics[0] == metrics[1]


def test_times_are_summed_up(apart, tmp_path):
    training.join(apart, tmp_path / "joined")
    seconds = [training.Checkpoints(path / "checkpoints").load({}, is_part=True).seconds for path in apart]
    assert training.Checkpoints(tmp_path / "joined/checkpoints").load({}, is_part=True).seconds == sum(seconds)
    [line] = (tmp_path / "joined" / training.TIMING).read_text().splitlines()
    assert line.startswith('{"update": 0, "seconds": ')


def test_the_single_run_in_a_directory_is_meant_by_it(apart, tmp_path):
    shutil.copytree(apart[0], tmp_path / "workdir" / "lstm")
    training.join([tmp_path / "workdir", apart[1]], tmp_path / "joined")
    assert training.Configuration.load(tmp_path / "joined").seeds == (2, 4)


def test_what_cannot_be_joined_is_refused_by_name_and_nothing_is_left(apart, tmp_path):
    def refused(*directories, match):
        with pytest.raises(ValueError, match=match):
            training.join(directories, tmp_path / "joined")
        assert not (tmp_path / "joined").exists()

    first, second, _ = apart
    refused(match="there is no run to join")
    refused(first, tmp_path, match=rf"{tmp_path.name} is not the directory of one run")
    refused(first, first, match="a run is named twice")
    shutil.copytree(first, tmp_path / "same")
    refused(first, tmp_path / "same", match=r"same have the same seed; their seeds are \(4, 4\)$")
    shutil.copytree(second, tmp_path / "other")
    slower = dataclasses.replace(recall.SETTINGS, learning_rate=0.5)
    dataclasses.replace(CONFIGURATION, training=slower).save(tmp_path / "other")
    refused(first, tmp_path / "other", match=r"differ in .* seeds: config\.training\.learning_rate is .* and 0\.5$")
    shutil.copytree(second, tmp_path / "longer")
    train(tmp_path / "longer", [2])
    refused(first, tmp_path / "longer", match=r"want the same number of updates; they have .*longer: ")
    shutil.copytree(second, tmp_path / "without", ignore=shutil.ignore_patterns("metrics.jsonl"))
    refused(first, tmp_path / "without", match=r"without/metrics.jsonl cannot be read: No such file")
    shutil.copytree(second, tmp_path / "rare")
    (tmp_path / "rare" / training.METRICS).write_text("")
    refused(first, tmp_path / "rare", match=r"rare/metrics.jsonl has not a line for each seed at each .* \[0\]")
    shutil.copytree(second, tmp_path / "timeless")
    (tmp_path / "timeless" / training.TIMING).write_text("")
    refused(first, tmp_path / "timeless", match=r"timeless/timing.jsonl has not the time of each of the updates \[0\]")
    shutil.copytree(second, tmp_path / "new", ignore=shutil.ignore_patterns("checkpoints"))
    refused(first, tmp_path / "new", match="no checkpoint in ")
    training.export(second, tmp_path / "exported")
    refused(first, tmp_path / "exported", match="exported was exported: what training goes on from is not in it")
    shutil.copytree(first, tmp_path / "renamed")
    dataclasses.replace(CONFIGURATION, seeds=(7,)).save(tmp_path / "renamed")
    refused(first, tmp_path / "renamed", match=r"renamed has checkpoints of the seeds \[4\], and not of \[7\]")
    claim(second, tmp_path / "faster", learning_rate=0.5)
    refused(first, tmp_path / "faster", match=r"differ in more than their seeds: learning_rate is .* and 0\.5$")


def test_a_disk_that_is_full_leaves_nothing(apart, tmp_path, monkeypatch):
    def save(self, *args):
        raise training.SaveError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(training.Checkpoints, "save", save)
        with pytest.raises(OSError, match="No space left on device"):
            training.join(apart, tmp_path / "full")
    assert not list((tmp_path / "full").iterdir())
    with pytest.raises(FileExistsError, match="is not empty"):
        training.join(apart, apart[0])


def test_a_line_that_was_cut_off_is_later_than_the_checkpoint(apart, tmp_path):
    shutil.copytree(apart[0], tmp_path / "cut")
    with (tmp_path / "cut" / training.METRICS).open("a") as file:
        file.write('{"update": 4, "se')
    training.join([tmp_path / "cut", *apart[1:]], tmp_path / "joined")
    assert (tmp_path / "joined" / training.METRICS).read_text().count("\n") == len(SEEDS)


def test_runs_of_several_seeds_are_joined_too(apart, tmp_path):
    train(tmp_path / "two", [1, 5], is_cut=True)
    training.join([tmp_path / "two", apart[0]], tmp_path / "joined")  # Its seed, 4, lies between.
    for seed, directory in ((1, tmp_path / "two"), (4, apart[0]), (5, tmp_path / "two")):
        joined, wanted = (training.load(path, seed=seed).variables for path in (tmp_path / "joined", directory))
        jax.tree.map(np.testing.assert_array_equal, joined, wanted)

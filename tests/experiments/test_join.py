"""Runs of single seeds, joined from the command line."""

import dataclasses
import pathlib
import shutil

import pytest

from experiments import command_line, join
from mnm_jax import training
from mnm_jax.analysis.runs import load_runs

TINY = pathlib.Path(join.__file__).with_name("results") / "tiny"


@pytest.fixture
def other_seed(tmp_path):
    """A copy of the tiny run that says it is of another seed."""
    directory = tmp_path / "other" / "mnm_p"
    shutil.copytree(TINY / "mnm_p", directory)
    configuration = training.Configuration.load(directory)
    dataclasses.replace(configuration, seeds=(1,)).save(directory)
    metrics = directory / training.METRICS
    metrics.write_text(metrics.read_text().replace('"seed": 0', '"seed": 1'))
    checkpoints = training.Checkpoints(directory / training.CHECKPOINTS)
    saved = checkpoints.load(None)
    shutil.rmtree(checkpoints.directory)
    checkpoints.save(int(saved.state["update"][0]), saved.state, saved.seconds, {**saved.identity, "seeds": [1]})
    return directory


def test_the_joined_run_is_that_of_a_workdir(tmp_path, capsys, other_seed):
    join.main(["join", "tiny", str(other_seed)], str(tmp_path / "new"))
    output = tmp_path / "new"
    assert capsys.readouterr().out == f"{output}/mnm_p: 2 runs; for figures and tables: --workdir={output} --resume\n"
    [run] = load_runs(output)
    assert run.seeds == (0, 1)


@pytest.mark.parametrize(
    ("argv", "output", "message"),
    [
        (["join", "tiny"], "new", "^usage: python -m experiments.join RUN RUN"),
        (["join", "tiny", "nothing"], "new", "^nothing is not the directory of one run"),
        (["join", "tiny", "tiny"], "new", "^a run is named twice"),
        (["join", "tiny", "maze9_mnm_p"], "new", "differ in more than their seeds: config"),
        (["join", "nothing", "tiny"], "new", "^nothing is not the directory of one run"),
        (["join", "tiny", "tiny"], "/proc/self/new", "^--workdir=/proc/self/new cannot be written to"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, argv, output, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(command_line.UsageError, match=message):
        join.main(argv, output)
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_there_stays(tmp_path, other_seed):
    with pytest.raises(command_line.UsageError, match=r"^--workdir=.*/other has mnm_p already$"):
        join.main(["join", "tiny", str(other_seed)], str(tmp_path / "other"))
    assert training.load(other_seed).update > 0


def test_a_workdir_of_another_task_is_refused(tmp_path, other_seed):
    shutil.copytree(TINY / "mnm_p", tmp_path / "new" / "lstm")
    path = tmp_path / "new" / "lstm" / training.CONFIG
    path.write_text(path.read_text().replace('"mnm_p"', '"lstm"').replace('"word_length": 1', '"word_length": 2'))
    with pytest.raises(command_line.UsageError, match=r"new/lstm was made otherwise: config\.task\.word_length was 2"):
        join.main(["join", "tiny", str(other_seed)], str(tmp_path / "new"))

"""The systematic test of a model, on a small archive that is made up."""

import pathlib
import re
import sys

import jax
import pytest

from experiments import command_line, systematic
from mnm_jax import models, training
from mnm_jax.tasks.babi import Babi
from mnm_jax.tasks.babi.stories import sha256

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tasks" / "babi"))

from small_archive import make_contents, write_archive

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Makes an untrained model of tasks 1 and 2, in which there are the people named."""

    def load(*people):
        contents = {}
        for name, content in make_contents().items():
            for old, new in zip(
                ("Ada", "Ben", "Cleo", "Dan"), people[:4] if "qa1_" in name else people[4:], strict=True
            ):
                content = content.replace(old, new)
            # No question about people.
            contents[name] = "".join(line for line in content.splitlines(keepends=True) if "Who" not in line)
        archive = write_archive(tmp_path / "archive.tar.gz", contents)
        monkeypatch.setenv("BABI_ARCHIVE", str(archive))
        monkeypatch.setenv("HOME", str(tmp_path))
        task = Babi((1, 2), "en", "sentences", archive_sha256=sha256(archive))
        settings = models.ModelSettings(3, 2, num_layers=2, relation_size=1)
        sizes = {"output_size": task.output_size, "vocabulary_size": task.vocabulary_size, "num_steps": task.num_steps}
        cell = models.build("mnm_p", settings, **sizes)
        first = jax.tree.map(lambda leaf: leaf[0], task.sample(jax.random.key(0), task.buckets[-1]).inputs)
        return training.Loaded(cell, cell.init(jax.random.key(0), None, first), task, 0, None)

    return load


def test_both_columns_are_of_the_same_questions(load):
    loaded = load("Mary", "John", "Sandra", "Daniel", "Julie", "Bill", "Emily", "Fred")
    plain, exchanged = systematic.make_test_splits(loaded.task)
    assert plain.num_questions == exchanged.num_questions == loaded.task.loaded.test.num_questions
    lines = systematic.compare(loaded).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:5]] == [
        "1 single supporting fact",
        "2 two supporting facts",
        "mean over these tasks",
    ]
    assert lines[-1].endswith("The archive is not the official one.")


def test_people_whom_nobody_could_be_exchanged_for_are_named(load):
    with pytest.raises(ValueError, match="tasks 1, 2: none has people whose names could be exchanged"):
        systematic.make_test_splits(load(*("Ada", "Ben", "Cleo", "Dan") * 2).task)


def test_another_archive_is_refused(load, monkeypatch):
    task = load(*("Ada", "Ben", "Cleo", "Dan") * 2).task
    monkeypatch.delenv("BABI_ARCHIVE")
    with pytest.raises(ValueError, match=f"BABI_ARCHIVE has to name the archive of SHA-256 {task.archive_sha256}"):
        systematic.make_test_splits(task)


def test_writes_where_it_is_told(load, tmp_path, monkeypatch, capsys):
    loaded = load("Mary", "John", "Sandra", "Daniel", "Julie", "Bill", "Emily", "Fred")
    monkeypatch.setattr(systematic.training, "load", lambda run, best: loaded)
    systematic.main(["systematic", "a_run_by_name"], str(tmp_path / "new" / "output"))
    path = tmp_path / "new" / "output" / "systematic.md"
    assert capsys.readouterr().out == f"{path}\n\n{path.read_text()}"
    with pytest.raises(command_line.UsageError, match=f"--output={re.escape(str(path))} cannot be written to: "):
        systematic.main(["systematic", "a_run_by_name"], str(path))

"""The bAbI experiment, from the command line, on a small archive that is made up."""

import csv
import json
import pathlib
import re
import sys

import numpy as np
import pytest
from test_command_line import ROOT, run_all

from experiments import ask
from experiments.babi import tokens_per_second
from experiments.babi_errors import count_errors
from mnm_jax import training
from mnm_jax.tasks import babi
from mnm_jax.tasks.babi.stories import sha256

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tasks" / "babi"))

from small_archive import make_contents, write_archive

TINY = [f"--config={ROOT}/experiments/configs/babi.py:tiny", "--workdir=run", "--tasks=2,1"]
OFTEN = ["--config.task.emphasized=2", "--config.task.emphasis=4"]
RENAMED = ["--config.task.exchange_names=True", "--config.task.exchange_except=2"]
TRAIN = [*TINY, *OFTEN, *RENAMED, "--models=mnm_p,lstm", "--num_seeds=2", "--babi_archive=archive.tar.gz"]
NEW = [*TINY, "--workdir=new"]
CUT = [*TRAIN, "--workdir=cut", "--models=lstm"]
# One flag again, all else from what was saved.
GO_ON = ["--workdir=cut", "--resume", "--config.task.emphasis=4", "--babi_archive=archive.tar.gz"]
MODELS = ("mnm_p", "lstm")

pytestmark = pytest.mark.usefixtures("quick_compilation")

WRONG = {
    "no such task": (
        [*NEW, "--tasks=1,21"],
        "--tasks=1,21: wants numbers of 1 to 20 with commas between, or all",
    ),
    "not a number": ([*NEW, "--tasks=one"], "--tasks=one: wants numbers of 1 to 20"),
    "no tasks": ([*NEW, "--tasks="], "--tasks=: wants numbers of 1 to 20"),
    "no such data": ([*NEW, "--data=en-20k"], "--data=en-20k: value should be one of <en.en-10k>"),
    "no such layout": ([*NEW, "--layout=line"], "--layout=line: value should be one of <stream.question.sentences>"),
    "no such archive": ([*NEW, "--babi_archive=none"], "--babi_archive=none: there is no such file"),
    "damaged archive": ([*NEW, "--babi_archive=damaged.gz"], "damaged.gz is truncated or damaged, or no .tar.gz: "),
    "empty archive": ([*NEW, "--babi_archive=empty"], "empty has no file tasks_1-20_v1-2/en/qa"),
    "other archive": (
        [*TRAIN, "--babi_archive=other.tar.gz", "--resume"],
        "config.task.archive_sha256 was [0-9a-f]{64} and is [0-9a-f]{64}",
    ),
    "too many numbers": (
        [*NEW, "--config.task.emphasized=2", "--config.task.emphasis=2,3"],
        "emphasis must be one number, or one for each of different tasks in emphasized, got 2 numbers for 2",
    ),
    "misspelt configuration": (
        ["--workdir=new", f"--config={ROOT}/experiments/configs/babi.py:joined"],
        "unknown configuration 'joined'; choose from single, joint, chained, tiny",
    ),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run, the same stopped after its first chunk and resumed, and mistakes, all in one process.

    Returns:
      Their directory, what each of the first three printed, and the results of the mistakes.
    """
    directory = tmp_path_factory.mktemp("babi")
    contents = make_contents(lengths=(1, 3, 3, 1, 3))  # Few, for each is compiled.
    archive = write_archive(directory / "archive.tar.gz", contents)
    write_archive(directory / "other.tar.gz", dict(reversed(contents.items())))
    (directory / "empty").mkdir()
    (directory / "damaged.gz").write_bytes(archive.read_bytes()[:500])
    once, stopped, resumed, *mistakes = run_all(
        [
            TRAIN,
            [*CUT, "--max_minutes=0"],
            GO_ON,
            *(arguments for arguments, _ in WRONG.values()),
        ],
        directory,
        "experiments.babi",
        HOME=str(directory),
        JAX_COMPILATION_CACHE_DIR=str(directory / "compiled"),
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
    )
    for code, _, err in (once, stopped, resumed):
        assert code == 0, err
    return directory, once[1], stopped[1], resumed[1], dict(zip(WRONG, mistakes, strict=True))


def test_it_says_what_the_data_is(trained):
    directory, out, *_ = trained
    assert "bAbI en, tasks 1, 2, layout stream\n  train: 8 episodes, " in out
    assert f"not the official archive: SHA-256 {sha256(directory / 'archive.tar.gz')}" in out
    assert re.search(r"\d symbols, \d+ answers\n  episodes of \d+(, \d+)* steps; of what training reads, ", out)
    assert re.search(r"^mnm_p: [\d,]+ words and marks per second", out, re.MULTILINE)


def test_the_flags_of_the_task_arrive(trained):
    task = training.Configuration.load(trained[0] / "run" / "lstm").task
    assert (task.emphasized, task.emphasis) == ((2,), 4.0)
    assert (task.exchange_names, task.exchange_except) == (True, (2,))


def test_a_run_stopped_and_resumed_ends_as_the_whole_one(trained):
    directory, _, stopped, *_ = trained
    assert "lstm is not finished: update 1 of 4." in stopped
    for name in ("metrics.jsonl", "test.json", "data.json"):
        assert (directory / "cut" / "lstm" / name).read_bytes() == (directory / "run" / "lstm" / name).read_bytes()
    assert not (directory / "cut" / "lstm" / "test.tmp").exists()


def test_the_test_errors_are_those_of_the_best_parameters_counted_one_by_one(trained, monkeypatch):
    directory = trained[0]
    monkeypatch.setenv("HOME", str(directory))
    contents = json.loads((directory / "run" / "lstm" / "test.json").read_text())
    assert contents["update"] == 4
    for entry in contents["seeds"]:
        loaded = training.load(directory / "run" / "lstm", seed=entry["seed"], best=True)
        assert loaded.update == entry["best_update"]
        counts = {1: np.zeros(4, int), 2: np.zeros(4, int)}
        data = loaded.task.loaded
        for bucket, is_seen in zip(data.test.buckets, data.is_seen["test"], strict=True):
            # Names are exchanged in task 1 alone: it has other questions in training than in the files.
            is_seen = is_seen & (bucket.tasks == 2)[:, None]
            for i in range(len(bucket.lengths)):
                # Without padding, one by one.
                row = babi.take(bucket, i)
                short = row._replace(
                    **{name: getattr(row, name)[: row.length] for name in ("inputs", "targets", "mask")}
                )
                logits = training.unroll_example(loaded.cell, loaded.variables, short).outputs
                for step in np.flatnonzero(short.mask):
                    is_wrong, is_unseen = logits[step].argmax() != short.targets[step], not is_seen[i, step]
                    counts[int(row.task)] += [is_wrong, 1, is_wrong and is_unseen, is_unseen]
        names = ("errors", "questions", "unseen_errors", "unseen_questions")
        assert entry["tasks"] == [{"task": k, **dict(zip(names, counts[k].tolist(), strict=True))} for k in (1, 2)]


def test_batches_that_are_filled_up_count_nothing_twice(trained, monkeypatch):
    directory = trained[0]
    monkeypatch.setenv("HOME", str(directory))
    loaded = training.load(directory / "run" / "lstm")
    split = loaded.task.loaded.train
    whole = count_errors(loaded.cell, loaded.variables, split)
    monkeypatch.setattr("experiments.babi_errors._BATCH_STEPS", 3 * split.buckets[0].num_steps)
    assert count_errors(loaded.cell, loaded.variables, split) == whole
    assert sum(count.questions for count in whole.values()) == split.num_questions
    for count in whole.values():
        assert (count.unseen_errors, count.unseen_questions) == (count.errors, count.questions)


def test_the_speed_is_that_of_the_median_interval(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(trained[0]))
    configuration = training.Configuration.load(trained[0] / "run" / "mnm_p")  # Two episodes per update.
    lines = [
        {"update": update, "seed": seed} | ({"train_num_tokens": 10.0 + seed} if update else {})
        for update in (0, 5, 10, 15)
        for seed in (0, 1)
    ]
    timing = [{"update": update, "seconds": seconds} for update, seconds in ((0, 1), (5, 101), (10, 106), (15, 111))]
    for name, contents in (("metrics.jsonl", lines), ("timing.jsonl", timing)):
        (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in contents))
    assert tokens_per_second(configuration, tmp_path) == 2 * (10 + 11)
    (tmp_path / "timing.jsonl").write_text(json.dumps(timing[0]) + "\n")
    assert tokens_per_second(configuration, tmp_path) is None


def test_the_tables_hold_the_numbers_of_the_files(trained):
    workdir = trained[0] / "run"
    with (workdir / "errors.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(MODELS) * 2 * 2
    percent = {}
    for row in rows:
        contents = json.loads((workdir / row["model"] / "test.json").read_text())
        entry = next(entry for entry in contents["seeds"] if entry["seed"] == int(row["seed"]))
        task = next(task for task in entry["tasks"] if task["task"] == int(row["task"]))
        assert (int(row["errors"]), int(row["questions"])) == (task["errors"], task["questions"])
        percent.setdefault((row["model"], int(row["task"])), []).append(100 * task["errors"] / task["questions"])
        assert float(row["error_percent"]) == percent[row["model"], int(row["task"])][-1]
    table = (workdir / "errors.md").read_text()
    for k, name in ((1, "single supporting fact"), (2, "two supporting facts")):
        of_models = (percent[model, k] for model in MODELS)
        cells = [f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}" for values in of_models]
        assert re.search(rf"\| {k} {name} +\| +{cells[0]} \| +{cells[1]} \|", table), table
    assert "NOT the official one" in table
    assert "TPR-RNN" not in table
    assert "not finished" not in table
    for name in ("errors.png", "learning_curves.png", "similarity_mnm_p.png"):
        assert (workdir / name).read_bytes().startswith(b"\x89PNG")


def test_the_data_is_saved_with_the_run(trained, monkeypatch):
    directory = trained[0]
    monkeypatch.setenv("HOME", str(directory))
    saved = json.loads((directory / "run" / "mnm_p" / "data.json").read_text())
    assert saved == json.loads(json.dumps(training.load(directory / "run" / "mnm_p").task.loaded.summary()))


def test_the_model_is_asked_where_the_archive_is_not(trained, monkeypatch):
    def load(task):
        raise AssertionError

    monkeypatch.setattr(babi.task, "_load", load)
    monkeypatch.setattr(babi.task, "_formats", {})
    loaded = training.load(trained[0] / "cut" / "lstm")
    (answer,) = ask.answer_all(loaded, ["Ada went to the cellar.", "Where is Ada?"])
    assert answer.partition(" ")[0] in loaded.task.format.vocabulary.answers


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_one_line_that_names_what_is_wrong(name, trained):
    directory, *_, mistakes = trained
    assert not (directory / "new").exists()
    code, out, err = mistakes[name]
    assert code == 2
    assert out == ""
    assert re.fullmatch(f"error: .*{WRONG[name][1]}.*\n", err), err

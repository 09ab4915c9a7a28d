import math

import numpy as np
import pytest

from mnm_jax.analysis import comparison
from mnm_jax.analysis.runs import load_runs


def load(*workdirs):
    return comparison.name_runs([run for workdir in workdirs for run in load_runs(workdir)])


def cells(text):
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])]


def test_runs_are_named_by_as_much_of_their_path_as_it_takes(write_run, tmp_path):
    for workdir in ("x/demo", "y/demo", "y/hard"):
        write_run("lstm", [[0.1]], workdir=tmp_path / workdir)
    assert list(load(tmp_path / "x/demo", tmp_path / "y/hard")) == ["demo/lstm", "hard/lstm"]
    assert list(load(tmp_path / "x/demo", tmp_path / "y/demo")) == ["x/demo/lstm", "y/demo/lstm"]


def test_a_run_named_twice_is_there_once(write_run, tmp_path, monkeypatch):
    write_run("lstm", [[0.1]], workdir=tmp_path / "demo")
    monkeypatch.chdir(tmp_path / "demo/lstm")
    assert list(load(tmp_path / "demo", ".", "..")) == ["demo/lstm"]


def test_a_row_summarizes_a_run(write_run, tmp_path):
    accuracies = [[0.1, 0.9, 0.7], [0.1, 0.2, 0.4], [0.1, 0.5, 0.7]]
    write_run("mnm_p", accuracies, workdir=tmp_path / "demo")
    (row,) = comparison.summarize(load(tmp_path / "demo"))
    assert row[:7] == ("demo/mnm_p", "mnm_p", "dictionary", "word_accuracy", 3, 100, 1000)
    assert row.final_mean == pytest.approx(0.6)
    assert row.final_deviation == pytest.approx(math.sqrt((0.01 + 0.04 + 0.01) / 2))
    assert (row.final_min, row.final_max) == (0.4, 0.7)
    assert row.best_mean == pytest.approx((0.9 + 0.4 + 0.7) / 3)
    assert (row.minutes, row.num_skipped) == (1.0, 0)


def test_what_nobody_knows_is_not_a_number(write_run, tmp_path):
    directory = write_run("lstm", [[0.5, 0.6]], workdir=tmp_path / "demo")
    (directory / "timing.jsonl").unlink()
    path = directory / "metrics.jsonl"
    path.write_text(path.read_text().replace("0.6,", "null,"))
    runs = load(tmp_path / "demo")
    (row,) = comparison.summarize(runs)
    assert np.isnan([row.final_mean, row.final_deviation, row.final_min, row.minutes]).all()
    assert row.best_mean == 0.5
    assert cells(comparison.to_markdown([row]))[1][5:] == ["-", "-", "-", "0.500", "-"]


def test_skipped_updates_are_summed_and_shown_if_there_are_any(write_run, tmp_path):
    write_run("mnm_p", [[0.1, 0.2, 0.3]] * 2, workdir=tmp_path / "demo")
    runs = load(tmp_path / "demo")
    assert "skipped" not in comparison.to_markdown(comparison.summarize(runs))
    # Before the first update there is nothing to skip.
    runs["demo/mnm_p"].metrics["train_num_skipped"] = np.array([[np.nan, 1, 2], [np.nan, 0, 1200]])
    assert [seed.num_skipped for seed in comparison.summarize_seeds("demo/mnm_p", runs["demo/mnm_p"])] == [3, 1200]
    rows = comparison.summarize(runs)
    assert rows[0].num_skipped == 1203
    header, row = cells(comparison.to_markdown(rows))
    assert (header[-1], row[-1]) == ("skipped updates", "1,203")


def test_tasks_of_one_name_are_told_apart_by_what_differs(write_run, tmp_path):
    write_run("lstm", [[0.1]], workdir=tmp_path / "a")
    write_run("salu", [[0.1]], workdir=tmp_path / "a")
    write_run("lstm", [[0.1]], workdir=tmp_path / "b", word_length=2, num_queries=3)
    assert {row.task for row in comparison.summarize(load(tmp_path / "a"))} == {"dictionary"}
    assert [row.task for row in comparison.summarize(load(tmp_path / "a", tmp_path / "b"))] == [
        "dictionary (num_queries=None, word_length=1)",
        "dictionary (num_queries=None, word_length=1)",
        "dictionary (num_queries=3, word_length=2)",
    ]


def test_the_table_for_people(write_run, tmp_path):
    write_run("mnm_p", [[0.1, 0.9], [0.1, 0.8]], workdir=tmp_path / "demo")
    text = comparison.to_markdown(comparison.summarize(load(tmp_path / "demo")))
    assert cells(text) == [
        [
            "run",
            "task",
            "metric",
            "seeds",
            "updates",
            "final (mean)",
            "final (deviation)",
            "final (range)",
            "best (mean)",
            "minutes",
        ],
        [
            "demo/mnm_p",
            "dictionary",
            "word accuracy",
            "2",
            "50 of 1,000",
            "0.850",
            "0.071",
            "0.800 to 0.900",
            "0.850",
            "0.5",
        ],
    ]
    assert "wall-clock time of training" in text

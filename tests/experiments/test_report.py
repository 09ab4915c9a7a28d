"""The report of several runs: its files, its command line and its errors."""

import csv
import json
import os
import subprocess
import sys

import pytest
from test_command_line import ROOT, run_all

from experiments import report
from mnm_jax.analysis.runs import LoadError


def make_workdirs(parent):
    """Two working directories, with three runs in all."""
    for workdir, model, accuracies in (
        ("demo", "mnm_p", [[0.1, 0.8], [0.1, 0.9]]),
        ("demo", "lstm", [[0.1, 0.3]]),
        ("hard", "mnm_p", [[0.0, 0.2]]),
    ):
        directory = parent / workdir / model
        directory.mkdir(parents=True)
        config = {"task": {"num_pairs": len(workdir)}, "training": {"num_updates": 20}}
        description = {"experiment": "dictionary", "model": model, "seeds": list(range(len(accuracies)))}
        (directory / "config.json").write_text(json.dumps(description | {"config": config}))
        lines = [
            json.dumps({"update": 10 * i, "seed": seed, "eval_word_accuracy": accuracy}) + "\n"
            for seed, row in enumerate(accuracies)
            for i, accuracy in enumerate(row)
        ]
        (directory / "metrics.jsonl").write_text("".join(lines))
    return [parent / "demo", parent / "hard"]


@pytest.fixture
def workdirs(tmp_path):
    return make_workdirs(tmp_path)


def test_the_files_say_the_same(workdirs, tmp_path):
    output = tmp_path / "new/directory"
    paths = report.make_report(workdirs, output)
    assert paths == [output / name for name in ("report.md", "report.csv", "report_seeds.csv", "report.png")]
    names = ["demo/mnm_p", "demo/lstm", "hard/mnm_p"]
    assert [line.split()[1] for line in paths[0].read_text().splitlines()[2:5]] == names
    with paths[1].open() as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == names
    assert [float(row["final_mean"]) for row in rows] == pytest.approx([0.85, 0.3, 0.2])
    with paths[2].open() as file:
        seeds = [(row["run"], row["seed"], row["final"]) for row in csv.DictReader(file)]
    assert seeds == [
        ("demo/mnm_p", "0", "0.8"),
        ("demo/mnm_p", "1", "0.9"),
        ("demo/lstm", "0", "0.3"),
        ("hard/mnm_p", "0", "0.2"),
    ]
    assert paths[3].read_bytes().startswith(b"\x89PNG")


def test_a_single_run_may_be_named(workdirs, tmp_path):
    markdown, *_ = report.make_report([workdirs[0] / "lstm"], tmp_path)
    assert "| demo/lstm | dictionary |" in markdown.read_text()
    assert "mnm_p" not in markdown.read_text()


def test_nothing_is_written_if_one_directory_holds_no_runs(workdirs, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(LoadError, match="no runs in"):
        report.make_report([*workdirs, tmp_path / "empty"], tmp_path / "output")
    assert not (tmp_path / "output").exists()


def test_the_program_writes_here_and_prints_the_table(workdirs, tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "experiments.report", "demo", "hard"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert (result.returncode, result.stderr) == (0, "")
    files = "report.md\nreport.csv\nreport_seeds.csv\nreport.png\n"
    assert result.stdout == f"{files}\n{(tmp_path / 'report.md').read_text()}"


WRONG = {
    "no directories": ([], "usage: python -m experiments.report WORKDIR [WORKDIR...] [--output=DIR]"),
    "no such directory": (
        ["nowhere"],
        "no directory nowhere: wanted one that holds MODEL/config.json and MODEL/metrics.jsonl",
    ),
    "output is a file": (["demo", "--output=file"], "--output=file cannot be written to: "),
    "misspelt flag": (["demo", "--outputs=x"], "Unknown command line flag 'outputs'"),
}


@pytest.fixture(scope="module")
def mistakes(tmp_path_factory):
    directory = tmp_path_factory.mktemp("mistakes")
    make_workdirs(directory)
    (directory / "file").touch()
    results = run_all([arguments for arguments, _ in WRONG.values()], directory, "experiments.report")
    return dict(zip(WRONG, results, strict=True))


@pytest.mark.parametrize("name", WRONG)
def test_errors_are_one_line(name, mistakes):
    code, out, err = mistakes[name]
    assert code == 2
    assert out == ""
    assert err.startswith(f"error: {WRONG[name][1]}")
    assert err.count("\n") == 1

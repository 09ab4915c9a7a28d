"""The table of take-offs over several configurations."""

import json
import pathlib

import pytest

from experiments import command_line, takeoff


def write_run(directory, model, accuracies):
    """A run whose seeds have these accuracies at updates 0, 10, 20 and so on."""
    (directory / model).mkdir(parents=True)
    config = {"task": {}, "training": {"num_updates": 20}}
    description = {"experiment": "dictionary", "model": model, "seeds": list(range(len(accuracies))), "config": config}
    (directory / model / "config.json").write_text(json.dumps(description))
    lines = [
        json.dumps({"update": 10 * i, "seed": seed, "eval_word_accuracy": accuracy})
        for seed, row in enumerate(accuracies)
        for i, accuracy in enumerate(row)
    ]
    (directory / model / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def test_a_row_for_each_configuration_and_model(tmp_path, capsys):
    write_run(tmp_path / "with", "mnm_p", [[0.1, 0.6, 1.0], [0.1, 0.2, 0.9], [0.1, 0.7, 0.98]])
    write_run(tmp_path / "without", "mnm_p", [[0.1, 0.3, 0.4], [0.1, 0.2, 0.6], [0.1, 0.1, 0.2]])
    takeoff.main(["takeoff", str(tmp_path)], None)
    header, _, *rows = (tmp_path / "takeoff.md").read_text().splitlines()
    assert [[cell.strip() for cell in row.strip("|").split("|")] for row in (header, *rows)] == [
        [
            "configuration",
            "model",
            "word accuracy 0.5: median (range)",
            "word accuracy 0.97: median (range)",
            "did not reach 0.5, 0.97",
            "final word accuracy of each seed",
        ],
        ["with", "MNM-p", "10 (10 to 20)", "20 (20 to 20)", "0 of 3, 1 of 3", "1.00 0.90 0.98"],
        ["without", "MNM-p", "not by 20 (20 to 20)", "not by 20 (-)", "2 of 3, 3 of 3", "0.40 0.60 0.20"],
    ]
    assert capsys.readouterr().out == (tmp_path / "takeoff.md").read_text()


def test_writes_where_it_is_told(tmp_path):
    write_run(tmp_path / "runs" / "with", "mnm_p", [[0.1, 0.6]])
    before = sorted((tmp_path / "runs").rglob("*"))
    takeoff.main(["takeoff", str(tmp_path / "runs")], str(tmp_path / "new" / "output"))
    assert (tmp_path / "new" / "output" / "takeoff.md").read_text().startswith("| configuration ")
    assert sorted((tmp_path / "runs").rglob("*")) == before


def test_errors_are_one_line(tmp_path):
    committed = str(pathlib.Path(takeoff.__file__).parent / "results")
    write_run(tmp_path / "runs" / "with", "mnm_p", [[0.1, 0.6]])
    (tmp_path / "empty").mkdir()
    (tmp_path / "runs" / "takeoff.md").symlink_to(tmp_path / "none" / "table")
    file = tmp_path / "file"
    file.touch()
    for arguments, output, message in (
        ([], None, "usage"),
        ([str(tmp_path / "none")], None, "none is not a directory"),
        ([str(tmp_path / "empty")], None, "no runs"),
        ([committed], None, "results comes with the package; --output=DIR says where to write"),
        ([str(tmp_path / "runs")], str(file), f"^--output={file} cannot be written to: "),
        ([str(tmp_path / "runs")], None, f"^{tmp_path / 'runs'} cannot be written to: "),
    ):
        with pytest.raises(command_line.UsageError, match=message):
            takeoff.main(["takeoff", *arguments], output)

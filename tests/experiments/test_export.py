"""A trained model, copied to be handed on."""

import pytest
from test_command_line import run_all

from experiments import command_line, export
from mnm_jax import training


def test_the_model_is_copied_and_its_size_printed(tmp_path, capsys):
    export.main(["export", "tiny"], str(tmp_path / "new"), ["0"])
    assert training.load(tmp_path / "new").configuration.seeds == (0,)
    assert capsys.readouterr().out == f"{tmp_path}/new: 0.1 MB\n"


@pytest.mark.parametrize(
    ("argv", "output", "seeds", "message"),
    [
        (["export"], "new", None, "^usage: python -m experiments.export RUN --output=DIR"),
        (["export", "tiny"], "new", ["one"], "^--seeds=one: want numbers with commas between$"),
        (["export", "tiny"], "new", ["7"], r"want some of 0, each once, which .*/tiny/mnm_p has; got \[7\]$"),
        (["export", "tiny"], "new", [], r"want some of 0, .* got \[\]$"),
        (["export", "nothing"], "new", None, "nothing"),
        (["export", "tiny"], ".", None, r"^--output=.* cannot be written to: .* is not empty$"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, monkeypatch, argv, output, seeds, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(command_line.UsageError, match=message):
        export.main(argv, output, seeds)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_directory_that_is_missing_is_named(tmp_path):
    ((code, _, err),) = run_all([["tiny"]], tmp_path, "experiments.export")
    assert (code, err) == (2, "error: --output is missing; --help tells what it is\n")

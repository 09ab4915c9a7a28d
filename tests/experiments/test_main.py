"""The command `mnm-jax`: every program by its name, from any directory."""

import pathlib
import re

import pytest
from test_command_line import run_all

from experiments import command_line, main

DIRECTORY = pathlib.Path(main.__file__).parent
WRONG = {
    "no such program": (["dictionry"], "there is no program 'dictionry'; choose from dictionary, babi, .*"),
    "no such name": (
        ["dictionary", "--workdir=new", "--config=tini"],
        "unknown configuration 'tini'; choose from demo, .*",
    ),
    "no run": (["ask"], r"usage: mnm-jax ask RUN \[--story=FILE\] \[--seed=SEED\]"),
    "of another task": (["ask", "tiny"], "tiny was trained on dictionary, not on bAbI"),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    directory = tmp_path_factory.mktemp("command")
    asked = {"overview": ["--help"], "nothing": [], "page": ["dictionary", "--help"]}
    asked |= {name: arguments for name, (arguments, _) in WRONG.items()}
    results = run_all(asked.values(), directory, "experiments.main")
    assert list(directory.iterdir()) == []
    return dict(zip(asked, results, strict=True))


def test_help_lists_every_program(answers):
    code, overview, err = answers["overview"]
    assert (code, err) == (0, "")
    assert answers["nothing"] == answers["overview"]
    assert re.findall(r"^  (\w+) +\S.*[.?]$", overview, re.MULTILINE) == list(main.PROGRAMS)
    files = {path.stem for path in DIRECTORY.glob("*.py") if "\ndef run() ->" in path.read_text()}
    assert files == {*main.PROGRAMS, "main"}


def test_help_names_a_program_as_it_is_called(answers):
    code, page, err = answers["page"]
    assert (code, err) == (0, "")
    assert "\n    mnm-jax dictionary --workdir=DIR [--config=NAME]\n" in page
    assert "python -m" not in page
    for program in main.PROGRAMS:
        assert f"\n    python -m experiments.{program} " in command_line.docstring(DIRECTORY / f"{program}.py")


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_one_line(answers, name):
    code, out, err = answers[name]
    assert (code, out) == (2, "")
    assert re.fullmatch(f"error: {WRONG[name][1]}\n", err), err

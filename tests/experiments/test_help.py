"""`--help`: one page, with what there is to choose from."""

import re

import pytest
from test_command_line import run_all

PROGRAMS = {
    "experiments.babi": ("tasks", "data", "layout", "babi_archive", "ask", "story", "seed"),
    "experiments.dictionary": (),
    "experiments.report": None,
}
TRAINING = ("config", "models", "num_seeds", "workdir", "max_minutes", "resume", "parallel", "save_minutes")
TRAINING += ("on_nonfinite", "tensorboard")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    directory = tmp_path_factory.mktemp("help")
    return {program: run_all([["--help"], ["--helpshort", "-h"]], directory, program) for program in PROGRAMS}


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_is_one_page_and_no_error(pages, program):
    (code, page, err), again = pages[program]
    assert (code, err) == (0, "")
    assert again == (0, page, "")
    assert len(page.splitlines()) < 80
    assert all(len(line) <= 120 for line in page.splitlines())
    assert f"python -m {program}" in page
    flags = ("output",) if PROGRAMS[program] is None else TRAINING + PROGRAMS[program]
    described = dict(re.findall(r"^  --(\w+)(.*)$", page, re.MULTILINE))
    assert set(flags) <= set(described)


def test_help_says_what_the_defaults_are_and_which_is_which(pages):
    page = pages["experiments.babi"][0][1]
    assert re.search(r"--num_seeds=SEEDS .*\(default 3\)", page)
    assert "[--num_seeds=3]" in page
    assert re.search(r"--data=en\|en-10k +1,000 training questions of each task, or 10,000", page)
    assert "--parallel=none|data|seeds" in page
    assert "--config=NAME, single if not given" in page
    assert all(f"`{name}`: " in page for name in ("single", "joint", "tiny"))


def test_paths_are_expanded_in_every_flag(tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    results = run_all(
        [
            ["--workdir=~/used"],
            ["--workdir=$PLACE/used"],
            ["--workdir=new", "--babi_archive=~/used/file"],
            ["--ask=~/used"],
        ],
        tmp_path,
        "experiments.babi",
        HOME=str(tmp_path),
        PLACE=str(tmp_path),
    )
    messages = (
        f"--workdir={tmp_path}/used exists; pass --resume",
        f"--workdir={tmp_path}/used exists; pass --resume",
        f"{tmp_path}/used/file is truncated or damaged, or no .tar.gz",
        f"{tmp_path}/used is not the directory of one run",
    )
    for (code, _, err), message in zip(results, messages, strict=True):
        assert code == 2
        assert err.startswith(f"error: {message}")
    # Beside what programs keep in a home.
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["used"]

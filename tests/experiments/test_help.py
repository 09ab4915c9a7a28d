"""`--help`: one page, with what there is to choose from."""

import re

import pytest
from test_command_line import run_all

from experiments.main import PROGRAMS

TRAINING = ("config", "models", "num_seeds", "first_seed", "workdir", "max_minutes", "resume", "parallel")
TRAINING += ("save_minutes", "on_nonfinite", "tensorboard", "save_updates", "keep_checkpoints", "compilation_cache")
TRAINING += ("coordinator_address", "num_processes", "process_id")
FIGURES = ("output", "formats")
FLAGS = {
    "babi": (*TRAINING, "tasks", "data", "layout", "babi_archive", "ask", "story", "seed"),
    "maze": (*TRAINING, "watch"),
    "train": (*TRAINING, "task"),
    "maze_memory": (*FIGURES, "episodes"),
    "ask": ("story", "seed"),
    "export": ("output", "seeds"),
    "join": ("workdir",),
    "plot": FIGURES,
    "report": FIGURES,
    "recall_sizes": FIGURES,
    "takeoff": ("output",),
    "capacity": (*FIGURES, "max_pairs", "num_draws"),
    "systematic": ("output",),
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """What `mnm-jax PROGRAM --help` answers, by program, and what three more spellings do."""
    programs = *PROGRAMS, *("babi",) * 3
    spellings = *("--help",) * len(PROGRAMS), "--helpshort", "-h", "-?"
    command_lines = list(zip(programs, spellings, strict=True))
    results = run_all(command_lines, tmp_path_factory.mktemp("help"), "warm_command")
    return dict(zip(command_lines, results, strict=True))


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_is_one_page_and_no_error(pages, program):
    code, page, err = pages[program, "--help"]
    assert (code, err) == (0, "")
    assert len(page.splitlines()) < 80
    assert all(len(line) <= 120 for line in page.splitlines())
    assert f"\n    mnm-jax {program} " in page
    described = re.findall(r"^  --(\w+)", page, re.MULTILINE)
    assert set(described) == set(FLAGS.get(program, TRAINING))
    assert len(set(described)) == len(described)


def test_every_spelling_of_help_gives_the_page(pages):
    for spelling in ("--helpshort", "-h", "-?"):
        assert pages["babi", spelling] == pages["babi", "--help"]


def test_help_says_what_the_defaults_are_and_which_is_which(pages):
    _, page, _ = pages["babi", "--help"]
    assert re.search(r"--num_seeds=SEEDS .*\(default 3\)", page)
    assert "[--num_seeds=3]" in page
    assert re.search(r"--data=en\|en-10k +1,000 training questions of each task, or 10,000", page)
    assert "--parallel=none|in_turn|data|seeds" in page
    assert "--config=NAME, single if not given" in page
    assert all(f"`{name}`: " in page for name in ("single", "joint", "tiny"))


def test_paths_are_expanded_in_every_flag(tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    page, *results = run_all(
        [
            ["--help"],
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
    assert "\n    python -m experiments.babi --workdir=DIR " in page[1]  # As it was called.
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

"""The command `mnm-jax`: the programs that train models and show what they learned, each by its name.

    mnm-jax PROGRAM [ARGUMENTS...]
    mnm-jax PROGRAM --help

`mnm-jax PROGRAM` is `python -m experiments.PROGRAM`, from anywhere.
"""

import importlib
import pathlib
import sys
from typing import NoReturn

from experiments import command_line

PROGRAMS = (
    "dictionary",
    "babi",
    "maze",
    "bandits",
    "maze_memory",
    "algorithmic",
    "recall",
    "train",
    "ask",
    "export",
    "join",
    "plot",
    "report",
    "recall_sizes",
    "takeoff",
    "capacity",
    "systematic",
)


def run() -> None:
    """Runs the program that the command line names."""
    program, *arguments = sys.argv[1:] or ["--help"]
    if program in command_line.HELP:
        _print_help()
    if program not in PROGRAMS:
        command_line.exit_with(f"there is no program {program!r}; choose from {', '.join(PROGRAMS)}")
    # As `python -m` does: there lie the tasks and writers of one's own.
    sys.path.insert(0, "")
    sys.argv = [f"{command_line.COMMAND} {program}", *arguments]
    importlib.import_module(f"experiments.{program}").run()


def _print_help() -> NoReturn:
    lines = [__doc__.strip(), "\nPrograms:"]
    for program in PROGRAMS:
        about = command_line.docstring(pathlib.Path(__file__).with_name(f"{program}.py"))
        lines.append(f"  {program.ljust(14)}{about.partition(chr(10))[0]}")
    print("\n".join(lines))
    sys.exit()


if __name__ == "__main__":
    run()

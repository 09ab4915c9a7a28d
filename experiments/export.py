"""Copies of a trained model what others need to use it.

    python -m experiments.export RUN --output=DIR [--seeds=0,1]

RUN is the directory of one model. DIR gets its configuration, the parameters of the seeds, and what the task has to be
restored from, a vocabulary for one: all that `training.load`, `--ask` and `--watch` read. What only training needs is
left out, so nobody can go on with it.
"""

from collections.abc import Sequence

from absl import flags

from experiments import command_line
from mnm_jax import _paths, training

_USAGE = "usage: python -m experiments.export RUN --output=DIR [--seeds=0,1]"
_SEEDS = flags.DEFINE_list("seeds", None, "Seeds to copy; all if not given.")


def main(argv: Sequence[str], given_output: str, given_seeds: Sequence[str] | None) -> None:
    """Exports the run on the command line."""
    if len(argv) != 2:
        raise command_line.UsageError(_USAGE)
    try:
        seeds = None if given_seeds is None else [int(seed) for seed in given_seeds]
    except ValueError as error:
        raise command_line.UsageError(
            f"--seeds={','.join(given_seeds or ())}: want numbers with commas between"
        ) from error
    output = _paths.expand(given_output)
    with command_line.writing_to(output):
        try:
            training.export(argv[1], output, seeds)
        except ValueError as error:
            raise command_line.UsageError(error) from error
    size = sum(file.stat().st_size for file in output.rglob("*") if file.is_file())
    print(f"{output}: {size / 1e6:.1f} MB")


def run() -> None:
    """Runs the program."""
    # Not at the top: other programs have a flag of this name.
    output = flags.DEFINE_string("output", None, "Directory for the model, new or empty.", required=True)
    command_line.run(lambda argv: main(argv, output.value, _SEEDS.value), document=__doc__, takes_arguments=True)


if __name__ == "__main__":
    run()

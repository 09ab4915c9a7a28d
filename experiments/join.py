"""Makes one run of several that differ in their seeds alone, as jobs of a queue leave them, one for each seed.

    python -m experiments.join RUN RUN... --output=WORKDIR

Each RUN is the directory of one model, made with another `--first_seed`. What they have goes to WORKDIR/MODEL, as if
one program had trained all seeds. The training program with `--workdir=WORKDIR --resume` then makes figures and tables
of it.
"""

from collections.abc import Sequence

from absl import flags

from experiments import command_line, workdirs
from mnm_jax import _paths, training
from mnm_jax.training.configuration import find_run

_USAGE = "usage: python -m experiments.join RUN RUN [RUN...] --output=WORKDIR"


def main(argv: Sequence[str], given_output: str) -> None:
    """Joins the runs on the command line."""
    if len(argv) < 3:
        raise command_line.UsageError(_USAGE)
    try:
        model = training.Configuration.load(find_run(_paths.expand(argv[1]))).model
        output = _paths.expand(given_output) / workdirs.directory_of(model)
        with command_line.writing_to(output):
            training.join(argv[1:], output)
    except ValueError as error:
        raise command_line.UsageError(error) from error
    print(f"{output}: {len(argv) - 1} runs; for figures and tables: --workdir={output.parent} --resume")


def run() -> None:
    """Runs the program."""
    # Not at the top: other programs have a flag of this name.
    output = flags.DEFINE_string("output", None, "Working directory for the run, without this model.", required=True)
    command_line.run(lambda argv: main(argv, output.value), document=__doc__, takes_arguments=True)


if __name__ == "__main__":
    run()

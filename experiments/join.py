"""Makes one run of several that differ in their seeds alone, as jobs of a queue leave them, one for each seed.

    python -m experiments.join RUN RUN... --workdir=WORKDIR

Each RUN is the directory of one model, made with another `--first_seed`, and all have the same number of updates. Their
metrics and checkpoints go to WORKDIR/MODEL. The training program with `--workdir=WORKDIR --resume` makes figures and
tables of what is finished, and goes on with what is not.
"""

from collections.abc import Sequence

from absl import flags

from experiments import command_line, workdirs
from mnm_jax import _paths, training
from mnm_jax.training.configuration import find_run

_USAGE = "usage: python -m experiments.join RUN RUN [RUN...] --workdir=WORKDIR"


def main(argv: Sequence[str], given_workdir: str) -> None:
    """Joins the runs on the command line."""
    if len(argv) < 3:
        raise command_line.UsageError(_USAGE)
    workdir, runs = _paths.expand(given_workdir), argv[1:]
    try:
        first = training.Configuration.load(find_run(_paths.expand(runs[0])))
        others = workdirs.saved_configurations(workdir, is_resumed=True)
        if first.model in others:
            raise ValueError(f"--workdir={workdir} has {first.model} already")
        workdirs.check_same(workdir, others, [first])
    except ValueError as error:
        raise command_line.UsageError(error) from error
    directory = workdir / workdirs.directory_of(first.model)
    try:
        training.join(runs, directory)
    except ValueError as error:
        raise command_line.UsageError(error) from error
    except OSError as error:
        raise command_line.UsageError(f"--workdir={workdir} cannot be written to: {error}") from error
    print(f"{directory}: {len(runs)} runs; for figures and tables: --workdir={workdir} --resume")


def run() -> None:
    """Runs the program."""
    # Not at the top: the training programs have a flag of this name.
    workdir = flags.DEFINE_string("workdir", None, "Directory for the run, without this model.", required=True)
    command_line.run(lambda argv: main(argv, workdir.value), document=__doc__, takes_arguments=True)


if __name__ == "__main__":
    run()

"""Command lines whose errors are one line on standard error, exit code 2, before anything is computed."""

import runpy
import sys
from collections.abc import Callable, Sequence

import ml_collections
from absl import app, flags, logging

FLAGS = flags.FLAGS


class UsageError(ValueError):
    """Something that the user asked for is not possible; the message says what, and what is."""


def run(
    main: Callable[[Sequence[str]], None], *, default_config: str | None = None, takes_arguments: bool = False
) -> None:
    """Runs a program: parses the flags, then calls `main`. A `UsageError` becomes one line.

    Args:
      main: takes what is left of the command line.
      default_config: value of `--config` if it is not given. (As the default of the flag itself it would be read, and
        its errors raised, while the flag is being defined.)
      takes_arguments: whether the program takes anything but flags.
    """
    if default_config is not None and config_flag(sys.argv) is None:
        sys.argv.insert(1, f"--config={default_config}")

    def guarded(argv: Sequence[str]) -> None:
        try:
            if len(argv) > 1 and not takes_arguments:
                raise UsageError(f"unexpected argument {argv[1]!r}; flags begin with --")
            main(argv)
        except UsageError as error:
            _exit(error)

    app.run(guarded, flags_parser=_parse)


def _exit(error: Exception | str) -> None:
    message = " ".join(str(error).split())
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def _parse(argv: Sequence[str]) -> list[str]:
    try:
        rest = FLAGS(argv)
        if FLAGS["verbosity"].using_default_value:
            FLAGS.verbosity = logging.WARNING  # Orbax tells dozens of lines for each checkpoint.
        if "config" in FLAGS:
            list(FLAGS.config or ())  # A configuration file that cannot be read is reported at the first look only.
    except (AttributeError, KeyError) as error:
        # ml_collections stops at a key that it does not know, without saying which are known.
        _exit(_unknown_key(argv) or error)
    except OSError:
        _exit(f"--config={config_flag(argv)}: there is no such file")
    except flags.Error as error:
        # An error inside a configuration file comes with its traceback, the reason in the last line of it.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        _exit(lines[-1].removeprefix("ValueError: ") if "Error whilst parsing config file" in lines[0] else lines[0])
    else:
        return rest


def config_flag(argv: Sequence[str]) -> str | None:
    """The value of `--config` on a command line; `None` if it is not given."""
    given = None
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        if argument in ("--config", "-config"):
            given = following
        elif argument.lstrip("-").startswith("config="):
            given = argument.partition("=")[2]
    return given


def _unknown_key(argv: Sequence[str]) -> str | None:
    """Says which `--config.KEY` is not in the configuration, and which keys are."""
    path, _, name = config_flag(argv).partition(":")
    config = runpy.run_path(path)["get_config"](*[name] * bool(name))
    for argument in argv:
        if not argument.lstrip("-").startswith("config."):
            continue
        keys = argument.lstrip("-").partition("=")[0].split(".")
        node = config
        for i, key in enumerate(keys[1:], 1):
            if not isinstance(node, ml_collections.ConfigDict) or key not in node:
                allowed = ", ".join(node) if isinstance(node, ml_collections.ConfigDict) else "no further keys"
                return f"--{'.'.join(keys)}: no such key; {'.'.join(keys[:i])} has {allowed}"
            node = node[key]
    return None

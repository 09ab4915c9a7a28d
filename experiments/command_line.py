"""Command lines whose errors are one line on standard error, exit code 2, before anything is computed."""

import ast
import pathlib
import runpy
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence

import ml_collections
from absl import app, flags, logging

from mnm_jax import _paths

FLAGS = flags.FLAGS

_HELP = frozenset(["--help", "-help", "--helpshort", "-helpshort", "--h", "-h", "-?"])
_RESULTS = pathlib.Path(__file__).resolve().parent / "results"
_WIDTH = 120
# As wide as the names of flags may be before their text.
_INDENT = 34


class UsageError(ValueError):
    """Something that the user asked for is not possible; the message says what, and what is."""


def run(
    main: Callable[[Sequence[str]], None],
    *,
    document: str,
    default_config: str | None = None,
    takes_arguments: bool = False,
) -> None:
    """Runs a program: parses the flags, then calls `main`. A `UsageError` becomes one line, `--help` a page.

    Args:
      main: takes what is left of the command line.
      document: what the program does and how it is called; `--help` begins with it.
      default_config: value of `--config` if it is not given. (As the default of the flag itself it would be read, and
        its errors raised, while the flag is being defined.)
      takes_arguments: whether the program takes anything but flags.
    """
    if _HELP & set(sys.argv[1:]):
        print(_help_page(document, default_config))
        sys.exit()
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


def output_directory(named: str | None, default: pathlib.Path) -> pathlib.Path:
    """Where a program is to write: the directory that `--output` names, or else the default.

    Raises:
      UsageError: if the default lies among the results that come with the repository, to which nothing is added unless
        it is asked for.
    """
    if named is not None:
        return _paths.expand(named)
    if default.resolve().is_relative_to(_RESULTS):
        raise UsageError(f"{default} comes with the repository; --output=DIR says where to write, be it there")
    return default


def _help_page(document: str, default_config: str | None) -> str:
    """What the program does, its flags, and its configurations."""
    parts = [document.strip(), "Flags:\n" + "\n".join(_describe_flags())]
    if default_config is not None:
        path, _, name = default_config.partition(":")
        _, _, about = ast.get_docstring(ast.parse(pathlib.Path(path).read_text())).partition("\n\n")
        file = pathlib.Path(path).resolve().relative_to(_RESULTS.parents[1])
        parts.append(f"Configurations, --config={file}:NAME, {name} if not given:\n\n{about}")
    return "\n\n".join(parts)


def _describe_flags() -> Iterator[str]:
    """A line for each flag of ours, those of the program first."""
    of_modules = FLAGS.flags_by_module_dict()
    ours = [module for module in of_modules if module.startswith("experiments.") or module == sys.argv[0]]
    for flag in (flag for module in reversed(ours) for flag in of_modules[module]):
        value = "" if isinstance(flag, flags.BooleanFlag) else f"={flag.name.rpartition('_')[2].upper()}"
        text = flag.help
        if isinstance(flag, flags.EnumFlag):
            choices, _, text = flag.help.partition(": ")
            value = f"={choices.strip('<>')}"
        if flag.default not in (None, False):
            text += f" (default {flag.default_as_str.strip(chr(39))})"
        lines = textwrap.wrap(text, _WIDTH - _INDENT)
        yield f"  --{flag.name}{value}".ljust(_INDENT - 1) + " " + ("\n" + " " * _INDENT).join(lines)


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

"""Command lines whose errors are one line on standard error, exit code 2, before anything is computed."""

import ast
import contextlib
import pathlib
import re
import runpy
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

import ml_collections
from absl import app, flags, logging

from mnm_jax import _paths

FLAGS = flags.FLAGS

COMMAND = "mnm-jax"
"""The command that runs every program, `mnm-jax PROGRAM`; see `experiments.main`."""
HELP = frozenset(["--help", "-help", "--helpshort", "-helpshort", "--h", "-h", "-?"])
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
    """Runs a program: parses the flags, then calls `main`.

    A `UsageError` becomes one line, `--help` a page, and Ctrl-C ends the program without a traceback.

    Args:
      main: takes what is left of the command line.
      document: what the program does and how it is called; `--help` begins with it.
      default_config: `FILE:NAME`, the value of `--config` if it is not given. (As the default of the flag itself it
        would be read, and its errors raised, while the flag is being defined.) `--config=NAME` is another one of FILE.
      takes_arguments: whether the program takes anything but flags.
    """
    if HELP & set(sys.argv[1:]):
        print(_as_called(_help_page(document, default_config)))
        sys.exit()
    if default_config is not None:
        _complete_config(sys.argv, default_config)

    def guarded(argv: Sequence[str]) -> None:
        try:
            if len(argv) > 1 and not takes_arguments:
                raise UsageError(f"unexpected argument {argv[1]!r}; flags begin with --")
            main(argv)
        except UsageError as error:
            exit_with(error)
        except KeyboardInterrupt:  # It never comes while something trains: see `interruption`.
            print(file=sys.stderr)
            sys.exit(128 + signal.SIGINT)

    app.run(guarded, flags_parser=_parse)


def output_directory(named: str | None, default: pathlib.Path) -> pathlib.Path:
    """Where a program is to write: the directory that `--output` names, or else the default.

    Raises:
      UsageError: if the default lies among the results that come with the package, to which nothing is added unless
        it is asked for.
    """
    if named is not None:
        return _paths.expand(named)
    if default.resolve().is_relative_to(_RESULTS):
        raise UsageError(f"{default} comes with the package; --output=DIR says where to write, be it there")
    return default


@contextlib.contextmanager
def writing_to(output: pathlib.Path, *, is_named: bool = True) -> Iterator[None]:
    """What a program writes is written in here. What it reads in here must say itself if it cannot be read.

    Args:
      output: the directory.
      is_named: whether `--output` names it.

    Raises:
      UsageError: if it cannot be written to.
    """
    try:
        yield
    except OSError as error:
        name = f"--output={output}" if is_named else str(output)
        raise UsageError(f"{name} cannot be written to: {error}") from error


def formats_flag() -> flags.FlagHolder[list[str]]:
    """Defines `--formats`, those in which a program writes its figures."""
    from mnm_jax.analysis.output import FORMATS  # Needs matplotlib, which not every program does.

    holder = flags.DEFINE_list("formats", ["png"], f"Formats of the figures, some of {', '.join(FORMATS)}.")
    flags.register_validator(
        "formats",
        lambda names: bool(names) and set(names) <= set(FORMATS),
        f"takes one or more of {', '.join(FORMATS)}, separated by commas",
    )
    return holder


def _help_page(document: str, default_config: str | None) -> str:
    """What the program does, its flags, and its configurations."""
    parts = [document.strip(), "Flags:\n" + "\n".join(_describe_flags())]
    if default_config is not None:
        path, _, name = default_config.partition(":")
        _, _, about = docstring(pathlib.Path(path)).partition("\n\n")
        default = f", {name} if not given" if name else ""
        parts.append(f"Configurations, --config=NAME{default}:\n\n{about}")
    return "\n\n".join(parts)


def docstring(path: pathlib.Path) -> str:
    """What a module says of itself, without importing it."""
    return ast.get_docstring(ast.parse(path.read_text())) or ""


def _as_called(text: str) -> str:
    """A text with the programs named as they are called: by the command, if that was what called this one."""
    if not sys.argv[0].startswith(COMMAND):
        return text
    return re.sub(r"python -m experiments\.(\w+)", rf"{COMMAND} \1", text)


def _describe_flags() -> Iterator[str]:
    """A line for each flag of ours, those of the program first."""
    of_modules = FLAGS.flags_by_module_dict()
    ours = [module for module in of_modules if module.startswith("experiments.") or module == sys.argv[0]]
    for flag in (flag for module in reversed(ours) for flag in of_modules[module]):
        value = "" if isinstance(flag, flags.BooleanFlag) else f"={flag.name.rpartition('_')[2].upper()}"
        text = flag.help or ""
        if isinstance(flag, flags.EnumFlag):
            choices, _, text = text.partition(": ")
            value = f"={choices.strip('<>')}"
        if flag.default not in (None, False):
            default = flag.default_as_str or ""
            text += f" (default {default.strip(chr(39))})"
        lines = textwrap.wrap(text, _WIDTH - _INDENT)
        yield f"  --{flag.name}{value}".ljust(_INDENT - 1) + " " + ("\n" + " " * _INDENT).join(lines)


def exit_with(error: Exception | str) -> NoReturn:
    """Ends the program with an error that the user can do something about, in one line."""
    message = " ".join(_as_called(str(error)).split())
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def _parse(argv: Sequence[str]) -> list[str]:
    try:
        rest = FLAGS(argv)
        verbosity = FLAGS["verbosity"]
        if verbosity.using_default_value:
            verbosity.value = logging.WARNING  # Orbax tells dozens of lines for each checkpoint.
            verbosity.using_default_value = False  # Or absl would set it again.
        if "config" in FLAGS:
            list(FLAGS.config or ())  # A configuration file that cannot be read is reported at the first look only.
    except (AttributeError, KeyError) as error:
        # ml_collections stops at a key that it does not know, without saying which are known.
        exit_with(_unknown_key(argv) or error)
    except OSError:
        exit_with(f"--config={flag_value(argv, 'config')}: there is no such file")
    except flags.Error as error:
        # An error inside a configuration file comes with its traceback, the reason in the last line of it.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        is_config = "Error whilst parsing config file" in lines[0]
        exit_with(lines[-1].removeprefix("ValueError: ") if is_config else _name_flag(lines[0], argv))
    else:
        return rest


def _name_flag(message: str, argv: Sequence[str]) -> str:
    """What absl says of a flag that its check refused, with the flag as it was given, if it was."""
    match = re.fullmatch(r"flag --(\w+)=.*?: (.*)", message)
    if match is None:
        return message
    name, reason = match.groups()
    given = [value for _, value in _find_flag(argv, name)]
    if not given and "must have a value" in reason:
        return f"--{name} is missing; --help tells what it is"
    # Given more than once, only absl knows which of them it is about.
    return f"flag --{name}={given[0]}: {reason}" if len(given) == 1 else message


def flag_value(argv: Sequence[str], name: str) -> str | None:
    """The value of a flag on a command line that is not parsed yet; `None` if it is not given."""
    return next((value for _, value in reversed(_find_flag(argv, name))), None)


def _find_flag(argv: Sequence[str], name: str) -> list[tuple[int, str]]:
    """Each place where a flag is given: the index of the argument that has its value, and the value."""
    found = []
    for i, argument in enumerate(argv):
        if argument in (f"--{name}", f"-{name}") and i + 1 < len(argv):
            found.append((i + 1, argv[i + 1]))
        elif argument.startswith((f"--{name}=", f"-{name}=")):
            found.append((i, argument.partition("=")[2]))
    return found


def _complete_config(argv: list[str], default_config: str) -> None:
    """Adds `--config` to a command line that has none, and to a mere name the file that it is in."""
    given = _find_flag(argv, "config")
    if not given:
        argv.insert(1, f"--config={default_config}")
    file = default_config.partition(":")[0]
    for i, value in given:
        if pathlib.PurePath(value).name == value and not value.partition(":")[0].endswith(".py"):
            argv[i] = argv[i].removesuffix(value) + f"{file}:{value}"


def _unknown_key(argv: Sequence[str]) -> str | None:
    """Says which `--config.KEY` is not in the configuration, and which keys are."""
    path, _, name = (flag_value(argv, "config") or "").partition(":")
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

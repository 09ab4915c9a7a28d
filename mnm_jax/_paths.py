"""Paths as people write them."""

import os
import pathlib


def expand(path: str | os.PathLike[str]) -> pathlib.Path:
    """A path with `~`, `~user`, `$VARIABLE` and `${VARIABLE}` replaced, as a shell does; what is unknown is left."""
    return pathlib.Path(os.path.expandvars(os.path.expanduser(os.fspath(path))))


def user_cache() -> pathlib.Path:
    """Where programs keep what they can make again: `$XDG_CACHE_HOME`, or else `~/.cache`.

    As the XDG base directory specification has it: a path that is not absolute is ignored.
    """
    named = os.environ.get("XDG_CACHE_HOME", "")
    return pathlib.Path(named) if os.path.isabs(named) else expand("~/.cache")


def hint(error: Exception) -> str:
    """What to do about a module of the user's own that is not found; nothing for another error."""
    is_missing = isinstance(error, ModuleNotFoundError)
    return "; the directory that it is in has to be the current one, or on PYTHONPATH" if is_missing else ""

"""Files that are there whole or not at all, and the one by which a run is known."""

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

CONFIG = "config.json"


@contextlib.contextmanager
def whole_file(path: pathlib.Path) -> Iterator[IO[bytes]]:
    """A file to write to. At the end of the `with` it is on the disk under its name; after an error nothing is."""
    # Several processes may write the same file.
    new = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with new.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        # What cannot be written may be no file either.
        with contextlib.suppress(OSError):
            new.unlink()
        raise


def write_whole(path: pathlib.Path, contents: str | bytes) -> None:
    """Writes a file, whole or not at all."""
    with whole_file(path) as file:
        file.write(contents.encode() if isinstance(contents, str) else contents)


@contextlib.contextmanager
def new_directory(path: pathlib.Path) -> Iterator[None]:
    """A directory to write to, made if there is none. After an `OSError` nothing of what was written is left in it.

    Raises:
      OSError: if it is not empty, or cannot be made.
    """
    path.mkdir(parents=True, exist_ok=True)
    if any(path.iterdir()):
        raise FileExistsError(f"{path} is not empty")
    try:
        yield
    except OSError:
        # Half of what was to be there would only stand in the way of the next attempt.
        for part in path.iterdir():
            shutil.rmtree(part) if part.is_dir() else part.unlink()
        raise


class RunDescription(NamedTuple):
    """What the `config.json` of a run holds.

    Attributes:
      experiment: the name of the task.
      model: the name of the model.
      seeds: one run for each.
      config: the values of `task`, `model` and `training`, by name.
    """

    experiment: str
    model: str
    seeds: tuple[int, ...]
    config: dict[str, dict[str, Any]]


def read_description(directory: pathlib.Path) -> RunDescription:
    """Reads the `config.json` of a run.

    Raises:
      ValueError: if there is none, or it is not what a run writes; the message names the file.
    """
    path = directory / CONFIG
    try:
        contents = json.loads(path.read_text())
        config = contents["config"]
        config["task"], config["training"]["num_updates"]  # Whoever reads it relies on these.
        return RunDescription(contents["experiment"], contents["model"], tuple(contents["seeds"]), config)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not the configuration of a run: {error!r}") from error

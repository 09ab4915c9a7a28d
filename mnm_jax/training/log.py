"""The files that a run writes as it goes, besides its checkpoints."""

import contextlib
import json
import math
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mnm_jax._files import write_whole
from mnm_jax.training.checkpoint import SaveError

Line = dict[str, Any]
"""A line of a log: what an evaluation measured, by name."""

METRICS, TIMING, TENSORBOARD = "metrics.jsonl", "timing.jsonl", "tensorboard"


class Log:
    """The files of a run. Only the first process writes."""

    def __init__(
        self, directory: str | pathlib.Path, seeds: Sequence[int], tensorboard: bool, update: int | None = None
    ) -> None:
        """Opens the files, anew or, after `update` updates, without what is later in them.

        Raises:
          SaveError: if they cannot be written.
        """
        self._seeds = seeds
        self._is_writer = jax.process_index() == 0
        self._directory = pathlib.Path(directory)
        self._writers: list[Any] = []
        if not self._is_writer:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        for name in (METRICS, TIMING):
            _shorten(self._directory / name, -1 if update is None else update)
        if tensorboard:
            self._writers = _open_tensorboard(self._directory / TENSORBOARD, seeds, update)

    def write(self, update: int, metrics: Mapping[str, np.ndarray], seconds: float) -> None:
        """Appends the lines of one evaluation; each of the metrics is `[S]`.

        Raises:
          SaveError: if they cannot be written.
        """
        if not self._is_writer:
            return
        numbers = [{name: float(values[i]) for name, values in metrics.items()} for i in range(len(self._seeds))]
        lines = [
            # JSON has no word for a number that is not finite.
            {"update": update, "seed": seed} | {name: x if math.isfinite(x) else None for name, x in values.items()}
            for seed, values in zip(self._seeds, numbers, strict=True)
        ]
        _append(self._directory / METRICS, lines)
        _append(self._directory / TIMING, [{"update": update, "seconds": round(seconds, 3)}])
        for writer, values in zip(self._writers, numbers, strict=False):
            for name, x in values.items():
                writer.add_scalar(name.replace("_", "/", 1), x, update)
            writer.flush()

    def close(self) -> None:
        """Closes the event files."""
        for writer in self._writers:
            writer.close()


def _open_tensorboard(directory: pathlib.Path, seeds: Sequence[int], update: int | None) -> list[Any]:
    """A writer of event files for each seed; what they hold beyond `update` is to be ignored."""
    import tensorboardX  # An optional dependency.

    purge = 0 if update is None else update + 1
    suffix = f".{update or 0}"  # By the second and host alone, a run that is soon resumed would write over its file.
    return [
        tensorboardX.SummaryWriter(str(directory / f"seed_{seed}"), purge_step=purge, filename_suffix=suffix)
        for seed in seeds
    ]


def up_to(path: pathlib.Path, update: int) -> list[Line]:
    """The lines of a log up to an update. A line that was cut off is later than that, and so is all behind it.

    Raises:
      OSError: if the file cannot be read.
    """
    lines = []
    for text in path.read_text(errors="replace").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            break
        if line["update"] <= update:
            lines.append(line)
    return lines


def to_text(lines: Sequence[Line]) -> str:
    """Lines as a log has them."""
    return "".join(json.dumps(line) + "\n" for line in lines)


def _append(path: pathlib.Path, lines: Sequence[Line]) -> None:
    """Appends lines, and waits until they are on the disk: no checkpoint may be newer than they are."""
    with _reporting(path), path.open("a") as file:
        file.write(to_text(lines))
        file.flush()
        os.fsync(file.fileno())


def _shorten(path: pathlib.Path, update: int) -> None:
    """Keeps the lines of a file up to an update."""
    with _reporting(path):
        write_whole(path, to_text(up_to(path, update) if path.exists() else ()))


@contextlib.contextmanager
def _reporting(path: pathlib.Path) -> Iterator[None]:
    """Says which file it was that could not be written."""
    try:
        yield
    except OSError as error:
        raise SaveError(f"cannot write {path}: {error.strerror or error}; the checkpoints are as they were") from error

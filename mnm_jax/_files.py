"""Files that are there whole or not at all."""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import IO


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

"""Where figures and tables are written, and in which formats."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

FORMATS = ("png", "pdf", "svg")

# What would differ from one drawing to the next; and letters that stay letters.
_METADATA = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
_FONTS: dict[Any, Any] = {"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "mnm_jax"}


class Output:
    """A directory for figures and tables.

    Attributes:
      directory: made if there is none.
      formats: some of `FORMATS`, those in which a figure is written.
      paths: the files written so far.
    """

    def __init__(self, directory: str | Path, formats: Sequence[str] = ("png",)) -> None:
        unknown = [name for name in formats if name not in FORMATS]
        if unknown or not formats:
            raise ValueError(f"argument 'formats': wants some of {', '.join(FORMATS)}, got {', '.join(formats)!r}")
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.formats = tuple(formats)
        self.paths: list[Path] = []

    def figure(self, name: str, figure: Figure) -> None:
        """Writes a figure in each format. The same figure makes the same bytes."""
        for suffix in self.formats:
            self.paths.append(self.directory / f"{name}.{suffix}")
            with matplotlib.rc_context(_FONTS):
                figure.savefig(self.paths[-1], metadata=_METADATA[suffix])

    def text(self, name: str, text: str) -> None:
        """Writes a table; `name` has its suffix."""
        self.paths.append(self.directory / name)
        self.paths[-1].write_text(text)

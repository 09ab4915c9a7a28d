"""Tables as text: for people and for programs."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any


def to_csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table for programs, with `inf` and `nan` as Python writes them."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def to_markdown(header: Sequence[str], rows: Iterable[Sequence[str]], num_names: int = 1) -> str:
    """A table for people, aligned so that it reads well as plain text too.

    Args:
      header: the names of the `C` columns.
      rows: `C` cells each.
      num_names: how many columns, from the first, are names: they are on the left of their columns, all else is on the
        right.

    Raises:
      ValueError: if the rows are not all as long as the header.
    """
    table = [tuple(header), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    is_name = [i < num_names for i in range(len(widths))]
    columns = list(zip(widths, is_name, strict=True))
    rule = ["-" * width if left else "-" * (width - 1) + ":" for width, left in columns]
    lines = [
        [cell.ljust(width) if left else cell.rjust(width) for cell, (width, left) in zip(row, columns, strict=True)]
        for row in table
    ]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (lines[0], rule, *lines[1:]))


def number(value: float, form: str) -> str:
    """A number in a cell, `-` for NaN."""
    return "-" if math.isnan(value) else format(value, form)


def span(low: float, high: float, form: str) -> str:
    """A range in a cell, `-` if an end of it is NaN."""
    return "-" if math.isnan(low) or math.isnan(high) else f"{low:{form}} to {high:{form}}"

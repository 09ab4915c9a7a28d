"""How do the time and the memory of a gradient grow with T, d, B and H? Draws the figure.

    python -m benchmarks.scaling OUTPUT.png [--lengths=25,50,100,200] [--sizes=16,32,64,128] [--batches=1,4,16,64]
        [--heads=1,2,4] [--num_steps=50] [--size=32] [--batch=8] [--num_heads=1] [--num_layers=3] [--writers=mnm_p]
    python -m benchmarks.scaling OUTPUT.png --redraw

varies one of them at a time while the others stay at `--num_steps` and so on, and writes `OUTPUT.json` beside it, from
which `--redraw` draws again without measuring. The suffix of the figure is its format: png, pdf, svg. Memory is XLA's
own figure for the temporary buffers; a grey line grows in proportion.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags, logging
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, StrMethodFormatter

from benchmarks import measuring, workload
from benchmarks.measuring import Row
from benchmarks.workload import Workload
from mnm_jax.analysis import panels, style

_LENGTHS = flags.DEFINE_list("lengths", ["25", "50", "100", "200"], "Lengths of the episodes, T.")
_SIZES = flags.DEFINE_list("sizes", ["16", "32", "64", "128"], "Widths of controller, keys, values, hidden layers, d.")
_BATCHES = flags.DEFINE_list("batches", ["1", "4", "16", "64"], "Numbers of episodes, B.")
_HEADS = flags.DEFINE_list("heads", ["1", "2", "4"], "Numbers of heads, H.")
_NUM_STEPS = flags.DEFINE_integer("num_steps", 50, "T where it is not varied.", lower_bound=1)
_SIZE = flags.DEFINE_integer("size", 32, "d where it is not varied.", lower_bound=1)
_BATCH = flags.DEFINE_integer("batch", 8, "B where it is not varied.", lower_bound=1)
_NUM_HEADS = flags.DEFINE_integer("num_heads", 1, "H where it is not varied.", lower_bound=1)
_NUM_LAYERS = flags.DEFINE_integer("num_layers", 3, "Layers of the memory, L.", lower_bound=1)
_WRITERS = flags.DEFINE_list("writers", list(workload.WRITERS), f"Some of {', '.join(workload.WRITERS)}.")
_REPEATS = flags.DEFINE_integer("repeats", 7, "Runs of each program that count.", lower_bound=2)
_REDRAW = flags.DEFINE_bool("redraw", False, "Draws what OUTPUT.json holds, and measures nothing.")

flags.register_validator(
    "writers",
    lambda names: bool(names) and set(names) <= set(workload.WRITERS),
    f"takes one or more of {', '.join(workload.WRITERS)}, separated by commas",
)

_AXES = {
    "num_steps": "time steps, T",
    "size": "width, d",
    "batch_size": "episodes, B",
    "num_heads": "heads, H",
}
_DASHES = {"reversible": style.SOLID, "plain": style.DASHED}
_QUANTITIES = {
    "time (s)": lambda row: row["median_seconds"],
    "temporary memory (MB)": lambda row: row["temporary_bytes"] / 1e6,
}


def measure(
    base: Workload, writers: Sequence[str], values: Mapping[str, Sequence[int]], num_repeats: int
) -> dict[str, list[Row]]:
    """Measures each writer, reversible and plain.

    Args:
      base: what is not varied.
      writers: names of writers.
      values: for each field of `base` that is varied, its values.
      num_repeats: how many runs of each program count.

    Returns:
      The rows for each field.
    """
    results: dict[str, list[Row]] = {}
    for field, field_values in values.items():
        results[field] = []
        for writer in writers:
            for value in field_values:
                workloads = [
                    dataclasses.replace(base, writer=writer, unroll=unroll, **{field: value}) for unroll in _DASHES
                ]
                results[field] += measuring.measure(workloads, num_repeats, measuring.call_here, with_slope=False)
                print(f"{field}={value}, {writer}: {results[field][-2].median_seconds:.4g} s", flush=True)
    return results


def draw(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Draws time and memory, a row for what is varied, with logarithmic axes.

    Args:
      rows: what `measure` made, as in the file: for each field the rows in which it is varied.
    """
    figure = Figure((8, 2 * len(rows) + 1.9), layout="constrained")
    grid = figure.subplots(len(rows), len(_QUANTITIES), sharey="col", squeeze=False)
    for panel_row, (field, field_rows) in zip(grid, rows.items(), strict=True):
        ticks = sorted({row[field] for row in field_rows})
        for axes, quantity_of in zip(panel_row, _QUANTITIES.values(), strict=True):
            axes.set(xscale="log", yscale="log", xlabel=_AXES[field])
            _fill(axes, field, field_rows, quantity_of)
            axes.set_xticks(ticks)
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            axes.xaxis.set_minor_locator(NullLocator())
            panels.finish(axes)
    for axes, quantity in zip(grid[0], _QUANTITIES, strict=True):
        axes.set_title(quantity, size=9.5)
    left_out = []
    for axes in grid.flat:  # When all are filled, for they share their limits.
        panels.plain_ticks(axes.yaxis)
        left_out += panels.name_ends(axes)
    # Each is at its usual value where another one is varied.
    varied = list(rows)
    fixed = [
        f"{_AXES[field].split()[-1]}={rows[other][0][field]}"
        for field, other in zip(varied, varied[1:] + varied[:1], strict=True)
    ]
    title = "One gradient of a batch of episodes; writers side by side at each number"
    figure.suptitle(f"{title}\n{', '.join(fixed)}, but for what is varied; all axes logarithmic", size=10.5)
    panels.legend(figure, [*grid[0][0].get_lines(), *left_out])
    return figure


def _fill(
    axes: Axes, field: str, rows: Sequence[Mapping[str, Any]], quantity_of: Callable[[Mapping[str, Any]], float]
) -> None:
    """Draws one quantity of every writer, reversible and plain, against what is varied."""
    looks = style.styles(list(dict.fromkeys(row["writer"] for row in rows)))
    for i, (writer, look) in enumerate(looks.items()):
        for unroll, dashes in _DASHES.items():
            aside = 1.04 ** (2 * i - len(looks) + 1)  # Those that are equal shall not hide each other.
            points = [
                (row[field] * aside, quantity_of(row))
                for row in rows
                if (row["writer"], row["unroll"]) == (writer, unroll)
            ]
            line = panels.line_of(look._replace(label=f"{look.label}, {unroll}", dashes=dashes))
            axes.plot(*zip(*points, strict=True), **line)
    ends = np.array([min(row[field] for row in rows), max(row[field] for row in rows)])
    in_proportion = min(map(quantity_of, rows)) * ends / ends[0]
    axes.plot(ends, in_proportion, color=panels.REFERENCE_COLOR, linewidth=0.9, zorder=0, label="in proportion")


def measure_all() -> dict[str, list[Row]]:
    """Measures what the flags say."""
    lists = (_LENGTHS.value, _SIZES.value, _BATCHES.value, _HEADS.value)
    values = {field: [int(value) for value in strings] for field, strings in zip(_AXES, lists, strict=True)}
    sizes = (_NUM_STEPS.value, _BATCH.value, _SIZE.value, _NUM_LAYERS.value, _NUM_HEADS.value)
    base = Workload(_WRITERS.value[0], "reversible", "gradient", *sizes)
    return measure(base, _WRITERS.value, values, _REPEATS.value)


def main(argv: Sequence[str]) -> None:
    """Measures, draws and writes."""
    if len(argv) != 2:
        raise app.UsageError("wants one argument, the file of the figure")
    logging.set_verbosity(logging.WARNING)
    path = Path(argv[1])
    if not _REDRAW.value:
        results = {field: [row.to_json() for row in field_rows] for field, field_rows in measure_all().items()}
        path.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    draw(json.loads(path.with_suffix(".json").read_text())).savefig(path, dpi=150)


if __name__ == "__main__":
    app.run(main)

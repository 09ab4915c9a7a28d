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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags, logging
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
_DASHES = {"reversible": "-", "plain": "--"}
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
    """Draws time and memory, a column for what is varied, with logarithmic axes.

    Args:
      rows: what `measure` made, as in the file: for each field the rows in which it is varied.
    """
    figure = Figure((3.1 * len(rows), 6.2), layout="constrained")
    all_axes = figure.subplots(len(_QUANTITIES), len(rows), sharey="row", squeeze=False)
    for panel_row, (quantity, quantity_of) in zip(all_axes, _QUANTITIES.items(), strict=True):
        panel_row[0].set_ylabel(quantity)
        for axes, (field, field_rows) in zip(panel_row, rows.items(), strict=True):
            axes.set(xscale="log", yscale="log", xlabel=_AXES[field])
            writers = list(dict.fromkeys(row["writer"] for row in field_rows))
            for writer, look in style.styles(writers).items():
                for unroll, dashes in _DASHES.items():
                    points = [
                        (row[field], quantity_of(row))
                        for row in field_rows
                        if (row["writer"], row["unroll"]) == (writer, unroll)
                    ]
                    axes.plot(
                        *zip(*points, strict=True),
                        color=look.color,
                        marker=look.marker,
                        linestyle=dashes,
                        label=f"{look.label}, {unroll}",
                    )
            ticks = sorted({row[field] for row in field_rows})
            lowest = min(map(quantity_of, field_rows))
            axes.plot(ticks, [lowest * tick / ticks[0] for tick in ticks], color="0.7", zorder=0, label="in proportion")
            axes.set_xticks(ticks)
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            axes.xaxis.set_minor_locator(NullLocator())
            panels.plain_ticks(axes.yaxis)
            axes.spines[["top", "right"]].set_visible(False)
    # Each is at its usual value where another one is varied.
    varied = list(rows)
    fixed = [
        f"{_AXES[field].split()[-1]}={rows[other][0][field]}"
        for field, other in zip(varied, varied[1:] + varied[:1], strict=True)
    ]
    title = f"One gradient of a batch of episodes\n{', '.join(fixed)}, but for what is varied; all axes logarithmic"
    figure.suptitle(title, size=10.5)
    figure.legend(*all_axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    return figure


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

"""Figures and the table of capacity and forgetting, from what `capacity` measured. Needs matplotlib."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter
from matplotlib.typing import FillStyleType, LineStyleType

from mnm_jax.analysis import panels, style, tables
from mnm_jax.analysis.capacity import THRESHOLD, Curve, Measured

# In the colours of models that have no memory to measure.
_REFERENCES = {
    "delta_rule": style.KNOWN["modul"]._replace(label="Delta rule, linear", dashes=style.DASH_DOT_DOT),
    "outer_product": style.KNOWN["plastic"]._replace(label="Outer product, linear"),
}
_TABLES = ("salu", "ntm", "dnc", "attention")
# Here the dashes tell how a memory was used; those of a reference, of which there is one kind, are its own.
_KINDS: dict[str, tuple[str, LineStyleType | None, FillStyleType]] = {
    "trained": ("trained", style.SOLID, "full"),
    "own": ("trained, own pairs", style.DASH_DOT, "top"),
    "tuned": ("trained, best rate", style.DOTTED, "left"),
    "untrained": ("untrained, best rate", style.DASHED, "none"),
    "reference": ("", None, "full"),
}
# Lines of reference.
_CHANCE: dict[str, Any] = {"color": panels.REFERENCE_COLOR, "linestyle": (0, (1, 2)), "linewidth": 1.2}
_HELD: dict[str, Any] = {"color": "0.6", "linewidth": 0.8, "zorder": 0}
_FULL: dict[str, Any] = {"color": "0.6", "linestyle": (0, (4, 3)), "linewidth": 0.9, "zorder": 0}
_NUM_PHASES = 5
_WIDTH = 8.0  # Inches: that of a page.
_GAP = 1  # Lines between the memories of a figure with a line for each result.
_ERROR = "recall error (mean square;\n1: reads nothing)"
_FOUND = "share of pairs found\n(nearest of all stored values)"
_TICKS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


def name_of(result: Measured) -> str:
    """What a memory is called in tables and figures."""
    kind, *_ = _KINDS[result.kind]
    return f"{_look(result).label}, {kind}" if kind else _look(result).label


def to_markdown(results: Sequence[Measured]) -> str:
    """The table for people, and under it sentences that explain it."""
    header = (
        "memory",
        "weights",
        "pairs held (95% interval)",
        "pairs held per 1,000 weights",
        "floats of value held per float of memory",
        "most pairs found",
        "setting",
    )
    rows = [
        (
            name_of(result),
            f"{result.num_weights:,}",
            f"{_number(result, result.held[0])} ({result.held[1]:.1f} to {result.held[2]:.1f})",
            _number(result, result.held_per_thousand[0]),
            _number(result, result.load[0], ".2f"),
            f"{result.most[0]:.1f}",
            ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in result.setting.items()),
        )
        for result in sorted(results, key=_order)
    ]
    return f"{tables.to_markdown(header, rows)}\n{_explanation(results[0])}\n"


def _number(result: Measured, number: float, form: str = ".1f") -> str:
    is_least = result.held[0] >= result.max_pairs
    return f"{'at least ' if is_least else ''}{number:{form}}"


def _explanation(result: Measured) -> str:
    return (
        f"Each pair is written once. Held: up to so many random pairs, {THRESHOLD:.0%} of those stored are found, that "
        "is, of all values stored the right one is nearest to what its key reads; a memory that holds nothing has 1.1. "
        "Most pairs found: no more than these are found, however many are written. Weights: the floats that are read. "
        "Floats of memory: momentum, links and heads too. Best rate: of all tried the one that holds most of other "
        "pairs. Own pairs: the keys and values that the controller writes as it reads dictionaries of all the words "
        f"there are. {result.num_draws} draws for each seed."
    )


def to_csv(results: Sequence[Measured]) -> str:
    """The table for programs."""
    fields = (
        "model",
        "kind",
        "key_size",
        "value_size",
        "num_weights",
        "num_floats",
        "num_seeds",
        "num_draws",
        "max_pairs",
    )
    names = [f"{name}{end}" for name in ("held", "held_per_thousand", "load", "most") for end in ("", "_low", "_high")]
    rows = [
        [getattr(result, field) for field in fields]
        + [
            f"{number:.5g}"
            for name in ("held", "held_per_thousand", "load", "most")
            for number in getattr(result, name)
        ]
        + [" ".join(f"{name}={value:g}" for name, value in result.setting.items())]
        for result in sorted(results, key=_order)
    ]
    return tables.to_csv([*fields, *names, "setting"], rows)


def held(results: Sequence[Measured]) -> Figure:
    """Draws how many pairs each memory holds per 1,000 weights: the table as a figure."""
    groups: dict[str, list[Measured]] = {}
    for result in sorted(results, key=_order):
        groups.setdefault(_look(result).label, []).append(result)
    num_lines = len(results) + _GAP * len(groups)
    figure = Figure(figsize=(8, 0.17 * num_lines + 1.6), layout="constrained", dpi=150)
    axes = figure.subplots()
    top, middles = 0, []
    for group in groups.values():
        middles.append(top + (len(group) - 1) / 2)
        axes.axhline(middles[-1], color="0.92", linewidth=0.8, zorder=0)
        for row, result in enumerate(group, top):
            look, (mean, low, high) = _look(result), result.held_per_thousand
            axes.plot([low, high], [row] * 2, color=look.color, linewidth=1.6)
            axes.plot(mean, row, **_marker(result), markersize=6, linestyle="none")
            text = f"{_number(result, result.held[0], '.0f' if result.held[0] >= 10 else '.1f')}"
            axes.annotate(text, (high, row), (6, 0), textcoords="offset points", size=7, va="center", color="0.3")
        top += len(group) + _GAP
    axes.set_yticks(middles, list(groups))
    axes.set_ylim(top - _GAP, -1)
    axes.set_xscale("log", base=2)
    axes.margins(x=0.08)  # For the numbers beside the marks.
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set_xlabel("pairs held per 1,000 weights (logarithmic); beside each mark: pairs held")
    axes.grid(axis="x", color="0.92", linewidth=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    kinds = [kind for kind in _KINDS if kind != "reference" and any(result.kind == kind for result in results)]
    handles = [
        Line2D([], [], color="0.35", marker="o", linestyle="none", fillstyle=_KINDS[kind][2], label=_KINDS[kind][0])
        for kind in kinds
    ]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=8.5)
    _title(figure, f"Random pairs held after one write each, {THRESHOLD:.0%} of them found", results)
    return figure


def capacity(results: Sequence[Measured]) -> Figure:
    """Draws the recall of all pairs against their number."""
    columns = (("found", _FOUND), ("error", _ERROR))
    figure, grid = _draw_groups(results, columns, lambda result, field: result.curves[field], named=lambda *_: True)
    numbers = max(results, key=lambda result: result.max_pairs).curves["found"].x
    left_out = []
    for (above, below), group in zip(grid, _groups(results).values(), strict=True):
        above.plot(numbers, 1 / numbers, **_CHANCE)
        above.axhline(THRESHOLD, **_HELD)
        # For a square matrix, the width of its keys.
        for number in {result.num_weights / result.value_size for result in group if result.model not in _TABLES}:
            above.axvline(number, **_FULL)
        above.set_ylim(-0.03, 1.03)
        below.set_ylim(-0.05, 2.2)
        below.axhline(1, **_HELD)
        for axes in (above, below):
            _pairs_axis(axes, numbers)
            left_out += panels.name_ends(axes)
    references = {"chance": _CHANCE, f"{THRESHOLD:.0%}": _HELD, "floats of values as many as weights": _FULL}
    lines = [Line2D([], [], **line, label=name) for name, line in references.items()]
    panels.legend(figure, [*_kind_handles(results), *lines, *left_out])
    for axes in grid[-1]:
        axes.set_xlabel("pairs written, each once\n(logarithmic)", size=panels.SMALL)
    _title(figure, "Capacity: recall of random pairs against their number", results)
    return figure


def forgetting(results: Sequence[Measured]) -> Figure:
    """Draws how the first pair is forgotten, and how well each pair is remembered at the end."""
    longest = max(result.max_pairs for result in results)
    columns = (
        ("first_found", "The first pair,\nas others are written:\nshare of draws finding it"),
        ("first_error", "Its error\n(mean square;\n1: reads nothing)"),
        ("age_found", f"Every pair,\nafter {longest} were written:\nshare of draws finding it"),
    )

    def curve_of(result: Measured, field: str) -> Curve | None:
        curve = result.curves[field]
        if field == "age_found":
            return curve if result.max_pairs == longest else None
        return curve._replace(x=curve.x - 1)

    def named(result: Measured, field: str) -> bool:
        return field == ("age_found" if result.max_pairs == longest else "first_found")

    figure, grid = _draw_groups(results, columns, curve_of, named)
    left_out = []
    for row in grid:
        for axes, (field, _) in zip(row, columns, strict=True):
            _pairs_axis(axes, np.array([1, longest] if field == "age_found" else [0, longest - 1]))
            axes.set_ylim(*((-0.05, 2.2) if field == "first_error" else (-0.03, 1.03)))
            left_out += panels.name_ends(axes)
        row[1].axhline(1, **_HELD)
    for axes, what in zip(grid[-1], ("other pairs since", "other pairs since", "writes ago"), strict=True):
        axes.set_xlabel(f"{what}\n(logarithmic)", size=panels.SMALL)
    panels.legend(figure, [*_kind_handles(results), *left_out])
    _title(figure, "Forgetting: what is left of a pair as others are written over it", results)
    return figure


def overwriting(results: Sequence[Measured]) -> Figure:
    """Draws what becomes of a key's old and new value as it is written again, a panel for each memory."""
    old, new = style.series(["old value", "new value"])
    lines = {
        f"{name}_{when}": look._replace(label=f"{look.label}, {when}", dashes=dashes, marker=marker or look.marker)
        for name, look in (("old", old), ("new", new))
        for when, dashes, marker in (("before", style.DASHED, "none"), ("after", style.SOLID, None))
    }
    y_label = "distance of what the key reads\n(mean square)"
    figure, all_axes = _draw_small(results, lines, "pairs between (logarithmic)", y_label)
    longest = max(results, key=lambda result: result.max_pairs)
    for axes in all_axes:
        _pairs_axis(axes, longest.curves["old_before"].x)
        axes.set_ylim(-0.1, 3.2)
    _title(figure, "Overwriting: a key is written again with a new value, after other pairs were written", results)
    return figure


def interference(results: Sequence[Measured]) -> Figure:
    """Draws what two pairs with near keys do to each other, a panel for each memory."""
    labels = ["first pair: its error", "second pair: its error", "first key: distance from the second value"]
    lines = dict(zip(("first", "second", "confused"), style.series(labels), strict=True))
    figure, all_axes = _draw_small(results, lines, "cosine of the two keys", "mean square")
    for axes in all_axes:
        axes.set_xlim(-1.05, 1.05)
        axes.set_ylim(-0.1, 4.2)
        axes.axvline(0, color="0.85", linewidth=0.8, zorder=0)
    _title(figure, "Interference: two pairs with near keys, written one after the other", results)
    return figure


FIGURES: Mapping[str, Callable[[Sequence[Measured]], Figure]] = {
    "held": held,
    "capacity": capacity,
    "forgetting": forgetting,
    "overwriting": overwriting,
    "interference": interference,
}


def _draw_groups(
    results: Sequence[Measured],
    columns: Sequence[tuple[str, str]],
    curve_of: Callable[[Measured, str], Curve | None],
    named: Callable[[Measured, str], bool],
) -> tuple[Figure, np.ndarray]:
    """Draws a row for each group of memories.

    Args:
      results: all.
      columns: what to draw, and its title.
      curve_of: the curve, if there is one.
      named: whether the name of a memory is written at the end of this curve; `panels.name_ends` writes it.

    Returns:
      The figure, and its axes, `[G, C]`.
    """
    groups = _groups(results)
    figure = Figure(figsize=(_WIDTH, 1.9 * len(groups) + 1.9), layout="constrained", dpi=150)
    grid: np.ndarray = figure.subplots(len(groups), len(columns), squeeze=False)
    for row, (name, group) in zip(grid, groups.items(), strict=True):
        for axes, (field, _) in zip(row, columns, strict=True):
            for result in group:
                if (curve := curve_of(result, field)) is not None:
                    _plot(axes, curve, result, _name_in_group(result) if named(result, field) else "_")
            axes.tick_params(labelsize=panels.SMALL)
            panels.finish(axes)
        row[0].set_ylabel(name, size=9)
    for axes, (_, title) in zip(grid[0], columns, strict=True):
        axes.set_title(title, size=9)
    return figure, grid


def _kind_handles(results: Sequence[Measured]) -> list[Line2D]:
    """The legend's entries for how a memory was used."""
    kinds = [kind for kind in _KINDS if kind != "reference" and any(result.kind == kind for result in results)]
    plain = style.Style("", panels.REFERENCE_COLOR, "o")
    looks = [
        plain._replace(label=label, dashes=dashes or plain.dashes, fill=fill)
        for label, dashes, fill in (_KINDS[kind] for kind in kinds)
    ]
    return [Line2D([], [], **panels.line_of(look)) for look in looks]


def _draw_small(
    results: Sequence[Measured],
    lines: Mapping[str, style.Style],
    x_label: str,
    y_label: str,
    num_columns: int = 3,
) -> tuple[Figure, list[Axes]]:
    """Draws a panel for each memory, with the same lines in all."""
    shown = [result for result in sorted(results, key=_order) if result.kind != "tuned"]
    num_rows = math.ceil(len(shown) / num_columns)
    figure = Figure(figsize=(_WIDTH, 1.75 * num_rows + 1.6), layout="constrained", dpi=150)
    grid = figure.subplots(num_rows, num_columns, sharex=True, sharey=True, squeeze=False)
    all_axes = list(grid.flat)
    for axes, result in zip(all_axes, shown, strict=False):
        for i, (name, look) in enumerate(lines.items()):
            curve = result.curves[name]
            axes.fill_between(curve.x, curve.low, curve.high, color=look.color, alpha=0.18, linewidth=0)
            axes.plot(curve.x, curve.mean, **panels.line_of(look), markevery=panels.marks(i / len(lines)))
        kind, *_ = _KINDS[result.kind]
        axes.set_title(f"{_look(result).label}\n{kind}".rstrip(), size=panels.SMALL, loc="left")
        axes.tick_params(labelsize=panels.SMALL)
        axes.axhline(1, color="0.85", linewidth=0.8, zorder=0)
        panels.finish(axes)
    for axes in all_axes[len(shown) :]:
        axes.remove()
    for i, axes in enumerate(all_axes[: len(shown)]):
        if i + num_columns >= len(shown):
            axes.set_xlabel(x_label, size=panels.SMALL)
            axes.tick_params(labelbottom=True)
    grid[(num_rows - 1) // 2, 0].set_ylabel(y_label, size=panels.SMALL)
    panels.legend(figure, [Line2D([], [], **panels.line_of(look)) for look in lines.values()])
    return figure, all_axes[: len(shown)]


def _groups(results: Iterable[Measured]) -> dict[str, list[Measured]]:
    """Memories that are drawn together: all ways to use one, or else all to compare with."""
    groups: dict[str, list[Measured]] = {}
    for result in sorted(results, key=_order):
        name = "Linear memories\nand tables" if _is_to_compare(result) else _look(result).label
        groups.setdefault(name, []).append(result)
    return groups


def _name_in_group(result: Measured) -> str:
    return name_of(result) if _is_to_compare(result) else _KINDS[result.kind][0]


def _is_to_compare(result: Measured) -> bool:
    return result.model in (*_REFERENCES, *_TABLES)


def _order(result: Measured) -> tuple[bool, tuple[int, str], int]:
    return (_is_to_compare(result), style.order(result.model), list(_KINDS).index(result.kind))


def _look(result: Measured) -> style.Style:
    return _REFERENCES.get(result.model) or style.styles([result.model, *style.KNOWN])[result.model]


def _marker(result: Measured) -> dict[str, Any]:
    look = _look(result)
    return {"color": look.color, "marker": look.marker, "fillstyle": _KINDS[result.kind][2]}


def _plot(axes: Axes, curve: Curve, result: Measured, label: str) -> None:
    look = _look(result)
    axes.fill_between(curve.x, curve.low, curve.high, color=look.color, alpha=0.15, linewidth=0)
    _, dashes, fill = _KINDS[result.kind]
    line = panels.line_of(look._replace(label=label, dashes=dashes or look.dashes, fill=fill))
    # Some lie on each other: their markers do not.
    phase = style.order(result.model)[0] % _NUM_PHASES / _NUM_PHASES
    axes.plot(curve.x, curve.mean, **line, markevery=panels.marks(phase))


def _pairs_axis(axes: Axes, numbers: np.ndarray) -> None:
    """Numbers of pairs, logarithmic; below 1, where there may be none, linear."""
    smallest, largest = float(np.min(numbers)), float(np.max(numbers))
    if smallest < 1:
        axes.set_xscale("symlog", base=2, linthresh=1, linscale=0.6)
        axes.set_xlim(smallest - 0.25, largest * 1.15)
    else:
        axes.set_xscale("log", base=2)
    ticks = [tick for tick in _TICKS if smallest <= tick <= largest]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _title(figure: Figure, title: str, results: Sequence[Measured]) -> None:
    seeds = sorted({result.num_seeds for result in results})
    count = " to ".join(str(number) for number in dict.fromkeys((seeds[0], seeds[-1])))
    plural = "" if count == "1" else "s"
    figure.suptitle(
        f"{title}\n{count} seed{plural}, {results[0].num_draws} draws each; bands and bars: 95% bootstrap interval "
        "of the mean over seeds and draws",
        size=10.5,
    )

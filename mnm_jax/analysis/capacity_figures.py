"""Figures and the table of capacity and forgetting, from what `capacity` measured. Needs matplotlib."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter
from matplotlib.typing import FillStyleType, LineStyleType

from mnm_jax.analysis import panels, style, tables
from mnm_jax.analysis.capacity import THRESHOLD, Curve, Measured

_PAPER = ("mnm_p", "mnm_g")
_REFERENCES = {
    "delta_rule": style.Style("Delta rule, linear", "#404040", "p", style.DASH_DOT),
    "outer_product": style.Style("Outer product, linear", "#8C8C8C", "h", style.DASH_DOT_DOT),
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
_NUM_PHASES = 5
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
    groups = _groups(results)
    figure = Figure(figsize=(4.6 * len(groups) + 0.6, 8.4), layout="constrained", dpi=150)
    all_axes = figure.subplots(2, len(groups), sharex=True, sharey="row", squeeze=False)
    for column, (name, group) in enumerate(groups.items()):
        above, below = all_axes[:, column]
        for result in group:
            _plot(above, result.curves["found"], result)
            _plot(below, result.curves["error"], result)
        numbers = max(group, key=lambda result: result.max_pairs).curves["found"].x
        above.plot(numbers, 1 / numbers, color=panels.REFERENCE_COLOR, linestyle=(0, (1, 2)), linewidth=1.2)
        offset = {"xytext": (-3, -3), "textcoords": "offset points", "ha": "right", "va": "top"}
        above.annotate("chance", (2, 0.5), **offset, size=8, color=panels.REFERENCE_COLOR)
        above.axhline(THRESHOLD, color="0.6", linewidth=0.8, zorder=0)
        above.set_title(name, size=10)
        _mark_full(above, group)
        above.set_ylim(-0.03, 1.03)
        below.set_ylim(-0.05, 2.2)
        below.axhline(1, color="0.6", linewidth=0.8, zorder=0)
        _pairs_axis(below, numbers)
        below.set_xlabel("pairs written, each once (logarithmic)")
        _per_thousand_axis(above, group[0])
        _legend(below, [_handle(result) for result in group])
    all_axes[0, 0].set_ylabel(_FOUND)
    all_axes[1, 0].set_ylabel(_ERROR)
    _title(figure, "Capacity: recall of random pairs against their number", results)
    return figure


def forgetting(results: Sequence[Measured]) -> Figure:
    """Draws how the first pair is forgotten, and how well each pair is remembered at the end."""
    groups, longest = _groups(results), max(result.max_pairs for result in results)
    columns = (
        ("first_found", "The first pair, as others are written", "share of draws in which it is found"),
        ("first_error", "The same: its error", _ERROR),
        ("age_found", f"Every pair, after {longest} were written", "share of draws in which it is found"),
    )
    figure = Figure(figsize=(13.5, 3.9 * len(groups) + 0.8), layout="constrained", dpi=150)
    all_axes = figure.subplots(len(groups), len(columns), squeeze=False)
    for row, (name, group) in enumerate(groups.items()):
        for axes, (field, title, label) in zip(all_axes[row], columns, strict=True):
            shift = 1 if field != "age_found" else 0
            for result in group:
                if field == "age_found" and result.max_pairs < longest:
                    continue
                curve = result.curves[field]
                _plot(axes, curve._replace(x=curve.x - shift), result)
            axes.set_title(title if row == 0 else "", size=10)
            axes.set_ylabel(f"{name}\n{label}" if field == "first_found" else label)
            _pairs_axis(axes, np.array([1 - shift, longest - shift]))
            axes.set_ylim(*((-0.05, 2.2) if field == "first_error" else (-0.03, 1.03)))
            if field == "first_error":
                axes.axhline(1, color="0.6", linewidth=0.8, zorder=0)
            if row == len(groups) - 1:
                last = "writes ago (logarithmic)" if field == "age_found" else "other pairs written since (logarithmic)"
                axes.set_xlabel(last)
        all_axes[row, -1].legend(
            handles=[_handle(result) for result in group],
            loc="center left",
            bbox_to_anchor=(1.02, 0.5),
            frameon=False,
            fontsize=8.5,
            handlelength=3.5,
        )
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


def _draw_small(
    results: Sequence[Measured],
    lines: Mapping[str, style.Style],
    x_label: str,
    y_label: str,
    num_columns: int = 4,
) -> tuple[Figure, list[Axes]]:
    """Draws a panel for each memory, with the same lines in all."""
    shown = [result for result in sorted(results, key=_order) if result.kind != "tuned"]
    num_rows = math.ceil(len(shown) / num_columns)
    figure = Figure(figsize=(12, 2.5 * num_rows + 1.6), layout="constrained", dpi=150)
    grid = figure.subplots(num_rows, num_columns, sharex=True, sharey=True, squeeze=False)
    all_axes = list(grid.flat)
    for axes, result in zip(all_axes, shown, strict=False):
        for i, (name, look) in enumerate(lines.items()):
            curve = result.curves[name]
            axes.fill_between(curve.x, curve.low, curve.high, color=look.color, alpha=0.18, linewidth=0)
            axes.plot(curve.x, curve.mean, **panels.line_of(look), markevery=panels.marks(i / len(lines)))
        axes.set_title(name_of(result), size=9.5)
        axes.axhline(1, color="0.85", linewidth=0.8, zorder=0)
        _finish(axes)
    for axes in all_axes[len(shown) :]:
        axes.remove()
    for i, axes in enumerate(all_axes[: len(shown)]):
        if i + num_columns >= len(shown):
            axes.set_xlabel(x_label, size=9)
            axes.tick_params(labelbottom=True)
        if i % num_columns == 0:
            axes.set_ylabel(y_label, size=9)
    handles: list[Artist] = [Line2D([], [], **panels.line_of(look)) for look in lines.values()]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure, all_axes[: len(shown)]


def _groups(results: Iterable[Measured]) -> dict[str, list[Measured]]:
    """Memories that are drawn together."""
    groups: dict[str, list[Measured]] = {
        "Writers of the paper": [],
        "Other rules": [],
        "Linear memories and tables": [],
    }
    paper, rules, references = groups.values()
    for result in sorted(results, key=_order):
        if result.model in _PAPER:
            paper.append(result)
        elif result.model in (*_REFERENCES, *_TABLES):
            references.append(result)
        elif result.kind != "tuned":
            rules.append(result)
    return {name: group for name, group in groups.items() if group}


def _order(result: Measured) -> tuple[bool, tuple[int, str], int]:
    is_last = result.model in (*_REFERENCES, *_TABLES)
    return (is_last, style.order(result.model), list(_KINDS).index(result.kind))


def _look(result: Measured) -> style.Style:
    return _REFERENCES.get(result.model) or style.styles([result.model, *style.KNOWN])[result.model]


def _marker(result: Measured) -> dict[str, Any]:
    look = _look(result)
    return {"color": look.color, "marker": look.marker, "fillstyle": _KINDS[result.kind][2]}


def _line(result: Measured) -> dict[str, Any]:
    look = _look(result)
    _, dashes, fill = _KINDS[result.kind]
    return panels.line_of(look._replace(label=name_of(result), dashes=dashes or look.dashes, fill=fill))


def _plot(axes: Axes, curve: Curve, result: Measured) -> None:
    axes.fill_between(curve.x, curve.low, curve.high, color=_look(result).color, alpha=0.15, linewidth=0)
    # Some lie on each other: their markers do not.
    phase = style.order(result.model)[0] % _NUM_PHASES / _NUM_PHASES
    axes.plot(curve.x, curve.mean, **_line(result), markevery=panels.marks(phase))
    _finish(axes)


def _handle(result: Measured) -> Line2D:
    return Line2D([], [], **_line(result))


def _legend(axes: Axes, handles: Sequence[Artist]) -> None:
    axes.legend(
        handles=list(handles),
        loc="upper center",
        bbox_to_anchor=(0.5, -0.17),
        frameon=False,
        fontsize=8.5,
        handlelength=3.5,
    )


def _finish(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.93", linewidth=0.8)
    axes.set_axisbelow(True)


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


def _mark_full(axes: Axes, group: Sequence[Measured]) -> None:
    """Marks where the values have as many floats as there are weights: for a square matrix, the width of its keys."""
    written = [result for result in group if result.model not in _TABLES]
    for number in sorted({result.num_weights / result.value_size for result in written if result.kind != "untrained"}):
        axes.axvline(number, color="0.6", linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
        # Where there are no curves.
        found = [np.interp(number, curve.x, curve.mean) for curve in (result.curves["found"] for result in written)]
        is_low = np.mean(found) > 0.5
        y, anchor = (0.01, "bottom") if is_low else (1, "top")
        text = f"{number:.0f}: floats of values\nas many as weights"
        axes.text(number * 1.04, y, text, rotation="vertical", size=6.5, color="0.4", va=anchor)


def _per_thousand_axis(axes: Axes, result: Measured) -> None:
    scale = 1000 / result.num_weights
    top = axes.secondary_xaxis("top", functions=(lambda x: np.multiply(x, scale), lambda x: np.divide(x, scale)))
    ticks = [tick for tick in (0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256) if 1 <= tick / scale <= axes.get_xlim()[1]]
    top.xaxis.set_major_locator(FixedLocator(ticks))
    top.xaxis.set_minor_locator(NullLocator())
    top.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    top.set_xlabel(f"pairs per 1,000 weights ({result.num_weights:,})", size=8.5)
    top.tick_params(labelsize=8)


def _title(figure: Figure, title: str, results: Sequence[Measured]) -> None:
    seeds = sorted({result.num_seeds for result in results})
    count = " to ".join(str(number) for number in dict.fromkeys((seeds[0], seeds[-1])))
    plural = "" if count == "1" else "s"
    figure.suptitle(
        f"{title}\n{count} seed{plural}, {results[0].num_draws} draws each; bands and bars: 95% bootstrap interval "
        "of the mean over seeds and draws",
        size=10.5,
    )

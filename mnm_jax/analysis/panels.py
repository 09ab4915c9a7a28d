"""Charts of curves over seeds: together in one panel, or a panel for each model where too many lie on each other.

Axes: `S` seeds, `X` points on the horizontal axis.
"""

import itertools
import math
import textwrap
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, Formatter, LogLocator, MaxNLocator, NullLocator, StrMethodFormatter
from matplotlib.typing import LineStyleType

from mnm_jax.analysis import style

CONFIDENCE = 0.95
REFERENCE_COLOR = "0.35"
REFERENCE_DASHES: tuple[LineStyleType, ...] = (":", "--", "-.")
SMALL = 8.5
"""Size of the text beside lines, in points."""

_NUM_RESAMPLES = 2000
# How the other curves of a crowded chart are drawn behind the one that a panel is about.
_BACKGROUND: dict[str, Any] = {"color": "0.8", "linewidth": 0.9, "zorder": 1}
_MOST_TOGETHER = 6  # So many models can be told apart in one panel.
_NUM_COLUMNS = 3
_UNEQUAL = 3.0  # If the longest curve is so many times as long as the shortest, their axis is logarithmic.
_MARKER_DISTANCE = 0.15  # In diagonals of the panel.
_LINE_SPACING = 1.3  # Of the names beside a panel, in their size.
_LONGEST_NAME = 26  # Characters; longer names are broken.
_CHARACTER = 0.6 * SMALL / 72  # How wide one is, about, in inches.
_MARGIN = 0.93  # In widths of the panel: what ends beyond is named in the margin.


class Curve(NamedTuple):
    """One quantity of one model.

    Attributes:
      look: how it is drawn, and its name.
      x: `[X]`.
      values: `[S, X]`.
      before: `[S, X]`, the same before the memory was written, drawn as a thin line; `None` if there is no such thing.
    """

    look: style.Style
    x: np.ndarray
    values: np.ndarray
    before: np.ndarray | None = None


class Chart(NamedTuple):
    """One quantity of all models.

    Attributes:
      curves: of the models that have it.
      prepare: given axes with the curves in them, sets what they need but for the horizontal axis: the scale and the
        limits of the vertical one, lines of reference.
      label: of the vertical axis.
      levels: horizontal lines of reference by name.
      show_seeds: whether each seed has a thin line of its own.
    """

    curves: Sequence[Curve]
    prepare: Callable[[Axes], object]
    label: str
    levels: Mapping[str, float] = types.MappingProxyType({})
    show_seeds: bool = True


class _End(NamedTuple):
    """Where a line ends, in its data, and what is written there."""

    name: str
    point: tuple[float, float]
    color: str
    handle: Line2D  # For the legend.


def mean_and_band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean over seeds, and where it might as well have been with other seeds.

    The band goes from the 2.5th to the 97.5th percentile of `mean_s v_{i(s)}` over draws `i` of `S` seeds with
    replacement (the percentile bootstrap). The draws are the same at every call and every point.

    Args:
      values: `v`, `[S, X]`.

    Returns:
      The mean and the lower and upper end of the band, each `[X]`. With a single seed, or where a value is not finite,
      both ends are the mean.

    Raises:
      ValueError: if `values` is not of shape `[S, X]` with at least one seed.
    """
    values = np.asarray(values, float)
    if values.ndim != 2 or not len(values):
        raise ValueError(f"argument 'values': wants shape [S, X] with at least one seed, got {values.shape}")
    mean = values.mean(axis=0)
    low, high = mean.copy(), mean.copy()
    is_finite = np.isfinite(values).all(axis=0)
    if len(values) > 1 and is_finite.any():
        import scipy.stats  # Here, for it takes a third of a second, and most programs draw nothing at first.

        interval = scipy.stats.bootstrap(
            (values[:, is_finite],),
            np.mean,
            n_resamples=_NUM_RESAMPLES,
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
        low[is_finite], high[is_finite] = interval.low, interval.high
    return mean, low, high


def is_crowded(charts: Sequence[Chart]) -> bool:
    """Whether the charts are too many models for one panel."""
    return max(len(chart.curves) for chart in charts) > _MOST_TOGETHER


def draw(charts: Sequence[Chart], width: float = 8.0) -> tuple[Figure, list[list[Axes]]]:
    """Draws charts under each other, with one horizontal axis: its scale is for the caller to set.

    Args:
      charts: at least one.
      width: of the figure, in inches.

    Returns:
      The figure, and the axes of each chart: one with all curves in it and their names at the ends; or, if a chart is
      crowded, one for each curve, with the others in grey behind it. The names at the ends come with `name_ends`.
    """
    crowded = is_crowded(charts)
    num_columns = _NUM_COLUMNS if crowded else 1
    num_rows = [math.ceil(len(chart.curves) / num_columns) if crowded else 1 for chart in charts]
    height = 1.75 * sum(num_rows) + 1.2 if crowded else 2.8 * sum(num_rows) + 1.5
    figure = Figure(figsize=(width, height), layout="constrained", dpi=150)
    grid = figure.add_gridspec(sum(num_rows), num_columns)
    panels: list[list[Axes]] = []
    for i, chart in enumerate(charts):
        own: list[Axes] = []
        for k in range(len(chart.curves) if crowded else 1):
            row, column = divmod(k, num_columns)
            place = grid[sum(num_rows[:i]) + row, column]
            axes = figure.add_subplot(
                place, sharex=panels[0][0] if panels else (own[0] if own else None), sharey=own[0] if own else None
            )
            _fill(axes, chart, k if crowded else None)
            is_lowest = k + num_columns >= len(chart.curves) or not crowded
            axes.tick_params(labelbottom=is_lowest and (crowded or i == len(charts) - 1), labelleft=column == 0)
            axes.yaxis.label.set_fontsize(SMALL if crowded else 10)
            if column == 0 and row == (num_rows[i] - 1) // 2:
                axes.set_ylabel(chart.label)
            own.append(axes)
        for axes in own:  # When all are filled, for they share their limits.
            chart.prepare(axes)
        panels.append(own)
    return figure, panels


def name_horizontal_axis(panels: Sequence[Sequence[Axes]], label: str) -> None:
    """Names the horizontal axis of what `draw` made: once, under the middle of the last row."""
    last_row = panels[-1][(len(panels[-1]) - 1) // _NUM_COLUMNS * _NUM_COLUMNS :]
    axes = last_row[len(last_row) // 2]
    axes.set_xlabel(label, size=axes.yaxis.label.get_fontsize())


def _fill(axes: Axes, chart: Chart, highlighted: int | None) -> None:
    """Draws a chart into axes: all curves, or one of them before the others in grey."""
    for i, curve in enumerate(chart.curves):
        if highlighted in (None, i):
            phase = i / len(chart.curves) if highlighted is None else 0.0
            plot_seeds(axes, curve.x, curve.values, curve.look, show_each=chart.show_seeds, phase=phase)
            if curve.before is not None:
                thin = line_of(curve.look) | {"linewidth": 0.9, "marker": "none", "label": "_"}
                axes.plot(curve.x, np.mean(curve.before, axis=0), **thin)
        else:
            axes.plot(curve.x, np.mean(curve.values, axis=0), **_BACKGROUND)
    draw_levels(axes, chart.levels)
    if highlighted is not None:
        axes.set_title(chart.curves[highlighted].look.label, size=SMALL, loc="left")
        axes.tick_params(labelsize=SMALL)
    finish(axes)


def background_handle() -> Line2D:
    """The legend's entry for what is grey in a panel of a crowded chart."""
    return Line2D([], [], **_BACKGROUND, label="other models' means")


def draw_levels(axes: Axes, levels: Mapping[str, float]) -> None:
    """Draws horizontal lines of reference; `name_ends` names them."""
    for level, dashes in zip(levels.values(), itertools.cycle(REFERENCE_DASHES), strict=False):
        axes.axhline(level, color=REFERENCE_COLOR, linestyle=dashes, linewidth=1.2, zorder=1)


def level_handles(levels: Mapping[str, float]) -> list[Line2D]:
    """The legend's entries for what `draw_levels` draws."""
    return [
        Line2D([], [], color=REFERENCE_COLOR, linestyle=dashes, label=f"{name} ({level:.3g})")
        for (name, level), dashes in zip(levels.items(), itertools.cycle(REFERENCE_DASHES), strict=False)
    ]


def plot_seeds(
    axes: Axes, x: np.ndarray, values: np.ndarray, look: style.Style, *, show_each: bool = False, phase: float = 0.0
) -> None:
    """Draws one quantity of one model, `[S, X]`: the mean over seeds with its band, perhaps each seed; see `marks`."""
    mean, low, high = mean_and_band(values)
    if len(values) > 1:
        axes.fill_between(x, low, high, color=look.color, alpha=0.15, linewidth=0)
        if show_each:
            axes.plot(x, values.T, color=look.color, linewidth=0.5, alpha=0.5)
    axes.plot(x, mean, **line_of(look), markevery=marks(phase) if len(x) > 1 else None)


def marks(phase: float) -> tuple[float, float]:
    """Which points have markers, for matplotlib: some, equally far apart in the panel on any scale.

    Args:
      phase: 0 to 1, how far the first is from the start. With different ones for curves that lie on each other, their
        markers do not.
    """
    return (_MARKER_DISTANCE * phase, _MARKER_DISTANCE)


def line_of(look: style.Style) -> dict[str, Any]:
    """How matplotlib shall draw a look as a line, and its entry in the legend."""
    return {
        "color": look.color,
        "linestyle": look.dashes,
        "linewidth": 1.6,
        "marker": look.marker,
        "markersize": 4.5,
        "fillstyle": look.fill,
        "label": look.label,
    }


def name_ends(axes: Axes, levels: Mapping[str, float] = types.MappingProxyType({})) -> list[Line2D]:
    """Writes the names of the labelled lines at their ends, and those of levels beside the panel.

    Lines that end where the panel does are named in the margin; the others to the right of where they end. Names in one
    column are at least a line apart. Call it when the limits of the axes are final.

    Args:
      axes: with lines as `line_of` makes them, and `draw_levels`.
      levels: of horizontal lines, by name.

    Returns:
      The entries for `legend` of the names that there was no room for.
    """
    width, height = _inches(axes)
    gap = _LINE_SPACING * SMALL / 72 / height
    to_fraction = axes.transData + axes.transAxes.inverted()
    ends = []
    for line in axes.get_lines():
        points = np.asarray(line.get_xydata())
        points = points[np.isfinite(points).all(axis=1)]
        if not str(line.get_label()).startswith("_") and len(points):
            x, y = points[-1]
            color = style.shade(to_hex(line.get_color()), 0.8)
            ends.append(_End(str(line.get_label()), (x, y), color, line))
    edge = axes.get_xlim()[1]
    for handle, level in zip(level_handles(levels), levels.values(), strict=True):
        ends.append(_End(str(handle.get_label()), (edge, level), REFERENCE_COLOR, handle))
    leader: dict[str, Any] = {"arrowstyle": "-", "linewidth": 0.6, "relpos": (0, 0.5), "shrinkA": 1, "shrinkB": 1}
    placed = [(end, *to_fraction.transform(end.point)) for end in ends]
    left_out: list[Line2D] = []
    for column in _columns(placed, _CHARACTER / width):
        across = max(across for _, across, _ in column)
        place = 1.045 if across > _MARGIN else across + 0.03
        names = [textwrap.fill(end.name, _LONGEST_NAME) for end, *_ in column]
        sizes = [gap * (1 + name.count("\n")) for name in names]
        if sum(sizes) > 1 + gap:
            left_out += [end.handle for end, *_ in column]
            continue
        heights = spread([height for *_, height in column], sizes)
        for (end, *_), name, height in zip(column, names, heights, strict=True):
            axes.annotate(
                name,
                end.point,
                (place, height),
                xycoords="data",
                textcoords="axes fraction",
                va="center",
                size=SMALL,
                color=end.color,
                path_effects=[withStroke(linewidth=2.5, foreground="white")],
                arrowprops=leader | {"color": end.color},
                annotation_clip=False,
                zorder=5,
            )
    return left_out


def _inches(axes: Axes) -> tuple[float, float]:
    """How wide and how high a panel will be, about: it is laid out, with titles and legend, when it is drawn."""
    figure = axes.get_figure()
    assert figure is not None
    width, height = axes.bbox.width / figure.dpi, axes.bbox.height / figure.dpi
    grid = axes.get_gridspec()
    if not isinstance(grid, GridSpec):  # Placed by hand, or in a grid within a grid.
        return width, height
    # 1.9: title and legend, about; in a small figure they take less. 0.6: the panels' share of the width, about.
    rows_height = figure.bbox.height / figure.dpi - 1.9
    return 0.6 * figure.bbox.width / figure.dpi / grid.ncols, max(rows_height / grid.nrows, height / 2)


def _columns(placed: Sequence[tuple[_End, float, float]], character: float) -> list[list[tuple[_End, float, float]]]:
    """Ends whose names would lie on each other, if not one below the other; each list is ascending.

    Args:
      placed: for each end where it is, in widths and heights of the panel.
      character: how wide a character is, in widths of the panel.
    """
    columns: list[list[tuple[_End, float, float]]] = []
    taken = -math.inf  # So far across there are names.
    for entry in sorted(placed, key=lambda entry: entry[1]):
        end, across, _ = entry
        if across > taken and not (columns and columns[-1][-1][1] > _MARGIN):
            columns.append([])
        columns[-1].append(entry)
        taken = max(taken, across + character * len(end.name))
    return [sorted(column, key=lambda entry: entry[2]) for column in columns]


def spread(heights: Sequence[float], sizes: Sequence[float]) -> np.ndarray:
    """Moves ascending heights in 0 to 1 as little as possible, in the mean square, so that none overlap.

    Args:
      heights: of the middles.
      sizes: how high each is.
    """
    if not len(heights):
        return np.zeros(0)
    import scipy.optimize  # Here, as in `mean_and_band`.

    apart = np.add(sizes[1:], sizes[:-1]) / 2
    steps = np.concatenate([[0.0], np.cumsum(apart)])
    moved = scipy.optimize.isotonic_regression(np.asarray(heights, float) - steps).x
    result: np.ndarray = np.clip(moved, 0, max(0.0, 1 - steps[-1])) + steps
    return result


def legend(figure: Figure, handles: Iterable[Artist]) -> None:
    """Explains lines and patches below all panels; of several with one label, the first."""
    by_label: dict[object, Artist] = {}
    for handle in handles:
        by_label.setdefault(handle.get_label(), handle)
    if first := list(by_label.values()):
        figure.legend(handles=first, loc="outside lower center", ncols=3, frameon=False, handlelength=4, fontsize=SMALL)


def finish(axes: Axes) -> None:
    """What all panels have in common."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)


def plain_ticks(axis: Axis) -> None:
    """Gives a logarithmic axis ticks that are read as plain numbers: 1, 2 and 5 of each decade, or some in between."""
    low, high = sorted(axis.get_view_interval())
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high > 10 * low else MaxNLocator(5))
    if high > 1000 * low:
        axis.set_major_locator(LogLocator())
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))


def training_axis(axes: Axes, xs: Sequence[np.ndarray], formatter: Formatter | None = None) -> str:
    """Makes the horizontal axis that of training, from 0 on; logarithmic if some were much longer than others.

    Args:
      axes: those with the axis, or one of those that share it.
      xs: of each curve the points, ascending.
      formatter: of the numbers; `None` for whole ones.

    Returns:
      What to add to the name of the axis.
    """
    longest = max(1.0, *(float(x[-1]) for x in xs))  # 1: a training may have been evaluated only before it began.
    shortest = min(float(x[-1]) for x in xs)
    formatter = formatter or StrMethodFormatter("{x:,.0f}")
    if longest <= _UNEQUAL * shortest or not shortest:
        grid = axes.get_gridspec()
        few = 3 if grid is not None and grid.ncols > 1 else 6
        axes.xaxis.set_major_locator(MaxNLocator(few, integer=True, steps=(1, 2, 5, 10)))
        axes.xaxis.set_major_formatter(formatter)
        axes.set_xlim(-0.02 * longest, 1.02 * longest)
        return ""
    first = min(float(x[x > 0][0]) for x in xs)
    axes.set_xscale("symlog", linthresh=first, linscale=0.4)
    decades = range(math.floor(math.log10(first)), math.ceil(math.log10(longest)) + 1)
    steps = [step * 10.0**decade for decade in decades for step in ((1, 2, 5) if longest < 100 * first else (1,))]
    axes.xaxis.set_major_locator(FixedLocator([0.0, *(step for step in steps if first <= step <= longest)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(formatter)
    axes.set_xlim(-0.1 * first, 1.1 * longest)
    return ", logarithmic"

"""Charts of curves over seeds: together in one panel, or a panel for each model where too many lie on each other.

Axes: `S` seeds, `X` points on the horizontal axis.
"""

import math
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.optimize
import scipy.stats
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
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
_MOST_TOGETHER = 6  # So many models can be told apart in one panel.
_NUM_COLUMNS = 3
_UNEQUAL = 3.0  # If the longest curve is so many times as long as the shortest, their axis is logarithmic.
_MARKER_DISTANCE = 0.15  # In diagonals of the panel.
_LINE_SPACING = 1.3  # Of the names beside a panel, in their size.


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
        panels.append(own)
    return figure, panels


def name_horizontal_axis(panels: Sequence[Sequence[Axes]], label: str) -> None:
    """Names the horizontal axis of what `draw` made: once, under the middle column, where it has room on both sides."""
    *_, axes = panels[-1][1::_NUM_COLUMNS] or panels[-1]
    axes.set_xlabel(label, size=axes.yaxis.label.get_fontsize())


def _fill(axes: Axes, chart: Chart, highlighted: int | None) -> None:
    """Draws a chart into axes: all curves, or one of them before the others in grey."""
    for i, curve in enumerate(chart.curves):
        if highlighted in (None, i):
            phase = i / len(chart.curves) if highlighted is None else 0.0
            plot_seeds(axes, curve.x, curve.values, curve.look, show_each=chart.show_seeds, phase=phase)
            if curve.before is not None:
                thin = line_of(curve.look) | {"linewidth": 0.9, "marker": "none"}
                axes.plot(curve.x, np.mean(curve.before, axis=0), **thin)
        else:
            axes.plot(curve.x, np.mean(curve.values, axis=0), color="0.8", linewidth=0.9, zorder=1)
    dashes = dict(zip(chart.levels, REFERENCE_DASHES, strict=False))
    for name, level in chart.levels.items():
        axes.axhline(level, color=REFERENCE_COLOR, linestyle=dashes[name], linewidth=1.2, zorder=1)
    chart.prepare(axes)
    if highlighted is not None:
        axes.set_title(chart.curves[highlighted].look.label, size=SMALL, loc="left")
        axes.tick_params(labelsize=SMALL)
    finish(axes)


def plot_seeds(
    axes: Axes, x: np.ndarray, values: np.ndarray, look: style.Style, *, show_each: bool = False, phase: float = 0.0
) -> None:
    """Draws one quantity of one model, `[S, X]`: the mean over seeds with its band, perhaps each seed; see `marks`."""
    mean, low, high = mean_and_band(values)
    if len(values) > 1:
        axes.fill_between(x, low, high, color=look.color, alpha=0.15, linewidth=0)
        if show_each:
            axes.plot(x, values.T, color=look.color, linewidth=0.5, alpha=0.5)
    axes.plot(x, mean, **line_of(look), markevery=marks(phase))


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


def name_ends(axes: Axes, chart: Chart) -> None:
    """Writes the names of the curves at their ends, and those of the levels beside the panel.

    Curves that end where the panel does are named in the margin, at least a line apart; the others where they end. What
    there is no room for in the margin is left to the legend. Call it when the limits of the axes are final.
    """
    figure, grid = axes.get_figure(), axes.get_gridspec()
    assert isinstance(figure, Figure)  # As `draw` made them.
    assert isinstance(grid, GridSpec)
    inches = (figure.get_figheight() - 1.9) / grid.nrows  # 1.9: title and legend, about.
    gap = _LINE_SPACING * SMALL / 72 / inches
    to_fraction = axes.transData + axes.transAxes.inverted()
    margin: list[tuple[str, float, float, float, str]] = []
    for curve in chart.curves:
        finite = np.flatnonzero(np.isfinite(np.mean(curve.values, axis=0)))
        if not len(finite):
            continue
        x, y = float(curve.x[finite[-1]]), float(np.mean(curve.values, axis=0)[finite[-1]])
        color = style.shade(curve.look.color, 0.8)
        name = curve.look.label
        across, height = to_fraction.transform((x, y))
        if across > 0.93:
            margin.append((name, x, y, height, color))
        else:
            halo = [withStroke(linewidth=2.5, foreground="white")]
            axes.annotate(
                name,
                (x, y),
                (5, 0),
                textcoords="offset points",
                va="center",
                size=SMALL,
                color=color,
                path_effects=halo,
                zorder=5,
            )
    for name, level in chart.levels.items():
        edge = axes.get_xlim()[1]
        height = to_fraction.transform((edge, level))[1]
        margin.append((f"{name} ({level:.3g})", edge, level, height, REFERENCE_COLOR))
    if len(margin) * gap > 1 + gap:
        return
    margin.sort(key=lambda entry: entry[3])
    for (name, x, y, _, color), height in zip(margin, spread([entry[3] for entry in margin], gap), strict=True):
        axes.annotate(
            name,
            (x, y),
            (1.045, height),
            xycoords="data",
            textcoords="axes fraction",
            va="center",
            size=SMALL,
            color=color,
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 1},
            annotation_clip=False,
        )


def spread(heights: Sequence[float], gap: float) -> np.ndarray:
    """Moves ascending heights in 0 to 1 as little as possible, in the mean square, so that they are `gap` apart."""
    steps = gap * np.arange(len(heights))
    moved = scipy.optimize.isotonic_regression(np.asarray(heights, float) - steps).x if len(heights) else steps
    apart: np.ndarray = np.clip(moved, 0, max(0.0, 1 - gap * (len(heights) - 1))) + steps
    return apart


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

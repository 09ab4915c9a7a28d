"""What a memory was asked for, and what was in it: similarities of keys and of values within one episode.

Axes: `T` time steps, `H` heads, `R` reads, `K` features of a key or a value.
"""

import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from mnm_jax.analysis import style

FIELDS = ("labels", "read_keys", "write_keys", "read_values", "write_values")
WRITE_FIELDS = ("rate", "error_before", "error_after")

# Title, the rows' field, the columns' field, whether a step is compared with itself.
_PANELS = (
    ("Read key against earlier write keys", "read_keys", "write_keys", True),
    ("Read value against earlier write values", "read_values", "write_values", True),
    ("Write key against earlier write keys", "write_keys", "write_keys", False),
    ("Write value against earlier write values", "write_values", "write_values", False),
)

_WIDTH = 8.0  # Inches: that of a page.
_PANEL_INCHES = 3.2
_LABEL_POINTS = 5.4  # So large that it is read in print; where the steps are closer, some have no label.


def cosine_similarity(
    rows: np.ndarray, columns: np.ndarray, *, include_same_step: bool, to_nearest: bool = False
) -> np.ma.MaskedArray:
    """Compares what happened at each step with what was written before.

    `s_tu = mean_h cos(a_th, b_uh)`, the mean over heads of each head's own similarity, or, to the nearest,
    `s_tu = mean_r max_h cos(a_tr, b_uh)`, where reads do not belong to heads; a vector of zeros has similarity 0 to
    anything.

    Args:
      rows: `a`, `[T, H, K]`, the later side; `[T, R, K]` to the nearest.
      columns: `b`, `[T, H, K]`, the earlier side.
      include_same_step: whether `s_tt` counts as earlier. It does for reads, because a step reads the memory that it
        has just written.
      to_nearest: whether each vector of a row counts with that of a column which it resembles most.

    Returns:
      `[T, T]` in -1 to 1, masked where `u > t`, and where `u = t` unless `include_same_step`.

    Raises:
      ValueError: if the arrays are not of one shape `[T, H, K]`, which to the nearest may differ in `H`.
    """
    rows, columns = np.asarray(rows, float), np.asarray(columns, float)
    compared = (0, 2) if to_nearest else (0, 1, 2)
    if rows.ndim != 3 or columns.ndim != 3 or any(rows.shape[i] != columns.shape[i] for i in compared):
        wanted = "[T, R, K] and [T, H, K]" if to_nearest else "one shape [T, H, K]"
        raise ValueError(f"arguments 'rows' and 'columns': want {wanted}, got {rows.shape} and {columns.shape}")
    rows, columns = _normalize(rows), _normalize(columns)
    similarity: np.ndarray
    if to_nearest:
        similarity = np.einsum("trk,uhk->turh", rows, columns).max(axis=-1).mean(axis=-1)
    else:
        similarity = np.einsum("thk,uhk->tu", rows, columns) / rows.shape[1]
    is_later = np.triu(np.ones(similarity.shape, bool), k=1 if include_same_step else 0)
    return np.ma.masked_array(np.clip(similarity, -1, 1), is_later)


def resemblance(vector: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Compares one step with others: a row of `cosine_similarity`, without the whole of it.

    Args:
      vector: `[H, K]`.
      others: `[U, H, K]`.

    Returns:
      `[U]` in -1 to 1.
    """
    cosines: np.ndarray = np.einsum(
        "hk,uhk->u", _normalize(np.asarray(vector, float)), _normalize(np.asarray(others, float))
    )
    return np.clip(cosines / len(vector), -1, 1)


def _normalize(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    directions: np.ndarray = vectors / np.where(norms > 0, norms, 1)
    return directions


def figure(
    episode: Mapping[str, np.ndarray], title: str, *, show_writes: bool = False, is_chained: bool = False
) -> Figure:
    """Draws the similarities of one episode, in four panels.

    Args:
      episode: `labels`, `[T]`, what was read at each step; `write_keys`, `read_keys`, `write_values` and `read_values`,
        each `[T, H, K]`. To show the writes, also `rate`, `[T, ...]`, and `error_before` and `error_after`, each `[T]`.
      title: the first line of the title.
      show_writes: whether to draw under the panels how strongly each step wrote, and how well.
      is_chained: whether it is an episode of `cells.ChainedMNM`. Its reads, `[T, R, K]`, do not belong to heads, and
        each counts with the nearest write; and what a step decides is written as the next one begins, so that it is
        drawn where it was decided, and a step does not read it yet.

    Returns:
      The figure, as wide as a page.

    Raises:
      ValueError: if the episode lacks one of the arrays, or they are of other shapes.
    """
    fields = FIELDS + WRITE_FIELDS * show_writes
    missing = [name for name in fields if name not in episode]
    if missing:
        raise ValueError(f"argument 'episode': wants the arrays {', '.join(fields)}; {', '.join(missing)} missing")
    if is_chained:
        written = ("write_keys", "write_values", *WRITE_FIELDS)
        episode = {name: _one_earlier(array) if name in written else array for name, array in episode.items()}
    # A space would be an invisible label.
    labels = [str(label) if str(label).strip() else "\N{OPEN BOX}" for label in episode["labels"]]
    num_heads = episode["write_keys"].shape[1]
    heights = [_PANEL_INCHES, _PANEL_INCHES] + [0.8, 1.3] * show_writes
    beside = 2.7 if max(map(len, labels)) == 1 else 4.1  # Titles, names and the bar; words need more than characters.
    layout = ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.06)
    drawing = Figure(figsize=(_WIDTH, sum(heights) + beside), layout=layout, dpi=150)
    heads = "" if num_heads == 1 else f", mean over {num_heads} heads"
    if is_chained:
        heads = f"\nreads: mean over {episode['read_keys'].shape[1]}, each with the nearest of {num_heads} writes"
        heads += f"; writes: mean over {num_heads} heads" * (num_heads > 1)
    drawing.suptitle(f"{title}\nCosine similarity of a step (row) with the steps before it (column){heads}", size=10.5)
    grid = drawing.add_gridspec(len(heights), 2, height_ratios=heights)
    panels = [drawing.add_subplot(grid[row, column]) for row in (0, 1) for column in (0, 1)]
    for axes, (name, rows, columns, include_same_step) in zip(panels, _PANELS, strict=True):
        values = cosine_similarity(
            episode[rows],
            episode[columns],
            include_same_step=include_same_step and not is_chained,
            to_nearest=is_chained and rows != columns,
        )
        image = axes.imshow(values, cmap=matplotlib.colormaps["RdBu_r"], vmin=-1, vmax=1, interpolation="nearest")
        axes.set_facecolor("0.88")  # What is masked: no step to compare with.
        axes.set_title(name, size=9)
        axes.set_xlabel(f"{_quantity(columns)} of the earlier step", size=8.5)
        axes.set_ylabel(f"{_quantity(rows)} of the step", size=8.5)
        _label_steps(axes.xaxis, labels, _PANEL_INCHES)
        _label_steps(axes.yaxis, labels, _PANEL_INCHES)
    bar = drawing.colorbar(image, ax=panels, location="bottom", shrink=0.4, aspect=40)
    bar.set_label("cosine similarity; at the axes: what was read at the step", size=8.5)
    bar.ax.tick_params(labelsize=8)
    if show_writes:
        rate_axes = drawing.add_subplot(grid[2, :])
        error_axes = drawing.add_subplot(grid[3, :], sharex=rate_axes)
        _draw_writes(rate_axes, error_axes, episode)
        _label_steps(error_axes.xaxis, labels, 2 * _PANEL_INCHES)
        error_axes.set_xlabel("step (what was read)", size=8.5)
    return drawing


def _one_earlier(array: np.ndarray) -> np.ndarray:
    """What the next step did, at each step; not a number at the last one."""
    return np.concatenate([array[1:], np.full_like(array[:1], np.nan, dtype=float)])


def _label_steps(axis: Axis, labels: Sequence[str], inches: float) -> None:
    """Writes what was read at each step, or at as many as there is room for, evenly spaced."""
    is_vertical = isinstance(axis, XAxis) and max(map(len, labels)) > 1
    every = math.ceil(len(labels) * _LABEL_POINTS / (72 * inches))
    steps = range(0, len(labels), every)
    # A dollar sign is a character like any other here.
    axis.set_ticks(
        steps,
        [labels[step] for step in steps],
        size=_LABEL_POINTS,
        rotation="vertical" if is_vertical else "horizontal",
        parse_math=False,
    )
    axis.set_tick_params(length=1.5, pad=1.5)


def _draw_writes(rate_axes: Axes, error_axes: Axes, episode: Mapping[str, np.ndarray]) -> None:
    """Draws the update rate of each step, and the memory's error at its write key."""
    steps = np.arange(len(episode["rate"]))
    rate = np.asarray(episode["rate"]).reshape(len(steps), -1).mean(axis=1)  # Over heads or layers.
    rate_axes.bar(steps, rate, color="0.45", width=0.7)
    rate_axes.set_ylabel("update\nrate", size=8.5)
    rate_axes.tick_params(axis="x", labelbottom=False, length=0)
    rate_axes.set_xlim(-0.7, len(steps) - 0.3)
    for name, look in zip(WRITE_FIELDS[1:], style.series(["before the write", "after the write"]), strict=True):
        error_axes.plot(
            steps,
            episode[name],
            color=look.color,
            marker=look.marker,
            linestyle=look.dashes,
            label=look.label,
            linewidth=1.2,
            markersize=3,
        )
    error_axes.legend(frameon=False, fontsize=8, ncols=2)
    error_axes.set_ylim(bottom=0)
    error_axes.set_ylabel("mean squared error\nat the write key", size=8)
    for axes in (rate_axes, error_axes):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="y", labelsize=8)


def _quantity(field: str) -> str:
    return field.replace("_", " ").removesuffix("s")

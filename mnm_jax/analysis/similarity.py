"""What a memory was asked for, and what was in it: similarities of keys and of values within one episode.

Axes: `T` time steps, `H` heads, `K` features of a key or a value.
"""

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

FIELDS = ("labels", "read_keys", "write_keys", "read_values", "write_values")
WRITE_FIELDS = ("rate", "error_before", "error_after")

# Title, the rows' field, the columns' field, whether a step is compared with itself.
_PANELS = (
    ("Read key against earlier write keys", "read_keys", "write_keys", True),
    ("Read value against earlier write values", "read_values", "write_values", True),
    ("Write key against earlier write keys", "write_keys", "write_keys", False),
    ("Write value against earlier write values", "write_values", "write_values", False),
)

_CELL_INCHES = 0.105  # A label of _LABEL_POINTS needs about that much.
_LABEL_POINTS = 6.5


def cosine_similarity(rows: np.ndarray, columns: np.ndarray, *, include_same_step: bool) -> np.ma.MaskedArray:
    """Compares what happened at each step with what was written before.

    `s_tu = mean_h (a_th . b_uh) / (|a_th| |b_uh|)`, the mean over heads of each head's own similarity; a vector of
    zeros has similarity 0 to anything.

    Args:
      rows: `a`, `[T, H, K]`, the later side.
      columns: `b`, `[T, H, K]`, the earlier side.
      include_same_step: whether `s_tt` counts as earlier. It does for reads, because a step reads the memory that it
        has just written.

    Returns:
      `[T, T]` in -1 to 1, masked where `u > t`, and where `u = t` unless `include_same_step`.

    Raises:
      ValueError: if the arrays are not of one shape `[T, H, K]`.
    """
    rows, columns = np.asarray(rows, float), np.asarray(columns, float)
    if rows.ndim != 3 or rows.shape != columns.shape:
        raise ValueError(
            f"arguments 'rows' and 'columns': want one shape [T, H, K], got {rows.shape} and {columns.shape}"
        )
    similarity = np.einsum("thk,uhk->tu", _normalize(rows), _normalize(columns)) / rows.shape[1]
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
    similarity = np.einsum("hk,uhk->u", _normalize(np.asarray(vector, float)), _normalize(np.asarray(others, float)))
    return np.clip(similarity / len(vector), -1, 1)


def _normalize(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1)


def figure(episode: Mapping[str, np.ndarray], title: str, *, show_writes: bool = False) -> Figure:
    """Draws the similarities of one episode, in four panels.

    Args:
      episode: `labels`, `[T]`, what was read at each step; `write_keys`, `read_keys`, `write_values` and `read_values`,
        each `[T, H, K]`. To show the writes, also `rate`, `[T, ...]`, and `error_before` and `error_after`, each `[T]`.
      title: the first line of the title.
      show_writes: whether to draw under the panels how strongly each step wrote, and how well.

    Returns:
      The figure, as large as its labels need.

    Raises:
      ValueError: if the episode lacks one of the arrays.
    """
    fields = FIELDS + WRITE_FIELDS * show_writes
    missing = [name for name in fields if name not in episode]
    if missing:
        raise ValueError(f"argument 'episode': wants the arrays {', '.join(fields)}; {', '.join(missing)} missing")
    # A space would be an invisible label.
    labels = [str(label) if str(label).strip() else "\N{OPEN BOX}" for label in episode["labels"]]
    num_heads = episode["write_keys"].shape[1]
    panel_inches = max(3.2, _CELL_INCHES * len(labels))
    heights = [panel_inches, panel_inches] + [0.3 * panel_inches, 0.45 * panel_inches] * show_writes
    drawing = Figure(figsize=(2 * panel_inches + 2.0, sum(heights) + 2.0), layout="constrained", dpi=150)
    drawing.get_layout_engine().set(w_pad=0.1, h_pad=0.12)
    heads = "" if num_heads == 1 else f", mean over {num_heads} heads"
    large = max(11.0, 1.2 * panel_inches + 6)  # In points: the title and the names of the panels grow with the figure.
    drawing.suptitle(f"{title}\nCosine similarity of a step (row) with the steps before it (column){heads}", size=large)
    grid = drawing.add_gridspec(len(heights), 2, height_ratios=heights)
    panels = [drawing.add_subplot(grid[row, column]) for row in (0, 1) for column in (0, 1)]
    for axes, (name, rows, columns, include_same_step) in zip(panels, _PANELS, strict=True):
        values = cosine_similarity(episode[rows], episode[columns], include_same_step=include_same_step)
        image = axes.imshow(values, cmap=matplotlib.colormaps["RdBu_r"], vmin=-1, vmax=1, interpolation="nearest")
        axes.set_facecolor("0.88")  # What is masked: no step to compare with.
        axes.set_title(name, size=0.9 * large)
        axes.set_xlabel(f"{_quantity(columns)} of the earlier step (symbol read)", size=0.75 * large)
        axes.set_ylabel(f"{_quantity(rows)} of the step (symbol read)", size=0.75 * large)
        # A dollar sign is a character like any other here.
        rotation = "vertical" if max(map(len, labels)) > 1 else "horizontal"
        axes.set_xticks(range(len(labels)), labels, size=_LABEL_POINTS, rotation=rotation, parse_math=False)
        axes.set_yticks(range(len(labels)), labels, size=_LABEL_POINTS, parse_math=False)
        axes.tick_params(length=1.5, pad=1.5)
    bar = drawing.colorbar(image, ax=panels, shrink=0.5, aspect=30)
    bar.set_label("cosine similarity", size=0.9 * large)
    bar.ax.tick_params(labelsize=0.75 * large)
    if show_writes:
        rate_axes = drawing.add_subplot(grid[2, :])
        error_axes = drawing.add_subplot(grid[3, :], sharex=rate_axes)
        _draw_writes(rate_axes, error_axes, episode, 0.75 * large)
        error_axes.set_xticks(range(len(labels)), labels, size=_LABEL_POINTS, rotation="vertical", parse_math=False)
        error_axes.set_xlabel("step (symbol read)", size=0.75 * large)
    return drawing


def _draw_writes(rate_axes: Axes, error_axes: Axes, episode: Mapping[str, np.ndarray], size: float) -> None:
    """Draws the update rate of each step, and the memory's error at its write key; `size` is that of the text."""
    steps = np.arange(len(episode["rate"]))
    rate = np.asarray(episode["rate"]).reshape(len(steps), -1).mean(axis=1)  # Over heads or layers.
    rate_axes.bar(steps, rate, color="0.45", width=0.7)
    rate_axes.set_ylabel("update rate", size=size)
    rate_axes.tick_params(axis="x", labelbottom=False, length=0)
    rate_axes.set_xlim(-0.7, len(steps) - 0.3)
    error_axes.plot(steps, episode["error_before"], color="#D55E00", linestyle="--", marker="o", markersize=3)
    error_axes.plot(steps, episode["error_after"], color="#0072B2", marker="s", markersize=3)
    error_axes.legend(["before the write", "after the write"], frameon=False, fontsize=0.9 * size, ncols=2)
    error_axes.set_ylim(bottom=0)
    error_axes.set_ylabel("error at the write key\n(mean squared)", size=size)
    for axes in (rate_axes, error_axes):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="y", labelsize=0.8 * size)


def _quantity(field: str) -> str:
    return field.replace("_", " ").removesuffix("s")

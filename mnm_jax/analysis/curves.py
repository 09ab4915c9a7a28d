"""Curves over seeds: accuracy while a model learns, and accuracy beyond what it was trained on.

Axes: `S` seeds, `X` points on the horizontal axis.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.stats
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, MaxNLocator, NullLocator, StrMethodFormatter

from mnm_jax.analysis import style
from mnm_jax.analysis.runs import Run

_CONFIDENCE = 0.95
_NUM_RESAMPLES = 2000
_REFERENCE_COLOR = "0.35"
_REFERENCE_DASHES = (":", "--", "-.")
_NOTES = {"attention": "every step costs its whole table"}
_QUANTITIES = {
    "word_accuracy": "word accuracy\n(fraction of words)",
    "character_accuracy": "character accuracy\n(fraction of characters)",
    "answer_accuracy": "answer accuracy\n(fraction of questions)",
    "query_accuracy": "query accuracy\n(fraction of queries)",
    "sequence_accuracy": "sequence accuracy\n(fraction wholly right)",
}
_BITS = "bits"  # The one quantity that is no fraction, and the better the smaller.


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
            confidence_level=_CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
        low[is_finite], high[is_finite] = interval.low, interval.high
    return mean, low, high


def learning_curves(
    runs: Sequence[Run],
    title: str,
    levels: Mapping[str, Mapping[str, float]],
    metrics: Sequence[str] = ("word_accuracy",),
) -> Figure:
    """Draws how models learn: accuracies on held-out episodes, and the error of the written memory.

    Args:
      runs: the models.
      title: the title, but for the number of seeds and the meaning of the band, which are added.
      levels: reference levels by name, for each its value of every metric.
      metrics: what to show, one panel each: `word_accuracy`, `character_accuracy`, `answer_accuracy`,
        `query_accuracy`, `sequence_accuracy`, `bits`.

    Returns:
      The figure. Its last panel, the error before and after the write, is there if any run has such an error.
    """
    looks = style.styles([run.model for run in runs])
    written = [run for run in runs if "eval_error_before" in run.metrics]
    num_panels = len(metrics) + bool(written)
    figure = Figure(figsize=(8, 2.7 * num_panels + 1.5), layout="constrained", dpi=150)
    panels = figure.subplots(num_panels, 1, sharex=True, squeeze=False)[:, 0]
    for axes, metric in zip(panels, metrics, strict=False):
        for run in runs:
            _plot_seeds(axes, run.updates, run.metrics[f"eval_{metric}"], looks[run.model], show_each=True)
        _label_levels(axes, {name: level[metric] for name, level in levels.items()})
        _label_quantity(axes, metric)
    for run in written:
        for when, dashes in (("before", "--"), ("after", "-")):
            look = looks[run.model]._replace(dashes=dashes)
            _plot_seeds(panels[-1], run.updates, run.metrics[f"eval_error_{when}"], look)
    if written:
        panels[-1].set_yscale("log")
        panels[-1].yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        panels[-1].set_ylabel("memory's error at the write key\n(mean squared difference)")
    for axes in panels:
        _finish(axes)
    _count_updates(panels[-1], runs)
    handles = _handles(runs, [looks[run.model] for run in runs]) + _seed_handles(runs)
    if written:
        handles += [
            Line2D([], [], color=_REFERENCE_COLOR, linestyle="--", label="error before the write"),
            Line2D([], [], color=_REFERENCE_COLOR, linestyle="-", label="error after the write"),
        ]
    _finish_figure(figure, runs, title, handles)
    return figure


def reward_curves(runs: Sequence[Run], title: str, levels: Mapping[str, float]) -> Figure:
    """Draws how agents learn: the reward of an episode against the steps of the environment.

    Args:
      runs: the agents, all in the same environment.
      title: the title, but for the number of seeds and the meaning of the band, which are added.
      levels: reference levels by name. One that no agent comes near is named at the upper edge.
    """
    looks = style.styles([run.model for run in runs])
    figure = Figure(figsize=(9, 5.5), layout="constrained", dpi=150)
    axes = figure.subplots()
    for run in runs:
        x = run.updates * run.config["training"]["batch_size"] * run.task["episode_length"]
        _plot_seeds(axes, x, run.metrics["eval_episode_reward"], looks[run.model], show_each=True)
    top = 1.1 * max(float(np.nanmax(run.metrics["eval_episode_reward"])) for run in runs)
    top = max(top, 1.5 * min(levels.values()))
    within = {name: level for name, level in levels.items() if level <= top}
    axes.set_ylim(min(0.0, axes.get_ylim()[0]), top)
    _label_levels(axes, within, gap=0.05 * top)
    beyond = [f"{name} ({level:.3g})" for name, level in levels.items() if level > top]
    axes.text(1.012, 1, "\n".join(f"{text} \u2191" for text in beyond), transform=axes.transAxes, size=8.5, color="0.2")
    axes.set_ylabel("reward of an episode")
    axes.set_xlabel("training (steps of the environment)")
    axes.xaxis.set_major_formatter(EngFormatter(sep="", unit=""))
    _finish(axes)
    _finish_figure(figure, runs, title, _handles(runs, [looks[run.model] for run in runs]) + _seed_handles(runs))
    return figure


def visit_curves(runs: Sequence[Run], steps: Mapping[str, np.ndarray], title: str) -> Figure:
    """Draws how long agents look for the reward: the first time, and when they could remember it.

    Args:
      runs: the agents.
      steps: for each model `[S, K]`, the mean number of steps of an episode from visit `k - 1` to visit `k`.
      title: the title, but for the number of seeds and the meaning of the band, which are added.
    """
    looks = style.styles([run.model for run in runs])
    figure = Figure(figsize=(9, 5.5), layout="constrained", dpi=150)
    axes = figure.subplots()
    for run in runs:
        visits = np.arange(1, steps[run.model].shape[1] + 1)
        _plot_seeds(axes, visits, steps[run.model], looks[run.model], show_each=True)
    axes.set_ylabel("steps since the visit before, or the start\n(mean over episodes that have this visit)")
    axes.set_xlabel("visit to the reward in an episode")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)
    _finish(axes)
    _finish_figure(figure, runs, title, _handles(runs, [looks[run.model] for run in runs]) + _seed_handles(runs))
    return figure


def generalization_curves(
    runs: Sequence[Run],
    title: str,
    levels: Mapping[str, Mapping[int, Mapping[str, float]]],
    trained_size: int,
    metrics: Sequence[str] = ("word_accuracy",),
    unit: str = "pairs",
) -> Figure:
    """Draws how trained models do against the size of an episode.

    Args:
      runs: the models; each must have been evaluated in this way.
      title: the title, but for the number of seeds and the meaning of the band, which are added.
      levels: reference levels by name, for each size its value of every metric.
      trained_size: the size in training, or the largest one, marked by a vertical line.
      metrics: what to show, one panel each; see `learning_curves`.
      unit: what the size counts.
    """
    looks = style.styles([run.model for run in runs])
    figure = Figure(figsize=(8, 3.6 * len(metrics) + 1.5), layout="constrained", dpi=150)
    panels = figure.subplots(len(metrics), 1, sharex=True, squeeze=False)[:, 0]
    ticks = sorted({int(number) for run in runs for number in run.sizes} | {trained_size})
    dashes = dict(zip(levels, _REFERENCE_DASHES, strict=False))
    for axes, metric in zip(panels, metrics, strict=True):
        for run in runs:
            _plot_seeds(axes, run.sizes, run.generalization[metric], looks[run.model], show_each=True)
        for name, level in levels.items():
            numbers = sorted(level)
            accuracies = [level[number][metric] for number in numbers]
            axes.plot(numbers, accuracies, color=_REFERENCE_COLOR, linestyle=dashes[name], linewidth=1.2)
        axes.axvline(trained_size, color="0.6", linewidth=1, zorder=0)
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [str(number) for number in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        _label_quantity(axes, metric)
        _finish(axes)
    panels[0].text(
        trained_size,
        1.02,
        f"trained on {trained_size}",
        transform=panels[0].get_xaxis_transform(),
        size=8.5,
        ha="center",
    )
    panels[-1].set_xlabel(f"{unit} in an episode (number, logarithmic)")
    handles = _handles(runs, [looks[run.model] for run in runs]) + _seed_handles(runs)
    handles += [
        Line2D([], [], color=_REFERENCE_COLOR, linestyle=dashes[name], linewidth=1.2, label=name) for name in levels
    ]
    _finish_figure(figure, runs, title, handles)
    return figure


def recall_curves(
    runs: Sequence[Run], floats: Sequence[int], title: str, levels: Mapping[int, float], trained_size: int
) -> Figure:
    """Draws how much of what was read is recalled: against how much was read, and against the size of the state.

    Args:
      runs: the models, each perhaps with several sizes of memory, and all but for that alike.
      floats: of each run, how many floats its state has.
      title: the title, but for the number of seeds and the meaning of the band, which are added.
      levels: for each number of pairs the query accuracy of one who knows the values and not their keys.
      trained_size: the number of pairs in training.

    Returns:
      The figure. Its first panel shows for each model the run with the largest state.
    """
    names = list(dict.fromkeys(run.model for run in runs))
    looks = style.styles(names)
    figure = Figure(figsize=(10.5, 5), layout="constrained", dpi=150)
    by_pairs, by_floats = figure.subplots(1, 2, sharey=True)
    shown = []
    for name in names:
        own = sorted((size, i) for i, (size, run) in enumerate(zip(floats, runs, strict=True)) if run.model == name)
        of_model = [runs[i] for _, i in own]
        shown.append(of_model[-1])
        if len(shown[-1].sizes):
            accuracies = shown[-1].generalization["query_accuracy"]
            _plot_seeds(by_pairs, shown[-1].sizes, accuracies, looks[name], show_each=True)
        final = np.stack([run.metrics["eval_query_accuracy"][:, -1] for run in of_model], axis=1)
        _plot_seeds(by_floats, np.array([size for size, _ in own]), final, looks[name], show_each=True)
        if len(own) == 1:  # A line of one point shows no band.
            by_floats.scatter(np.full(len(final), own[0][0]), final, s=14, color=looks[name].color, alpha=0.5)
    numbers = sorted(levels)
    by_pairs.plot(numbers, [levels[n] for n in numbers], color=_REFERENCE_COLOR, linestyle=":", linewidth=1.2)
    by_pairs.axvline(trained_size, color="0.6", linewidth=1, zorder=0)
    by_pairs.text(
        trained_size,
        1.02,
        f"trained on {trained_size}",
        transform=by_pairs.get_xaxis_transform(),
        size=8.5,
        ha="center",
    )
    by_pairs.set_xscale("log", base=2)
    by_pairs.set_xticks(numbers, [str(number) for number in numbers])
    by_pairs.set_xlabel("pairs in an episode (number, logarithmic)")
    _label_quantity(by_pairs, "query_accuracy")
    by_floats.set_xscale("log")
    by_floats.set_xlabel(f"state carried from step to step (floats, logarithmic), {trained_size} pairs")
    for axes in (by_pairs, by_floats):
        axes.xaxis.set_minor_locator(NullLocator())
        _finish(axes)
    handles = _handles(shown, [looks[run.model] for run in shown]) + _seed_handles(shown)
    handles.append(Line2D([], [], color=_REFERENCE_COLOR, linestyle=":", label="values but not keys"))
    _finish_figure(figure, runs, title, handles)
    return figure


def comparison(runs: Mapping[str, Run], title: str) -> Figure:
    """Draws how the headline metrics of runs grow, which may be of different models, tasks and experiments.

    Args:
      runs: the runs by their names for the legend.
      title: the title, but for the number of seeds and the meaning of the band, which are added.

    Returns:
      The figure: a panel for each experiment, with a legend of its own.
    """
    looks = style.distinguish({name: run.model for name, run in runs.items()})
    groups: dict[tuple[str, str], list[str]] = {}
    for name, run in runs.items():
        groups.setdefault((run.experiment, run.headline), []).append(name)
    height = sum(max(3.4, 0.25 * len(names) + 1) for names in groups.values()) + 1
    figure = Figure(figsize=(10, height), layout="constrained", dpi=150)
    panels = figure.subplots(len(groups), 1, squeeze=False)[:, 0]
    for axes, ((experiment, headline), names) in zip(panels, groups.items(), strict=True):
        for name in names:
            _plot_seeds(axes, runs[name].updates, runs[name].metrics[f"eval_{headline}"], looks[name])
        axes.set_title(experiment, size=10.5)
        axes.set_ylabel(_QUANTITIES.get(headline, f"{headline.replace('_', ' ')}\n(mean over held-out episodes)"))
        if headline in _QUANTITIES:
            axes.set_ylim(-0.03, 1.03)
        _finish(axes)
        shown = [runs[name] for name in names]
        _count_updates(axes, shown)
        handles = _handles(shown, [looks[name] for name in names], separator="\n")
        beside = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}
        axes.legend(handles=handles, **beside, handlelength=5, frameon=False, fontsize=8.5)
    _finish_figure(figure, list(runs.values()), title)
    return figure


def _plot_seeds(axes: Axes, x: np.ndarray, values: np.ndarray, look: style.Style, *, show_each: bool = False) -> None:
    """Draws one quantity of one model, `[S, X]`: the mean over seeds with its band, and perhaps each seed."""
    mean, low, high = mean_and_band(values)
    axes.fill_between(x, low, high, color=look.color, alpha=0.18, linewidth=0)
    if show_each and len(values) > 1:
        axes.plot(x, values.T, color=look.color, linewidth=0.6, alpha=0.5)
    axes.plot(x, mean, **_line(look), markevery=max(1, len(x) // 10))


def _line(look: style.Style) -> dict[str, Any]:
    """How matplotlib shall draw the mean of a model, and its entry in the legend."""
    return {
        "color": look.color,
        "linestyle": look.dashes,
        "linewidth": 1.8,
        "marker": look.marker,
        "markersize": 4,
        "fillstyle": look.fill,
        "label": look.label,
    }


def _label_levels(axes: Axes, levels: Mapping[str, float], gap: float = 0.08) -> None:
    """Draws horizontal lines and names them in the right margin, where there is no data, at least `gap` apart."""
    margin = axes.get_yaxis_transform()  # Across: in widths of the axes. Up: in units of the data.
    dashes = dict(zip(levels, _REFERENCE_DASHES, strict=False))
    height = -np.inf
    for name, level in sorted(levels.items(), key=lambda item: item[1]):
        axes.axhline(level, color=_REFERENCE_COLOR, linestyle=dashes[name], linewidth=1.2, zorder=1)
        height = max(level, height + gap)  # The names of levels that are close must not overlap.
        axes.text(1.012, height, f"{name} ({level:.2g})", transform=margin, size=8.5, va="center", color="0.2")


def _handles(runs: Sequence[Run], looks: Sequence[style.Style], separator: str = " ") -> list[Artist]:
    """The legend's entries for the runs; the separator is before what is in parentheses."""
    same_seeds = len({len(run.seeds) for run in runs}) == 1
    handles: list[Artist] = []
    for run, look in zip(runs, looks, strict=True):
        notes = [_NOTES[run.model]] if run.model in _NOTES else []
        if not same_seeds:
            notes.append(_count_seeds(runs=[run]))
        label = f"{look.label}{separator}({', '.join(notes)})" if notes else look.label
        handles.append(Line2D([], [], **_line(look._replace(label=label))))
    return handles


def _seed_handles(runs: Sequence[Run]) -> list[Artist]:
    """The legend's entries for how seeds are drawn."""
    if max(len(run.seeds) for run in runs) == 1:
        return []
    return [
        Line2D([], [], color=_REFERENCE_COLOR, linewidth=0.6, alpha=0.7, label="single seed"),
        Patch(color=_REFERENCE_COLOR, alpha=0.25, linewidth=0, label=f"{_CONFIDENCE:.0%} interval of the mean"),
    ]


def _count_seeds(runs: Sequence[Run]) -> str:
    numbers = sorted({len(run.seeds) for run in runs})
    if numbers == [1]:
        return "1 seed"
    return f"{' to '.join(str(number) for number in dict.fromkeys((numbers[0], numbers[-1])))} seeds"


def _label_quantity(axes: Axes, metric: str) -> None:
    """Makes the vertical axis that of a metric."""
    if metric == _BITS:
        axes.set_ylabel("cost per sequence\n(bits)")
        axes.set_yscale("symlog", linthresh=0.1, linscale=0.5)
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.set_ylim(bottom=0)
        return
    axes.set_ylabel(_QUANTITIES[metric])
    axes.set_ylim(-0.03, 1.03)


def _finish(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.02)


def _count_updates(axes: Axes, runs: Sequence[Run]) -> None:
    """Makes the horizontal axis that of the updates of training."""
    axes.set_xlabel("training (updates)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=(1, 2, 5, 10)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    longest = max(1, *(run.updates[-1] for run in runs))  # 1: a training may have been evaluated only before it began.
    axes.set_xlim(-0.02 * longest, 1.02 * longest)


def _finish_figure(figure: Figure, runs: Sequence[Run], title: str, handles: Sequence[Artist] = ()) -> None:
    seeds = _count_seeds(runs)
    meaning = "" if seeds == "1 seed" else f"; band: {_CONFIDENCE:.0%} bootstrap interval of the mean over seeds"
    figure.suptitle(f"{title}\n{seeds}{meaning}", size=10.5)
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=8.5)

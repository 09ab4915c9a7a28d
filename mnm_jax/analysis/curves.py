"""Figures of curves over seeds: accuracy while a model learns, and accuracy beyond what it was trained on.

Axes: `S` seeds, `X` points on the horizontal axis.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, MaxNLocator, NullLocator, StrMethodFormatter

from mnm_jax.analysis import panels, style
from mnm_jax.analysis.panels import Chart, Curve
from mnm_jax.analysis.runs import Run

_NOTES = {"attention": "every step costs its whole table"}
_QUANTITIES = {
    "word_accuracy": "word accuracy\n(fraction of words)",
    "character_accuracy": "character accuracy\n(fraction of characters)",
    "answer_accuracy": "answer accuracy\n(fraction of questions)",
    "query_accuracy": "query accuracy\n(fraction of queries)",
    "sequence_accuracy": "sequence accuracy\n(fraction wholly right)",
    "bits": "cost per sequence\n(bits)",
}
# Factor on the horizontal axis between models whose states have equally many floats.
_BESIDE = 1.04
_SEED: dict[str, Any] = {"markersize": 3, "alpha": 0.5, "linewidth": 0.5}
_BITS = "bits"  # The one quantity that is no fraction, and the better the smaller.


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
      metrics: what to show, one chart each: `word_accuracy`, `character_accuracy`, `answer_accuracy`,
        `query_accuracy`, `sequence_accuracy`, `bits`.

    Returns:
      The figure. Its last chart, the error before and after the write, is there if any run has such an error.
    """
    looks = style.styles([run.model for run in runs])
    charts = [
        Chart(
            [Curve(looks[run.model], run.updates, run.metrics[f"eval_{metric}"]) for run in runs],
            _scale_of(metric),
            _QUANTITIES[metric],
            {name: level[metric] for name, level in levels.items()},
        )
        for metric in metrics
    ]
    written = [run for run in runs if "eval_error_before" in run.metrics]
    if written:
        curves = [
            Curve(looks[run.model], run.updates, *(run.metrics[f"eval_error_{when}"] for when in ("after", "before")))
            for run in written
        ]
        charts.append(Chart(curves, _scale_error, "memory's error at the write key\n(mean squared)", show_seeds=False))
    figure, axes = panels.draw(charts)
    scale = panels.training_axis(axes[0][0], [run.updates for run in runs])
    panels.name_horizontal_axis(axes, f"training (updates{scale})")
    handles = [
        Line2D([], [], color=panels.REFERENCE_COLOR, linewidth=width, label=f"error {when} the write")
        for when, width in (("before", 0.9), ("after", 1.6))
    ]
    _finish_figure(figure, charts, axes, runs, title, handles if written else ())
    return figure


def reward_curves(runs: Sequence[Run], title: str, levels: Mapping[str, float]) -> Figure:
    """Draws how agents learn: the reward of an episode against the steps of the environment.

    Args:
      runs: the agents, all in the same environment.
      title: the title, but for the number of seeds and the meaning of the band, which are added.
      levels: reference levels by name. Those that no agent comes near are left out of the picture, and in its title.
    """
    looks = style.styles([run.model for run in runs])
    top = 1.3 * max(float(np.nanmax(run.metrics["eval_episode_reward"])) for run in runs)
    top = max(top, 1.5 * min(levels.values()))
    beyond = [f"{name}, {level:.3g}, is beyond" for name, level in levels.items() if level > top]
    curves = [
        Curve(looks[run.model], _environment_steps(run), np.asarray(run.metrics["eval_episode_reward"])) for run in runs
    ]
    within = {name: level for name, level in levels.items() if level <= top}
    lowest = min(0.0, *(float(np.nanmin(curve.values)) for curve in curves))
    chart = Chart(curves, lambda axes: axes.set_ylim(lowest, top), "reward of an episode", within)
    figure, axes = panels.draw([chart])
    scale = panels.training_axis(axes[0][0], [curve.x for curve in curves], EngFormatter(sep="", unit=""))
    panels.name_horizontal_axis(axes, f"training (steps of the environment{scale})")
    _finish_figure(figure, [chart], axes, runs, "\n".join([title, *beyond]))
    return figure


def _environment_steps(run: Run) -> np.ndarray:
    steps: np.ndarray = run.updates * run.config["training"]["batch_size"] * run.task["episode_length"]
    return steps


def visit_curves(runs: Sequence[Run], steps: Sequence[np.ndarray], title: str) -> Figure:
    """Draws how long agents look for the reward: the first time, and when they could remember it.

    Args:
      runs: the agents.
      steps: for each run `[S, K]`, the mean number of steps of an episode from visit `k - 1` to visit `k`.
      title: the title, but for the number of seeds and the meaning of the band, which are added.
    """
    looks = style.styles([run.model for run in runs])
    curves = [
        Curve(looks[run.model], np.arange(1, of_run.shape[1] + 1), of_run)
        for run, of_run in zip(runs, steps, strict=True)
    ]
    label = "steps since the visit before, or the start\n(mean over episodes that have this visit)"
    top = 1.05 * max(float(np.nanmax(curve.values, initial=0)) for curve in curves)
    chart = Chart(curves, lambda axes: axes.set_ylim(0, top), label)
    figure, axes = panels.draw([chart])
    axes[0][0].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels.name_horizontal_axis(axes, "visit to the reward in an episode")
    _finish_figure(figure, [chart], axes, runs, title)
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
      metrics: what to show, one chart each; see `learning_curves`.
      unit: what the size counts.
    """
    looks = style.styles([run.model for run in runs])
    dashes = dict(zip(levels, panels.REFERENCE_DASHES, strict=False))

    def prepare(metric: str, axes: Axes) -> None:
        for name, level in levels.items():
            numbers = sorted(level)
            accuracies = [level[number][metric] for number in numbers]
            axes.plot(numbers, accuracies, color=panels.REFERENCE_COLOR, linestyle=dashes[name], linewidth=1.2)
        axes.axvline(trained_size, color="0.6", linewidth=1, zorder=0)
        _scale_of(metric)(axes)

    charts = [
        Chart(
            [Curve(looks[run.model], run.sizes, run.generalization[metric]) for run in runs],
            functools.partial(prepare, metric),
            _QUANTITIES[metric],
        )
        for metric in metrics
    ]
    figure, axes = panels.draw(charts)
    ticks = sorted({int(number) for run in runs for number in run.sizes} | {trained_size})
    _size_axis(axes[0][0], ticks)
    panels.name_horizontal_axis(axes, f"{unit} in an episode (number, logarithmic)")
    if not panels.is_crowded(charts):
        _name_size(axes[0][0], trained_size)
    handles = [
        Line2D([], [], color=panels.REFERENCE_COLOR, linestyle=dashes[name], linewidth=1.2, label=name)
        for name in levels
    ]
    _finish_figure(figure, charts, axes, runs, title, handles)
    return figure


def _size_axis(axes: Axes, ticks: Sequence[int]) -> None:
    """Makes the horizontal axis that of the size of an episode."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(number) for number in ticks])
    axes.xaxis.set_minor_locator(NullLocator())


def _name_size(axes: Axes, trained_size: int) -> None:
    """Writes above its line with how many pairs the models were trained."""
    place = axes.get_xaxis_transform()
    axes.text(trained_size, 1.02, f"trained on {trained_size}", transform=place, size=panels.SMALL, ha="center")


def recall_curves(runs: Sequence[Run], floats: Sequence[int], title: str, levels: Mapping[str, float]) -> Figure:
    """Draws how much of what was read is recalled against the size of the state.

    Args:
      runs: the models, each perhaps with several sizes of memory, and all but for that alike.
      floats: of each run, how many floats its state has.
      title: the title, but for the number of seeds and the meaning of the band, which are added.
      levels: reference levels by name.

    Returns:
      The figure. Models of one size whose states are equally large stand side by side, and the axis says which.
    """
    names = list(dict.fromkeys(run.model for run in runs))
    looks = style.styles(names)
    curves: list[Curve] = []
    single: dict[int, list[int]] = {}  # Of each size of a state the curves that are one point.
    for name in names:
        own = sorted((size, i) for i, (size, run) in enumerate(zip(floats, runs, strict=True)) if run.model == name)
        final = np.stack([runs[i].metrics["eval_query_accuracy"][:, -1] for _, i in own], axis=1)
        if len(own) == 1:
            single.setdefault(own[0][0], []).append(len(curves))
        curves.append(Curve(looks[name], np.array([size for size, _ in own], float), final))
    asides = []
    for size, members in single.items():
        for place, i in enumerate(members):
            # Or the last would hide the others.
            curves[i] = curves[i]._replace(x=curves[i].x * _BESIDE ** (place - (len(members) - 1) / 2))
        if len(members) > 1:
            asides.append(f"side by side, all of {size:,}: {', '.join(curves[i].look.label for i in members)}")
    figure = Figure(figsize=(8, 4.5), layout="constrained", dpi=150)
    axes = figure.subplots()
    for curve in curves:
        panels.plot_seeds(axes, curve.x, curve.values, curve.look)
        # A line of one point shows neither band nor seeds.
        axes.plot(curve.x, curve.values.T, color=curve.look.color, marker=curve.look.marker, **_SEED)
    panels.draw_levels(axes, levels)
    axes.set_xscale("log")
    axes.set_xlabel("\n".join(["state carried from step to step (floats, logarithmic)", *asides]))
    axes.set_ylabel(_QUANTITIES["query_accuracy"])
    _scale_of("query_accuracy")(axes)
    panels.finish(axes)
    panels.plain_ticks(axes.xaxis)
    handles = panels.name_ends(axes, levels)
    if max(len(run.seeds) for run in runs) > 1:
        handles.append(Line2D([], [], color=panels.REFERENCE_COLOR, marker="o", **_SEED, label="single seed"))
    panels.legend(figure, handles)
    _title(figure, runs, title, has_bands=any(len(curve.x) > 1 for curve in curves))
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
    all_axes = figure.subplots(len(groups), 1, squeeze=False)[:, 0]
    for axes, ((experiment, headline), names) in zip(all_axes, groups.items(), strict=True):
        for name in names:
            panels.plot_seeds(axes, runs[name].updates, runs[name].metrics[f"eval_{headline}"], looks[name])
        axes.set_title(experiment, size=10.5)
        axes.set_ylabel(_QUANTITIES.get(headline, f"{headline.replace('_', ' ')}\n(mean over held-out episodes)"))
        if headline in _QUANTITIES:
            _scale_of(headline)(axes)
        panels.finish(axes)
        shown = [runs[name] for name in names]
        axes.set_xlabel(f"training (updates{panels.training_axis(axes, [run.updates for run in shown])})")
        handles = _handles(shown, [looks[name] for name in names], separator="\n")
        beside = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}
        axes.legend(handles=handles, **beside, handlelength=5, frameon=False, fontsize=8.5)
    _title(figure, list(runs.values()), title)
    return figure


def _scale_of(metric: str) -> Callable[[Axes], object]:
    """What makes the vertical axis that of a metric."""

    def scale(axes: Axes) -> None:
        if metric == _BITS:
            axes.set_yscale("symlog", linthresh=0.1, linscale=0.5)
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.set_ylim(bottom=0)
        else:
            axes.set_ylim(-0.03, 1.03)

    return scale


def _scale_error(axes: Axes) -> None:
    axes.set_yscale("log")
    panels.plain_ticks(axes.yaxis)


def _handles(runs: Sequence[Run], looks: Sequence[style.Style], separator: str = " ") -> list[Artist]:
    """The legend's entries for the runs; the separator is before what is in parentheses."""
    same_seeds = len({len(run.seeds) for run in runs}) == 1
    handles: list[Artist] = []
    for run, look in zip(runs, looks, strict=True):
        notes = [_NOTES[run.model]] if run.model in _NOTES else []
        if not same_seeds:
            notes.append(_count_seeds(runs=[run]))
        label = f"{look.label}{separator}({', '.join(notes)})" if notes else look.label
        handles.append(Line2D([], [], **panels.line_of(look._replace(label=label))))
    return handles


def _seed_handles(runs: Sequence[Run], color: str) -> list[Artist]:
    """The legend's entries for how seeds are drawn; those of one model are in the color of its mean."""
    if max(len(run.seeds) for run in runs) == 1:
        return []
    return [
        Line2D([], [], color=color, linewidth=0.6, alpha=0.7, label="single seed"),
        Patch(
            color=panels.REFERENCE_COLOR, alpha=0.25, linewidth=0, label=f"{panels.CONFIDENCE:.0%} interval of the mean"
        ),
    ]


def _count_seeds(runs: Sequence[Run]) -> str:
    numbers = sorted({len(run.seeds) for run in runs})
    if numbers == [1]:
        return "1 seed"
    return f"{' to '.join(str(number) for number in dict.fromkeys((numbers[0], numbers[-1])))} seeds"


def _finish_figure(
    figure: Figure,
    charts: Sequence[Chart],
    axes: Sequence[Sequence[Axes]],
    runs: Sequence[Run],
    title: str,
    handles: Sequence[Artist] = (),
) -> None:
    """Names the curves at their ends, and in a legend if they are together; `handles` come after them."""
    _title(figure, runs, title)
    looks = style.styles([run.model for run in runs])
    if panels.is_crowded(charts):
        notes = {looks[run.model].label: _NOTES[run.model] for run in runs if run.model in _NOTES}
        handles = [
            *handles,
            *panels.level_handles(charts[0].levels),
            panels.background_handle(),
            *(Line2D([], [], linestyle="none", label=f"{name}: {note}") for name, note in notes.items()),
        ]
        models: list[Artist] = []
    else:
        models = _handles(runs, [looks[run.model] for run in runs])
        named = {look.label for look in looks.values()}
        for chart, (own,) in zip(charts, axes, strict=True):
            left_out = panels.name_ends(own, chart.levels)
            handles = [*handles, *(handle for handle in left_out if handle.get_label() not in named)]
    panels.legend(figure, [*models, *_seed_handles(runs, looks[runs[0].model].color), *handles])


def _title(figure: Figure, runs: Sequence[Run], title: str, *, has_bands: bool = True) -> None:
    seeds = _count_seeds(runs)
    has_bands = has_bands and seeds != "1 seed"
    meaning = f"; band: {panels.CONFIDENCE:.0%} bootstrap interval of the mean over seeds" if has_bands else ""
    figure.suptitle(f"{title}\n{seeds}{meaning}", size=10.5)

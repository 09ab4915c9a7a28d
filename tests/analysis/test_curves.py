import dataclasses
import itertools
import warnings

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from mnm_jax.analysis import curves, panels, style
from mnm_jax.analysis.runs import load_runs

LEVELS = {
    "chance": {"word_accuracy": 0.1, "character_accuracy": 0.3},
    "words": {"word_accuracy": 0.12, "character_accuracy": 0.5},
}


@pytest.fixture
def runs(write_run, tmp_path):
    write_run("mnm_p", [[0.1, 0.5, 0.9], [0.1, 0.7, 1.0], [0.2, 0.6, 0.9]], errors=True)
    write_run("attention", [[0.1, 0.3]] * 3)
    return load_runs(tmp_path)


def lines(axes, model):
    """The lines of one model: the mean, and the seeds."""
    own = [line for line in axes.get_lines() if line.get_color() == style.KNOWN[model].color]
    mean = [line for line in own if line.get_linewidth() > 1]
    return mean, [line for line in own if line.get_linewidth() < 1]


def legend_labels(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_band_is_the_percentile_bootstrap():
    values = np.random.default_rng(1).normal(size=(5, 4))
    mean, low, high = panels.mean_and_band(values)
    np.testing.assert_allclose(mean, values.mean(axis=0))
    rng = np.random.default_rng(2)
    draws = np.stack([values[rng.integers(0, 5, 5)].mean(axis=0) for _ in range(10_000)])
    np.testing.assert_allclose([low, high], np.percentile(draws, [2.5, 97.5], axis=0), atol=0.08)
    assert (low < mean).all()
    assert (mean < high).all()
    np.testing.assert_array_equal(panels.mean_and_band(values), (mean, low, high))


@pytest.mark.parametrize("values", [np.ones((1, 3)) * 0.3, np.ones((3, 2)) * 0.7, np.full((3, 2), np.nan)])
def test_band_without_spread_is_the_value(values):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        band = panels.mean_and_band(values)
    np.testing.assert_allclose(band, [values[0]] * 3, rtol=1e-12)


def test_band_leaves_points_that_are_not_finite_alone():
    values = np.array([[0.0, np.nan, np.inf], [1.0, 0.5, 1.0]])
    mean, low, high = panels.mean_and_band(values)
    np.testing.assert_array_equal(mean, [0.5, np.nan, np.inf])
    np.testing.assert_array_equal(low, [0.0, np.nan, np.inf])
    np.testing.assert_array_equal(high, [1.0, np.nan, np.inf])


def test_band_wants_seeds():
    with pytest.raises(ValueError, match=r"wants shape \[S, X\] with at least one seed, got \(0, 3\)"):
        panels.mean_and_band(np.zeros((0, 3)))


def test_learning_curves_show_means_and_seeds(runs):
    figure = curves.learning_curves(runs, "a task", LEVELS)
    accuracy, error = figure.axes
    (mean,), seeds = lines(accuracy, "mnm_p")
    np.testing.assert_array_equal(mean.get_xdata(), [0, 50, 100])
    np.testing.assert_allclose(mean.get_ydata(), [0.4 / 3, 0.6, 2.8 / 3])
    np.testing.assert_array_equal([seed.get_ydata() for seed in seeds], runs[0].metrics["eval_word_accuracy"])
    # A model that trained for fewer updates ends there.
    (mean,), _ = lines(accuracy, "attention")
    np.testing.assert_array_equal(mean.get_xdata(), [0, 50])
    (after,), (before,) = lines(error, "mnm_p")
    np.testing.assert_allclose(before.get_ydata(), [1, 1, 1])
    np.testing.assert_allclose(after.get_ydata(), [1.1, 1.1, 1.1])
    assert lines(error, "attention")[0] == []


def test_learning_curves_say_what_they_show(runs):
    figure = curves.learning_curves(runs, "a task", LEVELS)
    accuracy, error = figure.axes
    assert figure.get_suptitle() == "a task\n3 seeds; band: 95% bootstrap interval of the mean over seeds"
    assert accuracy.get_ylabel() == "word accuracy\n(fraction of words)"
    assert error.get_ylabel() == "memory's error at the write key\n(mean squared)"
    assert error.get_xlabel() == "training (updates)"
    assert (accuracy.get_yscale(), error.get_yscale()) == ("linear", "log")
    assert legend_labels(figure) == [
        "MNM-p",
        "Attention (every step costs its whole table)",
        "single seed",
        "95% interval of the mean",
        "error before the write",
        "error after the write",
    ]


def test_legend_is_outside_of_the_data(runs):
    figure = curves.learning_curves(runs, "a task", LEVELS)
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    assert all(not legend.overlaps(axes.get_window_extent()) for axes in figure.axes)


def test_levels_are_marked_and_named_without_overlap(runs):
    figure = curves.learning_curves(runs, "a task", LEVELS)
    accuracy = figure.axes[0]
    heights = {tuple(line.get_ydata()) for line in accuracy.get_lines() if line.get_color() == "0.35"}
    assert heights == {(0.1, 0.1), (0.12, 0.12)}
    texts = {text.get_text(): text for text in accuracy.texts}
    assert list(texts) == ["Attention", "chance (0.1)", "words (0.12)", "MNM-p"]
    figure.draw_without_rendering()
    beside = [Text.get_window_extent(texts[name]) for name in ("chance (0.1)", "words (0.12)", "MNM-p")]
    assert all(not extent.overlaps(accuracy.get_window_extent()) for extent in beside)
    assert all(not lower.overlaps(upper) for lower, upper in itertools.pairwise(beside))
    # A training that is over sooner is named where it ends.
    assert texts["Attention"].xy == (50, 0.3)


def test_characters_have_a_panel_of_their_own(runs):
    figure = curves.learning_curves(runs[1:], "a task", LEVELS, ("word_accuracy", "character_accuracy"))
    _, characters = figure.axes  # And none for the error, which attention does not have.
    assert characters.get_ylabel() == "character accuracy\n(fraction of characters)"
    np.testing.assert_allclose(lines(characters, "attention")[0][0].get_ydata(), np.sqrt([0.1, 0.3]))
    assert "chance (0.3)" in [text.get_text() for text in characters.texts]
    assert "error before the write" not in legend_labels(figure)


def test_a_single_seed_has_no_band(runs):
    alone = dataclasses.replace(
        runs[0], seeds=(0,), metrics={name: table[:1] for name, table in runs[0].metrics.items()}
    )
    figure = curves.learning_curves([alone], "a task", LEVELS)
    assert figure.get_suptitle() == "a task\n1 seed"
    assert legend_labels(figure) == ["MNM-p", "error before the write", "error after the write"]
    mixed = curves.learning_curves([alone, runs[1]], "a task", LEVELS)
    assert mixed.get_suptitle().startswith("a task\n1 to 3 seeds; band")
    assert legend_labels(mixed)[:2] == ["MNM-p (1 seed)", "Attention (every step costs its whole table, 3 seeds)"]


def test_generalization(runs):
    levels = {"chance": {n: {"word_accuracy": 0.1} for n in (2, 4)}, "words": {2: {"word_accuracy": 0.6}}}
    figure = curves.generalization_curves(runs, "a task", levels, 8)
    (axes,) = figure.axes
    (mean,), seeds = lines(axes, "mnm_p")
    np.testing.assert_array_equal(mean.get_xdata(), [2, 4])
    np.testing.assert_allclose(mean.get_ydata(), [0.51, 0.26])
    assert len(seeds) == 3
    assert axes.get_xscale() == "log"
    assert axes.xaxis.get_transform().base == 2
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "4", "8"]
    np.testing.assert_array_equal(axes.get_xticks(), [2, 4, 8])
    assert [8, 8] in [list(line.get_xdata()) for line in axes.get_lines()]
    assert [text.get_text() for text in axes.texts] == ["trained on 8", "MNM-p", "Attention"]
    chance, words = (line for line in axes.get_lines() if line.get_color() == "0.35")
    np.testing.assert_array_equal(chance.get_xydata(), [[2, 0.1], [4, 0.1]])
    np.testing.assert_array_equal(words.get_xydata(), [[2, 0.6]])
    assert words.get_linestyle() == "--"
    assert axes.get_xlabel() == "pairs in an episode (number, logarithmic)"
    assert legend_labels(figure)[-2:] == ["chance", "words"]


def test_recall_against_floats_names_every_model_and_shows_every_seed(runs):
    metrics = {"eval_query_accuracy": np.array([[0.1, 0.5], [0.2, 0.7], [0.3, 0.9]])}
    large, small, alone = (dataclasses.replace(run, metrics=metrics) for run in (runs[0], runs[0], runs[1]))
    figure = curves.recall_curves([large, small, alone], [400, 100, 200], "a task", {"chance": 0.1})
    (axes,) = figure.axes
    (mean,), seeds = lines(axes, "mnm_p")
    np.testing.assert_allclose(mean.get_xydata(), [[100, 0.7], [400, 0.7]])
    np.testing.assert_allclose([seed.get_ydata() for seed in seeds], [[0.5] * 2, [0.7] * 2, [0.9] * 2])
    (mean,), seeds = lines(axes, "attention")
    np.testing.assert_allclose(mean.get_xydata(), [[200, 0.7]])
    np.testing.assert_allclose([seed.get_ydata() for seed in seeds], [[0.5], [0.7], [0.9]])
    assert {text.get_text() for text in axes.texts} == {"MNM-p", "Attention", "chance (0.1)"}
    assert axes.get_xlabel().endswith("(floats, logarithmic)")


def test_states_of_the_same_size_stand_side_by_side_and_the_axis_says_which(runs):
    metrics = {"eval_query_accuracy": np.array([[0.5]])}
    models = [dataclasses.replace(run, metrics=metrics, seeds=(0,)) for run in runs]
    levels = {f"level {i}": i / 30 for i in range(30)}  # More than have room beside the panel.
    figure = curves.recall_curves(models, [100, 100], "a task", levels)
    (axes,) = figure.axes
    points = [line.get_xdata()[0] for line in axes.get_lines() if line.get_label() in ("MNM-p", "Attention")]
    np.testing.assert_allclose(points, [100 / 1.04**0.5, 100 * 1.04**0.5])
    assert axes.get_xlabel().endswith("(floats, logarithmic)\nside by side, all of 100: MNM-p, Attention")
    assert figure.get_suptitle() == "a task\n1 seed"
    named = [text.get_text() for text in axes.texts] + legend_labels(figure)
    assert set(named) == {"MNM-p", "Attention", *(f"{name} ({level:.3g})" for name, level in levels.items())}


@pytest.fixture
def compared(write_run, tmp_path):
    """Four runs by name: two of the dictionary, of 3 and 2 seeds, and two of an experiment that is yet to come."""
    write_run("mnm_p", [[0.1, 0.5, 0.9], [0.1, 0.7, 1.0], [0.2, 0.6, 0.9]])
    mnm_p = load_runs(tmp_path)[0]
    shorter = {name: table[:2, :2] for name, table in mnm_p.metrics.items()}
    maze = {"experiment": "maze", "headline": "reward", "metrics": {"eval_reward": np.array([[-5.0, 7, 9]] * 3)}}
    return {
        "a/mnm_p": mnm_p,
        "b/mnm_p": dataclasses.replace(mnm_p, seeds=(0, 1), updates=mnm_p.updates[:2], metrics=shorter),
        "a/maze": dataclasses.replace(mnm_p, **maze),
        "b/maze": dataclasses.replace(mnm_p, model="attention", **maze),
    }


def test_comparison_has_a_panel_for_each_experiment(compared):
    figure = curves.comparison(compared, "all of them")
    dictionary, maze = figure.axes
    assert figure.get_suptitle() == "all of them\n2 to 3 seeds; band: 95% bootstrap interval of the mean over seeds"
    assert (dictionary.get_title(), maze.get_title()) == ("dictionary", "maze")
    assert dictionary.get_ylabel() == "word accuracy\n(fraction of words)"
    assert maze.get_ylabel() == "reward\n(mean over held-out episodes)"
    assert dictionary.get_xlabel() == maze.get_xlabel() == "training (updates)"
    # A reward is no fraction: its axis goes as far as it does.
    assert dictionary.get_ylim() == (-0.03, 1.03)
    assert maze.get_ylim()[0] < -5
    assert maze.get_ylim()[1] > 9
    means = dictionary.get_lines()
    np.testing.assert_allclose(means[0].get_xydata().T, [[0, 50, 100], [0.4 / 3, 0.6, 2.8 / 3]])
    np.testing.assert_allclose(means[1].get_xydata().T, [[0, 50], [0.1, 0.6]])
    # Each run has a band too.
    (band, _) = dictionary.collections
    _, low, high = panels.mean_and_band(compared["a/mnm_p"].metrics["eval_word_accuracy"])
    assert band.get_datalim(dictionary.transData).ymin == pytest.approx(low.min())
    assert band.get_datalim(dictionary.transData).ymax == pytest.approx(high.max())


def test_comparison_names_the_runs_beside_their_panels(compared):
    figure = curves.comparison(compared, "all of them")
    labels = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in figure.axes]
    assert labels == [
        ["a/mnm_p\n(3 seeds)", "b/mnm_p\n(2 seeds)"],
        ["a/maze", "b/maze\n(every step costs its whole table)"],
    ]
    figure.draw_without_rendering()
    for axes in figure.axes:
        legend = axes.get_legend()
        assert not any(legend.get_window_extent().overlaps(other.get_window_extent()) for other in figure.axes)
        looks = [(line.get_color(), line.get_linestyle(), line.get_marker()) for line in axes.get_lines()]
        assert looks == [(line.get_color(), line.get_linestyle(), line.get_marker()) for line in legend.get_lines()]


def test_many_models_have_a_panel_each(write_run, tmp_path):
    models = ("mnm_p", "mnm_g", "lstm", "salu", "attention", "ntm", "dnc")
    for model in models:
        write_run(model, [[0.1, 0.5]], errors=model == "mnm_p", num_pairs=())
    figure = curves.learning_curves(load_runs(tmp_path), "a task", LEVELS)
    *panels, error = figure.axes
    assert [axes.get_title(loc="left") for axes in panels] == [style.KNOWN[model].label for model in models]
    assert error.get_title(loc="left") == "MNM-p"
    for axes, model in zip(panels, models, strict=True):
        assert len(lines(axes, model)[0]) == 1
        assert sum(line.get_color() == "0.8" for line in axes.get_lines()) == len(models) - 1
        assert not axes.texts
    assert legend_labels(figure) == [
        "error before the write",
        "error after the write",
        "chance (0.1)",
        "words (0.12)",
        "other models' means",
        "Attention: every step costs its whole table",
    ]


def test_the_name_of_the_horizontal_axis_has_room_however_many_panels_there_are():
    for number in (1, 2, 7, 8, 9):
        curve = panels.Curve(style.KNOWN["lstm"], np.arange(2), np.ones((1, 2)))
        figure, axes = panels.draw([panels.Chart([curve] * number, lambda axes: None, "quantity")])
        panels.name_horizontal_axis(axes, "a name that is as wide as a panel is, or wider")
        figure.draw_without_rendering()
        (label,) = (a.xaxis.label.get_window_extent() for a in figure.axes if a.get_xlabel())
        assert figure.bbox.x0 < label.x0 < label.x1 < figure.bbox.x1


def test_limits_have_room_for_every_seed_of_every_model():
    values = [np.array([[0.0, 1.0], [0.0, top]]) for top in (1.0, 2, 3, 4, 5, 6, 7)]
    shown = [panels.Curve(style.KNOWN["lstm"], np.arange(2), of_seeds) for of_seeds in values]
    _, ((first, *_),) = panels.draw([panels.Chart(shown, lambda axes: axes.set_ylim(bottom=0), "quantity")])
    assert first.get_ylim()[1] >= 7


def test_names_of_lines_that_end_near_each_other_stand_apart():
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    ends = {"mnm_p": (5, 1), "mnm_g": (5.1, 1), "lstm": (10, 1), "salu": (10, 0.99), "ntm": (10, 0)}
    for model, (x, y) in ends.items():
        axes.plot([0, x], [y, y], **panels.line_of(style.KNOWN[model]))
    axes.plot([0, 10], [0.5, 0.5])  # No label, no name.
    long = style.KNOWN["attention"]._replace(label="a name that is so long that it is broken")
    axes.plot([0, 10], [0.02, 0.02], **panels.line_of(long))
    panels.name_ends(axes)
    figure.draw_without_rendering()
    assert {text.get_text().replace("\n", " ") for text in axes.texts} == {
        *(style.KNOWN[model].label for model in ends),
        long.label,
    }
    extents = {text.get_text(): Text.get_window_extent(text) for text in axes.texts}
    assert all(not a.overlaps(b) for a, b in itertools.combinations(extents.values(), 2))
    inside = axes.get_window_extent()
    assert {name for name, extent in extents.items() if extent.overlaps(inside)} == {"MNM-p", "MNM-g"}


def draw_lines(axes, number=2, end=(1.0, 0.5)):
    for look in list(style.KNOWN.values())[:number]:
        axes.plot([0, end[0]], [0.2, end[1]], **panels.line_of(look))


@pytest.mark.parametrize("height", [1.0, 1.5, 1.9, 4.0])
def test_every_name_is_at_its_line_or_left_to_the_legend(height):
    for number in (1, 3, 12):
        figure = Figure(figsize=(6, height), layout="constrained")
        axes = figure.subplots()
        draw_lines(axes, number)
        left_out = panels.name_ends(axes, {"chance": 0.1})
        looks = list(style.KNOWN.values())[:number]
        names = [text.get_text() for text in axes.texts] + [handle.get_label() for handle in left_out]
        assert sorted(names) == sorted([*(look.label for look in looks), "chance (0.1)"])
        assert number < 12 or height > 2 or left_out
        panels.legend(figure, [*left_out, *left_out])
        labels = legend_labels(figure) if left_out else []
        assert labels == [handle.get_label() for handle in left_out]


def test_lines_are_named_where_they_are_last_seen():
    axes = Figure().subplots()
    axes.plot([0, 1, np.nan], [0, 1, 2], label="no last x")
    axes.plot([0, 1, 2], [0, 0.5, np.inf], label="no last y")
    axes.plot([np.nan], [0], label="nowhere")
    axes.plot([], [], label="empty")
    assert panels.name_ends(axes) == []
    assert {text.get_text(): text.xy for text in axes.texts} == {"no last x": (1, 1), "no last y": (1, 0.5)}


def test_lines_are_named_in_axes_of_any_grid_or_none():
    figure = Figure(figsize=(8, 4))
    inner = figure.add_gridspec(1, 2)[0].subgridspec(2, 1)
    below = figure.add_subfigure(figure.add_gridspec(1, 2)[1])
    for axes in (figure.add_axes((0.1, 0.1, 0.3, 0.3)), figure.add_subplot(inner[0]), below.subplots()):
        draw_lines(axes)
        assert panels.name_ends(axes) == []
        assert [text.get_text() for text in axes.texts] == ["MNM-p", "MNM-g"]


@pytest.mark.parametrize(("longest", "scale"), [(300, "linear"), (400, "symlog")])
def test_trainings_of_unequal_length_have_a_logarithmic_axis(longest, scale):
    axes = Figure().subplots()
    suffix = panels.training_axis(axes, [np.array([0, 50, 100]), np.array([0, longest])])
    assert axes.get_xscale() == scale
    assert suffix == (", logarithmic" if scale == "symlog" else "")
    assert axes.get_xlim()[0] < 0
    assert longest < axes.get_xlim()[1] < 1.2 * longest


@pytest.mark.parametrize("top", [3.0, 40.0, 1e5])
def test_logarithmic_axes_have_plain_ticks(top):
    axes = Figure().subplots()
    axes.set(yscale="log", ylim=(1, top))
    panels.plain_ticks(axes.yaxis)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    inside = [tick for tick, label in zip(axes.get_yticks(), labels, strict=True) if label and 1 <= tick <= top]
    assert len(inside) >= 3
    assert not any("$" in label for label in labels)
    assert len(axes.get_yticks(minor=True)) == 0


def test_names_are_moved_as_little_as_possible():
    np.testing.assert_allclose(panels.spread([0.2, 0.5], [0.1] * 2), [0.2, 0.5])
    np.testing.assert_allclose(panels.spread([0.5, 0.5, 0.5], [0.1] * 3), [0.4, 0.5, 0.6])
    np.testing.assert_allclose(panels.spread([0.5, 0.5], [0.1, 0.3]), [0.4, 0.6])
    np.testing.assert_allclose(panels.spread([0.0, 0.01, 0.99, 1.0], [0.1] * 4), [0.0, 0.1, 0.9, 1.0], atol=0.01)
    assert len(panels.spread([], [])) == 0


# Without green cones, of severity 1: Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of
# Color Vision Deficiency", 2009, on linear RGB.
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def seen(color, deuteranopia=True):
    """CIELAB of a colour, as it is seen without green cones or with all."""
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    if deuteranopia:
        linear = np.clip(DEUTERANOPIA @ linear, 0, 1)
    t = XYZ @ linear / XYZ.sum(axis=1)
    x, y, z = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_models_are_told_apart_without_green_cones_and_in_grey():
    for a, b in itertools.combinations(style.KNOWN.values(), 2):
        distance = np.linalg.norm(seen(a.color) - seen(b.color))
        grey = abs(seen(a.color, deuteranopia=False)[0] - seen(b.color, deuteranopia=False)[0])
        assert a.dashes != b.dashes or (distance > 16 and grey > 16), (a.label, b.label)
        assert a.marker != b.marker
    # Those that are drawn together most often differ in colour alone.
    for a, b in itertools.combinations(list(style.KNOWN.values())[:5], 2):
        assert np.linalg.norm(seen(a.color) - seen(b.color)) > 28, (a.label, b.label)


def test_runs_of_one_model_differ_also_without_colour():
    looks = style.distinguish({str(i): "lstm" for i in range(18)} | {"other": "mine", "same look": "mnm_p"})
    lstm = [looks[str(i)] for i in range(18)]
    assert lstm[0] == style.KNOWN["lstm"]._replace(label="0", color=style.KNOWN["lstm"].color.lower())
    assert {look.marker for look in lstm} == {"^"}
    assert len({(look.dashes, look.fill) for look in lstm}) == 18
    assert looks["other"].dashes == looks["same look"].dashes == style.SOLID


def test_unknown_models_that_share_a_look_get_other_lines():
    looks = style.distinguish({f"run {i}": f"model {i}" for i in range(5)})
    first, last = looks["run 0"], looks["run 4"]
    assert (first.color, first.marker) == (last.color, last.marker)
    assert first.dashes != last.dashes


def test_colors_agree_across_figures_and_differ_between_models():
    models = [*style.KNOWN, "mine", "yours"]
    looks = style.styles(models)
    assert len({look.color for look in looks.values()}) == len({look.marker for look in looks.values()}) == len(models)
    assert style.styles(["lstm", "yours", "mine"]) == {name: looks[name] for name in ("lstm", "mine", "yours")}

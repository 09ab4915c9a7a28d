"""The figure of how memory and gradient grow, from made-up numbers."""

import numpy as np

from benchmarks import growth
from mnm_jax.analysis import style


def test_what_is_beyond_the_largest_number_is_left_out():
    curves = {"memory": [8.0, 9, 10], "gradient": [1.0, 100, float("inf")]}
    numbers = {"width": 4, "seeds": 1, "lengths": [10, 25, 50], "rates": [0.12, 0.5]}
    figure = growth.draw({**numbers, "rules": {"MNM-p": {"0.12": curves, "0.5": curves}}})
    assert figure.get_suptitle().endswith("widths of 4, 1 seed")
    assert len(figure.axes) == 4
    _, gradient, *_ = figure.axes
    (line,) = gradient.get_lines()
    np.testing.assert_array_equal(line.get_xdata(), numbers["lengths"])
    np.testing.assert_array_equal(line.get_ydata(), [1, 100, np.nan])
    (name,) = gradient.texts
    assert (name.get_text(), name.xy) == ("MNM-p", (25, 100))


def test_the_writers_look_as_everywhere():
    curves = {"0.5": {"memory": [1.0, 2], "gradient": [1.0, 2]}}
    numbers = {"width": 4, "seeds": 1, "lengths": [10, 25], "rates": [0.5]}
    memory, _ = growth.draw({**numbers, "rules": dict.fromkeys(growth.RULES, curves)}).axes
    looks = {line.get_label(): (line.get_color(), line.get_marker()) for line in memory.get_lines()}
    for model in ("mnm_p", "mnm_g"):
        look = style.KNOWN[model]
        assert looks[look.label] == (look.color, look.marker)


def test_rules_that_are_compared_no_more_are_drawn_after_the_others():
    curves = {"0.5": {"memory": [1.0, 2], "gradient": [1.0, 2]}}
    numbers = {"width": 4, "seeds": 1, "lengths": [10, 25], "rates": [0.5]}
    for axes in growth.draw({**numbers, "rules": dict.fromkeys(["former", "MNM-g", "MNM-p"], curves)}).axes:
        assert [line.get_label() for line in axes.get_lines()] == ["MNM-p", "MNM-g", "former"]


def test_every_rule_that_is_compared_is_a_model():
    for model, options in growth.RULES.values():
        settings = growth.models.ModelSettings(4, 4, **options)
        cell = growth.models.build(model, settings, output_size=5, vocabulary_size=None, num_steps=1)
        assert cell.rate_scale == settings.rate_scale
        assert cell.read_normalization == (None if settings.read_normalization == "none" else "rms")

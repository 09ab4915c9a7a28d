"""How a model is named and drawn: the same in every figure, and told apart without colour too."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.colors import to_hex, to_rgb
from matplotlib.typing import FillStyleType, LineStyleType

SOLID: LineStyleType = "-"
DASHED: LineStyleType = (0, (5, 2))
DOTTED: LineStyleType = (0, (1, 1.3))
DASH_DOT: LineStyleType = (0, (6, 1.5, 1, 1.5))
LONG_DASHED: LineStyleType = (0, (10, 2.5))
DASH_DOT_DOT: LineStyleType = (0, (5, 1.5, 1, 1.5, 1, 1.5))
DASHES = (SOLID, DASHED, DOTTED, DASH_DOT, LONG_DASHED, DASH_DOT_DOT)


class Style(NamedTuple):
    """The look of one model, or of one run of it.

    Attributes:
      label: its name in tables and figures.
      color: one that goes with the others.
      marker: a matplotlib marker, of this model alone.
      dashes: the line style, one of `DASHES`.
      fill: which part of the marker is filled.
    """

    label: str
    color: str
    marker: str
    dashes: LineStyleType = SOLID
    fill: FillStyleType = "full"


# Two models differ in their dashes, or else in lightness by so much that grey print shows it, as does an eye without
# green cones, to which lightness and blue are left. The first five, often drawn together, differ in colour to any eye.
KNOWN = {
    "mnm_p": Style("MNM-p", "#0063A6", "o", SOLID),
    "mnm_g": Style("MNM-g", "#E8690B", "s", SOLID),
    "lstm": Style("LSTM", "#00543D", "^", DASH_DOT),
    "salu": Style("SALU", "#CC79A7", "D", DOTTED),
    "attention": Style("Attention", "#56B4E9", "v", DASHED),
    "ntm": Style("NTM", "#000000", "X", SOLID),
    "dnc": Style("DNC", "#8F8F1F", "d", LONG_DASHED),
    "rnn": Style("RNN", "#808080", "x", DASH_DOT),
    "plastic": Style("Plastic", "#E69F00", "P", DASH_DOT),
    "modplast": Style("Modulated plastic", "#332288", "h", DASHED),
    "modul": Style("Retroactively modulated", "#882255", "*", LONG_DASHED),
    "mnm_p_hidden": Style("MNM-p, hidden layer", "#66CCEE", "<", DASH_DOT_DOT),
    "mnm_p_key": Style("MNM-p, sees the key", "#2F6699", ">", DASH_DOT_DOT),
    "mnm_p_fixed": Style("MNM-p, fixed", "#AA3377", "p", DOTTED),
    "feedback_alignment": Style("Feedback alignment", "#117733", "H", DASHED),
    "synthetic_gradients": Style("Synthetic gradients", "#CCBB44", "8", LONG_DASHED),
    "titans": Style("Titans", "#EE6677", "2", DASH_DOT_DOT),
    "gated_delta": Style("Gated delta rule", "#002F5F", "4", DOTTED),
}

_OTHERS = (
    ("#7F5F3F", "1", SOLID),
    ("#5F7F3F", "3", DASHED),
    ("#AA4499", "+", DASH_DOT),
    ("#44AA99", "|", LONG_DASHED),
)

# What tells the runs of one model apart, beside the dashes.
_FILLS: tuple[FillStyleType, ...] = ("full", "none", "left")
_BRIGHTNESSES = (1.0, 0.7, 0.45)


def order(model: str) -> tuple[int, str]:
    """A sorting key: the known models in their fixed order, then the others by name."""
    names = list(KNOWN)
    return (names.index(model) if model in KNOWN else len(names), model)


def styles(models: Sequence[str]) -> dict[str, Style]:
    """The look of each model.

    Args:
      models: the names of all models of a working directory. Those that are not known share a few looks in the order
        of their names, so hand in the same names for figures whose colours shall agree.
    """
    result = {}
    others = 0
    for model in sorted(models, key=order):
        if model in KNOWN:
            result[model] = KNOWN[model]
        else:
            result[model] = Style(model, *_OTHERS[others % len(_OTHERS)])
            others += 1
    return result


def distinguish(models: Mapping[str, str]) -> dict[str, Style]:
    """The look of each run, where a model may have several: the model's marker in a shade of its colour.

    Args:
      models: the model of each run, by the name of the run.

    Returns:
      The look by the name of the run, labelled with it. The first run of a model looks as the model; up to eighteen
      differ in their dashes or the fill of their markers.
    """
    looks = styles(list(dict.fromkeys(models.values())))
    seen: Counter[tuple[str, str]] = Counter()  # By look instead of by model, for unknown models may share one.
    result = {}
    for name, model in models.items():
        _, color, marker, dashes, _ = looks[model]
        count = seen[color, marker]
        turn = count // len(DASHES) % len(_FILLS)
        dashes = DASHES[(DASHES.index(dashes) + count) % len(DASHES)]
        result[name] = Style(name, shade(color, _BRIGHTNESSES[turn]), marker, dashes, _FILLS[turn])
        seen[color, marker] += 1
    return result


def series(labels: Sequence[str]) -> list[Style]:
    """Looks for what is no model, such as the ways to compute something: those of the first models, in their order."""
    looks = list(KNOWN.values())
    return [looks[i % len(looks)]._replace(label=label) for i, label in enumerate(labels)]


def shade(color: str, brightness: float) -> str:
    """A darker one of a colour: `brightness` times each channel, 0 to 1."""
    red, green, blue = (brightness * channel for channel in to_rgb(color))
    return to_hex((red, green, blue))

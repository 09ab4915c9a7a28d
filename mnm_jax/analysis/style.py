"""How a model is named and drawn: the same in every figure, and safe for colour-blind eyes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.colors import to_hex, to_rgb


class Style(NamedTuple):
    """The look of one model, or of one run of it.

    Attributes:
      label: its name in tables and figures.
      color: a colour of Okabe and Ito's palette ("Color Universal Design", 2008), or one that goes with it.
      marker: a matplotlib marker, so that models can be told apart without any colour.
      dashes: the line style.
      fill: which part of the marker is filled.
    """

    label: str
    color: str
    marker: str
    dashes: str = "-"
    fill: str = "full"


KNOWN = {
    "mnm_p": Style("MNM-p", "#0072B2", "o"),
    "mnm_g": Style("MNM-g", "#D55E00", "s"),
    "lstm": Style("LSTM", "#009E73", "^"),
    "salu": Style("SALU", "#CC79A7", "D"),
    "attention": Style("Attention", "#E69F00", "v"),
    "ntm": Style("NTM", "#000000", "X"),
    "dnc": Style("DNC", "#999933", "d"),
    "rnn": Style("RNN", "#7F7F7F", "x"),
    "plastic": Style("Plastic", "#56B4E9", "P"),
    "modplast": Style("Modulated plastic", "#332288", "h"),
    "modul": Style("Retroactively modulated", "#882255", "*"),
    "mnm_p_hidden": Style("MNM-p, hidden layer", "#66CCEE", "<"),
    "mnm_p_key": Style("MNM-p, sees the key", "#4477AA", ">"),
    "mnm_p_fixed": Style("MNM-p, fixed", "#AA3377", "p"),
    "feedback_alignment": Style("Feedback alignment", "#117733", "H"),
    "synthetic_gradients": Style("Synthetic gradients", "#CCBB44", "8"),
    "titans": Style("Titans", "#EE6677", "2"),
    "gated_delta": Style("Gated delta rule", "#004488", "4"),
}

_OTHERS = (("#7F5F3F", "1"), ("#8C8C00", "3"), ("#AA4499", "+"), ("#44AA99", "|"))

# What tells the runs of one model apart. Four dashes and three fills together make twelve lines, also without colour.
_DASHES = ("-", "--", ":", "-.")
_FILLS = ("full", "none", "left")
_BRIGHTNESSES = (1.0, 0.6, 0.35)


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
      The look by the name of the run, labelled with it. Up to twelve runs of the same model differ.
    """
    looks = styles(list(dict.fromkeys(models.values())))
    seen: Counter[tuple[str, str]] = Counter()  # By look instead of by model, for unknown models may share one.
    result = {}
    for name, model in models.items():
        _, color, marker, *_ = looks[model]
        count = seen[color, marker]
        brightness = _BRIGHTNESSES[count // len(_DASHES) % len(_BRIGHTNESSES)]
        shade = to_hex([brightness * channel for channel in to_rgb(color)])
        result[name] = Style(name, shade, marker, _DASHES[count % len(_DASHES)], _FILLS[count % len(_FILLS)])
        seen[color, marker] += 1
    return result

"""How a model is named and drawn: the same in every figure, and safe for colour-blind eyes."""

from collections.abc import Sequence
from typing import NamedTuple


class Style(NamedTuple):
    """The look of one model.

    Attributes:
      label: its name in tables and figures.
      color: a colour of Okabe and Ito's palette ("Color Universal Design", 2008), or one that goes with it.
      marker: a matplotlib marker, so that models can be told apart without any colour.
    """

    label: str
    color: str
    marker: str


KNOWN = {
    "mnm_p": Style("MNM-p", "#0072B2", "o"),
    "mnm_g": Style("MNM-g", "#D55E00", "s"),
    "lstm": Style("LSTM", "#009E73", "^"),
    "salu": Style("SALU", "#CC79A7", "D"),
    "attention": Style("Attention", "#E69F00", "v"),
}

_OTHERS = (("#56B4E9", "P"), ("#000000", "X"), ("#7F5F3F", "<"), ("#8C8C00", ">"))


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

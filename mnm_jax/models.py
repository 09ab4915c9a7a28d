"""Models by name: what command lines and configuration files speak of, turned into cells."""

import dataclasses
import functools
import importlib
import math
from collections.abc import Callable
from typing import TypedDict

import flax.linen as nn
import jax.numpy as jnp

from mnm_jax import _checks, _paths, cells, rules, writers
from mnm_jax.memory import Spec
from mnm_jax.writers import Writer

# The backward functions of the local rules, and the other writers.
_BACKWARD: dict[str, Callable[[], writers.Backward]] = {
    "mnm_p": writers.perceptron,
    "mnm_p_hidden": functools.partial(writers.perceptron, hidden_size=32),
    "mnm_p_key": functools.partial(writers.perceptron, use_key=True),
    "mnm_p_fixed": functools.partial(writers.perceptron, is_learned=False),
    "feedback_alignment": rules.feedback_alignment,
    "synthetic_gradients": rules.synthetic_gradients,
}
_OTHERS: dict[str, Callable[[], Writer]] = {
    "mnm_g": writers.gradient,
    "titans": rules.titans,
    "gated_delta": rules.gated_delta,
}
_PAPER = ("mnm_p", "mnm_g")
_BASELINES = ("lstm", "salu", "attention")
_PLASTICITY = {"rnn": "none", "plastic": "hebbian", "modplast": "modulated", "modul": "retroactive"}
# The models of every experiment; the plasticity family was made for the maze.
COMMON = (*_PAPER, *_BASELINES)
# What is compared in the maze, and where it is memories that are compared.
AGENTS = (*COMMON, *_PLASTICITY)
MEMORIES = (*COMMON, "ntm", "dnc")
# The writing rules, those of the paper first.
WRITERS = tuple(dict.fromkeys((*_PAPER, *_BACKWARD, *_OTHERS)))
NAMES = (*MEMORIES, *WRITERS[len(_PAPER) :], *_PLASTICITY)


# What `cells.MNM` has and `cells.ChainedMNM` has not; none of it is an option of a baseline.
_NOT_CHAINED = (
    "key_normalization",
    "shared_key_start",
    "read_normalization",
    "rate_per",
    "rate_scale",
    "forget_bias",
    "compute_dtype",
)


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """The sizes and options of a model; each model takes those that it has.

    Attributes:
      controller_size: width of the LSTM, or of the recurrent network, and of the embedding.
      memory_size: width of keys, values and hidden layers of the memory.
      num_layers: layers of the memory, `L`.
      num_heads: `H`.
      relation_size: width of the relation in a key. Above 0, a memory that is written is that of `cells.ChainedMNM`,
        which has no `rate_per`, `rate_scale`, `key_normalization`, `read_normalization`, `shared_key_start`,
        `forget_bias` or `compute_dtype`: these have to be what they are by default.
      num_reads: how many reads `cells.ChainedMNM` chains in a step.
      num_chains: how many chains of reads it has side by side.
      readout_size: width of the hidden layer of its readout; 0 for no readout.
      gated_units: whether its controller and readout have gates.
      hidden_size: width of the hidden layers of the memory, if not `memory_size`, which 0 stands for.
      normalized_rule, bounded_targets: whether the local rules are normalised, and whether the targets of hidden layers
        are within their reach; see `writers.local`. Not for a writer of one's own, which has its own options.
      use_bias: whether the layers of the memory have biases.
      zero_output_layer: see `memory.Spec`.
      key_normalization, value_normalization, shared_key_start, rate_per, rate_scale, rate_bias: see
        `interface.Interface`; `'none'` stands for no normalisation.
      read_normalization: see `cells.MNM`; likewise.
      embedding_scale: see `cells.Embedding`.
      published_start, plasticity_scale: whether the plasticity family starts as in the published code, and how large
        its recurrent weights are at the start; see `cells.Plastic`.
      meta_weight: weight of the meta-objective in the loss, lambda; `None` for what `default_meta_weight` says. It is
        no option of the cell: what `TrainingSettings.meta_weight` is in a run of the experiments follows from it.
      forget_bias: whether the controller of a memory that is written starts with a forget bias of 1 (`cells.LSTMCell`)
        or, as in `flax.linen`, without.
      compute_dtype: `'bfloat16'` for the matrix products of `cells.MNM`.
    """

    controller_size: int
    memory_size: int
    num_layers: int = 3
    num_heads: int = 1
    relation_size: int = 0
    num_reads: int = 3
    num_chains: int = 1
    readout_size: int = 0
    gated_units: bool = False
    hidden_size: int = 0
    normalized_rule: bool = False
    bounded_targets: bool = False
    use_bias: bool = False
    zero_output_layer: bool = True
    key_normalization: str = "rms"
    value_normalization: str = "rms"
    shared_key_start: bool = True
    read_normalization: str = "none"
    rate_per: str = "step"
    rate_scale: float = 1.0
    rate_bias: float = -2.0
    embedding_scale: float = 1.0
    published_start: bool = False
    plasticity_scale: float = 0.01
    meta_weight: float | None = None
    forget_bias: bool = True
    compute_dtype: str = "float32"

    def __post_init__(self) -> None:
        _checks.check_positive(
            controller_size=self.controller_size,
            memory_size=self.memory_size,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            num_reads=self.num_reads,
            num_chains=self.num_chains,
        )
        for option in ("relation_size", "hidden_size", "readout_size"):
            if getattr(self, option) < 0:
                raise ValueError(f"{option} must not be negative, got {getattr(self, option)!r}")
        for option in ("rate_bias", "embedding_scale"):
            if not math.isfinite(getattr(self, option)):
                raise ValueError(f"{option} must be finite, got {getattr(self, option)!r}")
        if not 0 <= self.rate_scale < math.inf:
            raise ValueError(f"rate_scale must be finite and not negative, got {self.rate_scale!r}")
        _checks.check_choice("key_normalization", self.key_normalization, ("rms", "none"))
        _checks.check_choice("value_normalization", self.value_normalization, ("rms", "none"))
        _checks.check_choice("read_normalization", self.read_normalization, ("rms", "none"))
        _checks.check_choice("rate_per", self.rate_per, ("step", "head", "layer"))
        _checks.check_choice("compute_dtype", self.compute_dtype, ("float32", "bfloat16"))
        if self.relation_size:
            for option in _NOT_CHAINED:
                default = getattr(ModelSettings, option)
                if (value := getattr(self, option)) != default:
                    raise ValueError(
                        f"{option} must be {default!r} with a relation_size, which is for cells.ChainedMNM; "
                        f"that has no such option, got {value!r}"
                    )

    @property
    def memory_spec(self) -> Spec:
        """The architecture of the memory."""
        hidden_sizes = (self.hidden_size or self.memory_size,) * (self.num_layers - 1)
        key_size = self.memory_size + self.relation_size
        return Spec(key_size, self.memory_size, hidden_sizes, self.use_bias, self.zero_output_layer)


def find_writer(name: str, settings: ModelSettings | None = None) -> Writer | None:
    """The writer that a model's name stands for; `None` for a baseline.

    Args:
      name: one of `NAMES`, or `module:function` for a function of no arguments that makes a `Writer`.
      settings: the options of the local rules; `None` for the rules as they are in the paper.

    Raises:
      ValueError: if there is no such model, module or function, if it makes something else, or if it is a local rule
        that the options are not for.
    """
    if name in _BACKWARD:
        backward = _BACKWARD[name]()
        if settings is None:
            return writers.local(backward=backward)
        if backward.gives_steps and (settings.normalized_rule or settings.bounded_targets):
            option = "normalized_rule" if settings.normalized_rule else "bounded_targets"
            raise ValueError(
                f"model {name!r} has no {option}, for its layers take steps of their own, without a target; train it "
                "without, apart from models that have it"
            )
        return writers.local(backward=backward, normalized=settings.normalized_rule, bounded=settings.bounded_targets)
    if name in _OTHERS:
        return _OTHERS[name]()
    if name in NAMES:
        return None
    module, separator, function = name.partition(":")
    if not separator:
        raise ValueError(f"unknown model {name!r}; choose from {', '.join(NAMES)}, or module:function for a writer")
    try:
        writer: object = getattr(importlib.import_module(module), function)()
    except Exception as error:  # Whatever is wrong in the user's module.
        raise ValueError(f"model {name!r}: cannot make a writer: {error}{_paths.hint(error)}") from error
    if not isinstance(writer, Writer):
        raise ValueError(f"model {name!r}: makes a {type(writer).__name__}, not a Writer")
    return writer


def default_meta_weight(name: str) -> float:
    """The weight of the meta-objective, chosen by when learning takes off (`experiments/results/takeoff.md`).

    Any weight up to 0.1 will do. With much more, a local rule learns to write what is there already, and a gradient
    writer, which reduces the writing error by itself, only learns later.
    """
    return 0.01 if name in ("mnm_g", "titans", "gated_delta") else 0.03


class _Common(TypedDict):
    """The fields that every cell has."""

    output_size: int
    controller_size: int
    vocabulary_size: int | None
    embedding_scale: float


def build(
    name: str, settings: ModelSettings, *, output_size: int, vocabulary_size: int | None, num_steps: int
) -> nn.Module:
    """Makes the cell that a model's name stands for.

    Args:
      name: see `find_writer`.
      settings: its sizes and options.
      output_size: width of the output.
      vocabulary_size: number of symbols, if the inputs are symbols.
      num_steps: the longest episode, for a model that needs room for one.

    Returns:
      The cell. Its parameters do not depend on `num_steps`.

    Raises:
      ValueError: if there is no such model, or if the settings are not for it.
    """
    common: _Common = {
        "output_size": output_size,
        "controller_size": settings.controller_size,
        "vocabulary_size": vocabulary_size,
        "embedding_scale": settings.embedding_scale,
    }
    writer = find_writer(name, settings)
    if writer is not None and settings.relation_size:
        return cells.ChainedMNM(
            **common,
            memory_spec=settings.memory_spec,
            writer=writer,
            num_heads=settings.num_heads,
            num_reads=settings.num_reads,
            num_chains=settings.num_chains,
            readout_size=settings.readout_size,
            gated_units=settings.gated_units,
            rate_bias=settings.rate_bias,
        )
    if writer is not None:
        return cells.MNM(
            **common,
            memory_spec=writer.fit(settings.memory_spec),
            writer=writer,
            controller=cells.LSTMCell if settings.forget_bias else nn.OptimizedLSTMCell,
            num_heads=settings.num_heads,
            key_normalization=_or_none(settings.key_normalization),
            value_normalization=_or_none(settings.value_normalization),
            shared_key_start=settings.shared_key_start,
            read_normalization=_or_none(settings.read_normalization),
            rate_per=settings.rate_per,
            rate_scale=settings.rate_scale,
            rate_bias=settings.rate_bias,
            dtype=jnp.bfloat16 if settings.compute_dtype == "bfloat16" else None,
        )
    if name == "lstm":
        return cells.LSTM(**common)
    if name in _PLASTICITY:
        return cells.Plastic(
            **common,
            rule=_PLASTICITY[name],
            start_scale=settings.plasticity_scale,
            published_start=settings.published_start,
        )
    if name in ("ntm", "dnc"):
        num_slots = cells.num_slots_matching(settings.memory_spec, settings.memory_size)
        slot_size, num_heads = settings.memory_size, settings.num_heads
        if name == "ntm":
            return cells.NTM(**common, num_slots=num_slots, slot_size=slot_size, num_heads=num_heads)
        return cells.DNC(**common, num_slots=num_slots, slot_size=slot_size, num_read_heads=num_heads)
    if name == "salu":
        return cells.SALU(
            **common,
            key_size=settings.memory_size,
            value_size=settings.memory_size,
            num_heads=settings.num_heads,
            value_normalization=_or_none(settings.value_normalization),
            num_slots=cells.num_slots_matching(settings.memory_spec, 2 * settings.memory_size),
        )
    return cells.Attention(
        **common,
        key_size=settings.memory_size,
        value_size=settings.memory_size,
        num_heads=settings.num_heads,
        max_steps=num_steps,
    )


def _or_none(option: str) -> str | None:
    return None if option == "none" else option

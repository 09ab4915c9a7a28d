"""How to train, and the optimiser that follows from it."""

import dataclasses
from typing import ClassVar

import optax

from mnm_jax import _checks


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """How to train.

    Attributes:
      num_updates: how many updates in all.
      batch_size: episodes per update, `B`.
      candidates: how many episodes are drawn for each one that is trained on, of the same bucket if there are buckets.
        If more than one, all of them are run first, without a gradient and without dropout, and `B` are chosen one
        after the other, each in proportion to the task's losses of those left; a negative one counts as 0. What is
        solved already is mostly left out, the gradient is no longer that of the mean loss, and what is logged of the
        updates is of the harder episodes. After Jiang et al. ("Accelerating Deep Learning by Focusing on the Biggest
        Losers", 2019), whose probabilities are powers of the losses' ranks. Not for an `InteractiveTask`.
      learning_rate: of Adam.
      adam_epsilon: what Adam adds to the root of the second moment.
      schedule: of the learning rate: `'constant'`, or `'cosine'`, which ends at zero after `num_updates`, if none of
        them is skipped because something was not finite.
      clip_norm: the largest global norm of the gradient; what is above is scaled down to it.
      meta_weight: weight of the meta-objective in the loss, lambda. Of no effect for a cell without a written memory.
      idle_updates: the first so many updates compute everything and change nothing.
      embedding_dropout: share of the numbers in the cell's embedding that an update puts at zero, drawn anew for each
        update, the others being scaled up. As in Gal and Ghahramani ("A Theoretically Grounded Application of Dropout
        in Recurrent Neural Networks", NeurIPS 2016) the mask belongs to the words and not to the steps; but it takes
        single features of a word, not whole words, and is the same for all episodes of an update. Evaluations are
        without. The weights of positions in a sentence are numbers of the embedding too. Not for an `InteractiveTask`.
      evaluate_every: updates between two evaluations.
      evaluation_episodes: how many held-out episodes an evaluation takes, the same ones every time.
      evaluation_seed: seed of the held-out episodes.
    """

    num_updates: int
    batch_size: int = 32
    candidates: int = 1
    learning_rate: float = 3e-3
    adam_epsilon: float = 1e-8
    schedule: str = "constant"
    clip_norm: float = 1.0
    meta_weight: float = 0.03
    idle_updates: int = 0
    embedding_dropout: float = 0.0
    evaluate_every: int = 50
    evaluation_episodes: int = 256
    evaluation_seed: int = 1_000_000

    # Those that only `default_optimizer` looks at.
    OF_OPTIMIZER: ClassVar[tuple[str, ...]] = ("learning_rate", "adam_epsilon", "schedule", "clip_norm")

    def __post_init__(self) -> None:
        _checks.check_choice("schedule", self.schedule, ("constant", "cosine"))
        _checks.check_positive(
            num_updates=self.num_updates,
            batch_size=self.batch_size,
            candidates=self.candidates,
            evaluate_every=self.evaluate_every,
            evaluation_episodes=self.evaluation_episodes,
        )
        if not _checks.is_whole(self.idle_updates) or self.idle_updates < 0:
            raise ValueError(f"idle_updates must be a whole number of at least 0, got {self.idle_updates!r}")
        for name in ("learning_rate", "meta_weight"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be finite and not negative, got {value!r}")
        for name in ("adam_epsilon", "clip_norm"):
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise ValueError(f"{name} must be finite and positive, got {value!r}")
        if not 0 <= self.embedding_dropout < 1:
            raise ValueError(f"embedding_dropout must be at least 0 and below 1, got {self.embedding_dropout!r}")


def default_optimizer(settings: TrainingSettings) -> optax.GradientTransformation:
    """The optimiser that the settings ask for: the gradient's global norm clipped, then Adam, with a schedule."""
    learning_rate = settings.learning_rate
    if settings.schedule == "cosine":
        # The optimiser does not count idle updates.
        num_steps = max(settings.num_updates - settings.idle_updates, 1)
        learning_rate = optax.cosine_decay_schedule(learning_rate, num_steps)
    return optax.chain(
        optax.clip_by_global_norm(settings.clip_norm), optax.adam(learning_rate, eps=settings.adam_epsilon)
    )

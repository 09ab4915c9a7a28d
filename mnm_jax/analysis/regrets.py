"""What trained agents do with bandits: how much they win, and how much more the best arm would have paid.

Axes: `S` seeds, `N` test episodes, `T` plays.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mnm_jax.analysis import style, tables
from mnm_jax.analysis.panels import mean_and_band
from mnm_jax.analysis.runs import Run, open_arrays

REGRETS = "regrets.npz"


class Plays(NamedTuple):
    """The test episodes of a trained agent.

    Attributes:
      run: its training.
      update: after how many updates.
      rewards: `[S, N, T]`.
      regrets: `[S, N, T]`, by how much the best arm pays more in the mean than the one that was played.
    """

    run: Run
    update: int
    rewards: np.ndarray
    regrets: np.ndarray


class Summary(NamedTuple):
    """One agent's row of the table.

    Attributes:
      model: the name of the model.
      num_seeds: `S`.
      steps: how many plays it was trained on.
      reward: the mean reward of a test episode.
      reward_low, reward_high: the 95% interval of the mean over seeds.
      regret: the mean sum of the regrets of a test episode.
      late_regret: the mean regret of a play in the second half of the episodes.
    """

    model: str
    num_seeds: int
    steps: int
    reward: float
    reward_low: float
    reward_high: float
    regret: float
    late_regret: float


def load(run: Run) -> Plays | None:
    """Reads what the experiment wrote about a trained agent; `None` if it has not yet.

    Raises:
      LoadError: if the file is not what the experiment writes.
    """
    path = run.directory / REGRETS
    if not path.exists():
        return None
    with open_arrays(path) as arrays:
        rewards, regrets = (arrays[name].astype(float) for name in ("rewards", "regrets"))
        if rewards.ndim != 3 or len(rewards) != len(run.seeds) or rewards.shape != regrets.shape:
            raise ValueError(f"'rewards' and 'regrets' are of shapes {rewards.shape} and {regrets.shape}")
        return Plays(run, int(arrays["update"]), rewards, regrets)


def summarize(agents: Sequence[Plays]) -> list[Summary]:
    """The rows of the table, the library's own models first."""
    return [_summarize(plays) for plays in sorted(agents, key=lambda agent: style.order(agent.run.model))]


def _summarize(plays: Plays) -> Summary:
    run, regrets = plays.run, plays.regrets
    mean, low, high = (float(x[0]) for x in mean_and_band(plays.rewards.sum(axis=-1).mean(axis=1)[:, None]))
    return Summary(
        model=run.model,
        num_seeds=len(run.seeds),
        steps=plays.update * run.config["training"]["batch_size"] * run.task["episode_length"],
        reward=mean,
        reward_low=low,
        reward_high=high,
        regret=float(regrets.sum(axis=-1).mean()),
        late_regret=float(regrets[..., regrets.shape[-1] // 2 :].mean()),
    )


def to_markdown(rows: Sequence[Summary]) -> str:
    """The table for people."""
    labels = style.styles([row.model for row in rows])
    header = (
        "agent",
        "seeds",
        "training (plays)",
        "reward of an episode",
        "95% interval",
        "regret of an episode",
        "regret of a play, second half",
    )
    cells = [
        (
            labels[row.model].label,
            str(row.num_seeds),
            f"{row.steps:,}",
            f"{row.reward:.2f}",
            tables.span(row.reward_low, row.reward_high, ".2f") if row.num_seeds > 1 else "-",
            f"{row.regret:.2f}",
            f"{row.late_regret:.4f}",
        )
        for row in rows
    ]
    return tables.to_markdown(header, cells)


def to_csv(rows: Sequence[Summary]) -> str:
    """The table for programs, unrounded."""
    return tables.to_csv(Summary._fields, rows)

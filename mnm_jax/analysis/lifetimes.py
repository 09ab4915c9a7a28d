"""What trained agents do in the maze: how much reward they find, and whether they remember where it is.

Axes: `S` seeds, `N` test episodes, `T` steps, `K` visits to the reward.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mnm_jax.analysis import style, tables
from mnm_jax.analysis.panels import mean_and_band
from mnm_jax.analysis.runs import Run, open_arrays

LIFETIMES = "lifetimes.npz"

# A visit that few episodes have says more about these than about the agent.
_LEAST_SHARE = 0.5


class Lifetimes(NamedTuple):
    """The test episodes of a trained agent.

    Attributes:
      run: its training.
      update: after how many updates.
      rewards: `[S, N, T]`.
      rewards_without_writing: the same for the same agents with their memory's rate at 0; `None` for an agent without.
      positions: `[T + 1, 2]`, where the first seed's agent is in its first episode.
      reward_position: `[2]`, and where its reward is.
    """

    run: Run
    update: int
    rewards: np.ndarray
    rewards_without_writing: np.ndarray | None
    positions: np.ndarray
    reward_position: np.ndarray


class Summary(NamedTuple):
    """One agent's row of the table.

    Attributes:
      model: the name of the model.
      num_seeds: `S`.
      steps: how many steps of the environment it was trained on.
      reward: the mean reward of a test episode.
      reward_low, reward_high: the 95% interval of the mean over seeds.
      half_steps: after how many steps of the environment the median seed had half of the reward of the best agent in
        the table; infinite if half of the seeds never had.
      first_visit: the mean number of steps until the reward is found.
      later_visit: the mean number of steps from one visit to the next.
      reward_without_writing: the mean reward with the memory's rate at 0; NaN for an agent without.
      steps_per_second: of the environment, in training with its evaluations, all seeds together; NaN if not recorded.
    """

    model: str
    num_seeds: int
    steps: int
    reward: float
    reward_low: float
    reward_high: float
    half_steps: float
    first_visit: float
    later_visit: float
    reward_without_writing: float
    steps_per_second: float


def load(run: Run) -> Lifetimes | None:
    """Reads what the experiment wrote about a trained agent; `None` if it has not yet.

    Raises:
      LoadError: if the file is not what the experiment writes.
    """
    path = run.directory / LIFETIMES
    if not path.exists():
        return None
    with open_arrays(path) as arrays:
        rewards = arrays["rewards"].astype(float)
        if rewards.ndim != 3 or len(rewards) != len(run.seeds):
            raise ValueError(f"'rewards' is of shape {rewards.shape}, for {len(run.seeds)} seeds")
        without = arrays["rewards_without_writing"].astype(float) if "rewards_without_writing" in arrays else None
        return Lifetimes(run, int(arrays["update"]), rewards, without, arrays["positions"], arrays["reward_position"])


def steps_to_visits(rewards: np.ndarray) -> np.ndarray:
    """How long an agent looks for the reward each time.

    Args:
      rewards: `[N, T]`, above 0 where the reward was found.

    Returns:
      `[K]`, for each visit the mean number of steps since the visit before, or since the start, over the episodes that
      have this visit; at least half of the episodes have the last one. Short searches are more likely to fit into an
      episode, so a mean over half of the episodes is a little too small.
    """
    gaps = _gaps(rewards)
    counts = np.array([len(gap) for gap in gaps])
    # The share of episodes with so many visits falls with the number of visits.
    num_visits = int(np.quantile(counts, 1 - _LEAST_SHARE, method="lower"))
    return np.array([np.mean([gap[k] for gap in gaps if len(gap) > k]) for k in range(num_visits)])


def _gaps(rewards: np.ndarray) -> list[np.ndarray]:
    """For each episode of `[N, T]`, the steps of each search: since the visit before, or since the start."""
    return [np.diff(np.flatnonzero(episode > 0), prepend=-1) for episode in rewards]


def visits_of(lifetimes: Lifetimes) -> np.ndarray:
    """`steps_to_visits` of every seed, `[S, K]`, up to the last visit that all seeds have."""
    steps = [steps_to_visits(rewards) for rewards in lifetimes.rewards]
    num_visits = min(map(len, steps))
    return np.stack([of_seed[:num_visits] for of_seed in steps])


def summarize(agents: Sequence[Lifetimes]) -> list[Summary]:
    """The rows of the table, the library's own models first."""
    best = max(lifetimes.rewards.sum(axis=-1).mean() for lifetimes in agents)
    return [_summarize(lifetimes, best) for lifetimes in sorted(agents, key=lambda agent: style.order(agent.run.model))]


def _summarize(lifetimes: Lifetimes, best: float) -> Summary:
    run, rewards = lifetimes.run, lifetimes.rewards
    steps_per_update = run.config["training"]["batch_size"] * run.task["episode_length"]
    episode_rewards = rewards.sum(axis=-1).mean(axis=1)
    mean, low, high = (float(x[0]) for x in mean_and_band(episode_rewards[:, None]))
    reached = run.metrics["eval_episode_reward"] >= best / 2
    half = np.where(reached.any(axis=1), run.updates[reached.argmax(axis=1)] * steps_per_update, np.inf)
    gaps = _gaps(rewards.reshape(-1, rewards.shape[-1]))
    firsts = [gap[0] for gap in gaps if len(gap)]
    laters = np.concatenate([gap[1:] for gap in gaps])
    without = lifetimes.rewards_without_writing
    num_steps = lifetimes.update * steps_per_update
    return Summary(
        model=run.model,
        num_seeds=len(run.seeds),
        steps=num_steps,
        reward=mean,
        reward_low=low,
        reward_high=high,
        half_steps=float(np.median(half)),
        first_visit=float(np.mean(firsts)) if firsts else np.nan,
        later_visit=float(laters.mean()) if len(laters) else np.nan,
        reward_without_writing=np.nan if without is None else float(without.sum(axis=-1).mean()),
        steps_per_second=len(run.seeds) * num_steps / run.seconds if run.seconds else np.nan,
    )


def to_markdown(rows: Sequence[Summary]) -> str:
    """The table for people."""
    labels = style.styles([row.model for row in rows])
    header = (
        "agent",
        "seeds",
        "training (steps)",
        "reward of an episode",
        "95% interval",
        "with the rate at 0",
        "steps until the first visit",
        "steps between later visits",
        "training until half of the best (steps)",
        "steps per second",
    )
    cells = [
        (
            labels[row.model].label,
            str(row.num_seeds),
            f"{row.steps:,}",
            f"{row.reward:.1f}",
            tables.span(row.reward_low, row.reward_high, ".1f") if row.num_seeds > 1 else "-",
            tables.number(row.reward_without_writing, ".1f"),
            tables.number(row.first_visit, ".1f"),
            tables.number(row.later_visit, ".1f"),
            "never" if np.isinf(row.half_steps) else f"{row.half_steps:,.0f}",
            tables.number(row.steps_per_second, ",.0f"),
        )
        for row in rows
    ]
    return tables.to_markdown(header, cells)


def to_csv(rows: Sequence[Summary]) -> str:
    """The table for programs, unrounded."""
    return tables.to_csv(Summary._fields, rows)

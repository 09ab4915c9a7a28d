"""Bandits, and what can be earned with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnm_jax.policies import Policy
from mnm_jax.tasks import BanditTask, bandits
from mnm_jax.tasks.bandits import Bandit, Params

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_an_arm_pays_as_often_as_it_is_said_to():
    bandit, num_plays = Bandit(3), 4000
    _, state = bandit.reset(jax.random.key(0))
    assert state.probabilities.shape == (3,)
    assert ((state.probabilities >= 0) & (state.probabilities < 1)).all()
    play = jax.jit(jax.vmap(lambda key, arm: bandit.step_env(key, state, arm)[2]))
    for arm in range(3):
        rewards = play(jax.random.split(jax.random.key(1), num_plays), jnp.full(num_plays, arm))
        assert set(np.unique(rewards)) <= {0, 1}
        assert abs(rewards.mean() - state.probabilities[arm]) < 4 * 0.5 / num_plays**0.5


def test_an_agent_sees_what_it_did_what_that_paid_and_the_time():
    bandit, params = Bandit(2), Params(4)
    observation, state = bandit.reset(jax.random.key(0), params)
    np.testing.assert_array_equal(observation, [0, 0, 0, 0])
    state = state._replace(probabilities=jnp.ones(2))
    observation, state, reward, terminated, truncated, _ = bandit.step_env(jax.random.key(1), state, 1, params)
    np.testing.assert_array_equal(observation, [0, 1, 1, 0.25])
    assert (float(reward), bool(terminated), bool(truncated)) == (1, False, False)
    assert bandit.observation_space().contains(observation)
    assert observation.shape == (bandit.observation_size,)
    assert bandit.action_space().n == bandit.num_actions == 2


def test_the_next_episode_begins_with_other_arms():
    bandit, params = Bandit(2), Params(1)
    _, state = bandit.reset(jax.random.key(0), params)
    observation, after, _, _, truncated, info = bandit.step(jax.random.key(1), state, 0, params)
    assert truncated
    assert int(after.time) == 0
    np.testing.assert_array_equal(observation, np.zeros(4))
    assert float(info["final_observation"][3]) == 1
    assert (after.probabilities != state.probabilities).all()


def optimal(num_plays, wins=(0, 0), losses=(0, 0)):
    """The definition: the better of the two arms, given what is known, and then on."""
    if num_plays == 0:
        return 0.0
    values = []
    for arm in (0, 1):
        more = [[count + (i == arm) for i, count in enumerate(counts)] for counts in (wins, losses)]
        chance = (wins[arm] + 1) / (wins[arm] + losses[arm] + 2)
        won, lost = optimal(num_plays - 1, more[0], losses), optimal(num_plays - 1, wins, more[1])
        values.append(chance * (1 + won) + (1 - chance) * lost)
    return max(values)


@pytest.mark.parametrize("num_plays", [1, 2, 5])
def test_the_bayes_optimal_reward_is_that_of_its_definition(num_plays):
    assert bandits.bayes_optimal_reward(num_plays) == pytest.approx(optimal(num_plays), rel=1e-12)


def test_levels_are_in_order():
    levels = bandits.reference_levels(Bandit(), Params(30))
    assert (levels["random"], levels["best arm known"]) == (15, 20)
    assert 15 < levels["Bayes-optimal"] < 20
    assert bandits.reference_levels(Bandit(4), Params(10)) == {"random": 5, "best arm known": 8}


def test_an_agent_that_wins_and_stays_is_between_random_and_optimal():
    """The task acts, records and measures what it says."""
    task = BanditTask(episode_length=20)

    def step(carry, inputs):
        arm, reward = inputs[:2], inputs[2]
        logits = jnp.where(reward > 0, arm, arm[::-1]) * 100
        return carry, jnp.concatenate([logits, jnp.zeros(1)])

    act = jax.jit(jax.vmap(lambda rng: task.act(rng, Policy(lambda inputs: (), step))))
    plays = act(jax.random.split(jax.random.key(0), 3000))
    levels = bandits.reference_levels(task.environment, task.params)
    mean = float(plays.rewards.sum(axis=1).mean())
    assert levels["random"] + 0.5 < mean < levels["Bayes-optimal"]
    stays = plays.rewards[:, :-1] > 0
    assert ((plays.actions[:, 1:] == plays.actions[:, :-1]) == stays).all()
    one = jax.tree.map(lambda leaf: leaf[0], plays)
    regrets = [max(one.probabilities) - one.probabilities[arm] for arm in one.actions]
    metrics = task.metrics(jnp.zeros((20, 3)), one)
    np.testing.assert_allclose(metrics["regret"], sum(regrets), rtol=1e-5)
    np.testing.assert_allclose(metrics["episode_reward"], one.rewards.sum())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"num_arms": 1}, "num_arms must be a whole number of at least 2, got 1"), ({"discount": 2.0}, "discount")],
)
def test_impossible_games_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        BanditTask(**arguments)


def test_what_is_no_arm_brings_no_number():
    bandit = Bandit()
    _, state = bandit.reset(jax.random.key(0))
    with pytest.raises(ValueError, match="argument 'action': wants integers of 0 to 1, got 2"):
        bandit.step(jax.random.key(0), state, 2)
    rewards = jax.jit(jax.vmap(lambda arm: bandit.step_env(jax.random.key(0), state, arm)[2]))(jnp.arange(-1, 3))
    np.testing.assert_array_equal(np.isnan(rewards), [True, False, False, True])

"""Episodes in the maze as training takes them: acted first, then unrolled on what was recorded."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mnm_jax as mnm
from mnm_jax import models, training
from mnm_jax.tasks import MazeTask
from mnm_jax.tasks.maze_task import Lifetime

pytestmark = pytest.mark.usefixtures("quick_compilation")

TASK = MazeTask(size=5, episode_length=3, wall_penalty=0.5)


@pytest.fixture(scope="module", params=["mnm_g", "attention", "modul", "dnc"])
def agent(request):
    settings = models.ModelSettings(6, 4, num_layers=2)
    cell = models.build(request.param, settings, output_size=5, vocabulary_size=None, num_steps=TASK.num_steps)
    params = cell.init(jax.random.key(0), None, jnp.zeros(17))["params"]
    # Larger outputs than at the start of training, so that the policy is not nearly uniform.
    params["output"]["kernel"] *= 3
    return cell, params


def act_by_hand(cell, params, rng):
    """A plain loop in which the agent acts; returns its outputs, to be differentiated, and the episode."""
    environment, carry = TASK.environment, None
    rng, rng_reset = jax.random.split(rng)
    observation, state = environment.reset(rng_reset, TASK.params)
    steps, positions = [], [state.position]
    for step_rng in jax.random.split(rng, TASK.num_steps):
        rng_action, rng_step = jax.random.split(step_rng)
        carry, (output, _) = cell.apply({"params": params}, carry, observation)
        action = jax.random.categorical(rng_action, output[:4])
        next_observation, state, reward, *_ = environment.step_env(rng_step, state, action, TASK.params)
        steps.append((output, observation, action, reward))
        positions.append(state.position)
        observation = next_observation
    outputs, observations, actions, rewards = (jnp.stack(parts) for parts in zip(*steps, strict=True))
    return outputs, Lifetime(observations, actions, rewards, jnp.stack(positions), state.reward_position)


def test_the_replay_is_the_episode_that_was_acted_and_so_is_its_gradient(agent):
    cell, params = agent
    rngs = jax.random.split(jax.random.key(1), 4)

    def loss_by_hand(params, rng):
        outputs, episode = act_by_hand(cell, params, rng)
        return TASK.loss(outputs, episode), (outputs, episode)

    def loss(params, episode):
        outputs = mnm.unroll(cell, {"params": params}, episode.inputs).outputs
        return TASK.loss(outputs, episode), outputs

    by_hand = jax.jit(jax.vmap(jax.value_and_grad(loss_by_hand, has_aux=True), in_axes=(None, 0)))
    (_, (outputs, episodes)), gradients = by_hand(params, rngs)
    acted = jax.jit(jax.vmap(lambda rng: TASK.act(rng, mnm.policy(cell, {"params": params}))))(rngs)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), acted, episodes)
    assert len(np.unique(acted.actions)) > 2

    replayed = jax.jit(jax.vmap(jax.value_and_grad(loss, has_aux=True), in_axes=(None, 0)))
    (_, replayed_outputs), replayed_gradients = replayed(params, acted)
    np.testing.assert_allclose(replayed_outputs, outputs, rtol=1e-5, atol=1e-6)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=1e-5), replayed_gradients, gradients)


def test_training_acts_with_the_parameters_that_it_trains(agent):
    cell, params = agent
    settings = training.TrainingSettings(num_updates=1, batch_size=2, evaluation_episodes=4)
    functions = training.make_functions(TASK, cell, settings)
    batches = training.held_out(TASK, settings)
    metrics = jax.jit(functions.evaluate)({"params": params}, batches)
    rngs = jax.random.wrap_key_data(batches[0])
    acted = jax.jit(jax.vmap(lambda rng: TASK.act(rng, mnm.policy(cell, {"params": params}))))(rngs)
    np.testing.assert_allclose(metrics["episode_reward"], acted.rewards.sum(axis=1).mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["visits"], (acted.rewards > 0).sum(axis=1).mean(), rtol=1e-5)


def test_metrics_are_those_of_a_uniform_policy_and_of_perfect_values():
    rewards = jnp.array([0.0, 10, -0.5, 0, 0, 10, 0])
    episode = Lifetime(jnp.zeros((7, 17)), jnp.zeros(7, int), rewards, jnp.zeros((8, 2), int), jnp.zeros(2, int))
    values = mnm.objectives.discounted_returns(rewards, TASK.discount)
    outputs = jnp.concatenate([jnp.zeros((7, 4)), values[:, None]], axis=1)
    metrics = TASK.metrics(outputs, episode)
    expected = {"episode_reward": 19.5, "visits": 2, "entropy": np.log(4), "value_error": 0}
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5)
    # The uniform policy's squared probabilities sum to 1/4, and the advantages are zero.
    np.testing.assert_allclose(TASK.loss(outputs, episode), TASK.concentration_weight / 4, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 4}, "size"),
        ({"episode_length": 0}, "episode_length"),
        ({"reward": 0.0}, "reward"),
        ({"reward": float("inf")}, "reward"),
        ({"wall_penalty": -1.0}, "wall_penalty"),
        ({"discount": 1.5}, "discount"),
        ({"value_weight": float("nan")}, "value_weight"),
        ({"concentration_weight": -0.1}, "concentration_weight"),
    ],
)
def test_impossible_tasks_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MazeTask(**arguments)

"""Cells, tasks and optimisers of one's own: constants, losses of a cell, any optimiser, and the way back from a run."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from mixing import Mixing, as_dictionary
from recall import BUCKETED, SEEDS, SETTINGS, TASK, assert_equal

import mnm_jax as mnm
from mnm_jax import training
from mnm_jax.tasks import MazeTask

pytestmark = pytest.mark.usefixtures("quick_compilation")

CELL = Mixing(TASK.output_size)
MAZE = MazeTask(size=5, episode_length=4)


def of_seed(tree, i):
    return jax.tree.map(lambda leaf: leaf[i], tree)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run, what it told after each evaluation, and where it is."""
    directory = tmp_path_factory.mktemp("own")
    told = []
    report = training.run(
        TASK, CELL, SETTINGS, SEEDS, directory, on_evaluation=lambda update, metrics: told.append((update, metrics))
    )
    return report, told, directory


def test_a_run_leaves_what_load_reads(trained):
    report, _, directory = trained
    for i, seed in enumerate(SEEDS):
        cell, variables, task, update, configuration = training.load(directory, task=TASK, cell=CELL, seed=seed)
        assert (cell, task, update, configuration) == (CELL, TASK, SETTINGS.num_updates, None)
        assert_equal(variables, of_seed(report.state.variables, i))
        best = training.load(directory, task=TASK, cell=CELL, seed=seed, best=True)
        assert_equal(best.variables, of_seed(report.state.best_variables, i))
        assert best.update == report.state.best.update[i]
    inputs = task.sample(jax.random.key(0)).inputs
    assert mnm.unroll(cell, variables, inputs).outputs.shape == (TASK.num_steps, TASK.output_size)


def test_what_load_cannot_read_is_refused(trained, tmp_path):
    *_, directory = trained
    with pytest.raises(
        ValueError, match=r"what was trained by training.run itself is loaded with the arguments task and cell alone$"
    ):
        training.load(directory)
    with pytest.raises(ValueError, match=r"^task and cell go together: give both"):
        training.load(directory, cell=CELL)
    with pytest.raises(ValueError, match=f"{directory} has no seed 7; it has 0, 1, 5$"):
        training.load(directory, task=TASK, cell=CELL, seed=7)
    with pytest.raises(
        training.RestoreError, match=r"training: cell\.size was 3 and is 4; task\.num_steps was 3 and is 5$"
    ):
        training.load(directory, task=type(TASK)(5), cell=CELL.clone(size=4))
    with pytest.raises(training.RestoreError, match=f"^no checkpoint in {tmp_path}/checkpoints"):
        training.load(tmp_path, task=TASK, cell=CELL)


def test_every_evaluation_is_told_as_it_is_written(trained):
    _, told, directory = trained
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    heard = [
        {"update": update, "seed": seed, **{name: float(values[i]) for name, values in metrics.items()}}
        for update, metrics in told
        for i, seed in enumerate(SEEDS)
    ]
    assert heard == lines


def test_without_a_terminal_a_run_tells_in_lines_what_it_does(tmp_path, capsys):
    for max_seconds in (0, np.inf, np.inf):
        training.run(TASK, CELL, SETTINGS, SEEDS, tmp_path, max_seconds=max_seconds, description="mine")
    out, err = capsys.readouterr()
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    update = r"accuracy \d\.\d\d\d, [\d.e+]+ updates per second, \d\d:\d\d left"
    wanted = [
        "compiling the first evaluation for 3 seeds",
        r"compiled the first evaluation for 3 seeds in \d+\.\d s",
        "compiling an update for 3 seeds",
        r"compiled an update for 3 seeds in \d+\.\d s",
        "going on after update 1",
        "compiling an evaluation for 3 seeds",
        r"compiled an evaluation for 3 seeds in \d+\.\d s",
        "compiling an update for 3 seeds",
        r"compiled an update for 3 seeds in \d+\.\d s",
        f"update 4 of 6, {update}",
        f"update 6 of 6, {update}",
        "ended after update 6",
        "compiling an evaluation for 3 seeds",
        r"compiled an evaluation for 3 seeds in \d+\.\d s",
    ]
    assert out == ""
    assert re.fullmatch("".join(f"mine: {line}\n" for line in wanted), err), err
    assert last["update"] == 6


def test_no_seeds_are_refused(tmp_path):
    for seeds in ((), 3, (0.5,)):
        with pytest.raises(ValueError, match=rf"^argument 'seeds': wants a whole .*, got {re.escape(repr(seeds))}$"):
            training.run(TASK, CELL, SETTINGS, seeds, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_constants_are_of_the_seed_and_nothing_changes_them(trained, tmp_path):
    report, _, _ = trained
    state = report.state
    start = training.place(TASK, CELL, SETTINGS).collect(training.place(TASK, CELL, SETTINGS).init(SEEDS))
    assert state.params.keys() == {"input", "output"}
    assert_equal(state.constants, start.constants)
    mixing = state.constants["constants"]["mixing"]
    assert mixing.shape == (3, 3, 3)
    assert len({seed.tobytes() for seed in mixing}) == len(SEEDS)
    assert not np.array_equal(state.params["input"]["kernel"], start.params["input"]["kernel"])
    # The optimiser has nothing for them: Adam's two moments of each parameter, and its count.
    assert len(jax.tree.leaves(state.opt_state)) == 2 * len(jax.tree.leaves(state.params)) + 1
    training.run(TASK, CELL, SETTINGS, SEEDS, tmp_path, max_seconds=0)
    assert_equal(training.run(TASK, CELL, SETTINGS, SEEDS, tmp_path).state, state)


@pytest.mark.parametrize("task", [BUCKETED, MAZE], ids=["buckets", "interactive"])
def test_constants_are_handed_on_wherever_a_task_needs_the_cell(task, tmp_path):
    cell = Mixing(task.output_size)
    settings = dataclasses.replace(SETTINGS, num_updates=2, evaluate_every=2)
    report = training.run(task, cell, settings, (3,), tmp_path)
    variables = training.load(tmp_path, task=task, cell=cell).variables
    assert_equal(variables, of_seed(report.state.variables, 0))
    metrics = training.make_functions(task, cell, settings).evaluate(variables, training.held_out(task, settings))
    for name, value in metrics.items():
        np.testing.assert_allclose(value, report.metrics[name][0], rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("trace_as", [Mixing(1).trace_as, as_dictionary], ids=["named", "dictionary"])
def test_the_cell_s_own_loss_and_extras_are_means_over_the_steps_that_count(trace_as, float64):
    cell = Mixing(BUCKETED.output_size, trace_as=trace_as)
    settings = dataclasses.replace(SETTINGS, meta_weight=0.0)
    episodes = training.Episodes(BUCKETED, cell, settings.meta_weight)
    variables = cell.init(jax.random.key(0), None, episodes.first_inputs())
    variables = jax.tree.map(lambda leaf: leaf.astype(float), variables)
    example = of_seed(training.held_out(BUCKETED, settings)[1], 0)
    example = example._replace(inputs=jnp.array([1, 3, 2, 0, 1]), length=jnp.array(3))

    def by_hand(params):
        state, states, mixing = jnp.zeros(3), [], variables["constants"]["mixing"]
        for x in example.inputs[:3]:
            state = jnp.tanh(mixing @ state + params["input"]["kernel"][0] * x + params["input"]["bias"])
            states.append(state)
        outputs = jnp.pad(jnp.stack(states), ((0, 2), (0, 0))) @ params["output"]["kernel"] + params["output"]["bias"]
        auxiliary = cell.price * sum(jnp.sum(state**2) for state in states) / 3
        extras = {"state": jnp.mean(jnp.stack(states)), "largest": jnp.mean(jnp.max(jnp.stack(states), axis=1))}
        return BUCKETED.loss(outputs, example) + auxiliary, {"auxiliary_loss": auxiliary, **extras}

    def measure(params):
        batch_of_one = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], example)
        return episodes.measure_batch({**variables, "params": params}, batch_of_one)

    (value, metrics), gradient = jax.value_and_grad(measure, has_aux=True)(variables["params"])
    (wanted, named), wanted_gradient = jax.value_and_grad(by_hand, has_aux=True)(variables["params"])
    np.testing.assert_allclose(value, wanted, rtol=1e-12)
    np.testing.assert_allclose(metrics["loss"], wanted - named["auxiliary_loss"], rtol=1e-12)
    for name, mean in named.items():
        np.testing.assert_allclose(metrics[name], mean, rtol=1e-12)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-14), gradient, wanted_gradient)


def test_an_extra_with_the_name_of_a_metric_is_refused():
    cell = Mixing(TASK.output_size, trace_as=lambda loss, extras: {"extras": {"accuracy": loss}})
    with pytest.raises(ValueError, match="the trace's extras: 'accuracy' is the name of another metric"):
        training.place(TASK, cell, SETTINGS).shapes(1)


class TestAnOptimizer:
    def test_takes_the_place_of_the_usual_one(self):
        placement = training.place(TASK, CELL, SETTINGS, optimizer=optax.sgd(0.5))
        functions = training.make_functions(TASK, CELL, SETTINGS)
        start = placement.collect(placement.init(SEEDS[:1]))
        state = placement.collect(placement.train_chunk(placement.init(SEEDS[:1]), 1)[0])
        rng = jax.random.fold_in(jax.random.wrap_key_data(start.rng[0]), 0)
        examples = jax.vmap(TASK.sample)(jax.random.split(rng, SETTINGS.batch_size))

        def loss(params):
            metrics = functions.evaluate({"params": params, **of_seed(start.constants, 0)}, [examples])
            return metrics["loss"] + metrics["auxiliary_loss"]

        gradient = jax.grad(loss)(of_seed(start.params, 0))
        moved = jax.tree.map(lambda new, old: (old - new)[0] / 0.5, state.params, start.params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), moved, gradient)
        assert jax.tree.leaves(state.opt_state) == []

    def test_is_part_of_what_a_run_goes_on_with(self, tmp_path):
        def train(learning_rate, **arguments):
            optimizer = learning_rate and optax.sgd(learning_rate, momentum=0.9)
            return training.run(TASK, CELL, SETTINGS, SEEDS, tmp_path, optimizer=optimizer, **arguments)

        train(0.5, max_seconds=0)
        with pytest.raises(training.RestoreError, match=r"training: optimizer was .*0.5.* and is .*0.25"):
            train(0.25)
        with pytest.raises(training.RestoreError, match=r"training: .*optimizer was .*0.5.* and is absent"):
            train(None)
        assert train(0.5).is_finished

    def test_of_equal_settings_is_the_usual_one(self):
        usual, same = (
            training.place(TASK, CELL, SETTINGS, optimizer=optimizer)
            for optimizer in (None, training.default_optimizer(SETTINGS))
        )
        states = [some.collect(some.train_chunk(some.init(SEEDS), 3)[0]) for some in (usual, same)]
        assert_equal(*states)

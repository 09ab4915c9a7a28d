"""The training loop: reproducible, resumable, the same for a seed alone and among others."""

import dataclasses
import json
import struct
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from recall import SEEDS, SETTINGS, TASK, assert_equal, build, damage

from mnm_jax import models, training
from mnm_jax.cells.embedding import drop_features
from mnm_jax.tasks.dictionary import Dictionary
from mnm_jax.training.episodes import Episodes
from mnm_jax.training.settings import default_optimizer
from mnm_jax.training.update import _Updates

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run from the first update to the last, and what it wrote."""
    directory = tmp_path_factory.mktemp("whole")
    return training.run(TASK, build("mnm_p"), SETTINGS, SEEDS, directory), directory


@pytest.fixture
def placement():
    return training.place(TASK, build("mnm_p"), SETTINGS)


def test_a_run_of_many_short_lives_equals_the_whole_run_byte_for_byte(whole, tmp_path):
    report, directory = whole
    metrics = (directory / "metrics.jsonl").read_bytes()
    assert report.is_finished
    for update in range(1, SETTINGS.num_updates):
        life = training.run(TASK, build("mnm_p"), SETTINGS, SEEDS, tmp_path, max_seconds=0)
        assert (life.update, life.is_finished) == (update, False)
        part = (tmp_path / "metrics.jsonl").read_bytes()
        assert 0 < len(part) < len(metrics)
        assert metrics.startswith(part)
        # What a kill may leave behind is dropped.
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write('{"update": 99, "seed": 0}\n{"upda')
    resumed = training.run(TASK, build("mnm_p"), SETTINGS, SEEDS, tmp_path)
    assert resumed.is_finished
    assert (tmp_path / "metrics.jsonl").read_bytes() == metrics
    assert_equal(resumed.state, report.state)
    timing = [json.loads(line) for line in (tmp_path / "timing.jsonl").read_text().splitlines()]
    assert [line["update"] for line in timing] == [0, 4, 6]
    assert sorted(line["seconds"] for line in timing) == [line["seconds"] for line in timing]


@pytest.mark.parametrize(
    ("settings", "seeds", "message"),
    [
        ({}, (0, 1, 6), r"seeds was \[0, 1, 5\] and is \[0, 1, 6\]"),
        ({"learning_rate": 0.5}, SEEDS, "learning_rate was .* and is 0.5"),
    ],
)
def test_a_run_goes_on_only_as_it_began(whole, settings, seeds, message):
    _, directory = whole
    metrics = (directory / "metrics.jsonl").read_bytes()
    with pytest.raises(training.RestoreError, match=f"6 is of another training: {message}$"):
        training.run(TASK, build("mnm_p"), dataclasses.replace(SETTINGS, **settings), seeds, directory)
    assert (directory / "metrics.jsonl").read_bytes() == metrics


def test_a_finished_run_is_left_as_it_is(whole):
    report, directory = whole
    metrics = (directory / "metrics.jsonl").read_bytes()
    again = training.run(TASK, build("mnm_p"), SETTINGS, SEEDS, directory)
    assert again.is_finished
    assert (directory / "metrics.jsonl").read_bytes() == metrics
    assert_equal(again.state, report.state)
    assert_equal(again.metrics, report.metrics)


def test_a_run_whose_newest_checkpoint_is_damaged_goes_on_from_the_one_before(whole, tmp_path):
    report, directory = whole
    options = training.RunOptions(save_updates=1)
    stops = iter([False] * 4 + [True])
    training.run(TASK, build("mnm_p"), SETTINGS, SEEDS, tmp_path, options, should_stop=lambda: next(stops))
    damage(tmp_path / "checkpoints" / "5", "flipped")
    with pytest.warns(UserWarning, match=r"checkpoints/5 is damaged \(.*\); going on from update 4"):
        resumed = training.run(TASK, build("mnm_p"), SETTINGS, SEEDS, tmp_path, options)
    assert resumed.is_finished
    assert_equal(resumed.state, report.state)
    assert (tmp_path / "metrics.jsonl").read_bytes() == (directory / "metrics.jsonl").read_bytes()


def test_the_files_hold_a_line_for_each_evaluation_and_seed(whole):
    _, directory = whole
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert [(line["update"], line["seed"]) for line in lines] == [(u, s) for u in (0, 4, 6) for s in SEEDS]
    assert {"eval_loss", "eval_accuracy", "eval_error_before", "eval_error_after"} <= lines[0].keys()
    assert {"train_loss", "train_gradient_norm", "train_num_skipped"} <= lines[-1].keys() - lines[0].keys()
    assert all(np.isfinite(value) for line in lines for value in line.values())
    timing = [json.loads(line) for line in (directory / "timing.jsonl").read_text().splitlines()]
    assert [line["update"] for line in timing] == [0, 4, 6]


def test_the_best_evaluation_is_kept_with_its_parameters(whole):
    report, directory = whole
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    for i, seed in enumerate(SEEDS):
        # The first of equal ones.
        best = max((line for line in lines if line["seed"] == seed), key=lambda line: line["eval_accuracy"])
        assert report.state.best.value[i] == np.float32(best["eval_accuracy"])
        assert report.state.best.update[i] == best["update"]


def test_a_seed_among_others_equals_the_same_seed_alone(whole, placement):
    report, _ = whole
    state, _, _ = placement.train_chunk(placement.init(SEEDS[1:2]), SETTINGS.num_updates)
    alone = placement.collect(state).params
    among = jax.tree.map(lambda leaf: leaf[1:2], report.state.params)
    difference = optax.tree.norm(jax.tree.map(np.subtract, alone, among))
    assert difference <= 1e-5 * optax.tree.norm(among)


def test_chunks_of_any_length_and_equal_cells_share_one_compilation(placement):
    assert training.place(TASK, build("mnm_p"), SETTINGS) is placement
    compiled = []

    def listen(event, _, **kwargs):
        if event.endswith("backend_compile_duration"):
            compiled.append(kwargs)

    state, _, _ = placement.train_chunk(placement.init(SEEDS), 1)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        state, _, _ = placement.train_chunk(state, 3)
        assert not compiled
        jax.jit(lambda x: x + 1)(0)
        assert compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    np.testing.assert_array_equal(placement.collect(state).update, [4, 4, 4])


def test_a_chunk_reports_the_means_since_the_last_evaluation_wherever_it_was_cut(placement):
    def train(state, n):
        state, metrics, _ = placement.train_chunk(state, n)
        return state, placement.collect(metrics)

    state, together = train(placement.init(SEEDS), 2)
    state_in_pieces, in_pieces = train(train(placement.init(SEEDS), 1)[0], 1)
    assert_equal(in_pieces, together)
    assert_equal(placement.collect(state_in_pieces), placement.collect(state))
    state, first = train(placement.init(SEEDS), 1)
    evaluated = placement.spread({"accuracy": np.zeros(len(SEEDS), np.float32)})
    _, second = train(placement.record_evaluation(state, evaluated), 1)
    for name, values in together.items():
        np.testing.assert_allclose(values, (first[name] + second[name]) / 2, rtol=1e-5)


@pytest.mark.parametrize("name", ["mnm_g", "lstm", "salu", "attention"])
def test_every_model_learns(name, tmp_path):
    """One of two seeds answers nearly all questions in the end, of which half would be right by chance."""
    settings = dataclasses.replace(
        SETTINGS, num_updates=150, batch_size=16, learning_rate=0.03, schedule="cosine", evaluate_every=150
    )
    settings = dataclasses.replace(settings, evaluation_episodes=64)
    report = training.run(TASK, build(name), settings, [0, 1], tmp_path)
    assert max(report.metrics["accuracy"]) > 0.9, report.metrics
    assert min(report.metrics["loss"]) < 0.1, report.metrics
    assert ("error_after" in report.metrics) == (name == "mnm_g")


def test_the_meta_objective_enters_the_gradient_by_its_weight(placement):
    without = training.place(TASK, build("mnm_p"), dataclasses.replace(SETTINGS, meta_weight=0.0))
    metrics, metrics_without = (some.collect(some.train_chunk(some.init(SEEDS), 1)[1]) for some in (placement, without))
    np.testing.assert_allclose(metrics["loss"], metrics_without["loss"], rtol=1e-6)
    assert (np.abs(metrics["gradient_norm"] / metrics_without["gradient_norm"] - 1) > 1e-3).all()


def events(directory):
    """The (update, name, value)s of all event files in a directory."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(directory.iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
            data = data[16 + length :]
    return found


def test_event_files_are_written_for_each_seed_without_tensorflow(whole, tmp_path):
    directory = tmp_path / "new"
    for max_seconds in (0, np.inf):
        training.run(
            TASK,
            build("mnm_p"),
            SETTINGS,
            SEEDS,
            directory,
            training.RunOptions(tensorboard=True),
            max_seconds=max_seconds,
        )
    assert not {"tensorflow", "tensorboard"} & sys.modules.keys()
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    for seed in SEEDS:
        wanted = {
            (line["update"], name.replace("_", "/", 1), np.float32(value))
            for line in lines
            if line["seed"] == seed
            for name, value in line.items()
            if name not in ("update", "seed")
        }
        assert set(events(directory / "tensorboard" / f"seed_{seed}")) == wanted
    assert (directory / "metrics.jsonl").read_bytes() == (whole[1] / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_updates": 0}, "num_updates must be a whole number of at least 1, got 0"),
        ({"num_updates": 1, "schedule": "linear"}, "schedule must be one of 'constant', 'cosine', got 'linear'"),
        ({"num_updates": 1, "learning_rate": float("nan")}, "learning_rate must be finite and not negative, got nan"),
        ({"num_updates": 1, "adam_epsilon": 0.0}, "adam_epsilon must be finite and positive, got 0.0"),
        ({"num_updates": 1, "clip_norm": float("inf")}, "clip_norm must be finite and positive, got inf"),
        ({"num_updates": 1, "idle_updates": 0.5}, "idle_updates must be a whole number of at least 0, got 0.5"),
    ],
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        training.TrainingSettings(**arguments)


def test_a_cosine_ends_at_zero_though_idle_updates_do_not_count():
    settings = training.TrainingSettings(num_updates=10, idle_updates=6, schedule="cosine")
    optimizer = default_optimizer(settings)
    params = jnp.ones(())
    state, steps = optimizer.init(params), []
    for _ in range(5):
        step, state = optimizer.update(jnp.ones(()), state, params)
        steps.append(abs(float(step)))
    assert steps[0] == pytest.approx(settings.learning_rate, rel=1e-3)
    assert steps[3] > 0.1 * settings.learning_rate
    assert steps[4] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"parallel": "all"}, "parallel must be one of 'none', 'in_turn', 'data', 'seeds', got 'all'"),
        ({"keep": 0}, "keep must be a whole number of at least 1, got 0"),
        ({"save_updates": 0}, "save_updates must be a whole number of at least 1, got 0"),
        ({"save_minutes": 0.0}, "save_minutes must be a number above 0, got 0.0"),
        ({"save_minutes": float("nan")}, "save_minutes must be a number above 0, got nan"),
        ({"save_minutes": True}, "save_minutes must be a number above 0, got True"),
        ({"save_minutes": "5"}, "save_minutes must be a number above 0, got '5'"),
        ({"on_nonfinite": "hope"}, "on_nonfinite must be one of 'stop', 'skip', got 'hope'"),
        ({"tensorboard": "no"}, "tensorboard must be one of True, False, got 'no'"),
        ({"tensorboard": 1}, "tensorboard must be one of True, False, got 1"),
    ],
)
def test_impossible_options_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        training.RunOptions(**arguments)


def test_a_writing_memory_learns_the_dictionary_in_a_minute(tmp_path):
    """Far below what knowing the words, but not the pairing, would give."""
    task = Dictionary(num_pairs=2, source_alphabet_size=4, target_alphabet_size=4)
    settings = training.TrainingSettings(num_updates=300, evaluate_every=150, evaluation_episodes=64)
    model = models.ModelSettings(controller_size=16, memory_size=16, num_layers=2)
    cell = models.build("mnm_p", model, output_size=4, vocabulary_size=task.vocabulary_size, num_steps=task.num_steps)
    report = training.run(task, cell, settings, [0], tmp_path)
    assert report.metrics["loss"] < 0.3
    assert report.metrics["word_accuracy"] > 0.9 > task.levels()["words but not pairing"]["word_accuracy"]


class TestEmbeddingDropout:
    """Dropping half of the embedding's numbers, and, for comparison, none."""

    SETTINGS = dataclasses.replace(SETTINGS, embedding_dropout=0.5)

    @staticmethod
    def first_update(settings):
        """The parameters after an update, and its loss."""
        placement = training.place(TASK, build("mnm_p"), settings)
        state, measured, _ = placement.train_chunk(placement.init(SEEDS), 1)
        return placement.collect(state).params, placement.collect(measured)["loss"]

    def test_changes_the_training_and_not_the_evaluation(self):
        params, loss = self.first_update(self.SETTINGS)
        plain_params, plain_loss = self.first_update(SETTINGS)
        assert (loss != plain_loss).all()
        # Adam's first step moves what has a gradient, and what was dropped has none.
        placement = training.place(TASK, build("mnm_p"), SETTINGS)
        start = placement.collect(placement.init(SEEDS)).params["embedding"]["kernel"]
        moved = np.mean(params["embedding"]["kernel"] != start)
        assert 0 < moved < np.mean(plain_params["embedding"]["kernel"] != start)
        batches = training.held_out(TASK, SETTINGS)
        cell = build("mnm_p")
        one, other = (
            training.make_functions(TASK, cell, settings).evaluate(
                {"params": jax.tree.map(lambda x: x[0], params)}, batches
            )
            for settings in (SETTINGS, self.SETTINGS)
        )
        assert_equal(one, other)

    def test_keeps_the_mean_and_drops_a_share(self):
        kernel = np.ones((200, 50), np.float32)
        dropped = drop_features({"embedding": {"kernel": kernel}, "other": kernel}, jax.random.key(0), 0.2)
        values = np.asarray(dropped["embedding"]["kernel"])
        assert set(np.unique(values)) == {np.float32(0), np.float32(1.25)}
        assert np.mean(values == 0) == pytest.approx(0.2, abs=0.02)
        assert dropped["other"] is kernel

    def test_drops_words_and_positions_independently(self):
        ones = np.ones((100, 50), np.float32)
        dropped = drop_features({"embedding": {"kernel": ones, "positions": ones}}, jax.random.key(0), 0.5)["embedding"]
        # With one mask for both it would be 2.
        assert np.mean(dropped["kernel"] * dropped["positions"]) == pytest.approx(1, abs=0.1)

    def test_needs_an_embedding(self):
        with pytest.raises(ValueError, match="embedding_dropout wants a cell with parameters named 'embedding'"):
            drop_features({}, jax.random.key(0), 0.2)

    @pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
    def test_names_a_rate_that_is_not_possible(self, rate):
        with pytest.raises(ValueError, match="embedding_dropout must be at least 0 and below 1, got"):
            dataclasses.replace(SETTINGS, embedding_dropout=rate)


class TestCandidates:
    """Updates on some of the episodes that were drawn for them."""

    SETTINGS = dataclasses.replace(SETTINGS, batch_size=3, candidates=2)

    @pytest.fixture
    def updates(self):
        return _Updates(Episodes(TASK, build("lstm"), 0.0), self.SETTINGS, optax.identity(), None)

    @staticmethod
    def choose(updates, losses, num_choices):
        """Which of six episodes are chosen where these are their losses, `[num_choices, 3]`."""
        state, rngs = updates.init(jax.random.key(0)), jax.random.split(jax.random.key(1), 6)
        of_model = updates.episodes.losses(state.variables, updates.episodes.draw_batch(state.variables, rngs, None))
        scaled = _Scaled(**vars(updates.episodes), sizes=jnp.asarray(losses) / of_model)
        updates = dataclasses.replace(updates, episodes=scaled)
        draws = jax.random.split(jax.random.key(2), num_choices)
        chosen = np.asarray(jax.vmap(lambda rng: updates.choose(state, rng, rngs, None))(draws))
        assert chosen.shape == (num_choices, 3)
        assert all(len(set(row)) == 3 for row in chosen.tolist())
        return chosen

    def test_are_chosen_once_each_and_in_proportion_to_the_losses_of_those_left(self, updates):
        chosen = self.choose(updates, [0.0, 1.0, 2.0, 3.0, 4.0, 10.0], 4000)
        assert 0 not in chosen
        firsts = np.bincount(chosen[:, 0], minlength=6) / 4000
        np.testing.assert_allclose(firsts, [0, 0.05, 0.1, 0.15, 0.2, 0.5], atol=0.03)
        seconds = chosen[chosen[:, 0] == 5, 1]
        np.testing.assert_allclose(np.bincount(seconds) / len(seconds), [0, 0.1, 0.2, 0.3, 0.4], atol=0.04)

    def test_a_loss_that_is_no_number_is_chosen_so_that_it_is_noticed(self, updates):
        chosen = self.choose(updates, [1.0, np.nan, 1.0, 1.0, 1.0, 100.0], 10)
        assert all(1 in row for row in chosen.tolist())

    def test_a_negative_loss_counts_as_zero(self, updates):
        assert 2 not in self.choose(updates, [1.0, 1.0, -1.0, 1.0, 1.0, 100.0], 10)

    def test_without_enough_losses_the_solved_ones_fill_up(self, updates):
        chosen = self.choose(updates, [0.0, 0.0, 0.0, 1e-6, 0.0, 0.0], 10)
        assert set(chosen[:, 0].tolist()) == {3}

    def test_an_update_is_that_of_the_chosen(self, updates):
        state, rng = updates.init(jax.random.key(0)), jax.random.key(3)
        _, loss, _ = updates.gradient(state, rng, None)
        rngs = jax.random.split(rng, 6)
        chosen = updates.choose(state, jax.random.fold_in(rng, 7), rngs, None)
        losses = updates.episodes.losses(state.variables, updates.episodes.draw_batch(state.variables, rngs, None))
        np.testing.assert_allclose(loss, np.mean(losses[chosen]), rtol=1e-5)

    def test_a_run_with_one_is_the_same_as_one_from_before_there_were_candidates(self):
        settings = dataclasses.replace(self.SETTINGS, candidates=1)
        assert "candidates" not in training.identify(TASK, build("lstm"), settings, SEEDS)
        assert training.identify(TASK, build("lstm"), self.SETTINGS, SEEDS)["candidates"] == 2

    def test_names_a_number_that_is_not_possible(self):
        with pytest.raises(ValueError, match=r"candidates must be .* at least 1, got 0"):
            dataclasses.replace(SETTINGS, candidates=0)


@dataclasses.dataclass(frozen=True)
class _Scaled(Episodes):
    """Episodes whose losses are multiplied."""

    sizes: jax.Array

    def losses(self, variables, examples):
        return self.sizes * super().losses(variables, examples)

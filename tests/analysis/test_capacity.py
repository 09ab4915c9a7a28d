"""What memories hold: exact properties of tiny ones, and the numbers made of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mnm_jax as mnm
from mnm_jax import rules, writers
from mnm_jax.analysis import capacity, stores
from mnm_jax.analysis.capacity import Pairs
from mnm_jax.memory import Spec

pytestmark = pytest.mark.usefixtures("quick_compilation")

LINEAR = Spec(4, 3)
DEEP = Spec(4, 3, (5,))
DELTA = stores.written(rules.gated_delta(), LINEAR)
WHOLE = {"rate": jnp.array(1.0), "keep": jnp.array(1.0)}
TABLES = {
    "salu": (stores.salu(DEEP, 6), {"write_strength": 500.0, "read_strength": 500.0, "erase": 1.0}),
    "ntm": (stores.ntm(Spec(4, 3, (4,))), {"strength": 500.0}),
    "dnc": (stores.dnc(Spec(4, 3, (4,))), {"strength": 500.0}),
    "attention": (stores.attention(Spec(4, 3, (4,))), {"sharpness": 50.0}),
}
ALL = {
    "gradient": (stores.written(writers.gradient(), DEEP), {"rate": 0.5}),
    "local": (stores.written(writers.local(), DEEP), {"rate": 0.5}),
    "titans": (stores.written(rules.titans(), DEEP), {"rate": 0.5, "forget": 0.1, "persistence": 0.2}),
    "delta": (DELTA, {"rate": 1.0, "keep": 1.0}),
    **TABLES,
}


def draw(store, num_pairs, seed=0):
    pairs = capacity.draw(jax.random.key(seed), store, (1, 1), num_pairs).pairs
    return jax.tree.map(lambda leaf: leaf[0, 0], pairs)


@pytest.mark.parametrize(("writer", "rate"), [(writers.gradient(), 3 / 2), (stores.outer_product(), 1.0)])
def test_one_write_of_orthonormal_keys_at_the_right_rate_recalls_all_exactly(writer, rate):
    store = stores.written(writer, LINEAR)
    pairs = Pairs(jnp.eye(4), draw(store, 4).values)
    result = capacity.recall((1, 2, 4), store, store.init(jax.random.key(0)), {"rate": rate}, pairs)
    np.testing.assert_allclose(result.error[2], 0, atol=1e-12)
    np.testing.assert_allclose(
        result.error[0, 1:], jnp.mean(pairs.values[1:] ** 2, axis=1), rtol=1e-5
    )  # Reads nothing.
    assert result.found[2].all()


def test_a_delta_rule_holds_the_last_pair_exactly_and_loses_those_before():
    pairs = draw(DELTA, 40)
    result = capacity.recall((40,), DELTA, DELTA.init(jax.random.key(0)), WHOLE, pairs)
    np.testing.assert_allclose(result.error[0, -1], 0, atol=1e-6)
    assert result.found[0, -1]
    # Four numbers of a key cannot tell forty pairs apart.
    assert result.error[0, :20].mean() > 0.5
    assert result.found[0, :20].mean() < 0.4


def test_a_memory_that_is_not_written_finds_by_chance():
    store = stores.written(writers.gradient(), DEEP)
    params = store.init(jax.random.key(0))
    pairs = capacity.draw(jax.random.key(1), store, (1, 200), 4).pairs
    one = jax.tree.map(lambda leaf: leaf[None], params)
    result = capacity.over_draws(
        capacity._at(capacity.recall, (1, 2, 4)), store, one, capacity.spread({"rate": 0.0}, 1), pairs
    )
    curves = capacity.curves((1, 2, 4), result)
    np.testing.assert_allclose(curves.found.mean(axis=(0, 1)), [1, 1 / 2, 1 / 4], atol=0.06)
    np.testing.assert_allclose(curves.error, 1, atol=1e-4)


def test_what_is_not_finite_is_not_found():
    store = stores.written(writers.gradient(), DEEP)
    result = capacity.recall((6,), store, store.init(jax.random.key(0)), {"rate": jnp.array(1e30)}, draw(store, 6))
    assert not np.isfinite(result.error[0, :5]).any()
    assert not result.found[0, :5].any()


@pytest.mark.parametrize("name", ALL)
def test_every_store(name):
    """A long run begins as a short one does, and the first pair is the same whatever comes later."""
    store, setting = ALL[name]
    setting = {key: jnp.array(value) for key, value in setting.items()}
    params = store.init(jax.random.key(0))
    pairs = draw(store, 5)
    long = capacity.recall((1, 3, 5), store, params, setting, pairs)
    short = capacity.recall((1, 3), store, params, setting, jax.tree.map(lambda leaf: leaf[:3], pairs))
    np.testing.assert_allclose(long.error[:2, :3], short.error, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(long.found[:2, :1], short.found[:, :1])
    # Step by step, in Python.
    memory = store.start(params)
    for i in range(3):
        memory = store.write(params, memory, pairs.keys[i], pairs.values[i], setting)
    reads = store.read(params, memory, pairs.keys, setting)
    np.testing.assert_allclose(long.error[1], np.mean((reads - pairs.values) ** 2, axis=1), rtol=1e-4, atol=1e-6)
    distances = np.linalg.norm(reads[:3, None] - pairs.values[None, :3], axis=2)
    np.testing.assert_array_equal(long.found[1, :3], distances.argmin(axis=1) == np.arange(3))
    one, three = (jax.vmap(lambda key: store.read(params, memory, key[None], setting)[0])(pairs.keys), reads)
    np.testing.assert_allclose(one, three, rtol=1e-4, atol=1e-6)


def test_full_tables_differ_in_what_they_give_up():
    num_slots, kept = 4, {}
    for name in ("ntm", "dnc", "attention"):
        store, setting = TABLES[name]
        setting = {key: jnp.array(value) for key, value in setting.items()}
        assert store.num_weights() == num_slots * 7
        result = capacity.recall((num_slots, num_slots + 1), store, (), setting, draw(store, num_slots + 1))
        np.testing.assert_allclose(result.error[0, :num_slots], 0, atol=1e-3)
        kept[name] = result.error[1, [0, -1]]
    assert kept["ntm"][0] > 0.1 > kept["ntm"][1]  # The oldest goes.
    for name in ("dnc", "attention"):
        assert kept[name][0] < 0.1 < kept[name][1]  # The newest does not come in.


def test_a_key_written_again_gives_the_new_value():
    pairs, value = draw(DELTA, 3), jnp.array([1.0, -1.0, 0.5])
    result = capacity.overwrite((1, 3), DELTA, DELTA.init(jax.random.key(0)), WHOLE, pairs, value)
    distance = float(jnp.mean((value - pairs.values[0]) ** 2))
    np.testing.assert_allclose([result.old_before[0], result.new_before[0]], [0, distance], atol=1e-5)
    np.testing.assert_allclose(result.new_after, 0, atol=1e-6)
    np.testing.assert_allclose(result.old_after, distance, rtol=1e-3)
    assert result.others_before[0] == result.others_after[0] == 0
    assert (result.others_after[1], result.old_before[1]) > (0, 0)


def test_keys_interfere_as_much_as_they_are_alike():
    pairs = draw(DELTA, 2)
    cosines = jnp.array([-1.0, 0.0, 0.6, 1.0])
    result = capacity.interfere(DELTA, DELTA.init(jax.random.key(0)), WHOLE, pairs, cosines)
    np.testing.assert_allclose(result.second, 0, atol=1e-6)
    # What the second key read before, and now does not, is what the first one loses, in the share of the cosine.
    first, second = pairs.values
    lost = [jnp.mean((cosine * (second - cosine * first)) ** 2) for cosine in cosines]
    np.testing.assert_allclose(result.first, lost, atol=1e-4)
    np.testing.assert_allclose(result.confused[3], 0, atol=1e-5)
    with pytest.raises(ValueError, match="wants 2 pairs, got 3"):
        capacity.interfere(DELTA, DELTA.init(jax.random.key(0)), WHOLE, draw(DELTA, 3), cosines)


def test_pairs_that_do_not_fit_are_an_error():
    pairs, params = draw(DELTA, 3), DELTA.init(jax.random.key(0))
    with pytest.raises(ValueError, match=r"wants keys of shape \[3, 4\], got \[3, 5\]"):
        capacity.recall((3,), DELTA, params, WHOLE, Pairs(jnp.ones((3, 5)), pairs.values))
    for counts in ((), (0, 2), (2, 2), (4,)):
        with pytest.raises(ValueError, match="wants ascending numbers of 1 to 3"):
            capacity.recall(counts, DELTA, params, WHOLE, pairs)


def test_vectors_are_at_the_scale_of_the_interface():
    vectors = capacity.draw_vectors(jax.random.key(0), (50, 8))
    np.testing.assert_allclose(np.mean(np.square(vectors), axis=1), 1, rtol=1e-4)
    assert np.abs(capacity.draw_vectors(jax.random.key(0), (50, 8), normalize=False)).max() < 1


def test_pairs_held_are_read_off_the_curve():
    counts = (1, 2, 4, 8)
    cases = {(1, 1, 0.95, 0.75): 4, (1, 1, 1, 0.9): 6, (1, 0.5, 1, 1): 1.1, (0.9, 1, 1, 1): 0, (1, 1, 1, 0.95): 8}
    np.testing.assert_allclose(capacity.pairs_held(counts, list(cases)), list(cases.values()))
    np.testing.assert_allclose(capacity.most_found(counts, [[1, 0.9, 0.8, 0.3], [1, 0.5, 0, 0]]), [3.2, 1])


def test_counts_grow_by_quarters_of_a_doubling():
    assert capacity.numbers_of_pairs(20) == (1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 13, 16, 19, 20)
    assert capacity.numbers_of_pairs(2) == (1, 2)


def test_the_interval_is_a_bootstrap_of_seeds_and_draws():
    values = np.random.default_rng(0).normal(size=(3, 40, 2)) + np.array([0, 1, 5])[:, None, None]
    mean, low, high = capacity.interval(values)
    np.testing.assert_allclose(mean, values.mean(axis=(0, 1)))
    assert (low < 1).all()  # Two of three seeds may be the first one.
    assert (high > 3.5).all()
    equal = capacity.interval(np.full((2, 3, 4), 0.7), lambda mean: mean.max(axis=-1))
    np.testing.assert_allclose(equal, 0.7)


def test_the_setting_that_holds_most_is_found():
    params = jax.tree.map(lambda leaf: leaf[None], DELTA.init(jax.random.key(0)))
    pairs = capacity.draw(jax.random.key(2), DELTA, (1, 20), 6).pairs
    settings = [{"rate": rate, "keep": 1.0} for rate in (0.0, 1.0)]
    best, held = capacity.best_setting((1, 2, 4, 6), DELTA, params, settings, pairs)
    assert best == settings[1]
    assert held[0] < 1.2 < held[1]


def test_what_was_measured_comes_back_from_json():
    params = jax.tree.map(lambda leaf: leaf[None], DELTA.init(jax.random.key(0)))
    draws = capacity.draw(jax.random.key(2), DELTA, (1, 2), 3)
    found, curves = capacity.measure(DELTA, params, capacity.spread({"rate": 1.0, "keep": 1.0}, 1), draws, (-1.0, 0.5))
    assert found.shape == (1, 2, 3)
    names = (*capacity.Curves._fields, *capacity.Overwriting._fields, *capacity.Interference._fields)
    assert tuple(curves) == names
    assert all(len(curve.x) == len(curve.mean) == (2 if name in names[-3:] else 3) for name, curve in curves.items())
    result = capacity.Measured(
        "delta_rule", "reference", 4, 3, 12, 24, 1, 2, 3, {"rate": 1.0}, [], (2.0, 1.0, 3.0), (2.5, 2.0, 3.0), curves
    )
    assert result.held_per_thousand == pytest.approx((2000 / 12, 1000 / 12, 250))
    assert result.load == pytest.approx((0.25, 0.125, 0.375))
    again = capacity.Measured.from_json(result.to_json())
    assert again._replace(curves={}) == result._replace(curves={})
    for name in names:
        np.testing.assert_allclose(again.curves[name], curves[name], rtol=1e-3)


MODELS = {
    "step": mnm.cells.MNM(2, 4, LINEAR, rules.gated_delta()),
    "layer": mnm.cells.MNM(2, 4, DEEP, writers.local(), num_heads=2, rate_per="layer"),
    "head": mnm.cells.MNM(2, 4, DEEP, writers.gradient(), num_heads=2, rate_per="head"),
    "salu": mnm.cells.SALU(2, 4, num_slots=6, key_size=4, value_size=3),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_cell_brings_what_it_learned_and_what_its_controller_decides(name):
    cell = MODELS[name]
    inputs = jax.random.normal(jax.random.key(0), (2, 5, 3))
    variables = cell.init(jax.random.key(1), None, inputs[0, 0])
    store = stores.of_cell(cell)
    params, setting = stores.of_trained(cell, variables, inputs)
    assert jax.tree.structure(params) == jax.tree.structure(store.init(jax.random.key(0)))
    if name == "salu":
        np.testing.assert_array_equal(params.keys, variables["params"]["initial_keys"])
        assert 9 < setting["read_strength"] < 11
        assert 0.05 < setting["erase"] < 0.25
        return
    assert params.initial is not None
    trace = mnm.unroll_batch(cell, variables, inputs).trace
    rates = np.asarray(trace.rate, float)
    axis = (0, 1) if name == "layer" else None
    np.testing.assert_allclose(setting["rate"], (rates**2).sum(axis) / rates.sum(axis), rtol=1e-5)
    if name == "step":
        keep = np.asarray(trace.gates["keep"], float)
        np.testing.assert_allclose(setting["keep"], (rates * keep).sum() / rates.sum(), rtol=1e-5)
    memory = store.write(params, store.start(params), jnp.ones(4), jnp.ones(3), setting)
    assert jax.tree.structure(memory) == jax.tree.structure(store.start(params))


def test_a_cell_without_a_store():
    assert stores.of_cell(mnm.cells.LSTM(2, 4)) is None

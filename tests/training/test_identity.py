"""What makes two runs the same: the text that a run is known by, and what is refused because of it."""

import dataclasses
import enum
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from recall import SEEDS, SETTINGS, TASK, Recall, build

import mnm_jax as mnm
from mnm_jax import training
from mnm_jax.training.identity import flatten

pytestmark = pytest.mark.usefixtures("quick_compilation")


class Plain:
    """Has no text of its own."""

    def __init__(self, size, **attributes):
        self.size = size
        self._cache = object()
        self.__dict__.update(attributes)

    @functools.cached_property
    def table(self):
        return np.zeros(self.size)


@dataclasses.dataclass(frozen=True)
class Value:
    size: int
    function: object = None
    note: str = dataclasses.field(default="", compare=False)


class Choice(enum.Enum):
    LEFT = 1


def make_rule(strength):
    def rule(x, power=2):
        return strength * x**power

    return rule


def make_recursive():
    def outer(n):
        return outer(n - 1)

    return outer


# Each makes a value anew; values of one line are equal, those of different lines are not.
VALUES = {
    "number": lambda: 1,
    "float": lambda: 1.0,
    "text": lambda: "1",
    "list": lambda: [1, (2, None)],
    "set": lambda: {"b", "a", "c"},
    "mapping": lambda: {"a": Plain(1)},
    "array": lambda: jnp.arange(3),
    "other array": lambda: np.array([0, 1, 3], np.int32),
    "key": lambda: jax.random.key(3),
    "enum": lambda: Choice.LEFT,
    "dtype": lambda: jnp.bfloat16,
    "class": lambda: Plain,
    "function": lambda: make_rule,
    "closure": lambda: make_rule(1.0),
    "other closure": lambda: make_rule(2.0),
    "recursion": make_recursive,
    "jitted": lambda: jax.jit(make_rule(3.0)),
    "lambda": lambda: lambda x: x,
    "lambda with a default": lambda: lambda x, y=Plain(5): y,  # noqa: B008
    "partial": lambda: functools.partial(make_rule(1.0), power=3),
    "method": lambda: Plain(4).__init__,
    "object": lambda: Plain(1),
    "other object": lambda: Plain(2),
    "object with a mapping": lambda: Plain(1, options={"rate": make_rule(1.0)}),
    "dataclass": lambda: Value(1),
    "dataclass with a function": lambda: Value(1, jnp.tanh),
    "cell": lambda: build("mnm_p"),
    "other cell": lambda: build("mnm_p").clone(rate_scale=9.0),
    "optimizer": lambda: optax.chain(optax.clip(1.0), optax.adam(optax.cosine_decay_schedule(0.1, 10))),
    "other optimizer": lambda: optax.chain(optax.clip(1.0), optax.adam(optax.cosine_decay_schedule(0.1, 11))),
}


def test_equal_values_have_one_text_and_others_another():
    texts = {name: training.describe(make()) for name, make in VALUES.items()}
    assert texts == {name: training.describe(make()) for name, make in VALUES.items()}
    assert len(set(texts.values())) == len(texts)
    assert not [text for text in texts.values() if re.search("0x[0-9a-f]{5}", text) or "\n" in text]


def test_what_is_no_part_of_a_value_is_not_in_its_text():
    filled = Plain(3)
    filled.table  # noqa: B018 - worked out now.
    assert training.describe(filled) == training.describe(Plain(3)) == "Plain(size=3)"
    assert training.describe(Value(1, note="a")) == training.describe(Value(1, note="b"))
    assert training.describe(mnm.cells.LSTM(2, 3, name="one")) == training.describe(mnm.cells.LSTM(2, 3))


def test_a_value_that_holds_itself_ends():
    loop = Plain(1)
    loop.itself = loop
    assert training.describe(loop) == "Plain(itself=..., size=1)"


def test_differences_are_named_with_both_values():
    differing = training.differences({"a": 1, "b": 2, "c": 3}, {"b": 2, "c": 4, "d": 5})
    assert differing == {"a": (1, "absent"), "c": (3, 4), "d": ("absent", 5)}
    assert training.explain(differing) == "a was 1 and is absent; c was 3 and is 4; d was absent and is 5"
    assert flatten({"a": {"b": (1, 2)}}) == {"a.b.0": 1, "a.b.1": 2}


def begin(directory, task, cell, settings=SETTINGS, optimizer=None):
    """A checkpoint of a run that has not made an update yet."""
    placement = training.place(task, cell, settings, optimizer=optimizer)
    identity = training.identify(task, cell, settings, SEEDS, optimizer)
    state = placement.collect(placement.init(SEEDS))
    training.Checkpoints(directory / "checkpoints").save(0, state, identity=identity)


CELL = build("mnm_p").clone(writer=mnm.writers.gradient(), num_heads=2)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("cell")
    begin(directory, TASK, CELL)
    return directory


class TestACell:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"writer": mnm.writers.gradient(num_steps=3)}, r"cell\.writer was .* and is .*num_steps=3.*"),
            ({"rate_scale": 9.0}, r"cell\.rate_scale was 1\.0 and is 9\.0"),
            ({"key_normalization": None}, r"cell\.key_normalization was 'rms' and is None"),
            (
                {"learned_initial_memory": False, "dtype": jnp.bfloat16},
                r"cell\.dtype was None and is jax\.numpy\.bfloat16; cell\.learned_initial_memory was True and is False",
            ),
        ],
    )
    def test_of_other_fields_is_refused_although_its_parameters_have_the_same_shapes(self, change, message, directory):
        with pytest.raises(training.RestoreError, match=f"/0 is of another training: {message}$"):
            training.run(TASK, CELL.clone(**change), SETTINGS, SEEDS, directory)
        with pytest.raises(training.RestoreError, match=f"/0 is of another training: {message}$"):
            training.load(directory, task=TASK, cell=CELL.clone(**change))

    def test_of_another_class_is_refused(self, directory):
        class Other(mnm.cells.MNM):
            pass

        fields = {name: getattr(CELL, name) for name in CELL.__dataclass_fields__ if name != "parent"}
        with pytest.raises(training.RestoreError, match=r"training: cell was MNM and is .*Other$"):
            training.run(TASK, Other(**fields), SETTINGS, SEEDS, directory)

    def test_that_was_made_anew_goes_on(self, directory):
        again = build("mnm_p").clone(writer=mnm.writers.gradient(), num_heads=2)
        assert training.load(directory, task=Recall(), cell=again).update == 0

    def test_with_more_room_is_the_same(self):
        one, other = build("attention"), build("attention").with_room(50)
        assert one != other
        assert training.identify(TASK, one, SETTINGS, SEEDS) == training.identify(TASK, other, SETTINGS, SEEDS)


class Untold(Recall):
    """A task that compares and prints as objects do, with data and a rule of its own."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__
    __repr__ = object.__repr__


class Unlike:
    """As `Untold`, but no dataclass."""

    headline = "accuracy"
    output_size, vocabulary_size = 2, 4

    def __init__(self, scale, num_steps=3):
        self.num_steps = num_steps
        self.targets = scale * np.eye(2, dtype=np.float32)
        self.shift = lambda x: x + scale

    def sample(self, rng):
        return TASK.sample(rng)

    def loss(self, outputs, example):
        return jnp.mean((self.shift(outputs[-1]) - jnp.asarray(self.targets)[example.target]) ** 2)

    def metrics(self, outputs, example):
        return TASK.metrics(outputs, example)


def test_a_task_without_a_text_of_its_own_can_be_resumed_and_a_changed_one_is_refused(tmp_path):
    cell = build("lstm")
    begin(tmp_path / "plain", Unlike(1.0), cell)
    assert training.load(tmp_path / "plain", task=Unlike(1.0), cell=cell).update == 0
    message = (
        r"training: task\.shift was .*scale=1\.0.* and is .*scale=2\.0.*; task\.targets was float32\[2, 2\] .* and is"
    )
    with pytest.raises(training.RestoreError, match=message):
        training.run(Unlike(2.0), cell, SETTINGS, SEEDS, tmp_path / "plain")
    begin(tmp_path / "data", Untold(), cell)
    assert training.load(tmp_path / "data", task=Untold(), cell=cell).update == 0
    with pytest.raises(training.RestoreError, match=r"training: task\.num_steps was 3 and is 4$"):
        training.run(Untold(4), cell, SETTINGS, SEEDS, tmp_path / "data")


def test_settings_that_only_the_usual_optimizer_reads_are_not_compared_for_another():
    identity = training.identify(TASK, build("lstm"), SETTINGS, SEEDS, optax.sgd(0.1))
    assert "0.1" in identity["optimizer"]
    assert not {"learning_rate", "schedule", "clip_norm", "adam_epsilon", "num_updates"} & identity.keys()
    usual = training.identify(TASK, build("lstm"), SETTINGS, SEEDS)
    assert {"learning_rate", "schedule", "clip_norm", "adam_epsilon"} <= usual.keys()
    assert not {"optimizer", "num_updates"} & usual.keys()
    cosine = dataclasses.replace(SETTINGS, schedule="cosine")
    assert training.identify(TASK, build("lstm"), cosine, SEEDS)["num_updates"] == SETTINGS.num_updates

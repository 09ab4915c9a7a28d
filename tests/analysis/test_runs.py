import json
import subprocess
import sys

import numpy as np
import pytest

from mnm_jax.analysis.runs import LoadError, load_runs


def test_loads_tables_by_seed_and_update(write_run, tmp_path):
    write_run("mnm_p", [[0.1, 0.2, 0.9], [0.0, 0.3, 0.8]], errors=True, episode=True)
    (run,) = load_runs(tmp_path)
    assert run.directory == tmp_path / "mnm_p"
    assert (run.experiment, run.headline, run.model) == ("dictionary", "word_accuracy", "mnm_p")
    assert run.num_updates == 1000
    assert run.seeds == (0, 1)
    assert run.task["num_pairs"] == 4
    np.testing.assert_array_equal(run.updates, [0, 50, 100])
    np.testing.assert_array_equal(run.metrics["eval_word_accuracy"], [[0.1, 0.2, 0.9], [0.0, 0.3, 0.8]])
    np.testing.assert_allclose(run.metrics["train_loss"], [[np.nan, 1.8, 1.1], [np.nan, 1.7, 1.2]])
    assert run.seconds == 60
    np.testing.assert_array_equal(run.sizes, [2, 4])
    np.testing.assert_allclose(run.generalization["word_accuracy"], [[0.5, 0.25], [0.51, 0.26]])
    assert run.episode["labels"].tolist() == list("a:$;a?")


def test_known_models_come_first_in_a_fixed_order(write_run, tmp_path):
    for model in ("attention", "zebra", "lstm", "mine", "mnm_g", "mnm_p", "salu"):
        write_run(model, [[0.1]])
    models = [run.model for run in load_runs(tmp_path)]
    assert models == ["mnm_p", "mnm_g", "lstm", "salu", "attention", "mine", "zebra"]


def test_an_interrupted_run_gives_what_is_whole(write_run, tmp_path):
    directory = write_run("lstm", [[0.1, 0.2], [0.3, 0.4]], num_pairs=())
    (directory / "timing.jsonl").unlink()
    path = directory / "metrics.jsonl"
    path.write_text(path.read_text()[:-20])
    with pytest.warns(UserWarning, match="ignored line|left out") as caught:
        (run,) = load_runs(tmp_path)
    messages = [str(warning.message) for warning in caught]
    assert messages == [
        f"{path}: ignored line 4, which is cut off or not JSON",
        f"{path}: left out update 50, which not every seed has",
    ]
    np.testing.assert_array_equal(run.updates, [0])
    np.testing.assert_array_equal(run.metrics["eval_word_accuracy"], [[0.1], [0.3]])
    assert run.seconds is None
    assert run.sizes.size == 0
    assert run.generalization == {}
    assert run.episode is None


def test_of_repeated_evaluations_the_last_counts(write_run, tmp_path):
    directory = write_run("lstm", [[0.1]])
    with (directory / "metrics.jsonl").open("a") as file:
        file.write('{"update": 0, "seed": 0, "eval_word_accuracy": 0.7, "eval_loss": null}\n')
    (run,) = load_runs(tmp_path)
    np.testing.assert_array_equal(run.metrics["eval_word_accuracy"], [[0.7]])
    assert np.isnan(run.metrics["eval_loss"]).all()


def test_a_broken_episode_is_ignored(write_run, tmp_path):
    directory = write_run("mnm_p", [[0.1]], episode=True)
    path = directory / "episode.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.warns(UserWarning, match=r"mnm_p/episode\.npz: ignored, for it cannot be read"):
        (run,) = load_runs(tmp_path)
    assert run.episode is None


def test_a_model_without_evaluations_is_left_out(write_run, tmp_path):
    write_run("lstm", [[0.1]])
    (write_run("salu", [[0.1]]) / "metrics.jsonl").unlink()
    with pytest.warns(UserWarning, match="salu: left out, for its metrics.jsonl has no evaluation of every seed"):
        runs = load_runs(tmp_path)
    assert [run.model for run in runs] == ["lstm"]


def test_errors_name_the_directory_and_what_was_looked_for(tmp_path):
    with pytest.raises(LoadError, match=f"^no directory {tmp_path}/none: wanted one that holds MODEL/config.json"):
        load_runs(tmp_path / "none")
    with pytest.raises(LoadError, match=f"^no runs in {tmp_path}: looked for MODEL/config.json") as caught:
        load_runs(tmp_path)
    assert "\n" not in str(caught.value)


WHOLE = {
    "experiment": "dictionary",
    "model": "lstm",
    "seeds": [0],
    "config": {"task": {}, "training": {"num_updates": 1}},
}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        *(json.dumps({key: value for key, value in WHOLE.items() if key != missing}) for missing in WHOLE),
        json.dumps(WHOLE | {"config": {"training": {"num_updates": 1}}}),
        json.dumps(WHOLE | {"config": {"task": {}, "training": {}}}),
    ],
)
def test_a_config_of_another_form_is_an_error(write_run, tmp_path, text):
    (write_run("lstm", [[0.1]]) / "config.json").write_text(text)
    with pytest.raises(LoadError, match=r"lstm/config\.json is not the configuration of a run: "):
        load_runs(tmp_path)


@pytest.mark.parametrize("name", ["metrics.jsonl", "timing.jsonl", "generalization.jsonl"])
@pytest.mark.parametrize("line", ["3", "[]", '{"foo": 1}', '{"update": "1", "seed": 0}'])
def test_a_line_of_another_form_is_an_error(write_run, tmp_path, name, line):
    path = write_run("lstm", [[0.1]]) / name
    path.write_text(f"{line}\n")
    with pytest.raises(LoadError, match=rf"lstm/{name}: line 1 is not what training writes, numbers by name, "):
        load_runs(tmp_path)


def test_an_unknown_experiment_is_an_error(write_run, tmp_path):
    (write_run("lstm", [[0.1]]) / "config.json").write_text(json.dumps(WHOLE | {"experiment": "chess"}))
    with pytest.raises(LoadError, match=r"lstm/config\.json: unknown task 'chess'; choose from babi, bandits, "):
        load_runs(tmp_path)


def test_a_run_without_its_headline_metric_is_an_error(write_run, tmp_path):
    (write_run("lstm", [[0.1]]) / "metrics.jsonl").write_text('{"update": 0, "seed": 0, "eval_loss": 1.0}\n')
    with pytest.raises(LoadError, match=r"lstm/metrics\.jsonl: no eval_word_accuracy, which dictionary is judged by"):
        load_runs(tmp_path)


def test_the_directory_of_a_single_run_is_taken_too(write_run):
    directory = write_run("lstm", [[0.1, 0.2]])
    (run,) = load_runs(directory)
    assert run.directory == directory
    np.testing.assert_array_equal(run.metrics["eval_word_accuracy"], [[0.1, 0.2]])


def test_runs_of_the_same_model_come_in_the_order_of_their_directories(write_run, tmp_path):
    for name in ("b", "c", "a"):
        write_run("lstm", [[0.1]]).rename(tmp_path / name)
    assert [run.directory.name for run in load_runs(tmp_path)] == ["a", "b", "c"]


def test_the_library_does_not_import_the_analysis():
    program = "import sys, mnm_jax; print([name for name in sys.modules if name in ('matplotlib', 'mnm_jax.analysis')])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"

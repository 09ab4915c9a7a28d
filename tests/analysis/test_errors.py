"""The table of test errors, from files that are made up."""

import json

import numpy as np
import pytest

from experiments import plot
from mnm_jax.analysis import errors
from mnm_jax.analysis.runs import LoadError, load_runs
from mnm_jax.tasks.babi import OFFICIAL_SHA256

ALL = tuple(range(1, 21))


@pytest.fixture
def write_babi(tmp_path):
    """Writes the files of one model; `wrong` is [S, K], of 200 questions of each task, `unseen` of some of them."""

    def write(model, wrong, *, tasks=ALL, update=100, best=None, unseen=None, **task):
        directory = tmp_path / model
        directory.mkdir()
        task = {"tasks": list(tasks), "data": "en-10k", "layout": "stream", "archive_sha256": OFFICIAL_SHA256} | task
        config = {"task": task, "training": {"num_updates": 100}}
        seeds = list(range(len(wrong)))
        (directory / "config.json").write_text(
            json.dumps({"experiment": "babi", "model": model, "seeds": seeds, "config": config})
        )
        lines = [{"update": 0, "seed": seed, "eval_answer_accuracy": 0.5} for seed in seeds]
        (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        results = [
            {
                "seed": seed,
                "best_update": 50 + seed,
                "validation_accuracy": 0.5 if best is None else best[seed],
                "tasks": [{"task": k, "errors": int(n), "questions": 200} for k, n in zip(tasks, row, strict=True)],
            }
            for seed, row in enumerate(wrong)
        ]
        for result, row in zip(results, unseen or [], strict=False):
            for entry, (num_wrong, num_questions) in zip(result["tasks"], row, strict=True):
                entry |= {"unseen_errors": num_wrong, "unseen_questions": num_questions}
        (directory / "test.json").write_text(json.dumps({"update": update, "seeds": results}))
        return directory

    return write


def load(directory):
    return [errors.load(run) for run in load_runs(directory)]


def rows(table):
    return {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in table.splitlines()}


def test_the_table_summarizes_tasks_and_seeds(write_babi, tmp_path):
    # In percent: 0 and 5.5, 5 and 10; the second seed is better on validation stories.
    write_babi("mnm_p", [[0, 11], [10, 20]], tasks=(1, 5), best=[0.8, 0.9])
    write_babi("lstm", [[100, 20]], tasks=(1, 5))
    table = errors.to_markdown(load(tmp_path))
    found = rows(table.partition("\n\n")[0])
    assert found["test error in percent"] == ["MNM-p", "LSTM"]
    assert found["1 single supporting fact"] == ["2.50 ± 3.54", "50.00"]
    assert found["5 three arg relations"] == ["7.75 ± 3.18", "10.00"]
    assert found["mean over tasks"] == ["5.12 ± 3.36", "30.00"]
    # Exactly 5 percent has not failed.
    assert found["failed tasks (above 5%), number"] == ["1.00 ± 0.00", "2.00"]
    assert found["mean over tasks, best by validation"] == ["7.50 (seed 1)", "30.00 (seed 0)"]
    assert "TPR-RNN" not in table
    assert "NOT the official" not in table
    assert "not finished" not in table


def test_a_column_counts_the_questions_that_training_does_not_have(write_babi, tmp_path):
    # Task 4: half of its questions are seen; task 5: all of them; task 6: none.
    counts = [[(10, 100), (0, 0), (20, 200)], [(20, 100), (0, 0), (20, 200)]]
    write_babi("mnm_p", [[10, 0, 20], [20, 0, 20]], tasks=(4, 5, 6), unseen=counts)
    write_babi("lstm", [[100, 20, 20]], tasks=(4, 5, 6))
    table = errors.to_markdown(load(tmp_path))
    found = rows(table.partition("\n\n")[0])
    assert found["test error in percent"] == ["MNM-p", "LSTM", "MNM-p, unseen questions"]
    assert found["4 two arg relations"] == ["7.50 ± 3.54", "50.00", "15.00 ± 7.07"]
    assert found["5 three arg relations"] == ["0.00 ± 0.00", "10.00", "-"]
    assert found["6 yes no questions"] == ["10.00 ± 0.00", "10.00", "10.00 ± 0.00"]
    assert found["mean over tasks"] == ["5.83 ± 1.18", "23.33", "12.50 ± 3.54"]
    assert found["mean over tasks, best by validation"][2] == "-"
    assert "of the test questions of the tasks: 4 (50.0%), 5 (100.0%)." in table
    assert ",10,200,5.0,10,100,50,0.5" in errors.to_csv(load(tmp_path))


@pytest.mark.filterwarnings("error")
def test_where_all_questions_are_seen_there_is_nothing_to_count(write_babi, tmp_path):
    write_babi("mnm_p", [[10]], tasks=(1,), unseen=[[(0, 0)]])
    found = rows(errors.to_markdown(load(tmp_path)).partition("\n\n")[0])
    assert found["mean over tasks"] == ["5.00", "-"]


def test_where_all_questions_are_unseen_there_is_no_such_column(write_babi, tmp_path):
    write_babi("mnm_p", [[10]], tasks=(1,), unseen=[[(10, 200)]])
    assert "unseen" not in errors.to_markdown(load(tmp_path)).lower()


def test_published_results_stand_beside_joint_training_only(write_babi, tmp_path):
    write_babi("mnm_p", np.zeros((1, 20)), update=60, archive_sha256="0" * 64)
    table = errors.to_markdown(load(tmp_path))
    found = rows(table.partition("\n\n")[0])
    assert len(found) == 1 + 1 + 20 + 3
    assert found["test error in percent"] == ["MNM-p", "TPR-RNN (reported by its paper)"]
    assert found["mean over tasks"] == ["0.00", "1.34 ± 0.52"]
    assert found["20 agents motivations"] == ["0.00", "-"]
    assert "https://github.com/ischlag/TPR-RNN" in table
    assert "mnm_p is not finished: update 60 of 100." in table
    assert "The archive is NOT the official one" in table
    assert "0" * 64 in table


@pytest.mark.parametrize("task", [{"data": "en"}, {"tasks": ALL[:-1]}])
def test_published_results_do_not_stand_beside_what_was_trained_otherwise(task, write_babi, tmp_path):
    write_babi("mnm_p", np.zeros((1, len(task.get("tasks", ALL)))), **task)
    assert "TPR-RNN" not in errors.to_markdown(load(tmp_path))


def test_the_table_for_programs_has_a_row_for_each_seed_and_task(write_babi, tmp_path):
    write_babi("mnm_p", [[0, 11], [10, 20]], tasks=(1, 5), best=[0.8, 0.9])
    assert errors.to_csv(load(tmp_path)).splitlines() == [
        "model,seed,task,errors,questions,error_percent,unseen_errors,unseen_questions,best_update,validation_accuracy",
        "mnm_p,0,1,0,200,0.0,,,50,0.8",
        "mnm_p,0,5,11,200,5.5,,,50,0.8",
        "mnm_p,1,1,10,200,5.0,,,51,0.9",
        "mnm_p,1,5,20,200,10.0,,,51,0.9",
    ]


def test_the_heat_map_shows_every_mean(write_babi, tmp_path):
    write_babi("mnm_p", [[0, 11], [10, 20]], tasks=(1, 5))
    write_babi("lstm", [[100, 20]], tasks=(1, 5))
    axes = errors.heat_map(load(tmp_path), "title").axes[0]
    assert [text.get_text() for text in axes.texts] == ["2.5", "50.0", "7.8", "10.0", "5.1", "30.0"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["MNM-p", "LSTM"]
    assert [label.get_text() for label in axes.get_yticklabels()][-1] == "mean over tasks"
    assert axes.figure.get_suptitle().endswith("mean over seeds")
    assert errors.heat_map(load(tmp_path)[1:], "title").get_suptitle().endswith("1 seed")


def test_figures_are_made_without_what_is_not_there(write_babi, tmp_path, capsys):
    (write_babi("mnm_p", [[1]], tasks=(1,)) / "test.json").unlink()
    assert plot.make_figures(tmp_path) == [tmp_path / "learning_curves.png"]
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}/errors.*: without mnm_p, for there is no test.json",
        f"{tmp_path}/similarity_*.png: without mnm_p, for there is no episode.npz",
    ]
    write_babi("lstm", [[1]], tasks=(1,))
    names = ("learning_curves.png", "errors.md", "errors.csv")  # Of a single task there is nothing to draw.
    assert plot.make_figures(tmp_path) == [tmp_path / name for name in names]


@pytest.mark.parametrize(
    "contents", ["{", "[]", '{"update": 1, "seeds": []}', '{"update": 1, "seeds": [{"tasks": 0}]}']
)
def test_a_file_that_no_run_wrote_is_named(contents, write_babi, tmp_path):
    directory = write_babi("mnm_p", [[1]], tasks=(1,))
    (directory / "test.json").write_text(contents)
    with pytest.raises(LoadError, match=f"^{directory}/test.json is not a table of test errors: "):
        load(tmp_path)

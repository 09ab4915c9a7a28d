import csv
import io
import math

import numpy as np
import pytest

from mnm_jax.analysis import takeoff
from mnm_jax.analysis.runs import load_runs


def test_takeoff_is_the_first_update_above_the_threshold():
    updates = np.array([0, 50, 100, 150])
    accuracies = np.array([[0.1, 0.6, 0.4, 0.9], [0.1, 0.5, 0.5, 0.51], [0.1, 0.2, np.nan, 0.3], [0.7, 0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(takeoff.takeoff_updates(updates, accuracies), [50, 150, np.inf, 0])
    np.testing.assert_array_equal(takeoff.takeoff_updates(updates, accuracies, 0.15), [50, 50, 50, 0])


@pytest.mark.parametrize(("updates", "accuracies"), [((3,), (2, 4)), ((4,), (4,)), ((1, 4), (1, 4))])
def test_wrong_shapes_are_an_error(updates, accuracies):
    with pytest.raises(ValueError, match=r"want shapes \[E\] and \[S, E\]"):
        takeoff.takeoff_updates(np.zeros(updates), np.zeros(accuracies))


def summary(write_run, tmp_path, accuracies, **options):
    write_run("mnm_p", accuracies)
    (run,) = load_runs(tmp_path)
    return takeoff.summarize(run, **options)


def test_a_seed_that_never_took_off_counts_as_later_than_the_others(write_run, tmp_path):
    row = summary(write_run, tmp_path, [[0.1, 0.8, 0.9], [0.1, 0.2, 0.7], [0.1, 0.2, 0.2]])
    assert (row.median, row.first, row.last, row.num_never, row.num_seeds) == (100, 50, 100, 1, 3)
    assert row.accuracy_mean == pytest.approx(0.6)
    assert (row.accuracy_min, row.accuracy_max, row.updates, row.minutes) == (0.2, 0.9, 100, 1.0)


def test_without_half_of_the_seeds_there_is_no_median(write_run, tmp_path):
    row = summary(write_run, tmp_path, [[0.1, 0.8], [0.1, 0.9], [0.1, 0.2], [0.1, 0.2]])
    assert (row.median, row.first, row.last, row.num_never) == (math.inf, 50, 50, 2)
    assert "not by 50" in takeoff.to_markdown([row])


def test_markdown(write_run, tmp_path):
    write_run("mnm_p", [[0.1, 0.2, 0.8], [0.1, 0.9, 0.9]])
    (write_run("lstm", [[0.25, 0.25]]) / "timing.jsonl").unlink()
    text = takeoff.to_markdown([takeoff.summarize(run, 0.6) for run in load_runs(tmp_path)], 0.6)
    header, rule, *rows, blank, explanation = text.splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (header, *rows)]
    assert cells == [
        [
            "model",
            "take-off (median)",
            "take-off (range)",
            "never took off",
            "final word accuracy (mean)",
            "final word accuracy (range)",
            "updates",
            "minutes",
        ],
        ["MNM-p", "75", "50 to 100", "0 of 2", "0.850", "0.800 to 0.900", "100", "1.0"],
        ["LSTM", "not by 50", "-", "1 of 1", "0.250", "0.250 to 0.250", "50", "-"],
    ]
    assert len({len(line) for line in (header, rule, *rows)}) == 1
    assert blank == ""
    assert "is above 0.6, in updates" in explanation


def test_csv(write_run, tmp_path):
    row = summary(write_run, tmp_path, [[0.1, 0.2, 0.4]])
    (read,) = csv.DictReader(io.StringIO(takeoff.to_csv([row])))
    assert read == {name: str(value) for name, value in row._asdict().items()}
    assert (read["median"], read["first"], read["num_never"], read["updates"]) == ("inf", "nan", "1", "100")

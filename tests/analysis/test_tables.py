import math

import pytest

from mnm_jax.analysis import tables


def test_markdown_is_aligned_names_left_and_numbers_right():
    text = tables.to_markdown(["run", "task", "n"], [["a/b", "x", "1,000"], ["c", "long", "2"]], num_names=2)
    assert text.splitlines() == [
        "| run | task |     n |",
        "| --- | ---- | ----: |",
        "| a/b | x    | 1,000 |",
        "| c   | long |     2 |",
    ]


def test_rows_of_another_length_are_an_error():
    with pytest.raises(ValueError, match="shorter"):
        tables.to_markdown(["a", "b"], [["1"]])


def test_csv_quotes_and_keeps_numbers_whole():
    text = tables.to_csv(["name", "value"], [["a, b", 0.1], ["c", math.inf]])
    assert text == 'name,value\n"a, b",0.1\nc,inf\n'


def test_what_is_no_number_is_a_dash():
    assert tables.number(1234.5, ",.1f") == "1,234.5"
    assert tables.span(0.5, 1, ".2f") == "0.50 to 1.00"
    assert tables.number(math.nan, ".1f") == tables.span(math.nan, 1, ".1f") == tables.span(1, math.nan, ".1f") == "-"

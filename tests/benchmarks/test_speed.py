"""The benchmarks of speed run, on tiny sizes, and count what XLA counts."""

import dataclasses
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

from benchmarks import ceilings, measuring, tracing, workload

TINY = workload.Workload(
    "mnm_p", "reversible", "gradient", num_steps=3, batch_size=2, size=3, num_layers=2, num_heads=1
)
ROOT = pathlib.Path(__file__).parents[2]
HAS_TORCH = importlib.util.find_spec("torch") is not None

pytestmark = pytest.mark.usefixtures("quick_compilation")


def run_program(name, *options):
    # In a process of its own: the programs here share names of flags.
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",
    }
    command = [sys.executable, "-m", f"benchmarks.{name}", *options]
    return subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def test_the_program_of_speed(tmp_path):
    path = tmp_path / "results.json"
    table = run_program(
        "unroll",
        *("--num_steps=2", "--batch=2", "--size=3", "--num_layers=1", "--repeats=2", f"--output={path}"),
        *("--writers=mnm_p", "--runs=forward", "--unroll=reversible", f"--torch={HAS_TORCH}"),
    )
    results = json.loads(path.read_text())
    assert [row["unroll"] for row in results["rows"]] == ["reversible", "torch"][: 1 + HAS_TORCH]
    for row in results["rows"]:
        assert len(row["seconds"]) == 2
        assert row["steps_per_second"] == pytest.approx(4 / row["median_seconds"])
    assert results["rows"][0]["bytes_per_sample_step"] > 0
    if HAS_TORCH:
        ours, theirs = results["rows"]
        assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-5)
        (ratio,) = results["ratios"]
        assert ratio["ratio_of_medians"] == pytest.approx(theirs["median_seconds"] / ours["median_seconds"])
        assert f"{ratio['ratio_of_medians']:.2f}" in table


def test_the_figure_of_scaling(tmp_path):
    path = tmp_path / "scaling.png"
    run_program(
        "scaling",
        *(str(path), "--lengths=2", "--sizes=2", "--batches=2", "--heads=1", "--repeats=2"),
        *("--num_steps=2", "--size=2", "--batch=2", "--num_layers=1", "--writers=mnm_p"),
    )
    assert path.stat().st_size > 0
    results = json.loads(path.with_suffix(".json").read_text())
    assert list(results) == ["num_steps", "size", "batch_size", "num_heads"]


def test_the_figure_of_drift(tmp_path):
    path = tmp_path / "drift.png"
    run_program("drift", *(str(path), "--lengths=4", "--anchors=2", "--size=3", "--num_layers=2", "--writers=mnm_p"))
    assert path.stat().st_size > 0
    errors = json.loads(path.with_suffix(".json").read_text())["mnm_p"]["4"]
    assert list(errors) == ["plain", "reversible, no anchors", "an anchor every 2 steps"]
    assert errors["plain"]["in_single"] == 0
    assert all(0 < error["in_double"] < 1e-2 for error in errors.values())


def test_the_profile_tells_products_from_passes():
    task = dataclasses.replace(TINY, size=32, batch_size=4, num_steps=8)
    seconds, counts = tracing.trace(task)
    assert set(seconds) == set(tracing.KINDS)
    assert all(value > 0 for value in seconds.values())
    # Every step reads the memory before and after the write, and again on the way back.
    assert counts[tracing.MEMORY] > 4 * task.num_layers * task.num_steps


def test_every_unroll_computes_the_same_loss():
    unrolls = [*workload.UNROLLS, *[workload.TORCH] * HAS_TORCH]
    workloads = [dataclasses.replace(TINY, unroll=unroll, dtype="float64") for unroll in unrolls]
    rows = measuring.measure(workloads, 2, measuring.call_here, with_slope=False)
    assert [row.workload for row in rows] == workloads
    assert [row.loss for row in rows] == pytest.approx([rows[0].loss] * len(rows), rel=1e-12)


def test_what_computes_something_else_is_not_compared():
    workloads = [dataclasses.replace(TINY, writer=writer, run="forward") for writer in workload.WRITERS]
    with pytest.raises(RuntimeError, match="gives a loss"):
        measuring.measure(workloads, 2, measuring.call_here, with_slope=False)


@pytest.mark.parametrize("num_heads", [1, 3])
@pytest.mark.parametrize("writer", workload.WRITERS)
def test_the_count_of_operations_is_that_of_xla(writer, num_heads):
    task = workload.Workload(writer, "plain", "forward", 50, batch_size=2, size=24, num_layers=3, num_heads=num_heads)
    # XLA counts the body of a loop once, and also what is no product.
    counted = workload.compiled(task).cost_analysis()["flops"] * task.num_steps
    assert 1 <= counted / ceilings.least_flops(task) < 1.15


def test_ceilings_are_measured():
    assert min(ceilings.measure("float32", num_bytes=4096, matrix_size=8)) > 0

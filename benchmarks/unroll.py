"""How long does a batch of episodes take, forward and with the gradient, and how much memory?

    python -m benchmarks.unroll [--num_steps=100] [--batch=32] [--size=100] [--num_layers=3] [--num_heads=1]
        [--writers=mnm_p,mnm_g] [--unroll=reversible,plain,checkpointed] [--torch] [--output=FILE]

prints a table, and writes it with all single runs as JSON to the file. `--torch` times the plain PyTorch version too:
then JAX and PyTorch run in a process of a single thread each, both on the same core, and a second table holds the
ratios. Those count; seconds depend on the machine and on what else it does. On an accelerator, or with `--ceilings`,
a third table tells what share of the machine's measured rates is reached.
"""

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from absl import app, flags, logging

from benchmarks import ceilings, measuring, workload
from benchmarks.ceilings import Ceilings
from benchmarks.measuring import Row
from benchmarks.workload import TORCH, Workload
from mnm_jax.analysis import tables

_NUM_STEPS = flags.DEFINE_integer("num_steps", 100, "Length of the episodes, T.", lower_bound=1)
_BATCH = flags.DEFINE_integer("batch", 32, "Episodes.", lower_bound=1)
_SIZE = flags.DEFINE_integer("size", 100, "Width of controller, keys, values and hidden layers, d.", lower_bound=1)
_NUM_LAYERS = flags.DEFINE_integer("num_layers", 3, "Layers of the memory, L.", lower_bound=1)
_NUM_HEADS = flags.DEFINE_integer("num_heads", 1, "Heads, H.", lower_bound=1)
_WRITERS = flags.DEFINE_list("writers", list(workload.WRITERS), f"Some of {', '.join(workload.WRITERS)}.")
_UNROLL = flags.DEFINE_list("unroll", ["reversible", "plain"], f"Some of {', '.join(workload.UNROLLS)}.")
_RUNS = flags.DEFINE_list("runs", list(workload.RUNS), f"Some of {', '.join(workload.RUNS)}.")
_DTYPE = flags.DEFINE_enum(
    "dtype", "float32", workload.DTYPES, "Of all that is computed; with bfloat16, of the matrix products alone."
)
_REPEATS = flags.DEFINE_integer("repeats", 7, "Runs of each program that count.", lower_bound=2)
_TORCH = flags.DEFINE_bool("torch", False, "Whether to time the plain PyTorch version too, single-threaded, on a CPU.")
_CEILINGS = flags.DEFINE_bool("ceilings", None, "Whether to measure the machine's rates; by default on accelerators.")
_OUTPUT = flags.DEFINE_string("output", None, "File for the results as JSON.")

for _name, _choices in {"writers": workload.WRITERS, "unroll": workload.UNROLLS, "runs": workload.RUNS}.items():
    flags.register_validator(
        _name,
        lambda values, choices=frozenset(_choices): bool(values) and choices.issuperset(values),
        f"takes one or more of {', '.join(_choices)}, separated by commas",
    )

flags.register_multi_flags_validator(
    ["torch", "dtype"],
    lambda values: not (values["torch"] and values["dtype"] == "bfloat16"),
    "--torch compares float32 or float64, not bfloat16",
)


def rows_table(rows: Sequence[Row]) -> str:
    """A line for each workload."""
    header = [
        "writer",
        "run",
        "unroll",
        "median s",
        "quartiles",
        "CPU s",
        "episodes/s",
        "steps/s",
        "compile s",
        "temporary MB",
        "bytes per sample-step",
    ]
    lines = []
    for row in rows:
        first, third = row.quartiles
        compiled = ["", "", ""]
        if row.workload.unroll != TORCH:
            compiled = [
                f"{row.compile_seconds:.1f}",
                f"{row.temporary_bytes / 1e6:.1f}",
                f"{row.bytes_per_sample_step:,.0f}",
            ]
        lines.append(
            [
                *(row.workload.writer, row.workload.run, row.workload.unroll),
                f"{row.median_seconds:.4g}",
                f"{first:.4g} to {third:.4g}",
                f"{row.median_processor_seconds:.4g}",
                f"{row.episodes_per_second:,.1f}",
                f"{row.steps_per_second:,.0f}",
                *compiled,
            ]
        )
    return tables.to_markdown(header, lines, num_names=3)


def ratios_of(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """How many times as long PyTorch takes, for each workload of JAX.

    Args:
      rows: what was measured.

    Returns:
      For each row of JAX the ratio of the medians, that of the medians of processor time, which another program on the
      same core disturbs less, and the smallest and the largest of the ratios of two runs in turn.
    """
    plain = {(row.workload.writer, row.workload.run): row for row in rows if row.workload.unroll == TORCH}
    ratios = []
    for row in rows:
        if row.workload.unroll != TORCH:
            other = plain[row.workload.writer, row.workload.run]
            singles = [theirs / ours for theirs, ours in zip(other.seconds, row.seconds, strict=True)]
            ratios.append(
                {
                    **{name: getattr(row.workload, name) for name in ("writer", "run", "unroll")},
                    "ratio_of_medians": other.median_seconds / row.median_seconds,
                    "ratio_of_processor_medians": other.median_processor_seconds / row.median_processor_seconds,
                    "smallest": min(singles),
                    "largest": max(singles),
                }
            )
    return ratios


def ratios_table(ratios: Sequence[dict[str, Any]]) -> str:
    """A line for each ratio."""
    header = ["writer", "run", "unroll", "times as fast as PyTorch", "run by run", "in CPU time"]
    lines = [
        [
            *(ratio["writer"], ratio["run"], ratio["unroll"]),
            f"{ratio['ratio_of_medians']:.2f}",
            f"{ratio['smallest']:.2f} to {ratio['largest']:.2f}",
            f"{ratio['ratio_of_processor_medians']:.2f}",
        ]
        for ratio in ratios
    ]
    return tables.to_markdown(header, lines, num_names=3)


def shares_of(rows: Sequence[Row], measured: Ceilings) -> list[dict[str, Any]]:
    """Which rates every workload reaches, counting only what it must move and compute; see `ceilings`."""
    shares = []
    for row in rows:
        bytes_per_second = ceilings.least_bytes(row.workload) / row.median_seconds
        flops_per_second = ceilings.least_flops(row.workload) / row.median_seconds
        shares.append(
            {
                **{name: getattr(row.workload, name) for name in ("writer", "run", "unroll")},
                "bytes_per_second": bytes_per_second,
                "share_of_copy": bytes_per_second / measured.bytes_per_second,
                "flops_per_second": flops_per_second,
                "share_of_product": flops_per_second / measured.flops_per_second,
            }
        )
    return shares


def shares_table(shares: Sequence[dict[str, Any]], measured: Ceilings) -> str:
    """A line for each workload, and one for the ceilings."""
    header = ["writer", "run", "unroll", "GB/s", "of copy", "GFLOP/s", "of product"]
    lines = [
        [
            *(share["writer"], share["run"], share["unroll"]),
            f"{share['bytes_per_second'] / 1e9:,.2f}",
            f"{share['share_of_copy']:.1%}",
            f"{share['flops_per_second'] / 1e9:,.1f}",
            f"{share['share_of_product']:.1%}",
        ]
        for share in shares
    ]
    rates = (f"{measured.bytes_per_second / 1e9:,.2f}", "", f"{measured.flops_per_second / 1e9:,.1f}", "")
    return tables.to_markdown(header, [*lines, ["measured ceiling", "", "", *rates]], num_names=3)


def _workloads(writer: str, run: str) -> list[Workload]:
    """What is compared: the same writer and run, unrolled in each way."""
    sizes = (_NUM_STEPS.value, _BATCH.value, _SIZE.value, _NUM_LAYERS.value, _NUM_HEADS.value)
    unrolls = [*_UNROLL.value, *[TORCH] * _TORCH.value]
    return [Workload(writer, unroll, run, *sizes, _DTYPE.value) for unroll in unrolls]


def _machine() -> str:
    """The device and the versions."""
    device = f"{os.cpu_count()} cores, one used" if _TORCH.value else jax.devices()[0].device_kind
    versions = f"jax {jax.__version__}"
    if _TORCH.value:
        import torch

        versions += f", torch {torch.__version__}"
    return f"{device}, {versions}"


def main(argv: Sequence[str]) -> None:
    """Measures, prints and writes."""
    del argv
    logging.set_verbosity(logging.WARNING)
    settings = {
        "num_steps": _NUM_STEPS.value,
        "batch": _BATCH.value,
        "size": _SIZE.value,
        "num_layers": _NUM_LAYERS.value,
        "num_heads": _NUM_HEADS.value,
        "dtype": _DTYPE.value,
        "repeats": _REPEATS.value,
        "machine": _machine(),
    }
    print(", ".join(f"{name}: {value}" for name, value in settings.items()), flush=True)
    with measuring.processes() if _TORCH.value else contextlib.nullcontext(measuring.call_here) as call:
        rows = []
        for writer in _WRITERS.value:
            for run in _RUNS.value:
                rows += measuring.measure(_workloads(writer, run), _REPEATS.value, call)
        is_wanted = _CEILINGS.value
        if is_wanted is None:
            is_wanted = not _TORCH.value and jax.default_backend() != "cpu"
        measured = call(rows[0].workload)(ceilings.measure, _DTYPE.value) if is_wanted else None
    results = {**settings, "rows": [row.to_json() for row in rows]}
    print(f"\n{rows_table(rows)}", end="")
    if _TORCH.value:
        results["ratios"] = ratios_of(rows)
        print(f"\n{ratios_table(results['ratios'])}", end="")
    if measured is not None:
        results["ceilings"] = measured._asdict()
        results["shares"] = shares_of(rows, measured)
        print(f"\n{shares_table(results['shares'], measured)}", end="")
    if _OUTPUT.value:
        Path(_OUTPUT.value).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    app.run(main)

"""From the files of a training run to figures and tables. Needs matplotlib and SciPy, which training does not."""

from mnm_jax.analysis import comparison, curves, errors, runs, similarity, tables, takeoff

__all__ = ["comparison", "curves", "errors", "runs", "similarity", "tables", "takeoff"]

"""From the files of a training run to figures and tables. Needs matplotlib and SciPy, which training does not."""

from mnm_jax import _extras

_extras.require("mnm_jax.analysis", "experiments", "matplotlib", "scipy")

from mnm_jax.analysis import comparison, curves, errors, runs, similarity, tables, takeoff

__all__ = ["comparison", "curves", "errors", "runs", "similarity", "tables", "takeoff"]

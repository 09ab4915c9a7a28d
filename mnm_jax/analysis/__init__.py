"""From the files of a training run to figures and tables. Needs matplotlib and SciPy, which training does not."""

from mnm_jax.analysis import curves, runs, similarity, takeoff

__all__ = ["curves", "runs", "similarity", "takeoff"]

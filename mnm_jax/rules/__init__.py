"""More writing rules and backward functions, beside the two writers of the paper in `mnm_jax.writers`.

Each is a file of its own, as a rule of yours would be; `WORKSPACE.md` says how to add one.
"""

from mnm_jax.rules.fade import Fade
from mnm_jax.rules.feedback_alignment import feedback_alignment
from mnm_jax.rules.gated_delta import gated_delta
from mnm_jax.rules.synthetic_gradients import synthetic_gradients
from mnm_jax.rules.titans import titans

__all__ = ["Fade", "feedback_alignment", "gated_delta", "synthetic_gradients", "titans"]

"""Direct feedback alignment: the error at the top reaches every layer through a fixed random matrix of its own.

Nothing is learned. The steps of the layers are scaled as those of the local rule are.

Sources: Lillicrap et al., "Random synaptic feedback weights support error backpropagation for deep learning", Nature
Communications 2016; the direct form of Nøkland, "Direct feedback alignment provides learning in deep neural networks",
NeurIPS 2016, section 3.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp

from mnm_jax.contract import Backward, Seen
from mnm_jax.memory import Spec


def feedback_alignment() -> Backward:
    """A backward function for `writers.local`: `z^l - t^l = (f(k) - v) B^l * tanh'`, at the top `t^L = v`."""
    return _FeedbackAlignment(is_learned=False)


class _FeedbackAlignment(Backward):
    gives_steps: ClassVar[bool] = True

    def init(self, rng: jax.Array, spec: Spec, layer: int) -> dict[str, jax.Array]:
        if layer == spec.num_layers - 1:
            return {}
        shape = (spec.value_size, spec.sizes[layer + 1])
        return {"feedback": jax.nn.initializers.lecun_normal()(rng, shape, jnp.float32)}

    def apply(self, params: dict[str, jax.Array], seen: Seen) -> jax.Array:
        if not params:
            return seen.values
        slope = 1 - jnp.square(seen.activations)
        return seen.activations - slope * ((seen.outputs - seen.values) @ params["feedback"])

"""Synthetic gradients: every layer predicts its own gradient, and learns to from an auxiliary loss.

Source: Jaderberg et al., "Decoupled neural interfaces using synthetic gradients", ICML 2017, section 2.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp

from mnm_jax import memory as memory_lib
from mnm_jax._trees import add
from mnm_jax.contract import Backward, Observation, PyTree, Seen
from mnm_jax.memory import Memory, Spec
from mnm_jax.writers import error_gradient, perceptron


def synthetic_gradients(*, hidden_size: int | None = None) -> Backward:
    """A backward function for `writers.local`: `z^l - t^l` is a prediction of the gradient, up to the rule's own scale.

    The gradient is that by the layer's pre-activations. The prediction sees value, key and activations, as the source's
    does that is conditioned on the label (cDNI). It is trained by nothing but its distance from the true gradient,
    which the auxiliary loss computes by back-propagation; the write itself has none. The last layer of each predictor
    starts at zero, as in the source: until it has learned something, it writes nothing.

    Args:
      hidden_size: width of the predictors' hidden layer of tanh; `None` for affine predictors.

    Raises:
      ValueError: if `hidden_size` is below 1.
    """
    return _SyntheticGradients(perceptron(hidden_size=hidden_size, use_key=True, use_activations=True))


class _SyntheticGradients(Backward):
    predictor: Backward
    gives_steps: ClassVar[bool] = True

    def init(self, rng: jax.Array, spec: Spec, layer: int) -> PyTree:
        *hidden, last = self.predictor.init(rng, spec, layer)
        return *hidden, jax.tree.map(jnp.zeros_like, last)

    def apply(self, params: Memory, seen: Seen) -> jax.Array:
        return seen.activations - self.predictor.apply(jax.lax.stop_gradient(params), seen)

    def observe(self, params: tuple[Memory, ...], memory: Memory, keys: jax.Array, values: jax.Array) -> Observation:
        memory, keys, values = jax.lax.stop_gradient((memory, keys, values))
        outputs = memory_lib.activations(memory, keys)
        losses = []
        for layer_params, actual, gradient in zip(
            params, outputs[1:], error_gradient(memory, keys, values)[1], strict=True
        ):
            predicted = self.predictor.apply(layer_params, Seen(values, keys, actual, outputs[-1]))
            scale = 2 / actual.size  # The rule multiplies by it.
            losses.append(jnp.mean(jnp.square(predicted - gradient / scale)))
        return Observation(auxiliary_loss=add(*losses), extras={"gradient_error": jnp.stack(losses)})

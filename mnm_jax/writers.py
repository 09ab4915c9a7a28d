"""The writers of the paper: how a memory changes in one shot.

A `Writer` is two pure functions: `init` makes the writer's learned parameters, and `write` turns keys and values into a
change of the memory, which it never touches itself. `contract.py` says what else a rule may want; a new one is a
subclass in a file of your own, such as those in `mnm_jax/rules/`.

Axes: `L` layers of widths `d_0` (key) to `d_L` (value), `H` heads.

Source: Munkhdalai et al., "Metalearned Neural Memory", NeurIPS 2019, section 3.2 (gradient writer, MNM-g) and
section 3.3 (local rule, MNM-p).
"""

import jax
import jax.numpy as jnp

from mnm_jax import _checks
from mnm_jax import memory as memory_lib
from mnm_jax.contract import Backward, Gate, Observation, Params, Seen, Writer, check_write_arguments
from mnm_jax.memory import Memory, Spec, Write

__all__ = [
    "Backward",
    "Gate",
    "Observation",
    "Params",
    "Seen",
    "Writer",
    "check_write_arguments",
    "error_gradient",
    "gradient",
    "local",
    "perceptron",
]

# Added to squared lengths that are divided by.
_LENGTH_EPSILON = 1e-2


def gradient(*, num_steps: int = 1) -> Writer:
    """MNM-g: steps of gradient descent on the error of reading the write keys back.

    `phi' = phi - rate * grad_phi mean_i mean_j (f(k_i; phi) - v_i)_j^2`, with the mean over heads `i` and features
    `j`. Nothing is learned in the writer; an outer loss differentiates through it exactly, second order included.

    Args:
      num_steps: how many inner steps, each at the memory that the one before has updated. The write has rank
        `num_steps * H`.

    Raises:
      ValueError: if `num_steps` is below 1.
    """
    _checks.check_positive(num_steps=num_steps)
    return _Gradient(num_steps)


class _Gradient(Writer):
    num_steps: int

    def write(self, params: Params, memory: Memory, keys: jax.Array, values: jax.Array, rate: jax.Array) -> Write:
        del params
        rates = check_write_arguments(memory, keys, values, rate)
        steps = []
        for _ in range(self.num_steps):
            pre, grads = error_gradient(memory, keys, values)
            steps.append(Write(pre, tuple(-rates[i, :, None] * grad for i, grad in enumerate(grads))))
            if len(steps) < self.num_steps:
                memory = steps[-1].apply(memory)
        return steps[0] if self.num_steps == 1 else jax.tree.map(lambda *factors: jnp.concatenate(factors), *steps)


def error_gradient(
    memory: Memory, keys: jax.Array, values: jax.Array
) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
    """The gradient of the reading error `mean_i mean_j (f(k_i) - v_i)_j^2` in factors, without ever forming it.

    The gradient of a kernel is `pre^T post`, with `post` the gradient with respect to the layer's pre-activations.

    Args:
      memory: the weights.
      keys: `[H, key_size]`.
      values: `[H, value_size]`.

    Returns:
      `pre`, each layer's input `[H, d_in]`, and `post`, each `[H, d_out]`.
    """

    def error(offsets: tuple[jax.Array, ...]) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        *inputs, outputs = memory_lib.activations(memory, keys, offsets)
        return jnp.mean(jnp.square(outputs - values)), tuple(inputs)

    # Zeros made of what varies from device to device: the gradient of others would be summed over a mesh.
    zeros = jax.tree.map(jnp.zeros_like, memory_lib.activations(memory, keys)[1:])
    grads, inputs = jax.grad(error, has_aux=True)(zeros)
    return inputs, grads


def perceptron(
    *,
    hidden_size: int | None = None,
    use_key: bool = False,
    use_activations: bool = False,
    is_learned: bool = True,
) -> Backward:
    """Targets from the value by an affine map for each layer, or by a perceptron with one hidden layer of tanh.

    Args:
      hidden_size: width of the hidden layer; `None` for an affine map.
      use_key: whether it also sees the write key.
      use_activations: whether it also sees the layer's activations `z^l`.
      is_learned: whether it is learned, or stays as it is drawn.

    Raises:
      ValueError: if `hidden_size` is below 1.
    """
    if hidden_size is not None:
        _checks.check_positive(hidden_size=hidden_size)
    return _Perceptron(hidden_size, use_key, use_activations, is_learned=is_learned)


class _Perceptron(Backward):
    hidden_size: int | None
    use_key: bool
    use_activations: bool

    def init(self, rng: jax.Array, spec: Spec, layer: int) -> Memory:
        size = spec.sizes[layer + 1]
        num_inputs = spec.value_size + self.use_key * spec.key_size + self.use_activations * size
        hidden_sizes = () if self.hidden_size is None else (self.hidden_size,)
        return memory_lib.init(rng, Spec(num_inputs, size, hidden_sizes, use_bias=True, zero_output_layer=False))

    def apply(self, params: Memory, seen: Seen) -> jax.Array:
        inputs = [seen.values] + [seen.keys] * self.use_key + [seen.activations] * self.use_activations
        return memory_lib.read(params, jnp.concatenate(inputs, axis=-1))


def local(*, backward: Backward | None = None, normalized: bool = False, bounded: bool = False) -> Writer:
    """MNM-p: a learned local rule. Every layer gets a target of its own and follows the perceptron rule.

    A backward function predicts each layer's target from the value, `t^l_i = q^l(v_i)`; then
    `W^l' = W^l - rate * s_l * sum_i z^{l-1}_i^T (z^l_i - t^l_i)` with `s_l = 2 / (H * d_l)`, and the same without
    `z^{l-1}` for a bias. All layers use the activations of the memory before the write: there is no derivative, no
    gradient of a loss, and nothing sequential between layers. The backward functions are learned by the outer loss.

    Args:
      backward: the backward function `q`; `None` for `perceptron()`, an affine map of the value.
      normalized: whether a step is divided by the squared length of the layer's input, `s_l,i = 1 / |z^{l-1}_i|^2`, as
        in the normalised delta rule (Nagumo and Noda, "A learning method for system identification", 1967); 0.01 is
        added to that length, and 1 if the layer has a bias, which is a weight of an input of 1. With one head, a rate
        of 1 brings the last layer all the way to its target for the input that it had, whatever the widths, but for the
        0.01; a hidden layer goes as far before its tanh, hence less far after it. No rate up to 1 overshoots.
      bounded: whether the targets of hidden layers go through the layer's tanh, `t^l_i = tanh(q^l(v_i))`. A target
        beyond 1 is never reached, so that every write goes on in its direction, and the weights grow with each step of
        an episode (`experiments/results/maze_log.md`).

    Raises:
      ValueError: if a backward function that gives steps shall be normalised or bounded: its steps have a scale of
        their own, and are not zero any more where they were once their targets went through a tanh.
    """
    backward = perceptron() if backward is None else backward
    if backward.gives_steps and (normalized or bounded):
        option = "normalized" if normalized else "bounded"
        raise ValueError(f"{option} is for backward functions that give targets, and {backward!r} gives steps")
    rule = {
        (False, False): _Local,
        (True, False): _NormalizedLocal,
        (False, True): _BoundedLocal,
        (True, True): _NormalizedBoundedLocal,
    }[normalized, bounded]
    return rule(backward)


class _Local(Writer):
    backward: Backward

    def init(self, rng: jax.Array, spec: Spec) -> Params:
        return self._draw(rng, spec) if self.backward.is_learned else {}

    def constants(self, rng: jax.Array, spec: Spec) -> Params:
        return {} if self.backward.is_learned else self._draw(rng, spec)

    def _draw(self, rng: jax.Array, spec: Spec) -> Params:
        rngs = jax.random.split(rng, spec.num_layers)
        return {"backward": tuple(self.backward.init(rng, spec, layer) for layer, rng in enumerate(rngs))}

    def write(self, params: Params, memory: Memory, keys: jax.Array, values: jax.Array, rate: jax.Array) -> Write:
        rates = check_write_arguments(memory, keys, values, rate)
        outputs = memory_lib.activations(memory, keys)
        post = []
        for i, (backward, actual) in enumerate(zip(params["backward"], outputs[1:], strict=True)):
            target = self.backward.apply(backward, Seen(values, keys, actual, outputs[-1]))
            target = self._settle(target, is_hidden=i < len(memory) - 1)
            scale = self._scale(outputs[i], actual, has_bias=memory[i].bias is not None)
            post.append(-scale * rates[i, :, None] * (actual - target))
        return Write(outputs[:-1], tuple(post))

    def _settle(self, target: jax.Array, *, is_hidden: bool) -> jax.Array:
        """The target of a layer, from what the backward function gave."""
        del is_hidden
        return target

    def _scale(self, inputs: jax.Array, outputs: jax.Array, *, has_bias: bool) -> float | jax.Array:
        """`s_l`, or `s_l,i` as `[H, 1]`, of a layer with `inputs: [H, d_{l-1}]` and `outputs: [H, d_l]`."""
        del inputs, has_bias
        return 2 / outputs.size

    def observe(
        self, params: Params, memory: Memory, keys: jax.Array, values: jax.Array, rate: jax.Array
    ) -> Observation:
        del rate
        return self.backward.observe(params["backward"], memory, keys, values)


class _NormalizedLocal(_Local):
    """The local rule with the step of the normalised delta rule."""

    def _scale(self, inputs: jax.Array, outputs: jax.Array, *, has_bias: bool) -> jax.Array:
        del outputs
        return 1 / (jnp.sum(jnp.square(inputs), axis=-1, keepdims=True) + has_bias + _LENGTH_EPSILON)


class _BoundedLocal(_Local):
    """The local rule with targets that the hidden layers can reach."""

    def _settle(self, target: jax.Array, *, is_hidden: bool) -> jax.Array:
        return jnp.tanh(target) if is_hidden else target


class _NormalizedBoundedLocal(_NormalizedLocal, _BoundedLocal):
    """Both."""

"""The writers: how a memory's weights change in one shot.

A `Writer` is a pair of pure functions, in the style of optax. `init` makes the writer's learned parameters; `write`
turns keys and values into a `memory.Write`, a change of low rank, and never touches the memory itself. A new rule is a
new pair.

Axes: `L` layers of widths `d_0` (key) to `d_L` (value), `H` heads.

Source: Munkhdalai et al., "Metalearned Neural Memory", NeurIPS 2019, section 3.2 (gradient writer, MNM-g) and
section 3.3 (local rule, MNM-p).
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from mnm_jax import _checks
from mnm_jax import memory as memory_lib
from mnm_jax.memory import Memory, Spec, Write

Params = Mapping[str, Any]


class InitFunction(Protocol):
    """Makes the writer's learned parameters."""

    def __call__(self, rng: jax.Array, spec: Spec) -> Params:
        """Takes a random key and the memory's architecture; `{}` if there is nothing to learn."""
        ...


class WriteFunction(Protocol):
    """Turns keys and values into a change of the memory."""

    def __call__(self, params: Params, memory: Memory, keys: jax.Array, values: jax.Array, rate: jax.Array) -> Write:
        """Computes a write; the memory itself is left as it is.

        Args:
          params: what `init` made.
          memory: the weights before the write.
          keys: `[H, key_size]`, the write keys.
          values: `[H, value_size]`, what the memory shall give for them.
          rate: the step size, of a shape that broadcasts to `[L, H]`. A rate of 0 must give `post` of 0.

        Returns:
          The change, for each layer `pre: [R, d_in]` and `post: [R, d_out]`.
        """
        ...


class Writer(NamedTuple):
    """A writing rule: `params = init(rng, spec)` and `write(params, memory, keys, values, rate)`.

    Writers are compared and hashed by their two functions, so make the functions once (at the top of a module, or
    under `functools.cache`): cells with equal writers then share compiled code.
    """

    init: InitFunction
    write: WriteFunction


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
    _checks.check_positive(num_steps=num_steps)  # Outside of the cache, where True is found under 1.
    return _gradient(num_steps)


@functools.cache
def _gradient(num_steps: int) -> Writer:
    def init(rng: jax.Array, spec: Spec) -> Params:
        del rng, spec
        return {}

    def write(params: Params, memory: Memory, keys: jax.Array, values: jax.Array, rate: jax.Array) -> Write:
        del params
        rates = _check_write_arguments(memory, keys, values, rate)
        steps = []
        for _ in range(num_steps):
            pre, grads = _error_gradient(memory, keys, values)
            post = tuple(-rates[i, :, None] * grad for i, grad in enumerate(grads))
            steps.append(Write(pre, post))
            if len(steps) < num_steps:
                memory = memory_lib.apply(memory, steps[-1])
        return jax.tree.map(lambda *factors: jnp.concatenate(factors), *steps) if num_steps > 1 else steps[0]

    return Writer(init, write)


def _error_gradient(
    memory: Memory, keys: jax.Array, values: jax.Array
) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
    """Each layer's input `z^{l-1}` and the gradient of the reading error with respect to its pre-activation.

    The gradient of a kernel is `pre^T post`, so differentiating with respect to zeros that are added to the
    pre-activations gives it in factors, without ever forming it.
    """

    def error(offsets: tuple[jax.Array, ...]) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        *inputs, outputs = memory_lib.activations(memory, keys, offsets)
        return jnp.mean(jnp.square(outputs - values)), tuple(inputs)

    zeros = tuple(jnp.zeros((keys.shape[0], layer.kernel.shape[1]), keys.dtype) for layer in memory)
    grads, inputs = jax.grad(error, has_aux=True)(zeros)
    return inputs, grads


def local(*, hidden_size: int | None = None, use_key: bool = False, use_activations: bool = False) -> Writer:
    """MNM-p: a learned local rule. Every layer gets a target of its own and follows the perceptron rule.

    A backward function per layer predicts the layer's target from the value, `t^l_i = q^l(v_i)`; then
    `W^l' = W^l - rate * s_l * sum_i z^{l-1}_i^T (z^l_i - t^l_i)` with `s_l = 2 / (H * d_l)`, and the same without
    `z^{l-1}` for a bias. All layers use the activations of the memory before the write: there is no derivative, no
    gradient of a loss, and nothing sequential between layers. The backward functions are learned by the outer loss.

    Args:
      hidden_size: width of a hidden tanh layer in each `q^l`; `None` makes `q^l` affine.
      use_key: whether `q^l` also sees the write key.
      use_activations: whether `q^l` also sees the layer's activations `z^l`.

    Raises:
      ValueError: if `hidden_size` is below 1.
    """
    if hidden_size is not None:
        _checks.check_positive(hidden_size=hidden_size)
    return _local(hidden_size, use_key, use_activations)


@functools.cache
def _local(hidden_size: int | None, use_key: bool, use_activations: bool) -> Writer:
    def init(rng: jax.Array, spec: Spec) -> Params:
        backward = []
        for rng_layer, size in zip(jax.random.split(rng, spec.num_layers), spec.sizes[1:], strict=True):
            num_inputs = spec.value_size + use_key * spec.key_size + use_activations * size
            hidden_sizes = () if hidden_size is None else (hidden_size,)
            # A backward function is itself a small perceptron: tanh inside, linear at the top.
            backward.append(
                memory_lib.init(rng_layer, Spec(num_inputs, size, hidden_sizes, use_bias=True, zero_output_layer=False))
            )
        return {"backward": tuple(backward)}

    def write(params: Params, memory: Memory, keys: jax.Array, values: jax.Array, rate: jax.Array) -> Write:
        rates = _check_write_arguments(memory, keys, values, rate)
        outputs = memory_lib.activations(memory, keys)
        post = []
        for i, (backward, actual) in enumerate(zip(params["backward"], outputs[1:], strict=True)):
            seen = [values] + [keys] * use_key + [actual] * use_activations
            target = memory_lib.read(backward, jnp.concatenate(seen, axis=-1))
            scale = 2 / actual.size  # s_l: `actual` is [H, d_l].
            post.append(-scale * rates[i, :, None] * (actual - target))
        return Write(outputs[:-1], tuple(post))

    return Writer(init, write)


def _check_write_arguments(memory: Memory, keys: jax.Array, values: jax.Array, rate: jax.Array) -> jax.Array:
    """Checks the arguments of a write and broadcasts the rate to `[L, H]`."""
    _checks.check_array("keys", keys, (None, memory[0].kernel.shape[0]))
    _checks.check_array("values", values, (keys.shape[0], memory[-1].kernel.shape[1]))
    wanted = (len(memory), keys.shape[0])
    try:
        return jnp.broadcast_to(rate, wanted)
    except ValueError:
        message = f"argument 'rate': shape {jnp.shape(rate)} does not broadcast to [layers, heads] = {wanted}"
        raise AssertionError(message) from None

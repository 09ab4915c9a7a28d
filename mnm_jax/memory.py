"""The memory: a multi-layer perceptron whose weights are the state.

Reading is a forward pass: the key is the input, the value the output. Writing is a change of the weights, which applies
itself and takes itself back. Every function is pure and works on ONE memory; a batch of memories is a `jax.vmap`.

Axes: `L` layers of widths `d_0` (key) to `d_L` (value), `H` heads, `R` rank of a write.

Source: Munkhdalai, Sordoni, Wang and Trischler, "Metalearned Neural Memory", NeurIPS 2019, section 3.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mnm_jax import _checks


class Layer(NamedTuple):
    """The weights of one layer.

    Attributes:
      kernel: `[d_in, d_out]`.
      bias: `[d_out]`, or `None` for a layer without one.
    """

    kernel: jax.Array
    bias: jax.Array | None


Memory = tuple[Layer, ...]


class Write(NamedTuple):
    """A change that adds a matrix of rank `R` to each layer's kernel: `W + pre^T post`, and `b + sum of post`.

    Both writers of the paper change the memory so. Rate, sign and scale live in `post`.

    Attributes:
      pre: for each layer, `[R, d_in]`: the layer's input side.
      post: for each layer, `[R, d_out]`: the layer's output side.
    """

    pre: tuple[jax.Array, ...]
    post: tuple[jax.Array, ...]

    @property
    def growth(self) -> float:
        """See `contract.Change`: nothing is multiplied."""
        return 1.0

    def apply(self, memory: Memory) -> Memory:
        """Adds `pre^T post` to each kernel and the sum of `post` over its rows to each bias.

        Raises:
          AssertionError: if the factors do not fit the layers of `memory`.
        """
        return self._add(memory, 1)

    def revert(self, memory: Memory) -> Memory:
        """Takes the write back, up to rounding. Errors are those of `apply`."""
        return self._add(memory, -1)

    def masked(self, valid: jax.Array) -> "Write":
        """This write if `valid`, else one that adds zeros: the memory itself is never selected, that would copy it.

        Raises:
          AssertionError: if `valid` is not a single boolean.
        """
        _checks.check_mask("valid", valid, ())
        return self._replace(post=jax.tree.map(lambda post: jnp.where(valid, post, jnp.zeros_like(post)), self.post))

    def _add(self, memory: Memory, sign: int) -> Memory:
        if not len(memory) == len(self.pre) == len(self.post):
            raise AssertionError(
                f"argument 'write': has factors for {len(self.pre)} and {len(self.post)} layers (pre and post), "
                f"but the memory has {len(memory)}"
            )
        _check_kernels(memory)
        layers = []
        for i, (layer, pre, post) in enumerate(zip(memory, self.pre, self.post, strict=True)):
            d_in, d_out = layer.kernel.shape
            _checks.check_array(f"write.pre[{i}]", pre, (None, d_in))
            _checks.check_array(f"write.post[{i}]", post, (pre.shape[0], d_out))
            kernel = layer.kernel + sign * (pre.T @ post)
            bias = None if layer.bias is None else layer.bias + sign * post.sum(axis=0)
            layers.append(Layer(kernel, bias))
        return tuple(layers)


@dataclasses.dataclass(frozen=True)
class Spec:
    """The architecture of a memory.

    Attributes:
      key_size: width of the key, `d_0`.
      value_size: width of the value, `d_L`.
      hidden_sizes: widths of the hidden layers; `()` is a linear memory of one layer.
      use_bias: whether the layers have biases.
      zero_output_layer: whether the top layer starts at zero, so that an unwritten memory reads as zero.
    """

    key_size: int
    value_size: int
    hidden_sizes: tuple[int, ...] = ()
    use_bias: bool = False
    zero_output_layer: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.hidden_sizes, Sequence):
            raise ValueError(f"hidden_sizes must be a sequence of whole numbers, got {self.hidden_sizes!r}")
        # A list would make the value unhashable.
        object.__setattr__(self, "hidden_sizes", tuple(self.hidden_sizes))
        _checks.check_positive(key_size=self.key_size, value_size=self.value_size)
        for size in self.hidden_sizes:
            _checks.check_positive(hidden_sizes=size)

    @property
    def sizes(self) -> tuple[int, ...]:
        """All widths, `d_0` to `d_L`."""
        return (self.key_size, *self.hidden_sizes, self.value_size)

    @property
    def num_layers(self) -> int:
        """The number of layers, `L`."""
        return len(self.sizes) - 1

    @property
    def num_weights(self) -> int:
        """How many numbers one memory holds."""
        return sum((d_in + self.use_bias) * d_out for d_in, d_out in zip(self.sizes, self.sizes[1:], strict=False))


def init(rng: jax.Array, spec: Spec) -> Memory:
    """Draws a memory: kernels from N(0, 1 / d_in), biases zero.

    Args:
      rng: a random key.
      spec: the architecture.

    Returns:
      The weights, a `Layer` for each of the `L` layers.

    Raises:
      AssertionError: if `rng` is no random key.
    """
    _checks.check_key("rng", rng)
    initializer = jax.nn.initializers.variance_scaling(1.0, "fan_in", "normal")
    layers = []
    for i, rng_layer in enumerate(jax.random.split(rng, spec.num_layers)):
        shape = spec.sizes[i : i + 2]
        is_zero = spec.zero_output_layer and i == spec.num_layers - 1
        kernel = jnp.zeros(shape, jnp.float32) if is_zero else initializer(rng_layer, shape, jnp.float32)
        layers.append(Layer(kernel, jnp.zeros(shape[1], jnp.float32) if spec.use_bias else None))
    return tuple(layers)


def activations(memory: Memory, keys: jax.Array, offsets: tuple[jax.Array, ...] | None = None) -> tuple[jax.Array, ...]:
    """Runs the memory and keeps what every layer gave: `z^l = tanh(z^{l-1} W^l + b^l)`, linear at the top.

    Args:
      memory: the weights.
      keys: `[H, key_size]`.
      offsets: for each layer `[H, d_l]`, added to what goes into the tanh. At zero they change nothing, but a gradient
        with respect to them is the gradient with respect to the pre-activations.

    Returns:
      `(z^0, ..., z^L)`, each `[H, d_l]`; the first is `keys`, the last the values.

    Raises:
      AssertionError: if an argument has another shape or is not floating-point.
    """
    _check_kernels(memory)
    _checks.check_array("keys", keys, (None, memory[0].kernel.shape[0]))
    outputs = [keys]
    for i, layer in enumerate(memory):
        z = outputs[-1] @ layer.kernel
        if layer.bias is not None:
            z = z + layer.bias[None]
        if offsets is not None:
            _checks.check_array(f"offsets[{i}]", offsets[i], z.shape)
            z = z + offsets[i]
        outputs.append(z if i == len(memory) - 1 else jnp.tanh(z))
    return tuple(outputs)


def read(memory: Memory, keys: jax.Array) -> jax.Array:
    """Reads the memory: a forward pass.

    Args:
      memory: the weights.
      keys: `[H, key_size]`.

    Returns:
      The values, `[H, value_size]`.

    Raises:
      AssertionError: if an argument has another shape or is not floating-point.
    """
    return activations(memory, keys)[-1]


def _check_kernels(memory: Memory) -> None:
    """Checks that this is one memory: a batch of them, without the `jax.vmap`, has kernels of rank 3."""
    for i, layer in enumerate(memory):
        _checks.check_array(f"memory[{i}].kernel", layer.kernel, (None, None))

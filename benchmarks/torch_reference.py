"""The same cells in plain, eager PyTorch, written from the equations: what `mnm_jax` is timed against.

It is written as one writes PyTorch: the batch is an axis of every tensor, a loop goes over the steps, the inner
gradient is `torch.autograd.grad`, and autograd keeps what the outer gradient needs. What does not depend on the
recurrence, the embedding and the output, is done for all steps at once.

Axes: `B` episodes, `T` time steps, `H` heads, `L` layers of the memory, of widths `d_0` (key) to `d_L` (value).

Source: Munkhdalai, Sordoni, Wang and Trischler, "Metalearned Neural Memory", NeurIPS 2019, section 3.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

FORGET_BIAS = 1.0
RMS_EPSILON = 1e-6


class Layer(NamedTuple):
    """The weights of one layer of every episode's memory.

    Attributes:
      kernel: `[B, d_in, d_out]`.
      bias: `[B, 1, d_out]`, or `None` for a layer without one.
    """

    kernel: Tensor
    bias: Tensor | None


Memory = tuple[Layer, ...]


class Unrolled(NamedTuple):
    """What a batch of episodes gave.

    Attributes:
      outputs: `[B, T, output_size]`.
      error_before: `[B, T]`, the error of reading the write keys before the write.
      error_after: `[B, T]`, the same after it.
    """

    outputs: Tensor
    error_before: Tensor
    error_after: Tensor


def parameters_of(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a `mnm_jax.cells.MNM` as tensors that want a gradient, in the same tree.

    Args:
      variables: what `cell.init` made, in its default options: other ways to normalize, to combine what the heads read
        or to set rates are not in here.

    Returns:
      `variables["params"]` with a tensor for each array; a pytree of JAX like it.
    """
    return jax.tree.map(lambda leaf: torch.tensor(np.asarray(leaf), requires_grad=True), variables["params"])


def unroll(parameters: Mapping[str, Any], inputs: Tensor, *, writer: str, num_heads: int = 1) -> Unrolled:
    """Runs a batch of episodes from their start.

    Args:
      parameters: see `parameters_of`.
      inputs: `[B, T]` symbols or `[B, T, input_size]`.
      writer: `'mnm_p'`, the local rule, or `'mnm_g'`, the gradient.
      num_heads: `H`.

    Returns:
      The outputs and the errors of the writes.
    """
    write = {"mnm_p": _write_locally, "mnm_g": _write_by_gradient}[writer]
    batch_size = len(inputs)
    embedding = parameters["embedding"]["kernel"]
    embedded = inputs @ embedding if inputs.is_floating_point() else functional.embedding(inputs, embedding)
    memory = tuple(
        Layer(
            layer.kernel.expand(batch_size, -1, -1),
            None if layer.bias is None else layer.bias.expand(batch_size, 1, -1),
        )
        for layer in parameters["initial_memory"]
    )
    controller = parameters["controller_cell"]
    gates_kernel = torch.cat([controller["input"]["kernel"], controller["recurrent"]["kernel"]])
    gates_bias = controller["input"]["bias"]
    c = h = embedded.new_zeros(batch_size, len(controller["recurrent"]["kernel"]))
    read = embedded.new_zeros(batch_size, memory[-1].kernel.shape[-1])

    outputs, errors_before, errors_after = [], [], []
    for e in embedded.unbind(1):
        gates = torch.addmm(gates_bias, torch.cat([e, read, h], dim=1), gates_kernel)
        i, f, g, o = gates.chunk(4, dim=1)
        c = torch.sigmoid(f + FORGET_BIAS) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)

        write_keys, read_keys, write_values, rate = _interface(parameters["interface"], h, memory, num_heads)
        memory, error_before = write(parameters, memory, write_keys, write_values, rate)
        read = _activations(memory, read_keys)[-1].mean(dim=1)

        outputs.append(torch.cat([h, read], dim=1))
        errors_before.append(error_before)
        errors_after.append(_error(_activations(memory, write_keys)[-1], write_values))
    return Unrolled(
        _affine(parameters["output"], torch.stack(outputs, dim=1)),
        torch.stack(errors_before, dim=1),
        torch.stack(errors_after, dim=1),
    )


def _affine(layer: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    return functional.linear(inputs, layer["kernel"].T, layer["bias"])


def _interface(
    parameters: Mapping[str, Any], hidden: Tensor, memory: Memory, num_heads: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Write keys and read keys `[B, H, d_0]`, write values `[B, H, d_L]` and the rate `[B, 1, 1]`."""
    keys_size = num_heads * memory[0].kernel.shape[1]
    values_size = num_heads * memory[-1].kernel.shape[2]
    signals = torch.tanh(_affine(parameters["signals"], hidden))
    *vectors, rate_input = signals.split([keys_size, keys_size, values_size, hidden.shape[1]], dim=1)
    write_keys, read_keys, write_values = (_normalize(v.reshape(len(hidden), num_heads, -1)) for v in vectors)
    rate = torch.sigmoid(_affine(parameters["rate"], rate_input))
    return write_keys, read_keys, write_values, rate[:, :, None]


def _normalize(vectors: Tensor) -> Tensor:
    """Brings the last axis to root mean square 1."""
    return vectors * torch.rsqrt(vectors.square().mean(dim=-1, keepdim=True) + RMS_EPSILON)


def _activations(memory: Memory, keys: Tensor) -> list[Tensor]:
    """What every layer gives for the keys `[B, H, d_0]`, which come first: each `[B, H, d_l]`."""
    outputs = [keys]
    for i, layer in enumerate(memory):
        if layer.bias is None:
            z = torch.bmm(outputs[-1], layer.kernel)
        else:
            z = torch.baddbmm(layer.bias, outputs[-1], layer.kernel)
        outputs.append(z if i == len(memory) - 1 else torch.tanh(z))
    return outputs


def _error(outputs: Tensor, values: Tensor) -> Tensor:
    """The error of every episode, `[B]`: the mean over heads and features, never over the batch."""
    return (outputs - values).square().mean(dim=(1, 2))


def _write_locally(
    parameters: Mapping[str, Any], memory: Memory, keys: Tensor, values: Tensor, rate: Tensor
) -> tuple[Memory, Tensor]:
    """MNM-p: `W^l' = W^l - rate * 2 / (H d_l) * sum_i z^{l-1}_i^T (z^l_i - q^l(v_i))`, `q^l` affine.

    Returns:
      The memory after the write, and the error before it.
    """
    outputs = _activations(memory, keys)
    layers = []
    for layer, (backward,), before, after in zip(
        memory, parameters["writer"]["backward"], outputs[:-1], outputs[1:], strict=True
    ):
        target = functional.linear(values, backward.kernel.T, backward.bias)
        num_heads, size = after.shape[1:]
        change = -2 / (num_heads * size) * rate * (after - target)
        kernel = torch.baddbmm(layer.kernel, before.transpose(1, 2), change)
        layers.append(Layer(kernel, None if layer.bias is None else layer.bias + change.sum(dim=1, keepdim=True)))
    return tuple(layers), _error(outputs[-1], values)


def _write_by_gradient(
    parameters: Mapping[str, Any], memory: Memory, keys: Tensor, values: Tensor, rate: Tensor
) -> tuple[Memory, Tensor]:
    """MNM-g: `phi' = phi - rate * grad_phi mean_i mean_j (f(k_i; phi) - v_i)_j^2`, second order included.

    Returns:
      The memory after the write, and the error before it.
    """
    del parameters
    is_differentiated = torch.is_grad_enabled()
    with torch.enable_grad():  # The inner gradient is needed even where nobody wants an outer one.
        if is_differentiated:
            # Keys and values depend on this memory too, through what was read from it. A view of the weights for the
            # inner error alone keeps that out of the inner gradient, but not out of the outer one.
            memory = _map(lambda weights: weights.view_as(weights), memory)
        else:
            memory = _map(lambda weights: weights.detach().requires_grad_(), memory)
        error = _error(_activations(memory, keys)[-1], values)
        weights = [array for layer in memory for array in layer if array is not None]
        # The episodes share no memory, so the gradient of the sum holds the gradient of each one's own error.
        grads = iter(torch.autograd.grad(error.sum(), weights, create_graph=is_differentiated))
    return _map(lambda weights: weights - rate * next(grads), memory), error


def _map(function: Callable[[Tensor], Tensor], memory: Memory) -> Memory:
    return tuple(Layer(*(None if array is None else function(array) for array in layer)) for layer in memory)

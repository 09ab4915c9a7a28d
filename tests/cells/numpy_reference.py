"""What the cells with a table of slots compute, written from the papers' equations: in NumPy, in double precision.

Each function loops where an equation has an index, and shares nothing with the library.
"""

import numpy as np

# Under the root of a vector's length, in the library as here.
EPSILON = 1e-6


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softplus(x):
    return np.log1p(np.exp(x))


def softmax(x):
    exponentials = np.exp(x - x.max())
    return exponentials / exponentials.sum()


def cosine(a, b):
    return np.dot(a, b) / np.sqrt((np.dot(a, a) + EPSILON) * (np.dot(b, b) + EPSILON))


def address(slot_keys, keys, strengths):
    """Graves et al. 2014, equations 5 and 6: `[H, S]`."""
    slot_keys, keys = np.asarray(slot_keys, np.float64), np.asarray(keys, np.float64)
    scores = [[strengths[i] * cosine(key, slot_key) for slot_key in slot_keys] for i, key in enumerate(keys)]
    return np.array([softmax(row) for row in np.array(scores)])


def write(table, weights, erase, additions):
    """Graves et al. 2014, equations 3 and 4, of all heads."""
    table = np.array(table, np.float64)
    for s, w in np.ndindex(table.shape):
        for i in range(len(weights)):
            table[s, w] *= 1 - weights[i][s] * erase[i][w]
        for i in range(len(weights)):
            table[s, w] += weights[i][s] * additions[i][w]
    return table


def lstm(params, state, x):
    """The controller: its state `(c, h)` after a step."""
    c, h = state
    gates = x @ params["input"]["kernel"] + params["input"]["bias"] + h @ params["recurrent"]["kernel"]
    i, f, g, o = np.split(gates, 4)
    c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(g)
    return c, sigmoid(o) * np.tanh(c)


def dense(params, x):
    return x @ params["kernel"] + params["bias"]


def unroll(step, params, state, inputs):
    """Runs `step(params, state, controller_output) -> (state, reads)` in the cell that controller and output make.

    Args:
      step: all of a step between the controller and the output layer.
      params: the cell's parameters, in double precision.
      state: the carry, as a dictionary of arrays in double precision.
      inputs: `[T, input_size]`.

    Returns:
      The state at the end, and the outputs.
    """
    outputs = []
    for x in inputs:
        seen = np.concatenate([x @ params["embedding"]["kernel"], np.ravel(state["reads"])])
        controller = lstm(params["controller_cell"], state["controller"], seen)
        state = step(params, state, controller[1]) | {"controller": controller}
        outputs.append(dense(params["output"], np.concatenate([controller[1], np.ravel(state["reads"])])))
    return state, np.array(outputs)

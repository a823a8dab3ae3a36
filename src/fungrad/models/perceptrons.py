"""Linear layers with activations between them, and the one layer without."""

from __future__ import annotations

import jax

from fungrad import graph, layers
from fungrad.models.model import Model, activation_of, initial_linear, positive


def logistic(inputs, outputs, *, key, initializer=None, dtype=float):
    """z = W x + b, the scores of softmax regression; with one output, of logistic regression.

    Args:
        inputs: n.
        outputs: m, the number of classes (or 1).
        key: a random key.
        initializer: draws W, a `jax.nn.initializers` function; He's normal if None.
        dtype: of the parameters.

    Returns:
        (apply, params): apply(params, x[..., n]) -> z[..., m]; params is `Linear(W, b)`.

    Raises:
        ValueError: a size that is no positive integer.

    >>> apply, params = logistic(4, 3, key=jax.random.key(0))
    >>> apply(params, jax.numpy.ones((5, 4))).shape
    (5, 3)

    Source: [bishop2006], section 4.3.4.
    """
    inputs, outputs = positive("inputs and outputs", inputs, outputs)
    params = initial_linear(key, outputs, inputs, initializer=initializer, dtype=dtype)
    apply = Model(
        lambda params, x: graph.name(layers.linear(x, *params), "logits"),
        name="logistic",
        inputs=inputs,
        outputs=outputs,
    )
    return apply, params


def mlp(sizes, *, activation="relu", key, initializer=None, dtype=float):
    """h_l = f(W_l h_{l−1} + b_l) for the hidden layers, and scores z = W_L h_{L−1} + b_L.

    The hidden layers are nodes named "h1", "h2", ..., the scores "logits".

    Args:
        sizes: numbers of inputs, of units of each hidden layer, and of outputs: (n, ..., m).
        activation: f, a function or a name in `fungrad.layers.activations`.
        key: a random key.
        initializer: draws each W, a `jax.nn.initializers` function; He's normal if None.
        dtype: of the parameters.

    Returns:
        (apply, params): apply(params, x[..., n]) -> z[..., m]; params is a tuple of
        `Linear(W, b)`, one per layer.

    Raises:
        ValueError: fewer than two sizes, one that is no positive integer, or an unknown
            activation (the message lists the names).

    >>> apply, params = mlp((4, 16, 3), key=jax.random.key(0))
    >>> apply(params, jax.numpy.ones((5, 4))).shape, [layer.W.shape for layer in params]
    ((5, 3), [(16, 4), (3, 16)])

    Source: [rumelhart1986].
    """
    sizes, f = positive("sizes", *sizes), activation_of(activation)
    if len(sizes) < 2:
        raise ValueError(f"sizes must be (inputs, ..., outputs), got {sizes}")
    keys = jax.random.split(key, len(sizes) - 1)
    params = tuple(
        initial_linear(key, m, n, initializer=initializer, dtype=dtype)
        for key, n, m in zip(keys, sizes, sizes[1:], strict=False)
    )

    def forward(params, x):
        *hidden, last = params
        for number, layer in enumerate(hidden, start=1):
            x = graph.name(f(layers.linear(x, *layer)), f"h{number}")
        return graph.name(layers.linear(x, *last), "logits")

    return Model(forward, name="mlp", sizes=sizes, activation=activation), params

"""Layers as the lecture writes them: x_l = f_l(x_{l-1}, θ_l), a pure function of arrays.

    layer(x, *parameters, **options)

Letters of shapes, the same in every docstring:

    ...        any number of leading batch axes, also none
    n, m       numbers of inputs and outputs; a matrix is W [m × n], z = W x
    H, W, C    height, width, channels of an image [..., H, W, C]
    T, S       positions of a sequence (of the queries, of the keys); d features of one position

A layer keeps the dtype of x. Statistics, and only they, are computed in at least float32.
"""

from fungrad.layers.activations import (
    activations,
    elu,
    gelu,
    gelu_tanh,
    identity,
    leaky_relu,
    log_softmax,
    quick_gelu,
    relu,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    step,
    tanh,
)
from fungrad.layers.affine import absorb_bias, dropout, linear, prepend_one
from fungrad.layers.images import avg_pool, conv, max_pool
from fungrad.layers.normalization import (
    Statistics,
    batch_norm,
    group_norm,
    initial_statistics,
    layer_norm,
)
from fungrad.layers.recurrent import LSTMState, gru_cell, lstm_cell
from fungrad.layers.tokens import attention, embedding, multi_head_attention

__all__ = [
    "LSTMState",
    "Statistics",
    "absorb_bias",
    "activations",
    "attention",
    "avg_pool",
    "batch_norm",
    "conv",
    "dropout",
    "elu",
    "embedding",
    "gelu",
    "gelu_tanh",
    "group_norm",
    "gru_cell",
    "identity",
    "initial_statistics",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "lstm_cell",
    "max_pool",
    "multi_head_attention",
    "prepend_one",
    "quick_gelu",
    "relu",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "step",
    "tanh",
]

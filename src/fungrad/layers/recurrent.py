"""Recurrent cells: one step `(x, state, *parameters) -> (next state, output)`.

Backpropagation through time is `jax.lax.scan` over the steps, differentiated:

    state, hs = jax.lax.scan(lambda state, x: lstm_cell(x, state, W, U, b), state, xs)
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fungrad._arguments import floating, has_shape
from fungrad.layers.affine import linear


class LSTMState(NamedTuple):
    """What an LSTM carries from step to step.

    Attributes:
        h: [..., n], the output.
        c: [..., n], the memory.
    """

    h: jax.Array
    c: jax.Array


def lstm_cell(x, state, W, U, b):
    """c' = σ(f) ∘ c + σ(i) ∘ tanh(a),  h' = σ(o) ∘ tanh(c'),  with [i, f, a, o] = W x + U h + b.

    The memory's path is short, ∂c'/∂c = diag(σ(f)) but for the gates' own dependence on h: a gate
    that is open lets the gradient through many steps.

    Args:
        x: [..., m].
        state: `LSTMState`, or a pair (h, c) of [..., n].
        W: [4n, m], the rows of the gates i, f, a, o one after the other.
        U: [4n, n].
        b: [4n].

    Returns:
        (state, h): the next `LSTMState`, and its h.

    Raises:
        TypeError: integer arrays.
        ValueError: sizes that do not match.

    >>> W, U, b = jnp.ones((8, 3)), jnp.zeros((8, 2)), jnp.zeros(8)
    >>> start = LSTMState(jnp.zeros(2), jnp.zeros(2))
    >>> state, hs = lax.scan(lambda s, x: lstm_cell(x, s, W, U, b), start, jnp.ones((5, 3)))
    >>> hs.shape, bool((hs[-1] == state.h).all())
    ((5, 2), True)

    Source: [hochreiter1997]; the forget gate f [gers2000].
    """
    x, (h, c) = floating("x", x), LSTMState(*state)
    _check_gates(4, x, {"state.h": h, "state.c": c}, W, U, b)
    i, f, a, o = jnp.split(linear(x, W, b) + linear(h, U), 4, axis=-1)
    c = lax.logistic(f) * c + lax.logistic(i) * jnp.tanh(a)
    h = lax.logistic(o) * jnp.tanh(c)
    return LSTMState(h, c), h


def gru_cell(x, h, W, U, b):
    """h' = σ(u) ∘ h + (1 − σ(u)) ∘ tanh(a),  with the update gate u and the reset gate r:

    [r, u] = W_{ru} x + U_{ru} h + b_{ru},  a = W_a x + U_a (σ(r) ∘ h) + b_a.

    Args:
        x: [..., m].
        h: [..., n], the state.
        W: [3n, m], the rows of r, u, a one after the other.
        U: [3n, n].
        b: [3n].

    Returns:
        (h, h): the next state, and the output, which is the same.

    Raises:
        TypeError: integer arrays.
        ValueError: sizes that do not match.

    >>> W, U, b = jnp.ones((6, 3)), jnp.zeros((6, 2)), jnp.zeros(6)
    >>> h, hs = lax.scan(lambda h, x: gru_cell(x, h, W, U, b), jnp.zeros(2), jnp.ones((5, 3)))
    >>> hs.shape, bool((hs[-1] == h).all())
    ((5, 2), True)

    Source: [cho2014], section 2.3.
    """
    x, n = floating("x", x), U.shape[-1]
    _check_gates(3, x, {"h": h}, W, U, b)
    Wx = linear(x, W, b)
    r, u = jnp.split(Wx[..., : 2 * n] + linear(h, U[: 2 * n]), 2, axis=-1)
    a = Wx[..., 2 * n :] + linear(lax.logistic(r) * h, U[2 * n :])
    u = lax.logistic(u)
    h = u * h + (1 - u) * jnp.tanh(a)
    return h, h


def _check_gates(gates, x, state, W, U, b):
    W, U, b = floating("W", W), floating("U", U), floating("b", b)
    n = U.shape[-1]
    rows = f"({gates} gates of n = {n} units, the columns of U)"
    has_shape("U", U, (gates * n, n), rows)
    has_shape("W", W, (gates * n, x.shape[-1]), rows)
    has_shape("b", b, (gates * n,), rows)
    for name, value in state.items():
        has_shape(name, floating(name, value), (*x.shape[:-1], n), "(the batch axes of x, and n)")

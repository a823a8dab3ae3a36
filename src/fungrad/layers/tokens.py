"""Layers of sequences: a table of embeddings, and attention between the positions."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from fungrad._arguments import describe, floating, inexact, integer, values_pass
from fungrad.layers.affine import linear


def embedding(tokens, table):
    """z = table[token], row by row: W x for a one-hot x and W = tableᵀ, without the zeros.

    The gradient of the table adds each token's g to its row: ∂J/∂table[v] = Σ_{token = v} g.

    Args:
        tokens: [...], integers in [0, v).
        table: [v, d], one row per token.

    Returns:
        z: [..., d]. Under `jit` a token outside [0, v) cannot be refused and gives a row of NaN.

    Raises:
        TypeError: tokens are no integers.
        ValueError: the table is no matrix, or a token is outside [0, v).

    >>> embedding(jnp.array([2, 0]), jnp.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])).tolist()
    [[4.0, 5.0], [0.0, 1.0]]

    Source: [bengio2003].
    """
    given, tokens, table = tokens, integer("tokens", tokens), inexact("table", table)
    if table.ndim != 2:
        raise ValueError(f"table must be [v, d], got {describe(table)}")
    v = table.shape[0]
    values_pass("tokens", given, lambda t: (t >= 0) & (t < v), f"in [0, {v}), the table's rows")
    rows = table.at[tokens]
    return rows.get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)


# ---------------------------------------------------------------------------- attention


def attention(query, key, value, *, mask=None, causal=False):
    """Z = A V,  A = softmax(Q Kᵀ / √d), each row of A over the keys.

    With S = Q Kᵀ / √d and g = ∂J/∂Z:  ∂J/∂V = Aᵀ g,  ∂J/∂S = A ∘ (G − (A ∘ G) 1 1ᵀ) for
    G = g Vᵀ,  ∂J/∂Q = ∂J/∂S K / √d  and  ∂J/∂K = (∂J/∂S)ᵀ Q / √d.

    Args:
        query: Q [..., T, d].
        key: K [..., S, d].
        value: V [..., S, e].
        mask: booleans, [T, S] or [..., T, S]: True where a query may look at a key.
        causal: query t looks at keys s ≤ t only; needs T = S.

    Returns:
        Z: [..., T, e]. A query that may look at no key gets 0.

    Raises:
        TypeError: integer arrays, or a mask that is not boolean.
        ValueError: sizes that do not match, or `causal` with T ≠ S.

    >>> x = jnp.eye(2)
    >>> attention(x, x, x, causal=True)[0].tolist()
    [1.0, 0.0]
    >>> bool(jnp.allclose(attention(0 * x, x, x), 0.5))
    True

    Source: [vaswani2017], section 3.2.1.
    """
    query, key, value = floating("query", query), floating("key", key), floating("value", value)
    for name, x in (("query", query), ("key", key), ("value", value)):
        if x.ndim < 2:
            raise ValueError(f"{name} must be [..., positions, features], got {describe(x)}")
    (T, d), S = query.shape[-2:], key.shape[-2]
    if key.shape[-1] != d or value.shape[-2] != S:
        raise ValueError(
            "query [..., T, d], key [..., S, d] and value [..., S, e] do not match, got "
            f"{describe(query)}, {describe(key)} and {describe(value)}"
        )
    scores = jnp.einsum("...td,...sd->...ts", query, key) / math.sqrt(d)
    allowed = _allowed(mask, causal, T, S)
    if allowed is None:
        weights = jax.nn.softmax(scores)
    else:
        lowest = float(jnp.finfo(scores.dtype).min)
        weights = jnp.where(allowed, jax.nn.softmax(jnp.where(allowed, scores, lowest)), 0.0)
    return jnp.einsum("...ts,...se->...te", weights, value)


def multi_head_attention(
    x, query, key, value, output, *, heads, context=None, mask=None, causal=False
):
    """z = W_o [Z_1, ..., Z_h] + b_o, each head an `attention` on its share of the features.

    Head i attends with Q_i, K_i, V_i, the i-th of `heads` equal parts of W_q x + b_q, W_k c + b_k
    and W_v c + b_v; c is the context, x itself unless one is given.

    Args:
        x: [..., T, n].
        query: the parameters of a `linear` layer, (W,) or (W, b), with W [h · d, n].
        key: the same, with W [h · d, n'].
        value: the same, with W [h · e, n'].
        output: the same, with W [m, h · e].
        heads: h.
        context: [..., S, n'], what is looked at; x if None.
        mask: booleans, [T, S] or [..., T, S], for all heads alike.
        causal: position t looks at positions s ≤ t only.

    Returns:
        z: [..., T, m].

    Raises:
        TypeError: integer arrays, or a mask that is not boolean.
        ValueError: sizes that do not match, or features that the heads do not divide.

    >>> W = jnp.eye(4)
    >>> z = multi_head_attention(jnp.ones((3, 4)), (W,), (W,), (W,), (W, jnp.ones(4)), heads=2)
    >>> z.shape, bool(jnp.allclose(z, 2.0))
    ((3, 4), True)

    Source: [vaswani2017], section 3.2.2.
    """
    context = x if context is None else context

    def split(name, features):  # [..., T, h d] -> [..., h, T, d]
        if features.ndim < 2 or features.shape[-1] % heads:
            raise ValueError(
                f"{name} must give [..., positions, features] with features that heads={heads} "
                f"divides, got {describe(features)}"
            )
        parts = features.reshape(*features.shape[:-1], heads, features.shape[-1] // heads)
        return jnp.swapaxes(parts, -2, -3)

    z = attention(
        split("query", linear(x, *query)),
        split("key", linear(context, *key)),
        split("value", linear(context, *value)),
        mask=None if mask is None else jnp.expand_dims(mask, -3),
        causal=causal,
    )
    z = jnp.swapaxes(z, -2, -3)
    return linear(z.reshape(*z.shape[:-2], z.shape[-2] * z.shape[-1]), *output)


def _allowed(mask, causal, T, S):
    if mask is not None:
        mask = jnp.asarray(mask)
        if mask.dtype != bool:
            raise TypeError(
                f"mask must be boolean, True where a query may look, got {describe(mask)}"
            )
        if mask.shape[-2:] != (T, S):
            raise ValueError(f"mask must be [..., T, S] = [..., {T}, {S}], got {describe(mask)}")
    if not causal:
        return mask
    if T != S:
        raise ValueError(f"causal needs as many queries as keys, got {T} and {S}; give a mask")
    past = jnp.tri(T, dtype=bool)
    return past if mask is None else mask & past

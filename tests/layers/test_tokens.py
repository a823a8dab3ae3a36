import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fungrad as fg
from fungrad import layers
from tests.agreement import assert_close, assert_gradients_agree, assert_keeps_dtype

DRAW = np.random.default_rng(0)


def arrays(*shapes):
    return [jnp.asarray(DRAW.normal(size=shape)) for shape in shapes]


# ---------------------------------------------------------------------------- embedding


def test_embedding_is_a_one_hot_times_the_table():
    (table,) = arrays((5, 3))
    tokens = jnp.array([[4, 0, 4], [1, 1, 2]])
    assert_close(layers.embedding(tokens, table), np.eye(5)[np.asarray(tokens)] @ table)
    assert_gradients_agree(lambda table: layers.embedding(tokens, table), table)
    assert_keeps_dtype(lambda table: layers.embedding(tokens, table), table)


def test_a_token_that_comes_twice_adds_its_gradients():
    (table,), tokens = arrays((3, 2)), jnp.array([1, 1, 0])
    gradient = fg.grad(lambda table: layers.embedding(tokens, table).sum())(table)
    assert gradient.tolist() == [[1.0, 1.0], [2.0, 2.0], [0.0, 0.0]]


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int32, jnp.int64])
def test_any_integers_are_tokens(dtype):
    (table,) = arrays((3, 2))
    assert_close(layers.embedding(jnp.array([2, 0], dtype), table), table[jnp.array([2, 0])])
    assert_close(layers.embedding(2, table), table[2])


def test_embedding_refuses():
    (table,) = arrays((5, 3))
    for wrong in (5, -1):
        with pytest.raises(ValueError, match=rf"tokens must be in \[0, 5\).*got {wrong}"):
            layers.embedding(jnp.array([1, wrong]), table)
        # Also where the table is traced and the tokens are known.
        with pytest.raises(ValueError, match="tokens must be in"):
            jax.jit(lambda table, t=wrong: layers.embedding(np.array([t]), table))(table)
        assert jnp.isnan(jax.jit(layers.embedding)(jnp.array([wrong]), table)).all()
    with pytest.raises(TypeError, match=r"tokens must be an integer array, got float64\[2\]"):
        layers.embedding(jnp.ones(2), table)
    with pytest.raises(ValueError, match=r"table must be \[v, d\], got float64\[3\]"):
        layers.embedding(jnp.array([0]), table[0])


# ---------------------------------------------------------------------------- attention


def attention(query, key, value, allowed=None):
    """One query after the other."""
    z = np.zeros((len(query), value.shape[1]))
    for t, q in enumerate(query):
        keys = range(len(key)) if allowed is None else np.flatnonzero(allowed[t])
        weights = np.array([np.exp(key[s] @ q / np.sqrt(len(q))) for s in keys])
        if len(keys):
            z[t] = sum(w * value[s] for w, s in zip(weights / weights.sum(), keys, strict=True))
    return z


def test_attention():
    query, key, value = arrays((3, 4), (5, 4), (5, 2))
    assert_close(
        layers.attention(query, key, value), attention(*map(np.asarray, (query, key, value)))
    )
    assert_gradients_agree(layers.attention, query, key, value)
    assert_keeps_dtype(layers.attention, query, key, value)


def test_a_query_looks_only_where_it_may():
    query, key, value = arrays((3, 4), (5, 4), (5, 2))
    mask = DRAW.uniform(size=(3, 5)) < 0.5
    mask[1] = False  # nowhere: it gets 0, and no NaN comes back
    z = layers.attention(query, key, value, mask=mask)
    assert_close(z, attention(*map(np.asarray, (query, key, value)), mask))
    assert_gradients_agree(
        lambda *qkv: layers.attention(*qkv, mask=jnp.asarray(mask)), query, key, value
    )


def test_causal_attention():
    query, key, value = arrays((2, 4, 3), (2, 4, 3), (2, 4, 2))
    z = layers.attention(query, key, value, causal=True)
    past = np.tri(4, dtype=bool)
    for n in range(2):
        assert_close(z[n], attention(*(np.asarray(a[n]) for a in (query, key, value)), past))
    assert_close(layers.attention(query, key, value, mask=past), z)
    diagonal = layers.attention(query, key, value, mask=~np.tri(4, k=-1, dtype=bool), causal=True)
    assert_close(diagonal, value)
    assert_gradients_agree(lambda *qkv: layers.attention(*qkv, causal=True), query, key, value)


def test_the_gradients_of_attention_are_those_of_its_docstring():
    query, key, value, g = arrays((3, 4), (5, 4), (5, 2), (3, 2))
    A = jax.nn.softmax(query @ key.T / 2)
    G = g @ value.T
    by_scores = A * (G - (A * G).sum(-1, keepdims=True))
    by_query, by_key, by_value = fg.vjp(layers.attention, query, key, value)[1](g)
    assert_close(by_value, A.T @ g)
    assert_close(by_query, by_scores @ key / 2)
    assert_close(by_key, by_scores.T @ query / 2)


def projections(width, inputs, context, outputs):
    shapes = [(width, inputs), (width, context), (width, context), (outputs, width)]
    return [tuple(arrays(shape, shape[:1])) for shape in shapes]


def test_multi_head_attention_attends_head_by_head():
    x, context = arrays((2, 3, 5), (2, 4, 7))
    (Q, q), (K, k), (V, v), (P, p) = parameters = projections(6, 5, 7, 8)
    z = layers.multi_head_attention(x, *parameters, heads=2, context=context)
    for n in range(2):
        query, key, value = x[n] @ Q.T + q, context[n] @ K.T + k, context[n] @ V.T + v
        heads = [
            attention(*(np.asarray(a[:, 3 * h : 3 * h + 3]) for a in (query, key, value)))
            for h in range(2)
        ]
        assert_close(z[n], np.concatenate(heads, axis=1) @ P.T + p)


def test_multi_head_attention_with_a_mask():
    x, parameters = arrays((2, 4, 6))[0], projections(6, 6, 6, 6)
    causal = layers.multi_head_attention(x, *parameters, heads=3, causal=True)
    mask = np.broadcast_to(np.tri(4, dtype=bool), (2, 4, 4))
    for given in (mask, mask[0]):
        masked = layers.multi_head_attention(x, *parameters, heads=3, mask=given)
        assert_close(masked, causal)
    # What comes later does not matter.
    changed = layers.multi_head_attention(x.at[:, 3].set(9.0), *parameters, heads=3, causal=True)
    assert_close(changed[:, :3], causal[:, :3])


def test_multi_head_attention_gradients():
    (x,), parameters = arrays((2, 3, 4)), projections(4, 4, 4, 4)
    layer = lambda x, *parameters: layers.multi_head_attention(x, *parameters, heads=2)  # noqa: E731
    assert_gradients_agree(layer, x, *parameters)
    assert_keeps_dtype(layer, x, *parameters)
    weights = [(W,) for W, _ in parameters]
    zeros = [(W, jnp.zeros_like(b)) for W, b in parameters]
    assert_close(layer(x, *weights), layer(x, *zeros))


def test_attention_refuses():
    query, key, value = arrays((3, 4), (5, 4), (5, 2))
    for args, name in (((query[0], key, value), "query"), ((query, key, value[0]), "value")):
        with pytest.raises(ValueError, match=rf"{name} must be \[\.\.\., positions, features\]"):
            layers.attention(*args)
    for args in ((query[:, :3], key, value), (query, key, value[:4])):
        with pytest.raises(ValueError, match=r"do not match, got float64\[3,.*float64\[5,4\]"):
            layers.attention(*args)
    with pytest.raises(ValueError, match="causal needs as many queries as keys, got 3 and 5"):
        layers.attention(query, key, value, causal=True)
    with pytest.raises(TypeError, match="mask must be boolean"):
        layers.attention(query, key, value, mask=jnp.ones((3, 5)))
    with pytest.raises(ValueError, match=r"mask must be \[\.\.\., T, S\] = \[\.\.\., 3, 5\]"):
        layers.attention(query, key, value, mask=jnp.ones((5, 3), bool))
    with pytest.raises(TypeError, match="value must be floating-point"):
        layers.attention(query, key, jnp.ones((5, 2), int))
    with pytest.raises(ValueError, match=r"query must give.*heads=4"):
        layers.multi_head_attention(arrays((3, 6))[0], *projections(6, 6, 6, 6), heads=4)

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fungrad import layers
from tests.agreement import assert_close, assert_gradients_agree, assert_keeps_dtype

DRAW = np.random.default_rng(0)
M, N = 3, 4
X, H, C = (DRAW.normal(size=(2, size)) for size in (M, N, N))


def gates(count):
    return [DRAW.normal(size=shape) for shape in ((count * N, M), (count * N, N), (count * N,))]


LSTM, GRU = gates(4), gates(3)


def sigma(x):
    return 1 / (1 + np.exp(-x))


def arrays(*values):
    return [jnp.asarray(value) for value in values]


def rows(W, gate):
    return W[gate * N : (gate + 1) * N]


def test_lstm_cell():
    W, U, b = LSTM
    i, f, a, o = (X @ rows(W, k).T + H @ rows(U, k).T + rows(b, k) for k in range(4))
    c = sigma(f) * C + sigma(i) * np.tanh(a)
    h = sigma(o) * np.tanh(c)
    state, out = layers.lstm_cell(*arrays(X), arrays(H, C), *arrays(*LSTM))
    assert_close(state, layers.LSTMState(h, c))
    assert_close(out, h)


def test_gru_cell():
    W, U, b = GRU
    r, u = (X @ rows(W, k).T + H @ rows(U, k).T + rows(b, k) for k in range(2))
    a = X @ rows(W, 2).T + (sigma(r) * H) @ rows(U, 2).T + rows(b, 2)
    h = sigma(u) * H + (1 - sigma(u)) * np.tanh(a)
    state, out = layers.gru_cell(*arrays(X, H, *GRU))
    assert_close(state, h)
    assert_close(out, h)


def test_backpropagation_through_time():
    xs = jnp.asarray(DRAW.normal(size=(6, 2, M)))

    def lstm(xs, h, c, *weights):
        step = lambda state, x: layers.lstm_cell(x, state, *weights)  # noqa: E731
        return jax.lax.scan(step, layers.LSTMState(h, c), xs)[1]

    def gru(xs, h, *weights):
        return jax.lax.scan(lambda h, x: layers.gru_cell(x, h, *weights), h, xs)[1]

    assert_gradients_agree(lstm, xs, *arrays(H, C, *LSTM))
    assert_gradients_agree(gru, xs, *arrays(H, *GRU))


def test_no_batch_axes_and_several():
    for shape in ((), (2, 3)):
        x, h = np.ones((*shape, M)), np.ones((*shape, N))
        assert jax.eval_shape(layers.lstm_cell, x, (h, h), *LSTM)[1].shape == h.shape
        assert jax.eval_shape(layers.gru_cell, x, h, *GRU)[1].shape == h.shape


def test_dtypes_are_kept():
    assert_keeps_dtype(
        lambda x, h, c, *weights: layers.lstm_cell(x, (h, c), *weights), *arrays(X, H, C, *LSTM)
    )
    assert_keeps_dtype(layers.gru_cell, *arrays(X, H, *GRU))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda x, h, W, U, b: layers.lstm_cell(x, (h, h), W[:-1], U, b),
            ValueError,
            r"W must have shape \[16, 3\] \(4 gates of n = 4 units.*got float64\[15,3\]",
        ),
        (
            lambda x, h, W, U, b: layers.lstm_cell(x, (h, h), W, U[:12], b),
            ValueError,
            r"U must have shape \[16, 4\]",
        ),
        (
            lambda x, h, W, U, b: layers.lstm_cell(x, (h, h), W, U, b[:1]),
            ValueError,
            r"b must have shape \[16\]",
        ),
        (
            lambda x, h, W, U, b: layers.lstm_cell(x, (h[0], h), W, U, b),
            ValueError,
            r"state\.h must have shape \[2, 4\] \(the batch axes of x",
        ),
        (
            lambda x, h, W, U, b: layers.lstm_cell(x, (h, h.astype(int)), W, U, b),
            TypeError,
            r"state\.c must be floating-point",
        ),
        (
            lambda x, h, W, U, b: layers.gru_cell(x, h, W, U, b),
            ValueError,
            r"U must have shape \[12, 4\] \(3 gates",
        ),
        (
            lambda x, h, W, U, b: layers.lstm_cell(x.astype(int), (h, h), W, U, b),
            TypeError,
            r"x must be floating-point",
        ),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call(*arrays(X, H, *LSTM))

"""Seed 001, two-layer networks: every gradient from explicit Jacobians, one observation at a time.

z = σ(Wx), o = Vz, E = Σᵢ E(oᵢ) with g = ∂E/∂o:

    ∂E/∂vec(V) = g (I ⊗ zᵀ)        ∂E/∂vec(W) = g V diag(z(1 − z)) (I ⊗ xᵀ)
"""

import jax.numpy as jnp
import numpy as np
import pytest

import fungrad as fg
from experiments.lecture_examples import seed_001_networks
from experiments.lecture_examples.record import normals


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def gradients(X, W, V, slope):
    """∂E/∂W and ∂E/∂V; `slope(o, i)` is the row ∂Eᵢ/∂o [1 × k] of observation i."""
    hidden, inputs = W.shape
    outputs = len(V)
    by_W, by_V = np.zeros((1, W.size)), np.zeros((1, V.size))
    for i, x in enumerate(X):
        z = sigmoid(W @ x)
        g = slope(V @ z, i)
        by_V += g @ np.kron(np.eye(outputs), z[None])
        by_W += g @ V @ np.diag(z * (1 - z)) @ np.kron(np.eye(hidden), x[None])
    return by_W.reshape(hidden, inputs), by_V.reshape(outputs, hidden)


def single_regression():
    normal = normals(10)
    X, y, W, v = normal(5, 3), normal(5), normal(3, 3), normal(3)
    by_W, by_v = gradients(X, W, v[None], lambda o, i: (o - y[i])[None])
    return {"∂E/∂wⱼ": by_W, "∂E/∂v": by_v}


def multiple_regression():
    normal = normals(11)
    X, y, W, V = normal(5, 3), normal(5, 3), normal(3, 3), normal(3, 3)
    by_W, by_V = gradients(X, W, V, lambda o, i: (o - y[i])[None])
    return {"∂E/∂wⱼ": by_W, "∂E/∂vⱼ": by_V}


def binary():
    """∂E/∂ŷ = (ŷ − y)/(ŷ(1 − ŷ)) and ∂ŷ/∂o = ŷ(1 − ŷ)."""
    normal = normals(12)
    X, W, v, y = normal(5, 3), normal(3, 3), normal(3), [1, 0, 0, 1, 1]

    def slope(o, i):
        guess = sigmoid(o)
        return ((guess - y[i]) / (guess * (1 - guess)) * guess * (1 - guess))[None]

    by_W, by_v = gradients(X, W, v[None], slope)
    return {"∂E/∂wⱼ": by_W, "∂E/∂v": by_v}


def several_classes():
    """∂E/∂ŷ = −yᵀ/(yᵀŷ) and ∂ŷ/∂o = diag(ŷ) − ŷ ŷᵀ."""
    normal = normals(13)
    X, W, V, labels = normal(5, 3), normal(3, 3), normal(3, 3), [0, 1, 2, 2, 1]

    def slope(o, i):
        guess, y = np.exp(o) / np.sum(np.exp(o)), np.eye(3)[labels[i]]
        return -y[None] / (y @ guess) @ (np.diag(guess) - np.outer(guess, guess))

    by_W, by_V = gradients(X, W, V, slope)
    return {"∂E/∂wⱼ": by_W, "∂E/∂vⱼ": by_V}


BY_HAND = {
    "single_regression": single_regression,
    "multiple_regression": multiple_regression,
    "binary": binary,
    "several_classes": several_classes,
    "equal_weights": dict,
}


@pytest.mark.parametrize("example", seed_001_networks.EXAMPLES, ids=lambda example: example.name)
def test_worked_example(example, prove):
    prove(example, BY_HAND[example.name])


# ---- the corrected formulas on sizes that differ -------------------------------------------------


@pytest.mark.parametrize("loss", ["regression", "binary", "classes"])
def test_corrected_gradients_with_sizes_that_differ(loss):
    """5 observations, 4 inputs, 3 hidden units, 2 outputs: no index can stand for another.

    ∂E/∂wₕ = Σᵢ Σⱼ eⱼ vⱼₕ zₕ (1 − zₕ) x and ∂E/∂vⱼ = Σᵢ eⱼ z, with e = ŷ − y in all three.
    """
    normal = normals(15)
    X, W, V, y = normal(5, 4), normal(3, 4), normal(2, 3), normal(5, 2)
    labels = np.array([0, 1, 1, 0, 1])
    truth = {"regression": y, "binary": np.eye(2)[labels], "classes": np.eye(2)[labels]}[loss]

    def E(W, V):
        scores = fg.layers.linear(fg.layers.sigmoid(fg.layers.linear(X, W)), V)
        if loss == "regression":
            return jnp.sum(fg.losses.squared_error(scores, y)) / 2
        if loss == "binary":
            return jnp.sum(fg.losses.binary_cross_entropy(scores, truth))
        return jnp.sum(fg.losses.cross_entropy(scores, labels))

    z = sigmoid(X @ W.T)
    scores = z @ V.T
    guess = {
        "regression": scores,
        "binary": sigmoid(scores),
        "classes": np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True),
    }[loss]
    e = guess - truth
    by_W, by_V = fg.grad(E, (0, 1))(W, V)
    expected_W = np.einsum("ij,jh,ih,id->hd", e, V, z * (1 - z), X)
    np.testing.assert_allclose(by_V, np.einsum("ij,ih->jh", e, z), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(by_W, expected_W, rtol=1e-12, atol=1e-14)


def test_equal_hidden_units_stay_equal_and_random_ones_do_not():
    """Question 8, over 20 steps of descent."""
    normal = normals(16)
    X, y = normal(5, 3), normal(5)

    def train(W, v):
        for _ in range(20):
            by_W, by_v = fg.grad(E, (0, 1))(W, v)
            W, v = W - 0.1 * by_W, v - 0.1 * by_v
        return W

    def E(W, v):
        z = fg.layers.sigmoid(fg.layers.linear(X, W))
        return jnp.sum(fg.losses.squared_error(z @ v, y)) / 2

    equal = train(np.broadcast_to(normal(3), (3, 3)), np.full(3, 0.5))
    np.testing.assert_allclose(equal - equal[0], 0.0, atol=1e-15)
    different = train(0.1 * normal(3, 3), np.full(3, 0.5))
    assert np.ptp(different, axis=0).min() > 1e-3

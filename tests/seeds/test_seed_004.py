"""Seed 004, Iris: the six gradients in matrix form, from Jacobians of whole matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fungrad as fg
from experiments.lecture_examples import seed_004
from experiments.lecture_examples.record import normals, softmax


def parameters(seed):
    normal = normals(seed)
    return normal(3, 4) / 2, normal(3), normal(3, 3), normal(3)


def model():
    W1, b1, W2, b2 = parameters(40)
    x, label = np.array(seed_004.FLOWERS[0]), seed_004.CLASSES[0]
    p = softmax(W2 @ np.maximum(W1 @ x + b1, 0) + b2)
    return {"L(x, y)": -np.log(p[label]), "L": -np.log(p[label])}


def gradients():
    """Rows are flowers; every Jacobian is of the matrix flattened by rows.

    Oᵃ = Hˢ W²ᵀ + 1 b²ᵀ      ∂vec(Oᵃ)/∂vec(Hˢ) = I ⊗ W²      ∂vec(Oᵃ)/∂b² = 1 ⊗ I
    Hᵃ = X W¹ᵀ + 1 b¹ᵀ       ∂vec(Hˢ)/∂vec(Hᵃ) = diag(Hᵃ > 0) ∂vec(Hᵃ)/∂b¹ = 1 ⊗ I
    """
    W1, b1, W2, b2 = parameters(41)
    X, truth = np.array(seed_004.FLOWERS), np.eye(3)[list(seed_004.CLASSES)]
    Ha = X @ W1.T + b1
    Hs = np.maximum(Ha, 0)
    g_Oa = (softmax(Hs @ W2.T + b2) - truth).reshape(1, -1)
    g_Hs = g_Oa @ np.kron(np.eye(6), W2)
    g_Ha = g_Hs @ np.diag((Ha > 0).ravel().astype(float))
    ones = np.kron(np.ones((6, 1)), np.eye(3))
    return {
        "∂L/∂b²": g_Oa @ ones,
        "∂L/∂hˢ": g_Hs.reshape(6, 3),
        "∂L/∂b¹": g_Ha @ ones,
        "1 if a step against the gradient lowers L": 1.0,
    }


BY_HAND = {"model": model, "gradients": gradients}


@pytest.mark.parametrize("example", seed_004.EXAMPLES, ids=lambda example: example.name)
def test_worked_example(example, prove):
    prove(example, BY_HAND[example.name])


@pytest.mark.parametrize("hidden", [1, 5, 16])
def test_six_gradients_for_any_number_of_hidden_units(hidden):
    """The corrected formulas for the 4-n-3 network, all six, over a batch."""
    normal = normals(42)
    W1, b1, W2, b2 = normal(hidden, 4) / 2, normal(hidden), normal(3, hidden), normal(3)
    x, labels = np.array(seed_004.FLOWERS), np.array(seed_004.CLASSES)

    def loss(parameters):
        W1, b1, W2, b2 = parameters
        h = fg.layers.relu(fg.layers.linear(x, W1, b1))
        return jnp.sum(fg.losses.cross_entropy(fg.layers.linear(h, W2, b2), labels))

    ha = x @ W1.T + b1
    hs = np.maximum(ha, 0)
    d_oa = softmax(hs @ W2.T + b2) - np.eye(3)[labels]
    d_ha = d_oa @ W2 * (ha > 0)
    expected = d_ha.T @ x, d_ha.sum(axis=0), d_oa.T @ hs, d_oa.sum(axis=0)
    for got, right in zip(jax.jit(fg.grad(loss))((W1, b1, W2, b2)), expected, strict=True):
        np.testing.assert_allclose(got, right, rtol=1e-12, atol=1e-12)

"""Seed 001, graph 12: the 3-3-1 network, by hand with explicit Jacobians in the row layout.

A = X* Wᵀ, Z = σ(A), ŷ = v₁ + Z v₂₋₄, L = Σ (ŷ − y)², with matrices flattened by rows:

    ∂L/∂ŷ = 2(ŷ − y)ᵀ  [1 × 3]           ∂ŷ/∂v = [1 Z]  [3 × 4]
    ∂ŷ/∂vec(Z) = I ⊗ v₂₋₄ᵀ  [3 × 9]      ∂vec(Z)/∂vec(A) = diag(Z(1 − Z))  [9 × 9]
    ∂vec(Aᵀ)/∂vec(W) = I ⊗ X*  [9 × 9]
"""

import jax.numpy as jnp
import numpy as np
import pytest

import fungrad as fg
from experiments.lecture_examples import seed_001_network

X = np.array([[1, 1, 2], [1, 1, 3], [1, 2, 2.0]])
W = np.array([[0.01, 0.02, 0.03], [0.03, 0.01, 0.02], [0.02, 0.03, 0.01]])
V = np.array([0.01, 0.02, 0.03, 0.04])
Y = np.array([8.0, 11.0, 10.0])

A = np.array([[0.09, 0.08, 0.07], [0.12, 0.10, 0.08], [0.11, 0.09, 0.10]])  # summed on paper
Z = 1 / (1 + np.exp(-A))
ZS = np.concatenate([np.ones((3, 1)), Z], axis=1)
GUESS = ZS @ V
LOSS = (GUESS - Y) ** 2


def forward():
    return {
        "X* W₁": A[:, 0],
        "X* W₂": A[:, 1],
        "X* W₃": A[:, 2],
        "third entries, written out": A[2],
        "Z₁ = σ(X* W₁)": Z[:, 0],
        "Z₂ = σ(X* W₂)": Z[:, 1],
        "the arguments of Z₃": A[:, 2],
        "Z₃ = σ(X* W₃)": Z[:, 2],
        "Z, units in rows": Z.T,
        "Z* = ∂ŷ/∂v": ZS,
        "ŷ = Z* v": GUESS,
        "ŷ₃ in the loss": GUESS[2],
        "L = (ŷ − y)²": LOSS,
        "W X*ᵀ": A.T,
        "Σ (ŷ − y)²": LOSS.sum(),
    }


def backward():
    g = 2 * (GUESS - Y)[None]
    dy_dZ = np.kron(np.eye(3), V[None, 1:])
    slope = Z * (1 - Z)
    g_A = g @ dy_dZ @ np.diag(slope.ravel())
    # A is Aᵀ with its entries in another order; in the order of Aᵀ the last Jacobian is I ⊗ X*.
    by_W = g_A.reshape(3, 3).T.reshape(1, 9) @ np.kron(np.eye(3), X)
    return {
        "∂L/∂ŷ = 2(ŷ − y)": g,
        "∂ŷᵢ/∂zᵢ* = vᵀ": V,
        "σ′(W X*ᵀ)": slope.T,
        "∂(W X*ᵀ)/∂W": np.kron(np.eye(3), X),
        "∂L/∂v = Z*ᵀ ∂L/∂ŷ": g @ ZS,
        **{f"∂ŷ/∂Z{'₁₂₃'[j]}": V[j + 1] * np.eye(3) for j in range(3)},
        **{f"∂Z{'₁₂₃'[j]}/∂W{'₁₂₃'[j]}": np.diag(slope[:, j]) @ X for j in range(3)},
        "∂L/∂W": by_W.reshape(3, 3),
    }


BY_HAND = {"forward": forward, "backward": backward}


@pytest.mark.parametrize("example", seed_001_network.EXAMPLES, ids=lambda example: example.name)
def test_worked_example(example, prove):
    prove(example, BY_HAND[example.name])


def test_the_whole_network_in_one_gradient():
    """fg.grad of the loss, against the hand and against central differences."""

    def loss(W, v):
        Z = fg.layers.sigmoid(fg.layers.linear(X, W))
        return jnp.sum(fg.losses.squared_error(v[0] + Z @ v[1:], Y))

    by_W, by_v = fg.grad(loss, (0, 1))(W, V)
    np.testing.assert_allclose(by_W, backward()["∂L/∂W"], rtol=1e-12)
    np.testing.assert_allclose(by_v, np.squeeze(backward()["∂L/∂v = Z*ᵀ ∂L/∂ŷ"]), rtol=1e-12)
    step = 1e-4 * np.eye(9).reshape(9, 3, 3)
    differences = [(loss(W + h, V) - loss(W - h, V)) / 2e-4 for h in step]
    np.testing.assert_allclose(np.reshape(differences, (3, 3)), by_W, rtol=1e-6)


def test_the_seed_mixes_observations_where_it_should_mix_units():
    """With Z left as it lies in the seed, units in rows, the printed ŷ, L and ∂L/∂v come out."""
    lying = np.concatenate([np.ones((3, 1)), Z.T], axis=1)
    guess = lying @ V
    np.testing.assert_allclose(guess, [0.0574, 0.0570, 0.0569], atol=5e-5)
    np.testing.assert_allclose((guess - Y) ** 2, [63.0841, 119.7482, 98.8643], atol=5e-5)
    printed = [57.657, 29.971, 30.249, 30.254]
    np.testing.assert_allclose(2 * (Y - guess) @ lying, printed, atol=5e-4)

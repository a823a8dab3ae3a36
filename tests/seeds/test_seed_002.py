"""Seed 002, the ReLU network with five parameters: every number derived by hand."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fungrad as fg
from experiments.lecture_examples import seed_002

X, Y = np.array([[2.0, 1], [-3, 2]]), np.array([1.3, 1.9])
THETA = np.array([1.0, 1, 0, 1, 0])


def passes(theta):
    """Forward and backward for both observations; δ_ŷ = 2(ŷ − y), δ_h = δ_ŷ w₃ 1(z > 0)."""
    z = X[:, 0] * theta[0] + X[:, 1] * theta[1] + theta[2]
    h = np.where(z > 0, z, 0)
    guess = theta[3] * h + theta[4]
    d_guess = 2 * (guess - Y)
    d_h = d_guess * theta[3] * (z > 0)
    gradients = np.stack([d_h * X[:, 0], d_h * X[:, 1], d_h, d_guess * h, d_guess], axis=1)
    return z, h, guess, (guess - Y) ** 2, d_guess, d_h, gradients


def first_pass():
    z, h, guess, loss, d_guess, d_h, gradients = passes(THETA)
    return {
        "z(x₁)": z[0],
        "z(x₂)": z[1],
        "h(x₁), h(x₂)": h,
        "ŷ(x₁), ŷ(x₂)": guess,
        "L(x₁, y₁)": loss[0],
        "L(x₂, y₂)": loss[1],
        "L(D)": loss.mean(),
        "δ_ŷ(x₁, y₁) = 2(ŷ − y)": d_guess[0],
        "δ_ŷ(x₂, y₂)": d_guess[1],
        "δ_h(x₁, y₁) = δ_ŷ w₃ g′(z)": d_h[0],
        "δ_h(x₂, y₂)": d_h[1],
        "g′(0), the kink": 0.0,
        "∇L(x₁, y₁)": gradients[0],
        "∇L(x₂, y₂)": gradients[1],
        "∇L(D)": gradients.mean(axis=0),
    }


def one_step():
    theta = THETA - 0.01 * first_pass()["∇L(D)"]
    z, h, guess, loss, *_ = passes(theta)
    return {
        "θ − η ∇L(D)": theta,
        "z(x₁) = h(x₁)": z[0],
        "ŷ(x₁)": guess[0],
        "z(x₂)": z[1],
        "h(x₂)": h[1],
        "ŷ(x₂)": guess[1],
        "L(x₁, y₁)": loss[0],
        "L(x₂, y₂)": loss[1],
        "L(D)": loss.mean(),
    }


BY_HAND = {"first_pass": first_pass, "one_step": one_step}


@pytest.mark.parametrize("example", seed_002.EXAMPLES, ids=lambda example: example.name)
def test_worked_example(example, prove):
    prove(example, BY_HAND[example.name])


def test_the_exercise_in_one_call():
    """Gradient descent with η = 0.01: the loss falls from 3.25 to 2.8556 (printed: 2.855)."""

    def cost(theta, batch):
        x, y = batch
        h = fg.layers.relu(fg.layers.linear(x, theta[None, :2], theta[2:3]))
        return jnp.mean(fg.losses.squared_error(theta[3] * h[:, 0] + theta[4], y))

    descent = fg.descent.minimize(cost, THETA, (X, Y), optimizer=optax.sgd(0.01), steps=2)
    np.testing.assert_allclose(descent.history, [3.25, one_step()["L(D)"]], rtol=1e-12)
    assert round(float(descent.history[1]), 3) == 2.856

"""Seed 000, the lecture on backpropagation: derived by hand, step by step, in the row layout."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fungrad as fg
from experiments.lecture_examples import seed_000
from experiments.lecture_examples.record import normals, softmax


def tanh_network():
    """x₁ = W₀ x₀, x₂ = tanh x₁, x₃ = W₁ x₂, L = ½ (x₃ − y)²: one Jacobian per step.

    ∂L/∂x₃ = (x₃ − y)ᵀ          ∂x₃/∂x₂ = W₁                   ∂x₃/∂vec(W₁) = I ⊗ x₂ᵀ
    ∂x₂/∂x₁ = diag(1 − x₂²)     ∂x₁/∂vec(W₀) = I ⊗ x₀ᵀ
    """
    W0, W1 = np.array([[1, -3], [0.2, 1]]), np.array([[1.0, -1]])
    x0, y, eta = np.array([1.0, 0.1]), 0.5, -0.2
    x1 = np.array([1 * 1 - 3 * 0.1, 0.2 * 1 + 1 * 0.1])
    x2 = np.tanh(x1)
    x3 = x2[0] - x2[1]
    g3 = np.array([[x3 - y]])
    g2 = g3 @ W1
    slope = np.diag(1 - x2**2)
    g1 = g2 @ slope
    in_W0 = (g1 @ np.kron(np.eye(2), x0)).reshape(2, 2).T
    in_W1 = (g3 @ np.kron(np.eye(1), x2)).reshape(1, 2).T
    assert np.allclose(in_W0, np.outer(x0, g1)), "∂L/∂W₀ = x₀ ∂L/∂x₁"
    assert np.allclose(in_W1, np.outer(x2, g3)), "∂L/∂W₁ = x₂ ∂L/∂x₃"
    return {
        "x₁ = W₀ x₀": x1,
        "x₂ = tanh x₁": x2,
        "x₃ = W₁ x₂": x3,
        "L = ½ (x₃ − y)²": (x3 - y) ** 2 / 2,
        "∂L/∂x₃": g3,
        "∂L/∂x₃ = x₃ − y": g3,
        "∂L/∂x₂ = ∂L/∂x₃ W₁": g2,
        "∂x₂/∂x₁": slope,
        "∂L/∂x₁ = ∂L/∂x₂ diag(1 − tanh² x₁)": g1,
        "∂L/∂W₀ = x₀ ∂L/∂x₁": in_W0,
        "∂L/∂x₃, the factor in ∂L/∂W₁": g3,
        "∂L/∂W₁ = x₂ ∂L/∂x₃": in_W1,
        "(∂L/∂W₀)ᵀ in the update": in_W0.T,
        "W₀ + η (∂L/∂W₀)ᵀ": W0 + eta * in_W0.T,
        "(∂L/∂W₁)ᵀ in the update": in_W1.T,
        "W₁ + η (∂L/∂W₁)ᵀ": W1 + eta * in_W1.T,
    }


def matrix_calculus():
    return {
        "∂y/∂x of a scalar y, n = 4": [1, 4],
        "∂y/∂x of a vector y, m = 2, n = 4": [2, 4],
        "∂y/∂X of a scalar y, X [3 × 2]": [2, 3],
        "h′(x) with |z| = 1, |u| = 2, |x| = 4": [1, 4],
    }


def optimisation():
    """m ← α m − η ∇J, θ ← θ + m, from m = 0, on ∇J = A θ − b."""
    A, b = np.array([[3.0, 1], [1, 2]]), np.array([1.0, -1])
    theta, m = np.array([2.0, 1]), np.zeros(2)
    for _ in range(3):
        m = 0.9 * m - 0.1 * (A @ theta - b)
        theta = theta + m
    return {"θ³ of the heavy ball, m = the previous update": theta}


BY_HAND = {
    "tanh_network": tanh_network,
    "matrix_calculus": matrix_calculus,
    "linear_layer": dict,
    "graphs": dict,
    "optimisation": optimisation,
    "inputs": dict,
}


@pytest.mark.parametrize("example", seed_000.EXAMPLES, ids=lambda example: example.name)
def test_worked_example(example, prove):
    prove(example, BY_HAND[example.name])


# ---- what the seed says in words -----------------------------------------------------------------

A, B = jnp.array([[3.0, 1.0], [1.0, 2.0]]), jnp.array([1.0, -1.0])


def bowl(theta):
    return theta @ A @ theta / 2 - B @ theta


def test_one_iteration_by_descent_lowers_the_loss():
    """The whole example in one call: gradient descent with η = 0.2 (the lecture's −0.2)."""

    def loss(weights):
        x3 = fg.layers.linear(fg.layers.tanh(fg.layers.linear(x0, weights[0])), weights[1])
        return jnp.sum(fg.losses.squared_error(x3, y)) / 2

    x0, y = jnp.array([1.0, 0.1]), jnp.array([0.5])
    weights = [jnp.array([[1.0, -3.0], [0.2, 1.0]]), jnp.array([[1.0, -1.0]])]
    once = fg.descent.minimize(loss, weights, optimizer=optax.sgd(0.2), steps=1)
    expected = tanh_network()
    np.testing.assert_allclose(once.params[0], expected["W₀ + η (∂L/∂W₀)ᵀ"], rtol=1e-12)
    np.testing.assert_allclose(once.params[1], expected["W₁ + η (∂L/∂W₁)ᵀ"], rtol=1e-12)
    np.testing.assert_allclose(once.history[0], expected["L = ½ (x₃ − y)²"], rtol=1e-12)
    assert loss(once.params) < once.history[0]


def test_momentum_continues_in_the_direction_of_the_previous_update():
    """θᵗ⁺¹ = θᵗ − η ∇f(θᵗ) + α (θᵗ − θᵗ⁻¹), which fungrad's descent takes from optax."""
    theta = jnp.array([2.0, 1.0])
    ball = fg.descent.minimize(bowl, theta, optimizer=optax.sgd(0.1, momentum=0.9), steps=3)
    (expected,) = optimisation().values()
    np.testing.assert_allclose(ball.params, expected, rtol=1e-12)


def test_a_batch_of_all_examples_is_gradient_descent():
    normal = normals(9)
    data, theta = (normal(6, 2), normal(6)), jnp.array([2.0, 1.0])

    def cost(theta, batch):
        return jnp.sum(fg.losses.squared_error(batch[0] @ theta, batch[1]))

    whole = fg.descent.minimize(cost, theta, data, optimizer=optax.sgd(0.01), steps=1)
    expected = theta - 0.01 * 2 * (data[0] @ theta - data[1]) @ data[0]
    np.testing.assert_allclose(whole.params, expected, rtol=1e-12)


def test_a_batch_of_one_updates_after_each_example():
    data, theta = (jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.array([1.0, 2.0])), jnp.zeros(2)

    def cost(theta, batch):
        return jnp.sum(fg.losses.squared_error(batch[0] @ theta, batch[1]))

    each = fg.descent.minimize(
        cost, theta, data, optimizer=optax.sgd(0.25), epochs=1, batch_size=1, key=jax.random.key(0)
    )
    np.testing.assert_allclose(each.params, [0.5, 1.0], rtol=1e-12)  # the two do not interact
    assert len(each.history) == 2


def test_unit_visualisation_goes_uphill_to_its_closed_form():
    """arg max y_j − λ ‖x‖² of y = W x lies at W_jᵀ/2λ, where the gradient W_j − 2λxᵀ is 0."""
    W = jnp.asarray(normals(8)(3, 4))

    def negative(x):
        return -(fg.layers.linear(x, W)[1] - 0.5 * jnp.sum(x * x))

    image = fg.descent.minimize(negative, jnp.zeros(4), optimizer=optax.sgd(0.5), steps=60)
    np.testing.assert_allclose(image.params, W[1], rtol=1e-12)


def test_an_adversarial_step_raises_the_targets_probability():
    """max p(target | x + r), ‖r‖ < ε: the first-order step ε g/‖g‖ with g = ∂ log p/∂r."""
    normal = normals(7)
    W, x, target, epsilon = normal(3, 4), normal(4), 2, 0.1

    def log_p(r):
        return fg.layers.log_softmax(fg.layers.linear(x + r, W))[target]

    g = fg.grad(log_p)(jnp.zeros(4))
    np.testing.assert_allclose(g, (np.eye(3)[target] - softmax(W @ x)) @ W, rtol=1e-12)
    assert log_p(epsilon * g / jnp.linalg.norm(g)) > log_p(jnp.zeros(4))

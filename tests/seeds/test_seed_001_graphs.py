"""Seed 001, computation graphs: gates, ranks, compositions and chains, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fungrad as fg
from experiments.lecture_examples import seed_001_graphs
from experiments.lecture_examples.record import normals, sigmoid


def two_layers():
    """ŷ = σ(W₂ σ(W₁x)): ∂L/∂W₂ = ∂L/∂ŷ ŷ(1 − ŷ) zᵀ, with the right cross-entropy."""
    normal = normals(20)
    W1, W2, x, y = normal(3, 4), normal(1, 3), normal(4), 0.3
    z = sigmoid(W1 @ x)
    guess = sigmoid(W2 @ z)
    by_guess = -y / guess + (1 - y) / (1 - guess)
    return {
        "L, cross-entropy": -(y * np.log(guess) + (1 - y) * np.log(1 - guess)),
        "∂L/∂W₂": (by_guess * guess * (1 - guess))[None] * z[None],
    }


def gates():
    return {
        "∂(x + k)/∂x": 1,
        "∂(x + k)/∂k": 1,
        "what a constant k gets from x + k": 0,
        "∂(x₁ + x₂)/∂(x₁, x₂)": [1, 1],
        "∂(x k)/∂k": 3,
        "what a constant k gets from x · k": 0,
        "∂max(x₁, x₂), x₁ > x₂": [1, 0],
        "∂min(x₁, x₂), x₁ > x₂": [0, 1],
        "∂max(x₁, x₂), x₁ = x₂": [0.5, 0.5],
        "∂min(x₁, x₂), x₁ = x₂": [0.5, 0.5],
    }


def ranks():
    return {
        "ranks of ∂y/∂b, ∂y/∂w, ∂y/∂x, y = wᵀx + b": [0, 1, 1],
        "ranks of ∂y/∂b, ∂y/∂w, ∂y/∂X, y = X w + b": [1, 2, 3],
        "the same of a layer, y = W x + b": [2, 3, 2],
        "ranks of ∂y/∂b, ∂y/∂W, ∂y/∂X, y = Σ W ⊙ X + b": [0, 2, 2],
    }


def composition():
    """F₁ = 3(a − 5b)ab = 3a²b − 15ab², F₂ = ab − a + b, differentiated term by term."""
    a, b = 2.0, 3.0
    c, d = a - 5 * b, a * b
    return {
        "dF/dG": [[3 * d, 3 * c, 0], [0, 1, -1]],
        "dF/da": [6 * a * b - 15 * b**2, b - 1],
        "dF/db": [3 * a**2 - 30 * a * b, a + 1],
    }


def squashed():
    X, W, V, y = 0.7, -0.4, 1.3, 0.2
    b = sigmoid(W * X)
    guess = sigmoid(V * b)
    above = (guess - y) * guess * (1 - guess)
    return {
        "∂ŷ/∂c": guess * (1 - guess),
        "∂b/∂a": b * (1 - b),
        "∂L/∂W": above * V * b * (1 - b) * X,
        "∂L/∂V": above * b,
    }


BY_HAND = {
    "two_layers": two_layers,
    "two_neurons": dict,
    "gates": gates,
    "ranks": ranks,
    "composition": composition,
    "jacobians": dict,
    "squashed": squashed,
}


@pytest.mark.parametrize("example", seed_001_graphs.EXAMPLES, ids=lambda example: example.name)
def test_worked_example(example, prove):
    prove(example, BY_HAND[example.name])


# ---- what the seed says in words -----------------------------------------------------------------


def test_the_jacobian_at_the_point_that_question_13b_asks_for():
    def F(p):
        return jnp.stack([p[0] ** 2 + 2 * p[1], 3 * p[0] + 4 * p[1] ** 2])

    np.testing.assert_array_equal(fg.jacobian(F)(jnp.array([1.0, 2.0])), [[2, 2], [3, 16]])


def test_the_sign_of_the_printed_cross_entropy():
    """Questions 2 and 3: differentiated as printed, the second term pulls the wrong way."""
    y, guess = 0.3, jnp.array(0.6)

    def printed(guess):
        return -y * jnp.log(guess) + (1 - y) * jnp.log(1 - guess)

    right = -y / 0.6 + (1 - y) / 0.4
    assert float(fg.grad(printed)(guess)) == pytest.approx(-y / 0.6 - (1 - y) / 0.4, rel=1e-12)
    assert right > 0 > float(fg.grad(printed)(guess))


def test_the_order_of_the_nodes_is_the_order_of_the_program():
    """Question 11: square then add one is not add one then square, forward or backward."""
    x = jnp.array(3.0)
    first = fg.grad(lambda x: jnp.square(x) + 1)(x)
    second = fg.grad(lambda x: jnp.square(x + 1))(x)
    assert (float(first), float(second)) == (6.0, 8.0)


@pytest.mark.parametrize("gate", [jnp.maximum, jnp.minimum])
def test_ties_are_split_as_in_jax(gate):
    tie = jnp.array([1.0, 2.0]), jnp.array([1.0, 2.0])
    for differentiate in (fg.grad, jax.grad):
        gradient = differentiate(lambda x, y: jnp.sum(gate(x, y)), (0, 1))(*tie)
        np.testing.assert_array_equal(gradient, np.full((2, 2), 0.5))

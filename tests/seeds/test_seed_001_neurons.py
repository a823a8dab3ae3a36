"""Seed 001, artificial neurons: the boundary, logistic and softmax regression, by hand."""

from itertools import combinations

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fungrad as fg
from experiments.lecture_examples import seed_001_neurons
from experiments.lecture_examples.record import normals


def neuron():
    """g(x) = θ₀ + n · x: the foot of the perpendicular from 0 is −θ₀ n/‖n‖², at −θ₀/‖n‖ along n̂."""
    n, theta0 = np.array([2.0, 3.0]), 1.0
    foot = -theta0 * n / (n @ n)
    assert abs(theta0 + n @ foot) < 1e-15, "the foot lies on the boundary"
    unit = n / np.sqrt(13)
    return {
        "0.1 + 0.2 · 1 + 0.3 · 1": 0.6,
        "n = (θ₁, θ₂)": n,
        "n̂": unit,
        "n̂, evaluated": unit,
        "d": foot @ unit,
        "d, evaluated": -1 / np.sqrt(13),
        "step(0.0001)": 1.0,
        "1/(1 + exp(−0.0001))": 1 / (1 + np.exp(-0.0001)),
    }


def logistic():
    normal = normals(5)
    X, theta = normal(6, 3), normal(3)
    x = np.array([1.0, 2.0, 0.5])
    score = 0.5 * 1 + 1 * 2 + 1 * 0.5
    return {
        "P(y = 1 | x)": 1 / (1 + np.exp(-(X @ theta))),
        "∂l/∂θ of an observation that is classified without error": (
            (1 / (1 + np.exp(-score)) - 1) * x
        ),
    }


def several_scores():
    """p = softmax(Θx): ∂p/∂z = diag(p) − p pᵀ, ∂z/∂vec(Θ) = I ⊗ xᵀ, ∂ log p/∂z = I − 1 pᵀ."""
    normal = normals(6)
    Theta, x = normal(3, 4), normal(4)
    p = np.exp(Theta @ x) / np.sum(np.exp(Theta @ x))
    dp_dz = np.diag(p) - np.outer(p, p)
    dz_dTheta = np.kron(np.eye(3), x[None])
    return {
        "one-against-one models for k = 4 classes": len(list(combinations("abcd", 2))),
        "∂softmax(zⱼ)/∂zᵢ": dp_dz,
        "∂softmax(zⱼ)/∂θᵢ": (dp_dz @ dz_dTheta).reshape(3, 3, 4),
        "∂ log softmax(zⱼ)/∂θᵢ": ((np.eye(3) - p) @ dz_dTheta).reshape(3, 3, 4),
    }


def cross_entropy():
    """Σᵢ of the rows −yᵀ/(yᵀp) · (diag(p) − p pᵀ) · (I ⊗ xᵀ), one per observation."""
    normal = normals(7)
    X, Theta, labels = normal(5, 4), normal(3, 4), [0, 2, 1, 2, 2]
    total = np.zeros((1, 12))
    for x, label in zip(X, labels, strict=True):
        p, y = np.exp(Theta @ x) / np.sum(np.exp(Theta @ x)), np.eye(3)[label]
        dp_dz = np.diag(p) - np.outer(p, p)
        total += -y[None] / (y @ p) @ dp_dz @ np.kron(np.eye(3), x[None])
    return {
        "∂l/∂θⱼ": total.reshape(3, 4),
        "∂l/∂θⱼ, with the truth as the text has it": total.reshape(3, 4),
    }


BY_HAND = {
    "neuron": neuron,
    "logistic": logistic,
    "several_scores": several_scores,
    "cross_entropy": cross_entropy,
}


@pytest.mark.parametrize("example", seed_001_neurons.EXAMPLES, ids=lambda example: example.name)
def test_worked_example(example, prove):
    prove(example, BY_HAND[example.name])


# ---- what the seed says in words -----------------------------------------------------------------


def test_the_signed_distance_is_measured_on_the_boundary():
    """Question 4: walking d n̂ from the origin ends on the boundary; the printed d, n̂ do not."""

    def g(x):
        return 1 + 2 * x[0] + 3 * x[1]

    by_hand = neuron()
    assert abs(g(by_hand["d"] * by_hand["n̂"])) < 1e-15
    printed = -np.sqrt(6) / 6 * np.array([np.sqrt(6) / 3, np.sqrt(6) / 3])
    assert abs(g(printed)) > 0.5
    with_theta0 = -1 / np.sqrt(14) * np.array([2, 3]) / np.sqrt(14)
    assert abs(g(with_theta0)) > 0.05


def test_descent_stops_when_the_loss_has_stopped_changing():
    """Question 10, on question 14's loss with a penalty, so that there is a minimum."""
    normal = normals(5)
    X, y = normal(6, 3), np.array([0.0, 1, 1, 0, 1, 0])

    def cost(theta):
        loss = fg.losses.binary_cross_entropy(X @ theta, y)
        return jnp.sum(loss) + 0.5 * jnp.sum(theta * theta)

    optimizer = optax.sgd(0.1)
    descent = fg.descent.minimize(
        cost, jnp.zeros(3), optimizer=optimizer, steps=2000, tolerance=1e-12
    )
    assert len(descent.history) < 2000
    np.testing.assert_allclose(fg.grad(cost)(descent.params), 0.0, atol=1e-5)


def test_the_number_of_errors_cannot_be_descended():
    """Question 12: it is constant between its jumps, and refuses to be differentiated."""
    scores, labels = jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.array([0, 0])
    errors = fg.losses.zero_one(scores, labels)
    np.testing.assert_array_equal(errors, [0.0, 1.0])
    np.testing.assert_array_equal(fg.losses.zero_one(scores + 0.1, labels), errors)
    with pytest.raises(TypeError, match="zero_one"):
        fg.grad(lambda scores: jnp.sum(fg.losses.zero_one(scores, labels)))(scores)


def test_one_classifier_per_class_or_per_pair():
    """Question 15: k models one against all, k(k − 1)/2 one against one, and both classify."""
    centres = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
    labels = np.repeat(np.arange(4), 3)
    x = centres[labels] + 0.1 * normals(3)(12, 2)
    options = {"penalty": 1e-3, "optimizer": optax.sgd(0.5), "steps": 200}
    rest = fg.descent.one_vs_rest(x, labels, **options)
    pairs = fg.descent.one_vs_one(x, labels, **options)
    assert len(rest.W) == 4
    assert len(pairs.W) == 6 == 4 * (4 - 1) // 2
    np.testing.assert_array_equal(rest.predict(x), labels)
    np.testing.assert_array_equal(pairs.predict(x), labels)


def test_sigmoids_need_not_sum_to_more_than_one():
    """Question 17: their sum is anything between 0 and k; a softmax sums to 1."""
    z = jnp.array([-2.0, -3.0, -4.0])
    assert round(float(jnp.sum(fg.layers.sigmoid(z))), 3) == 0.185
    np.testing.assert_allclose(jnp.sum(fg.layers.softmax(z)), 1.0, rtol=1e-15)

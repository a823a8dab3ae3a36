"""Seed 002, an exercise: a ReLU network with five parameters, one step, the loss falls."""

import numpy as np

from experiments.lecture_examples.record import example, shown, words
from fungrad import layers, losses

X = ((2.0, 1.0), (-3.0, 2.0))
Y = (1.3, 1.9)
THETA = (1.0, 1.0, 0.0, 1.0, 0.0)


def z_of(theta, x):
    return theta[0] * x[0] + theta[1] * x[1] + theta[2]


def guess(theta, x):
    return theta[3] * layers.relu(z_of(theta, x)) + theta[4]


def one_loss(theta, x, y):
    return losses.squared_error(guess(theta, x), y)


def mean_loss(theta, X, Y):
    return (one_loss(theta, X[0], Y[0]) + one_loss(theta, X[1], Y[1])) / 2


@example("002", "5-23, 67-85", "The network forward and backward")
def first_pass(ad):
    """`z = w₀ x₀ + w₁ x₁ + w₂`, `h = max(0, z)`, `ŷ = w₃ h + w₄`, `L = (ŷ − y)²`, averaged over two
    observations; `δ_ŷ = ∂L/∂ŷ` and `δ_h = ∂L/∂z`.
    """
    X_, Y_, theta = np.array(X), np.array(Y), np.array(THETA)
    z = [z_of(theta, x) for x in X_]
    h = [layers.relu(value) for value in z]
    out = [guess(theta, x) for x in X_]
    loss = [one_loss(theta, x, y) for x, y in zip(X_, Y_, strict=True)]
    yield shown("5", "z(x₁)", "3", z[0])
    yield shown("7", "z(x₂)", "-1", z[1])
    yield shown("9, 11", "h(x₁), h(x₂)", "3 0", np.stack(h))
    yield shown("13, 15", "ŷ(x₁), ŷ(x₂)", "3 0", np.stack(out))
    yield shown("19", "L(x₁, y₁)", "2.89", loss[0])
    yield shown("21", "L(x₂, y₂)", "3.61", loss[1])
    yield shown("23", "L(D)", "3.25", mean_loss(theta, X_, Y_))

    def from_z(z, y):
        return losses.squared_error(theta[3] * layers.relu(z) + theta[4], y)

    d_guess = [ad.grad(losses.squared_error)(out[i], Y_[i]) for i in (0, 1)]
    d_z = [ad.grad(from_z)(z[i], Y_[i]) for i in (0, 1)]
    yield shown("71", "δ_ŷ(x₁, y₁) = 2(ŷ − y)", "3.4", d_guess[0])
    yield shown("73", "δ_ŷ(x₂, y₂)", "-3.8", d_guess[1])
    yield shown("75", "δ_h(x₁, y₁) = δ_ŷ w₃ g′(z)", "3.4", d_z[0])
    yield shown("77", "δ_h(x₂, y₂)", "0", d_z[1])
    yield shown("69", "g′(0), the kink", "0", ad.grad(layers.relu)(np.array(0.0)))
    gradients = [ad.grad(one_loss)(theta, X_[i], Y_[i]) for i in (0, 1)]
    yield words("61, 63", "the inputs in ∇L", "δ_h · x₂, δ_h · x₁; δ_h · x(−3)").damage(
        "δ_h · 2, δ_h · 1; δ_h · (−3)", "a times sign was read as x; 81 and 83 have the numbers"
    )
    yield shown("81", "∇L(x₁, y₁)", "6.8 3.4 3.4 10.2 3.4", gradients[0])
    yield shown("83", "∇L(x₂, y₂)", "0 0 0 0 -3.8", gradients[1])
    yield shown("85", "∇L(D)", "3.4 1.7 1.7 5.1 -0.2", ad.grad(mean_loss)(theta, X_, Y_))


@example("002", "89-113", "One step of gradient descent with η = 0.01")
def one_step(ad):
    """`θ − η ∇L(D)`, and the network once more: its loss has fallen from 3.25."""
    X_, Y_, theta = np.array(X), np.array(Y), np.array(THETA)
    theta = theta - 0.01 * ad.grad(mean_loss)(theta, X_, Y_)
    z, out = [z_of(theta, x) for x in X_], [guess(theta, x) for x in X_]
    yield shown("93", "θ − η ∇L(D)", "0.966 0.983 -0.017 0.949 0.002", theta)
    yield shown("95, 97", "z(x₁) = h(x₁)", "2.898", z[0])
    yield shown("99", "ŷ(x₁)", "2.752", out[0])
    yield shown("101", "z(x₂)", "-0.949", z[1])
    yield shown("103", "h(x₂)", "0", layers.relu(z[1]))
    yield shown("105", "ŷ(x₂)", "0.002", out[1])
    yield shown("107", "L(x₁, y₁)", "2.108", one_loss(theta, X_[0], Y_[0])).rounding(
        "2.109", "2.108891; the seed squared the rounded 1.452"
    )
    yield shown("109", "L(x₂, y₂)", "3.602", one_loss(theta, X_[1], Y_[1]))
    yield shown("111", "L(D)", "2.855", mean_loss(theta, X_, Y_)).rounding(
        "2.856", "2.855647; the last digit of 107 carried on"
    )


EXAMPLES = (first_pass, one_step)

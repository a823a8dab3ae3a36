"""Seed 001, neural networks 3 to 8: the gradients of two-layer networks, each as it is printed.

Observations are i, inputs x, hidden units zⱼ = σ(wⱼᵀx), outputs ŷ from vⱼᵀz. All sizes but the
number of observations are 3, so that the printed formulas can be evaluated to the letter even
where an index is missing and a vector stands for one of its entries.
"""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lecture_examples.record import example, formula, normals, sigmoid, softmax, words
from fungrad import layers, losses


def hidden(W, X):
    return layers.sigmoid(layers.linear(X, W))


def entrywise(*factors):
    """Σᵢ of a product of vectors, entry by entry: what a formula says if no index is left."""
    product = np.ones(3)
    for factor in factors:
        product = product * factor
    return np.sum(product, axis=0)


@example("001", "201-218", "Network 4: regression with one output")
def single_regression(ad):
    """`ŷ = vᵀz`, `E = ½ Σ (ŷ − y)²`."""
    normal = normals(10)
    X, y, W, v = normal(5, 3), normal(5), normal(3, 3), normal(3)

    def E(W, v):
        return jnp.sum(losses.squared_error(hidden(W, X) @ v, y)) / 2

    z = sigmoid(X @ W.T)
    error = z @ v - y
    by_W, by_v = ad.grad(E, (0, 1))(W, v)
    yield formula("209", "∂E/∂v", "Σᵢ (ŷ − y) z", error @ z, by_v)
    columns = [entrywise(error[:, None], v[j], z, 1 - z[:, j : j + 1], X) for j in range(3)]
    yield formula("218", "∂E/∂wⱼ", "Σᵢ (ŷ − y) vⱼ z (1 − zⱼ) x", np.stack(columns), by_W).slip(
        "Σᵢ (ŷ − y) vⱼ zⱼ (1 − zⱼ) x", "the first z has lost its index j"
    )


@example("001", "220-228", "Network 5: regression with several outputs")
def multiple_regression(ad):
    """`ŷⱼ = vⱼᵀz`, `E = ½ Σ Σ (ŷⱼ − yⱼ)²`."""
    normal = normals(11)
    X, y, W, V = normal(5, 3), normal(5, 3), normal(3, 3), normal(3, 3)

    def E(W, V):
        return jnp.sum(losses.squared_error(layers.linear(hidden(W, X), V), y)) / 2

    z = sigmoid(X @ W.T)
    error = z @ V.T - y
    by_W, by_V = ad.grad(E, (0, 1))(W, V)
    yield formula("224", "∂E/∂vⱼ", "Σᵢ (ŷⱼ − yⱼ) zⱼ", np.sum(error * z, axis=0), by_V).slip(
        "Σᵢ (ŷⱼ − yⱼ) z", "∂ŷⱼ/∂vⱼ is the whole z; with zⱼ the gradient of a vector is one number"
    )
    terms = [entrywise(error[:, j : j + 1], V[j], z, 1 - z[:, j : j + 1], X) for j in range(3)]
    yield formula("228", "∂E/∂wⱼ", "Σⱼ Σᵢ (ŷⱼ − yⱼ) vⱼ z (1 − zⱼ) x", sum(terms), by_W).slip(
        "∂E/∂wₕ = Σᵢ Σⱼ (ŷⱼ − yⱼ) vⱼₕ zₕ (1 − zₕ) x",
        "j is the output that is summed over, so the hidden unit needs another index, h",
    )


@example("001", "230-244", "Network 6: binary classification")
def binary(ad):
    """`ŷ = σ(vᵀz)` with binary cross-entropy."""
    normal = normals(12)
    X, W, v, y = normal(5, 3), normal(3, 3), normal(3), np.array([1.0, 0.0, 0.0, 1.0, 1.0])

    def E(W, v):
        return jnp.sum(losses.binary_cross_entropy(hidden(W, X) @ v, y))

    z = sigmoid(X @ W.T)
    guess = sigmoid(z @ v)
    by_W, by_v = ad.grad(E, (0, 1))(W, v)
    yield formula(
        "236",
        "E",
        "−Σ (y log ŷ + (1 − y) log(1 − ŷ))",
        -np.sum(y * np.log(guess) + (1 - y) * np.log(1 - guess)),
        jax.jit(E)(W, v),
    )
    yield words("240", "the second factor of ∂E/∂v", "∂ŷ/∂zⱼ").slip(
        "∂ŷ/∂v", "the chain ends at v; the terms that follow are right"
    )
    yield formula("240", "∂E/∂v", "Σᵢ (ŷ − y) z", (guess - y) @ z, by_v)
    one_number = np.sum((guess - y)[:, None] * v * z * (1 - z) * X, axis=0)
    yield formula("244", "∂E/∂wⱼ", "Σᵢ (ŷ − y) vⱼ zⱼ (1 − zⱼ) xⱼ", one_number, by_W).slip(
        "Σᵢ (ŷ − y) vⱼ zⱼ (1 − zⱼ) x", "∂zⱼ/∂wⱼ has the whole x; xⱼ is one of its entries"
    )


@example("001", "186-199, 246-264", "Networks 3 and 7: several classes")
def several_classes(ad):
    """`ŷ = softmax(Vz)` with categorical cross-entropy; the updates of question 3 are its steps."""
    normal = normals(13)
    X, W, V, labels, eta = normal(5, 3), normal(3, 3), normal(3, 3), np.array([0, 1, 2, 2, 1]), 0.1

    def E(W, V):
        return jnp.sum(losses.cross_entropy(layers.linear(hidden(W, X), V), labels))

    z, truth = sigmoid(X @ W.T), np.eye(3)[labels]
    error = softmax(z @ V.T) - truth
    by_W, by_V = ad.grad(E, (0, 1))(W, V)
    yield formula(
        "196",
        "the update of vⱼ",
        "vⱼ − η Σᵢ (ŷⱼ − 1(y = j)) z",
        V - eta * error.T @ z,
        V - eta * by_V,
    )
    yield words("199", "what is unknown of the hidden layer", "ẑⱼ and z").slip(
        "the target of z", "z comes out of the forward pass; what nobody gives is its true value"
    )
    yield words("248", "ŷ", "exp(vᵀz)/Σⱼ exp(vᵀzⱼ)").slip(
        "ŷⱼ = exp(vⱼᵀz)/Σₗ exp(vₗᵀz)", "each class has its own v; all classes share z"
    )
    yield formula(
        "252",
        "E",
        "−Σᵢ Σⱼ 1(y = j) log ŷⱼ",
        -np.sum(truth * np.log(truth + error)),
        jax.jit(E)(W, V),
    )
    yield words("257", "the middle of ∂E/∂vⱼ", "Σᵢ (…) · Σᵢ ŷⱼ(δᵢⱼ − ŷⱼ) zⱼ").slip(
        "−Σᵢ Σₗ 1(y = l) (1/ŷₗ) ŷₗ (δₗⱼ − ŷⱼ) z",
        "one sum over the observations, not a product of two; δ compares classes, and i is none",
    )
    yield formula("258", "∂E/∂vⱼ", "Σᵢ (ŷⱼ − 1(y = j)) zⱼ", np.sum(error * z, axis=0), by_V).slip(
        "Σᵢ (ŷⱼ − 1(y = j)) z", "as in question 5: the whole z"
    )
    one_number = np.sum(error * np.diag(V) * z * (1 - z) * X)
    yield formula(
        "263, 264", "∂E/∂wⱼ", "Σⱼ Σᵢ (ŷⱼ − 1(y = j)) vⱼ zⱼ (1 − zⱼ) xⱼ", one_number, by_W
    ).slip(
        "∂E/∂wₕ = Σᵢ Σⱼ (ŷⱼ − 1(y = j)) vⱼₕ zₕ (1 − zₕ) x",
        "as in question 5: summed over the classes j, by hidden unit h, with the whole x",
    )


@example("001", "266", "Network 8: why the initial weights are random")
def equal_weights(ad):
    """Hidden units that start equal get equal gradients, and stay equal."""
    normal = normals(14)
    X, y = normal(5, 3), normal(5)
    W, v = np.broadcast_to(normal(3), (3, 3)), np.full(3, 0.5)

    def E(W):
        return jnp.sum(losses.squared_error(hidden(W, X) @ v, y)) / 2

    by_W = ad.grad(E)(W)
    yield formula(
        "266",
        "∂E/∂wⱼ of equal units",
        "all nodes would learn identically",
        np.broadcast_to(by_W[0], (3, 3)),
        by_W,
    )


EXAMPLES = (single_regression, multiple_regression, binary, several_classes, equal_weights)

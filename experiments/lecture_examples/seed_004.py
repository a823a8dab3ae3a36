"""Seed 004, Iris: a 4-n-3 perceptron with ReLU and softmax, its six gradients in matrix form."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lecture_examples.record import example, formula, normals, shown, softmax, words
from fungrad import layers, losses

# Two flowers of each class of Fisher's data: length and width of sepal and petal, in cm.
FLOWERS = (
    (5.1, 3.5, 1.4, 0.2), (4.9, 3.0, 1.4, 0.2),
    (7.0, 3.2, 4.7, 1.4), (6.4, 3.2, 4.5, 1.5),
    (6.3, 3.3, 6.0, 2.5), (5.8, 2.7, 5.1, 1.9),
)  # fmt: skip
CLASSES = (0, 0, 1, 1, 2, 2)


def forward(x, W1, b1, W2, b2):
    hidden = layers.relu(layers.linear(x, W1, b1))
    return layers.linear(hidden, W2, b2)


@example("004", "33-85", "The model and its loss")
def model(ad):
    """`hᵃ = W¹x + b¹`, `hˢ = ReLU(hᵃ)`, `oᵃ = W²hˢ + b²`, `oˢ = Softmax(oᵃ)`, with three hidden
    units, and the negative log-likelihood of the true class, for the first flower.
    """
    normal = normals(40)
    W1, b1, W2, b2 = normal(3, 4) / 2, normal(3), normal(3, 3), normal(3)
    x, label = np.array(FLOWERS[0]), CLASSES[0]
    scores = forward(x, W1, b1, W2, b2)
    p, loss = softmax(np.asarray(scores)), losses.cross_entropy(scores, label)
    yield formula("74", "Softmaxᵢ(oᵃ)", "exp(oᵢ)/Σₖ exp(oₖ)", p, layers.softmax(scores))
    yield formula("78", "L(x, y)", "log p(y)", np.log(p[label]), loss).slip(
        "−log p(y)", "it is to be minimised (213); from 142 on it has its minus sign"
    )
    yield formula("142", "L", "−log(oˢ)", -np.log(p), loss).slip(
        "−log(oˢ_y)", "oˢ has one entry per class; the loss takes that of the true class"
    )
    yield words("17-21", "the classes", "Setosa, Virginica, Virginica").slip(
        "Setosa, Versicolor, Virginica", "the three species of the data"
    )
    yield words("35-49", "the result of the first layer", "y = W¹x + b¹ with rows 1 … n").slip(
        "hᵃ = W¹x + b¹, hˢ = ReLU(hᵃ)", "y has three entries; 37 and 45 have the right names"
    )
    yield words("49, 59", "the entries of W²", "w¹₁₁ … w¹ₘ₁ … w¹ₙₙ").slip(
        "w²₁₁ … w²ₘ₁ … w²ₘₙ", "it is the second layer's matrix [m × n], m = 3"
    )


@example("004", "142-240", "Six gradients over a batch")
def gradients(ad):
    """Six flowers in the rows of x, so hᵃ, hˢ, oᵃ, oˢ have a row for each, and L is the sum of the
    losses. Three hidden units, so that even the printed `W² · ∂L/∂oᵃ` can be multiplied.
    """
    normal = normals(41)
    W1, b1, W2, b2 = normal(3, 4) / 2, normal(3), normal(3, 3), normal(3)
    x, labels, eta = np.array(FLOWERS), np.array(CLASSES), 0.01

    def from_scores(scores):
        return jnp.sum(losses.cross_entropy(scores, labels))

    def from_hidden(h):
        return from_scores(layers.linear(h, W2, b2))

    def L(W1, b1, W2, b2):
        return from_scores(forward(x, W1, b1, W2, b2))

    ha = x @ W1.T + b1
    hs = np.maximum(ha, 0)
    oa = hs @ W2.T + b2
    d_oa = softmax(oa) - np.eye(3)[labels]
    d_hs = d_oa @ W2
    d_ha = d_hs * np.where(ha > 0, 1.0, 0.0)
    got_W1, got_b1, got_W2, got_b2 = ad.grad(L, (0, 1, 2, 3))(W1, b1, W2, b2)
    got_hs = ad.grad(from_hidden)(hs)
    rows = "one row per flower: the bias is added to each of them, so their gradients are added"
    yield formula("173", "∂L/∂oᵃ", "oˢ − onehot(y)", d_oa, ad.grad(from_scores)(oa))
    yield formula("181", "∂L/∂W²", "(∂L/∂oᵃ)ᵀ · hˢ", d_oa.T @ hs, got_W2)
    yield formula("189", "∂L/∂b²", "∂L/∂oᵃ", d_oa, got_b2).slip("Σ over the rows of ∂L/∂oᵃ", rows)
    yield formula("198", "∂L/∂hˢ", "W² · ∂L/∂oᵃ", (W2 @ d_oa.T).T, got_hs).slip(
        "∂L/∂oᵃ · W²", "with rows; W²ᵀ · ∂L/∂oᵃ with columns: W² itself is [3 × n]"
    )
    yield formula(
        "199",
        "∂L/∂hᵃ",
        "∂L/∂hˢ ⊙ 1(hᵃ > 0)",
        d_ha,
        ad.grad(lambda ha: from_hidden(layers.relu(ha)))(ha),
    )
    yield formula("200", "∂L/∂W¹", "(∂L/∂hᵃ)ᵀ · x", d_ha.T @ x, got_W1)
    yield formula("201", "∂L/∂b¹", "∂L/∂hᵃ", d_ha, got_b1).slip("Σ over the rows of ∂L/∂hᵃ", rows)
    yield words("211, 215", "the gradient", "Δ_W L, and δ for ∂").convention(
        "∇_W L, ∂", "from 219 on the seed writes ∇"
    )
    yield formula(
        "219, 221",
        "the updates of W², W¹",
        "W − η ∇_W L",
        np.concatenate([(W2 - eta * d_oa.T @ hs).ravel(), (W1 - eta * d_ha.T @ x).ravel()]),
        np.concatenate([(W2 - eta * got_W2).ravel(), (W1 - eta * got_W1).ravel()]),
    )
    loss = jax.jit(L)
    step = loss(W1 - eta * got_W1, b1 - eta * got_b1, W2 - eta * got_W2, b2 - eta * got_b2)
    falls = float(step < loss(W1, b1, W2, b2))
    yield shown("213-222", "1 if a step against the gradient lowers L", "1", falls)


EXAMPLES = (model, gradients)

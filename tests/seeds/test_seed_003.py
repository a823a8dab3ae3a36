"""Seed 003, chains, graphs and the regularised classifier: sizes by hand, and the loss in words."""

import jax.numpy as jnp
import numpy as np
import pytest

import fungrad as fg
from experiments.lecture_examples import seed_003
from experiments.lecture_examples.record import normals


def scalars():
    """dy_n/dx of cos(tanh²(exp(sin x))) at x = 0.7: five local derivatives, from the top."""
    x = 0.7
    y1 = np.sin(x)
    y2 = np.exp(y1)
    y3 = np.tanh(y2)
    y4 = y3**2
    return {"dy_n/dx, aggregated": -np.sin(y4) * 2 * y3 * (1 - y3**2) * y2 * np.cos(x)}


def vectors():
    return {"∂z/∂x of z [3], x [4]": [3, 4]}


def classifier():
    return {"the size of ∂J/∂b": [1, 3]}


def classifier_by_jacobians():
    """J = −log(yᵀp) + λ Σ W²: the product of every Jacobian on the way, matrices as vec(W).

    ∂l/∂p = −yᵀ/(yᵀp)  [1 × C]      ∂p/∂s = diag(p) − p pᵀ  [C × C]      ∂s/∂b = ∂s/∂z = I
    ∂z/∂vec(W) = I ⊗ xᵀ  [C × Cd]   ∂r/∂vec(W) = 2 vec(W)ᵀ  [1 × Cd]     ∂J/∂r = λ
    """
    normal = normals(31)
    W, b, x, weight, y = normal(3, 4), normal(3), normal(4), 0.1, np.array([0.0, 1, 0])
    s = W @ x + b
    p = np.exp(s) / np.sum(np.exp(s))
    g = -y[None] / (y @ p) @ (np.diag(p) - np.outer(p, p))
    assert np.allclose(g, p - y), "the product shortens to pᵀ − yᵀ"
    by_W = g @ np.eye(3) @ np.kron(np.eye(3), x[None]) + weight * 2 * W.reshape(1, -1)
    return by_W.reshape(3, 4), g @ np.eye(3)


BY_HAND = {
    "scalars": scalars,
    "vectors": vectors,
    "classifier": classifier,
    "svm": dict,
    "mini_batch": dict,
}


@pytest.mark.parametrize("example", seed_003.EXAMPLES, ids=lambda example: example.name)
def test_worked_example(example, prove):
    prove(example, BY_HAND[example.name])


def test_the_classifiers_gradient_is_the_product_of_its_jacobians():
    normal = normals(31)
    W, b, x = normal(3, 4), normal(3), normal(4)

    def J(W, b):
        loss = fg.losses.cross_entropy(fg.layers.linear(x, W, b), 1)
        return loss + 0.1 * jnp.sum(W * W)

    for got, expected in zip(fg.grad(J, (0, 1))(W, b), classifier_by_jacobians(), strict=True):
        np.testing.assert_allclose(got, np.squeeze(expected), rtol=1e-12)


@pytest.mark.parametrize("label", [0, 1, 2, 3])
def test_multiclass_svm_counts_the_classes_within_the_margin(label):
    """l = Σ_{j ≠ y} max(0, s_j − s_y + 1), written out with a loop."""
    scores = [0.3, 1.2, 1.0, -2.0]
    gaps = [s - scores[label] + 1 for j, s in enumerate(scores) if j != label]
    got = fg.losses.multiclass_svm(jnp.array(scores), label)
    np.testing.assert_allclose(got, sum(max(0.0, gap) for gap in gaps), rtol=1e-12)
    by_scores = fg.grad(lambda s: fg.losses.multiclass_svm(s, label))(jnp.array(scores))
    assert float(by_scores[label]) == -sum(gap > 0 for gap in gaps)


def test_the_pseudo_code_visits_a_shared_node_only_when_all_its_parents_are_known():
    """x feeds two nodes; with only one of their gradients, ∂s/∂x would be half of the truth."""
    x = seed_003.node(value=np.array([0.3, -0.2]))
    u = seed_003.node(function=jnp.sin, children=(x,))
    v = seed_003.node(function=jnp.exp, children=(x,))
    s = seed_003.node(function=lambda u, v: jnp.sum(u * v), children=(u, v))
    seed_003.forward_pass((x, u, v, s))
    seed_003.back_op(s, fg)
    expected = np.exp(x.value) * (np.cos(x.value) + np.sin(x.value))
    np.testing.assert_allclose(np.squeeze(x.gradient), expected, rtol=1e-12)

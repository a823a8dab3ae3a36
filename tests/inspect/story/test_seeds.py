"""The worked examples of the seeds, told: every gradient and every updated number stands there."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fungrad as fg

W0, W1 = jnp.array([[1.0, -3.0], [0.2, 1.0]]), jnp.array([[1.0, -1.0]])
X0, TARGET = jnp.array([1.0, 0.1]), jnp.array([0.5])


def plain(W0, W1, x0, y):
    x1 = W0 @ x0
    x2 = jnp.tanh(x1)
    x3 = W1 @ x2
    return 0.5 * jnp.sum((x3 - y) ** 2)


def of_layers(W0, W1, x0, y):
    x1 = fg.layers.linear(x0, W0)
    x2 = fg.layers.tanh(x1)
    x3 = fg.layers.linear(x2, W1)
    return jnp.sum(fg.losses.squared_error(x3, y)) / 2


def numbers(text):
    return [float(n) for n in re.findall(r"-?\d+\.?\d*(?:e[+-]\d+)?", text)]


def tells(story, *expected):
    """Whether each number stands in the text, to four digits."""
    told = np.array(numbers(str(story)))
    return all(np.min(np.abs(told - x)) <= 5e-4 * abs(x) for x in expected)


@pytest.mark.parametrize("fun", [plain, of_layers, jax.jit(plain)], ids=["plain", "layers", "jit"])
def test_seed_000(fun):
    """One iteration of backpropagation, lines 466 to 607."""
    story = fg.story(fun, eta=-0.2)(W0, W1, X0, TARGET)
    text = str(story)
    assert "∂J/∂x2 = ∂J/∂x3 · W1" in text
    assert "∂J/∂x1 = ∂J/∂x2 · diag(1 − x2²)" in text
    assert "∂J/∂W1 = x2 · ∂J/∂x3" in text
    assert "∂J/∂W0 = x0 · ∂J/∂x1" in text
    assert "∂x1/∂vec(W0) = I ⊗ x0ᵀ" in text
    assert "[1 × 2] = [1 × 1] · [1 × 2]" in text
    for line in (
        "x2 = tanh(x1) = (0.6044, 0.2913)",
        "x3 = W1 x2 = 0.3131",
        "(-0.1869, 0.1869)",
        "(0.6347, 0; 0, 0.9151)",
        "(-0.1187, 0.1711; -0.01187, 0.01711)",
        "(-0.113; -0.05446)",
        "(1.024, -2.998; 0.1658, 0.9966)",
        "(1.023, -0.9891)",
    ):
        assert line in text
    x2 = np.tanh([0.7, 0.3])
    g3 = x2[0] - x2[1] - 0.5
    g1 = g3 * np.array([1, -1]) * (1 - x2**2)
    np.testing.assert_allclose(story["x3"].value, [[g3]], rtol=1e-12)
    np.testing.assert_allclose(story["x2"].value, g3 * W1, rtol=1e-12)
    np.testing.assert_allclose(story["x2"].jacobian, W1, rtol=1e-12)
    np.testing.assert_allclose(story["W0"].value, np.outer(X0, g1), rtol=1e-12)
    updates = {step.name: step for step in story.updates}
    np.testing.assert_allclose(updates["W0"].value, W0 - 0.2 * np.outer(g1, X0), rtol=1e-12)
    assert updates["W1"].formula == "W1 + η (∂J/∂W1)ᵀ"
    assert float(story.value) == pytest.approx(0.0174742, abs=1e-7)
    assert story["W1"].shape == (2, 1)


X, Y = jnp.array([[2.0, 1.0], [-3.0, 2.0]]), jnp.array([1.3, 1.9])
THETA = jnp.array([1.0, 1.0, 0.0, 1.0, 0.0])


def one_of_five(theta, x, y):
    z = theta[0] * x[0] + theta[1] * x[1] + theta[2]
    h = jax.nn.relu(z)
    guess = theta[3] * h + theta[4]
    return (guess - y) ** 2


def all_of_five(theta, x, y):
    return jnp.mean(jax.vmap(one_of_five, (None, 0, 0))(theta, x, y))


def five_by_layers(theta, x, y):
    h = fg.layers.relu(fg.layers.linear(x, theta[None, :2], theta[2:3]))
    return jnp.mean(fg.losses.squared_error(theta[3] * h[:, 0] + theta[4], y))


@pytest.mark.parametrize("fun", [all_of_five, five_by_layers])
def test_seed_002(fun):
    """The network of five parameters: ∇L(D), and the step with η = 0.01."""
    story = fg.story(fun, eta=-0.01)(THETA, X, Y)
    assert "(3.4, 1.7, 1.7, 5.1, -0.2)" in str(story)
    assert "(0.966, 0.983, -0.017, 0.949, 0.002)" in str(story)
    assert tells(story, 3.25, 2.89, 3.61)
    after = fg.story(fun)(jnp.array([0.966, 0.983, -0.017, 0.949, 0.002]), X, Y)
    assert tells(after, 2.898, 2.752, -0.949, 2.1089, 3.6024, 2.8556)


@pytest.mark.parametrize(
    ("i", "gradient", "delta"),
    [(0, "(6.8, 3.4, 3.4, 10.2, 3.4)", 3.4), (1, "(0, 0, 0, 0, -3.8)", -3.8)],
)
def test_seed_002_of_one_observation(i, gradient, delta):
    story = fg.story(one_of_five)(THETA, X[i], Y[i])
    assert gradient in str(story)
    assert story["guess"].value == pytest.approx(delta)
    assert story["z"].value == pytest.approx(3.4 if i == 0 else 0.0)


def classifier(W, b, x, y):
    z = W @ x
    s = z + b
    p = jax.nn.softmax(s)
    l = -jnp.log(y @ p)  # noqa: E741 (the seed's name)
    r = jnp.sum(W**2)
    return l + 0.1 * r


def classifier_of_layers(W, b, x, y):
    loss = fg.losses.cross_entropy(fg.layers.linear(x, W, b), y)
    return loss + 0.1 * jnp.sum(W**2)


WEIGHT, BIAS = jnp.arange(12.0).reshape(3, 4) / 10 - 0.5, jnp.array([0.1, -0.2, 0.3])
FEATURES, LABEL = jnp.array([1.0, -1.0, 0.5, 2.0]), jnp.array([0.0, 1.0, 0.0])


@pytest.mark.parametrize("fun", [classifier, classifier_of_layers])
def test_seed_003(fun):
    """The regularised classifier: ∂J/∂b = g [1 × 3], ∂J/∂W = gᵀ xᵀ + 2λW, two uses of W added."""
    story = fg.story(fun)(WEIGHT, BIAS, FEATURES, LABEL)
    scores = np.asarray(WEIGHT @ FEATURES + BIAS)
    p = np.exp(scores) / np.exp(scores).sum()
    g = p - LABEL
    np.testing.assert_allclose(story["b"].value, g[None], rtol=1e-12)
    np.testing.assert_allclose(story["W"].value, np.outer(FEATURES, g) + 0.2 * WEIGHT.T, rtol=1e-12)
    assert len(story["W"].contributions) == 2
    assert tells(story, *g, *np.ravel(story["W"].value))
    assert "⊙ (2 W)ᵀ" in story["W"].formula
    assert "= I ⊗ xᵀ" in str(story)
    assert "[3 × 12]" in str(story)


def test_seed_003_with_its_letters():
    story = fg.story(classifier)(WEIGHT, BIAS, FEATURES, LABEL)
    assert story["s"].formula == "∂J/∂s = ∂J/∂p · (diag(p) − p pᵀ)"
    assert story["b"].formula == "∂J/∂b = ∂J/∂s"
    assert story["r"].value == pytest.approx(0.1)
    np.testing.assert_allclose(
        story["s"].jacobian, fg.notation.softmax_jacobian(story.forward[2].value), rtol=1e-12
    )
    by_layers = fg.story(classifier_of_layers)(WEIGHT, BIAS, FEATURES, LABEL)
    assert "(softmax(x1) − y)ᵀ" in str(by_layers)

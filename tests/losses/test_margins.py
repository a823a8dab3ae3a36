import jax
import numpy as np
import pytest

import fungrad as fg
from fungrad import losses
from tests.agreement import assert_close, assert_gradients_agree, assert_keeps_dtype

DRAW = np.random.default_rng(0)
SCORES = DRAW.normal(size=(2, 3, 4))
LABELS = DRAW.integers(4, size=(2, 3))
ONE_HOT = np.eye(4)[LABELS]


# ---------------------------------------------------------------------------- multi-class SVM


def svm(z, y):
    """Loss and gradient of one example, class by class."""
    loss, gradient = 0.0, np.zeros_like(z)
    for j in range(len(z)):
        if j != y and z[j] - z[y] + 1 > 0:
            loss += z[j] - z[y] + 1
            gradient[j] += 1
            gradient[y] -= 1
    return loss, gradient


def test_multiclass_svm():
    pairs = [
        [svm(z, y) for z, y in zip(*rows, strict=True)] for rows in zip(SCORES, LABELS, strict=True)
    ]
    values, gradients = (np.array([[p[k] for p in row] for row in pairs]) for k in (0, 1))
    kinds = (LABELS, ONE_HOT, ONE_HOT.astype(int))

    def all_of(z, labels):
        def total(z):
            return losses.multiclass_svm(z, labels).sum()

        return losses.multiclass_svm(z, labels), fg.grad(total)(z), jax.grad(total)(z)

    found = jax.jit(lambda z: [all_of(z, labels) for labels in kinds])(SCORES)
    assert_close(found, [(values, gradients, gradients)] * len(kinds))
    assert_gradients_agree(lambda z: losses.multiclass_svm(z, LABELS), SCORES)
    assert_keeps_dtype(lambda z: losses.multiclass_svm(z, LABELS), SCORES)


@pytest.mark.parametrize("grad", [fg.grad, jax.grad])
def test_a_margin_of_exactly_one_is_a_tie(grad):
    by_scores = jax.jit(grad(lambda z: losses.multiclass_svm(z, 0)))
    assert by_scores(np.array([1.0, 0.0])).tolist() == [-0.5, 0.5]
    assert jax.jit(grad(lambda z: losses.hinge(z, 1)))(1.0) == -0.5


def test_multiclass_svm_of_a_class_that_is_ruled_out():
    value_and_grad = jax.jit(fg.value_and_grad(lambda z: losses.multiclass_svm(z, 0)))
    value, gradient = value_and_grad(np.array([0.5, -np.inf, 0.0]))
    assert (value, gradient.tolist()) == (0.5, [-1.0, 0.0, 1.0])


def test_multiclass_svm_refuses():
    with pytest.raises(ValueError, match=r"labels must be in \[0, 4\), got 7"):
        losses.multiclass_svm(SCORES, np.full((2, 3), 7))
    assert np.isnan(jax.jit(losses.multiclass_svm)(SCORES, np.full((2, 3), 7))).all()
    for rows in (0.5 * ONE_HOT, np.ones_like(ONE_HOT), np.zeros_like(ONE_HOT)):
        with pytest.raises(ValueError, match="labels must be integers, or one-hot rows"):
            losses.multiclass_svm(SCORES, rows)
    with pytest.raises(ValueError, match=r"to match scores float64\[2,3,4\], got int64\[2\]"):
        losses.multiclass_svm(SCORES, LABELS[:, 0])
    with pytest.raises(TypeError, match="scores must be floating-point"):
        losses.multiclass_svm(SCORES.astype(int), LABELS)


# ---------------------------------------------------------------------------- hinge


def test_hinge():
    z, y = np.array([0.5, -2.0, 3.0, -0.1]), np.array([1, 1, 1, -1])
    expected, slope = np.array([0.5, 3.0, 0.0, 0.9]), np.array([-1.0, -1.0, 0.0, 1.0])
    assert_close(losses.hinge(z, y), expected)
    assert_close(fg.grad(lambda z: losses.hinge(z, y).sum())(z), slope)
    assert_gradients_agree(lambda z: losses.hinge(z, y), z)
    assert_keeps_dtype(lambda z: losses.hinge(z, y), z)


def test_hinge_refuses():
    with pytest.raises(ValueError, match=r"y must be -1 or \+1, got 0"):
        losses.hinge(np.array([0.5, 1.0]), np.array([1, 0]))
    with pytest.raises(ValueError, match="score and y must have the same shape"):
        losses.hinge(np.ones((2, 1)), np.ones(2))
    with pytest.raises(TypeError, match="score must be floating-point"):
        losses.hinge(np.ones(2, int), np.ones(2))


# ---------------------------------------------------------------------------- zero-one


def test_zero_one_counts_errors():
    wrong = SCORES.argmax(-1) != LABELS
    assert_close(losses.zero_one(SCORES, LABELS), wrong * 1.0)
    for function in (losses.zero_one, jax.vmap(losses.zero_one)):
        for labels in (LABELS, ONE_HOT):
            assert_close(jax.jit(function)(SCORES, labels), wrong * 1.0)
    assert losses.zero_one(np.zeros(3, np.float32), 0).dtype == np.float32
    assert_close(losses.zero_one(np.array([0.0, 2.0]), np.array([0.3, 0.7])), np.array(1 - 0.7))


@pytest.mark.parametrize(
    "differentiate",
    [
        lambda f: fg.grad(f)(SCORES),
        lambda f: jax.grad(f)(SCORES),
        lambda f: jax.jit(fg.grad(f))(SCORES),
        lambda f: jax.jit(jax.grad(f))(SCORES),
        lambda f: jax.jvp(f, (SCORES,), (SCORES,)),
        lambda f: jax.linearize(f, SCORES),
        lambda f: fg.hessian(f)(SCORES),
    ],
)
def test_zero_one_says_that_it_has_no_useful_gradient(differentiate):
    with pytest.raises(
        TypeError, match="zero_one is piecewise constant and has no useful gradient"
    ):
        differentiate(lambda z: losses.zero_one(z, LABELS).mean())


@pytest.mark.parametrize("value_and_grad", [fg.value_and_grad, jax.value_and_grad])
def test_zero_one_is_reported_beside_a_loss(value_and_grad):
    def cost(z):
        errors = losses.zero_one(jax.lax.stop_gradient(z), LABELS)
        return losses.cross_entropy(z, LABELS).mean(), errors.mean()

    (_, errors), gradient = jax.jit(value_and_grad(cost, has_aux=True))(SCORES)
    assert_close(errors, (SCORES.argmax(-1) != LABELS).mean())
    p = np.exp(SCORES) / np.exp(SCORES).sum(-1, keepdims=True)
    assert_close(gradient, (p - ONE_HOT) / LABELS.size)


def test_zero_one_refuses():
    with pytest.raises(ValueError, match=r"labels must be in \[0, 4\), got 4"):
        losses.zero_one(SCORES, np.full((2, 3), 4))
    assert np.isnan(jax.jit(losses.zero_one)(SCORES, np.full((2, 3), 4))).all()
    with pytest.raises(ValueError, match="to match scores"):
        losses.zero_one(SCORES, LABELS[0])

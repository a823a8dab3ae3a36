import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fungrad as fg
from fungrad import losses
from tests.agreement import assert_close, assert_gradients_agree, assert_keeps_dtype

DRAW = np.random.default_rng(0)
LOGITS = DRAW.normal(size=(2, 3, 4)) * 3
LABELS = DRAW.integers(4, size=(2, 3))
SOFT = DRAW.dirichlet(np.ones(4), size=(2, 3))
MARGINS = [5, 10, 15, 17, 20, 30, 40, 50, 60, 70, 80]

grads = pytest.mark.parametrize("grad", [fg.grad, jax.grad], ids=["fungrad", "jax"])


def plain(grad, loss):
    """The losses of a batch, and the gradient of each."""
    return lambda z: (loss(z), grad(lambda z: loss(z).sum())(z))


def compiled(grad, loss):
    return jax.jit(plain(grad, loss))


def mapped(grad, loss):
    return lambda z: (jax.vmap(loss)(z), jax.vmap(grad(loss))(z))


modes = pytest.mark.parametrize("mode", [plain, compiled, mapped])


def softmax(z):
    p = np.exp(z - z.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def jitted_gradient(grad, loss, *args):
    return jax.jit(grad(lambda *args: loss(*args).sum()))(*args)


# ---------------------------------------------------------------------------- cross-entropy


def test_cross_entropy_is_minus_the_log_probability():
    p, one_hot = softmax(LOGITS), np.eye(4)[LABELS]
    expected = -np.log(np.take_along_axis(p, LABELS[..., None], -1))[..., 0]
    kinds = (LABELS, LABELS.astype(np.uint8), one_hot, one_hot.astype(int), one_hot == 1)
    found = jax.jit(lambda z: [losses.cross_entropy(z, labels) for labels in kinds])(LOGITS)
    assert_close(found, [expected] * len(kinds))
    assert_close(jax.jit(losses.cross_entropy)(LOGITS, SOFT), -(SOFT * np.log(p)).sum(-1))
    assert_close(losses.cross_entropy(LOGITS[0, 0], 3), -np.log(p[0, 0, 3]))


@grads
def test_cross_entropy_gradient_is_p_minus_t(grad):
    p = softmax(LOGITS)
    for labels, t in ((LABELS, np.eye(4)[LABELS]), (SOFT, SOFT), (3 * SOFT, 3 * SOFT)):
        expected = p * t.sum(-1, keepdims=True) - t
        assert_close(
            jitted_gradient(grad, lambda z, y=labels: losses.cross_entropy(z, y), LOGITS), expected
        )


def test_cross_entropy_gradients_agree():
    assert_gradients_agree(losses.cross_entropy, LOGITS, SOFT)
    assert_gradients_agree(lambda z: losses.cross_entropy(z, LABELS), LOGITS)
    assert_keeps_dtype(losses.cross_entropy, LOGITS, SOFT)


@pytest.mark.parametrize("hessian", [fg.hessian, jax.hessian])
def test_cross_entropy_hessian(hessian):
    @jax.jit
    def found(*logits):
        by_logits = [
            hessian(lambda z, y=y: losses.cross_entropy(z, y))(z)
            for z in logits
            for y in (2, SOFT[0, 0])
        ]
        by_both = fg.jacrev(fg.grad(losses.cross_entropy, argnums=1))(logits[1], SOFT[0, 0])
        return *by_logits, by_both

    # Equal logits are a tie of the largest, which nothing may depend on.
    z, equal = LOGITS[0, 0], np.zeros(4)
    covariance = [np.diag(p) - np.outer(p, p) for p in map(softmax, (z, z, equal, equal))]
    assert_close(found(z, equal), (*covariance, 1 / 4 - np.eye(4)))


def with_margin(margin, classes=10):
    """float32 logits whose class 1 is `margin` above the next."""
    z = np.random.default_rng(margin).normal(size=classes).astype(np.float32)
    z[1] = np.delete(z, 1).max() + np.float32(margin)
    return z


def exact_cross_entropy(z):
    """Loss and gradient for label 1, in float64, with nothing that cancels."""
    odds = np.exp(np.delete(z.astype(float), 1) - float(z[1]))
    p = odds / (1 + odds.sum())
    return np.log1p(odds.sum()), np.insert(p, 1, -p.sum())


@grads
@modes
@pytest.mark.parametrize("row", [np.array(1), np.eye(10)[1]], ids=["integer", "one-hot"])
def test_cross_entropy_keeps_its_digits_in_float32(grad, mode, row):
    def loss(z):
        return losses.cross_entropy(z, np.broadcast_to(row, (*z.shape[:-1], *row.shape)))

    z = np.stack([with_margin(margin) for margin in MARGINS])
    found = mode(grad, loss)(z)
    for values, exact in zip(found, zip(*map(exact_cross_entropy, z), strict=True), strict=True):
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, np.stack(exact), rtol=1e-5)


def test_what_log_softmax_loses():
    """The reason for the written VJP: by the formula alone the gradient is zero, or worse."""
    z = jnp.asarray(with_margin(20))
    naive = jax.grad(lambda z: -jax.nn.log_softmax(z)[1])(z)
    assert naive[1] == 0.0
    assert jax.grad(losses.cross_entropy)(z, 1)[1] < 0


def test_cross_entropy_of_a_wrong_prediction_and_of_large_logits():
    z = np.array([1000.0, 0.0, 1000.0], np.float32)
    assert_close(losses.cross_entropy(z, 1), np.float32(1000 + np.log(2)), rtol=1e-6)
    for grad in (fg.grad, jax.grad):
        gradient = jitted_gradient(grad, lambda z: losses.cross_entropy(z, 1), z)
        assert_close(gradient, np.array([0.5, -1.0, 0.5], np.float32), rtol=1e-6)


def test_classes_that_are_ruled_out():
    """A logit of −∞ is a class of probability zero, and no NaN."""
    z = np.array([0.5, -np.inf, 1.5])
    p = softmax(z)
    for grad, y in itertools.product((fg.grad, jax.grad), (0, np.array([1.0, 0.0, 0.0]))):
        loss = lambda z, y=y: losses.cross_entropy(z, y)  # noqa: E731
        assert_close(jax.jit(loss)(z), -np.log(p[0]))
        assert_close(jitted_gradient(grad, loss, z), p - np.eye(3)[0])
    assert losses.cross_entropy(z, 1) == np.inf


def test_one_class_is_certain():
    assert losses.cross_entropy(np.array([3.0]), 0) == 0.0
    assert fg.grad(losses.cross_entropy)(np.array([3.0]), 0).tolist() == [0.0]


def test_labels_out_of_range():
    for wrong in (4, -1):
        labels = np.where(LABELS[0, 0] == LABELS, wrong, LABELS)
        with pytest.raises(
            ValueError, match=rf"labels must be in \[0, 4\), got {wrong} among int64"
        ):
            losses.cross_entropy(LOGITS, labels)
        # Known labels are refused inside a transform too; traced ones give NaN, and only they.
        for transform in (jax.jit, fg.grad, jax.grad):
            with pytest.raises(ValueError, match="labels must be in"):
                transform(lambda z, y=labels: losses.cross_entropy(z, y).sum())(LOGITS)
        loss = jax.jit(losses.cross_entropy)(LOGITS, labels)
        assert (np.isnan(loss) == (labels == wrong)).all()


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        (
            (LOGITS, LABELS[0]),
            ValueError,
            r"integers of shape \[2, 3\] or rows of shape \[2, 3, 4\]",
        ),
        (
            (LOGITS, LABELS[..., None]),
            ValueError,
            r"match logits float64\[2,3,4\], got int64\[2,3,1\]",
        ),
        ((LOGITS, SOFT[..., :3]), ValueError, r"got float64\[2,3,3\]"),
        (
            (LOGITS, LABELS * 1.0),
            TypeError,
            r"labels must be an integer array.*labels\.astype\(int\)",
        ),
        ((LOGITS, -SOFT), ValueError, r"labels must be rows of non-negative weights, got -0\."),
        ((LOGITS.astype(int), LABELS), TypeError, r"logits must be floating-point"),
        (
            (np.array(1.0), 0),
            ValueError,
            r"logits must be \[\.\.\., C\], one per class, got float64\[\]",
        ),
        ((np.ones((2, 0)), [0, 0]), ValueError, r"logits must be \[\.\.\., C\]"),
    ],
)
def test_cross_entropy_refuses(args, error, message):
    with pytest.raises(error, match=message):
        losses.cross_entropy(*args)


# ---------------------------------------------------------------------------- binary

LOGIT = np.array([-3.0, -0.5, 0.0, 0.7, 4.0])
Y = np.array([0.0, 1.0, 1.0, 0.0, 1.0])
CHANCE = np.array([0.1, 0.9, 0.5, 0.0, 1.0])


def test_binary_cross_entropy_and_its_gradient():
    sigma = 1 / (1 + np.exp(-LOGIT))
    for y in (Y, Y.astype(int), Y == 1, CHANCE):
        t = np.asarray(y, float)
        expected = -t * np.log(sigma) - (1 - t) * np.log(1 - sigma)
        assert_close(losses.binary_cross_entropy(LOGIT, y), expected)
        for grad in (fg.grad, jax.grad):
            loss = lambda z, y=y: losses.binary_cross_entropy(z, y)  # noqa: E731
            assert_close(jitted_gradient(grad, loss, LOGIT), sigma - t)


def test_binary_cross_entropy_is_the_cross_entropy_of_two_classes():
    logits = np.stack([np.zeros(5), LOGIT], axis=-1)
    expected = losses.cross_entropy(logits, Y.astype(int))
    assert_close(losses.binary_cross_entropy(LOGIT, Y), expected)


def test_binary_cross_entropy_gradients_agree():
    inside = np.clip(CHANCE, 0.1, 0.9)
    assert_gradients_agree(losses.binary_cross_entropy, LOGIT[LOGIT != 0], inside[LOGIT != 0])
    assert_keeps_dtype(losses.binary_cross_entropy, LOGIT, CHANCE)
    for hessian in (fg.hessian, jax.hessian):  # also at 0, where |z| has a kink
        for z in (0.0, -0.0, 2.0):
            sigma = 1 / (1 + np.exp(-z))
            found = jax.jit(hessian(losses.binary_cross_entropy))(z, 0.3)
            np.testing.assert_allclose(found, sigma * (1 - sigma), rtol=1e-12)


@grads
@modes
def test_binary_cross_entropy_keeps_its_digits_in_float32(grad, mode):
    margins = np.array(MARGINS, np.float32)
    odds = np.exp(-margins.astype(float))
    for y, sign in ((1, 1), (0, -1)):
        loss = lambda z, y=y: losses.binary_cross_entropy(z, np.full(z.shape, y))  # noqa: E731
        values, gradients = mode(grad, loss)(sign * margins)
        assert values.dtype == gradients.dtype == np.float32
        np.testing.assert_allclose(values, np.log1p(odds), rtol=1e-5)
        np.testing.assert_allclose(gradients, -sign * odds / (1 + odds), rtol=1e-5)


def test_binary_cross_entropy_of_a_soft_label_in_float32():
    """With y = 1e-6 and z = −15: the two terms of the gradient are of one size, and differ."""
    z, y = np.float32(-15), np.float32(1e-6)
    expected = (1 - float(y)) / (1 + np.exp(15.0)) - float(y) / (1 + np.exp(-15.0))
    np.testing.assert_allclose(fg.grad(losses.binary_cross_entropy)(z, y), expected, rtol=1e-5)


def test_binary_cross_entropy_refuses():
    with pytest.raises(ValueError, match=r"logit and y must have the same shape.*\[5,1\].*\[5\]"):
        losses.binary_cross_entropy(LOGIT[:, None], Y)
    for wrong in (-1, 2):
        with pytest.raises(ValueError, match=rf"y must be in \[0, 1\], got {wrong}"):
            losses.binary_cross_entropy(LOGIT, np.array([0, 1, 0, 1, wrong]))
    with pytest.raises(TypeError, match="logit must be floating-point"):
        losses.binary_cross_entropy(np.arange(5), Y)


# ---------------------------------------------------------------------------- divergence


def test_kl_divergence():
    q = softmax(LOGITS)
    expected = (SOFT * np.log(SOFT / q)).sum(-1)
    assert_close(losses.kl_divergence(SOFT, q), expected)
    assert_close(losses.kl_divergence(q, q), np.zeros((2, 3)))
    entropy = -(SOFT * np.log(SOFT)).sum(-1)
    assert_close(losses.cross_entropy(LOGITS, SOFT) - entropy, expected, rtol=1e-11)
    assert_gradients_agree(losses.kl_divergence, SOFT, q)
    assert_keeps_dtype(losses.kl_divergence, SOFT, q)


def test_kl_divergence_where_a_probability_is_zero():
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.75, 0.0])
    assert_close(losses.kl_divergence(p, q), np.array(0.5 * np.log(2) + 0.5 * np.log(2 / 3)))
    for grad in (fg.grad, jax.grad):
        by_p, by_q = jax.jit(grad(losses.kl_divergence, argnums=(0, 1)))(p, q)
        assert_close(by_p, np.array([np.log(2) + 1, np.log(2 / 3) + 1, 0.0]))
        assert_close(by_q, np.array([-2.0, -2 / 3, 0.0]))
    assert losses.kl_divergence(q, np.array([1.0, 0.0, 0.0])) == np.inf


def test_kl_divergence_refuses():
    q = softmax(LOGITS)
    with pytest.raises(ValueError, match=r"q and p must have the same shape"):
        losses.kl_divergence(SOFT[0], q)
    with pytest.raises(ValueError, match=r"q must be probabilities in \[0, 1\]"):
        losses.kl_divergence(SOFT, LOGITS)
    with pytest.raises(TypeError, match=r"p must be floating-point"):
        losses.kl_divergence(np.eye(4, dtype=int), softmax(np.zeros((4, 4))))


def test_nodes_bear_the_names_of_the_losses():
    for loss, args in (
        (losses.cross_entropy, (LOGITS, LABELS)),
        (losses.cross_entropy, (LOGITS, SOFT)),
        (losses.binary_cross_entropy, (LOGIT, Y)),
        (losses.zero_one, (LOGITS, LABELS)),
    ):
        graph = fg.trace(loss)(*args)
        assert len(graph.find(fg.at(function=loss.__name__))) == 1

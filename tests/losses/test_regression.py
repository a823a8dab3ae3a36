import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fungrad as fg
from fungrad import losses
from tests.agreement import assert_close, assert_gradients_agree, assert_keeps_dtype

PREDICTION = np.array([[0.5, -1.0, 2.0], [3.0, 0.1, -4.0]])
TRUTH = np.array([[0.0, 1.0, 2.5], [-3.0, 0.2, -4.5]])
R = PREDICTION - TRUTH

# The loss of r = prediction − y, and its slope.
FORMULAS = {
    losses.squared_error: (R**2, 2 * R),
    losses.absolute_error: (np.abs(R), np.sign(R)),
    losses.huber: (
        np.where(np.abs(R) <= 1, R**2 / 2, np.abs(R) - 0.5),
        np.clip(R, -1, 1),
    ),
}

GRADS = (fg.grad, jax.grad)
HESSIANS = (fg.hessian, jax.hessian)

each = pytest.mark.parametrize("loss", FORMULAS, ids=lambda loss: loss.__name__)


@each
def test_loss_and_gradients_are_the_formulas(loss):
    value, slope = FORMULAS[loss]
    assert_close(loss(PREDICTION, TRUTH), value)
    for grad in GRADS:
        gradients = jax.jit(grad(lambda *args: loss(*args).sum(), argnums=(0, 1)))
        assert_close(gradients(PREDICTION, TRUTH), (slope, -slope))


@each
def test_gradients_agree(loss):
    assert_gradients_agree(loss, PREDICTION, TRUTH)
    assert_keeps_dtype(loss, PREDICTION, TRUTH)


def test_huber_with_another_delta():
    expected = np.where(np.abs(R) <= 0.3, R**2 / 2, 0.3 * (np.abs(R) - 0.15))
    assert_close(losses.huber(PREDICTION, TRUTH, delta=0.3), expected)
    for delta in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=f"delta must be positive, got {delta}"):
            losses.huber(PREDICTION, TRUTH, delta=delta)


def test_kinks_and_curvature():
    @jax.jit
    def found(zero, one):
        kinks = [(g(losses.absolute_error)(one, 1.0), g(losses.huber)(one, 0.0)) for g in GRADS]
        curves = [
            (h(losses.huber)(zero, 0.0), h(losses.squared_error)(zero, 0.0)) for h in HESSIANS
        ]
        return kinks, curves

    assert found(0.0, 1.0) == ([(1.0, 1.0)] * 2, [(1.0, 2.0)] * 2)


def test_integers_are_truths_and_not_predictions():
    assert_close(losses.squared_error(PREDICTION, np.ones((2, 3), int)), (PREDICTION - 1) ** 2)
    assert losses.squared_error(np.float32(1.5), 1).dtype == np.float32


@each
def test_refusals(loss):
    message = (
        r"prediction and y must have the same shape, got prediction float64\[2,1\] and y float"
    )
    with pytest.raises(ValueError, match=message):
        loss(PREDICTION[:, :1], TRUTH[:, 0])
    with pytest.raises(ValueError, match="must have the same shape"):
        jax.jit(loss)(PREDICTION, 0.0)
    with pytest.raises(TypeError, match=r"prediction must be floating-point, got int64\[3\]"):
        loss(np.arange(3), np.ones(3))


# ---------------------------------------------------------------------------- the penalty


def test_l2_penalty_of_any_tree():
    params = {"W": PREDICTION, "rest": (TRUTH, np.array(2.0))}
    assert_close(losses.l2_penalty(params), np.sum(PREDICTION**2) + np.sum(TRUTH**2) + 4)
    assert_close(fg.grad(losses.l2_penalty)(params), jax.tree.map(lambda w: 2 * w, params))
    assert_gradients_agree(losses.l2_penalty, params)


def test_l2_penalty_of_half_precision_is_summed_in_single():
    ones = jnp.ones(1000, jnp.bfloat16)
    assert losses.l2_penalty(ones) == 1000
    assert losses.l2_penalty(ones).dtype == jnp.float32


def test_l2_penalty_names_the_array_that_it_refuses():
    with pytest.raises(TypeError, match=r"params\['steps'\]\[0\] must be floating-point"):
        losses.l2_penalty({"W": PREDICTION, "steps": [np.array(3)]})

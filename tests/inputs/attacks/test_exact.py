"""Exact distances of linear classifiers: against closed forms, programs, and their own points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fungrad.inputs import Misclassified, Targeted, exact
from fungrad.inputs.constraints import INFINITY, Room, lengths, nearest

from .cases import linear

norms = pytest.mark.parametrize("norm", [1, 2, INFINITY])


@norms
def test_without_a_box_it_is_the_margin_over_the_dual_norm(norm):
    model, x, labels = linear(float)
    found = exact(model, x, Misclassified(labels), norm, bounds=(-INFINITY, INFINITY))
    W, z = jax.jacobian(lambda x: model(x[None])[0])(x[0]), model(x)
    dual = {1: INFINITY, 2: 2, INFINITY: 1}[norm]
    for n, label in enumerate(labels):
        gaps, slopes = z[n, label] - z[n], np.linalg.norm(W - W[label], dual, axis=1)
        ratio = np.delete(np.array(gaps / np.where(slopes == 0, 1, slopes)), label)
        np.testing.assert_allclose(found.distance[n], ratio.min(), rtol=1e-9)


@norms
def test_it_is_the_nearest_point_of_all_half_spaces(norm):
    model, x, labels = linear(float)
    found = exact(model, x, Misclassified(labels), norm)
    W, z = jax.jacobian(lambda x: model(x[None])[0])(x[0]), model(x)
    room = Room.of(x, (0.0, 1.0))
    best = np.full(len(x), np.inf)
    for t in range(z.shape[1]):
        gain = jnp.take_along_axis(z, labels[:, None], 1)[:, 0] - z[:, t]
        delta = nearest(W[t] - W[labels], gain, norm, room)
        reached = jnp.sum((W[t] - W[labels]) * delta, axis=1) >= gain - 1e-9
        best = np.where((labels != t) & reached, np.minimum(best, lengths(delta, norm)), best)
    np.testing.assert_allclose(found.distance, best, rtol=1e-9)
    assert np.all((found.x >= 0) & (found.x <= 1))
    moved = np.linalg.norm(np.asarray(found.x - x), norm, axis=1)
    np.testing.assert_allclose(moved, found.distance, rtol=1e-9)
    top = jnp.sort(model(found.x), axis=1)[:, -2:]
    np.testing.assert_allclose(top[:, 0], top[:, 1], atol=1e-9)


def test_the_curve():
    model, x, labels = linear()
    found = exact(model, x, Misclassified(labels), 2)
    sizes = np.quantile(found.distance, [0.25, 0.75])
    assert found.robust_accuracy(sizes).tolist() == [0.75, 0.25]
    assert "0.25" in str(found)


def test_what_is_wrong_already_and_what_cannot_go_wrong():
    model, x, labels = linear()
    wrong = exact(model, x, Misclassified((labels + 1) % 4), INFINITY)
    assert np.all(wrong.distance == 0)
    np.testing.assert_array_equal(wrong.x, x)

    never = exact(
        lambda x: jnp.stack([x[:, 0], x[:, 1] - 3], axis=1), x, Misclassified(0 * labels), 1
    )
    assert np.all(np.isinf(never.distance))
    np.testing.assert_array_equal(never.x, x)


def test_refusals():
    model, x, labels = linear()
    with pytest.raises(ValueError, match="model must be affine"):
        exact(lambda x: jnp.tanh(model(x)), x, Misclassified(labels), 2)
    with pytest.raises(TypeError, match="criterion must be Misclassified"):
        exact(model, x, Targeted(labels), 2)
    with pytest.raises(ValueError, match="norm must be 1, 2"):
        exact(model, x, Misclassified(labels), 3)

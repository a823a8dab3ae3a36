import jax.numpy as jnp
import numpy as np
import pytest

from fungrad.inputs.spaces import Box, Free, Sphere, checked_space

NOISE = jnp.array([[[0.01], [-0.02]], [[0.0], [0.03]]])
X = jnp.array([[[-4.0], [2.0]], [[0.0], [1.0]]])


def test_box():
    box = Box(-1.0, 3.0)
    np.testing.assert_allclose(box.start(NOISE), 1.0 + 4.0 * NOISE)
    np.testing.assert_array_equal(box.nearest(X), jnp.maximum(X, -1.0))
    np.testing.assert_allclose(box.shown(box.nearest(X)), (box.nearest(X) + 1) / 4)


def test_sphere():
    sphere = Sphere(5.0)
    x = sphere.point(sphere.start(NOISE))
    np.testing.assert_allclose(jnp.linalg.norm(x), 5.0)
    np.testing.assert_allclose(x / 5.0, NOISE / jnp.linalg.norm(NOISE))


def test_grey_is_zero_where_there_are_no_bounds():
    for space in (Free(), Sphere()):
        shown = space.shown(X)
        np.testing.assert_allclose(shown, 0.5 + X / 8)
        np.testing.assert_array_equal(space.shown(0 * X), 0.5 + 0 * X)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Box(1.0, 0.0), ValueError, "low < high, got low=1.0, high=0.0"),
        (lambda: Box(0.0, float("inf")), ValueError, "finite bounds"),
        (lambda: Sphere(0.0), ValueError, "radius must be a positive number, got 0.0"),
        (lambda: checked_space(Box), TypeError, "space must be Box"),
        (lambda: checked_space((0, 1)), TypeError, r"got \(0, 1\)"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()

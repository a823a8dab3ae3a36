import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import fungrad as fg
from fungrad.inputs.reading import Reading

from . import models

SHAPE = (2, 6, 7, 3)
X = jax.random.uniform(jax.random.key(0), SHAPE)
EQUINOX = models.Equinox(jax.random.key(1))
FLAX = models.Flax()
CONV = models.conv(X, "NHWC")
RELU = jax.nn.relu(CONV)
AT_CONV = fg.at(primitive="conv_general_dilated")


def read(model, where, x=X):
    return Reading(model, [where], jax.ShapeDtypeStruct(x.shape, x.dtype))(x)[where]


@pytest.mark.parametrize(
    ("model", "where", "expected"),
    [
        (models.nhwc, None, RELU.mean((1, 2)) @ models.V),
        (models.nhwc, "h", RELU),
        (models.nhwc, fg.at(function="relu"), RELU),
        (models.nhwc, fg.at(scope="first"), RELU),
        (models.nhwc, AT_CONV, CONV),
        (models.nchw, AT_CONV, CONV),
        (models.nchw, "conv", CONV),
        (models.nchw, fg.at(function="relu"), RELU.transpose(0, 3, 1, 2)),
        (jax.jit(models.nchw), AT_CONV, CONV),
        (jax.vmap(EQUINOX), None, jax.vmap(EQUINOX)(X)),
        (
            jax.vmap(EQUINOX),
            fg.at(primitive="dot_general"),
            jax.vmap(EQUINOX)(X) - EQUINOX.linear.bias,
        ),
        (FLAX, fg.at(function="relu"), jax.nn.relu(FLAX.conv(X))),
        (lambda x: x.reshape(-1, 3) @ jnp.eye(3), None, X.reshape(2, 42, 3)),
        (lambda x: x.sum((1, 2, 3)), None, X.sum((1, 2, 3))[:, None]),
    ],
)
def test_batch_first_and_channels_last(model, where, expected):
    """The axes of every layout, checked against the value by hand."""
    np.testing.assert_allclose(read(model, where), expected, rtol=1e-12, atol=1e-15)


def test_the_last_iteration_of_a_scan():
    h = read(models.scanned, "h")
    np.testing.assert_allclose(h.mean((1, 2)), models.scanned(X), rtol=1e-12)


def test_vmapped_convolution_and_a_single_image():
    expected = jax.vmap(EQUINOX.conv)(X.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    without_bias = expected - EQUINOX.conv.bias[:, 0, 0]
    for x, due in ((X, without_bias), (X[:1], without_bias[:1])):
        found = read(jax.vmap(EQUINOX), AT_CONV, x)
        np.testing.assert_allclose(found.reshape(due.shape), due, atol=1e-12)


def test_several_places_in_one_run():
    wheres = ["h", None, AT_CONV]
    found = Reading(models.nhwc, wheres, jax.ShapeDtypeStruct(SHAPE, X.dtype))(X)
    np.testing.assert_array_equal(found["h"], RELU)
    np.testing.assert_array_equal(found[AT_CONV], CONV)
    assert found[None].shape == (2, 4)


@pytest.mark.parametrize(
    ("model", "where", "error", "message"),
    [
        (models.nhwc, "g", LookupError, "no node matches 'g'"),
        (lambda x: (x, x), None, TypeError, "must be one array of floats.*return the logits alone"),
        (lambda x: x.sum(0), None, TypeError, "must have one value per image, but has shape"),
        (lambda x: x > 0, fg.at(primitive="gt"), TypeError, "of which none is of floats"),
        (
            lambda x: lax.while_loop(lambda x: x.sum() < 0, jnp.sin, x),
            fg.at(primitive="sin"),
            NotImplementedError,
            "inside the while loop at",
        ),
        (
            lambda x: lax.scan(lambda x, _: (2 * x, 3 * x), x, None, length=2),
            fg.at(primitive="scan"),
            TypeError,
            "has 2 outputs of floats",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(model, where, error, message):
    with pytest.raises(error, match=message):
        read(model, where)

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fungrad.inputs import objectives as o
from fungrad.inputs.visualize import Goal, laid_out

from . import models

SHAPE = (3, 6, 7, 3)
X = jax.random.uniform(jax.random.key(0), SHAPE)
H = np.asarray(jax.nn.relu(models.conv(X, "NHWC")))
LOGITS = H.mean((1, 2)) @ np.asarray(models.V)
D = np.random.default_rng(0).normal(size=5)


def cosine(a, b):
    return np.sum(a * b, -1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def values(*units, where="h"):
    """Each unit at the image of its number."""
    goal = Goal(models.nhwc, where, [o.as_objective(unit) for unit in units], jax.typeof(X))
    return goal(X)


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        (2, H[..., 2].mean((1, 2))),
        (np.int64(2), H[..., 2].mean((1, 2))),
        (-1, H[..., 4].mean((1, 2))),
        ((1, 5, 3), H[:, 1, 5, 3]),
        (D, (H @ D).mean((1, 2))),
        (jnp.array([0, 1, 0, 0, 0]), H[..., 1].mean((1, 2))),
        (o.direction(H[0]), (H * H[0]).sum(-1).mean((1, 2))),
        (o.logit(3), LOGITS[:, 3]),
        (o.layer(), np.square(H).mean((1, 2, 3))),
        (lambda h: jnp.max(h), H.max((1, 2, 3))),
        (o.match(X[1]), -np.square(H - H[1]).mean((1, 2, 3))),
        (
            o.caricature(X[1], power=2.0),
            ((H * H[1]).sum(-1) * np.maximum(cosine(H, H[1]), 0.1) ** 2).mean((1, 2)),
        ),
        (2 * o.channel(2) - o.logit(3) / 4, 2 * H[..., 2].mean((1, 2)) - LOGITS[:, 3] / 4),
    ],
)
def test_units(unit, expected):
    np.testing.assert_allclose(values(unit, unit, unit), expected, rtol=1e-12)


def test_diversity():
    """−the mean cosine of the Gram matrices with those of the others."""
    h = H.reshape(3, -1, 5)
    gram = np.einsum("npc,npd->ncd", h, h).reshape(3, -1)
    cosines = cosine(gram[:, None], gram)
    np.testing.assert_allclose(values(*[o.diversity()] * 3), -(cosines.sum(1) - 1) / 2, rtol=1e-12)


def test_a_batch_of_different_units():
    found = values(o.channel(1), o.neuron(0, 0, 2), o.logit(0))
    np.testing.assert_allclose(found, [H[0, ..., 1].mean(), H[1, 0, 0, 2], LOGITS[2, 0]])


def test_layout():
    assert laid_out(3)[1] == ()
    assert laid_out([1, 2])[1] == (2,)
    units, layout = laid_out([[1, 2, 3], [(0, 0, 1), D, o.layer()]])
    assert layout == (2, 3)
    names = [unit.terms[0].name for unit in units]
    assert names == [f"channel({i})" for i in (1, 2, 3)] + ["neuron(0, 0, 1)", "direction", "layer"]


@pytest.mark.parametrize(
    ("unit", "error", "message"),
    [
        (5, ValueError, "unit: channel must have indices from 0 to 4.*got 5.*at node 'h'"),
        (-6, ValueError, "got -6"),
        ((1, 2), ValueError, r"one index for each of the 3 axes of \[6, 7, 5\]"),
        ((6, 0, 0), ValueError, "neuron must have indices from 0 to 5"),
        (np.ones(4), ValueError, r"a direction must have shape \[5\] or \[6, 7, 5\]"),
        (1.5, TypeError, "unit must be a channel or logit.*got 1.5"),
        (True, TypeError, "got True"),
        ("h", TypeError, "got 'h'"),
        ((1.0, 2, 3), TypeError, "neuron must be given by whole numbers, got 1.0"),
        (lambda h: h, TypeError, "unit function must be one real number"),
    ],
)
def test_bad_units(unit, error, message):
    with pytest.raises(error, match=message):
        values(unit, unit, unit)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: o.match(np.ones((4, 4))), TypeError, "image must be one image of floats"),
        (lambda: o.match(np.ones((4, 4, 3), np.uint8)), TypeError, "img_as_float"),
        (lambda: values(*[o.match(np.ones((4, 4, 3)))] * 3), ValueError, "shape of the images"),
        (lambda: laid_out([[1, 2], [3]]), ValueError, r"n rows of m, got rows of \[2, 1\]"),
        (lambda: laid_out([]), ValueError, "n rows of m"),
        (lambda: o.channel(1) + 2, TypeError, "unsupported operand"),
        (lambda: o.channel(1) * o.channel(2), TypeError, "unsupported operand"),
    ],
)
def test_bad_objectives(make, error, message):
    with pytest.raises(error, match=message):
        make()

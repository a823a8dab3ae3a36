import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fungrad import layers, models
from tests.agreement import assert_close
from tests.models.drawn import drawn

SMALL = {"image": (5, 4, 1), "widths": (2, 3), "hidden": (4,)}


@pytest.mark.parametrize("batch_norm", [False, True])
def test_vgg_is_its_formula(batch_norm):
    apply, params = drawn(models.vgg, (1, 2), 3, batch_norm=batch_norm, **SMALL)
    x = np.random.default_rng(1).normal(size=(2, 5, 4, 1))

    def norm(z, p):
        if not batch_norm:
            assert p.norm is None
            return z
        variance = p.norm.statistics.variance**2  # a drawn one may be negative
        hat = (z - p.norm.statistics.mean) / jnp.sqrt(variance + 1e-5)
        return hat * p.norm.scale + p.norm.shift

    @jax.jit
    def both(params):
        ((first,), (second, third)), (hidden,), head = params
        h = layers.max_pool(layers.relu(norm(layers.conv(x, *first.conv), first)))
        h = layers.relu(norm(layers.conv(h, *second.conv), second))
        h = layers.max_pool(layers.relu(norm(layers.conv(h, *third.conv), third)))
        h = layers.relu(layers.linear(h.reshape(2, 3), *hidden))
        squared = jax.tree.map(
            lambda node: (
                node._replace(variance=node.variance**2)
                if isinstance(node, layers.Statistics)
                else node
            ),
            params,
            is_leaf=lambda node: isinstance(node, layers.Statistics),
        )
        return apply(squared, x), layers.linear(h, *head)

    assert_close(*both(params))


def test_training_gives_one_entry_per_norm():
    apply, params = models.shapes("vgg", 11, 3, batch_norm=True, **BATCH)
    x = jnp.ones((2, 32, 32, 3))
    scores, seen = jax.eval_shape(lambda params: apply(params, x, train=True), params)
    assert (scores.shape, len(seen)) == ((2, 3), 8)
    assert models.renewed(params, seen) == params


BATCH = {"image": (32, 32, 3), "hidden": ()}


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        ((12,), {}, "depth must be 11, 13, 16, 19, or the convolutions of each stage, got 12"),
        (((1, 1),), {}, r"widths must be one per stage, 2, got \(64, 128, 256, 512, 512\)"),
        ((11,), {"image": (31, 64, 3)}, "H and W at least 32, for each of the 5 stages halves"),
        ((11,), {"image": (32, 32)}, r"image must be \(H, W, C\)"),
        ((11,), {"hidden": (3, 0)}, "hidden must be positive integers, got 3, 0"),
        ((11,), {"batch_norm": "yes"}, "batch_norm must be True or False, got 'yes'"),
    ],
)
def test_sizes_are_checked(args, options, message):
    with pytest.raises(ValueError, match=message):
        models.vgg(*args, **options, key=jax.random.key(0))


def test_images_of_another_size_are_refused():
    apply, params = drawn(models.vgg, (1, 2), 3, **SMALL)
    with pytest.raises(ValueError, match=r"x must be images \[\.\.\., H, W, C\] of \(5, 4, 1\)"):
        apply(params, jnp.ones((4, 5, 1)))

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fungrad as fg
from fungrad import layers, losses, models
from tests.agreement import assert_close
from tests.models.drawn import drawn

SMALL = {"block": "basic", "widths": (2, 3), "channels": 1, "stem": 2}
X = np.random.default_rng(0).normal(size=(4, 8, 9, 1))


def positive_variances(params):
    """The drawn parameters with variances that are some."""

    def change(node):
        is_state = isinstance(node, layers.Statistics)
        return node._replace(variance=1 + node.variance**2) if is_state else node

    return jax.tree.map(change, params, is_leaf=lambda node: isinstance(node, layers.Statistics))


@pytest.fixture(scope="module")
def small():
    apply, params = drawn(models.resnet, (1, 2), 3, **SMALL)
    return apply, positive_variances(params)


def formula(params, x):
    """The small model written out."""

    def part(x, p, stride, padding):
        z = layers.conv(x, p.conv.W, stride=stride, padding=padding)
        mean, variance = p.norm.statistics
        return (z - mean) / jnp.sqrt(variance + 1e-5) * p.norm.scale + p.norm.shift

    def block(x, p, stride):
        first, second = p.layers
        h = part(layers.relu(part(x, first, stride, 1)), second, 1, 1)
        return layers.relu(h + (x if p.shortcut is None else part(x, p.shortcut, stride, 0)))

    h = layers.max_pool(layers.relu(part(x, params.stem, 2, 3)), 3, stride=2, padding=1)
    (one,), (two, three) = params.stages
    assert one.shortcut is None
    h = block(block(block(h, one, 1), two, 2), three, 1)
    return layers.linear(h.mean((1, 2)), *params.head)


def test_resnet_is_its_formula(small):
    apply, params = small
    found, expected = jax.jit(lambda params: (apply(params, X), formula(params, X)))(params)
    assert_close(found, expected)


def test_training_normalises_by_the_batch_and_renews_the_statistics(small):
    apply, params = small
    labels = np.array([0, 1, 2, 0])

    def cost(params):
        scores, statistics = apply(params, X, train=True)
        return losses.cross_entropy(scores, labels).mean(), (scores, statistics)

    @jax.jit
    def step(params):
        return fg.grad(cost, has_aux=True)(params)

    gradient, (scores, statistics) = step(params)
    first = layers.conv(X, params.stem.conv.W, stride=2, padding=3)
    old, new = params.stem.norm.statistics, statistics[0]
    assert_close(new.mean, 0.9 * old.mean + 0.1 * first.mean((0, 1, 2)))
    assert_close(new.variance, 0.9 * old.variance + 0.1 * first.var((0, 1, 2), ddof=1))

    after = models.renewed(params, statistics)
    assert after.stem.norm.statistics is not old
    # The last block's norms come last, its shortcut's after its layers'.
    assert_close(after.stages[1][0].shortcut.norm.statistics, statistics[5])
    assert_close(after.stages[1][1].layers[1].norm.statistics, statistics[7])
    assert_close(after._replace(stem=params.stem, stages=params.stages), params)
    # The batch's own statistics are used, so the running ones have no gradient, nor any effect.
    untrained = [g for g in statistics_of(gradient) for g in g]
    assert len(untrained) == 2 * 8
    assert not any(np.any(g) for g in untrained)
    assert_close(step(after)[1][0], scores)
    with pytest.raises(ValueError, match=r"one entry per batch norm of params, 8, got 7"):
        models.renewed(params, statistics[1:])


def statistics_of(tree):
    leaves = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, layers.Statistics))
    return [leaf for leaf in leaves if isinstance(leaf, layers.Statistics)]


def test_convolutions_are_scopes_and_blocks_are_nodes(small):
    apply, params = small
    graph = fg.trace(apply)(params, jnp.asarray(X))
    for scope in ("stem", "stage1/block0/conv1", "stage2/block0/shortcut", "stage2/block1/conv2"):
        found = graph.find(fg.at(scope=scope, primitive="conv_general_dilated"))
        assert len(found) == 1, scope
    out, values = jax.jit(fg.values(apply, "stage2/block1"))(params, jnp.asarray(X))
    assert_close(layers.linear(values["stage2/block1"].mean((1, 2)), *params.head), out, rtol=1e-10)


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({}, [(1, 1), (2, 2), (2, 2)]),
        ({"downsample_in_first_stage": True}, [(2, 2), (4, 4), (4, 4)]),
        ({"downsample_in_bottleneck": True}, [(1, 1), (2, 2), (2, 2)]),
    ],
)
def test_where_the_image_is_halved(options, sizes):
    """By how much each block's input is larger than its output, seen at its convolutions."""
    apply, params = models.shapes("resnet", (1, 2), 3, widths=(8, 12), stem=4, **options)
    graph = fg.trace(apply)(params, jax.ShapeDtypeStruct((1, 64, 32, 3), float))
    blocks = ("stage1/block0", "stage2/block0", "stage2/block1")
    shapes = [graph.find(fg.at(name=name))[0].outputs[0].shape for name in ("stem", *blocks)]
    assert [(16 // shape[1], 8 // shape[2]) for shape in shapes[1:]] == sizes
    early = options.get("downsample_in_bottleneck", False)
    (inner,) = graph.find(fg.at(scope="stage2/block0/conv1", primitive="conv_general_dilated"))
    assert inner.outputs[0].shape[1] == shapes[2][1] * (1 if early else 2)


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        ((20,), {}, "depth must be 18, 34, 50, 101, 152, or the blocks of each stage, got 20"),
        (((1, 0),), {}, "depth must be positive integers, got 1, 0"),
        ((18,), {"block": "wide"}, 'block must be "basic" or "bottleneck", got \'wide\''),
        ((18,), {"widths": (4, 4)}, r"widths must be one per stage, 4, ≥ 1, got \(4, 4\)"),
        (((1,),), {"widths": (3,)}, r"widths must be one per stage, 1, ≥ 4, got \(3,\)"),
        ((18, 0), {}, "outputs must be positive integers, got 0"),
        ((18,), {"stem": 0}, "channels and stem must be positive integers, got 3, 0"),
        ((18,), {"inner_activation": "rleu"}, "activation must be a function or one of identity"),
        ((18,), {"downsample_in_bottleneck": 1}, "downsample_in_bottleneck must be True or False"),
    ],
)
def test_sizes_are_checked(args, options, message):
    with pytest.raises(ValueError, match=message):
        models.resnet(*args, **options, key=jax.random.key(0))


@pytest.mark.parametrize("shape", [(8, 9, 3), (8, 1), (2, 8, 8)])
def test_images_are_checked(small, shape):
    apply, params = small
    with pytest.raises(
        ValueError, match=r"x must be images \[\.\.\., H, W, C\] of \(any, any, 1\)"
    ):
        apply(params, jnp.ones(shape))
    with pytest.raises(TypeError, match="x must be floating-point"):
        apply(params, np.ones((8, 8, 1), np.uint8))

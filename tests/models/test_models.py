"""What holds for every model: shapes, formats, configurations, names of nodes, gradients."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fungrad as fg
from fungrad import layers, losses, models
from tests.agreement import assert_close
from tests.models.drawn import drawn

KEY = jax.random.key(0)
# Small ones: (sizes, options, the shape of one x).
SMALL = {
    "logistic": ((4, 3), {}, (4,)),
    "mlp": (((4, 5, 3),), {}, (4,)),
    "cnn": (((5, 4, 2), (3, 4), 3), {}, (5, 4, 2)),
    "attention": ((4, 3), {"tokens": 2, "width": 6, "heads": 2, "blocks": 2}, (4,)),
    "vgg": (
        ((1, 2), 3),
        {"image": (9, 8, 2), "widths": (2, 3), "hidden": (4,), "batch_norm": True},
        (9, 8, 2),
    ),
    "resnet": (
        ((1, 2), 3),
        {"block": "basic", "widths": (4, 5), "channels": 2, "stem": 3},
        (9, 8, 2),
    ),
    "vit": (
        ((6, 5, 2), 3),
        {"patch": (3, 2), "width": 6, "heads": 2, "blocks": 2},
        (6, 5, 2),
    ),
}
HIDDEN = {
    "logistic": set(),
    "mlp": {"h1"},
    "cnn": {"h1", "h2"},
    "attention": {"h1", "h2"},
    "vgg": {"stage1/conv1", "stage2/conv1", "stage2/conv2", "hidden1"},
    "resnet": {"stem", "stage1/block0", "stage2/block0", "stage2/block1", "pooled"},
    "vit": {"tokens", "block0", "block1", "pooled"},
}

each = pytest.mark.parametrize("name", SMALL)


def small(name, **options):
    sizes, more, shape = SMALL[name]
    return *drawn(models.architectures[name], *sizes, **more, **options), shape


def batch_of(shape, *batch):
    return jnp.asarray(np.random.default_rng(0).normal(size=(*batch, *shape)))


def test_every_architecture_is_tested():
    of_texts = {"text_tower", "clip"}  # in test_clips.py
    assert SMALL.keys() | of_texts == models.architectures.keys()


@each
def test_any_batch_axes_give_scores(name):
    apply, params, shape = small(name)
    x = batch_of(shape, 2, 3)
    scores = jax.jit(apply)(params, x)
    assert scores.shape == (2, 3, 3)
    one_by_one = jax.jit(jax.vmap(jax.vmap(lambda x: apply(params, x))))(x)
    assert_close(one_by_one, scores)


@each
def test_gradients_are_those_of_jax(name):
    apply, params, shape = small(name)
    x, labels = batch_of(shape, 6), np.arange(6) % 3

    def cost(params, x):
        return losses.cross_entropy(apply(params, x), labels).mean()

    @jax.jit
    def both(params, x):
        return [
            value_and_grad(cost, (0, 1))(params, x)
            for value_and_grad in (fg.value_and_grad, jax.value_and_grad)
        ]

    ours, theirs = both(params, x)
    assert_close(ours, theirs)
    assert all(jnp.any(g != 0) for g in jax.tree.leaves(ours) if g.ndim > 1)


@each
def test_parameters_have_the_dtype_asked_for(name):
    for dtype in (float, jnp.float32, jnp.bfloat16):
        apply, params, shape = small(name, dtype=dtype)
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
        assert jax.eval_shape(apply, params, jnp.ones(shape, dtype)).dtype == dtype


@each
def test_a_configuration_builds_the_same_model_with_the_parameters_of_its_key(name):
    sizes, options, shape = SMALL[name]
    apply, _ = models.shapes(name, *sizes, **options)
    again, _ = models.shapes(**apply.config)
    assert (again, hash(again), again.config) == (apply, hash(apply), apply.config)

    def given(key):
        return models.build(name, *sizes, key=key, **options)[1]

    def by_configuration(key):
        return models.build(**apply.config, key=key)[1]

    def program(function, *args):
        return str(jax.make_jaxpr(function)(*args))

    assert program(given, KEY) == program(by_configuration, KEY)
    parameters = jax.jit(given)
    # Keys of this kind compile in a tenth of the time.
    params, others = (parameters(jax.random.key(seed, impl="rbg")) for seed in (0, 1))
    x = batch_of(shape)
    assert program(again, params, x) == program(apply, params, x)
    pairs = zip(*map(jax.tree.leaves, (params, others)), strict=True)
    assert all(np.all(np.asarray(a) != np.asarray(b)) for a, b in pairs if a.ndim > 1)


@each
def test_hidden_layers_and_scores_are_named_nodes(name):
    apply, params, shape = small(name)
    text = str(jax.make_jaxpr(apply)(params, batch_of(shape)))
    assert set(re.findall(r"name=([\w/]+)\]", text)) >= {"logits"} | HIDDEN[name]
    assert HIDDEN.keys() == SMALL.keys()


def test_a_configuration_cannot_be_changed_by_its_reader():
    apply, _, _ = small("mlp")
    apply.config["sizes"] = None
    assert apply.config["sizes"] == (4, 5, 3)
    assert repr(apply) == "mlp(sizes=(4, 5, 3), activation='relu')"
    assert apply != drawn(models.mlp, (4, 6, 3))[0]


@pytest.mark.parametrize("name", ["mlp", "cnn", "attention", "vit"])
def test_activations_by_name_or_as_functions(name):
    (by_name, params, shape), (by_function, _, _) = (
        small(name, activation=activation) for activation in ("tanh", layers.tanh)
    )
    x, (default, _, _) = batch_of(shape), small(name)
    z, same, other = (jax.jit(apply)(params, x) for apply in (by_name, by_function, default))
    assert_close(z, same)
    assert (np.asarray(z) != np.asarray(other)).all()
    with pytest.raises(ValueError, match=r"activation must be a function or one of identity, relu"):
        small(name, activation="rleu")


def test_an_unknown_model_is_refused_with_the_names_of_those_there_are():
    message = r"name must be one of logistic, mlp, cnn, attention, .*clip, got 'mpl'"
    with pytest.raises(ValueError, match=message):
        models.build("mpl", (4, 3), key=KEY)

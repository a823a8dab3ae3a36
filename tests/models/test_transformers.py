import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fungrad as fg
from fungrad import layers, models
from tests.agreement import assert_close
from tests.models.drawn import drawn

KEY = jax.random.key(0)


def test_attention_is_its_formula():
    apply, params = drawn(models.attention, 6, 3, tokens=2, width=4, heads=2, activation="tanh")

    @jax.jit
    def formula(params, x):
        tokens = [params.embedding[t] @ x[3 * t : 3 * t + 3] + params.place[t] for t in range(2)]
        (block,) = params.blocks
        first, second = block.norms
        h = jnp.stack(tokens)
        h = h + layers.multi_head_attention(layers.layer_norm(h, *first), *block.attention, heads=2)
        inner = jnp.tanh(layers.linear(layers.layer_norm(h, *second), *block.enter))
        h = h + layers.linear(inner, *block.leave)
        mean = layers.layer_norm((h[0] + h[1]) / 2, *params.norm)
        return layers.linear(mean, *params.output)

    x = np.random.default_rng(1).normal(size=6)
    assert_close(jax.jit(apply)(params, x), formula(params, x))


def test_one_feature_is_one_token_unless_said_otherwise():
    _, params = drawn(models.attention, 5, 3)
    assert params.embedding.shape == (5, 32, 1)
    assert params.place.shape == (5, 32)


def test_tokens_that_change_places_with_all_that_is_theirs_change_nothing():
    apply, params = drawn(models.attention, 4, 3, width=8, blocks=2)
    apply = jax.jit(apply)
    turned = params._replace(embedding=params.embedding[::-1], place=params.place[::-1])
    x = np.random.default_rng(1).normal(size=(2, 4))
    assert_close(apply(turned, x[:, ::-1]), apply(params, x))
    assert (np.asarray(apply(params, x[:, ::-1])) != np.asarray(apply(params, x))).all()


def test_blocks_are_scopes():
    apply, params = drawn(models.attention, 4, 3, blocks=2)
    graph = fg.trace(apply)(params, jnp.ones(4))
    for scope in ("block0/attention", "block0/mlp", "block1/attention", "block1/mlp"):
        assert graph.find(fg.at(scope=scope, primitive="dot_general"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": 4}, "tokens must divide inputs=6, got 4"),
        ({"heads": 3}, "heads must divide width=32, got 3"),
        ({"blocks": 0}, "blocks must be positive integers, got 0"),
        ({"width": 8.0}, "width must be positive integers"),
    ],
)
def test_sizes_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        models.attention(6, 3, **options, key=KEY)


def test_inputs_of_another_size_are_refused():
    apply, params = drawn(models.attention, 6, 3, tokens=2)
    with pytest.raises(ValueError, match=r"x must be \[\.\.\., n\] with n = 6 features"):
        apply(params, jnp.ones((2, 5)))

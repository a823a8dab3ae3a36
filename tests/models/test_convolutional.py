import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fungrad import layers, models
from tests.agreement import assert_close
from tests.models.drawn import drawn

KEY = jax.random.key(0)


def test_cnn_is_its_formula():
    apply, params = drawn(models.cnn, (6, 4, 2), (3, 5), 7)

    @jax.jit
    def formula(params, x):
        first, second, last = params
        h = layers.max_pool(layers.relu(layers.conv(x, *first)))
        h = layers.max_pool(layers.relu(layers.conv(h, *second)))
        assert h.shape == (2, 1, 1, 5)
        return layers.linear(h.reshape(2, 5), *last)

    x = np.random.default_rng(1).normal(size=(2, 6, 4, 2))
    assert_close(jax.jit(apply)(params, x), formula(params, x))


def test_the_defaults_are_for_the_digits():
    apply, params = models.cnn(key=KEY)
    assert apply.config["image"] == (8, 8, 1)
    assert [stage.W.shape for stage in params] == [(3, 3, 1, 32), (3, 3, 32, 64), (10, 256)]
    for stage in params[:2]:
        assert abs(stage.W.std() * np.sqrt(np.prod(stage.W.shape[:3]) / 2) - 1) < 0.1
        assert not stage.b.any()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (((8, 8),), r"image must be \(H, W, C\), got \(8, 8\)"),
        (((8, 8, 0),), "image must be positive integers"),
        (((8, 8, 1), ()), "channels must be positive integers"),
        (
            ((8, 4, 1), (3, 3, 3)),
            r"channels must have at most 2 stages for 8×4 pixels.*\(3, 3, 3\)",
        ),
        (((8, 8, 1), (3,), 0), "outputs must be positive integers"),
    ],
)
def test_sizes_are_checked(args, message):
    with pytest.raises(ValueError, match=message):
        models.cnn(*args, key=KEY)


def test_images_of_another_size_are_refused():
    apply, params = drawn(models.cnn)
    for shape in ((8, 8), (64,), (2, 8, 1, 8)):
        with pytest.raises(
            ValueError, match=r"x must be images \[\.\.\., H, W, C\] of \(8, 8, 1\)"
        ):
            apply(params, jnp.ones(shape))

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fungrad as fg
from fungrad import layers
from tests.agreement import assert_close, assert_gradients_agree, assert_keeps_dtype

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(2, 5, 6, 4))
W = DRAW.normal(size=(3, 2, 4, 6))
B = DRAW.normal(size=6)


def pads_of(padding, size, window, stride):
    """(before, after) along one axis."""
    if padding == "VALID":
        return 0, 0
    if padding == "SAME":
        total = max((-(-size // stride) - 1) * stride + window - size, 0)
        return total // 2, total - total // 2
    return (padding, padding) if isinstance(padding, int) else padding


def windows(x, window, stride, padding, dilation=(1, 1), fill=0.0):
    """Yields (i, j, the window's pixels [N, h, w, C]) of x[N, H, W, C], by slicing."""
    span = [d * (w - 1) + 1 for d, w in zip(dilation, window, strict=True)]
    axes = padding if isinstance(padding, tuple) else (padding, padding)
    pads = [pads_of(p, x.shape[a + 1], span[a], stride[a]) for a, p in enumerate(axes)]
    x = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=fill)
    counts = [(x.shape[a + 1] - span[a]) // stride[a] + 1 for a in range(2)]
    for i, j in itertools.product(*map(range, counts)):
        top, left = i * stride[0], j * stride[1]
        part = x[:, top : top + span[0] : dilation[0], left : left + span[1] : dilation[1]]
        yield i, j, part


def collect(values):
    """[(i, j, value[N, C])] -> [N, H', W', C]."""
    table = {(i, j): value for i, j, value in values}
    height, width = (1 + max(index) for index in zip(*table, strict=True))
    return np.stack([np.stack([table[i, j] for j in range(width)], 1) for i in range(height)], 1)


# ---------------------------------------------------------------------------- convolution

OPTIONS = [
    {},
    {"padding": "VALID"},
    {"stride": 2},
    {"stride": (2, 1), "padding": "VALID"},
    {"padding": 1},
    {"padding": ((2, 0), (0, 1)), "stride": (1, 3)},
    {"dilation": 2, "padding": "VALID"},
    {"dilation": (1, 2)},
]


def pair(value):
    return (value, value) if isinstance(value, int) else value


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_conv_is_the_sum_over_its_windows(options):
    stride, dilation = (pair(options.get(name, 1)) for name in ("stride", "dilation"))
    padding = options.get("padding", "SAME")
    expected = collect(
        (i, j, np.einsum("nuvc,uvco->no", part, W) + B)
        for i, j, part in windows(X, W.shape[:2], stride, padding, dilation)
    )
    actual = layers.conv(jnp.asarray(X), jnp.asarray(W), jnp.asarray(B), **options)
    assert_close(actual, expected)


def test_conv_gradients():
    options = {"padding": ((2, 0), (0, 1)), "stride": (1, 3), "dilation": (2, 1)}
    assert_gradients_agree(lambda *args: layers.conv(*args, **options), X, W, B)


def test_groups_do_not_see_one_another():
    x, kernel = jnp.asarray(X), jnp.asarray(W[:, :, :2])
    z = layers.conv(x, kernel, groups=2)
    halves = [
        layers.conv(x[..., 2 * k : 2 * k + 2], kernel[..., 3 * k : 3 * k + 3]) for k in (0, 1)
    ]
    assert_close(z, jnp.concatenate(halves, axis=-1))
    assert_gradients_agree(lambda x, W: layers.conv(x, W, groups=2), x, kernel)


def test_a_window_as_large_as_the_image_is_a_linear_layer():
    kernel = jnp.asarray(DRAW.normal(size=(5, 6, 4, 7)))
    z = layers.conv(jnp.asarray(X), kernel, padding="VALID")
    assert_close(z[:, 0, 0], layers.linear(jnp.asarray(X).reshape(2, -1), kernel.reshape(-1, 7).T))


def test_gradient_by_the_window_correlates_x_with_g():
    x, g = X[0, :, :, :1], DRAW.normal(size=(3, 5, 1))
    gradient = fg.vjp(lambda W: layers.conv(jnp.asarray(x), W, padding="VALID"), W[:, :, :1, :1])[1]
    expected = [[np.sum(g * x[u : u + 3, v : v + 5]) for v in range(2)] for u in range(3)]
    assert_close(gradient(jnp.asarray(g))[0][..., 0, 0], np.array(expected))


@pytest.mark.parametrize("batch", [(), (2,), (3, 2), (0,)])
def test_any_batch_axes(batch):
    x, kernel = jnp.asarray(DRAW.normal(size=(*batch, 4, 4, 4))), jnp.asarray(W)
    flat = x.reshape(-1, 4, 4, 4) if 0 not in batch else jnp.zeros((0, 4, 4, 4))
    for layer in (lambda x: layers.conv(x, kernel), layers.max_pool, layers.avg_pool):
        z = layer(x)
        assert z.shape[:-3] == batch
        assert_close(z.reshape(layer(flat).shape), layer(flat))


def test_dtypes_are_kept():
    x, kernel, b = map(jnp.asarray, (X, W, B))
    assert_keeps_dtype(layers.conv, x, kernel, b)
    assert_keeps_dtype(layers.max_pool, x)
    assert_keeps_dtype(layers.avg_pool, x)
    assert_keeps_dtype(lambda x: layers.avg_pool(x, 3, padding="SAME"), x)


# ---------------------------------------------------------------------------- pooling

POOLS = [
    {},
    {"window": 3},
    {"window": (2, 3), "stride": 1},
    {"window": 3, "stride": (2, 1), "padding": "SAME"},
    {"window": 3, "padding": 1},
    {"window": 2, "padding": ((1, 0), (0, 1))},
]


@pytest.mark.parametrize("options", POOLS, ids=str)
def test_pools_are_the_maximum_and_the_mean_of_their_windows(options):
    window = pair(options.get("window", 2))
    stride, padding = pair(options.get("stride", window)), options.get("padding", "VALID")
    parts = list(windows(X, window, stride, padding, fill=np.nan))
    x = jnp.asarray(X)
    for layer, of in ((layers.max_pool, np.nanmax), (layers.avg_pool, np.nanmean)):
        assert_close(layer(x, **options), collect((i, j, of(p, (1, 2))) for i, j, p in parts))


@pytest.mark.parametrize("layer", [layers.max_pool, layers.avg_pool])
@pytest.mark.parametrize("options", [POOLS[2], POOLS[3]], ids=str)
def test_pool_gradients(layer, options):
    assert_gradients_agree(lambda x: layer(x, **options), X)


def test_the_first_of_equal_maxima_takes_the_gradient():
    for grad in (fg.grad, jax.grad):
        gradient = grad(lambda x: layers.max_pool(x).sum())(jnp.ones((2, 2, 1)))
        assert gradient[..., 0].tolist() == [[1.0, 0.0], [0.0, 0.0]]


# ---------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, W: layers.conv(x[0, 0], W), r"x must be \[\.\.\., H, W, C\].*x\[\.\.\., None\]"),
        (lambda x, W: layers.conv(x, W[0]), r"W must be \[h, w, C / groups, m\], got float64\[2,4"),
        (
            lambda x, W: layers.conv(x[..., :3], W),
            r"C of x.*W float64\[3,2,4,6\], x float64\[2,5,6,3",
        ),
        (lambda x, W: layers.conv(x, W[:, :, :2, :5], groups=2), r"m divisible by groups"),
        (lambda x, W: layers.conv(x, W, jnp.ones(5)), r"b must have shape \[6\]"),
        (lambda x, W: layers.conv(x, W, stride=0), r"stride must be a positive integer or a pair"),
        (lambda x, W: layers.conv(x, W, dilation=(1, 2, 3)), r"dilation must be a positive"),
        (lambda x, W: layers.conv(x, W, padding="same"), r'padding must be "SAME".*got \'same\''),
        (lambda x, W: layers.conv(x, W, padding=(1, 2)), r"padding must be"),
        (lambda x, W: layers.conv(x, W, padding=-1), r"padding must be"),
        (
            lambda x, W: layers.conv(x[:, :2], W, padding="VALID"),
            r"W covers 3 × 2 pixels and does not fit into x, 2 × 6",
        ),
        (lambda x, W: layers.max_pool(x[0, 0]), r"x must be \[\.\.\., H, W, C\]"),
        (lambda x, W: layers.max_pool(x, 2.0), r"window must be"),
        (lambda x, W: layers.max_pool(x, 6), r"window covers 6 × 6 pixels.*into x, 5 × 6"),
        (lambda x, W: layers.avg_pool(x, 7), r"window covers 7 × 7 pixels"),
        (lambda x, W: layers.avg_pool(x, 2, padding=2), r"padding must be smaller than window"),
    ],
)
def test_shapes_and_options_that_do_not_fit_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.asarray(X), jnp.asarray(W))


def test_integers_are_refused():
    pixels = jnp.ones((8, 8, 1), int)
    for layer in (layers.max_pool, layers.avg_pool, lambda x: layers.conv(x, jnp.asarray(W))):
        with pytest.raises(TypeError, match=r"x must be floating-point.*int64\[8,8,1\]"):
            layer(pixels)

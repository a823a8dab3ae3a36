"""Relevance: what is conserved, what takes part in a layer, and whatever is no layer."""

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

import fungrad as fg

lrp = fg.rulebooks.lrp
draw = np.random.RandomState(0)


def some(*shape):
    return jnp.array(draw.randn(*shape))


x, W, b, V, c = some(3, 5), some(5, 4), some(4), some(4, 2), some(2)
relevance = some(3, 2)
BOOKS = [
    lrp.zero(),
    lrp.epsilon(0.1),
    lrp.gamma(),
    lrp.alpha_beta(),
    lrp.zplus(),
    lrp.wsquare(),
    lrp.flat(),
    lrp.zbox(-3, 3),
]
FIGURES = dict(rtol=1e-9, atol=1e-11)


def share(function, book, at=x, R=relevance):
    return fg.vjp(function, at, rules=book)[1](R)[0]


def equal(actual, expected):
    np.testing.assert_allclose(actual, expected, **FIGURES)


# --- One layer is one map, however it is written --------------------------------------------------


def network(x):
    return jax.nn.relu(x @ W + b) @ V + c


def by_vectors(x):
    return jax.vmap(lambda x: c + V.T @ jnp.maximum(b + W.T @ x, 0))(x)


def by_einsum(x):
    hidden = jax.nn.relu(jnp.einsum("dh,nd->hn", W, x) + b[:, None]).T
    return jnp.einsum("ho,nh->no", V, hidden) + c


def by_layers(x):
    return fg.layers.linear(fg.layers.relu(fg.layers.linear(x, W.T, b)), V.T, c)


def scaled(x):
    """The kernel is W, its columns times 1/s, and the bias b."""
    s = jnp.array([2.0, -1.0, 0.5, -3.0])
    z = jnp.broadcast_to(s, (3, 4)) * (jnp.full(4, 0.7) - (0.7 - (x @ (W / s) + b / s)))
    return jnp.where(z > 0, z, 0.0) @ V + c


def named(x):
    return fg.name(jax.nn.relu(fg.name(fg.name(x @ W, "product") + b, "z")) @ V + c, "out")


def in_scan(x):
    return lax.scan(lambda carry, row: (carry, network(row[None])[0]), 0.0, x)[1]


def in_branch(x):
    return lax.cond(x.sum() > -1e9, network, lambda x: x[:, :2], x)


product = jax.jit(lambda x, W: x @ W)


def in_calls(x):
    z = jax.checkpoint(lambda x: product(x, W) + b)(x)
    written = jax.custom_vjp(jax.nn.relu)
    written.defvjp(lambda z: (jax.nn.relu(z), z), lambda z, g: (g * (z > 0),))
    return jax.jit(lambda z: jax.vmap(written)(z) @ V + c)(z)


WAYS = [by_vectors, by_einsum, by_layers, scaled, named, in_scan, in_branch, in_calls]


@pytest.mark.parametrize("way", WAYS)
def test_the_same_however_it_is_written(way):
    for book in (lrp.epsilon(0.1), lrp.alpha_beta(), lrp.wsquare()):
        equal(share(way, book), share(network, book))


def test_a_rule_by_its_formula():
    """Against the sums that the formula says, of a layer with bias."""
    z = x @ W + b
    R = some(3, 4)
    part = R / (z + 0.1 * jnp.sign(z))
    equal(share(lambda x: x @ W + b, lrp.epsilon(0.1), R=R), x * (part @ W.T))
    pairs = x[:, :, None] * W
    positive = jnp.maximum(pairs, 0)
    total = positive.sum(1) + jnp.maximum(b, 0) + 1e-6
    equal(share(lambda x: x @ W + b, lrp.zplus(), R=R), (positive * (R / total)[:, None]).sum(2))
    grown = pairs + 0.25 * jnp.where((pairs * z[:, None]) > 0, pairs, 0)
    total = grown.sum(1) + b + 0.25 * jnp.where((b * z) > 0, b, 0)
    part = R / (total + 1e-6 * jnp.sign(total))
    equal(share(lambda x: x @ W + b, lrp.gamma(0.25), R=R), (grown * part[:, None]).sum(2))


def test_weights_that_are_arguments_or_slices():
    def with_weights(p, x):
        return jnp.sum(jax.nn.relu(x @ p["W"] + p["b"]) @ p["V"])

    book = lrp.zplus()
    p = {"W": W, "b": b, "V": V}
    actual = jax.jit(fg.grad(with_weights, argnums=1, rules=book))(p, x)
    equal(actual, share(lambda x: with_weights(p, x), book, R=1.0))
    kernels, shifts = jnp.stack([V @ V.T, -V @ V.T]), jnp.stack([b, 2 * b])

    def scanned(x):
        return lax.scan(lambda z, p: (jax.nn.relu(z @ p[0] + p[1]), None), x, (kernels, shifts))[0]

    def unrolled(x):
        for K, shift in zip(kernels, shifts, strict=True):
            x = jax.nn.relu(x @ K + shift)
        return x

    at = some(3, 4)
    equal(share(scanned, book, at, at), share(unrolled, book, at, at))


# --- What is no layer -----------------------------------------------------------------------------

y, R = some(2, 6), some(2, 6)
scale, shift = some(6), some(6)


def centred(x):
    return x - x.mean(-1, keepdims=True)


UNCHANGED = {
    **{name: getattr(jax.nn, name) for name in ("relu", "gelu", "silu", "elu", "softplus")},
    **{name: getattr(jax.nn, name) for name in ("leaky_relu", "hard_tanh", "relu6", "mish")},
    "tanh": jnp.tanh,
    "square": lambda x: x * x,
    "polynomial": lambda x: x + x**3,
    "clip": lambda x: jnp.clip(x, -0.1, 0.1),
    "round": jnp.round,
    "constants": lambda x: 3 * x / 7 - 2,
    "mask": lambda x: x * (jnp.arange(6) > 2).astype(float),
    "dropout": lambda x: jnp.where(jnp.arange(6) > 2, 2 * x, 0.0),
    "layer norm": lambda x: centred(x) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5) * scale + shift,
    "rms norm": lambda x: x * lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6) * scale,
    "batch norm": lambda x: (x - x.mean(0)) / jnp.sqrt(x.var(0) + 1e-5),
    "unit norm": lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True),
    "our layer norm": lambda x: fg.layers.layer_norm(x, scale, shift),
    "log softmax": jax.nn.log_softmax,
}


@pytest.mark.parametrize("name", UNCHANGED)
def test_relevance_passes_unchanged(name):
    function = UNCHANGED[name]
    equal(share(function, lrp.epsilon(), y, R), R)
    equal(share(jax.vmap(function), lrp.epsilon(), y[None], R[None])[0], R)


def test_relevance_moves_along():
    def moved(x):
        return jnp.concatenate([x[:, ::-1], x[:, :2]], 1).T.reshape(4, 4).astype(jnp.float32)

    Q = some(4, 4).astype(jnp.float32)
    back = Q.astype(float).reshape(8, 2).T
    equal(share(moved, lrp.epsilon(), y, Q), back[:, 5::-1].at[:, :2].add(back[:, 6:]))


def test_what_a_constant_contributes_is_lost_where_it_stands_alone():
    where = jnp.arange(6) > 2
    equal(share(lambda x: jnp.where(where, x, 7.0), lrp.epsilon(), y, R), jnp.where(where, R, 0))


def test_sums_share_in_proportion():
    def residual(x):
        return x + x @ jnp.diag(scale)

    equal(share(residual, lrp.zero(), y, R), R)
    shares = fg.vjp(lambda x, y: x + y, y, 2 * y, rules=lrp.zero())[1](R)
    equal(shares[0], R / 3)
    equal(shares[1], 2 * R / 3)
    equal(
        share(lambda x: x.mean(-1), lrp.zero(), y, R[:, 0]), y / y.sum(-1, keepdims=True) * R[:, :1]
    )


SOFTMAX = {
    "jax": jax.nn.softmax,
    "by hand": lambda x: jnp.exp(x) / jnp.exp(x).sum(-1, keepdims=True),
    "shifted": lambda x: (lambda e: e / e.sum(-1)[:, None])(jnp.exp(x - x.max(-1)[:, None])),
    "twice": lambda x: jnp.exp(x - x.max()) / jnp.exp(x - x.max()).sum(-1, keepdims=True),
    "ours": fg.layers.softmax,
    "of columns": lambda x: jax.nn.softmax(x.T, axis=0).T,
}


@pytest.mark.parametrize("name", SOFTMAX)
def test_softmax_by_taylors_rule(name):
    s = jax.nn.softmax(y)
    due = y * (R - s * R.sum(-1, keepdims=True))
    equal(share(SOFTMAX[name], lrp.epsilon(), y, R), due)


@pytest.mark.parametrize("low", [-jnp.inf, -1e9])
def test_a_masked_softmax(low):
    mask = jnp.array([1, 1, 0, 1, 0, 1], bool)
    s, Q = jax.nn.softmax(jnp.where(mask, y, -jnp.inf)), jnp.where(mask, R, 0)
    due = jnp.where(mask, y * (Q - s * Q.sum(-1, keepdims=True)), 0)
    equal(share(lambda x: jax.nn.softmax(jnp.where(mask, x, low)), lrp.epsilon(), y, Q), due)


def test_two_factors_share_evenly():
    A, B, Q = some(2, 3, 4), some(2, 4, 5), some(2, 3, 5)
    of_A, of_B = fg.vjp(jnp.matmul, A, B, rules=lrp.zero())[1](Q)
    part = Q / (2 * (A @ B))
    equal(of_A, A * (part @ B.transpose(0, 2, 1)))
    equal(of_B, B * (A.transpose(0, 2, 1) @ part))
    gates = fg.vjp(lambda x, y: x * jnp.tanh(y), y, y, rules=lrp.zero())[1](R)
    equal(gates[0], R / 2)
    equal(gates[1], R / 2)


# --- What is conserved ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_a_residual_network_without_biases_conserves(dtype):
    kernels = [some(6, 6).astype(dtype) / 3 for _ in range(6)]

    @jax.jit
    def residual(x):
        for first, second in zip(kernels[::2], kernels[1::2], strict=True):
            x = jax.nn.relu(x + jax.nn.relu(x @ first) @ second)
        return x

    at = jnp.abs(y).astype(dtype)
    out = residual(at)
    for book in (lrp.zero(), lrp.epsilon(), lrp.gamma(), lrp.epsilon_plus()):
        found = share(residual, book, at, out)
        assert found.dtype == dtype
        np.testing.assert_allclose(found.sum(1), out.sum(1), rtol=1e-5)


# --- Books ----------------------------------------------------------------------------------------


def test_equal_parameters_make_equal_books():
    box = lrp.zbox(np.zeros(3), np.ones(3))
    for one, same, other in (
        (lrp.epsilon(1), lrp.epsilon(1.0), lrp.epsilon(2.0)),
        (lrp.zplus(), lrp.alpha_beta(1, 0), lrp.alpha_beta(2, 1)),
        (box, lrp.zbox([0.0] * 3, jnp.ones(3)), lrp.zbox(0.0, 1.0)),
        (lrp.epsilon_plus(), lrp.epsilon_plus(), lrp.epsilon_plus_flat()),
        (lrp.zero(), lrp.zero(), lrp.epsilon(0.0)),
    ):
        assert one == same
        assert hash(one) == hash(same)
        assert one != other


jitted = jax.jit(network)


def test_books_do_not_leak_between_jitted_calls():
    books = [*BOOKS, lrp.epsilon(0.2), fg.rules, fg.rules.replace({"tanh": lambda g, z, x: g})]
    expected = [share(network, book) for book in books]
    compiled = [jax.jit(lambda x, book=book: share(jitted, book, x)) for book in books]
    static = jax.jit(lambda x, book: share(jitted, book, x), static_argnames="book")
    for order in (range(len(books)), reversed(range(len(books)))):
        for i in order:
            equal(share(jitted, books[i]), expected[i])
            equal(compiled[i](x), expected[i])
            equal(static(x, books[i]), expected[i])


def test_the_relevance_at_every_node_is_that_of_one_pass():
    book = lrp.zplus()
    out, found = fg.gradients(named, cotangent=relevance, rules=book)(x)
    equal(out, network(x))
    at_z = share(lambda z: jax.nn.relu(z) @ V + c, book, x @ W + b)
    for label in ("z", "product"):  # bias and product are one layer: its output is z
        equal(found[label], at_z)
    equal(found["out"], relevance)


def test_composites_by_depth_selector_and_kind():
    def two(x):
        with jax.named_scope("first"):
            x = jax.nn.relu(x @ W + b)
        with jax.named_scope("second"):
            return x @ V + c

    def mixed(first, second):
        R = share(lambda h: h @ V + c, second, jax.nn.relu(x @ W + b))
        return share(lambda x: jax.nn.relu(x @ W + b), first, x, R)

    flat, gamma = lrp.flat(), lrp.gamma()
    equal(share(two, lrp.composite({0: flat, -1: gamma})), mixed(flat, gamma))
    equal(share(two, lrp.composite({range(2): flat})), mixed(flat, flat))
    equal(share(two, lrp.composite({fg.at(scope="second"): gamma}, flat)), mixed(flat, gamma))
    by_both = lrp.composite({"dot_general": gamma, fg.at(scope="first"): lrp.zplus(), 0: flat})
    equal(share(two, by_both), mixed(flat, gamma))
    equal(share(jax.jit(two), by_both), mixed(flat, gamma))
    with pytest.raises(LookupError, match="third"):
        share(two, lrp.composite({fg.at(scope="third"): flat}))


def test_rules_of_ones_own_beside():
    halved = lrp.zero().replace({"tanh": lambda R, z, x: R / 2})
    equal(share(lambda x: jnp.tanh(x @ W), halved, R=some(3, 4) * 0 + 1).sum(), 6.0)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: lrp.epsilon(-1), ValueError, "epsilon must be a number that is not negative"),
        (lambda: lrp.gamma(float("nan")), ValueError, "gamma must be a number"),
        (lambda: lrp.alpha_beta(2, 2), ValueError, r"alpha - beta must be 1"),
        (lambda: lrp.zbox(1, 0), ValueError, "low must not exceed high"),
        (lambda: lrp.zbox(0, np.inf), ValueError, "high must be finite"),
        (lambda: lrp.composite({"conv": lrp.zplus()}), TypeError, "'conv' is no kind of layer"),
        (lambda: lrp.composite({0: fg.rules}), TypeError, r"books\[0\] must be a book of"),
        (lambda: lrp.composite({0.5: lrp.zplus()}), TypeError, "a key is a depth"),
        (
            lambda: share(network, lrp.zbox(np.zeros(3), np.ones(3))),
            ValueError,
            r"bounds of shape \[3\], its layer an input of shape",
        ),
    ],
)
def test_bad_arguments_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()

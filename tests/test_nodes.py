"""Values, gradients and replacements at nodes; the witness is a zero added by hand."""

import equinox as eqx
import jax
import numpy as np
import pytest
from flax import linen, nnx
from jax import lax
from jax import numpy as jnp

import fungrad as fg
from tests.ways import QUICK


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def assert_close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def quick(fun, *args):
    return jax.jit(fun, compiler_options=QUICK)(*args)


# --- Five models, and copies of them with a zero at each name -------------------------------------
#
# A model calls mark(value, name, zeros). The model of the user's names the value, and knows nothing
# of zeros; the copy adds one. Inside a loop or a map the copy gets its slice of the zeros.


def named(value, label, _):
    return fg.name(value, label)


def moved(value, label, zeros):
    return value + zeros[label]


def cnn(mark, zeros, x):
    for i in range(2):
        kernel = normal(i, 3, 3, x.shape[-1], 4) / 3
        x = lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = mark(x, f"conv{i}", zeros)
        x = mark(jax.nn.relu((x - jnp.mean(x)) * lax.rsqrt(jnp.var(x))), f"relu{i}", zeros)
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    logits = mark(x.reshape(len(x), -1) @ normal(4, 16, 3), "logits", zeros)
    return -jnp.mean(jax.nn.log_softmax(logits)[:, 0])


def transformer(mark, zeros, x):
    @jax.checkpoint
    def block(x):
        q, k, v = (jnp.einsum("btd,dhe->bhte", x, normal(i, 8, 2, 4) / 3) for i in range(3))
        scores = mark(jnp.einsum("bhte,bhse->bhts", q, k) / 2, "scores", zeros)
        causal = np.tril(np.ones(scores.shape[-2:], bool))
        weights = mark(jax.nn.softmax(jnp.where(causal, scores, -1e30)), "weights", zeros)
        x = x + jnp.einsum("bhts,bhse,hed->btd", weights, v, normal(3, 2, 4, 8) / 3)
        hidden = mark(jax.jit(jax.nn.gelu)(x @ normal(4, 8, 12)), "hidden", zeros)
        return mark(x + hidden @ normal(5, 12, 8), "out", zeros)

    return jnp.mean(block(x) ** 2)


def lstm(mark, zeros, x):
    def step(state, scanned):
        (h, c), (x, zeros) = state, scanned
        gates = x @ normal(0, 8, 24) / 3 + h @ normal(1, 6, 24) / 3
        i, f, g, o = jnp.split(mark(gates, "gates", zeros), 4, axis=-1)
        c = mark(jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g), "c", zeros)
        h = mark(jax.nn.sigmoid(o) * jnp.tanh(c), "h", zeros)
        return (h, c), h

    start = (jnp.zeros((len(x), 6)),) * 2
    (h, _), hs = lax.scan(step, start, (jnp.swapaxes(x, 0, 1), zeros))
    return jnp.sum(h**2) + jnp.mean(hs)


def vmapped(mark, zeros, x):
    def of_one(x, zeros):
        h = mark(jnp.tanh(x @ normal(0, 8, 5)), "h", zeros)
        return mark(jnp.max(h) * h, "scaled", zeros)

    return jnp.sum(jax.vmap(of_one)(x.reshape(-1, 8), zeros) ** 3)


def conditional(mark, zeros, x):
    def wave(x, zeros):
        return mark(jnp.sin(x), "wave", zeros) ** 2

    def ramp(x, zeros):
        return x * mark(jnp.exp(-x), "ramp", zeros)

    def step(x, scanned):
        i, zeros = scanned
        x = lax.switch(i % 2, [wave, ramp], x, zeros)
        return mark(x, "state", zeros), None

    x, _ = lax.scan(step, x, (np.arange(5), zeros))
    return jnp.sum(x**2)


MODELS = {
    "cnn": (cnn, normal(10, 2, 8, 8, 3)),
    "transformer": (transformer, normal(11, 2, 5, 8)),
    "lstm": (lstm, normal(12, 2, 5, 8)),
    "vmapped": (vmapped, normal(13, 4, 8)),
    "conditional": (conditional, normal(14, 6)),
}


@pytest.mark.parametrize("model", MODELS)
def test_gradients_are_those_at_zeros_added_by_hand(model):
    model, x = MODELS[model]

    def unmodified(x):
        return model(named, {}, x)

    def both(x):
        out, ours = fg.gradients(unmodified)(x)
        zeros = {node.label: ours[node.label] * 0 for node in graph if node.name}
        by_hand = jax.value_and_grad(lambda zeros: model(moved, zeros, x))(zeros)
        return (out, ours), by_hand

    graph = fg.trace(unmodified)(x)
    (out, ours), (expected, by_hand) = quick(both, x)
    assert_close(out, expected)
    assert len(ours) > len(by_hand) >= 2
    for label, g in by_hand.items():
        assert_close(ours[label], g)
    assert all(np.abs(g).max() > 0 for g in by_hand.values())


@pytest.mark.parametrize("model", MODELS)
def test_a_zero_is_added_at_every_node_by_replace(model):
    """`replace` with h ↦ h + δ is the same witness, at nodes without a name too."""
    model, x = MODELS[model]

    def unmodified(x):
        return model(named, {}, x)

    graph = fg.trace(unmodified)(x)
    labels = jax.eval_shape(fg.gradients(unmodified), x)[1]
    nodes = [n for n in graph if n.label in labels and len(n.outputs) == 1]
    nodes = nodes[:: max(1, len(nodes) // 5)]

    def slope_along(node):
        alike = fg.at(primitive=node.primitive)
        where = fg.at(primitive=node.primitive, index=graph.find(alike).index(node))
        return jax.grad(lambda d: fg.replace(unmodified, {where: lambda h: h + d})(x))(0.0)

    def both(x):
        _, g = fg.gradients(unmodified)(x)
        return [jnp.sum(g[n.label]) for n in nodes], [slope_along(n) for n in nodes]

    for ours, expected in zip(*quick(both, x), strict=True):
        assert_close(ours, expected)


# --- Values ---------------------------------------------------------------------------------------


def test_values_of_everything_that_depends_on_an_argument():
    @jax.jit
    def gate(x):
        return jnp.tanh(x) * jnp.cos(np.arange(3.0))

    def fun(x):
        return jnp.sum(gate(2 * x) * (jnp.arange(3.0) + 1))

    x = normal(0, 3)
    out, values = fg.values(fun)(x)
    assert_close(out, fun(x))
    assert list(values) == ["mul", "gate", "tanh", "mul:1", "mul:2", "reduce_sum"]
    assert_close(values["tanh"], np.tanh(2 * x))
    assert_close(values["gate"], np.tanh(2 * x) * np.cos(np.arange(3)))
    assert_close(quick(fg.values(fun, fg.at(primitive="tanh")), x)[1]["tanh"], values["tanh"])


def test_masks_are_stacked_along_scans():
    model, x = MODELS["conditional"]
    _, masks = fg.nodes.taken(lambda x: model(named, {}, x), fg.at("wave") | fg.at("ramp"))(x)
    assert masks["wave"].tolist() == [True, False, True, False, True]
    assert (masks["ramp"] ^ masks["wave"]).all()


def test_vmap_jit_and_derivatives_of_values_and_gradients():
    def fun(x):
        return jnp.sum(fg.name(jnp.sin(x), "s") ** 3)

    x = normal(0, 4, 3)
    s = np.sin(x)
    assert_close(jax.vmap(fg.values(fun, "s"))(x)[1]["s"], s)
    assert_close(quick(jax.vmap(fg.gradients(fun, "s")), x)[1]["s"], 3 * s**2)
    for library in (jax, fg):
        slope = library.grad(lambda x: jnp.sum(fg.gradients(fun, "s")(x)[1]["s"]))(x)
        assert_close(slope, 6 * s * np.cos(x))
        assert_close(library.grad(lambda x: fg.values(fun, "s")(x)[1]["s"].sum())(x), np.cos(x))


def test_the_axis_of_examples_leads_named_values():
    """JAX's own rule leaves that of W @ x behind."""
    x, W = normal(0, 2, 4, 3), normal(1, 5, 3)

    def of_one(x):
        return jnp.sum(fg.name(W @ x, "h") ** 2)

    def looped(x):
        return lax.scan(lambda c, _: (c + of_one(x), None), 0.0, None, length=2)[0]

    h = x @ W.T
    for fun, shape in [(of_one, h.shape), (jax.jit(of_one), h.shape), (looped, (2, *h.shape))]:

        def batched(x, fun=fun):
            return jnp.sum(jax.vmap(jax.vmap(fun), in_axes=1, out_axes=1)(x.swapaxes(0, 1)))

        assert_close(fg.values(batched, "h")(x)[1]["h"], jnp.broadcast_to(h, shape))
        assert_close(fg.gradients(batched, "h")(x)[1]["h"], jnp.broadcast_to(2 * h, shape))


def test_nodes_of_several_outputs_are_tuples():
    def fun(x):
        values, places = lax.top_k(x, 2)
        return jnp.sum(values**2) + places[0].astype(float)

    x = jnp.array([1.0, 3.0, 2.0])
    out, values = fg.values(fun, fg.at(primitive="top_k"))(x)
    assert [entry.tolist() for entry in values["top_k"]] == [[3, 2], [1, 2]]
    _, g = fg.gradients(fun, fg.at(primitive="top_k"))(x)
    assert g["top_k"][0].tolist() == [6, 4]
    assert g["top_k"][1].dtype == jax.dtypes.float0
    swapped = fg.replace(fun, {fg.at(primitive="top_k"): lambda pair: (2 * pair[0], pair[1])})
    assert_close(swapped(x), 4 * (out - 1) + 1)


def test_a_rulebook_decides_the_gradients_at_nodes():
    def fun(x):
        return jnp.sum(jnp.tanh(fg.name(3 * x, "h")))

    straight = fg.rules.replace({"tanh": lambda g, out, x: g})
    _, g = fg.gradients(fun, "h", rules=straight)(normal(0, 3))
    assert g["h"].tolist() == [1, 1, 1]


# --- What is refused ------------------------------------------------------------------------------


def test_what_cannot_be_entered_is_left_out_beside_others():
    def fun(x):
        return jnp.sum(x.at[0].add(2 * x[1]) + 1)  # the scatter holds an addition of its own

    x = normal(0, 3)
    _, sums = fg.values(fun, fg.at(primitive="add"))(x)
    assert [value.shape for value in sums.values()] == [(3,)]
    (inner,) = [node for node in fg.trace(fun)(x) if node.path and node.primitive == "add"]
    with pytest.raises(
        NotImplementedError, match=f"'{inner.label}' is inside the 'scatter-add' at"
    ):
        fg.values(fun, inner.label)(x)


def test_what_cannot_be_asked_is_said():
    x = normal(0, 2)
    for ask in (
        fg.values(jnp.sin, "no"),
        fg.gradients(jnp.sin, "no"),
        fg.replace(jnp.sin, {"no": x}),
    ):
        with pytest.raises(LookupError, match="no node matches 'no'; the nearest labels are"):
            ask(x)
    with pytest.raises(TypeError, match=r"no real scalar, float64\[2\], need .*cotangent="):
        fg.gradients(jnp.sin)(x)
    with pytest.raises(TypeError, match=r"'argmax'.*of which none is of floats"):
        fg.gradients(lambda x: x[jnp.argmax(x)], fg.at(primitive="argmax"))(x)
    for ask in (fg.values, fg.gradients, fg.nodes.taken, lambda fun: fg.replace(fun, {})):
        with pytest.raises(TypeError, match="fun must be a function, got 3"):
            ask(3)
    with pytest.raises(TypeError, match="replacements must be a dictionary"):
        fg.replace(jnp.sin, [x])


# --- Costs ----------------------------------------------------------------------------------------


def test_one_backward_pass_of_the_same_size_serves_all_nodes():
    """No equation computes anything that the plain gradient does not compute."""

    def fun(x):
        for i in range(6):
            x = jnp.sin(normal(i, 4, 4) @ x)
        return jnp.sum(x)

    def operations(fun):
        compiled = jax.jit(fun).lower(normal(0, 4)).compile()
        return compiled.cost_analysis()["flops"]

    def equations(fun):
        return len(fg.trace(fun)(normal(0, 4)))

    assert operations(fg.gradients(fun)) <= operations(fg.grad(fun))
    assert equations(fg.gradients(fun)) <= equations(fg.value_and_grad(fun)) + 2  # 12 nodes


# --- Libraries ------------------------------------------------------------------------------------


class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.relu(linen.Dense(4, param_dtype=float, name="first")(x))
        return linen.Dense(1, param_dtype=float, name="second")(x).sum()


class NNXNet(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(3, 4, param_dtype=float, dtype=float, rngs=rngs)
        self.second = nnx.Linear(4, 1, param_dtype=float, dtype=float, rngs=rngs)

    def __call__(self, x):
        return self.second(nnx.relu(self.first(x))).sum()


def models_of_libraries():
    x = normal(0, 2, 3)
    linen_net = LinenNet()
    params = linen_net.init(jax.random.key(0), x)
    yield "linen", linen_net.apply, (params, x)
    yield "nnx", NNXNet(nnx.Rngs(0)), (x,)
    yield "nnx argument", lambda model, x: model(x), (NNXNet(nnx.Rngs(0)), x)
    mlp = eqx.nn.MLP(3, 1, 4, 1, dtype=float, key=jax.random.key(0))
    yield "equinox", lambda model, x: jax.vmap(model)(x).sum(), (mlp, x)


def test_models_of_libraries_as_they_are():
    with jax.numpy_dtype_promotion("standard"):
        for name, model, args in models_of_libraries():
            relu = fg.at(function="relu", index=0)
            out, values = fg.values(model, relu)(*args)
            _, g = fg.gradients(model, relu)(*args)
            ((label, h),) = values.items()
            assert h.shape == (2, 4), name
            assert float(h.min()) == 0, name
            doubled = fg.replace(model, {relu: lambda h: 2 * h})(*args)
            # What follows is affine, f(2h) − f(h) = ∂f/∂h · h.
            assert_close(doubled - out, jnp.vdot(g[label], h))


def test_numbers_that_are_attributes_of_a_model_stay_numbers():
    """Equinox's dropout asks whether its rate is Python's 0."""
    attention = eqx.nn.MultiheadAttention(1, 2, dtype=float, key=jax.random.key(0))
    _, values = fg.values(lambda model, x: model(x, x, x), fg.at(function="softmax", index=-1))(
        attention, normal(0, 3, 2)
    )
    (weights,) = values.values()
    assert_close(weights.sum(-1), 1.0)

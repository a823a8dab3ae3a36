import time
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fungrad as fg
from docs import generate
from fungrad.inspect import Box, Operation

W, B, X = jnp.array([[1.0, -3.0], [0.2, 1.0]]), jnp.array([0.5, -0.5]), jnp.array([1.0, 0.1])


def neuron(w, x, b, y):
    return (jnp.tanh(w * x + b) - y) ** 2


def boxes(drawing):
    return [item for item in drawing.items if isinstance(item, Box)]


def operations(drawing):
    return [item.symbol for item in drawing.items if isinstance(item, Operation)]


def named(drawing):
    return {box.name: box for box in boxes(drawing) if box.name}


SVG = "{http://www.w3.org/2000/svg}"


def cells(svg):
    """The texts of the picture's boxes and circles, by class."""
    root = ElementTree.fromstring(svg)
    texts = root.iter(f"{SVG}text")
    return [(text.get("class"), text.text) for text in texts]


# ---- values and gradients -----------------------------------------------------------------------


def test_every_edge_of_a_neuron():
    w, x, b, y = 0.5, 2.0, -0.2, 1.0
    drawing = fg.draw(neuron)(w, x, b, y)
    h = np.tanh(w * x + b)
    g_h = 2 * (h - y)
    g_z = g_h * (1 - h * h)
    expected = [
        ("w", w, g_z * x),
        ("x", x, g_z * w),
        ("b", b, g_z),
        ("y", y, -g_h),
        ("", w * x, g_z),
        ("", w * x + b, g_z),
        ("", h, g_h),
        ("", h - y, g_h),
        ("neuron", (h - y) ** 2, 1.0),
    ]
    for box, (name, value, gradient) in zip(boxes(drawing), expected, strict=True):
        assert box.name == name
        np.testing.assert_allclose(box.value, value, rtol=1e-12)
        np.testing.assert_allclose(box.gradient, gradient, rtol=1e-12)
    assert operations(drawing) == ["×", "+", "tanh", "−", "x²"]


def test_an_edge_that_forks_shows_the_sum_over_its_uses():
    drawing = fg.draw(lambda x: jnp.sin(fg.name(x * x, "u")) * fg.name(x, "v"))(0.7)
    edges = named(drawing)
    np.testing.assert_allclose(edges["v"].gradient, np.sin(0.49), rtol=1e-12)
    np.testing.assert_allclose(edges["u"].gradient, np.cos(0.49) * 0.7, rtol=1e-12)
    by_x = np.sin(0.49) + 2 * 0.49 * np.cos(0.49)
    np.testing.assert_allclose(edges["x"].gradient, by_x, rtol=1e-12)


def network(params, x, label):
    h = fg.name(fg.layers.relu(fg.layers.linear(x, params["W"], params["b"])), "h")
    return fg.losses.cross_entropy(h, label)


def test_gradients_of_arguments_are_those_of_grad():
    params, label = {"W": W, "b": B}, jnp.array(1)
    edges = named(fg.draw(network)(params, X, label=label))
    g_params, g_x = fg.grad(network, argnums=(0, 1))(params, X, label)
    for name, g in {"params.W": g_params["W"], "params.b": g_params["b"], "x": g_x}.items():
        np.testing.assert_allclose(edges[name].gradient, g, rtol=1e-12)
    assert edges["label"].gradient is None
    assert edges["h"].cells["value"] == "1.2, 0"
    assert edges["params.W"].cells["name"] == "params.W [2×2]"


def test_calls_are_one_operation_with_the_name_of_the_function():
    @jax.jit
    def cube(x):
        return x * x * x

    def fun(x):
        last, ys = jax.lax.scan(lambda c, _: (jnp.sin(c), c * c), cube(x), None, length=3)
        return last + jnp.sum(ys) + jax.lax.cond(x > 0, jnp.cos, jnp.sin, x)

    drawing = fg.draw(fun)(0.5)
    assert {"cube", "scan", "cond"} <= set(operations(drawing))
    expected = jax.grad(fun)(0.5)
    np.testing.assert_allclose(named(drawing)["x"].gradient, expected, rtol=1e-12)
    scan = drawing.items.index(Operation("scan"))
    assert sum(start == scan for start, _ in drawing.links) == 2


def test_values_are_those_of_the_function_to_the_sign_of_a_zero():
    drawing = fg.draw(lambda x: 1 / -jnp.abs(x))(0.0)
    assert boxes(drawing)[-1].value == -np.inf


def test_other_rules_and_a_cotangent():
    def step(x):
        return jnp.round(x) * 3

    assert named(fg.draw(step)(0.7))["x"].gradient == 0
    through = fg.rules.replace({"round": lambda g, out, x: g})
    assert named(fg.draw(step, rules=through)(0.7))["x"].gradient == 3
    drawing = fg.draw(lambda x: (W @ x, x[0]), cotangent=(jnp.array([1.0, 0.0]), 10.0))(X)
    np.testing.assert_allclose(named(drawing)["x"].gradient, [11.0, -3.0], rtol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64, jnp.complex128])
def test_formats(dtype):
    drawing = fg.draw(lambda x: x * x, cotangent=jnp.ones((2,), dtype))(jnp.array([1, 2], dtype))
    assert {box.gradient.dtype for box in boxes(drawing)} == {jnp.dtype(dtype)}
    assert {box.value.dtype for box in boxes(drawing)} == {jnp.dtype(dtype)}


# ---- names and items ----------------------------------------------------------------------------


def test_a_name_that_is_the_only_use_of_an_edge_is_no_node():
    drawing = fg.draw(lambda x: fg.name(jnp.exp(x), "e") * 2.0)(0.0)
    assert operations(drawing) == ["exp", "×"]
    assert [box.name for box in boxes(drawing)] == ["x", "e", "", "out"]


def test_a_name_beside_other_uses_is_a_node_with_its_own_gradient():
    def fun(x):
        e = jnp.exp(x)
        return fg.name(e, "e") * e

    drawing = fg.draw(fun)(0.0)
    assert operations(drawing) == ["exp", "name", "×"]
    assert [float(box.gradient) for box in boxes(drawing)] == [2.0, 2.0, 1.0, 1.0]


def test_names_of_arguments():
    drawing = fg.draw(lambda a, *rest, k, **more: a * rest[0] * k * more["m"])
    assert set(named(drawing(1.0, 2.0, k=3.0, m=4.0))) == {"a", "rest.0", "k", "more.m", "out"}


def test_python_integers_may_steer_python_code():
    def power(x, n):
        return x * power(x, n - 1) if n > 1 else x

    assert operations(fg.draw(power)(2.0, 3)) == ["×", "×"]


def test_constants_and_random_keys():
    def fun(key, x):
        return jnp.sum(x * jnp.arange(1.0, 3.0) * jax.random.bernoulli(key, 0.5).astype(x.dtype))

    texts = [text for _, text in cells(fg.draw(fun)(jax.random.key(0), jnp.ones(2)).svg)]
    assert "key<fry>" in texts


@pytest.mark.parametrize("fun", [lambda x: 1.0, lambda x: x])
def test_graphs_of_no_operation(fun):
    drawing = fg.draw(fun)(2.0)
    assert operations(drawing) == []
    ElementTree.fromstring(drawing.svg)


# ---- the picture --------------------------------------------------------------------------------


def test_the_picture_shows_the_cells():
    shown = cells(fg.draw(lambda w, x: -(w * x))(2.0, -1.5).svg)
    assert shown == [
        ("name", "w"),
        ("value", "2"),
        ("gradient", "1.5"),
        ("name", "x"),
        ("value", "−1.5"),
        ("gradient", "−2"),
        ("symbol", "×"),
        ("value", "−3"),
        ("gradient", "−1"),
        ("symbol", "−"),
        ("name", "out"),
        ("value", "3"),
        ("gradient", "1"),
        ("name", "name"),
        ("value", "value"),
        ("gradient", "gradient"),
        ("name", "2"),
        ("name", "3"),
        ("gradient", "1"),
        ("gradient", "2"),
    ]


def shades(drawing):
    """The opacity of every coloured cell, by what it shows."""
    root = ElementTree.fromstring(drawing.svg)
    found = [(r.get("class"), r.get("fill-opacity")) for r in root.iter(f"{SVG}rect")]
    return [(css, opacity) for css, opacity in found if css.startswith("of-")]


def test_the_larger_a_number_the_deeper_its_colour():
    drawing = fg.draw(lambda x, y: jnp.sum(x * 1e-6 + y))(jnp.ones(2), jnp.array([1e3, -1e3]))
    gradients = [float(a) for css, a in shades(drawing)[:-10] if css == "of-gradient"]
    assert min(gradients) == 0.1  # ∂J/∂x = 1e-6, the smallest that is not zero
    assert max(gradients) == 0.5
    assert gradients.count(0.1) == 1


def test_numbers_that_are_none_have_a_colour_of_their_own_and_zeros_none():
    drawing = fg.draw(lambda x: jnp.log(x) * 0.0)(0.0)
    kinds = [css for css, _ in shades(drawing)]
    assert "of-nothing" in kinds
    assert "of-nothing" not in [css for css, _ in shades(fg.draw(lambda x: x * 0.0)(0.0))]


def test_large_arrays_tell_more_when_pointed_at():
    svg = fg.draw(lambda x: jnp.sum(x * x))(jnp.arange(4.0)).svg
    notes = [title.text for title in ElementTree.fromstring(svg).iter(f"{SVG}title")]
    assert "x float64[4]\nvalue: from 0 to 3, root mean square 1.871" in notes[1]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-0.0, "0"),
        (np.float32(1e-7), "1e−07"),
        (12345, "12345"),
        (1.5 - 2j, "1.5−2j"),
        (np.array([True, False]), "True, False"),
        (np.arange(4), "0, 1, …"),
        (np.zeros((0, 3)), "empty"),
        (float("nan"), "nan"),
    ],
)
def test_numbers_are_short(value, text):
    assert Box("", value).cells["value"] == text


def test_names_are_escaped():
    drawing = fg.draw(lambda x: fg.name(jnp.exp(x), "a<b&c\x01"))(1.0)
    assert ("name", "a<b&c\ufffd") in cells(drawing.svg)


def test_a_drawing_is_shown_printed_and_saved(tmp_path):
    drawing = fg.draw(neuron)(0.5, 2.0, -0.2, 1.0)
    assert drawing._repr_svg_() == drawing.svg == fg.draw(neuron)(0.5, 2.0, -0.2, 1.0).svg
    assert "prefers-color-scheme: dark" in drawing.svg
    drawing.save(tmp_path / "neuron.svg")
    assert (tmp_path / "neuron.svg").read_text("utf-8") == drawing.svg
    assert repr(drawing) == "Drawing(9 edges, 5 nodes)"
    assert str(drawing).splitlines()[-1].startswith("x² neuron")


def test_the_pictures_of_the_pages_are_current():
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        pictures = {generate.HERE / "graph.svg": generate.graph(), **generate.drawings()}
    assert len(pictures) == 4
    for file, picture in pictures.items():
        assert file.read_text("utf-8") == picture, "run `make docs`"


# ---- scopes -------------------------------------------------------------------------------------


@jax.jit
def norm(x):
    with jax.named_scope("squares"):
        s = jnp.sum(x * x)
    return jnp.sqrt(s)


def scoped(W, x):
    for i in range(2):
        with jax.named_scope(f"block{i}"):
            with jax.named_scope("linear"):
                z = W @ x
            x = jnp.tanh(z) + x
    return norm(x)


@pytest.mark.parametrize(
    ("unfold", "shown"),
    [
        (False, ["block0", "block1", "norm"]),
        ("block1", ["block0", "linear", "tanh", "+", "norm"]),
        ("block*", ["linear", "tanh", "+", "linear", "tanh", "+", "norm"]),
        (["block0/linear", "norm"], ["·", "tanh", "+", "block1", "squares", "√"]),
        (True, ["·", "tanh", "+", "·", "tanh", "+", "×", "Σ", "√"]),
    ],
)
def test_scopes_and_functions_are_folded_unless_they_are_named(unfold, shown):
    drawing = fg.draw(scoped, unfold=unfold)(W, X)
    assert operations(drawing) == shown
    gradients = jax.grad(scoped, (0, 1))(W, X)
    for name, g in zip("Wx", gradients, strict=True):
        np.testing.assert_allclose(named(drawing)[name].gradient, g, rtol=1e-12)
    folded = {item.symbol for item in drawing.items if getattr(item, "folded", False)}
    assert folded == {*shown} & {"block0", "block1", "linear", "norm", "squares"}


def test_refuses_to_unfold_what_is_not_there():
    with pytest.raises(
        LookupError, match=r"called 'block9'; there are \['block0', 'block0/linear'"
    ):
        fg.draw(scoped, unfold="block9")(W, X)


def test_what_no_argument_has_a_part_in_is_a_box_without_operations():
    drawing = fg.draw(lambda x: jnp.sum(x + jnp.zeros((2, 2))))(X)
    assert operations(drawing) == ["broadcast", "+", "Σ"]
    zeros = [box for box in boxes(drawing) if box.gradient is None]
    assert [box.value.shape for box in zeros] == [(2, 2)]


def long(x, turns=100):
    for i in range(turns):
        h = jnp.sin(x)
        x = x + h * (0.5 + i)
    return x


def test_what_is_wide_leads_downwards_and_each_row_is_a_step():
    drawing = fg.draw(long)(0.3)
    root = ElementTree.fromstring(drawing.svg)
    assert int(root.get("width")) < 1400 < int(root.get("height"))
    rects = [r for r in root.iter(f"{SVG}rect") if r.get("class") in ("box", "circle")]
    circles = [r for r in rects if r.get("class") == "circle"]
    results = {r.get("y"): float(r.get("x")) for r in rects if r.get("class") == "box"}
    ends = [float(r.get("x")) + float(r.get("width")) for r in circles]
    beside = [results[r.get("y")] for r in circles[1:-1:3]]
    assert len(circles) == 300
    np.testing.assert_allclose(ends[1:-1:3], beside, atol=0.2)


def test_a_thousand_nodes_take_less_than_five_seconds():
    start = time.process_time()
    drawing = fg.draw(long)(0.3, 334)
    assert len(drawing.svg) > 500_000
    assert len(operations(drawing)) == 1002
    assert time.process_time() - start < 5


# ---- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fun", "options", "error", "message"),
    [
        (jnp.sin, {}, TypeError, r"one real scalar.* returns float64\[2\]; reduce it.*cotangent="),
        (lambda x: (x[0], x[1]), {}, TypeError, r"returns float64\[\], float64\[\]"),
        (lambda x: x[0].astype(complex), {}, TypeError, r"returns complex128\[\]"),
        (lambda x: jnp.argmax(x), {}, TypeError, r"returns int64\[\]"),
        (jnp.sin, {"cotangent": jnp.ones(3)}, ValueError, r"cotangent must be like .*float64\[3\]"),
        (jnp.sin, {"cotangent": [jnp.ones(2)]}, ValueError, r"cotangent must be like .*structure"),
        (jnp.sin, {"rules": "strict"}, TypeError, "rules must be a Rulebook"),
    ],
)
def test_refuses(fun, options, error, message):
    with pytest.raises(error, match=message):
        fg.draw(fun, **options)(X)


def test_refuses_what_is_no_function_and_what_is_no_argument():
    with pytest.raises(TypeError, match="fun must be a function, got 3"):
        fg.draw(3)
    with pytest.raises(TypeError, match="missing a required argument: 'y'"):
        fg.draw(neuron)(1.0, 2.0, 3.0)


def test_refuses_arguments_that_are_traced():
    with pytest.raises(TypeError, match="draw shows values"):
        jax.jit(lambda x: fg.draw(jnp.sin)(x) and x)(1.0)


def test_refuses_other_formats(tmp_path):
    with pytest.raises(ValueError, match=r"path must end in \.svg.*graph\.png"):
        fg.draw(jnp.sin)(1.0).save(tmp_path / "graph.png")

"""fg.saved tells what crosses from the forward pass to the backward pass, byte for byte."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import fungrad as fg
from fungrad import _jax, saving
from fungrad.inspect.tables import readable
from fungrad.passes import Settings

HERE = __file__
policies = jax.checkpoint_policies


def of(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


# --- Programs -------------------------------------------------------------------------------------


def deep(ws, x):
    for w in ws:
        x = jnp.tanh(x @ w)
    return jnp.sum(x)


def relu_loop(ws, x):
    return jnp.sum(lax.scan(lambda x, w: (jax.nn.relu(x @ w), None), x, ws)[0])


def block(x, w):
    h = jax.nn.gelu(x @ w["in"]) @ w["out"]
    return x + (h - h.mean(-1, keepdims=True)) * lax.rsqrt(h.var(-1, keepdims=True) + 1e-3)


def transformer(ws, x):
    return jnp.sum(lax.scan(lambda x, w: (block(x, w), None), x, ws)[0])


def checkpointed(ws, x):
    layer = jax.checkpoint(block, policy=policies.dots_saveable)
    return jnp.sum(lax.scan(lambda x, w: (layer(x, w), None), x, ws)[0])


def loops_in_loops(w, x):
    def inner(c, _):
        return jnp.sin(c @ w), jnp.cos(c)

    def outer(c, _):
        c, ys = lax.scan(inner, c, None, length=3)
        return c * jnp.sum(ys, 0), None

    return jnp.sum(lax.scan(outer, x, None, length=5)[0])


@jax.jit
def long(x, w):
    for _ in range(12):
        x = jnp.sin(x @ w) * jnp.tanh(x)
    return x


def jitted(w, x):
    return jnp.sum(long(long(x, w), w))


def branches(x, i):
    def first(x):
        return jnp.sum(lax.sort(jnp.sin(x)) ** 3)

    def second(x):
        return jnp.sum(jnp.cumprod(lax.sort(x)))

    return lax.switch(i, [first, second, jnp.sum], x)


def dynamic(x, n):
    return jnp.sum(lax.fori_loop(0, n, lambda i, x: jnp.sin(x), x))


def dropout(x, key):
    return jnp.sum(jnp.where(jax.random.bernoulli(key, 0.5, x.shape), jnp.sin(x), 0)) ** 2


@jax.custom_vjp
def clipped(x):
    return jnp.clip(x, 0, 1)


clipped.defvjp(
    lambda x: (jnp.clip(x, 0, 1), ((x > 0) & (x < 1), jnp.sum(x))),
    lambda residuals, g: (jnp.where(residuals[0], g, 0) + residuals[1],),
)


def by_its_author(x):
    return jnp.sum(clipped(lax.sort(x)) ** 2)


WEIGHTS = {"in": of(4, 16, 64), "out": of(4, 64, 16)}
KEY = jax.eval_shape(lambda: jax.random.key(0))
PROGRAMS = {
    "deep": (deep, [of(32, 32)] * 4, of(64, 32)),
    "relu_loop": (relu_loop, of(6, 256, 256), of(8, 256)),
    "transformer": (transformer, WEIGHTS, of(128, 16)),
    "checkpointed": (checkpointed, WEIGHTS, of(128, 16)),
    "loops_in_loops": (loops_in_loops, of(300, 300), of(2, 300)),
    "jitted": (jitted, of(32, 32), of(8, 32)),
    "branches": (branches, of(100), of(dtype=jnp.int32)),
    "dynamic": (dynamic, of(50), of(dtype=jnp.int32)),
    "dropout": (dropout, of(100), KEY),
    "by_its_author": (by_its_author, of(100)),
    "half": (deep, [of(32, 32, dtype=jnp.bfloat16)] * 4, of(64, 32, dtype=jnp.bfloat16)),
}


# --- The totals are those of the program ----------------------------------------------------------


def handed_on(table, fun, args, save):
    """The bytes that the compiled forward pass hands on to the backward pass, beside arguments."""

    def forward(*args):
        return fg.vjp(fun, *args, save=save)[1].opaque_residuals

    def forward_half(*args):
        answers = _jax.evaluate(cut.forward, [args[i] for i in cut.reads])
        return answers[len(answers) - len(cut.saved) :]

    if save == "everything":  # beside what is read, the pullback holds what is not: XLA drops that
        graph, _, active, wanted = table.program
        kept = (True,) * len(wanted)
        cut = saving.split(graph, active, wanted, kept, Settings(fg.rules, save))
        forward, args = forward_half, graph.in_avals
    return _jax.lowered(forward, *args).compile().memory_analysis().output_size_in_bytes


EVERY_SAVE = {
    "automatic": None,
    "everything": "everything",
    "nothing": "nothing",
    "products": policies.dots_saveable,
}


@pytest.mark.parametrize("save", EVERY_SAVE.values(), ids=EVERY_SAVE)
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_total_is_what_the_compiled_forward_pass_hands_on(name, save):
    fun, *args = PROGRAMS[name]
    table = fg.saved(fun, tuple(range(len(args))), save=save)(*args)
    compiled = handed_on(table, fun, args, save)
    assert table.bytes <= compiled <= table.bytes + 64 * len(table.kept)


def test_a_budget_is_kept_to():
    args = [of(16, 16)] * 5, of(256, 16)
    free = fg.saved(deep)(*args)
    table = fg.saved(deep, save=free.compiled.fungrad - 1)(*args)
    assert table.bytes < free.bytes
    assert table.compiled.fungrad <= table.settings.save
    assert "for the sake of the budget" in whys(table.repeated)


def test_what_jax_keeps():
    """tanh's derivative 1 − z², a float for each of 4 × 64 × 32 elements, and 3 activations."""
    table = fg.saved(deep)([of(32, 32)] * 4, of(64, 32))
    each = 64 * 32 * 4
    assert 4 * each <= table.bytes_of_jax <= 8 * each
    assert f"jax.grad keeps {readable(table.bytes_of_jax)}" in str(table)
    refused = fg.saved(dynamic)(of(50), of(dtype=jnp.int32))
    assert refused.bytes_of_jax is None
    assert "jax.grad refuses this function" in str(refused)


# --- Counted by hand ------------------------------------------------------------------------------


def kept(fun, *args, argnums=0, **named):
    table = fg.saved(fun, argnums, **named)(*args)
    return sorted((value.type, value.bytes) for value in table.kept)


def test_relu_keeps_a_mask():
    assert kept(lambda x: jnp.sum(jax.nn.relu(lax.sort(x))), of(1000)) == [("bool[1000]", 1000)]


def test_an_argument_costs_nothing_and_so_does_what_is_closed_over():
    c = jnp.arange(300, dtype=jnp.float32)
    table = fg.saved(lambda x: {"a": [jnp.sin(x["u"]) * c * x["u"]]})({"u": of(300), "v": of(2)})
    assert (table.kept, table.bytes) == ([], 0)
    assert [value.name for value in table.arguments] == ["(closed over)", "x.u"]
    assert {value.state for value in table.arguments} == {"argument"}


def test_a_loop_keeps_one_for_each_step():
    table = fg.saved(relu_loop)(of(6, 256, 256), of(8, 256))
    loops = [value for value in table.kept if value.steps]
    assert [(value.steps, value.shape, value.dtype.name) for value in loops] == [
        ((6,), (8, 256), "bool"),
        ((6,), (8, 256), "float32"),
    ]
    assert [value.bytes for value in loops] == [6 * 8 * 256, 6 * 8 * 256 * 4]
    assert loops[1].why == "what the loop carries, before each step"
    assert {value.line for value in loops} == {relu_loop.__code__.co_firstlineno + 1}


def test_loops_in_loops_keep_one_for_each_step_of_each():
    table = fg.saved(loops_in_loops)(of(300, 300), of(2, 300))
    assert (5, 3) in {value.steps for value in table.kept}


def test_branches_share_room():
    """Both branches keep what they sort, in one slot."""
    table = fg.saved(branches)(of(100), of(dtype=jnp.int32))
    assert sorted(value.type for value in table.kept) == ["float32[100]", "int32[]"]
    assert table.bytes == 404


def test_what_a_custom_derivative_reads_is_kept():
    @jax.custom_vjp
    def chosen(x):
        return jnp.sum(x)

    chosen.defvjp(lambda x: (jnp.sum(x), x > 0), lambda mask, g: (jnp.where(mask, g, 0),))
    assert kept(lambda x: chosen(lax.sort(x)), of(100)) == [("bool[100]", 100)]


def test_policies_of_checkpoints_are_told():
    layer = jax.checkpoint(lambda x, w: jnp.sin(jnp.tanh(x @ w)), policy=policies.dots_saveable)

    def loop(ws, x):
        return jnp.sum(lax.scan(lambda x, w: (layer(x, w), None), x, ws)[0])

    table = fg.saved(loop)(of(4, 2000, 2000), of(8, 2000))
    (product,) = [value for value in table.kept if value.operations == ("dot_general",)]
    assert (product.type, product.why) == ("4 × float32[8, 2000]", "the policy of jax.checkpoint")
    assert "the policy of jax.checkpoint" in whys(table.repeated)


def test_what_is_used_nowhere_is_not_kept():
    def wasteful(x):
        jnp.exp(lax.sort(x))
        return jnp.sum(x), jnp.argmax(jnp.sin(lax.sort(x)))

    assert kept(wasteful, of(10)) == []


def test_only_the_chosen_arguments_are_differentiated():
    def product(a, b):
        return jnp.sum(lax.sort(a) * lax.sort(b))

    table = fg.saved(product, 1)(of(50), of(50))
    assert [value.type for value in table.kept] == ["float32[50]"]
    assert len(fg.saved(product, (0, 1))(of(50), of(50)).kept) == 2


def test_what_an_inner_gradient_repeats_is_not_repeated_by_the_outer_one():
    def step(x, _):
        return jnp.sin(jnp.tanh(x) * x), None

    def inner(x):
        return jnp.sum(lax.scan(step, x, None, length=5)[0])

    def outer(x):
        return jnp.sum(fg.grad(inner)(x) ** 2)

    table = fg.saved(outer, save="everything")(of(8))
    assert (table.repeated, len(table.kept) > 0) == ([], True)


def test_what_is_repeated_under_a_transformation_is_told():
    """Its scope is part of that of the transformation: vmap(jvp(...))."""
    slope = jax.vmap(lambda x: jax.jvp(lambda x: jnp.exp(jnp.sin(x)), (x,), (x,))[1])
    again = fg.saved(lambda x: jnp.sum(slope(jnp.tanh(x)) ** 2), save="nothing")(of(9)).repeated
    assert {name for v in again for name in v.operations} >= {"tanh", "sin", "cos", "exp"}


# --- Reasons --------------------------------------------------------------------------------------


def whys(values):
    return {value.why for value in values}


def test_reasons_compare_operations_with_bytes():
    table = fg.saved(deep)([of(256, 256)] * 3, of(64, 256))
    *inner, last = table.kept
    assert whys(inner) == {"in memory anyway: a product or a call reads it"}
    assert (
        last.why == "578 operations an element to repeat it, 160 to keep it"
    )  # 2 · 256 + 64, and the call
    table = fg.saved(transformer)(*PROGRAMS["transformer"][1:])
    (product,) = [value for value in table.repeated if value.operations == ("dot_general",)]
    assert product.type == "4 × float32[128, 64]"
    assert product.why == "36 operations an element to repeat it, 320 to keep it"
    assert product.bytes == 4 * 128 * 64 * 4


def test_reasons_name_who_asked():
    args = [of(32, 32)] * 4, of(64, 32)
    assert whys(fg.saved(deep, save="everything")(*args).kept) == {'asked for by save="everything"'}
    assert whys(fg.saved(deep, save="nothing")(*args).repeated) == {'asked for by save="nothing"'}
    chosen = fg.saved(deep, save=policies.dots_saveable)(*args)
    assert whys(chosen.kept) == whys(chosen.repeated) == {"the policy given as save="}


def test_other_reasons():
    assert "random bits are not repeated" in whys(fg.saved(dropout)(of(100), KEY).kept)
    (why,) = whys(fg.saved(dynamic)(of(50), of(dtype=jnp.int32)).kept)
    assert why == "a loop's checkpoints, from which it is run again"
    assert "sort is not repeated" in whys(fg.saved(by_its_author)(of(100)).kept)

    def scaled(w, x):
        return jnp.sum(lax.scan(lambda c, x: (jnp.sin(c) * jnp.exp(w) * x, None), w, x)[0])

    table = fg.saved(scaled)(of(20), of(7, 20))
    assert "the same at each step of the loop" in whys(table.repeated)


# --- The table ------------------------------------------------------------------------------------


def test_the_table_has_a_line_for_each_value():
    table = fg.saved(jitted)(of(32, 32), of(8, 32))
    assert len(table) == len(table.kept) + len(table.repeated) + len(table.arguments)
    assert [*table] == list(table.values)
    named = fg.saved(lambda x: jnp.sum(fg.name(lax.sort(x), "ordered") ** 3))(of(10))
    lines = str(named).splitlines()
    assert len(lines) == 1 + len(named) + 2
    (line,) = [line for line in lines if "ordered" in line]
    assert "test_saved.py:" in line
    assert "float32[10]" in line
    assert named._repr_markdown_().count("\n| ") == 1 + len(named)


def test_a_line_tells_where():
    """Of an operation inside a library's jit it is the line of the call."""

    def layer(x):
        y = lax.sort(x)
        return jnp.sum(jax.nn.silu(x) * jax.nn.relu(y))

    first = layer.__code__.co_firstlineno
    table = fg.saved(layer, save="everything")(of(10))
    assert {value.file for value in table.kept} == {HERE}
    lines = {value.operations[0]: value.line for value in table.kept}
    assert (lines["sort"], lines["logistic"], lines["max"]) == (first + 1, first + 2, first + 2)
    assert table.kept[0].text == "y = lax.sort(x)"
    (mask,) = fg.saved(lambda x: jnp.sum(jax.nn.relu(lax.sort(x))))(of(10)).kept
    assert (mask.operations, mask.file) == (("gt",), HERE)


def test_values_serve_as_well_as_types():
    def powers(x, n, scale=1.0):
        return sum(jnp.sum(lax.sort(x) ** i) for i in range(n)) * scale if x[0] > 0 else x

    table = fg.saved(powers, has_aux=False)(jnp.ones(5), 3, scale=2.0)
    assert table.bytes > 0
    with pytest.raises(TypeError, match="fun must be a function, got 3"):
        fg.saved(3)
    with pytest.raises(TypeError, match="requires at least 2 positional arguments"):
        fg.saved(jnp.sin, argnums=1)(of(3))
    aux = fg.saved(lambda x: (jnp.sum(jnp.sin(x)), jnp.exp(lax.sort(x))), has_aux=True)(of(3))
    assert aux.bytes == 0


def test_of_a_masked_softmax_two_arrays_are_kept():
    """The exponentials, and the masked weights that a product reads; not their quotients."""

    def attention(q, k, v):
        mask = jnp.tril(jnp.ones((64, 64), bool))
        e = jnp.exp(jnp.where(mask, q @ k.T, -9.0))
        weights = jnp.where(mask, e / jnp.sum(e, axis=1, keepdims=True), 0.0)
        return jnp.sum(jnp.sin(weights @ v))

    kept = fg.saved(attention, argnums=(0, 1, 2))(*[of(64, 32)] * 3).kept
    assert sum(value.shape == (64, 64) and value.dtype != bool for value in kept) == 2


def test_a_policy_reaches_into_loops():
    def loop(W, x):
        return jnp.sum(jax.lax.scan(lambda c, _: (jnp.sin(c @ W), None), x, None, length=5)[0])

    table = fg.saved(loop, save=jax.checkpoint_policies.dots_saveable)(of(8, 8), of(4, 8))
    products = [value for value in table.kept if value.operations == ("dot_general",)]
    assert [(value.steps, value.shape) for value in products] == [((5,), (4, 8))]


def test_rules_at_selected_nodes_read_less():
    def fun(x):
        return jnp.sum(jnp.exp(jnp.tanh(x) + jnp.sin(x)))

    straight = fg.rules.replace({fg.at(primitive="tanh"): lambda g, out, x: g})
    plain, other = (
        fg.saved(fun, rules=book, save="everything")(of(8)) for book in (None, straight)
    )
    assert other.bytes == plain.bytes - 32

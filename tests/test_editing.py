"""Graphs run with visits inside their calls: loops, branches, checkpoints, custom functions."""

from functools import partial

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

import fungrad as fg
from tests.ways import QUICK


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def assert_close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_values_in_nested_scans_are_stacked_outer_axis_first():
    def fun(x):
        def inner(c, y):
            return fg.name(c * y, "product"), None

        def outer(c, ys):
            return fg.name(lax.scan(inner, c, ys, reverse=True)[0], "state"), None

        return lax.scan(outer, x, ys)[0]

    ys = 1 + normal(0, 2, 3, 4) / 9
    _, values = fg.values(fun)(jnp.ones(4))
    c, products = np.ones(4), np.zeros((2, 3, 4))
    for i in range(2):
        for j in (2, 1, 0):
            c = products[i, j] = c * ys[i, j]
    assert_close(values["product"], products)
    assert_close(values["state"], products[:, 0])
    _, g = fg.gradients(fun, "product", cotangent=jnp.ones(4))(jnp.ones(4))
    assert_close(g["product"] * products, np.broadcast_to(c, (2, 3, 4)))


def test_the_branch_not_taken_is_zero_and_masked():
    def fun(x):
        return jnp.sum(lax.cond(x[0] > 0, lambda x: fg.name(x + 1, "a"), jnp.cos, x))

    where = fg.at("a") | fg.at(primitive="cos")
    for sign in (1.0, -1.0):
        x = sign * jnp.ones(2)
        out, values = fg.values(fun, where)(x)
        _, masks = fg.nodes.taken(fun, where)(x)
        _, g = fg.gradients(fun, where)(x)
        assert_close(out, fun(x))
        is_taken = {"a": sign > 0, "cos": sign < 0}
        assert {label: bool(mask) for label, mask in masks.items()} == is_taken
        for label, value in {"a": x + 1, "cos": np.cos(x)}.items():
            assert_close(values[label], value * float(is_taken[label]))
            assert_close(g[label], np.full(2, float(is_taken[label])))


def test_a_function_with_a_written_derivative_keeps_it_outside_of_its_body():
    @jax.custom_vjp
    def square(x):
        return fg.name(2 * x, "double") * x / 2

    square.defvjp(lambda x: (square(x), x), lambda x, g: (100 * g * x,))

    def fun(x):
        return jnp.sum(3 * square(fg.name(x, "x")))

    x = normal(0, 3)
    out, g = jax.jit(fg.gradients(fun, fg.at("x") | fg.at("double")))(x)
    assert_close(out, fun(x))
    assert_close(g["x"], 300 * x)  # its author's
    assert_close(g["double"], 1.5 * x)  # that of its body
    assert_close(fg.values(fun, "double")(x)[1]["double"], 2 * x)
    assert_close(jax.grad(lambda x: fg.values(fun, "double")(x)[0])(x), 300 * x)
    through_body = fg.replace(fun, {"double": lambda h: h})
    assert_close(jax.grad(through_body)(x), 6 * x)


# --- Checkpoints, branches ------------------------------------------------------------------------


@pytest.mark.parametrize("guards", [True, False, (True, False)])
def test_checkpoints_stay_checkpoints(guards):
    """What is inserted and what is closed over become inputs more, what is seen outputs more."""

    def fun(x, w):
        inside = jax.checkpoint(lambda x, w: jnp.sin(fg.name(w * x, "h") * y), prevent_cse=guards)
        return jnp.sum(inside(x, w))

    x, w, y, patch = (normal(i, 3) for i in range(4))
    _, values = fg.values(fun, "h")(x, w)
    _, g = fg.gradients(fun, "h")(x, w)
    assert_close(values["h"], w * x)
    assert_close(g["h"], y * np.cos(w * x * y))
    patched = fg.replace(fun, {"h": patch})
    assert_close(patched(x, w), np.sin(patch * y).sum())
    assert fg.trace(patched)(x, w).find("h")[0].path[0].primitive == "remat2"
    slope = jax.grad(lambda patch: fg.replace(fun, {"h": patch})(x, w))(patch)
    assert_close(slope, y * np.cos(patch * y))


def test_branches_that_close_over_different_values():
    def fun(x, a, b, i):
        def first(x):
            return fg.name(x * a, "first") + b

        def second(x):
            return lax.scan(lambda c, y: (fg.name(c * y, "second"), None), x, b)[0]

        return lax.switch(i, [first, second, jnp.sin], x)

    x, a, b = normal(0, 3), normal(1, 3), normal(2, 3)
    patch = normal(3, 3)

    @jax.jit
    def everything(i):
        where = fg.at("first") | fg.at("second")
        changed = fg.replace(fun, {"first": patch, "second": lambda h: h * patch})(x, a, b, i)
        return fg.values(fun, where)(x, a, b, i), changed

    products = x * np.cumprod(b)[:, None]
    expected = [
        (x * a + b, x * a, 0 * products, patch + b),
        (products[-1], 0 * x, products, products[-1] * patch**3),
        (np.sin(x), 0 * x, 0 * products, np.sin(x)),
    ]
    for i, (out, first, second, changed) in enumerate(expected):
        (ours, values), ours_changed = everything(i)
        assert_close(ours, out)
        assert_close(values["first"], first)
        assert_close(values["second"], second)
        assert_close(ours_changed, changed)


def test_values_that_python_branches_on_stay_concrete():
    def fun(x, n):
        for _ in range(int(n)):
            x = jnp.sin(x)
        return x

    _, values = fg.values(fun)(0.5, 3)
    assert list(values) == ["sin", "sin:1", "sin:2"]


# --- While loops ----------------------------------------------------------------------------------


def looping(x):
    def step(state):
        i, x = state
        x, _ = lax.scan(lambda c, y: (fg.name(c + y, "inner"), None), x, jnp.array([0.1, 0.2]))
        return i + 1, x + fg.name(jnp.sin(x) ** 2, "square")

    def goes_on(state):
        return fg.name(jnp.sum(state[1]), "sum") < 6

    return jnp.sum(lax.while_loop(goes_on, step, (0, x))[1] ** 3)


def in_python(x, change):
    """The same with other values at its nodes, and those that it had there."""
    seen = {"inner": [], "square": [], "sum": []}
    while True:
        i = len(seen["sum"])
        seen["sum"].append(jnp.sum(x))
        if seen["sum"][-1] >= 6:
            return jnp.sum(x**3), {label: jnp.array(values) for label, values in seen.items()}
        first = x + 0.1
        x = first + 0.2
        seen["inner"].append([first, x])
        seen["square"].append(change(jnp.sin(x) ** 2, i))
        x = x + seen["square"][-1]


START = jnp.array([0.2, 0.5])  # takes three steps
INSIDE = fg.at("inner") | fg.at("square") | fg.at("sum")


@pytest.mark.parametrize("max_steps", [2, 5])
def test_a_while_loop_is_stacked_along_its_first_steps(max_steps):
    """What is beyond its last step is zero; a longer loop goes on unseen."""

    def everything(x):
        asked = {"where": INSIDE, "max_steps": max_steps}
        out, values = fg.values(looping, **asked)(x)
        masks = fg.nodes.taken(looping, **asked)(x)[1]
        return out, values, masks, fg.gradients(looping, **asked)(x)[1]

    starts = jnp.stack([START, jnp.array([2.4, 2.9])])  # the second takes one step
    outs, *found = jax.jit(jax.vmap(everything), compiler_options=QUICK)(starts)
    for i, x in enumerate(starts):
        values, masks, g = ({label: a[i] for label, a in each.items()} for each in found)
        expected, due = in_python(x, lambda h, _: h)
        assert_close(outs[i], expected)
        for label, value in due.items():
            n = min(max_steps, len(value))
            assert_close(values[label][:n], value[:n])
            assert masks[label][:n].all()
            assert not any(a[label][n:].any() for a in (values, masks, g))
        zeros = jnp.zeros_like(due["square"])
        slope = jax.grad(lambda z, x=x: in_python(x, lambda h, step: h + z[step])[0])(zeros)
        assert_close(g["square"][: len(slope)], slope[:max_steps])
        # ∂inner[0]/∂inner[1] = I
        assert_close(g["inner"][:, 0], g["inner"][:, 1])
        assert not g["sum"].any()  # it decides, and decisions have no gradient


def test_replace_in_a_while_loop_all_steps_the_first_or_one():
    rows, one = normal(0, 2, 2) / 9, jnp.array([0.3, 0.4])

    def first(rows):
        return in_python(START, lambda h, i: rows[i] if i < 2 else h)[0]

    def at_one(h, iteration):
        return jnp.where(iteration == 1, one, h)

    def replaced(change):
        return fg.replace(looping, {"square": change})(START)

    changes = [
        (one, lambda h, i: one),
        (lambda h: 2 * h, lambda h, i: 2 * h),
        (at_one, lambda h, i: at_one(h, i)),
    ]

    @partial(jax.jit, compiler_options=QUICK)
    def everything(rows):
        patched = fg.value_and_grad(replaced)(rows)
        return *patched, [replaced(change) for change, _ in changes]

    out, slope, others = everything(rows)
    assert_close(out, first(rows))
    assert_close(slope, jax.grad(first)(rows))
    assert_close(others, [in_python(START, by_hand)[0] for _, by_hand in changes])


def test_what_a_while_loop_needs_is_said():
    assert list(fg.values(looping)(START)[1]) == ["while", "integer_pow:1", "reduce_sum:1"]
    for ask in (fg.values, fg.gradients, fg.nodes.taken):
        words = r"'square'.*while loop.*test_editing.py:\d+.*max_steps="
        with pytest.raises(ValueError, match=words):
            ask(looping, "square")(START)
        with pytest.raises(ValueError, match=r"max_steps must be a positive integer.* got 0"):
            ask(looping, "square", max_steps=0)
    with pytest.raises(ValueError, match=r"expected \[2\], or \[steps, 2\] for one per iteration"):
        fg.replace(looping, {"square": jnp.ones(3)})(START)
    rows = {"square": jnp.ones((2, 2)), "inner": jnp.ones((3, 2, 2))}
    with pytest.raises(ValueError, match=r"test_editing.py.*for \[2, 3\] iterations"):
        fg.replace(looping, rows)(START)


# --- Devices --------------------------------------------------------------------------------------


def test_nodes_of_devices_are_asked_for_inside():
    mesh = jax.make_mesh((4,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    row = jax.sharding.PartitionSpec("i")

    def shard(x):
        return fg.name(jnp.sin(x), "h") ** 2

    def over(fun):
        return jax.shard_map(fun, mesh=mesh, in_specs=(row,), out_specs=row)

    x = normal(0, 8)
    for ask in (fg.values, fg.gradients, lambda fun, _: fg.replace(fun, {"h": x})):
        with pytest.raises(NotImplementedError, match=r"'shard_map' at .*each device.*Ask inside"):
            ask(over(shard), "h")(x)
    assert list(fg.values(over(shard))(x)[1]) == ["shard_map"]
    assert_close(over(lambda x: fg.values(shard, "h")(x)[1]["h"])(x), np.sin(x))
    total = over(lambda x: fg.gradients(lambda x: jnp.sum(shard(x)), "h")(x)[1]["h"])
    assert_close(total(x), 2 * np.sin(x))

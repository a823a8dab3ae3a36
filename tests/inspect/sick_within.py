"""Functions whose gradients go wrong in loops, branches, vmaps and calls; see sick.py."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec as P

from tests.inspect.diagnosed import floats, table

CASES, case = table()
MESH = jax.make_mesh((2,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
POINTS = floats(0.0, 1.0, 2.0)


# --- Loops ------------------------------------------------------------------------------------


@case(floats(1.0, 2.0, 3.0, 0.0, 5.0), says="√", iteration=3)
def late_iteration(xs):
    def body(c, x):
        y = c * 0.5
        return y + jnp.sqrt(x), y  # here

    c, ys = lax.scan(body, jnp.float32(1.0), xs)
    return c + jnp.sum(ys)


@case(floats(3.0), says="√", iteration=3)
def carry_that_reaches_zero(x):
    def body(c, _):
        y = jnp.sqrt(c)  # here
        return c - 1.0, y

    return jnp.sum(lax.scan(body, x, None, length=4)[1])


@case(floats(1.0, 2.0, 0.0, 4.0), says="log 0", iteration=2, backward=False)
def forward_in_a_scan(xs):
    def body(c, x):
        c = c + jnp.log(x)  # here
        return c, None

    return lax.scan(body, jnp.float32(0.0), xs)[0]


@case(floats(1.0, 2.0, 0.0, 4.0), says="log 0", iteration=2)
def reversed_scan(xs):
    def body(c, x):
        return c + jnp.log(x), None  # here

    return lax.scan(body, jnp.float32(0.0), xs, reverse=True)[0]


@case(jnp.ones((3, 4), jnp.float32).at[1, 2].set(0.0), says="slope", iteration=(1, 2))
def nested_scans(xs):
    def inner(c, x):
        return c + jnp.sqrt(x), None  # here

    def outer(c, row):
        c, _ = lax.scan(inner, c, row)
        return c, c

    return jnp.sum(lax.scan(outer, jnp.float32(0.0), xs)[1])


@case(floats(4.0), says="√", iteration=2)
def while_loop(x):
    def body(state):
        i, c, total = state
        return i + 1, c - 2.0, total + jnp.sqrt(c)  # here

    return jnp.sum(lax.while_loop(lambda s: s[0] < 3, body, (0, x, x))[2])


@case(jnp.float32(100.0), says="overflow", iteration=1)
def fori_loop(x):
    def body(i, c):
        return jnp.exp(c)  # here

    return lax.fori_loop(0, 2, body, jnp.log(x))


@case(floats(1.0), floats(1.0, 0.0, 1.0), says="division", iteration=1)
def constant_of_a_loop(w, xs):
    def body(c, x):
        return c + w / x, None  # here

    return jnp.sum(lax.scan(body, w, xs)[0])


@case(floats(0.1), says="overflow", iteration=3)
def exploding_loop(x):
    def body(c, _):
        return c * 1e10, None  # here

    return jnp.sum(lax.scan(body, x, None, length=8)[0])


# --- Branches, vmap, calls --------------------------------------------------------------------


@case(floats(0.0), says="√", branch=1)
def branch_of_a_cond(x):
    def taken(x):
        return jnp.sqrt(x)  # here

    return jnp.sum(lax.cond(x[0] < 1, taken, lambda x: x, x))


@case(jnp.int32(2), floats(0.0), says="division", branch=2)
def branch_of_a_switch(i, x):
    branches = [
        lambda x: x,
        lambda x: x * 2,
        lambda x: 1 / x,  # here
    ]
    return jnp.sum(lax.switch(i, branches, x))


@case(floats(1.0, 0.0), says="√", iteration=1, branch=1)
def cond_in_a_scan(xs):
    def body(c, x):
        def small(x):
            return jnp.sqrt(x)  # here

        return c + lax.cond(x < 0.5, small, lambda x: x, x), None

    return lax.scan(body, jnp.float32(0.0), xs)[0]


@case(jnp.ones((4, 3), jnp.float32).at[2].set(0.0), says="safe norm", example=2)
def bad_example(xs):
    def loss(x):
        return jnp.linalg.norm(x)  # here

    return jnp.mean(jax.vmap(loss)(xs))


@case(jnp.eye(3, dtype=jnp.float32), jnp.ones((3, 3), jnp.float32).at[1].set(0.0), example=1)
def bad_example_of_a_square_batch(w, xs):
    def loss(x):
        h = w @ x
        y = jnp.log(h)  # here
        return jnp.sum(y)

    return jnp.mean(jax.vmap(loss)(xs))


@case(jnp.ones((2, 3), jnp.float32).at[1, 2].set(0.0), says="√", example=(1, 2))
def nested_vmaps(xs):
    def one(x):
        return jnp.sqrt(x)  # here

    return jnp.sum(jax.vmap(jax.vmap(one))(xs))


@case(jnp.ones((4, 3), jnp.float32).at[3, 1].set(0.0), says="√", iteration=1, example=3)
def scan_under_vmap(xs):
    def loss(row):
        def body(c, x):
            return c + jnp.sqrt(x), None  # here

        return lax.scan(body, jnp.float32(0.0), row)[0]

    return jnp.sum(jax.vmap(loss)(xs))


@case(POINTS, says="√")
def inside_remat(x):
    @jax.checkpoint
    def block(x):
        y = jnp.sin(x)
        return jnp.sqrt(y)  # here

    return jnp.sum(block(x))


@case(POINTS, says="√")
def inside_jit(x):
    @jax.jit
    def block(x):
        return jnp.sqrt(x)  # here

    return jnp.sum(block(x) * 2)


# --- Written rules ----------------------------------------------------------------------------


@jax.custom_vjp
def safe_looking(x):
    return x * x


def _backward(x, g):
    scale = 1.0 + x
    return (g * scale / x,)  # here: custom_vjp


safe_looking.defvjp(lambda x: (x * x, x), _backward)


@case(POINTS, says="the author of safe_looking", backward=True)
def custom_vjp(x):
    return jnp.sum(safe_looking(x))


@jax.custom_jvp
def halved(x):
    return x / 2


@halved.defjvp
def _halved_jvp(primals, tangents):
    ((x,), (t,)) = primals, tangents
    weight = 0.5 * jnp.sqrt(x) / jnp.sqrt(x)  # here: custom_jvp
    return x / 2, t * weight


@case(POINTS, says="the author of halved")
def custom_jvp(x):
    return jnp.sum(halved(x))


@jax.custom_jvp
def root(x):
    return jnp.sqrt(x)


@root.defjvp
def _root_jvp(primals, tangents):
    ((x,), (t,)) = primals, tangents
    y = root(x)
    return y, t / (2 * y)  # here: slope_by_an_author


@case(
    POINTS, says="division by zero: the slope is 1 / 0, in the derivative that the author of root"
)
def slope_by_an_author(x):
    return jnp.sum(root(x))


@case(floats(1.0, 2.0, 0.0, 4.0), says="log 0", backward=False)
def logarithm_on_a_device(x):
    def body(x):
        y = jnp.log(x)  # here
        return lax.psum(jnp.sum(y), "i")

    return jax.shard_map(body, mesh=MESH, in_specs=P("i"), out_specs=P())(x)


@case(floats(1.0, 2.0, 0.0, 4.0), says="zero", backward=True)
def root_on_a_device(x):
    def body(x):
        y = jnp.sqrt(x)  # here
        return lax.psum(jnp.sum(y), "i") * 2

    return jax.shard_map(body, mesh=MESH, in_specs=P("i"), out_specs=P())(x)


@case(floats(1.0, 4.0, 2.0), floats(9.0, 9.0, 1.0), says="√", iteration=1, example=2)
def while_under_vmap(xs, poles):
    def loss(x, pole):
        def body(state):
            c, total = state
            return c - 1.0, total + jnp.sqrt((c - pole) ** 2)  # here

        return lax.while_loop(lambda s: s[0] > 0.5, body, (x, x * 0))[1]

    return jnp.sum(jax.vmap(loss)(xs, poles))


@case(floats(2.0), says="log 0", iteration=2)
def infinity_before_a_nan_on_a_stack(x):
    def body(c, _):
        return c - 1.0, jnp.log(c)  # here

    return jnp.sum(lax.scan(body, x, None, length=5)[1])


@case(floats(3.0), says="log 0", iteration=2)
def infinity_before_a_nan(x):
    def body(state):
        i, v, total = state
        return i + 1, v - 1.0, total + jnp.log(v - 1.0)  # here

    return jnp.sum(lax.while_loop(lambda s: s[0] < 5, body, (0, x, x * 0))[2])

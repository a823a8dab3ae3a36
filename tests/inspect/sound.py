"""Healthy functions in which something is NaN, infinite or zero without harm."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.inspect.diagnosed import floats, table

CASES, case = table()
POINTS = floats(0.0, 1.0, 2.0)
MASK = jnp.array([True, False, True])


@case(floats(-1.0, 1.0, 2.0))
def where_with_nan_forward(x):
    roots = lax.stop_gradient(jnp.log(x))
    return jnp.sum(jnp.where(x > 0, x + roots, x))


@case(POINTS)
def double_where(x):
    safe = jnp.where(x > 0, x, 1.0)
    return jnp.sum(jnp.where(x > 0, jnp.sqrt(safe), 0.0))


@case(jnp.ones((2, 3), jnp.float32))
def masked_attention(x):
    scores = jnp.where(MASK, x @ x.T @ x, -jnp.inf)
    return jnp.sum(jax.nn.softmax(scores, axis=-1) ** 2 * x)


@case(jnp.arange(6, dtype=jnp.float32).reshape(2, 3), jnp.array([[0, -np.inf, 0]], jnp.float32))
def additive_mask(x, mask):
    p = jax.nn.softmax(x + lax.stop_gradient(mask), axis=-1)
    return jnp.sum(p[:, 0] * x[:, 1]) + jnp.sum(jnp.where(jnp.isinf(mask), 0.0, mask))


@case(floats(3.0, 1.0, 2.0))
def smallest_from_infinity(x):
    def body(best, x):
        return jnp.minimum(best, x), None

    return lax.scan(body, jnp.float32(jnp.inf), x)[0] + jnp.sum(x)


@case(floats(1.0, np.nan, 3.0))
def mean_of_what_is_there(x):
    return jnp.nanmean(x)


@case(floats(1.0, np.nan, 3.0), floats(1.0, 2.0, 3.0))
def masked_data(x, w):
    return jnp.sum(w * jnp.where(jnp.isnan(x), 0.0, x)) + jnp.sum(w)


@case(POINTS)
def x_log_x(x):
    return jnp.sum(jax.scipy.special.xlogy(lax.stop_gradient(x), x + 1)) + jnp.sum(
        jnp.where(x > 0, x * jnp.log(jnp.where(x > 0, x, 1.0)), 0.0)
    )


@case(POINTS)
def output_with_a_mask(x):
    return jnp.where(MASK, x, -jnp.inf)


@case(POINTS)
def masked_log_softmax(x):
    logits = jnp.where(MASK, x, -jnp.inf)
    return -jax.nn.log_softmax(logits)[0]


@case(POINTS)
def masked_logsumexp(x):
    return jax.scipy.special.logsumexp(jnp.where(MASK, x, -jnp.inf))


@case(floats(1e30, 1.0))
def sigmoid_by_exp(x):
    return jnp.sum(1 / (1 + jnp.exp(-x)))


@case(floats(0.0, 2.0))
def branch_not_taken(x):
    def root(x):
        return jnp.sqrt(x - 1.0)

    return jnp.sum(lax.map(lambda e: lax.cond(e > 1, root, lambda e: 3 * e, e), x))


@case(POINTS)
def largest_of_masked(x):
    return jnp.max(x, where=MASK, initial=-jnp.inf) + jnp.sum(x)


@case(POINTS)
def infinity_in_a_comparison(x):
    bound = 1 / lax.stop_gradient(x)
    return jnp.sum(jnp.where(x < bound, x, 2 * x))


@case(POINTS)
def division_that_is_stopped(x):
    scale = lax.stop_gradient(x / x)
    return jnp.sum(x * jnp.where(jnp.isnan(scale), 1.0, scale))


@case(floats(2.0, 3.0))
def limits_of_a_clip(x):
    return jnp.sum(jnp.clip(x, -jnp.inf, jnp.inf) ** 2)


@case(jnp.ones((4, 2), jnp.float32), floats(1.0, 2.0))
def partly_dead_relus(w, x):
    h = w @ x - jnp.array([1.0, 2.0, 5.0, 9.0], jnp.float32)
    return jnp.sum(jax.nn.relu(h))


@case(jnp.ones((4, 2), jnp.float32))
def one_row_of_a_table(table):
    return jnp.sum(table[2] ** 2)


@case(floats(1.0, 2.0, -1.0))
def powers_of_negative(x):
    return jnp.sum(x**3) + jnp.sum(jnp.abs(x) ** 1.5)


@case(jnp.diag(floats(1.0, 2.0)) + 0.1)
def eigenvalues(a):
    return jnp.sum(jnp.linalg.eigvalsh(a + a.T) ** 2)


@case(floats(1.0, 2.0))
def unused_nan(x):
    y = jnp.log(-x)
    del y
    return jnp.sum(x)


@case(floats(0.5, 2.0, 4.0))
def diverging_while_that_is_masked(x):
    def body(state):
        i, c = state
        return i + 1, c * c

    squared = lax.while_loop(lambda s: s[0] < 8, body, (0, lax.stop_gradient(x)))[1]
    return jnp.sum(jnp.where(jnp.isinf(squared), 0.0, 1.0) * x) + jnp.sum(x)


@case(jnp.float16(300.0))
def half_precision_in_float32(x):
    return jnp.sqrt(jnp.square(x.astype(jnp.float32)))


@case(POINTS)
def masked_logits_with_a_bias(x):
    return jnp.where(MASK, x, -jnp.inf) + x


@case(floats(5.0, 3.0))
def while_under_vmap(x):
    def halved(x):
        return lax.while_loop(lambda c: c > 1.0, lambda c: jnp.log2(c), x)

    return jnp.sum(jax.vmap(halved)(x))


@jax.custom_vjp
def _doubled(x):
    return 2 * x


@jax.custom_jvp
def _pushed(x):
    return _doubled(x)


_doubled.defvjp(lambda x: (2 * x, None), lambda _, g: (2 * g,))
_pushed.defjvp(lambda primals, tangents: jax.jvp(_doubled, primals, tangents))


@case(POINTS)
def forward_mode_that_only_transposes(x):
    return jnp.sum(_pushed(x))

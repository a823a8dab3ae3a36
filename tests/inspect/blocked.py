"""Functions with an argument, the first, whose gradient is exactly zero; `# here` marks why."""

import jax
import jax.numpy as jnp
from jax import lax

from tests.inspect.diagnosed import floats, table

CASES, case = table()
POINTS = floats(0.2, 1.1, 2.3)
HALF = floats(1e-5, 2e-5, dtype=jnp.float16)
ROWS = jnp.ones((2, 3), jnp.float32)
SQUARE = jnp.eye(3, dtype=jnp.float32)


@case(SQUARE, SQUARE, -POINTS, says="dead relu")
def dead_relu(w, v, x):
    h = w @ x
    a = jax.nn.relu(h)  # here
    return jnp.sum(v @ a + a)


@case(SQUARE, -SQUARE, POINTS, says="dead relu")
def second_layer_is_dead(w, v, x):
    a = jax.nn.relu(w @ x)
    b = jax.nn.relu(v @ a)  # here
    return jnp.sum(b * 2)


@case(-SQUARE, SQUARE, POINTS, says="dead relu")
def dead_by_maximum(w, v, x):
    a = jnp.maximum(w @ x, 0)  # here
    return jnp.sum(v @ a)


@case(SQUARE, -SQUARE, POINTS, says="dead relu")
def weight_behind_a_dead_relu(v, w, x):
    a = jax.nn.relu(w @ x)  # here
    return jnp.sum(v @ a)


@case(-POINTS, says="never takes")
def dead_by_where(x):
    y = x * 2
    a = jnp.where(y > 0, y, 0.0)  # here
    return jnp.sum(a)


@case(POINTS, says="argmax")
def largest(x):
    i = jnp.argmax(x * 2)  # here
    return jnp.array([1.0, 2.0, 3.0], jnp.float32)[i]


@case(POINTS, says="argmax")
def hard_attention(x):
    p = jax.nn.softmax(x)
    choice = jnp.argmax(p)  # here
    return jnp.sum(jax.nn.one_hot(choice, 3, dtype=jnp.float32))


@case(POINTS, says="round")
def rounding(x):
    y = x * 3
    q = jnp.round(y)  # here
    return jnp.sum(q**2)


@case(POINTS, says="floor")
def floor(x):
    q = jnp.floor(x)  # here
    return jnp.sum(q * 2)


@case(POINTS, says="sign")
def sign(x):
    return jnp.sum(jnp.sign(x - 1))  # here


@case(POINTS, says="int32")
def integer_cast(x):
    i = x.astype(jnp.int32)  # here
    return jnp.sum(i.astype(jnp.float32) * 2)


@case(POINTS, says="comparison")
def accuracy(x):
    hit = x > 1.0  # here
    return jnp.mean(hit.astype(jnp.float32))


@case(POINTS, says="comparison")
def hard_gate(x):
    gate = jnp.where(x > 1.0, 1.0, 0.5)  # here
    return jnp.sum(gate)


@case(POINTS, says="stop_gradient")
def stopped(x):
    y = x * 2
    target = lax.stop_gradient(y)  # here
    return jnp.sum(target**2)


@case(POINTS, POINTS, says="stop_gradient")
def stopped_target(target, x):
    y = jnp.tanh(target)
    t = lax.stop_gradient(y)  # here
    return jnp.sum((x - t) ** 2)


@case(POINTS * 100 + 10, says="clip")
def saturated_clip(x):
    y = x + 1
    c = jnp.clip(y, 0.0, 1.0)  # here
    return jnp.sum(c * x.shape[0])


@case(POINTS * 100 + 10, says="bound")
def saturated_minimum(x):
    c = jnp.minimum(x, 1.0)  # here
    return jnp.sum(c)


@case(POINTS * 100 + 10, says="beyond")
def saturated_clamp(x):
    return jnp.sum(lax.clamp(jnp.float32(0), x, jnp.float32(1)))  # here


@case(POINTS * 10 + 100, says="saturated")
def saturated_sigmoid(x):
    p = jax.nn.sigmoid(x)  # here
    return jnp.sum(p)


@case(POINTS * 10 + 100, says="saturated")
def saturated_tanh(x):
    h = jnp.tanh(x)  # here
    return jnp.sum(h * 3)


@case(floats(0.0, 500.0, 1000.0), says="saturated")
def saturated_softmax(x):
    p = jax.nn.softmax(x)  # here
    return jnp.sum(p**2)


@case(floats(0.0, 500.0, 1000.0), says="saturated")
def saturated_cross_entropy(x):
    logs = jax.nn.log_softmax(x)  # here
    return -logs[2]


@case(POINTS * 10 + 100, says="saturated")
def saturated_erf(x):
    return jnp.sum(lax.erf(x))  # here


@case(-POINTS * 100 - 200, says="underflow")
def underflow_of_exp(x):
    y = jnp.exp(x)  # here
    return jnp.sum(y * 2)


@case(HALF, says="underflow")
def underflow_of_squares(x):
    y = x * x  # here
    return jnp.sum(y * y)


@case(HALF, says="underflow")
def underflow_backward(x):
    y = x * jnp.float16(1e-4)  # here
    z = y * jnp.float16(1e-4)
    return jnp.sum(z * 0 + z)


@case(POINTS, jnp.zeros((2, 3), jnp.float32), says="the argument w is zero")
def zero_initialised_weight(x, w):
    h = x * 2
    return jnp.sum(w @ h)  # here


@case(POINTS, says="literal")
def multiplied_by_zero(x):
    y = x * 2
    z = y * 0.0  # here
    return jnp.sum(z) + 1


@case(ROWS, jnp.zeros(3, jnp.float32), says="the argument x is zero")
def zero_data(w, x):
    return jnp.sum(w @ x)  # here


@case(POINTS, says="never reads")
def empty_slice(x):
    y = x * 2
    return jnp.sum(y[3:]) + 1  # here


@case(POINTS, says="never reads")
def other_half(x):
    both = jnp.concatenate([x, x * 0 + 1])
    rest = both[:0]  # here
    return jnp.sum(rest) + 1


@case(POINTS, POINTS, says="never reads")
def sliced_away(x, y):
    both = jnp.concatenate([x, y])
    return jnp.sum(both[3:])  # here


@case(POINTS, says="never reads")
def out_of_range(x):
    y = x.at[jnp.array([5, 6])].get(mode="fill", fill_value=0.0)  # here
    return jnp.sum(y)


@case(POINTS, says="writes over")
def overwritten(x):
    y = x * 2
    z = y.at[:].set(1.0)  # here
    return jnp.sum(z)


@case(POINTS, floats(1.0), says="branch 0", branch=None)
def branch_that_ignores_it(x, y):
    def of_both(x, y):
        return x * y

    def of_one(x, y):
        return jnp.ones(3, y.dtype) * y

    return jnp.sum(lax.cond(y[0] > 2, of_both, of_one, x, y))  # here


@case(POINTS, says="cancel")
def difference_of_equals(x):
    y = x * 2
    return jnp.sum(y - y)  # here


@case(jnp.zeros(3, jnp.float32), says="slope")
def stationary_point(x):
    return jnp.sum(x**2)  # here


@case(POINTS, says="zeros are made, in the derivative that the author of quantised wrote")
def custom_rule_of_zeros(x):
    return jnp.sum(quantised(x))


@case(POINTS, says="zero everywhere, in the derivative that the author of thresholded wrote")
def custom_rule_that_masks_all(x):
    return jnp.sum(thresholded(x))


@jax.custom_vjp
def quantised(x):
    return jnp.round(x)


@jax.custom_vjp
def thresholded(x):
    return jnp.where(x > 9, x, 0.0)


def _zeros(shape, g):
    return (jnp.zeros(shape, g.dtype),)  # here: custom_rule_of_zeros


def _masked(x, g):
    slope = (x > 9).astype(g.dtype)  # here: custom_rule_that_masks_all
    return (g * slope,)


quantised.defvjp(lambda x: (jnp.round(x), x.shape), _zeros)
thresholded.defvjp(lambda x: (jnp.where(x > 9, x, 0.0), x), _masked)


@case(floats(1.0, 1.0, 1.0), says="the result of dot_general is zero everywhere")
def square_of_terms_that_cancel(x):
    y = jnp.array([1.0, -2.0, 1.0], jnp.float32) @ x  # here
    return y**2


@case(floats(-1.0, 0.0), says="dead relu: its input is zero or negative everywhere")
def relu_of_zero(x):
    y = jax.nn.relu(x)  # here
    return jnp.sum(y)


@case(POINTS, says="round", iteration=0)
def rounding_in_a_scan(x):
    def body(c, _):
        return jnp.round(c) + 0.5, None  # here

    return jnp.sum(lax.scan(body, x, None, length=3)[0])


@case(-SQUARE, POINTS, says="dead relu", iteration=2)
def dead_recurrence(w, x):
    def body(h, _):
        h = jax.nn.relu(w @ h)  # here
        return h, None

    return jnp.sum(lax.scan(body, x, None, length=3)[0])


@case(POINTS, says="floor", iteration=0)
def floor_in_a_while(x):
    def body(state):
        i, c = state
        return i + 1, jnp.floor(c)  # here

    return jnp.sum(lax.while_loop(lambda s: s[0] < 2, body, (0, x))[1])


@case(ROWS, says="round")
def rounding_under_vmap(xs):
    def loss(x):
        y = jnp.round(x * 2)  # here
        return jnp.sum(y)

    return jnp.sum(jax.vmap(loss)(xs))


@case(POINTS, says="ceil")
def rounding_in_remat(x):
    @jax.checkpoint
    def block(x):
        return jnp.ceil(jnp.sin(x))  # here

    return jnp.sum(block(x))


@case(POINTS, says="sort")
def ranks(x):
    order = jnp.argsort(x)  # here
    return jnp.sum(order.astype(jnp.float32))


@case(SQUARE, -POINTS, says="dead relu")
def square_of_a_dead_relu(w, x):
    a = jax.nn.relu(w @ x)  # here
    return jnp.sum(a**2)


@case(POINTS, says="number of steps")
def number_of_steps(x):
    def halved(state):
        return state[0] + 1, state[1] / 2

    n, _ = lax.while_loop(lambda s: s[1] > 0.1, halved, (0, x[0]))  # here
    return jnp.asarray(n, x.dtype)


@case(floats(200.0, 300.0, dtype=jnp.float16), says="overflow")
def overflow_that_stops_it(x):
    v = x * x * 2  # here
    return jnp.sum(lax.rsqrt(v))

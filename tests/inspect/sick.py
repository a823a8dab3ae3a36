"""Functions whose gradients are NaN or infinite; `# here` marks the line to be named."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.inspect.diagnosed import floats, table

CASES, case = table()
ZEROS, POINTS = jnp.zeros(3, jnp.float32), floats(0.0, 1.0, 2.0)
HALF = partial(floats, dtype=jnp.float16)


# --- Roots, logarithms, quotients, powers -----------------------------------------------------


@case(POINTS, says="masked by", backward=True)
def double_where(x):
    root = jnp.sqrt(x)  # here
    return jnp.sum(jnp.where(x > 0, root, 0.0))


@case(POINTS, says="masked by")
def double_where_of_log(x):
    y = jnp.log(x) * x  # here
    return jnp.sum(jnp.where(x > 0, y, 0.0))


@case(POINTS, says="division by zero")
def where_after_division(x):
    y = 1.0 / x  # here
    return jnp.sum(jnp.where(x == 0, 0.0, y))


@case(ZEROS, says="safe norm", backward=True)
def norm_at_zero(x):
    y = x * 2.0
    n = jnp.linalg.norm(y)  # here
    return n * 3.0


@case(ZEROS, says="√")
def root_of_sum_of_squares(x):
    s = jnp.sum(x**2)
    return jnp.sqrt(s)  # here


@case(POINTS, floats(0.0, 1.0, 2.0), says="√")
def distance_of_equal_points(x, y):
    d = x - y
    s = jnp.sum(d * d)
    return s + jnp.sqrt(s)  # here


@case(floats(1.0, 0.0), floats(0.0, 0.0), says="0 / 0")
def cosine_similarity_of_zero(x, y):
    dot = jnp.dot(x, y)
    norms = jnp.sqrt(jnp.sum(x * x) * jnp.sum(y * y) + 0.0)
    return dot / norms  # here


@case(floats(-1000.0, 0.0), says="log 0")
def log_of_zero_probability(z):
    p = jax.nn.softmax(z)
    return -jnp.log(p[0])  # here


@case(POINTS, says="log 0")
def entropy(x):
    p = x / jnp.sum(x)
    logs = jnp.log(p)  # here
    return -jnp.sum(p * logs)


@case(floats(-2.0), says="negative")
def log_of_negative(x):
    y = x + 1.0
    return jnp.sum(jnp.log(y))  # here


@case(ZEROS, says="0 / 0", backward=False)
def x_over_x(x):
    y = x / x  # here
    return jnp.sum(y)


@case(POINTS, says="base is 0", backward=True)
def fractional_power_of_zero(x):
    y = x**0.5 if False else jnp.power(x, 0.3)  # here
    return jnp.sum(y)


@case(floats(-1.0, 2.0), says="power")
def power_of_negative(x):
    y = x**1.5  # here
    return jnp.sum(y)


@case(ZEROS, floats(0.5, 0.5, 0.5), says="base is 0")
def power_in_both(x, y):
    return jnp.sum(x**y)  # here


@case(POINTS, says="∞")
def reciprocal_root(x):
    y = lax.rsqrt(x)  # here
    return jnp.sum(y)


@case(floats(0.0, 1.0), says="0")
def negative_power(x):
    return jnp.sum(x**-2)  # here


@case(floats(0.0, 8.0), says="∛")
def cube_root(x):
    return jnp.sum(jnp.cbrt(x))  # here


@case(floats(0.0, 0.0), says="0 / 0", backward=False)
def normalised_by_its_sum(x):
    total = jnp.sum(x)
    return jnp.sum((x / total) ** 2)  # here


# --- Angles and special functions -------------------------------------------------------------


@case(floats(0.5, 1.0), says="acos", backward=True)
def arccos_at_one(x):
    return jnp.sum(jnp.arccos(x))  # here


@case(floats(0.5, -1.0), says="asin")
def arcsin_at_minus_one(x):
    return jnp.sum(jnp.arcsin(x))  # here


@case(floats(0.5, 1.5), says="outside")
def arccos_outside(x):
    y = jnp.arccos(x)  # here
    return jnp.sum(y * 2)


@case(floats(0.0), floats(0.0), says="atan2", backward=True)
def angle_of_zero(x, y):
    return jnp.sum(jnp.arctan2(y, x))  # here


@case(floats(0.5, 1.0), says="atanh")
def arctanh_at_one(x):
    return jnp.sum(jnp.arctanh(x))  # here


@case(floats(0.0, 1.0), says="pole")
def gamma_at_pole(x):
    return jnp.sum(jax.scipy.special.gammaln(x))  # here


@case(floats(-1.0, 1.0), says="pole")
def digamma_at_pole(x):
    return jnp.sum(jax.scipy.special.digamma(x))  # here


@case(floats(0.0), floats(1.0), says="")
def beta_at_pole(a, b):
    return jnp.sum(jax.scipy.special.betaln(a, b))  # here


@case(floats(0.5, 1.0), says="erf_inv")
def normal_quantile(p):
    return jnp.sum(jax.scipy.special.erfinv(p))  # here


@case(floats(0.0, 1.0), says="")
def logit(p):
    return jnp.sum(jax.scipy.special.logit(p))  # here


# --- Overflow ---------------------------------------------------------------------------------


@case(HALF(1.0, 12.0), says="float16")
def exp_in_half_precision(x):
    y = jnp.exp(x)  # here
    return jnp.sum(y / (1 + y))


@case(floats(100.0), says="overflow")
def softplus_by_hand(x):
    y = jnp.exp(x)  # here
    return jnp.sum(jnp.log(1 + y))


@case(floats(1.0, 100.0), says="logsumexp")
def log_sum_exp_by_hand(x):
    total = jnp.sum(jnp.exp(x))  # here
    return jnp.log(total)


@case(floats(1.0, 100.0), says="overflow")
def overflow_that_is_masked(x):
    y = jnp.exp(x)  # here
    return jnp.sum(jnp.where(x < 50, y, x))


@case(floats(100.0), says="overflow")
def hyperbolic_cosine(x):
    return jnp.sum(jnp.log(jnp.cosh(x)))  # here


@case(HALF(100.0), says="float16", backward=False)
def loss_scale(x):
    loss = jnp.sum(x)
    return loss * 1024  # here


@case(HALF(200.0, 200.0), says="float16")
def squares_in_half_precision(x):
    y = x * 2
    return jnp.sqrt(jnp.sum(y * y))  # here


@case(HALF(1e-5, 1e-5), says="the 0 is an underflow of square in float16, sick.py")
def underflow_below_a_root(x):
    energy = jnp.mean(jnp.square(x))
    return jnp.sum(x * lax.rsqrt(energy))  # here


@case(HALF(1e-4), says="float16", backward=True)
def backward_overflow(x):
    y = x * 300  # here
    return jnp.sum(y * 300)


@case(floats(1e30), says="overflow")
def power_overflow(x):
    y = x**3  # here
    return jnp.sum(1 / y)


@case(floats(7e4), says="float16")
def conversion_overflow(x):
    y = x.astype(jnp.float16)  # here
    return jnp.sum(y.astype(jnp.float32) * 0)


# --- Statistics, matrices ---------------------------------------------------------------------


@case(jnp.ones((2, 3), jnp.float32), says="jnp.var", backward=True)
def deviation_of_constant_rows(x):
    y = x - jnp.mean(x)
    return jnp.sum(jnp.std(y, axis=1))  # here


@case(jnp.ones((2, 3), jnp.float32), jnp.zeros((2, 3), bool), says="row")
def masked_softmax_rows(x, mask):
    scores = jnp.where(mask, x, -jnp.inf)
    p = jax.nn.softmax(scores, axis=-1)  # here
    return jnp.sum(p**2)


@case(jnp.ones((2, 3), jnp.float32), jnp.array([0, 0]), says="zero")
def mean_of_no_members(x, segments):
    count = jax.ops.segment_sum(jnp.ones(2, jnp.float32), segments, 2)
    total = jax.ops.segment_sum(x, segments, 2)
    mean = total / count[:, None]  # here
    return jnp.sum(mean)


@case(jnp.ones((2, 2), jnp.float32), says="singular")
def singular_inverse(a):
    return jnp.sum(jnp.linalg.inv(a))  # here


@case(jnp.ones((2, 2), jnp.float32), floats(1.0, 2.0), says="singular")
def singular_solve(a, b):
    x = jnp.linalg.solve(a, b)  # here
    return jnp.sum(x)


@case(jnp.ones((2, 2), jnp.float32), says="")
def singular_slogdet(a):
    return jnp.linalg.slogdet(a)[1]  # here


@case(jnp.array([[1.0, 2.0], [2.0, 1.0]], jnp.float32), says="positive definite")
def indefinite_cholesky(a):
    return jnp.sum(jnp.linalg.cholesky(a))  # here


@case(jnp.eye(2, dtype=jnp.float32), says="eigenvalues")
def equal_eigenvalues(a):
    w, v = jnp.linalg.eigh(a)  # here
    return jnp.sum(v[0] * jnp.arange(1.0, 3.0, dtype=jnp.float32)) + w[0]


@case(jnp.eye(2, dtype=jnp.float32), says="singular values")
def equal_singular_values(a):
    u, s, v = jnp.linalg.svd(a)  # here
    return u[0, 0] + v[0, 1] + s[0]


@case(jnp.zeros((2, 2), jnp.float32), says="singular")
def degenerate_qr(a):
    q, r = jnp.linalg.qr(a)  # here
    return jnp.sum(q) + jnp.sum(r)


# --- Zeros that meet infinities ----------------------------------------------------------------


@case(floats(0.0, 2.0, 0.0), says="")
def product_with_zeros_by_logs(x):
    return jnp.exp(jnp.sum(jnp.log(x)))  # here


@case(floats(0.0, 2.0, 3.0), says="0 / 0")
def product_rule_by_division(x):
    y = jnp.prod(x)
    others = y / x  # here
    return jnp.sum(others)


@case(floats(1.0, 2.0), says="∞")
def zero_times_infinity(x):
    big = jnp.exp(x * 100)  # here
    return jnp.sum(big * 0.0)


@case(floats(1.0, 2.0), says="0 · ∞")
def constant_infinity(x):
    y = (x - x) * jnp.inf  # here
    return jnp.sum(y)


@case(jnp.ones((2, 2), jnp.float32), says="slope")
def batch_norm_without_epsilon(x):
    d = x - jnp.mean(x, axis=0)
    v = jnp.mean(d**2, axis=0)
    s = lax.rsqrt(v)  # here
    return jnp.sum(jnp.where(v > 0, d * s, 0.0))


@case(floats(0.0, 0.5), says="log 0")
def binary_cross_entropy_of_certainty(p):
    y = jnp.array([1.0, 0.0], jnp.float32)
    good = jnp.log(p)  # here
    return -jnp.sum(y * good + (1 - y) * jnp.log1p(-p))


@case(jnp.bfloat16(1e30), says="bfloat16")
def bfloat_overflow(x):
    y = x * x  # here
    return y * 0.5


# --- Data -------------------------------------------------------------------------------------


@case(POINTS, floats(1.0, np.nan, 2.0), says="argument data holds NaN at [1]")
def nan_in_the_data(w, data):
    y = data * 2.0  # here
    return jnp.sum(w * y)


@case({"w": POINTS, "b": floats(np.nan)}, says="argument params.b holds NaN")
def nan_in_a_parameter(params):
    return jnp.sum(params["w"]) * jnp.sum(params["b"])  # here


@case(floats(1.0, -np.inf), says="argument x holds −∞ at [1]")
def infinity_in_the_data(x):
    return jnp.sum(x - jnp.min(x))  # here

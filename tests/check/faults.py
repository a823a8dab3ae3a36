"""Wrong rules, of the kinds that people write, each with the place that a verdict must name.

A fault is a `custom_vjp` function with its arguments; the names of its kinds are those of the
tests. A verdict must name the argument, and the index if there is one, and the witness suffices.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

draw = np.random.default_rng(0)


@dataclass(frozen=True)
class Fault:
    fun: Callable[..., Any]
    args: tuple[Any, ...]
    argument: str = ""
    index: tuple[int, ...] | None = None
    witness: str = "reference"
    options: dict[str, Any] = field(default_factory=dict)


def normal(*shape, dtype="float32"):
    return jnp.asarray(draw.normal(size=shape), dtype)


def complex_normal(*shape):
    return lax.complex(normal(*shape), normal(*shape))


def ruled(fun, backward, forward=None, symbolic_zeros=False):
    """`fun` with a rule: residuals are the arguments, unless `forward` says otherwise."""
    wrapped = jax.custom_vjp(fun)
    forward = forward or (lambda *args: (fun(*args), args))
    wrapped.defvjp(forward, backward, symbolic_zeros=symbolic_zeros)
    return wrapped


def tanh(x):
    return jnp.tanh(x)


def slope(x):
    return 1 - jnp.tanh(x) ** 2


def product(x, y):
    return x * y


def scale(x, n):
    return x * n.astype(x.dtype)


def matmul(a, b):
    return a @ b


def running_sum(x):
    """One addition after another, in the format of x."""
    return lax.scan(lambda total, a: (total + a, None), jnp.zeros((), x.dtype), x)[0]


def two(x):
    return {"sin": jnp.sin(x), "square": x * x}


def _of_two(factors):
    def backward(residuals, g):
        (x,) = residuals
        return (factors[0] * g["sin"] * jnp.cos(x) + factors[1] * g["square"] * 2 * x,)

    return backward


kept = []


def _keeps(x):
    kept.append(x)
    return jnp.tanh(x), None


def _uses_last(_, g):
    return (g * slope(kept[-1]),)


first = []


def _keeps_first(x):
    if not first:
        first.append(x)
    return jnp.tanh(x), None


def _uses_first(_, g):
    return (g * slope(first[0]),)


def _only_where(condition, backward):
    """A rule that is right except in entries that `condition` of x tells."""

    def wrong(residuals, g):
        (right,) = backward(residuals, g)
        return (jnp.where(condition(residuals[0]), 3 * right + 1, right),)

    return wrong


def right(residuals, g):
    return (g * slope(residuals[0]),)


def _symbolic_forward(x, y):
    x, y = x.value, y.value
    return (jnp.sin(x), x * y), (x, y)


def _symbolic_backward(residuals, g):
    x, y = residuals
    if any(isinstance(entry, jax.custom_derivatives.SymbolicZero) for entry in g):
        return jnp.zeros_like(x), jnp.zeros_like(y)
    return g[0] * jnp.cos(x) + g[1] * y, g[1] * x


@jax.custom_batching.custom_vmap
def _first_of_batch(g):
    return g


@_first_of_batch.def_vmap
def _(size, batched, g):
    return g[:1].repeat(size, 0), True


def _called_back(x):
    return jax.pure_callback(np.tanh, x, x, vmap_method="expand_dims")


def newton_until(x):
    """√x by Newton's method, until all entries are right to 1e-5: their slopes to 1e-6."""

    def moves(y):
        return jnp.any(jnp.abs(y * y - x) > 1e-5 * x)

    return lax.while_loop(moves, lambda y: (y + x / y) / 2, x)


square_matrices = normal(3, 3), normal(3, 3)

FAULTS = {
    "a wrong factor": Fault(ruled(tanh, lambda res, g: (2 * g * slope(*res),)), (normal(3),), "x"),
    "a wrong sign": Fault(ruled(tanh, lambda res, g: (-g * slope(*res),)), (normal(3),), "x"),
    "one entry of 10,000 by 0.1 %": Fault(
        ruled(tanh, lambda res, g: ((g * slope(*res)).at[31, 41].mul(1.001),)),
        (normal(100, 100),),
        "x",
        (31, 41),
    ),
    "one entry by 0.1 %, by differences": Fault(
        ruled(tanh, lambda res, g: ((g * slope(*res)).at[31, 4].mul(1.001),)),
        (normal(40, 5),),
        "x",
        (31, 4),
        witness="differences",
    ),
    "all entries by 0.2 %": Fault(
        ruled(tanh, lambda res, g: (1.002 * g * slope(*res),)), (normal(4, 5),), "x"
    ),
    "a transposed matrix": Fault(
        ruled(matmul, lambda res, g: (g @ res[1], res[0].T @ g)), square_matrices, "a"
    ),
    "a missing conjugate": Fault(
        ruled(
            lambda z: jnp.abs(z) ** 2,
            lambda res, g: (2 * g.astype(res[0].dtype) * res[0],),
        ),
        (complex_normal(3),),
        "z",
    ),
    "a conjugate too many": Fault(
        ruled(product, lambda res, g: (g * res[1].conj(), g * res[0])),
        (complex_normal(3), complex_normal(3)),
        "x",
    ),
    "a dropped second use": Fault(
        ruled(lambda x: x * jnp.sin(x), lambda res, g: (g * jnp.sin(res[0]),)), (normal(3),), "x"
    ),
    "a wrong un-broadcast": Fault(
        ruled(product, lambda res, g: (g * res[1], (g * res[0]).mean(0))),
        (normal(3, 2), normal(2)),
        "y",
    ),
    "a wrong sum axis": Fault(
        ruled(product, lambda res, g: (g * res[1], (g * res[0]).sum(1))),
        (normal(3, 3), normal(3)),
        "y",
    ),
    "a wrong shape": Fault(
        ruled(product, lambda res, g: (g * res[1], g * res[0])), (normal(3, 2), normal(2)), ""
    ),
    "a wrong dtype": Fault(
        ruled(tanh, lambda res, g: ((g * slope(*res)).astype("float32"),)),
        (normal(3, dtype="bfloat16"),),
        "",
    ),
    "a wrong pytree": Fault(
        ruled(lambda p: p["w"] * p["b"], lambda res, g: ([g, g],)),
        ({"w": normal(2), "b": normal(2)},),
        "",
    ),
    "a leaf of a pytree": Fault(
        ruled(
            lambda p: p["w"] * jnp.sin(p["b"]),
            lambda res, g: (
                {"w": g * jnp.sin(res[0]["b"]), "b": g * res[0]["w"] * jnp.sin(res[0]["b"])},
            ),
        ),
        ({"w": normal(2), "b": normal(2)},),
        "p['b']",
    ),
    "a factor that is off by one": Fault(
        ruled(scale, lambda res, g: (g * (res[1] + 1).astype(g.dtype), None)),
        (normal(3), jnp.asarray([2, 3, 2])),
        "x",
    ),
    "a residual of the call after": Fault(
        ruled(tanh, _uses_last, _keeps), (normal(3),), witness="calls"
    ),
    "a residual of the first call": Fault(ruled(tanh, _uses_first, _keeps_first), (normal(3),)),
    "not linear in g": Fault(
        ruled(tanh, lambda res, g: (jnp.clip(g, -1, 1) * slope(*res),)), (normal(9),), "x"
    ),
    "not linear in large g": Fault(
        ruled(tanh, lambda res, g: (jnp.clip(g, -4, 4) * slope(*res),)),
        (normal(9),),
        "x",
        witness="linearity",
    ),
    "NaN where g is zero": Fault(
        ruled(tanh, lambda res, g: (g * (g / g) * slope(*res),)),
        (normal(3),),
        "x",
        witness="linearity",
    ),
    "swapped arguments": Fault(
        ruled(product, lambda res, g: (g * res[0], g * res[1])), (normal(3), normal(3)), "x"
    ),
    "shifted by one": Fault(
        ruled(lambda x: jnp.cumsum(x), lambda res, g: (jnp.roll(jnp.cumsum(g[::-1])[::-1], 1),)),
        (normal(5),),
        "x",
    ),
    "ignores the batch": Fault(
        ruled(tanh, lambda res, g: (_first_of_batch(g * slope(*res)),)),
        (normal(3),),
        "x",
        witness="vmap",
    ),
    "wrong at zero only": Fault(
        ruled(tanh, _only_where(lambda x: x == 0, right)),
        (jnp.asarray([0.3, 0.0, -0.2]),),
        "x",
        (1,),
    ),
    "wrong at zero only, which the arguments are not": Fault(
        ruled(tanh, _only_where(lambda x: x == 0, right)), (normal(7),), "x", witness="zeros"
    ),
    "wrong in bfloat16 only": Fault(
        ruled(
            tanh,
            lambda res, g: (g * slope(*res) * (1.1 if g.dtype == "bfloat16" else 1.0),),
        ),
        (normal(5),),
        "x",
        witness="rounding",
        options={"dtypes": ["bfloat16"]},
    ),
    "4 % in all entries, in bfloat16 only": Fault(
        ruled(
            tanh,
            lambda res, g: (g * slope(*res) * (1.04 if g.dtype == "bfloat16" else 1.0),),
        ),
        (jnp.linspace(-2, 2, 40, dtype="float32"),),
        "x, all entries together",
        witness="rounding",
        options={"dtypes": ["bfloat16"]},
    ),
    "coarse in float32": Fault(
        ruled(
            tanh,
            lambda res, g: (g * slope(*res) * (1 + 1e-5 if g.dtype == "float32" else 1.0),),
        ),
        (normal(5),),
        "x",
        witness="rounding",
    ),
    "sums in bfloat16": Fault(
        ruled(
            lambda x, w: x * w,
            lambda res, g: (
                g * res[1],
                lax.reduce((g * res[0]).astype("bfloat16"), jnp.bfloat16(0), lax.add, (0,)).astype(
                    g.dtype
                ),
            ),
        ),
        (normal(300, 2), normal(2)),
        "w",
    ),
    "a long running sum in bfloat16": Fault(
        ruled(product, lambda res, g: (g * res[1], running_sum(g * res[0]))),
        (jnp.linspace(0, 1, 2000, dtype="bfloat16"), jnp.asarray(0.5, "bfloat16")),
        "y",
        witness="rounding",
    ),
    "a constant second derivative": Fault(
        ruled(tanh, lambda res, g: (g * lax.stop_gradient(slope(*res)),)),
        (normal(3),),
        witness="second order",
    ),
    "other values in the forward pass": Fault(
        ruled(tanh, right, lambda x: (1.01 * jnp.tanh(x), (x,))), (normal(3),), witness="values"
    ),
    "one of two outputs": Fault(ruled(two, _of_two((1.0, 1.5))), (normal(3),), "x"),
    "a missing g taken for no gradient at all": Fault(
        ruled(
            lambda x, y: (jnp.sin(x), x * y),
            _symbolic_backward,
            _symbolic_forward,
            symbolic_zeros=True,
        ),
        (normal(3), normal(3)),
        witness="parts",
    ),
    "random from call to call": Fault(
        ruled(tanh, lambda res, g: (g * slope(*res) * (1 + 1e-3 * draw.normal()),)),
        (normal(3),),
        witness="calls",
    ),
    "a wrong choice at a tie": Fault(
        ruled(lambda x, y: jnp.maximum(x, y), lambda res, g: (1.5 * g, -0.5 * g)),
        (jnp.ones(3), jnp.ones(3)),
        "x",
    ),
    "all of the gradient to each side of a tie": Fault(
        ruled(lambda x: jnp.max(x), lambda res, g: (jnp.where(res[0] == jnp.max(res[0]), g, 0),)),
        (jnp.asarray([1.0, 1.0, 0.0]),),
        witness="differences",
    ),
    "no number, of a callback": Fault(
        ruled(_called_back, lambda res, g: ((g * slope(*res)).at[1].set(jnp.nan),)),
        (normal(3),),
        "x",
        (1,),
        witness="differences",
    ),
    "a loop that has converged": Fault(
        ruled(newton_until, lambda res, g: ((g / (2 * jnp.sqrt(*res))).at[2].mul(1.001),)),
        (jnp.exp(normal(4)),),
        "x",
        (2,),
        witness="differences",
    ),
}

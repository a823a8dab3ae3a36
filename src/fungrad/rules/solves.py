"""Solutions of linear equations: the gradient at b solves the transposed equation.

A z = b        ∂z = A⁻¹ (∂b − ∂A z)        g_b = A⁻ᵀ g, g_A = −g_b zᵀ        [giles2008]
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fungrad import _jax, saving
from fungrad.passes import Settings
from fungrad.rulebook import CallRule, Halves, rule
from fungrad.rules import matrices
from fungrad.rules.matrices import conj, dot

# --- A is a triangle --------------------------------------------------------------------------


def _triangular_examples(draw):
    def solve(**how):
        return partial(lax.linalg.triangular_solve, **how)

    def triangle(*shape, array=draw.uniform):
        x = array(*shape)
        return x + 2 * matrices.identity(x)

    yield solve(), triangle(2, 2), draw.uniform(3, 2)
    yield solve(left_side=True, lower=True), triangle(2, 2), draw.uniform(2, 1)
    yield solve(lower=True, unit_diagonal=True), triangle(2, 2, 2), draw.uniform(2, 3, 2)
    yield solve(left_side=True, transpose_a=True), triangle(2, 2), draw.uniform(2, 3)
    for left in (True, False):
        pair = triangle(2, 2, array=draw.complex), draw.complex(2, 2)
        yield solve(left_side=left, transpose_a=left, conjugate_a=True), *pair


@rule("triangular_solve", example=lambda draw: list(_triangular_examples(draw)))
def triangular_solve(g, z, a, b, *, left_side, lower, transpose_a, conjugate_a, unit_diagonal):
    """z = M⁻¹b, M = A, Aᵀ, Ā or Aᴴ        ∂z = M⁻¹ (∂b − ∂M z); or on the right, z = b M⁻¹"""
    flags = {"lower": lower, "conjugate_a": conjugate_a, "unit_diagonal": unit_diagonal}
    transposed = {"left_side": left_side, "transpose_a": not transpose_a}
    g_b = lax.linalg.triangular_solve(a, g, **transposed, **flags)

    def g_a():
        g_m = -dot(g_b, z.mT) if left_side else -dot(z.mT, g_b)
        g_m = g_m.mT if transpose_a else g_m
        g_m = conj(g_m) if conjugate_a else g_m
        # Only A's triangle is read; of a unit diagonal not even that.
        k = int(unit_diagonal)
        return matrices.lower(g_m, -k) if lower else matrices.upper(g_m, k)

    return g_a, g_b


# --- A is three diagonals ---------------------------------------------------------------------


def _tridiagonal_examples(draw):
    for batch, array in (((), draw.uniform), ((2,), draw.uniform), ((), draw.complex)):
        below, middle, above, b = (array(*batch, 4) for _ in range(4))
        yield lax.linalg.tridiagonal_solve, below, middle + 3, above, b[..., None]


@rule("tridiagonal_solve", example=lambda draw: list(_tridiagonal_examples(draw)))
def tridiagonal_solve(g, z, below, middle, above, b, **how):
    """A z = b, A of three diagonals        ∂z = A⁻¹ (∂b − ∂A z)"""
    # Row i of A z is below[i] z[i−1] + middle[i] z[i] + above[i] z[i+1].
    transposed = (_moved(above, 1, -1), middle, _moved(below, -1, -1))
    g_b = lax.linalg.tridiagonal_solve(*transposed, g, **how)

    def g_diagonal(k):
        return lambda: -lax.reduce_sum(g_b * _moved(z, -k, -2), [z.ndim - 1])

    return g_diagonal(-1), g_diagonal(0), g_diagonal(1), g_b


def _moved(x, k, axis):
    """Entry i at i + k along the axis; zeros come in from the end."""
    widths = [(0, 0, 0)] * x.ndim
    widths[axis] = (k, -k, 0)
    return lax.pad(x, lax.full((), 0, x.dtype), widths)


# --- A is a function --------------------------------------------------------------------------
#
# The equation holds four graphs: A ("matvec"), Aᵀ ("vecmat"), A⁻¹ ("solve") and A⁻ᵀ
# ("transpose_solve"), each with the values that it closes over, which lead the inputs. That of the
# transposed equation holds them in another order. Of the values only A's are differentiated:
# g_b as above, and g · ∂z/∂w = −g_b · ∂(A z)/∂w, by the passes over A's graph.


def _solve_activity(equation: Any, active: Sequence[bool], settings: Settings):
    """z moves with b and with what A closes over; what else the solver tells does not."""
    lengths = equation.params["const_lengths"]
    moving = any(active[: lengths.matvec]) or any(active[sum(lengths) :])
    size = len(active) - sum(lengths)
    types = [v.aval for v in equation.outvars]
    return tuple(moving and i < size and _jax.is_differentiable(t) for i, t in enumerate(types))


def _split_solve(equation, active, wanted, settings) -> Halves:
    """A z = b        ∂z/∂b = A⁻¹, ∂z/∂w = −A⁻¹ ∂(A z)/∂w for what A closes over"""
    lengths, graphs = (equation.params[name] for name in ("const_lengths", "jaxprs"))
    if any(wanted) and graphs.transpose_solve is None:
        file, line, _ = _jax.line_of(equation)
        raise TypeError(
            "transpose_solve required for backwards mode automatic differentiation of "
            f"custom_linear_solve (used at {file}:{line}); if A = Aᵀ, say symmetric=True"
        )
    consts, size = sum(lengths), len(active) - sum(lengths)
    product = _jax.close(graphs.matvec)
    inside = (*active[: lengths.matvec], *(False,) * size)
    every = (True,) * size
    cut = saving.split(product, inside, every, (False,) * size, settings) if any(inside) else None

    def forward(*inputs):
        if any(isinstance(x, _jax.Unknown) for x in inputs):
            outputs = [_jax.Unknown(v.aval) for v in equation.outvars]
        else:
            outputs = _jax.bind(equation, inputs)
        return outputs, [*inputs[:consts], *(outputs[:size] if cut else ())]

    def backward(saved, g):
        ends = [0, *accumulate(lengths)]
        held = type(lengths)(*(saved[i:j] for i, j in pairwise(ends)))
        types = [v.aval for v in equation.outvars[:size]]
        arriving = [_jax.zeros(t) if x is None else x for x, t in zip(g, types, strict=False)]
        other = {"const_lengths": lengths.transpose(), "jaxprs": graphs.transpose()}
        values = [x for group in held.transpose() for x in group]
        g_b = equation.primitive.bind(*values, *arriving, **other)[:size]
        g_w = [None] * lengths.matvec
        if cut is not None:
            halves = cut.halves(inside, every, _jax.evaluate, _jax.evaluate)
            _, record = halves.forward(*held.matvec, *saved[consts:])
            g_w = halves.backward(record, [lax.neg(x) for x in g_b])[: lengths.matvec]
        return [*g_w, *[None] * (consts - lengths.matvec), *g_b]

    return Halves(forward, backward)


def _solve_example(draw):
    def dense(product, b):
        return jnp.linalg.solve(jax.jacobian(product)(b), b)

    def solve(w, b):
        return lax.custom_linear_solve(
            lambda z: jnp.exp(w) * z + w * jnp.sum(z), b, dense, transpose_solve=dense
        )

    return solve, draw.uniform(3), draw.uniform(3)


custom_linear_solve = CallRule(
    "custom_linear_solve", _split_solve, _solve_activity, example=_solve_example
)

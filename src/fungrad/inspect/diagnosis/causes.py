"""Why an entry is NaN or infinite where it was born, in words, and the usual cure.

Two tables, for the forward pass by what the operation's inputs are, for the backward pass by where
the slope is infinite. What is in neither is told by its numbers: what exceeds the largest number of
its dtype has overflowed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from fungrad.graph import Node
from fungrad.inspect.diagnosis import cures
from fungrad.inspect.diagnosis.facts import Facts, figure

Reason = tuple[str, str]
"""The cause and the cure."""


class Offence(NamedTuple):
    """A way to make a NaN or an infinity.

    Attributes:
        primitives: the operations that do.
        when: of the numbers of the inputs, whether it is this way; one is enough of many.
        cause, cure: what is said; `{x}` and `{y}` are the first two inputs.
    """

    primitives: str
    when: Callable[..., Any]
    cause: str
    cure: str


def _infinite(*inputs: Any) -> Any:
    return any(np.any(np.isinf(x)) for x in inputs if np.asarray(x).dtype.kind in "fc")


def _always(*_: Any) -> bool:
    return True


FORWARD = (
    Offence("log log2", lambda x: x == 0, "log 0 = −∞", cures.LOG_SPACE),
    Offence("log", lambda x: x < 0, "log of a negative number, {x}", cures.LOG_SPACE),
    Offence("log1p", lambda x: x == -1, "log1p(−1) = log 0 = −∞", cures.LOG_SPACE),
    Offence("log1p", lambda x: x < -1, "log1p of {x}, which is less than −1", cures.LOG_SPACE),
    Offence("div", lambda x, y: (x == 0) & (y == 0), "0 / 0 is NaN", cures.SAFE_QUOTIENT),
    Offence("div rem", lambda x, y: y == 0, "a division by zero", cures.SAFE_QUOTIENT),
    Offence("sqrt rsqrt", lambda x: x < 0, "the root of a negative number, {x}", cures.SAFE_ROOT),
    Offence("rsqrt", lambda x: x == 0, "1 / √0 = ∞: a division by zero", cures.SAFE_ROOT),
    Offence("pow", lambda x, y: (x == 0) & (y < 0), "0 ** {y} = ∞", cures.SAFE_POWER),
    Offence(
        "pow", lambda x, y: x < 0, "a negative number, {x}, to the power {y}", cures.SAFE_POWER
    ),
    Offence("integer_pow", lambda x: x == 0, "0 to a negative power", cures.SAFE_QUOTIENT),
    Offence("atanh", lambda x: abs(x) == 1, "atanh {x} is infinite", cures.INSIDE_DOMAIN),
    Offence(
        "asin acos atanh", lambda x: abs(x) > 1, "{x} is outside of [−1, 1]", cures.INSIDE_DOMAIN
    ),
    Offence("acosh", lambda x: x < 1, "acosh of {x}, less than 1", cures.INSIDE_DOMAIN),
    Offence("erf_inv", lambda x: abs(x) >= 1, "erf_inv of {x}", cures.INSIDE_DOMAIN),
    Offence(
        "lgamma digamma polygamma zeta igamma igammac regularized_incomplete_beta",
        lambda *x: not _infinite(*x),
        "a pole of the function, at {x}",
        cures.AWAY_FROM_POLES,
    ),
    Offence(
        "tan",
        lambda x: not _infinite(x),
        "a pole of the function, at {x}",
        cures.AWAY_FROM_POLES,
    ),
    Offence(
        "cholesky", _always, "the matrix is not positive definite, or has no root", cures.POSITIVE
    ),
    Offence(
        "lu triangular_solve custom_linear_solve tridiagonal_solve lu_solve",
        _always,
        "the matrix is singular: its inverse has infinite entries",
        cures.REGULAR,
    ),
    Offence(
        "eigh eig svd qr householder_product schur tridiagonal",
        _always,
        "the decomposition of this matrix failed",
        cures.REGULAR,
    ),
)

_EIGEN = "two eigenvalues or singular values are equal, so that 1 / (λᵢ − λⱼ) is infinite"

BACKWARD = (
    Offence(
        "sqrt", lambda x: x == 0, "the slope of √x at 0, 1 / 2√x, is infinite", cures.SAFE_ROOT
    ),
    Offence("cbrt", lambda x: x == 0, "the slope of ∛x at 0 is infinite", cures.SAFE_ROOT),
    Offence("rsqrt", lambda x: x == 0, "the slope of 1 / √x at 0 is infinite", cures.SAFE_ROOT),
    Offence(
        "log", lambda x: x == 0, "the slope of log x at 0, 1 / x, is infinite", cures.LOG_SPACE
    ),
    Offence("log1p", lambda x: x == -1, "the slope of log1p at −1 is infinite", cures.LOG_SPACE),
    Offence(
        "div", lambda x, y: y == 0, "a division by zero: the slope is 1 / 0", cures.SAFE_QUOTIENT
    ),
    Offence(
        "pow",
        lambda x, y: x == 0,
        "the base is 0, where the slope of x ** y is infinite or undefined",
        cures.SAFE_POWER,
    ),
    Offence(
        "pow", lambda x, y: x < 0, "the base is negative, and log x is undefined", cures.SAFE_POWER
    ),
    Offence("integer_pow", lambda x: x == 0, "the slope of 1 / xⁿ at 0", cures.SAFE_QUOTIENT),
    Offence(
        "asin acos atanh acosh",
        lambda x: abs(x) >= 1,
        "the slope of {name} at {x} is infinite",
        cures.INSIDE_DOMAIN,
    ),
    Offence("erf_inv", _always, "the slope of erf_inv at {x} is infinite", cures.INSIDE_DOMAIN),
    Offence("abs sign", lambda x: x == 0, "the slope of |x| at 0 is undefined", cures.SAFE_NORM),
    Offence(
        "atan2",
        lambda x, y: (x == 0) & (y == 0),
        "at (0, 0) the slope of atan2, (y, −x) / (x² + y²), is 0 / 0",
        cures.SAFE_ANGLE,
    ),
    Offence(
        "lgamma digamma polygamma zeta igamma igammac regularized_incomplete_beta tan",
        _always,
        "a pole of the slope, at {x}",
        cures.AWAY_FROM_POLES,
    ),
    Offence("cholesky", _always, "the matrix is singular: a diagonal entry is 0", cures.POSITIVE),
    Offence("eigh eig svd", _always, _EIGEN, cures.DISTINCT),
    Offence(
        "qr householder_product lu triangular_solve custom_linear_solve tridiagonal_solve",
        _always,
        "the matrix is singular, not of full rank, and its inverse is needed",
        cures.REGULAR,
    ),
)

_BY_FUNCTION = (
    ("norm", cures.SAFE_NORM),
    ("std", cures.SAFE_DEVIATION),
    ("softmax", cures.MASKED_ROW),
)


def reason_of(facts: Facts) -> Reason:
    """Why the entry is NaN or infinite, and what is usually done about it."""
    cause, cure = _backward(facts) if facts.is_pull else _forward(facts)
    for function, better in _BY_FUNCTION:
        if function in facts.functions:
            cure = better
    if facts.op.place.is_backward and not facts.is_sum and (written := written_for(facts.node)):
        cause = f"{cause}, in the derivative that the author of {written} wrote"
        return cause, cure if facts.is_pull else cures.CUSTOM
    return cause, cure


def written_for(node: Node) -> str | None:
    """The function around a node whose author wrote the derivative, if there is one."""
    around = [
        call for call in node.path if call.primitive in ("custom_jvp_call", "custom_vjp_call")
    ]
    return around[-1].callee or around[-1].primitive if around else None


def _found(table: Sequence[Offence], facts: Facts) -> Reason | None:
    for offence in table:
        if facts.primitive in offence.primitives.split():
            arity = offence.when.__code__.co_argcount or len(facts.ins)
            if np.any(offence.when(*facts.ins[:arity])):
                return _filled_in(offence.cause, facts), offence.cure
    return None


def _filled_in(text: str, facts: Facts) -> str:
    def one(i):
        x = facts.ins[i] if i < len(facts.ins) else None
        return figure(x) if x is not None and np.ndim(x) == 0 else "such a number"

    return text.format(x=one(0), y=one(1), name=facts.primitive)


def _forward(facts: Facts) -> Reason:
    if facts.is_sum:
        return _sum(facts)
    is_nan = bool(np.isnan(facts.number))
    if is_nan and _infinite(*facts.ins):
        return _with_infinities(facts)
    if found := _found(FORWARD, facts):
        return found
    if is_nan:
        return f"{facts.primitive} is undefined for these numbers", cures.PLAIN
    return _overflow(facts, f"the result of {facts.primitive}")


def _sum(facts: Facts) -> Reason:
    if np.isnan(facts.number):
        return "gradients of +∞ and −∞ are added", cures.UNBOUNDED
    return _overflow(facts, "the sum of the gradients that meet here")


def _with_infinities(facts: Facts) -> Reason:
    if "softmax" in facts.functions or "log_softmax" in facts.functions:
        return "all entries of a row are −∞: −∞ − (−∞) is NaN", cures.MASKED_ROW
    names = {"mul": "0 · ∞", "dot_general": "0 · ∞ or ∞ − ∞", "div": "∞ / ∞"}
    return f"{names.get(facts.primitive, '∞ − ∞')} is NaN", cures.PLAIN


def _overflow(facts: Facts, what: str) -> Reason:
    dtype = jnp.result_type(facts.mark.value.array)
    largest = figure(float(jnp.finfo(dtype).max))
    cause = f"overflow: {what} exceeds the largest {dtype}, {largest}"
    exponential = facts.primitive in ("exp", "exp2", "expm1", "sinh", "cosh")
    return cause, cures.LOG_SUM_EXP if exponential else cures.WIDER


def _backward(facts: Facts) -> Reason:
    if not facts.is_pole:
        if _infinite(*facts.of_role("g")):
            return "an infinite gradient meets a zero", cures.UNBOUNDED
        return _overflow(facts, f"the gradient times the slope of {facts.primitive}")
    found = _found(BACKWARD, facts)
    if found is None and _infinite(*facts.of_role("out")):
        return _overflow(facts, f"the result of {facts.primitive}, and its slope,")
    cause, cure = found or (f"the slope of {facts.primitive} is infinite or undefined", cures.PLAIN)
    if found is None and facts.primitive in ("custom_jvp_call", "custom_vjp_call"):
        cure = cures.CUSTOM
    if np.isnan(facts.number) and facts.g_is_zero:
        return f"{cause}, and 0 · ∞ = NaN: the gradient that arrives is 0", cures.DOUBLE_WHERE
    return cause, cure

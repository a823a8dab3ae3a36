"""Witnesses: independent ways to know a gradient, each of which compares it with a pullback's.

A witness is a function `(case, g, points) -> claims` that can be traced: what the pullback under
test says, and what another source says. It makes no claim where it has nothing to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from fungrad.check.arrays import (
    Arrays,
    conjugates,
    flattened,
    folded,
    inner,
    parts,
    random_like,
    scaled,
    widest,
)
from fungrad.check.cases import Case
from fungrad.check.claims import Claim, Witness
from fungrad.check.differences import PROJECTIONS, scales, slopes

_FEW = 64  # entries up to which differences are taken one by one beside another witness
_JACOBIAN = 4096  # entries up to which a Jacobian is written out


def reference(case: Case, g: Arrays, points: Arrays) -> list[Claim]:
    """Each entry of each gradient is that of JAX's autodiff of the reference."""
    if case.reference is None:
        return []
    return [Claim(case.pull(g, points), case.by_reference(g, points), about="entries")]


def differences(case: Case, g: Arrays, points: Arrays) -> list[Claim]:
    """G · v is the slope of g · f along v: random v, and one entry at a time.

    One entry at a time where there are few, or where nothing else knows the gradient.
    """
    total = sum(map(parts, points))
    if case.kink or not total:
        return []
    every = total <= _FEW or case.reference is None
    return _slopes(case, g, points, np.arange(PROJECTIONS + (total if every else 0)))


def differences_everywhere(case: Case, g: Arrays, points: Arrays) -> list[Claim]:
    """Every entry of every gradient is the slope along that entry."""
    return _slopes(case, g, points, np.arange(PROJECTIONS + sum(map(parts, points))))


def _slopes(case: Case, g: Arrays, points: Arrays, which: np.ndarray) -> list[Claim]:
    found = slopes(case, g, points, case.pull(g, points), which)
    got, want, error = ([x[:PROJECTIONS]] for x in found)
    claims = [Claim(got, want, error, paths=("a random direction",), about="directions")]
    if len(which) > PROJECTIONS:
        got, want, error = (_entries(x[PROJECTIONS:], points) for x in found)
        claims.append(Claim(got, want, [jnp.abs(x) for x in error], about="entries"))
    return claims


def _entries(found: Any, points: Arrays) -> list[Any]:
    """Slopes along all parts, as gradients: of a complex number ∂f/∂x − i ∂f/∂y."""
    pairs = zip(points, scales(points), strict=True)
    sizes = jnp.concatenate([jnp.full(parts(x), scale) for x, scale in pairs])
    return conjugates(folded(found / sizes, [widest(x) for x in points]))


def jacobian(case: Case, g: Arrays, points: Arrays) -> list[Claim]:
    """The pullback's Jacobian, row by row, is that of JAX's forward mode, column by column."""
    columns, rows = sum(map(parts, points)), sum(map(parts, g))
    if case.kink or case.reference is None or not 0 < rows * columns <= _JACOBIAN:
        return []

    known: Any = case.reference

    def outputs(vector):
        return flattened([widest(z) for z in known(*folded(vector, points))])

    def pull(row):  # dL = Re(g dz), so the conjugate of g is dL by the parts of z
        pulled = case.pull(conjugates(folded(row, g)), points)
        return flattened([widest(x) for x in conjugates(pulled)])

    try:
        with jax.numpy_dtype_promotion("standard"):
            want = jax.jacfwd(outputs)(flattened([widest(x) for x in points]))
    except Exception:  # of any type: a custom_vjp inside has no forward mode
        return []
    try:
        got = jax.vmap(pull)(np.eye(rows))
    except Exception:  # of any type: a callback need not be made for batches
        got = lax.map(pull, np.eye(rows))
    ends = np.cumsum([parts(x) for x in points])[:-1]
    by_argument = [jnp.split(x, ends, axis=1) for x in (got, want)]
    return [Claim(by_argument[0], by_argument[1], rows=True)]


def linearity(case: Case, g: Arrays, points: Arrays) -> list[Claim]:
    """The pullback is linear in g: of 2 g − 3 g' it is twice that of g less three times of g'.

    And of zero it is zero, wherever it is finite at all.
    """
    if case.kink:
        return []
    other = random_like(g, seed=4)
    mixed = [scaled(x, 2) - scaled(y, 3) for x, y in zip(g, other, strict=True)]
    first, second = case.pull(g, points), case.pull(other, points)
    want = [scaled(x, 2) - scaled(y, 3) for x, y in zip(first, second, strict=True)]
    zero = case.pull([jnp.zeros_like(x) for x in g], points)
    # Where a slope is infinite, JAX's rules make NaN of 0 · ∞ as well.
    zero = [
        jnp.where(jnp.isfinite(x), z, jnp.zeros_like(z)) for x, z in zip(first, zero, strict=True)
    ]
    return [Claim(case.pull(mixed, points), want), Claim(zero, [jnp.zeros_like(x) for x in points])]


def second_order(case: Case, g: Arrays, points: Arrays) -> list[Claim]:
    """The gradient's own gradient, along a random direction.

    It is JAX's of the reference, or the slope of the gradient where there is no reference.
    """
    if case.kink:
        return []
    w = random_like(points, seed=3)

    def gradients(pull):
        def total(g, points):
            return inner(w, pull(g, points))

        by_g, by_points = jax.grad(total, argnums=(0, 1))(list(g), list(points))
        return [*by_g, *by_points]

    try:
        with jax.numpy_dtype_promotion("standard"):
            got = gradients(case.pull)
    except Exception:  # of any type: a rule need not be differentiable itself
        return []
    if case.reference is not None:
        try:
            want = gradients(case.by_reference)
        except Exception:  # JAX cannot
            return []
        names = [f"the gradient at output {k}" for k in range(len(g))]
        paths = (*names, *(f"{path}, in second order" for path in case.paths))
        return [Claim(got, want, paths=paths)]

    def again(*points):
        return [inner(w, case.pull(g, points))]

    once = replace(case, function=again)
    found = slopes(once, [jnp.ones(())], points, got[len(g) :], np.arange(1))
    return [Claim([found.got], [found.want], [found.error], paths=("second order",))]


def vmap(case: Case, g: Arrays, points: Arrays) -> list[Claim]:
    """Batched over g and the arguments, the pullback says what it says one by one."""
    if case.kink:
        return []
    several = [g, points], [[scaled(x, 2) for x in g], [scaled(x, 0.9) for x in points]]
    batch = jax.tree.map(lambda *x: jnp.stack(x), *jax.tree.map(jnp.asarray, several))

    def one(g_and_points):
        return case.pull(*g_and_points)

    try:
        together = jax.vmap(one)(batch)
    except NotImplementedError:  # a callback that is made for one call at a time
        return []
    one_by_one = [one(jax.tree.map(lambda x, i=i: x[i], batch)) for i in range(2)]
    return [Claim(together, [jnp.stack(x) for x in zip(*one_by_one, strict=True)])]


def parts_alone(case: Case, g: Arrays, points: Arrays) -> list[Claim]:
    """A missing g is a zero, and each argument alone gets the gradient that it gets with others."""
    if case.kink:
        return []
    claims = []
    for k in range(len(g) if len(g) > 1 else 0):
        missing = [None if i == k else x for i, x in enumerate(g)]
        zero = [jnp.zeros_like(x) if i == k else x for i, x in enumerate(g)]
        claims.append(Claim(case.pull(missing, points), case.pull(zero, points)))
    if len(points) > 1:
        together = case.pull(g, points)
        alone = [case.pull(g, points, [i])[0] for i in range(len(points))]
        claims.append(Claim(alone, together))
    return claims


def rounding(case: Case, g: Arrays, points: Arrays) -> list[Claim]:
    """In a narrow format, the gradients are those of float64, but for rounding.

    Or as near to those as JAX's of the reference are in that format.
    """
    if case.exact is None:
        return []
    got = case.pull(g, points)
    exact = case.true_gradients
    want = [widest(jnp.asarray(x)) for x in exact]
    slack = [jnp.zeros(x.shape) for x in want]
    if case.reference is not None:
        theirs = case.by_reference(g, points)
        slack = [2 * _finite(jnp.abs(widest(x) - y)) for x, y in zip(theirs, want, strict=True)]
    return [Claim(got, want, slack)]


def _finite(x: Any) -> Any:
    return jnp.where(jnp.isfinite(x), x, jnp.zeros_like(x))


def linear_inputs(case: Case, g: Arrays, points: Arrays) -> list[Claim]:
    """Where a node is linear in inputs, their gradients do not depend on their values.

    In a graph of tangents such inputs, and with them the output, have no value.
    """
    if case.blind is None or case.kink:
        return []
    want = case.pull(g, points)
    claims = []
    for chosen in [*([i] for i in range(len(points))), list(range(len(points)))]:
        if is_linear(case.function, g, points, chosen):
            got = case.blind(g, points, chosen)
            paths = tuple(case.paths[i] for i in chosen)
            claims.append(Claim(got, [want[i] for i in chosen], paths=paths))
    return claims


def is_linear(function: Any, g: Arrays, points: Arrays, chosen: Sequence[int]) -> bool:
    """Whether JAX can transpose a function by the chosen ones of its arguments."""

    def f(*xs):
        given = dict(zip(chosen, xs, strict=True))
        return function(*(given.get(i, x) for i, x in enumerate(points)))

    try:
        jax.linear_transpose(f, *(points[i] for i in chosen))(list(g))
    except Exception:  # of any type: JAX's rules of transposition assert what they need
        return False
    return True


def engine(case: Case, g: Arrays, points: Arrays) -> list[Claim]:
    """Through `fungrad.vjp` the gradients are the same."""
    if case.engine is None:
        return []
    return [Claim(case.engine(g, points), case.pull(g, points))]


def values(case: Case, g: Arrays, points: Arrays) -> list[Claim]:
    """Beside its pullback a transform returns the function's own values."""
    if case.vjp is None:
        return []
    want = (case.reference or case.function)(*points)
    paths = tuple(f"output {k}" for k in range(len(g)))
    return [Claim(case.vjp(*points)[0], want, paths=paths)]


WITNESSES: dict[str, Witness] = {
    "values": values,
    "reference": reference,
    "differences": differences,
    "jacobian": jacobian,
    "linearity": linearity,
    "second order": second_order,
    "vmap": vmap,
    "parts": parts_alone,
    "rounding": rounding,
    "linear inputs": linear_inputs,
    "engine": engine,
}

"""Witnesses: independent ways to know a gradient, each of which compares it with a pullback's.

A witness is a function `(case, g, points) -> claims` that can be traced: what the pullback under
test says, and what another source says. It makes no claim where the question does not arise, and
gives the reason of its silence where it does but has no answer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from fungrad import _jax
from fungrad.check.analytic import NotAnalytic, complex_slopes
from fungrad.check.arrays import (
    Arrays,
    conjugates,
    eps_of,
    flattened,
    folded,
    inner,
    magnitudes,
    parts,
    random_like,
    scaled,
    widest,
)
from fungrad.check.cases import Case
from fungrad.check.claims import Claim, Silence, Witness
from fungrad.check.differences import PROJECTIONS, finite_of, scales, slopes

Said = list[Claim | Silence]

_SIXTEEN_BITS = 1e-4  # the eps of wider formats is below
_FEW = 64  # entries up to which differences are taken one by one beside another witness
_SIDE = 512  # rows, and columns, up to which a Jacobian is written out
_ROWS = 4  # random rows, and random columns, that stand for a larger one


def reference(case: Case, g: Arrays, points: Arrays) -> Said:
    """Each entry of each gradient is that of JAX's autodiff of the reference."""
    if case.reference is None:
        return [_NO_REFERENCE]
    return [Claim(case.pull(g, points), case.by_reference(g, points), about="entries")]


_NO_REFERENCE = Silence("JAX has no gradient to compare with")


def differences(case: Case, g: Arrays, points: Arrays) -> Said:
    """G · v is the slope of g · f along v: random v, and one entry at a time.

    One entry at a time where there are few, or where nothing else knows the gradient.
    """
    if case.kink or not sum(map(parts, points)):
        return []
    return _along(_slopes(slopes, case, g, points, _chosen(case, points)), points)


def differences_everywhere(case: Case, g: Arrays, points: Arrays) -> Said:
    """Every entry of every gradient is the slope along that entry."""
    every = np.arange(PROJECTIONS + sum(map(parts, points)))
    return _along(_slopes(slopes, case, g, points, every), points)


def complex_step(case: Case, g: Arrays, points: Arrays) -> Said:
    """G · v is the slope of g · f along v, without a difference, where f is analytic.

    Of a function that computes in 16 bits it would be the slope of another one, without rounding.
    """
    if case.kink or case.eps > _SIXTEEN_BITS or not sum(map(parts, points)):
        return []
    try:
        return _along(_slopes(complex_slopes, case, g, points, _chosen(case, points)), points)
    except NotAnalytic:
        return []


def _slopes(by: Any, case: Case, g: Arrays, points: Arrays, which: np.ndarray) -> Any:
    """Slopes by the gradient and by `by`; the former may be as far off as a stated reference's."""
    found = by(case, g, points, case.pull(g, points), which)
    if not case.is_stated or case.reference is None:
        return found
    theirs = by(case, g, points, case.by_reference(g, points), which)
    return found._replace(error=found.error + _finite(jnp.abs(theirs.got - theirs.want)))


def _chosen(case: Case, points: Arrays) -> np.ndarray:
    """The numbers of the directions along which slopes are taken."""
    total = sum(map(parts, points))
    every = total <= _FEW or case.reference is None
    return np.arange(PROJECTIONS + (total if every else 0))


def _along(found: Sequence[Any], points: Arrays) -> Said:
    """Slopes by a gradient, the same by a witness, and its error, as claims."""
    got, want, error = ([x[:PROJECTIONS]] for x in found)
    paths = ("a random direction",)
    claims: Said = [Claim(got, want, error, paths, about="directions")]
    if len(found[0]) > PROJECTIONS:
        got, want, error = (_entries(x[PROJECTIONS:], points) for x in found)
        error = [jnp.abs(x) for x in error]
        claims.append(Claim(got, want, error, about="entries"))
    return claims


def _entries(found: Any, points: Arrays) -> list[Any]:
    """Slopes along all parts, as gradients: of a complex number ∂f/∂x − i ∂f/∂y."""
    pairs = zip(points, scales(points), strict=True)
    sizes = jnp.concatenate([jnp.full(parts(x), scale) for x, scale in pairs])
    return conjugates(folded(found / sizes, [widest(x) for x in points]))


def jacobian(case: Case, g: Arrays, points: Arrays) -> Said:
    """The pullback's Jacobian, row by row, is that of JAX's forward mode, column by column.

    And the pullback of g is vec(g) times it. Of a Jacobian of more than 512 rows or columns, the
    products with random rows and columns are compared.
    """
    columns, rows = sum(map(parts, points)), sum(map(parts, g))
    if case.kink or not rows * columns:
        return []
    if case.reference is None:
        return [_NO_REFERENCE]
    is_large = max(rows, columns) > _SIDE
    left = _vectors(g, _ROWS) if is_large else np.eye(rows)
    of_each = [_vectors([x], _ROWS) if is_large else np.eye(parts(x)) for x in points]
    right = _block_diagonal(of_each)
    push = partial(_push, case, points)
    try:
        if "custom_lin" in set(_primitives(jax.make_jaxpr(push)(right[0]))):
            raise NotImplementedError  # JAX itself would say so when it compiles it
        pushed = _for_each(push, right).T  # J · right
    except Exception as error:  # of any type: a custom_vjp inside has no forward mode
        return [Silence(f"JAX has no forward mode of it ({type(error).__name__})")]
    whole = case.pull(g, points)
    is_finite = jnp.isfinite(flattened([widest(x) for x in whole]))  # elsewhere 0 · ∞ is in rows
    pulled = _for_each(partial(_pull, case, g, points), left)  # left · J
    pulled = jnp.where(is_finite, pulled, 0.0)
    ends = np.cumsum([len(x) for x in of_each])[:-1]
    if is_large:
        paths = tuple(f"{path}, along a random row and column" for path in case.paths)
        got, want = (jnp.split(x, ends, axis=1) for x in (pulled @ right.T, left @ pushed))
        return [Claim(got, _known(want, got), paths=paths)]
    pushed = jnp.where(is_finite, pushed, 0.0)
    got, want = (jnp.split(x, ends, axis=1) for x in (pulled, pushed))
    row = flattened([widest(x) for x in conjugates(g)])
    product = conjugates(folded(row @ pulled, [widest(x) for x in points]))
    whole, _ = finite_of(whole)
    return [Claim(got, _known(want, got), rows=True), Claim(whole, product)]


def _known(want: Arrays, got: Arrays) -> list[Any]:
    """What is wanted; where it is ∞ − ∞ or 0 · ∞, and so no number, what was got."""
    return [jnp.where(jnp.isnan(x), y, x) for x, y in zip(want, got, strict=True)]


def _primitives(graph: Any) -> Iterator[str]:
    for equation in graph.jaxpr.eqns:
        yield equation.primitive.name
        for held in _jax.subgraphs(equation):
            yield from _primitives(held)


def _push(case: Case, points: Arrays, column: Any) -> Any:
    """J · column, by JAX's forward mode."""
    known: Any = case.reference
    with jax.numpy_dtype_promotion("standard"):
        _, out = jax.jvp(known, tuple(map(jnp.asarray, points)), tuple(folded(column, points)))
    return flattened([widest(z) for z in out])


def _pull(case: Case, g: Arrays, points: Arrays, row: Any) -> Any:
    """row · J: as dL = Re(g dz), the conjugate of g is dL by the parts of z."""
    pulled = case.pull(conjugates(folded(row, g)), points)
    return flattened([widest(x) for x in conjugates(pulled)])


def _for_each(function: Any, vectors: np.ndarray) -> Any:
    try:
        return jax.vmap(function)(vectors)
    except Exception:  # of any type: not everything can be batched
        return lax.map(function, vectors)


def _vectors(arrays: Arrays, count: int) -> np.ndarray:
    """Random vectors of the arrays' parts."""
    draw = np.random.default_rng(7)
    return draw.uniform(0.5, 2, (count, sum(map(parts, arrays))))


def _block_diagonal(blocks: Sequence[np.ndarray]) -> np.ndarray:
    rows, columns = (np.cumsum([0, *(block.shape[i] for block in blocks)]) for i in (0, 1))
    whole = np.zeros((rows[-1], columns[-1]))
    for block, i, k in zip(blocks, rows, columns, strict=False):
        whole[i : i + block.shape[0], k : k + block.shape[1]] = block
    return whole


def linearity(case: Case, g: Arrays, points: Arrays) -> Said:
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
    got = case.pull(mixed, points)
    return [Claim(got, _known(want, got)), Claim(zero, [jnp.zeros_like(x) for x in points])]


def second_order(case: Case, g: Arrays, points: Arrays) -> Said:
    """The gradient's own gradient, along a random direction.

    It is JAX's of the reference, or the slope of the gradient where there is no reference.
    """
    if case.kink:
        return []

    def gradients(pull):
        def total(g, points):
            return inner(case.weights, pull(g, points))

        by_g, by_points = jax.grad(total, argnums=(0, 1))(list(g), list(points))
        return [*by_g, *by_points]

    want = None
    if case.reference is not None:
        with contextlib.suppress(Exception):  # of any type: JAX need not have it
            want = gradients(case.by_reference)
    try:
        with jax.numpy_dtype_promotion("standard"):
            got = gradients(case.pull)
    except Exception as error:  # of any type
        if want is not None and case.vjp is None:
            raise  # a rule is differentiable where JAX's is; a function's pullback need not be
        return [Silence(f"the gradient has none of its own ({type(error).__name__})")]
    if want is not None:
        n = len(g)
        names = tuple(f"the gradient at output {k}" for k in range(n))
        paths = tuple(f"{path}, in second order" for path in case.paths)
        of_points = Claim(got[n:], want[n:], paths=paths, about="second order")
        return [Claim(got[:n], want[:n], paths=names), of_points]
    once = case.of_gradients()
    found = slopes(once, once.g, points, got[len(g) :], np.arange(1))
    return [Claim([found.got], [found.want], [found.error], paths=("second order",))]


def vmap(case: Case, g: Arrays, points: Arrays) -> Said:
    """Batched over g and the arguments, the pullback says what it says one by one."""
    if case.kink:
        return []
    several = [g, points], [[scaled(x, 2) for x in g], [scaled(x, 0.9) for x in points]]
    batch = jax.tree.map(lambda *x: jnp.stack(x), *jax.tree.map(jnp.asarray, several))

    def one(g_and_points):
        return case.pull(*g_and_points)

    try:
        together = jax.vmap(one)(batch)
    except NotImplementedError as error:  # a callback that is made for one call at a time
        return [Silence(f"it has no batches ({str(error).splitlines()[0]})")]
    one_by_one = [one(jax.tree.map(lambda x, i=i: x[i], batch)) for i in range(2)]
    return [Claim(together, [jnp.stack(x) for x in zip(*one_by_one, strict=True)])]


def parts_alone(case: Case, g: Arrays, points: Arrays) -> Said:
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


def rounding(case: Case, g: Arrays, points: Arrays) -> Said:
    """In a narrow format, the gradients are those of float64, but for rounding.

    Or as near to those as JAX's of the reference are in that format. They are taken at |g|: of
    terms of one sign a sum that is too coarse loses most, and rounding explains least.
    """
    if case.exact is None:
        return []
    g = magnitudes(g)
    got = case.pull(g, points)
    exact = case.true_gradients
    want = [widest(jnp.asarray(x)) for x in exact]
    theirs = want if case.reference is None else case.by_reference(g, points)
    slack = [2 * _finite(jnp.abs(widest(x) - y)) for x, y in zip(theirs, want, strict=True)]
    # Over many entries rounding errors cancel, and an error that all have in common does not.
    ours, due, other = (list(map(_product, x, want)) for x in (got, want, theirs))
    common = [
        2 * jnp.abs(c - b) + 2 * eps_of(x) * jnp.abs(b)
        for x, b, c in zip(got, due, other, strict=True)
    ]
    paths = tuple(f"{path}, all entries together" for path in case.paths)
    return [Claim(got, want, slack), Claim(ours, due, common, paths)]


def _product(x: Any, y: Any) -> Any:
    """Re Σ x ȳ of the entries where both are finite."""
    is_known = jnp.isfinite(x) & jnp.isfinite(y)
    return inner([jnp.where(is_known, widest(x), 0)], conjugates([jnp.where(is_known, y, 0)]))


def _finite(x: Any) -> Any:
    return jnp.where(jnp.isfinite(x), x, jnp.zeros_like(x))


def linear_inputs(case: Case, g: Arrays, points: Arrays) -> Said:
    """Where a node is linear in inputs, their gradients do not depend on their values.

    In a graph of tangents such inputs, and with them the output, have no value.
    """
    if case.blind is None or case.kink:
        return []
    want = case.pull(g, points)
    claims = []
    for chosen in [*([i] for i in range(len(points))), list(range(len(points)))]:
        if case.is_linear_in(chosen):
            got = case.blind(g, points, chosen)
            paths = tuple(case.paths[i] for i in chosen)
            claims.append(Claim(got, [want[i] for i in chosen], paths=paths))
    return claims


def engine(case: Case, g: Arrays, points: Arrays) -> Said:
    """Through `fungrad.vjp` the gradients are the same."""
    if case.engine is None:
        return []
    return [Claim(case.engine(g, points), case.pull(g, points))]


def values(case: Case, g: Arrays, points: Arrays) -> Said:
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
    "complex step": complex_step,
    "jacobian": jacobian,
    "linearity": linearity,
    "second order": second_order,
    "vmap": vmap,
    "parts": parts_alone,
    "rounding": rounding,
    "linear inputs": linear_inputs,
    "engine": engine,
}

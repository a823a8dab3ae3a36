"""Witnesses: independent ways to know a gradient, each of which compares it with a rule's.

A witness is a function `(rule, node, g, points) -> claims` that can be traced: what the rule says
at a node, and what another source says: JAX's own rule, differences, the explicit Jacobian, the
same rule in other number formats. `check` compiles a witness and compares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp
from jax.extend.core import jaxpr_as_fun

import fungrad as fg
from fungrad import _jax
from fungrad.rulebook import Rule
from tests.nodes import Arrays, Node, is_complex, is_float, random_like

RTOL = 1e-12

# --- Claims ---------------------------------------------------------------------------------


@partial(
    jax.tree_util.register_dataclass, data_fields=["got", "want", "slack"], meta_fields=["rtol"]
)
@dataclass(frozen=True)
class Claim:
    """That numbers are equal but for rtol of each, a tenth of rtol of the largest, and a slack.

    NaN and Inf must stand in the same places.
    """

    got: Arrays
    want: Arrays
    rtol: float = RTOL
    slack: Arrays | None = None

    def verify(self) -> None:
        assert len(self.got) == len(self.want)
        slack = self.slack or [np.zeros(())] * len(self.want)
        for a, b, extra in zip(self.got, self.want, slack, strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            a, b = (np.asarray(x, complex if is_complex(x) else float) for x in (a, b))
            size = np.abs(b[np.isfinite(b)]).max(initial=0.0)
            allowed = self.rtol * (np.abs(b) + 0.1 * size) + np.asarray(extra, float)
            same = (a == b) | (np.isnan(a) & np.isnan(b))
            with np.errstate(invalid="ignore"):
                near = np.isfinite(a) & np.isfinite(b) & (np.abs(a - b) <= allowed)
            assert np.all(near | same), f"a gradient is\n{a}\nwhere it should be\n{b}"


def check(witness: Any, rule: Rule, nodes: Sequence[Node]) -> int:
    """Take the witness at every node, in one compiled program; return how many claims it made."""

    def claims(at):
        return [
            _named(node, witness, rule, node, g, points)
            for node, (g, points) in zip(nodes, at, strict=True)
        ]

    # A program whose arguments are constants takes XLA a third of the time: it has them folded.
    at = [(node.g, node.points) for node in nodes]
    program, shape = jax.make_jaxpr(claims, return_shape=True)(at)
    numbers = jax.jit(lambda: jaxpr_as_fun(program)(*jax.tree.leaves(at)))()
    found = jax.tree.unflatten(jax.tree.structure(shape), numbers)
    for node, some in zip(nodes, found, strict=True):
        for claim in some:
            _named(node, claim.verify)
    return sum(map(len, found))


def _named(node: Node, function: Any, *args: Any) -> Any:
    try:
        return function(*args)
    except Exception as error:
        error.add_note(f"at the inputs {node.inputs} of {node.primitive} with {node.params}")
        raise


def by_jax(function: Any, *args: Any) -> Any:
    """The function's value where JAX has the rules that it needs, else `None`."""
    try:
        with jax.numpy_dtype_promotion("standard"):  # JAX's rule of pow with an integer needs that
            return function(*args)
    except NotImplementedError:
        return None


def pull_back(node: Node, g: Arrays, points: Arrays) -> list[Any]:
    """The gradients by JAX's rule."""
    return list(jax.vjp(node.function, *points)[1](g))


def inner(g: Arrays, x: Arrays) -> Any:
    """Re Σ g x: how far the loss moves when values move by x and their gradients are g."""
    return sum((jnp.real(jnp.sum(a * b)).astype(float) for a, b in zip(g, x, strict=True)), 0.0)


# --- Witnesses ------------------------------------------------------------------------------


def equals_jax(rule: Rule, node: Node, g: Arrays, points: Arrays) -> list[Claim]:
    """Each gradient is JAX's."""
    want = by_jax(pull_back, node, g, points)
    return [] if want is None else [Claim(node.gradients(rule, g, points), want)]


def equals_differences(rule: Rule, node: Node, g: Arrays, points: Arrays) -> list[Claim]:
    """g · J · v is the slope of g · f along a random v, by the five-point formula.

    s'(0) = (8 (s(h) − s(−h)) − (s(2h) − s(−2h))) / 12h + O(h⁴)
    """
    h = 2e-4
    v = random_like(points, seed=2)

    def s(t):
        out = node.function(*(x + t * d for x, d in zip(points, v, strict=True)))
        return inner(g, [jnp.where(jnp.isfinite(z), z, jnp.zeros((), z.dtype)) for z in out])

    slope = (8 * (s(h) - s(-h)) - (s(2 * h) - s(-2 * h))) / (12 * h)
    gradients = node.gradients(rule, g, points)
    size = sum(jnp.sum(jnp.abs(a * b)).astype(float) for a, b in zip(gradients, v, strict=True))
    rounding = max((float(jnp.finfo(x.dtype).eps) for x in g), default=0.0)
    slack = 1e-9 * size + 10 * rounding / h * (1 + size)
    finite = Claim([jnp.isfinite(slope)], [np.array(True)])
    return [finite, Claim([inner(gradients, v)], [slope], 0.0, [slack])]


def equals_jacobian(rule: Rule, node: Node, g: Arrays, points: Arrays) -> list[Claim]:
    """The rule's Jacobian, row by row, is that of JAX's forward mode, column by column.

    And the rule is linear in g: vec(g) · J is what it returns for g.
    """
    point, to_points = _vector(points)
    row, to_g = _vector(_conjugates(g))

    def f(x):
        return _vector(node.function(*to_points(x)))[0]

    def pull(row):  # dL = Re(g dz), so the conjugate of g is dL by the parts of z
        gradients = node.gradients(rule, _conjugates(to_g(row)), points)
        return _vector(_conjugates(gradients))[0]

    jacobian = jax.vmap(pull)(np.eye(row.size))
    want = by_jax(jax.jacfwd(f), point)
    linear = Claim([row @ jacobian], [pull(row)])
    return [linear] if want is None else [linear, Claim([jacobian], [want])]


def _vector(arrays: Arrays) -> Any:
    """The vector of all real and imaginary parts, and the function back."""
    parts = [jnp.stack([x.real, x.imag]) if is_complex(x) else x for x in arrays]
    shapes = [x.shape for x in parts]
    ends = np.cumsum([x.size for x in parts])[:-1]

    def back(vector):
        pieces = jnp.split(vector, ends)
        shaped = [piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]
        return [
            (lax.complex(x[0], x[1]) if is_complex(like) else x).astype(like.dtype)
            for x, like in zip(shaped, arrays, strict=True)
        ]

    return jnp.concatenate([x.astype(float).ravel() for x in parts]), back


def _conjugates(arrays: Arrays) -> list[Any]:
    return [jnp.conj(x) if is_complex(x) else x for x in arrays]


def equals_jax_twice(rule: Rule, node: Node, g: Arrays, points: Arrays) -> list[Claim]:
    """The gradient's own gradient, along a random direction, is JAX's."""
    w = random_like(points, seed=3)

    def gradient(of):
        return jax.tree.leaves(jax.vjp(lambda *x: inner(w, of(*x)), g, points)[1](np.ones(())))

    want = by_jax(gradient, partial(pull_back, node))
    return [] if want is None else [Claim(by_jax(gradient, partial(node.gradients, rule)), want)]


def keeps_under_vmap(rule: Rule, node: Node, g: Arrays, points: Arrays) -> list[Claim]:
    """Batched over g and the inputs, the rule says what it says one by one."""
    several = [g, points], [[2 * x for x in g], [0.9 * x for x in points]]
    batch = jax.tree.map(lambda *x: jnp.stack(x), *several)

    def one(g_and_points):
        return node.gradients(rule, *g_and_points)

    return [Claim(jax.vmap(one)(batch), lax.map(one, batch))]


def equals_float64(rule: Rule, node: Node, g: Arrays, points: Arrays) -> list[Claim]:
    """Of a node in another format: the gradients are those of float64, but for rounding.

    Or at least as near to those as JAX's are in that format.
    """
    got = node.gradients(rule, g, points)
    want = node.exact.gradients(rule, _in_float64(g), _in_float64(points))
    theirs = _in_float64(by_jax(pull_back, node, g, points) or got)
    slack = [jnp.abs(x - y) for x, y in zip(theirs, want, strict=True)]
    eps = max(float(jnp.finfo(x.dtype).eps) for x in got)
    return [Claim(_in_float64(got), want, 4 * eps, slack)]


def _in_float64(arrays: Arrays) -> list[Any]:
    return [x.astype("complex128" if is_complex(x) else "float64") for x in arrays]


def takes_missing_g_for_zero(rule: Rule, node: Node, g: Arrays, points: Arrays) -> list[Claim]:
    """Where no gradient arrives at one of several outputs, `None` does what zeros do."""
    claims = []
    for k in range(len(g) if len(g) > 1 else 0):
        missing = [None if i == k else x for i, x in enumerate(g)]
        zero = [jnp.zeros_like(x) if i == k else x for i, x in enumerate(g)]
        claims.append(
            Claim(node.gradients(rule, missing, points), node.gradients(rule, zero, points))
        )
    return claims


def reads_no_linear_input(rule: Rule, node: Node, g: Arrays, points: Arrays) -> list[Claim]:
    """Where the node is linear in inputs, their gradients do not depend on their values.

    In a graph of tangents such inputs, and with them the output, have no value.
    """
    want = node.gradients(rule, g, points)
    unknown = [_unknown(z) if is_float(z) else z for z in node.outputs(*points)]
    claims = []
    for chosen in [*([i] for i in range(len(points))), list(range(len(points)))]:
        if _is_linear(node, g, points, chosen):
            blind = [_unknown(x) if i in chosen else x for i, x in enumerate(points)]
            got = node.gradients(rule, g, blind, unknown, of=chosen)
            claims.append(Claim(got, [want[i] for i in chosen]))
    return claims


def _unknown(x: Any) -> Any:
    return _jax.Unknown(_jax.type_of(x))


def _is_linear(node: Node, g: Arrays, points: Arrays, chosen: Sequence[int]) -> bool:
    """Whether JAX can transpose the node by the chosen ones of its points."""

    def f(*xs):
        given = dict(zip(chosen, xs, strict=True))
        return node.function(*(given.get(i, x) for i, x in enumerate(points)))

    try:
        jax.linear_transpose(f, *(points[i] for i in chosen))(g)
    except Exception:  # of any type: JAX's rules of transposition assert what they need
        return False
    return True


# --- The engine -----------------------------------------------------------------------------

OWN_RULES = fg.rules.replace({}, strict=True)


def engine_equals_jax(rule: Rule, node: Node, g: Arrays, points: Arrays) -> list[Claim]:
    """`fg.vjp` of the node with that rule is JAX's; no other rule is borrowed from JAX."""
    known = rule is fg.rules[rule.primitive]
    rules = OWN_RULES if known else fg.rules.replace({rule.primitive: rule.function})

    def own(*points):
        return [out for out in node.own_outputs(*points) if is_float(out)]

    got = list(fg.vjp(own, *points, rules=rules)[1](g))
    want = by_jax(pull_back, node, g, points)
    return [] if want is None else [Claim(got, want)]

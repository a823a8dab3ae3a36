"""Witnesses: independent ways to know a gradient, each of which compares it with a rule's.

A witness is a function `(rule, node, g, points) -> claims` that can be traced: what the rule says
at a node, and what another source says: JAX's own rule, differences, the explicit Jacobian, the
same rule in other number formats. `check` compiles a witness and compares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp
from jax.extend.core import jaxpr_as_fun

import fungrad as fg
from fungrad.check.arrays import (
    Arrays,
    conjugates,
    flattened,
    folded,
    in_format,
    inner,
    is_complex,
    random_like,
    widest,
)
from fungrad.check.examples import Example
from fungrad.check.nodes import Node, node_of
from fungrad.check.witnesses import is_linear
from fungrad.rulebook import Rule

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


# --- Nodes in other formats -----------------------------------------------------------------


@dataclass(frozen=True)
class LowNode(Node):
    """A node in another number format, with the same one in float64."""

    exact: Node


def low_node_of(example: Example, primitive: str, dtype: str) -> LowNode:
    """The node in another format, which knows the node in float64 at the same numbers."""
    low = replace(example, arguments=in_format(example.arguments, dtype))
    wide = replace(example, arguments=in_format(low.arguments, "float64"))
    node = node_of(low, primitive)
    exact = node_of(wide, primitive)
    return LowNode(node.primitive, node.params, node.inputs, node.active, exact)


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

    def vector(arrays):
        return flattened(_widest(arrays))

    point, row = vector(points), vector(conjugates(g))

    def f(x):
        return vector(node.function(*folded(x, points)))

    def pull(row):  # dL = Re(g dz), so the conjugate of g is dL by the parts of z
        return vector(conjugates(node.gradients(rule, conjugates(folded(row, g)), points)))

    jacobian = jax.vmap(pull)(np.eye(row.size))
    want = by_jax(jax.jacfwd(f), point)
    linear = Claim([row @ jacobian], [pull(row)])
    return [linear] if want is None else [linear, Claim([jacobian], [want])]


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


def equals_float64(rule: Rule, node: LowNode, g: Arrays, points: Arrays) -> list[Claim]:
    """Of a node in another format: the gradients are those of float64, but for rounding.

    Or at least as near to those as JAX's are in that format.
    """
    got = node.gradients(rule, g, points)
    want = node.exact.gradients(rule, *map(_widest, (g, points)))
    theirs = _widest(by_jax(pull_back, node, g, points) or got)
    slack = [jnp.abs(x - y) for x, y in zip(theirs, want, strict=True)]
    eps = max(float(jnp.finfo(x.dtype).eps) for x in got)
    return [Claim(_widest(got), want, 4 * eps, slack)]


def _widest(arrays: Arrays) -> list[Any]:
    return [widest(x) for x in arrays]


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
    claims = []
    for chosen in [*([i] for i in range(len(points))), list(range(len(points)))]:
        if is_linear(node.function, g, points, chosen):
            got = node.blind(rule, g, points, chosen)
            claims.append(Claim(got, [want[i] for i in chosen]))
    return claims


# --- The engine -----------------------------------------------------------------------------

OWN_RULES = fg.rules.replace({}, strict=True)


def engine_equals_jax(rule: Rule, node: Node, g: Arrays, points: Arrays) -> list[Claim]:
    """`fg.vjp` of the node with that rule is JAX's; no other rule is borrowed from JAX."""
    known = rule is fg.rules[rule.primitive]
    rules = OWN_RULES if known else fg.rules.replace({rule.primitive: rule.function})
    got = list(fg.vjp(node.own_floats, *points, rules=rules)[1](g))
    want = by_jax(pull_back, node, g, points)
    return [] if want is None else [Claim(got, want)]
